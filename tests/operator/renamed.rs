//! Segments under a wrong number: the header says which one it is, and the neighbours whether it is
//! the one that they knew.

use std::fs;
use std::path::{Path, PathBuf};

use indelible::inspect::{Health, Meaning, verify};
use indelible::repair::{Step, apply, plan};
use indelible::{Damage, Error, Log};

use super::{build, entry, options, segments};

/// Stands for the number of the tail.
const TAIL: usize = usize::MAX;

/// A log of several segments, and the path of the one with a number.
fn built(place: &Path, number: usize) -> (PathBuf, PathBuf) {
    let path = place.join("log");
    build(&path);
    let all = segments(&path);
    let segment = all[number.min(all.len()) - 1].clone();
    (path, segment)
}

fn check_whole(path: &Path) {
    assert_eq!(verify(path, &mut |_| ()).unwrap().health, Health::Clean);
    let (log, _) = Log::open(path, &options()).unwrap();
    for index in 10..150 {
        assert_eq!(log.entry(index).unwrap(), entry(index), "{index}");
    }
}

fn renamed(segment: &Path, name: &str) -> PathBuf {
    let to = segment.with_file_name(name);
    fs::rename(segment, &to).unwrap();
    to
}

#[test]
fn segment_under_a_number_that_no_slot_names_gets_its_name_back() {
    let place = tempfile::tempdir().unwrap();
    for (number, name) in [
        (2, "0000000000000009-0000000000000000.seg"),
        // The number of another one, which is there as well.
        (2, "0000000000000003-0000000000000000.seg"),
        (TAIL, "0000000000000009-0000000000000000.seg"),
    ] {
        let (path, segment) = built(place.path(), number);
        let wrong = renamed(&segment, name);
        assert!(Log::open(&path, &options()).is_err(), "{name}");
        let seen = verify(&path, &mut |_| ()).unwrap();
        let [found] = &*seen.findings else { panic!("{name}: {:?}", seen.findings) };
        assert_eq!(found.meaning, Meaning::Blocking);
        let Error::Damaged { path: at, reason: Damage::Misnamed { right }, .. } = &found.error
        else {
            panic!("{name}: {found:?}")
        };
        assert_eq!(
            (at, &*right.to_string()),
            (&wrong, segment.file_name().unwrap().to_str().unwrap())
        );
        let planned = plan(&path).unwrap();
        assert!(matches!(&*planned.steps, [Step::Rename { .. }]), "{name}: {planned:?}");
        assert!(planned.losses.is_empty(), "{name}: {planned:?}");
        let (done, kept) = apply(&path).unwrap();
        assert_eq!((done.steps, kept), (planned.steps, None), "{name}");
        check_whole(&path);
        fs::remove_dir_all(&path).unwrap();
    }
}

/// Changes the generation that the header of a segment states.
fn in_another_life(segment: &Path) {
    restate(segment, 48);
}

/// Changes a byte of the header of a segment, and makes the header sound again.
fn restate(segment: &Path, at: usize) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[at] ^= 1;
    bytes[12..16].fill(0);
    let crc = crc32fast::hash(&bytes[..128]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(segment, bytes).unwrap();
}

#[test]
fn segment_that_its_neighbours_do_not_know_is_not_taken_for_the_one_that_is_gone() {
    for number in [2, TAIL] {
        let place = tempfile::tempdir().unwrap();
        let (path, segment) = built(place.path(), number);
        in_another_life(&segment);
        let wrong = renamed(&segment, "0000000000000009-0000000000000000.seg");
        let found = fs::read(&wrong).unwrap();
        let planned = plan(&path).unwrap();
        assert!(
            !planned.steps.iter().any(|step| matches!(step, Step::Rename { .. })),
            "{planned:?}"
        );
        if number == TAIL {
            assert!(planned.obstacle.is_some());
            continue;
        }
        assert!(matches!(
            &*planned.steps,
            [Step::Recreate { .. }, ..] | [.., Step::Recreate { .. }]
        ));
        let (_, kept) = apply(&path).unwrap();
        // The next open removes what no slot names. It may have been the one that is gone.
        Log::open(&path, &options().allow_holes(true)).unwrap();
        assert!(!wrong.exists());
        let kept = kept.unwrap().join(wrong.file_name().unwrap());
        assert!(fs::read(kept).unwrap() == found, "the copy is another one");
    }
}

#[test]
fn two_files_that_claim_to_be_one_segment_are_left_where_they_are() {
    let place = tempfile::tempdir().unwrap();
    let (path, segment) = built(place.path(), 2);
    let wrong = renamed(&segment, "0000000000000009-0000000000000000.seg");
    let copy = wrong.with_file_name("000000000000000a-0000000000000000.seg");
    fs::copy(&wrong, &copy).unwrap();
    let planned = plan(&path).unwrap();
    assert!(!planned.steps.iter().any(|step| matches!(step, Step::Rename { .. })), "{planned:?}");
    let (_, kept) = apply(&path).unwrap();
    for found in [wrong, copy] {
        assert!(kept.as_ref().unwrap().join(found.file_name().unwrap()).exists());
    }
}

/// Whichever half of the identity differs.
#[test]
fn segment_of_another_log_is_told_by_both_identities() {
    for at in [16, 31] {
        let place = tempfile::tempdir().unwrap();
        let (path, segment) = built(place.path(), 2);
        restate(&segment, at);
        let seen = verify(&path, &mut |_| ()).unwrap();
        let told = seen.findings.iter().find_map(|finding| match &finding.error {
            Error::Damaged { reason: Damage::Identity { expected, got }, .. } => {
                Some((expected.to_string(), got.to_string(), finding.error.to_string()))
            }
            _ => None,
        });
        let (expected, got, said) = told.unwrap_or_else(|| panic!("{:?}", seen.findings));
        assert!(expected != got && said.contains(&expected) && said.contains(&got), "{said}");
    }
}
