//! Every write mode, sync method, preparation and durability does the same things; what a platform
//! lacks is refused with a typed error.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

use std::time::Duration;

use indelible::{
    Batch, Durability, Error, Log, Options, Preparation, SyncMethod, Verdict, WriteMode,
};

/// One life of a log: appends small and large, rolls, truncates, trims, closes; then another one.
fn live_twice(options: &Options) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::create(&path, options).unwrap();
    let entry =
        |index: u64| vec![u8::try_from(index % 251).unwrap(); 100 + 37 * (index as usize % 40)];
    for start in (0..200).step_by(8) {
        let mut batch = Batch::new();
        for index in start..start + 8 {
            batch.append(entry(index));
        }
        log.commit(&batch).unwrap();
    }
    let mut batch = Batch::new();
    batch.truncate(150).set("promise", b"one");
    for index in 150..300 {
        batch.append(entry(index));
    }
    log.commit(&batch).unwrap().wait().unwrap();
    assert_eq!(log.durable(), 300);
    log.commit(Batch::new().trim(120)).unwrap();
    log.maintain().unwrap();
    assert!(log.stats().rolls > 2, "{:?}", log.stats());
    let check = |log: &Log| {
        assert_eq!((log.first(), log.next()), (120, 300));
        for (index, bytes) in log.iter(120).map(Result::unwrap) {
            assert_eq!(bytes, entry(index));
        }
        assert_eq!(log.cell("promise").as_deref(), Some(&b"one"[..]));
    };
    check(&log);
    log.close().unwrap();
    let (log, report) = Log::open(&path, options).unwrap();
    assert_eq!(report.verdict, Verdict::Clean);
    check(&log);
    log.append(b"goes on").unwrap().wait().unwrap();
    assert_eq!(log.entry(300).unwrap(), b"goes on");
}

/// The write modes that the file system of temporary files takes.
fn modes() -> Vec<WriteMode> {
    let mut modes = vec![WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite];
    if takes_direct(tempfile::tempdir().unwrap().path()) {
        modes.push(WriteMode::Direct);
    }
    modes
}

/// Whether files in a directory can be written directly; if not, a log there says so.
fn takes_direct(path: &std::path::Path) -> bool {
    let tried = Log::create(path.join("try"), &Options::new().write_mode(WriteMode::Direct));
    let refused = matches!(tried, Err(Error::InvalidOption { option: "write_mode", .. }));
    assert!(refused || tried.is_ok(), "{tried:?}");
    !refused
}

/// Where memory is the medium a direct write gains nothing.
#[cfg(target_os = "linux")]
#[test]
fn direct_writes_are_refused_in_memory_and_nothing_else_is() {
    let shm = std::path::Path::new("/dev/shm");
    if !shm.is_dir() {
        return;
    }
    let directory = tempfile::tempdir_in(shm).unwrap();
    assert!(!takes_direct(directory.path()));
    Log::create(directory.path().join("log"), &Options::new()).unwrap();
}

#[test]
fn every_combination_does_the_same() {
    let mut combinations = 0;
    for mode in modes() {
        for method in
            [SyncMethod::Fdatasync, SyncMethod::Fsync, SyncMethod::Msync, SyncMethod::Dsync]
        {
            for preparation in [Preparation::ZeroFill, Preparation::Fallocate, Preparation::Sparse]
            {
                if mode != WriteMode::Pwrite && preparation == Preparation::Sparse {
                    continue;
                }
                for durability in [
                    Durability::Always,
                    Durability::Barrier,
                    Durability::Interval(Duration::from_millis(1)),
                    Durability::Os,
                ] {
                    let recycle: &[bool] =
                        if method == SyncMethod::Fdatasync { &[true, false] } else { &[true] };
                    for &recycle in recycle {
                        live_twice(
                            &Options::new()
                                .segment_bytes(64 * 1024)
                                .write_mode(mode)
                                .sync_method(method)
                                .preparation(preparation)
                                .durability(durability)
                                .recycle(recycle),
                        );
                        combinations += 1;
                    }
                }
            }
        }
    }
    let modes = modes().len();
    let unlike_pwrite = modes - 1;
    let each = (modes * 4 * 3 - unlike_pwrite * 4) * 4 + (modes * 3 - unlike_pwrite) * 4;
    assert_eq!(combinations, each);
}

#[test]
fn mode_may_change_between_two_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = |mode| Options::new().segment_bytes(64 * 1024).write_mode(mode);
    drop(Log::create(&path, &options(WriteMode::Mmap)).unwrap());
    for round in 0..8_u64 {
        let modes = modes();
        let mode = modes[round as usize % modes.len()];
        let (log, _) = Log::open(&path, &options(mode)).unwrap();
        for index in 0..50 {
            log.append(&(round * 50 + index).to_le_bytes().repeat(100)).unwrap();
        }
    }
    let (log, _) = Log::open(&path, &options(WriteMode::Mmap)).unwrap();
    for (index, bytes) in log.iter(0).map(Result::unwrap) {
        assert_eq!(bytes, index.to_le_bytes().repeat(100));
    }
    assert_eq!(log.next(), 400);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut refused = vec![
        Options::new().write_mode(WriteMode::Mmap).preparation(Preparation::Sparse),
        Options::new().write_mode(WriteMode::Buffered).preparation(Preparation::Sparse),
        Options::new().write_mode(WriteMode::Direct).preparation(Preparation::Sparse),
        Options::new().durability(Durability::Interval(Duration::ZERO)),
        Options::new().durability(Durability::Interval(Duration::from_secs(1))).background(false),
        Options::new().segments_max(1),
        Options::new().spares(0),
        Options::new().spares(17),
    ];
    if cfg!(not(target_vendor = "apple")) {
        refused.push(Options::new().sync_method(SyncMethod::FullFsync));
    }
    if cfg!(not(feature = "lz4")) {
        refused.push(Options::new().compress_above(Some(100)));
    }
    for options in refused {
        assert!(matches!(Log::create(&path, &options), Err(Error::InvalidOption { .. })));
        assert!(!path.exists(), "{options:?} left something behind");
    }
}

#[cfg(feature = "lz4")]
#[test]
fn compressed_entries_are_read_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = Options::new().segment_bytes(64 * 1024).compress_above(Some(64));
    let entry = |index: u64| match index % 3 {
        0 => vec![b'a'; 5000],
        1 => index.to_le_bytes().to_vec(),
        // What does not get smaller is stored as it is.
        _ => (0..500_u64).map(|at| ((at * at * 2_654_435_761 + index) >> 7) as u8).collect(),
    };
    let log = Log::create(&path, &options).unwrap();
    for index in 0..300 {
        log.append(&entry(index)).unwrap();
    }
    assert!(log.stats().bytes_written < log.stats().bytes_appended / 2);
    log.close().unwrap();
    let (log, _) = Log::open(&path, &options).unwrap();
    for (at, bytes) in log.read(0..300).unwrap().iter().enumerate() {
        assert_eq!(bytes, entry(at as u64));
    }
}
