//! What an open refuses, how it says so, and that it changes nothing by it.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::large_stack_arrays,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::process::itself;
use indelible::format::cell::{CellRecord, encode_cell};
use indelible::format::frame::{Flags, encode_frame, encode_hole};
use indelible::format::{Checkpoint, FrameHeader, Kind, Salt, SegmentHeader, SegmentName};
use indelible::{Batch, Damage, Error, Log, Options, Verdict};

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

/// A closed log of three segments with a snapshot.
fn closed_log(path: &Path) {
    let log = Log::create(path, &options()).unwrap();
    let mut writer = log.side_file_writer().unwrap();
    std::io::Write::write_all(&mut writer, &[5; 100_000]).unwrap();
    let snapshot = writer.finish().unwrap();
    log.commit(Batch::new().attach("snapshot", snapshot).set("promise", b"p")).unwrap();
    for index in 0..150_u64 {
        log.append(&[u8::try_from(index).unwrap(); 1000]).unwrap();
    }
    log.close().unwrap();
}

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(path)
        .unwrap()
        .map(|file| file.unwrap())
        .filter(|file| file.file_name() != "lock")
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

fn names(path: &Path, suffix: &str) -> Vec<String> {
    contents(path).into_keys().filter(|name| name.ends_with(suffix)).collect()
}

/// Changes a closed log, opens it, and checks that the refusal left everything as it was.
fn refusal(change: impl FnOnce(&Path)) -> Error {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    closed_log(&path);
    change(&path);
    let before = contents(&path);
    let error = Log::open(&path, &options()).map(|_| ()).unwrap_err();
    assert!(contents(&path) == before, "a refused open changed the directory: {error}");
    error
}

fn edit(path: &Path, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path.join(name)).unwrap();
    edit(&mut bytes);
    fs::write(path.join(name), bytes).unwrap();
}

#[test]
fn missing_log_is_told_from_a_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_path_buf(), directory.path().join("nowhere")] {
        assert!(matches!(Log::open(&path, &options()), Err(Error::Missing { .. })));
    }
    assert!(contents(directory.path()).is_empty(), "a failed open left something behind");
}

#[test]
fn existing_log_is_not_created_again() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    let before = contents(directory.path());
    assert!(matches!(Log::create(directory.path(), &options()), Err(Error::AlreadyExists { .. })));
    assert!(contents(directory.path()) == before);
}

#[test]
fn lost_metadata_file_is_never_a_fresh_log() {
    let error = refusal(|path| fs::remove_file(path.join("metadata")).unwrap());
    assert!(
        matches!(&error, Error::Damaged { path, reason: Damage::MissingFile, .. }
        if path.ends_with("metadata")),
        "{error}"
    );
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    fs::remove_file(directory.path().join("metadata")).unwrap();
    assert!(matches!(
        Log::open_or_create(directory.path(), &options()),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn one_lost_slot_loses_nothing() {
    for slot in [0, 4096] {
        let directory = tempfile::tempdir().unwrap();
        closed_log(directory.path());
        edit(directory.path(), "metadata", |bytes| bytes[slot..slot + 4096].fill(0));
        let (log, report) = Log::open(directory.path(), &options()).unwrap();
        assert!(report.slot_rewritten);
        assert_eq!(report.verdict, Verdict::Clean);
        assert_eq!((log.first(), log.next()), (0, 150));
        assert_eq!(log.cell("promise").as_deref(), Some(&b"p"[..]));
    }
}

#[test]
fn two_lost_slots_are_damage() {
    let error = refusal(|path| edit(path, "metadata", |bytes| bytes.fill(0)));
    assert!(matches!(error, Error::Damaged { reason: Damage::BothSlots, .. }), "{error}");
    let error = refusal(|path| edit(path, "metadata", |bytes| bytes.truncate(5000)));
    assert!(matches!(error, Error::Damaged { reason: Damage::Length { .. }, .. }), "{error}");
}

/// The length comes from the file system, and nothing may cost in proportion to it: neither time nor
/// memory.
#[test]
fn a_metadata_file_of_terabytes_is_refused_at_once() {
    const BYTES: u64 = 8 << 40;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    closed_log(&path);
    let file = fs::OpenOptions::new().write(true).open(path.join("metadata")).unwrap();
    file.set_len(BYTES).unwrap();
    let started = Instant::now();
    let error = Log::open(&path, &options()).map(|_| ()).unwrap_err();
    let Error::Damaged { reason: Damage::Length { got, .. }, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(got, BYTES);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn lost_segment_is_damage() {
    for nth in 0..3 {
        let error = refusal(|path| {
            let segments = names(path, ".seg");
            assert_eq!(segments.len(), 3);
            fs::remove_file(path.join(&segments[nth])).unwrap();
        });
        assert!(
            matches!(error, Error::Damaged { reason: Damage::MissingFile, .. }),
            "segment {nth}: {error}"
        );
    }
}

#[test]
fn lost_snapshot_is_damage() {
    let error = refusal(|path| {
        fs::remove_file(path.join(&names(path, ".side")[0])).unwrap();
    });
    assert!(matches!(error, Error::Damaged { reason: Damage::MissingFile, .. }), "{error}");
}

#[test]
fn damaged_snapshot_is_noticed_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    let name = names(directory.path(), ".side").remove(0);
    edit(directory.path(), &name, |bytes| bytes[77] ^= 1);
    let (log, _) = Log::open(directory.path(), &options()).unwrap();
    let read = log.side_file("snapshot").unwrap().unwrap().read_all();
    assert!(matches!(read, Err(Error::Damaged { reason: Damage::Checksum { .. }, .. })));
}

#[test]
fn damaged_entry_is_an_error_and_its_neighbours_are_not() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    let name = names(directory.path(), ".seg").remove(1);
    edit(directory.path(), &name, |bytes| bytes[30_000] ^= 1);
    let (log, _) = Log::open(directory.path(), &options()).unwrap();
    let mut damaged = 0;
    for index in 0..150 {
        match log.entry(index) {
            Ok(bytes) => assert_eq!(bytes, [u8::try_from(index).unwrap(); 1000]),
            Err(Error::Damaged { indexes, path, .. }) => {
                assert_eq!(indexes, Some(index..index + 1));
                assert!(path.ends_with(&name));
                damaged += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(damaged, 1);
    assert!(matches!(log.read(0..150), Err(Error::Damaged { .. })));
}

#[test]
pub(crate) fn lost_footer_is_made_good_from_the_frames() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    let name = names(directory.path(), ".seg").remove(1);
    edit(directory.path(), &name, |bytes| {
        let end = bytes.len();
        bytes[end - 500..].fill(0xff);
    });
    let (log, _) = Log::open(directory.path(), &options()).unwrap();
    let entries = log.read_to_vec(0..150).unwrap();
    assert_eq!(log.stats().footers_rebuilt, 1);
    assert!(entries.iter().zip(0..).all(|(entry, index)| *entry == [index; 1000]));
}

#[test]
fn future_version_is_not_called_damage() {
    // Version 2, its checksum right: the first 16 bytes of a slot are the same for ever.
    let error = refusal(|path| {
        edit(path, "metadata", |bytes| {
            for slot in [0, 4096] {
                bytes[slot + 8] = 2;
                bytes[slot + 12..slot + 16].fill(0);
                let crc = crc32fast::hash(&bytes[slot..slot + 4096]);
                bytes[slot + 12..slot + 16].copy_from_slice(&crc.to_le_bytes());
            }
        });
    });
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn directory_of_garbage_is_refused_or_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = [
        ("metadata", 8192),
        ("0000000000000001-0000000000000000.seg", 65536),
        ("zzz.seg", 10),
        ("0000000000000009.side", 3),
        ("notes.txt", 20),
    ];
    for (name, bytes) in garbage {
        let noise: Vec<u8> = (0..bytes).map(|at: u32| (at.wrapping_mul(197) >> 3) as u8).collect();
        fs::write(directory.path().join(name), noise).unwrap();
    }
    let before = contents(directory.path());
    let error = Log::open_or_create(directory.path(), &options()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Damaged { reason: Damage::BothSlots, .. }), "{error}");
    assert!(contents(directory.path()) == before);
}

#[test]
fn foreign_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    fs::write(directory.path().join("thesis.tmp"), "years of work").unwrap();
    fs::write(directory.path().join("0123456789abcdef.tmp"), "ours").unwrap();
    let (log, report) = Log::open(directory.path(), &options()).unwrap();
    assert_eq!(report.removed, ["0123456789abcdef.tmp"]);
    drop(log);
    assert_eq!(fs::read(directory.path().join("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(directory.path().join("thesis.tmp")).unwrap(), b"years of work");
}

#[test]
fn second_process_is_refused_and_told_which_one_holds_the_log() {
    const LOCKED: &str = "INDELIBLE_TEST_LOCKED";
    if let Some(path) = std::env::var_os(LOCKED) {
        // This is the other process, see below.
        println!("{}", Log::open(path, &options()).map(drop).unwrap_err());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let log = Log::create(directory.path(), &options()).unwrap();
    let other =
        itself(module_path!(), "second_process_is_refused_and_told_which_one_holds_the_log")
            .env(LOCKED, directory.path())
            .stderr(Stdio::null())
            .output()
            .unwrap();
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    let expected = format!("is in use by process {}", std::process::id());
    assert!(said.contains(&expected), "{said}");
    log.append(b"undisturbed").unwrap();
}

/// A refusal of a log that was not closed, whose checkpoint and tail are forged: every checksum is
/// right.
fn forgery(change: impl FnOnce(&mut Checkpoint, &Path)) -> Error {
    refusal(|path| {
        let slots = fs::read(path.join("metadata")).unwrap();
        let mut newest = Checkpoint::decode(slots.split_at(4096).0).unwrap();
        newest.clean = false;
        newest.reach = newest.segment_bytes;
        change(&mut newest, path);
        let slot = newest.encode().unwrap();
        edit(path, "metadata", |bytes| bytes.copy_from_slice(&[*slot, *slot].concat()));
    })
}

fn frame(checkpoint: &Checkpoint, kind: Kind) -> FrameHeader {
    let (sequence, index) = (checkpoint.sequence + 1, checkpoint.next);
    let flags = Flags::FIRST | Flags::LAST;
    FrameHeader { length: 0, sequence, index, lag: 1, kind, flags }
}

/// Found by review. The place for the footer of so many entries was beyond every number.
#[test]
fn more_entries_than_the_tail_can_hold_are_damage() {
    for next in [u64::MAX, u64::MAX - 9, 1 << 62, 1 << 40, 150 + 64 * 1024 / 4] {
        let error = forgery(|checkpoint, _| checkpoint.next = next);
        let Error::Damaged { reason: Damage::Field { field, got, .. }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((field, got), ("next index", next));
    }
    let error = forgery(|checkpoint, _| {
        (checkpoint.tail_offset, checkpoint.reach) = (64 * 1024, 64 * 1024);
    });
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// Found by review. One more was added to a count of missing entries that had no room for it.
#[test]
fn count_of_missing_entries_has_an_end() {
    let error = forgery(|checkpoint, path| {
        checkpoint.holes = u64::MAX;
        let header = FrameHeader { length: 8, ..frame(checkpoint, Kind::Hole) };
        let (salt, end) = (Salt::new(checkpoint.tail_generation), checkpoint.next + 5);
        let place = checkpoint.tail_offset;
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &salt, place, &header, &[&encode_hole(end)]);
        let at = place as usize;
        edit(path, &names(path, ".seg").remove(2), |file| {
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        });
    });
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
}

/// Found by review. A segment that goes on after the tail began at an index that the log does not
/// reach; the first append counted backwards.
#[test]
fn next_segment_that_begins_elsewhere_is_damage() {
    for base in [0, 149, 151, 155, u64::MAX] {
        let error = forgery(|checkpoint, path| {
            let (number, generation) = (checkpoint.tail_number + 1, 77);
            let header = SegmentHeader {
                uuid: checkpoint.uuid,
                number,
                base,
                generation,
                first_sequence: checkpoint.sequence + 1,
                previous_generation: checkpoint.tail_generation,
                previous_end: checkpoint.tail_offset,
                segment_bytes: checkpoint.segment_bytes,
                features: 0,
                previous_base: 0,
                replaces: 0,
            };
            let mut bytes = header.encode().to_vec();
            bytes.resize(4096, 0);
            let record = CellRecord::Set { name: "x", value: b"y" };
            let header = frame(checkpoint, Kind::Set);
            encode_cell(&mut bytes, &Salt::new(generation), 4096, &header, &record);
            bytes.resize(checkpoint.segment_bytes as usize, 0);
            fs::write(path.join(SegmentName { number, base }.to_string()), bytes).unwrap();
        });
        let Error::Damaged { reason: Damage::Field { field, .. }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(field, "next index");
    }
}

/// A log that was not closed, linked file by file to another directory: both would write to the
/// same bytes.
#[test]
fn hard_linked_copy_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (path, copy) = (place.path().join("log"), place.path().join("copy"));
    let options = Options::new().segment_bytes(64 * 1024).background(false);
    let log = Log::create(&path, &options).unwrap();
    log.append(b"first").unwrap();
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&path).unwrap().map(Result::unwrap) {
        if file.file_name() != "lock" {
            fs::hard_link(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let refused = Log::open(&copy, &options).unwrap_err();
    assert!(refused.to_string().contains("hard link"), "{refused}");
    let Error::HardLinked { path } = refused else { panic!("{refused}") };
    assert_eq!(path, copy.join("metadata"));
    log.append(b"second").unwrap();
}
