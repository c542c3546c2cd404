//! The directory of a log is shared with the world: forked children, other processes, foreign files,
//! files that cannot be removed, a shortage of whatever the system gives out.
//!
//! Each test that needs to be alone (a fork, a limit of the process) runs itself in a process of
//! its own.
#![cfg(unix)]
#![expect(unsafe_code, reason = "a fork is unsafe to call; nothing else here is")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::large_stack_arrays,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and say when they are skipped"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indelible::inspect::InUse;
use indelible::io::sim::{Fault, Op, Repeat, SimDisk};
use indelible::{Batch, Durability, Error, Log, Options, Shortage, SideFile, Verdict, WriteMode};

mod create;
pub(crate) mod footprint;
mod forked;
mod in_use;
mod io_door;
#[path = "../support/process.rs"]
mod process;
pub(crate) mod signals;

use process::itself;

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

/// Set in the process that a test runs itself in.
const ALONE: &str = "INDELIBLE_TEST_ALONE";

/// Runs a test by itself in a process of its own, and returns whether this is that process.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let ended =
        itself(module_path!(), test).env(ALONE, test).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{:?}\n{said}\n{complained}", ended.status);
    assert!(said.contains("1 passed"), "{said}");
    false
}

/// Runs `child` in a forked child, which ends without cleaning up, and answers what it answered; it
/// fails if the child was not done within ten seconds, or panicked.
fn in_a_child(child: impl FnOnce() -> u8) -> u8 {
    let pid = fork();
    if pid == 0 {
        end(std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(u8::MAX));
    }
    ended(pid)
}

fn fork() -> libc::pid_t {
    // SAFETY: the child only calls the log, which must take care of itself, and `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    pid
}

fn end(code: u8) -> ! {
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(code.into()) }
}

fn ended(pid: libc::pid_t) -> u8 {
    let started = Instant::now();
    let mut status = 0;
    // SAFETY: waits for the child just made; the status is a number of ours.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > Duration::from_secs(10) {
            // SAFETY: ends the child just made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(libc::WIFEXITED(status), "the child was ended by a signal: {status}");
    u8::try_from(libc::WEXITSTATUS(status)).unwrap()
}

fn is_locked(path: &Path) -> bool {
    matches!(indelible::inspect::inspect(path).unwrap().use_now, InUse::Yes(_))
}

fn names(path: &Path, suffix: &str) -> Vec<String> {
    let names =
        fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}

fn side_file(log: &Log) -> SideFile {
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(b"snapshot").unwrap();
    writer.finish().unwrap()
}

/// Every call that could change something, in a forked child; `Ok` if each was refused as it should be.
fn refused_in_a_child(log: &Log, ticket: &indelible::Ticket) -> Result<(), u8> {
    let check = |number: u8, result: indelible::Result<()>| match result {
        Err(Error::Forked) => Ok(()),
        _ => Err(number),
    };
    check(1, log.append(b"child").map(drop))?;
    check(2, log.commit(Batch::new().set("promise", b"child")).map(drop))?;
    check(3, log.submit(&Batch::new()).map(drop))?;
    check(4, log.set_lazily("promise", b"child"))?;
    check(5, log.sync())?;
    check(6, log.maintain())?;
    check(7, log.close())?;
    check(8, log.side_file_writer().map(drop))?;
    check(9, log.side_file("promise").map(drop))?;
    check(10, log.entry(0).map(drop))?;
    check(11, log.scrub(None, &mut |_| std::ops::ControlFlow::Continue(())).map(drop))?;
    let (sender, receiver) = std::sync::mpsc::channel();
    ticket.clone().on_durable(move |result| sender.send(result).unwrap());
    check(12, receiver.try_recv().unwrap_or(Ok(())))?;
    if log.cell("promise").is_some() || !log.cells().is_empty() || log.stats().appends > 0 {
        return Err(13);
    }
    Ok(())
}

fn fork_changes_nothing(options: &Options) {
    let place = tempfile::tempdir().unwrap();
    let (path, copy) = (place.path().join("log"), place.path().join("copy"));
    let log = Log::create(&path, options).unwrap();
    log.commit(Batch::new().set("promise", b"parent")).unwrap();
    for index in 0..3_u8 {
        log.append(&[index]).unwrap();
    }
    let mut unfinished = log.side_file_writer().unwrap();
    unfinished.write_all(b"half").unwrap();
    unfinished.flush().unwrap();
    if options == &Options::new().segment_bytes(64 * 1024) {
        // The threads of the log are at work, and hold what they hold.
        std::thread::sleep(Duration::from_millis(200));
    }
    let ticket = log.newest_ticket();
    let mut moved = Some((log.clone(), unfinished));
    let code = in_a_child(|| {
        let (log, mut unfinished) = moved.take().unwrap();
        if unfinished.write_all(&[1; 1 << 20]).is_ok() {
            return 20;
        }
        if !matches!(unfinished.finish(), Err(Error::Forked)) {
            return 21;
        }
        let refused = refused_in_a_child(&log, &ticket);
        // The last handle of the child, whose end would be the end of the log.
        drop(log);
        refused.err().unwrap_or(0)
    });
    assert_eq!(code, 0);
    let (_, unfinished) = moved.take().unwrap();
    let finished = unfinished.finish().unwrap();
    assert!(is_locked(&path), "the child unlocked the directory");
    assert!(matches!(Log::open(&path, options), Err(Error::Locked { .. })));
    for index in 3..10_u8 {
        log.append(&[index]).unwrap();
    }
    log.commit(Batch::new().attach("snapshot", finished)).unwrap();
    // A power cut of the parent: the files as they are now.
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&path).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let (again, report) = Log::open(&copy, options).unwrap();
    assert_eq!((again.next(), again.cell("promise").as_deref()), (10, Some(&b"parent"[..])));
    assert_ne!(report.verdict, Verdict::Clean, "the child wrote a checkpoint");
    let snapshot = again.side_file("snapshot").unwrap().unwrap().read_all().unwrap();
    assert_eq!(snapshot, b"half");
}

/// Without threads, so that it can be driven beside other tests.
pub(crate) fn forked_child_changes_nothing() {
    fork_changes_nothing(&options());
}

#[test]
fn forked_child_changes_nothing_and_panics_nowhere() {
    if alone("forked_child_changes_nothing_and_panics_nowhere") {
        forked_child_changes_nothing();
        fork_changes_nothing(&Options::new().segment_bytes(64 * 1024));
    }
}

/// Without threads, so that it can be driven beside other tests.
pub(crate) fn forked_child_lets_the_last_handle_go() {
    last_handle_goes(&options());
}

fn last_handle_goes(options: &Options) {
    let place = tempfile::tempdir().unwrap();
    let mut log = Some(Log::create(place.path(), options).unwrap());
    let code = in_a_child(|| {
        drop(log.take());
        0
    });
    assert_eq!(code, 0);
    assert!(is_locked(place.path()), "the child unlocked the directory");
    log.take().unwrap().append(b"undisturbed").unwrap();
    assert!(!is_locked(place.path()), "the parent's last handle is gone");
}

#[test]
fn forked_child_lets_the_last_handle_go_and_the_log_stays_locked() {
    if alone("forked_child_lets_the_last_handle_go_and_the_log_stays_locked") {
        forked_child_lets_the_last_handle_go();
        last_handle_goes(&Options::new());
    }
}

#[test]
pub(crate) fn second_writer_is_refused_although_the_lock_file_was_removed_by_hand() {
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    fs::remove_file(place.path().join("lock")).unwrap();
    assert!(is_locked(place.path()));
    assert!(matches!(Log::open(place.path(), &options()), Err(Error::Locked { .. })));
    // Nor is anybody refused for longer than it takes.
    log.close().unwrap();
    assert!(!is_locked(place.path()));
    Log::open(place.path(), &options()).unwrap();
}

#[test]
fn processes_that_race_to_create_a_log_get_true_answers() {
    const RACE: &str = "INDELIBLE_TEST_RACE";
    if let Some(path) = std::env::var_os(RACE) {
        match Log::open_or_create(path, &options()) {
            Ok((log, _)) => println!("SAID {}", log.append(b"one of us").unwrap().next()),
            Err(Error::Locked { .. }) => println!("SAID locked"),
            Err(other) => println!("SAID {other:?}"),
        }
        return;
    }
    for _ in 0..10 {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let racers: Vec<_> = (0..4)
            .map(|_| {
                itself(module_path!(), "processes_that_race_to_create_a_log_get_true_answers")
                    .env(RACE, &path)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut appended = 0;
        for racer in racers {
            let said = racer.wait_with_output().unwrap().stdout;
            let said = String::from_utf8_lossy(&said).into_owned();
            let said = said.split("SAID ").nth(1).unwrap().lines().next().unwrap().to_owned();
            appended += u64::from(said != "locked");
            assert!(said == "locked" || said.parse::<u64>().is_ok(), "{said}");
        }
        assert!(appended >= 1);
        assert_eq!(Log::open(&path, &options()).unwrap().0.next(), appended);
    }
}

#[test]
pub(crate) fn log_is_not_created_beside_what_is_nobodys() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    fs::create_dir(path.join("lost+found")).unwrap();
    fs::write(path.join("thesis.tmp"), b"years of work").unwrap();
    fs::create_dir(path.join("photos")).unwrap();
    let refused = Log::create(path, &options()).map(drop).unwrap_err();
    let Error::ForeignFiles { names: found, more, looks_like, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(
        (found.as_slice(), *more, *looks_like),
        (&["photos".into(), "thesis.tmp".into()][..], 0, None)
    );
    assert!(refused.to_string().contains("photos, thesis.tmp"), "{refused}");
    assert!(matches!(Log::open_or_create(path, &options()), Err(Error::ForeignFiles { .. })));
    // Not even a lock is left there.
    assert_eq!(names(path, ""), ["lost+found", "photos", "thesis.tmp"]);

    let beside = options().beside_foreign_files(true);
    Log::create(path, &beside).unwrap().close().unwrap();
    let (log, report) = Log::open(path, &options()).unwrap();
    log.maintain().unwrap();
    assert!(report.removed.is_empty());
    assert_eq!(fs::read(path.join("thesis.tmp")).unwrap(), b"years of work");
}

#[test]
fn directory_of_another_storage_is_named_for_what_it_is() {
    let rocksdb =
        ["CURRENT", "IDENTITY", "LOCK", "LOG", "MANIFEST-000005", "000008.sst", "000004.log"];
    let sled = ["conf", "db", "snap.0000000000000042"];
    for (files, storage) in [(&rocksdb[..], "RocksDB"), (&sled[..], "sled")] {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(place.path().join(file), b"theirs").unwrap();
        }
        let refused = Log::open_or_create(place.path(), &options()).map(drop).unwrap_err();
        assert!(
            matches!(&refused, Error::ForeignFiles { looks_like: Some(found), .. } if *found == storage)
        );
        assert!(refused.to_string().contains("migrate"), "{refused}");
        assert_eq!(names(place.path(), "").len(), files.len());
    }
}

#[test]
fn only_a_log_that_lost_everything_else_leaves_side_files() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("0000000000000009.side"), b"snapshot").unwrap();
    assert!(matches!(Log::open(place.path(), &options()), Err(Error::Damaged { .. })));
    assert!(matches!(Log::create(place.path(), &options()), Err(Error::AlreadyExists { .. })));
    assert!(matches!(Log::open_or_create(place.path(), &options()), Err(Error::Damaged { .. })));
}

/// A directory under the name of a file cannot be removed as one, by whomever.
#[test]
fn junk_that_cannot_be_removed_is_reported_and_harms_nobody() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    Log::create(path, &options()).unwrap().close().unwrap();
    for junk in ["00000000000000aa.side", "00000000000000aa.tmp", "00000000000000aa.spare"] {
        fs::write(path.join(junk), b"junk").unwrap();
    }
    if !Immutable::make(&path.join("00000000000000aa.side")) {
        return println!(
            "SKIPPED: files cannot be made immutable here, which needs root and ext4 or XFS"
        );
    }
    let _side = Immutable(path.join("00000000000000aa.side"));
    assert!(Immutable::make(&path.join("00000000000000aa.tmp")));
    let _temporary = Immutable(path.join("00000000000000aa.tmp"));
    let (log, report) = Log::open(path, &options()).unwrap();
    assert_eq!(report.not_removed, ["00000000000000aa.tmp", "00000000000000aa.side"]);
    assert_eq!(report.removed, ["00000000000000aa.spare"]);
    log.append(b"undisturbed").unwrap();
    log.close().unwrap();
    let (log, _) = Log::open(path, &Options::new()).unwrap();
    let started = Instant::now();
    while log.stats().not_removed == 0 {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    log.append(b"undisturbed").unwrap();
    assert!(!log.stats().poisoned);
    // A side file of its own that stays when nothing refers to it any more.
    let file = side_file(&log);
    let name = path.join(file.reference().file_name());
    log.commit(Batch::new().attach("snapshot", file)).unwrap();
    assert!(Immutable::make(&name));
    let _own = Immutable(name);
    log.commit(Batch::new().clear("snapshot")).unwrap();
    log.maintain().unwrap();
    log.append(b"undisturbed").unwrap();
    assert_eq!(log.stats().not_removed, 2);
}

/// A file that nobody may remove, until this is dropped.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn make(path: &Path) -> bool {
        let chattr = Command::new("chattr").arg("+i").arg(path).stderr(Stdio::null()).status();
        chattr.is_ok_and(|status| status.success())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _best_effort = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
pub(crate) fn side_files_that_nobody_can_attach_go() {
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    for _ in 0..5 {
        side_file(&log);
    }
    let (one, two, kept) = (side_file(&log), side_file(&log), side_file(&log));
    let used = two.reference().file_name();
    // Of the first nothing is left when the batch is over.
    log.commit(Batch::new().attach("snapshot", one).attach("snapshot", two)).unwrap();
    log.maintain().unwrap();
    let mut expected = [used.clone(), kept.reference().file_name()];
    expected.sort();
    assert_eq!(names(place.path(), ".side"), expected);
    // One that may still be attached stays however long it takes.
    log.maintain().unwrap();
    log.commit(Batch::new().attach("other", kept.clone())).unwrap();
    drop(kept);
    log.maintain().unwrap();
    assert_eq!(names(place.path(), ".side"), expected);
    log.commit(Batch::new().clear("other")).unwrap();
    log.close().unwrap();
    assert_eq!(names(place.path(), ".side"), [used]);
}

#[test]
fn unused_side_file_goes_when_the_log_is_idle() {
    let place = tempfile::tempdir().unwrap();
    let idle = Duration::from_millis(10);
    let log = Log::create(place.path(), &Options::new().idle_checkpoint(idle)).unwrap();
    side_file(&log);
    let started = Instant::now();
    while !names(place.path(), ".side").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
pub(crate) fn side_file_that_is_finished_after_the_close_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    let (mut early, late) = (log.side_file_writer().unwrap(), log.side_file_writer().unwrap());
    early.write_all(b"in time").unwrap();
    log.close().unwrap();
    let refused = early.write_all(&[1; 1 << 20]).unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    assert!(matches!(early.finish(), Err(Error::Closed)));
    drop(log);
    assert!(matches!(late.finish(), Err(Error::Closed)));
    assert_eq!((names(place.path(), ".side").len(), names(place.path(), ".tmp").len()), (0, 0));
}

fn limit(what: libc::__rlimit_resource_t, to: u64) {
    set_limit(what, libc::rlimit { rlim_cur: to, rlim_max: to });
}

fn set_limit(what: libc::__rlimit_resource_t, limit: libc::rlimit) {
    // SAFETY: reads a structure of ours.
    assert_eq!(unsafe { libc::setrlimit(what, &raw const limit) }, 0);
}

#[test]
fn moment_without_descriptors_is_refused_and_passes() {
    if !alone("moment_without_descriptors_is_refused_and_passes") {
        return;
    }
    limit(libc::RLIMIT_NOFILE, 64);
    for background in [true, false] {
        let place = tempfile::tempdir().unwrap();
        let log = Log::create(place.path(), &options().background(background)).unwrap();
        log.append(b"fine").unwrap();
        let mut hogs = Vec::new();
        let hog = |hogs: &mut Vec<_>| {
            hogs.extend(std::iter::from_fn(|| fs::File::open("/dev/null").ok()));
        };
        hog(&mut hogs);
        // More segments than there are spares.
        let mut batch = Batch::new();
        for _ in 0..5 {
            batch.append(&[7; 40_000][..]);
        }
        for _ in 0..3 {
            let refused = log.commit(&batch).unwrap_err();
            assert!(refused.is_shortage());
            let Error::Exhausted { what: Shortage::Descriptors, .. } = refused else {
                panic!("{refused}")
            };
        }
        assert!(log.stats().shortages > 0);
        // State goes on, and so do reads; a side file has to wait.
        log.commit(Batch::new().set("promise", b"kept")).unwrap();
        assert_eq!(log.entry(0).unwrap(), b"fine");
        let refused = (0..100).find_map(|_| {
            // The preparer may have let one go meanwhile.
            hog(&mut hogs);
            log.side_file_writer().err()
        });
        assert!(matches!(refused, Some(Error::Exhausted { .. })), "{refused:?}");
        assert_eq!(log.next(), 1);
        drop(hogs);
        log.commit(&batch).unwrap();
        side_file(&log);
        assert!(!log.stats().poisoned);
        log.close().unwrap();
        let (log, _) = Log::open(place.path(), &options()).unwrap();
        assert_eq!((log.next(), log.cell("promise").as_deref()), (6, Some(&b"kept"[..])));
    }
}

#[test]
fn open_without_descriptors_is_refused_and_loses_nothing() {
    if !alone("open_without_descriptors_is_refused_and_loses_nothing") {
        return;
    }
    limit(libc::RLIMIT_NOFILE, 64);
    let place = tempfile::tempdir().unwrap();
    let (path, copy) = (place.path().join("log"), place.path().join("copy"));
    // Killed after its checkpoint, and over several segments.
    let log = Log::create(&path, &options()).unwrap();
    for _ in 0..20 {
        log.submit(Batch::new().append(&[7; 20_000][..])).unwrap();
    }
    log.sync().unwrap();
    for _ in 0..3 {
        log.submit(Batch::new().append(&[7; 20_000][..])).unwrap();
    }
    log.newest_ticket().wait().unwrap();
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&path).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    drop(log);
    let mut hogs = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        hogs.push(file);
    }
    // With one descriptor more each time, until there are enough.
    let opened = loop {
        match Log::open(&copy, &options()) {
            Err(Error::Exhausted { what: Shortage::Descriptors, .. }) => {
                assert!(hogs.pop().is_some(), "not even with all of them");
            }
            opened => break opened,
        }
    };
    assert_eq!(opened.unwrap().0.next(), 23);
}

#[test]
fn limit_on_file_size_is_refused_without_a_signal() {
    if !alone("limit_on_file_size_is_refused_without_a_signal") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path().join("log"), &options()).unwrap();
    log.append(b"fine").unwrap();
    limit(libc::RLIMIT_FSIZE, 60 * 1024);
    let too_long = |result: indelible::Result<()>| match result {
        Err(Error::Exhausted { what: Shortage::FileSize, .. }) => {}
        other => panic!("{other:?}"),
    };
    too_long(Log::create(place.path().join("other"), &options()).map(drop));
    let mut writer = log.side_file_writer().unwrap();
    // What was written so far is told by the write that meets the limit.
    let refused = writer.write_all(&vec![1; 1 << 20]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::FileTooLarge);
    drop(writer);
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(&[1; 61 * 1024]).unwrap();
    too_long(writer.finish().map(drop));
    assert!(names(&place.path().join("log"), ".tmp").is_empty());
    // The spare that was made before is the last one.
    let refused = (0..10).find_map(|_| log.append(&[7; 40_000]).err()).unwrap();
    too_long(Err(refused));
    log.commit(Batch::new().set("promise", b"kept")).unwrap();
    assert!(!log.stats().poisoned);
}

#[test]
fn directory_that_is_moved_stays_the_one_that_was_opened() {
    let place = tempfile::tempdir().unwrap();
    let (path, moved) = (place.path().join("log"), place.path().join("moved"));
    let log = Log::create(&path, &options()).unwrap();
    log.append(b"before").unwrap();
    fs::rename(&path, &moved).unwrap();
    // Somebody else's log takes the old place.
    let other = Log::create(&path, &options()).unwrap();
    other.append(b"theirs").unwrap();
    let theirs = names(&path, "");
    for _ in 0..5 {
        log.append(&[7; 40_000]).unwrap();
        let file = side_file(&log);
        log.commit(Batch::new().attach("snapshot", file)).unwrap();
    }
    log.maintain().unwrap();
    assert_eq!(names(&path, ""), theirs);
    log.close().unwrap();
    other.append(b"undisturbed").unwrap();
    other.close().unwrap();
    assert_eq!(Log::open(&moved, &options()).unwrap().0.next(), 6);
    assert_eq!(Log::open(&path, &options()).unwrap().0.next(), 2);
}

#[test]
fn directory_that_is_removed_fails_its_own_log_only() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = Log::create(&path, &options()).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let other = Log::create(&path, &options()).unwrap();
    let refused = (0..10).find_map(|_| log.append(&[7; 40_000]).err()).unwrap();
    assert!(matches!(refused, Error::Io { .. } | Error::Poisoned { .. }), "{refused}");
    drop(log);
    for _ in 0..5 {
        other.append(&[7; 40_000]).unwrap();
    }
    other.close().unwrap();
    assert_eq!(Log::open(&path, &options()).unwrap().0.next(), 5);
}

#[test]
fn file_mode_is_the_one_asked_for_as_far_as_the_umask_leaves_it() {
    if !alone("file_mode_is_the_one_asked_for_as_far_as_the_umask_leaves_it") {
        return;
    }
    for (umask, asked, expected) in
        [(0o022, None, 0o600), (0o022, Some(0o640), 0o640), (0o077, Some(0o640), 0o600)]
    {
        // SAFETY: sets a number of this process, which is alone.
        unsafe { libc::umask(umask) };
        let place = tempfile::tempdir().unwrap();
        let options = asked.map_or_else(options, |mode| options().file_mode(mode));
        let log = Log::create(place.path(), &options).unwrap();
        side_file(&log);
        for file in fs::read_dir(place.path()).unwrap().map(Result::unwrap) {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected, "{:?}", file.file_name());
        }
    }
    for mode in [0o400, 0o040, 0o4600] {
        let refused = Log::in_memory(&options().file_mode(mode)).map(drop).unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { option: "file_mode", .. }));
    }
}

#[test]
pub(crate) fn absurd_window_for_writers_to_join_is_refused() {
    let absurd = Options::new().gather(Duration::from_millis(1001));
    assert!(matches!(Log::in_memory(&absurd), Err(Error::InvalidOption { option: "gather", .. })));
    Log::in_memory(&Options::new().gather(Duration::from_secs(1))).unwrap();
}

/// The time this thread has had a processor.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    // SAFETY: a structure of numbers; zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes to a structure of ours.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    let spent = |time: libc::timeval| {
        let micros = u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap();
        Duration::from_micros(micros)
    };
    spent(usage.ru_utime) + spent(usage.ru_stime)
}

#[test]
#[cfg(target_os = "linux")]
fn sync_that_waits_for_more_writers_sleeps() {
    let place = tempfile::tempdir().unwrap();
    let window = Duration::from_millis(20);
    let log = Log::create(place.path(), &options().gather(window)).unwrap();
    let (started, before) = (Instant::now(), processor_time());
    for _ in 0..20 {
        log.append(b"alone").unwrap();
    }
    let (took, spent) = (started.elapsed(), processor_time().saturating_sub(before));
    assert!(took >= 20 * window, "{took:?}");
    assert!(spent < took / 4, "{spent:?} of {took:?} were spent waiting");
}

#[test]
fn second_name_of_a_file_is_refused_with_the_way_out() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    Log::create(&path, &options()).unwrap().close().unwrap();
    let metadata = path.join("metadata");
    fs::hard_link(&metadata, place.path().join("second")).unwrap();
    let refused = Log::open(&path, &options()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("cp -r"), "{refused}");
    assert!(matches!(refused, Error::HardLinked { path } if path == metadata));
    assert_eq!(fs::metadata(&metadata).unwrap().nlink(), 2);
    fs::remove_file(place.path().join("second")).unwrap();
    Log::open(&path, &options()).unwrap();
}

/// A log on a simulated disk, with segments of 8 KiB, that nothing has been synced of since it began.
fn unsynced(disk: &SimDisk) -> Log {
    let options = options().tiny_segments(8 * 1024).durability(Durability::Os);
    let options = options.write_mode(WriteMode::Pwrite);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    for index in 0..12_u8 {
        log.append(&[index; 1000]).unwrap();
    }
    log
}

/// Found by reading. A segment after the tail that could not be opened for a moment counted as one
/// that is not there, and whatever a killed process had written to it was dropped without a word.
#[test]
pub(crate) fn shortage_while_opening_drops_nothing_that_a_killed_process_left() {
    let options = options().tiny_segments(8 * 1024);
    for fault in [Fault::Shortage, Fault::Io] {
        for call in 1.. {
            let disk = SimDisk::new(1);
            let log = unsynced(&disk);
            assert!(log.stats().rolls > 0);
            let disk = disk.kill_copy();
            disk.fail_call(call, fault, Repeat::Once);
            let opened = Log::open_in(std::sync::Arc::new(disk.clone()), &options);
            match opened {
                Ok((log, _)) => assert_eq!(log.next(), 12, "{fault:?} in call {call}"),
                Err(Error::Exhausted { .. }) => assert_eq!(fault, Fault::Shortage),
                Err(Error::Io { .. } | Error::Poisoned { .. }) => assert_eq!(fault, Fault::Io),
                Err(other) => panic!("{other}; {fault:?} in call {call}"),
            }
            if disk.counts().faults == 0 {
                break;
            }
            if fault == Fault::Shortage {
                // A sync that failed would have taken along what only the cache has.
                let (log, _) =
                    Log::open_in(std::sync::Arc::new(disk.kill_copy()), &options).unwrap();
                assert_eq!(log.next(), 12, "again after {fault:?} in call {call}");
            }
        }
    }
}

#[test]
pub(crate) fn shortage_is_refused_and_never_poisons() {
    let disk = SimDisk::new(1);
    let options = options().tiny_segments(8 * 1024);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    disk.fail_from(disk.calls() + 1, Op::Create, Fault::Shortage, Repeat::Forever);
    let refused = (0..20).find_map(|_| log.append(&[7; 3000]).err()).unwrap();
    assert!(matches!(refused, Error::Exhausted { .. }), "{refused}");
    // What needs no new segment goes on.
    log.commit(Batch::new().set("promise", b"kept")).unwrap();
    assert!(matches!(log.side_file_writer(), Err(Error::Exhausted { .. })));
    assert!(!log.stats().poisoned && log.stats().shortages > 0);
    disk.clear_faults();
    log.append(&[7; 3000]).unwrap();
}

#[test]
pub(crate) fn file_that_cannot_be_removed_is_counted_and_never_poisons() {
    let disk = SimDisk::new(1);
    let options = options().tiny_segments(8 * 1024).recycle(false);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    for _ in 0..10 {
        log.append(&[7; 3000]).unwrap();
    }
    let file = side_file(&log);
    log.commit(Batch::new().attach("snapshot", file)).unwrap();
    disk.fail_from(disk.calls() + 1, Op::Remove, Fault::Io, Repeat::Forever);
    log.commit(Batch::new().clear("snapshot").trim(9)).unwrap();
    log.maintain().unwrap();
    log.append(b"undisturbed").unwrap();
    let stats = log.stats();
    assert!(stats.not_removed >= 2 && !stats.poisoned, "{stats:?}");
    log.close().unwrap();
    let reopen = || Log::open_in(std::sync::Arc::new(disk.kill_copy()), &options).unwrap();
    assert_eq!(reopen().0.next(), 11);
    let (log, report) = reopen();
    // The copy fails no more.
    assert!(report.not_removed.is_empty() && report.removed.len() >= 2, "{report:?}");
    assert_eq!(log.entry(10).unwrap(), b"undisturbed");
}
