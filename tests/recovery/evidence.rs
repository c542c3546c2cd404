//! What stands in the files says which batches were acknowledged, and an open believes it: headers
//! without their payload, witnesses, older copies of single files, names that are not true.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, and its files have the engine's own names"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use indelible::io::Directory;
use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::repair::Obstacle;
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

/// A directory in which these files are durable.
fn placed(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    for (name, bytes) in files {
        let (temporary, file) = disk.create(bytes.len() as u64, false).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync(0..bytes.len() as u64, indelible::SyncMethod::Fsync).unwrap();
        disk.rename(&temporary, name).unwrap();
    }
    disk.sync().unwrap();
    disk
}

/// What an open does not need it removes. Segments that were moved here from another log were among
/// that.
#[test]
pub(crate) fn segment_of_another_log_refuses_this_one_and_stays() {
    let (disk, log) = create(&options());
    log.append(b"ours").unwrap();
    log.close().unwrap();
    let ours: Files = disk.image().into_iter().collect();
    let cut_at = |call| {
        let disk = SimDisk::new(3);
        disk.crash_at_call(call, Moment::Before);
        let _cut_short = Log::create_in(Arc::new(disk.clone()), &options());
        let found: Files = disk.crash_with(Persistence::Everything).image().into_iter().collect();
        found.contains_key("metadata").then_some(found)
    };
    let creating = (0..40).find_map(cut_at).unwrap();
    for bytes in [64 * 1024, 128 * 1024] {
        let disk = SimDisk::new(2);
        let other = options().segment_bytes(bytes);
        drop(Log::create_in(Arc::new(disk.clone()), &other).unwrap());
        let theirs = disk.image().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap().1;
        for (ours, number) in [(&ours, 2), (&ours, 9), (&creating, 1), (&creating, 2)] {
            let name = format!("{number:016x}-{:016x}.seg", 7);
            let mut files = ours.clone();
            files.insert(name.clone(), theirs.clone());
            let disk = placed(&files);
            let before = disk.image();
            let refused = Log::open_in(Arc::new(disk.clone()), &options());
            let Err(Error::Damaged { path, .. }) = refused else { panic!("{number}: {refused:?}") };
            assert_eq!(path.to_str().unwrap(), name);
            assert_eq!(disk.image(), before);
            let plan = indelible::repair::plan_in(Arc::new(disk)).unwrap();
            assert!(matches!(plan.obstacle, Some(Obstacle::OfAnother(_))), "{number}: {plan:?}");
        }
    }
}

/// Found by review. A spare gets the name of a segment before its header, and what a crash between the
/// two brings back must not be a segment of another log.
#[test]
fn spare_of_another_log_is_not_used() {
    let disk = SimDisk::new(2);
    drop(Log::create_in(Arc::new(disk.clone()), &options()).unwrap());
    let theirs = disk.image().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap().1;
    let (disk, log) = create(&options());
    log.close().unwrap();
    let mut files: Files = disk.image().into_iter().collect();
    let spare = "00000000000000aa.spare".to_owned();
    files.insert(spare.clone(), theirs);
    let (log, report) = Log::open_in(Arc::new(placed(&files)), &options()).unwrap();
    assert!(report.removed.contains(&spare), "{report:?}");
    assert_eq!(log.stats().spares, 0);
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
    let disk = SimDisk::new(2);
    for (name, bytes) in files {
        let (temporary, file) = disk.create(bytes.len() as u64, true).unwrap();
        file.write_at(0, bytes).unwrap();
        disk.rename(&temporary, name).unwrap();
    }
    let disk = disk.crash_with(Persistence::Everything);
    Log::open_in(Arc::new(disk), &options())
}

fn refusal(files: &Files) -> Damage {
    match open(files) {
        Ok((log, report)) => {
            panic!("it opens with {} entries: {:?}", log.next(), report.verdict)
        }
        Err(Error::Damaged { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
    }
}

/// The acknowledged batch before has rotted, and the header of the batch after it says that it was
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

/// At the very end of a segment there is no block after the frames.
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
fn torn_end_after_a_witness_is_dropped() {
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

/// A log that was closed, used again and killed, and its metadata file of the time of the close.
fn older_metadata(batches: u64) -> (Files, Vec<u8>) {
    let (disk, log) = create(&options());
    let write = |log: &Log| {
        let n = log.next();
        let mut batch = Batch::new();
        batch.append(format!("entry {n}").into_bytes()).set("promise", n.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
    };
    (0..5).for_each(|_| write(&log));
    log.close().unwrap();
    let old = killed(&disk).remove("metadata").unwrap();
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    (0..batches).for_each(|_| write(&log));
    (killed(&disk), old)
}

#[test]
pub(crate) fn older_metadata_file_is_refused_as_what_it_is() {
    for batches in [1, 10] {
        let (mut files, old) = older_metadata(batches);
        files.insert("metadata".to_owned(), old);
        assert_eq!(refusal(&files), Damage::MetadataOlder { checkpoint: 5, found: 6 });
    }
}

/// One slot is an older copy, and the other one is lost.
#[test]
pub(crate) fn older_slot_without_the_other_is_refused_as_what_it_is() {
    let (mut files, old) = older_metadata(3);
    for (slot, other) in [(0, BLOCK), (BLOCK, 0)] {
        let metadata = files.get_mut("metadata").unwrap();
        metadata[slot..slot + BLOCK].copy_from_slice(&old[slot..slot + BLOCK]);
        metadata[other..other + BLOCK].fill(0);
        assert!(matches!(refusal(&files), Damage::MetadataOlder { .. }), "{slot}");
    }
}

/// The metadata file of a log that was just being created, under one that was used since.
#[test]
pub(crate) fn metadata_of_a_log_being_created_removes_nothing() {
    let disk = SimDisk::new(1);
    let mut call = 0;
    let creating = loop {
        let disk = SimDisk::new(1);
        disk.crash_at_call(call, Moment::Before);
        call += 1;
        let _cut = Log::create_in(Arc::new(disk.clone()), &options());
        let found = disk.crash_with(Persistence::Everything).image();
        if let Some((_, bytes)) = found.into_iter().find(|(name, _)| name == "metadata") {
            break bytes;
        }
    };
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    log.append(b"kept").unwrap();
    let mut files = killed(&disk);
    files.insert("metadata".to_owned(), creating);
    assert!(matches!(refusal(&files), Damage::MetadataOlder { .. }));
}

/// Taken in the middle of a life: the log went on after its reach, and in segments it does not know.
#[test]
pub(crate) fn metadata_of_the_middle_of_a_life_removes_no_segment() {
    let options = options().checkpoint_bytes(4096);
    for gap in [false, true] {
        let (disk, log) = create(&options);
        log.append(&[1; 3000]).unwrap();
        log.maintain().unwrap();
        let old = killed(&disk).remove("metadata").unwrap();
        let more = if gap { 60 } else { 9 };
        (0..more).for_each(|n| drop(log.append(&[n; 3000]).unwrap()));
        if gap {
            // The segments in the middle go, and what follows has a number of its own.
            log.commit(Batch::new().truncate(3).append(b"the winner".as_slice())).unwrap();
            log.maintain().unwrap();
        }
        let mut files = killed(&disk);
        let segments = files.keys().filter(|name| name.ends_with(".seg")).count();
        assert!(!gap || segments == 2, "{segments}");
        files.insert("metadata".to_owned(), old);
        assert!(matches!(refusal(&files), Damage::MetadataOlder { .. }), "{gap}");
    }
}

/// Segments that an older metadata file names may be gone since, be it the tail of that time or one
/// before it. Frames after its reach, or in segments that it does not name, say that it is what is wrong.
#[test]
pub(crate) fn older_metadata_file_that_names_segments_that_went_is_refused_as_what_it_is() {
    for kept in [4, 20] {
        let (disk, log) = create(&options().checkpoint_bytes(4096));
        let mut older = Vec::new();
        for n in 0..40 {
            log.append(&[n; 9000]).unwrap();
            // Six in each segment; what an older checkpoint of the same tail would say goes on.
            if n % 4 == 0 && n < 36 {
                log.maintain().unwrap();
                older.push(killed(&disk).remove("metadata").unwrap());
            }
        }
        log.commit(Batch::new().trim(40 - kept)).unwrap();
        log.maintain().unwrap();
        let mut files = killed(&disk);
        assert!(!files.contains_key("0000000000000001-0000000000000000.seg"));
        for metadata in older {
            files.insert("metadata".to_owned(), metadata);
            let reason = refusal(&files);
            assert!(matches!(reason, Damage::MetadataOlder { .. }), "{kept}: {reason}");
            let plan = indelible::repair::plan_in(Arc::new(placed(&files))).unwrap();
            assert!(matches!(plan.obstacle, Some(Obstacle::Stale(_))), "{kept}: {plan:?}");
        }
    }
}

/// The tail is a copy from before the last batches; the metadata file knows better.
#[test]
pub(crate) fn older_tail_is_refused() {
    for closed in [false, true] {
        let (disk, log) = create(&options());
        (0..5).for_each(|n| drop(log.append(&[n; 40]).unwrap()));
        let old = killed(&disk);
        (0..5).for_each(|n| drop(log.append(&[n; 40]).unwrap()));
        if closed {
            log.close().unwrap();
        } else {
            log.maintain().unwrap();
        }
        let mut files = killed(&disk);
        *tail(&mut files) = tail(&mut old.clone()).clone();
        assert_eq!(refusal(&files), Damage::LastFrame { sequence: 10 }, "{closed}");
    }
}

/// Three segments, in which the second one replaced the end of the first, and the third was begun for
/// lack of space.
fn three_segments() -> Files {
    let (disk, log) = create(&options());
    (0..6).for_each(|n| drop(log.append(&[n; 9000]).unwrap()));
    (0..3).for_each(|n| drop(log.append(&[n; 9000]).unwrap()));
    let mut batch = Batch::new();
    batch.truncate(4);
    for n in 0..8 {
        batch.append(vec![100 + n; 9000]);
    }
    log.commit(&batch).unwrap();
    log.close().unwrap();
    killed(&disk)
}

/// What a log answers for each entry: the first byte of it, or the reason that it is not there.
fn answers(files: &Files) -> Result<Vec<Result<u8, Damage>>, Damage> {
    let (log, _) = match open(files) {
        Err(Error::Damaged { reason, .. }) => return Err(reason),
        opened => opened.unwrap(),
    };
    let entry = |index| match log.entry(index) {
        Ok(bytes) => Ok(bytes[0]),
        Err(Error::Damaged { reason, .. }) => Err(reason),
        Err(other) => panic!("{other}"),
    };
    Ok((log.first()..log.next()).map(entry).collect())
}

/// A name that contradicts its header never changes which entries count.
#[test]
pub(crate) fn renamed_segment_changes_no_entry() {
    renamed_changes_no_entry_of(&three_segments());
    let (disk, log) = create(&options());
    (0..20).for_each(|n| drop(log.append(&[n; 9000]).unwrap()));
    log.close().unwrap();
    renamed_changes_no_entry_of(&killed(&disk));
}

fn renamed_changes_no_entry_of(files: &Files) {
    let right = answers(files).unwrap();
    let names: Vec<_> = files.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
    assert!(names.len() >= 3, "{names:?}");
    let mut refused = 0;
    for name in &names {
        let base = u64::from_str_radix(&name[17..33], 16).unwrap();
        for other in [base.wrapping_sub(1), base + 1, base + 2, 0, 4] {
            let lie = format!("{}-{other:016x}.seg", &name[..16]);
            if files.contains_key(&lie) || other == u64::MAX {
                continue;
            }
            let mut files = files.clone();
            let bytes = files.remove(name).unwrap();
            files.insert(lie.clone(), bytes);
            let Ok(answers) = answers(&files) else {
                refused += 1;
                continue;
            };
            assert_eq!(answers.len(), right.len(), "{name} as {lie}");
            for (index, (got, wanted)) in answers.iter().zip(&right).enumerate() {
                let kept = got == wanted || got.is_err();
                assert!(kept, "entry {index} is {got:?}, not {wanted:?}: {name} as {lie}");
            }
            assert!(answers.iter().any(Result::is_err), "{name} as {lie} goes unnoticed");
            assert_eq!(blamed(&files), BTreeSet::from([lie.clone()]), "{name} as {lie}");
        }
    }
    assert!(refused > 0);
}

/// The files that reads of all entries, and a scrub, say are damaged.
fn blamed(files: &Files) -> BTreeSet<String> {
    let (log, _) = open(files).unwrap();
    let read = (log.first()..log.next()).filter_map(|index| log.entry(index).err());
    let scrubbed = log.scrub(None, &mut |_| ControlFlow::Continue(())).unwrap();
    let path = |error| match error {
        Error::Damaged { path, .. } => path.to_string_lossy().into_owned(),
        other => panic!("{other}"),
    };
    read.chain(scrubbed.findings).map(path).collect()
}

/// Two segments have each other's names, and one has an older copy of another life.
#[test]
fn swapped_segments_change_no_entry() {
    let files = three_segments();
    let right = answers(&files).unwrap();
    let names: Vec<_> = files.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
    for pair in names.windows(2) {
        let mut files = files.clone();
        let (one, two) = (files.remove(&pair[0]).unwrap(), files.remove(&pair[1]).unwrap());
        files.insert(pair[0].clone(), two);
        files.insert(pair[1].clone(), one);
        if let Ok(answers) = answers(&files) {
            let same = answers.iter().zip(&right).all(|(got, it)| got == it || got.is_err());
            assert!(same && answers.iter().any(Result::is_err), "{answers:?}");
        }
    }
}

/// A batch was torn, and nothing is left of it but bytes of its payload: no header says what they are.
#[test]
fn payload_without_a_header_is_reported() {
    let (disk, log) = create(&options().write_mode(WriteMode::Pwrite));
    (0..3).for_each(|n| drop(log.append(&[n; 100]).unwrap()));
    let end = end_of(tail(&mut killed(&disk)).get(..2 * BLOCK).unwrap());
    let (_, report) = open(&killed(&disk)).unwrap();
    assert_eq!((report.verdict, report.leftover_bytes), (Verdict::Recovered, 0));
    log.submit(Batch::new().append(vec![2; 5000])).unwrap();
    let mut files = killed(&disk);
    tail(&mut files)[end + 1..end + 600].fill(0);
    let (_, report) = open(&files).unwrap();
    assert_eq!(report.verdict, Verdict::Recovered);
    assert!(report.leftover_bytes > 4000, "{}", report.leftover_bytes);
}
