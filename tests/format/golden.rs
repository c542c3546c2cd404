//! Directories written by version 1 must open for ever, with what was in them.
//!
//! `tests/golden/v1` was written by [`write`] and [`write_rare`], once. A change that needs it to
//! be written again is a change of the format, and asks for a new version instead.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "helpers of tests fail as tests do"
)]

use std::path::{Path, PathBuf};

use indelible::{Batch, Error, Log, Options, Verdict};

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

/// States that a log gets into rarely: what was repaired, gaps between segments, a batch over several
/// segments after the checkpoint, dropped frames after a sealed end, one torn slot.
#[test]
fn rare_logs_of_version_1_open() {
    for (name, expected) in RARE {
        let (copy, log, verdict) = open_rare(&golden().join(name));
        check_rare(name, &log, &verdict, expected);
        drop((copy, log));
    }
}

/// The engine still gets into them.
#[test]
fn rare_logs_written_now_open_like_the_golden_ones() {
    for (name, expected) in RARE {
        let written = tempfile::tempdir().unwrap();
        write_rare(name, written.path());
        let (_copy, log, verdict) = open_rare(written.path());
        check_rare(name, &log, &verdict, expected);
    }
}

/// Each with its entries.
const RARE: [(&str, std::ops::Range<u64>); 5] = [
    ("holes", 0..60),
    ("gaps", 0..23),
    ("spanning", 0..130),
    ("dropped", 0..22),
    ("one_slot", 0..60),
];

fn open_rare(directory: &Path) -> (tempfile::TempDir, Log, Verdict) {
    let copy = tempfile::tempdir().unwrap();
    copy_files(directory, copy.path());
    let (log, report) = Log::open(copy.path(), &options().allow_holes(true)).unwrap();
    (copy, log, report.verdict)
}

fn check_rare(name: &str, log: &Log, verdict: &Verdict, expected: std::ops::Range<u64>) {
    assert_eq!((log.first(), log.next()), (expected.start, expected.end), "{name}");
    let recovered = matches!(name, "spanning");
    assert_eq!(*verdict == Verdict::Recovered, recovered, "{name}: {verdict:?}");
    for index in expected {
        match log.entry(index) {
            Ok(bytes) => assert!(bytes.starts_with(&long(index)[..20]), "{name}: {index}"),
            Err(Error::Hole { .. }) => assert_eq!((name, index), ("holes", 30)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// An entry of which fourteen fill a segment.
fn long(index: u64) -> Vec<u8> {
    let mut bytes = format!("entry number {index:8} ").into_bytes();
    bytes.resize(4000, b'.');
    bytes
}

fn append_long(log: &Log, range: std::ops::Range<u64>) {
    for index in range {
        log.append(&long(index)).unwrap();
    }
}

/// All but the lock, prepared files, and what a repair kept.
fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        if file.file_type().unwrap().is_file() && name != "lock" && !name.ends_with(".spare") {
            std::fs::copy(file.path(), to.join(&name)).unwrap();
        }
    }
}

fn change(file: &Path, at: usize, bytes: &[u8]) {
    let mut all = std::fs::read(file).unwrap();
    all.get_mut(at..at + bytes.len()).unwrap().copy_from_slice(bytes);
    std::fs::write(file, all).unwrap();
}

/// Writes one of the rare directories.
fn write_rare(name: &str, path: &Path) {
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("log");
    let log = Log::create(&place, &options()).unwrap();
    match name {
        "holes" => {
            append_long(&log, 0..60);
            log.close().unwrap();
            let mut files: Vec<_> =
                std::fs::read_dir(&place).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let third = files.iter().filter(|it| it.extension().is_some_and(|e| e == "seg")).nth(2);
            let bytes = std::fs::read(third.unwrap()).unwrap();
            let text = &long(30)[..22];
            let at = bytes.windows(text.len()).position(|it| it == text).unwrap();
            change(third.unwrap(), at, b"E");
            indelible::repair::apply(&place).unwrap();
        }
        "gaps" => {
            append_long(&log, 0..60);
            // Below the bases of several segments: a new one begins, and they go.
            let mut batch = Batch::new();
            batch.truncate(20);
            for index in 20..23 {
                batch.append(long(index));
            }
            log.commit(&batch).unwrap();
            log.close().unwrap();
        }
        "spanning" => {
            append_long(&log, 0..10);
            log.maintain().unwrap();
            let mut batch = Batch::new();
            (10..130).for_each(|index| _ = batch.append(long(index)));
            log.submit(&batch).unwrap();
            log.read(129..130).unwrap();
        }
        "dropped" => {
            append_long(&log, 0..10);
            log.maintain().unwrap();
            log.submit(Batch::new().append(long(10)).append(long(11))).unwrap();
            log.read(10..11).unwrap();
            let torn = work.path().join("torn");
            std::fs::create_dir(&torn).unwrap();
            copy_files(&place, &torn);
            drop(log);
            let segment = torn.join("0000000000000001-0000000000000000.seg");
            let bytes = std::fs::read(&segment).unwrap();
            let second = &long(11)[..22];
            let at = bytes.windows(second.len()).position(|it| it == second).unwrap();
            change(&segment, at + 3000, &[0; 600]);
            let (log, _) = Log::open(&torn, &options()).unwrap();
            assert_eq!(log.next(), 10);
            // Too large for what is left of the segment: it is sealed before what was dropped.
            let mut large = long(10);
            large.resize(40_000, b'.');
            log.append(&large).unwrap();
            append_long(&log, 11..22);
            log.close().unwrap();
            return copy_files(&torn, path);
        }
        _ => {
            append_long(&log, 0..60);
            log.close().unwrap();
            change(&place.join("metadata"), 200, &[0xff; 512]);
        }
    }
    copy_files(&place, path);
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
