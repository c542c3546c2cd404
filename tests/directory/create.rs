//! A create or a backup that meets a shortage or a full disk leaves no log, so that the same call can be
//! made again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use indelible::io::Directory;
use indelible::io::sim::{Fault, Op, Repeat, SimDisk};
use indelible::{Batch, Error, Log, Options, Shortage};

use super::{alone, names};

const OPS: [Op; 11] = [
    Op::List,
    Op::Lock,
    Op::Create,
    Op::Open,
    Op::Rename,
    Op::Remove,
    Op::SyncDirectory,
    Op::Read,
    Op::Write,
    Op::Sync,
    Op::Map,
];

fn options() -> Options {
    super::options().tiny_segments(8 * 1024)
}

fn create(disk: &SimDisk) -> indelible::Result<Log> {
    Log::create_in(Arc::new(disk.clone()), &options())
}

/// Lets each call of each kind fail, once, in `make` on a disk as `new` has it, and hands what it
/// returned then to `check`. Returns how many were refused as a shortage, and how many otherwise.
fn refusals<T>(
    new: &dyn Fn() -> SimDisk,
    make: &dyn Fn(&SimDisk) -> indelible::Result<T>,
    check: &dyn Fn(&SimDisk, &Error),
) -> (usize, usize) {
    let (mut short, mut otherwise) = (0, 0);
    for (fault, op) in
        [Fault::Shortage, Fault::Full].into_iter().flat_map(|it| OPS.map(|op| (it, op)))
    {
        for call in 1.. {
            let disk = new();
            disk.fail_from(disk.calls() + call, op, fault, Repeat::Once);
            let returned = make(&disk);
            if disk.counts().faults == 0 {
                break;
            }
            disk.clear_faults();
            // Some of what fails does no harm.
            let Err(error) = returned else { continue };
            *(if error.is_shortage() { &mut short } else { &mut otherwise }) += 1;
            check(&disk, &error);
        }
    }
    (short, otherwise)
}

#[test]
fn create_that_runs_short_can_be_made_again() {
    let (short, otherwise) = refusals(&|| SimDisk::new(1), &create, &|disk, error| {
        if error.is_shortage() {
            let left = disk.list().unwrap();
            assert!(left.is_empty(), "{error} leaves {left:?}");
            let log = create(disk).unwrap_or_else(|again| panic!("{error}; again: {again}"));
            log.append(b"as if nothing had been").unwrap();
        } else {
            // There is a log, which an open finishes.
            assert!(matches!(error, Error::Io { .. }), "{error}");
            let (log, _) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
            assert_eq!(log.next(), 0);
        }
    });
    assert!(short >= 8 && otherwise > 0, "{short} {otherwise}");
}

#[test]
fn open_that_runs_short_as_it_finishes_a_create_can_be_made_again() {
    let unfinished = || {
        let disk = SimDisk::new(1);
        disk.fail_next(Op::SyncDirectory, Fault::Io, Repeat::Once);
        create(&disk).unwrap_err();
        disk.kill_copy()
    };
    let open =
        |disk: &SimDisk| Log::open_in(Arc::new(disk.clone()), &options()).map(|(log, _)| log);
    let (short, _) = refusals(&unfinished, &open, &|disk, error| {
        assert!(error.is_shortage() || matches!(error, Error::Io { .. }), "{error}");
        let log = open(&disk.kill_copy()).unwrap_or_else(|again| panic!("{error}; again: {again}"));
        log.append(b"as if nothing had been").unwrap();
    });
    assert!(short >= 6, "{short}");
}

/// What is in a directory where a create was refused.
fn is_left(path: &Path) {
    let left = names(path, "");
    assert!(left.is_empty() || left == ["lock"], "{left:?}");
}

#[test]
fn create_without_descriptors_leaves_nothing() {
    if !alone("create::create_without_descriptors_leaves_nothing") {
        return;
    }
    super::limit(libc::RLIMIT_NOFILE, 64);
    let place = tempfile::tempdir().unwrap();
    let mut hogs: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    let mut refused = 0;
    // With one descriptor more each time, until there are enough.
    while let Err(error) = Log::create(place.path(), &options()) {
        let Error::Exhausted { what: Shortage::Descriptors, .. } = error else { panic!("{error}") };
        refused += 1;
        assert!(hogs.pop().is_some(), "not even with all of them");
        is_left(place.path());
    }
    assert!(refused >= 3, "{refused}");
}

/// Lets this process have so many bytes more than it has mapped; all it wants without a number.
fn limit_memory(more: Option<u64>) {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').next().unwrap().parse().unwrap();
    let rlim_cur = more.map_or(libc::RLIM_INFINITY, |more| pages * 4096 + more);
    super::set_limit(libc::RLIMIT_AS, libc::rlimit { rlim_cur, rlim_max: libc::RLIM_INFINITY });
}

/// Found by reading. The threads were started once there was a log, which stayed.
#[cfg(target_os = "linux")]
#[test]
fn create_without_threads_leaves_nothing() {
    if !alone("create::create_without_threads_leaves_nothing") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 * 1024);
    let refused_then_made = |name: &str, options: &Options| {
        let path = place.path().join(name);
        // Less than the stack of a thread.
        limit_memory(Some(1 << 20));
        let refused = Log::create(&path, options).map(drop);
        limit_memory(None);
        let Err(Error::Exhausted { what: Shortage::Threads, .. }) = refused else {
            panic!("{refused:?}")
        };
        is_left(&path);
        Log::create(&path, options).unwrap()
    };
    let _log = refused_then_made("first", &options);
    // All but that of its own are there now.
    refused_then_made("scrubbed", &options.clone().scrub(Some(1 << 20)));
}

#[test]
fn backup_that_runs_short_can_be_made_again() {
    let log = create(&SimDisk::new(2)).unwrap();
    for index in 0..4_u8 {
        log.append(&[index; 3000]).unwrap();
    }
    let file = super::side_file(&log);
    log.commit(Batch::new().attach("snapshot", file)).unwrap();
    let back_up = |disk: &SimDisk| log.backup_in(Arc::new(disk.clone()));
    let (short, _) = refusals(&|| SimDisk::new(1), &back_up, &|disk, error| {
        assert!(error.is_shortage() || matches!(error, Error::Io { .. }), "{error}");
        let left = disk.list().unwrap();
        assert!(left.is_empty(), "{error} leaves {left:?}");
        back_up(disk).unwrap_or_else(|again| panic!("{error}; again: {again}"));
    });
    assert!(short >= 8, "{short}");
}
