//! Directories written by version 1 must open for ever, with what was in them.
//!
//! `tests/golden/v1` was written by [`write`], once. A change that needs it to be written again is a
//! change of the format, and asks for a new version instead.

#![expect(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "helpers of tests fail as tests do"
)]

use std::path::{Path, PathBuf};

#[cfg(not(feature = "lz4"))]
use indelible::Error;
use indelible::{Batch, Log, Options, Verdict};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

/// Opens a copy of a golden directory.
fn open(name: &str) -> (tempfile::TempDir, Log, Verdict) {
    open_copy(&golden().join(name))
}

/// Opens a copy, for an open writes.
fn open_copy(directory: &Path) -> (tempfile::TempDir, Log, Verdict) {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let (log, report) = Log::open(copy.path(), &options()).unwrap();
    (copy, log, report.verdict)
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index} ").repeat(1 + usize::try_from(index % 40).unwrap()).into_bytes()
}

/// What every golden log was made to hold.
fn fill(log: &Log) {
    let mut batch = Batch::new();
    batch.set("omnipaxos.promise", b"first").reset(10);
    log.commit(&batch).unwrap();
    for index in 10..400 {
        log.append(&entry(index)).unwrap();
    }
    let mut batch = Batch::new();
    batch.truncate(390).set("omnipaxos.promise", b"second").set("gone", b"x").clear("gone");
    for index in 390..600 {
        batch.append(entry(index));
    }
    log.commit(&batch).unwrap();
    let mut writer = log.side_file_writer().unwrap();
    std::io::Write::write_all(&mut writer, b"a snapshot up to 50").unwrap();
    let snapshot = writer.finish().unwrap();
    log.commit(Batch::new().attach("snapshot", snapshot).trim(50)).unwrap();
}

fn check(log: &Log) {
    assert_eq!((log.first(), log.next(), log.durable()), (50, 600, 600));
    for (index, bytes) in log.iter(50).map(Result::unwrap) {
        assert_eq!(bytes, entry(index));
    }
    assert_eq!(log.read(50..600).unwrap().len(), 550);
    assert_eq!(log.cell("omnipaxos.promise").as_deref(), Some(&b"second"[..]));
    assert_eq!(log.cells().len(), 2);
    let snapshot = log.side_file("snapshot").unwrap().unwrap();
    assert_eq!(snapshot.read_all().unwrap(), b"a snapshot up to 50");
}

#[test]
fn closed_log_of_version_1_opens() {
    let (_copy, log, verdict) = open("closed");
    assert_eq!(verdict, Verdict::Clean);
    check(&log);
    log.append(b"goes on").unwrap();
    assert_eq!(log.entry(600).unwrap(), b"goes on");
}

#[test]
fn killed_log_of_version_1_opens() {
    let (_copy, log, verdict) = open("killed");
    assert_eq!(verdict, Verdict::Recovered);
    check(&log);
}

#[test]
fn torn_log_of_version_1_opens_without_its_torn_batch() {
    let (_copy, log, verdict) = open("torn");
    assert!(matches!(verdict, Verdict::TornTail { .. }), "{verdict:?}");
    check(&log);
}

/// In a build without `lz4` what is compressed cannot be read, and nothing is called damaged.
#[test]
fn compressed_log_of_version_1_opens() {
    let (copy, log, verdict) = open("compressed");
    assert_eq!(verdict, Verdict::Recovered);
    #[cfg(feature = "lz4")]
    check(&log);
    #[cfg(not(feature = "lz4"))]
    {
        assert_eq!((log.first(), log.next(), log.durable()), (50, 600, 600));
        // Too short to be compressed.
        assert_eq!(log.entry(80).unwrap(), entry(80));
        for refused in [log.entry(79).unwrap_err(), log.read(50..600).unwrap_err()] {
            let Error::UnsupportedFeature { path, offset, feature } = refused else {
                panic!("{refused}")
            };
            assert!(path.starts_with(copy.path()) && offset > 0, "{}: {offset}", path.display());
            assert_eq!(feature, "lz4");
        }
        log.append(b"goes on").unwrap();
        assert_eq!(log.entry(600).unwrap(), b"goes on");
    }
    drop(copy);
}

/// The engine still writes what it reads: directories made now, as the golden ones were, hold the same.
#[test]
fn directories_written_now_open_like_the_golden_ones() {
    let compressed = cfg!(feature = "lz4").then_some("compressed");
    for name in ["closed", "killed", "torn"].into_iter().chain(compressed) {
        let written = tempfile::tempdir().unwrap();
        write(name, written.path());
        let (_copy, log, verdict) = open_copy(written.path());
        assert_eq!(
            std::mem::discriminant(&verdict),
            std::mem::discriminant(&open(name).2),
            "{name}"
        );
        check(&log);
    }
}

/// Writes one of the directories.
fn write(name: &str, path: &Path) {
    let work = tempfile::tempdir().unwrap();
    let above = (name == "compressed").then_some(100);
    let options = options().compress_above(above);
    let log = Log::create(work.path().join("log"), &options).unwrap();
    fill(&log);
    if name == "closed" {
        log.close().unwrap();
    }
    if name == "torn" {
        let big = vec![9; 3000];
        log.submit(Batch::new().append(&big).append(&big)).unwrap();
        // Hands the frames to the file: they wait in memory for a sync otherwise.
        log.read(600..601).unwrap();
    }
    for file in std::fs::read_dir(work.path().join("log")).unwrap().map(Result::unwrap) {
        let file_name = file.file_name().into_string().unwrap();
        if file_name == "lock" || file_name.ends_with(".spare") {
            continue;
        }
        std::fs::copy(file.path(), path.join(&file_name)).unwrap();
    }
    if name == "torn" {
        // The end of the last batch never reached the medium.
        let mut files: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let segment = files.iter().rfind(|file| file.extension().is_some_and(|e| e == "seg"));
        let mut bytes = std::fs::read(segment.unwrap()).unwrap();
        let end = bytes.iter().rposition(|&byte| byte == 9).unwrap();
        bytes.get_mut(end - 1000..=end).unwrap().fill(0);
        std::fs::write(segment.unwrap(), bytes).unwrap();
    }
}
