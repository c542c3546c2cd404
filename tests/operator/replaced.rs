//! Something else in the place of a file: a link to that very file, a directory, a socket. It is
//! named, nothing takes its place, and with the file back all is as before.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use indelible::inspect::{Health, Meaning, verify};
use indelible::repair::{Obstacle, apply, plan};
use indelible::{Batch, Damage, Error, Log};

use super::{build, options, segments};

type Put = fn(&Path, &Path);

/// Puts something under a name, of which the file is elsewhere now.
const KINDS: [(&str, Put); 3] = [
    ("a symbolic link", |at, away| symlink(away, at).unwrap()),
    ("a directory", |at, _| fs::create_dir(at).unwrap()),
    ("a socket", |at, _| drop(UnixListener::bind(at).unwrap())),
];

/// A log of several segments and a snapshot.
fn built(place: &Path) -> PathBuf {
    let path = place.join("log");
    build(&path);
    let (log, _) = Log::open(&path, &options()).unwrap();
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(b"all that came before").unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", writer.finish().unwrap());
    log.commit(&batch).unwrap();
    log.close().unwrap();
    path
}

/// What each name below a directory stands for.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let named = |path: PathBuf| {
        let about = fs::symlink_metadata(&path).unwrap();
        let bytes = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        (path, [format!("{:?} ", about.file_type()).into_bytes(), bytes].concat())
    };
    let mut all: BTreeMap<_, _> =
        fs::read_dir(path).unwrap().map(|entry| named(entry.unwrap().path())).collect();
    all.remove(&path.join("lock"));
    all
}

/// Checks what is said of this name, by everything that says something.
fn check_named(path: &Path, at: &Path, what: &str) {
    let is_it = |error: &Error| {
        let Error::Damaged { path, reason: Damage::NotAFile { what: found }, .. } = error else {
            panic!("{what}: {error}")
        };
        assert_eq!((path.as_path(), *found), (at, what));
        let said = error.to_string();
        assert!(said.contains(&format!("is {what}, not a file of this log")), "{said}");
    };
    let before = contents(path);
    is_it(&Log::open(path, &options()).unwrap_err());
    is_it(&Log::open_or_create(path, &options()).unwrap_err());
    assert!(Log::create(path, &options()).is_err());
    let seen = verify(path, &mut |_| ()).unwrap();
    assert_eq!(seen.health, Health::Damaged);
    let mut displaced = seen.findings.iter().filter(|it| it.meaning == Meaning::Displaced);
    is_it(&displaced.next().unwrap().error);
    assert!(displaced.next().is_none(), "{what}: {:?}", seen.findings);
    let planned = plan(path).unwrap();
    let Some(Obstacle::NotAFile(error)) = &planned.obstacle else { panic!("{what}: {planned:?}") };
    is_it(error);
    is_it(&apply(path).unwrap_err());
    assert!(contents(path) == before, "{what}: something was changed");
}

#[test]
fn what_stands_in_the_place_of_a_file_is_named_and_nothing_takes_its_place() {
    let place = tempfile::tempdir().unwrap();
    let path = built(place.path());
    let before = contents(&path);
    let all = segments(&path);
    let side = before.keys().find(|path| path.extension().is_some_and(|end| end == "side"));
    let tail = all.last().unwrap().clone();
    let away = place.path().join("away");
    for file in [all[1].clone(), tail, path.join("metadata"), side.unwrap().clone()] {
        for (what, put) in KINDS {
            fs::rename(&file, &away).unwrap();
            put(&file, &away);
            check_named(&path, &file, what);
            if fs::remove_file(&file).is_err() {
                fs::remove_dir(&file).unwrap();
            }
            fs::rename(&away, &file).unwrap();
            assert!(contents(&path) == before, "{what}");
            assert_eq!(verify(&path, &mut |_| ()).unwrap().health, Health::Clean);
        }
    }
}

#[test]
fn what_stands_in_the_place_of_the_lock_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let path = built(place.path());
    let lock = path.join("lock");
    fs::remove_file(&lock).unwrap();
    for (what, put) in KINDS {
        put(&lock, place.path());
        let refused = Log::open(&path, &options()).unwrap_err();
        assert!(refused.to_string().ends_with(": `lock` is no plain file"), "{what}: {refused}");
        if fs::remove_file(&lock).is_err() {
            fs::remove_dir(&lock).unwrap();
        }
    }
}

/// As of a tree of links to the files of a log.
#[test]
fn log_of_nothing_but_links_is_no_directory_without_a_log() {
    let place = tempfile::tempdir().unwrap();
    let (path, links) = (built(place.path()), place.path().join("links"));
    fs::create_dir(&links).unwrap();
    for file in contents(&path).into_keys() {
        symlink(&file, links.join(file.file_name().unwrap())).unwrap();
    }
    check_named(&links, &links.join("metadata"), "a symbolic link");
}

/// The file is there, under another name, and a repair would give it that one.
#[test]
fn no_file_gets_its_name_back_from_something_else() {
    for (what, put) in KINDS {
        let place = tempfile::tempdir().unwrap();
        let path = built(place.path());
        let segment = segments(&path)[1].clone();
        let wrong = segment.with_file_name("0000000000000009-0000000000000000.seg");
        fs::rename(&segment, &wrong).unwrap();
        put(&segment, &wrong);
        check_named(&path, &segment, what);
    }
}

/// Under the number that the next tail would get.
#[test]
fn new_tail_takes_the_name_of_nothing() {
    for (what, put) in KINDS {
        let place = tempfile::tempdir().unwrap();
        let path = built(place.path());
        let tail = segments(&path).pop().unwrap();
        super::zero(&tail, 8192, 64);
        let number = segments(&path).len() + 1;
        let (_, base) = tail.file_name().unwrap().to_str().unwrap().split_once('-').unwrap();
        let next = path.join(format!("{number:016x}-{base}"));
        put(&next, &tail);
        let (done, _) = apply(&path).unwrap();
        assert!(!done.steps.is_empty(), "{what}: {done:?}");
        assert!(!fs::symlink_metadata(&next).unwrap().is_file(), "{what}");
        Log::open(&path, &options().allow_holes(true)).unwrap().0.close().unwrap();
    }
}
