//! What stands in the files says which batches were acknowledged, and an open believes it: headers
//! without their payload, witnesses, older copies of single files, names that are not true.
#![cfg(feature = "testing")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, and its files have the engine's own names"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::{Batch, Damage, Error, Log, Options, RecoveryReport, Verdict, Witness, WriteMode};

/// The files of a log by name.
type Files = BTreeMap<String, Vec<u8>>;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

fn create(options: &Options) -> (SimDisk, Log) {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), options).unwrap();
    (disk, log)
}

/// What a killed process leaves.
fn killed(disk: &SimDisk) -> Files {
    let mut files: Files = disk.image().into_iter().collect();
    files.retain(|name, _| name != "lock" && !name.ends_with(".spare"));
    files
}

fn tail(files: &mut Files) -> &mut Vec<u8> {
    files.iter_mut().rfind(|(name, _)| name.ends_with(".seg")).unwrap().1
}

fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).unwrap()
}

fn open(files: &Files) -> Result<(Log, RecoveryReport), Error> {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    Log::open(directory.path(), &options())
}

fn refusal(files: &Files) -> Damage {
    match open(files) {
        Ok((log, report)) => panic!("it opens with {} entries: {:?}", log.next(), report.verdict),
        Err(Error::Damaged { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
    }
}

/// The acknowledged batch before has rotted, and the header of the batch behind it says that it was
/// durable, whether its own payload got to the medium or not.
#[test]
pub(crate) fn header_is_evidence_without_its_payload() {
    let (disk, log) = create(&options().write_mode(WriteMode::Pwrite).witness(Witness::None));
    log.append(&[1; 100]).unwrap();
    log.submit(Batch::new().append(vec![2; 8000])).unwrap();
    for torn in [false, true] {
        let mut files = killed(&disk);
        let bytes = tail(&mut files);
        bytes[BLOCK + 32 + 50] ^= 8;
        if torn {
            bytes[2 * BLOCK..3 * BLOCK].fill(0);
        }
        let reason = refusal(&files);
        assert_eq!(reason, Damage::AcknowledgedFrame { sequence: 1, durable: 1 }, "{torn}");
    }
}

/// Forty acknowledged promises, then the end of the log goes bad. The newest of them may be lost with
/// what says that it was durable: nothing was written since its sync.
#[test]
pub(crate) fn bad_end_of_a_killed_log_takes_one_batch_at_most() {
    for entries in [false, true] {
        for place in [Witness::Near, Witness::Apart] {
            for count in [1_u64, 15, 40, 95] {
                let (disk, log) = create(&options().witness(place));
                for n in 0..count {
                    let mut batch = Batch::new();
                    if entries {
                        batch.append(n.to_le_bytes().to_vec());
                    } else {
                        batch.set("promise", n.to_le_bytes().to_vec());
                    }
                    log.commit(&batch).unwrap();
                }
                let files = killed(&disk);
                bad_parts_take_one_batch_at_most(&files, count);
            }
        }
    }
}

/// One sector or block of the tail after the other.
fn bad_parts_take_one_batch_at_most(files: &Files, count: u64) {
    for part in [SECTOR, BLOCK] {
        let end = end_of(tail(&mut files.clone()));
        for at in (BLOCK..end).step_by(part) {
            let mut files = files.clone();
            tail(&mut files)[at..at + part].fill(0);
            match open(&files) {
                Err(Error::Damaged { .. }) => {}
                Err(other) => panic!("{other}"),
                Ok((log, report)) => {
                    let found = log.newest_ticket().sequence();
                    let lost = count - found.min(count);
                    let replayed = report.batches_replayed;
                    let what = format!("{found} of {count}, {replayed} replayed, {part} at {at}");
                    assert!(lost <= 1 && replayed + 1 >= count, "{what}");
                }
            }
        }
    }
}

/// At the very end of a segment there is no block behind the frames.
#[test]
pub(crate) fn last_block_of_a_segment_has_its_witness_too() {
    let (disk, log) = create(&options());
    let mut count = 0;
    while log.stats().rolls == 0 {
        let files = killed(&disk);
        if end_of(tail(&mut files.clone())) > 15 * BLOCK {
            bad_parts_take_one_batch_at_most(&files, count);
        }
        log.append(&[7; 900]).unwrap();
        count += 1;
    }
    assert!(count > 60, "{count}");
}

/// A sync that is under way may have torn anything it writes, its witness too: the one before it
/// stays, where no frame comes.
#[test]
pub(crate) fn witness_apart_outlives_the_sync_that_writes_the_next_one() {
    for seed in 0..60 {
        let (disk, log) = create(&options().witness(Witness::Apart));
        for n in 0..10_u8 {
            log.append(&[n; 40]).unwrap();
        }
        log.submit(Batch::new().append(vec![2; 6000])).unwrap();
        disk.crash_at_call(disk.calls() + 1 + seed % 3, Moment::Within);
        assert!(log.sync().is_err());
        let mut files = killed(&disk.crash_with(Persistence::Random(seed)));
        tail(&mut files)[BLOCK..2 * BLOCK].fill(0);
        assert!(matches!(refusal(&files), Damage::AcknowledgedFrame { .. }), "seed {seed}");
    }
}

/// What was never acknowledged is still dropped, and reported.
#[test]
fn torn_end_behind_a_witness_is_dropped() {
    let (disk, log) = create(&options().write_mode(WriteMode::Pwrite));
    for n in 0..40_u8 {
        log.append(&[n; 8]).unwrap();
    }
    log.submit(Batch::new().append(vec![2; 5000])).unwrap();
    let mut files = killed(&disk);
    let end = end_of(tail(&mut files));
    tail(&mut files)[end - 600..=end].fill(0);
    let (log, report) = open(&files).unwrap();
    assert_eq!(log.next(), 40);
    assert!(matches!(report.verdict, Verdict::TornTail { sequence: 41, .. }), "{report:?}");
}
