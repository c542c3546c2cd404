//! Every named limit, one below it, at it, and one above it. Those of a batch, which would take
//! gigabytes, are asked of its plan (`src/log/writer/plan.rs`).

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::similar_names,
    reason = "helpers of tests fail as tests do"
)]

use indelible::options::{
    BATCH_SEGMENTS_MAX, CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX, CELLS_BYTES_MAX,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_MAX,
};
use indelible::{Batch, Error, Log, Options, Preparation, WriteMode};

fn log() -> Log {
    Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap()
}

fn is_too_large<T>(result: Result<T, Error>, limit: u64) -> bool {
    matches!(result, Err(Error::TooLarge { got, limit: at, .. }) if at == limit && got == limit + 1)
}

#[test]
fn entry_fits_up_to_its_limit() {
    let log = log();
    let limit = usize::try_from(log.entry_bytes_max()).unwrap();
    for bytes in [0, 1, limit - 1, limit] {
        let index = log.next();
        log.append(&vec![3; bytes]).unwrap();
        assert_eq!(log.entry(index).unwrap(), vec![3; bytes]);
    }
    let next = log.next();
    assert!(is_too_large(log.append(&vec![3; limit + 1]), limit as u64));
    // Nor where nothing is before it and there would be room.
    let empty = self::log();
    assert!(is_too_large(empty.append(&vec![3; limit + 1]), limit as u64));
    assert_eq!(log.next(), next);
}

#[test]
fn cell_value_fits_up_to_its_limit() {
    let log = log();
    for bytes in [0, CELL_VALUE_BYTES_MAX - 1, CELL_VALUE_BYTES_MAX] {
        let value = vec![4; bytes];
        log.commit(Batch::new().set("vote", &value)).unwrap();
        assert_eq!(log.cell("vote").as_deref(), Some(&value[..]));
    }
    let value = vec![5; CELL_VALUE_BYTES_MAX + 1];
    let refused = log.commit(Batch::new().append(b"with it").set("vote", &value));
    assert!(is_too_large(refused, CELL_VALUE_BYTES_MAX as u64));
    assert_eq!((log.next(), log.cell("vote").map(|value| value[0])), (0, Some(4)));
}

#[test]
fn cell_name_fits_up_to_its_limit() {
    let log = log();
    for bytes in [1, CELL_NAME_BYTES_MAX - 1, CELL_NAME_BYTES_MAX] {
        log.commit(Batch::new().set("n".repeat(bytes), b"v")).unwrap();
    }
    let long = "n".repeat(CELL_NAME_BYTES_MAX + 1);
    let refused = log.commit(Batch::new().set(long, b"v"));
    assert!(is_too_large(refused, CELL_NAME_BYTES_MAX as u64));
    for name in ["", "Vote", "a b", "a/b", "\u{e9}"] {
        let refused = log.commit(Batch::new().set(name, b"v"));
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{name}");
    }
}

#[test]
fn cells_fit_one_slot_together_and_no_more() {
    let log = log();
    log.commit(
        Batch::new().set("a", vec![1; 1024]).set("b", vec![2; 1024]).set("c", vec![3; 1024]),
    )
    .unwrap();
    let set = |bytes| log.commit(Batch::new().set("d", vec![4; bytes]));
    let most = (0..=CELL_VALUE_BYTES_MAX).take_while(|bytes| set(*bytes).is_ok()).last().unwrap();
    for bytes in [most - 1, most] {
        set(bytes).unwrap();
    }
    assert!(is_too_large(set(most + 1), CELLS_BYTES_MAX as u64));
    assert_eq!(log.cell("d").unwrap().len(), most);
    log.maintain().unwrap();
    log.commit(Batch::new().clear("a").set("d", vec![4; most + 1])).unwrap();
}

#[test]
pub(crate) fn segments_are_limited_as_the_option_says() {
    let options = Options::new().segment_bytes(64 * 1024).segments_max(3);
    let log = Log::in_memory(&options).unwrap();
    let entry = vec![8; 60_000];
    for _ in 0..3 {
        log.append(&entry).unwrap();
    }
    assert_eq!(log.stats().segments, 3);
    assert!(is_too_large(log.append(&entry), 3));
    log.commit(Batch::new().trim(1)).unwrap();
    log.append(&entry).unwrap();
    assert_eq!((log.first(), log.next()), (1, 4));
}

#[test]
fn numbers_of_segments_outside_the_limits_are_refused() {
    let create = |count| Log::in_memory(&Options::new().segments_max(count));
    for count in [2, 3, SEGMENTS_MAX - 1, SEGMENTS_MAX] {
        create(count).unwrap().append(b"fits").unwrap();
    }
    for count in [0, 1, SEGMENTS_MAX + 1, u64::MAX] {
        assert!(matches!(create(count), Err(Error::InvalidOption { .. })), "{count}");
    }
}

#[test]
fn segment_sizes_outside_the_limits_are_refused() {
    // Large ones take no space before they are written to.
    let options = Options::new().write_mode(WriteMode::Pwrite).preparation(Preparation::Sparse);
    let create = |bytes| {
        let place = tempfile::tempdir().unwrap();
        Log::create(place.path().join("log"), &options.clone().segment_bytes(bytes))?
            .append(b"fits")
    };
    for bytes in
        [SEGMENT_BYTES_MIN, SEGMENT_BYTES_MIN + 4096, SEGMENT_BYTES_MAX - 4096, SEGMENT_BYTES_MAX]
    {
        create(bytes).unwrap();
    }
    for bytes in
        [0, 4096, SEGMENT_BYTES_MIN - 4096, SEGMENT_BYTES_MIN + 1, SEGMENT_BYTES_MAX + 4096]
    {
        assert!(matches!(create(bytes), Err(Error::InvalidOption { .. })), "{bytes}");
    }
}

#[test]
fn index_stops_at_its_end() {
    let log = log();
    log.commit(Batch::new().reset(u64::MAX - 2)).unwrap();
    log.append(b"last but one").unwrap();
    log.append(b"last").unwrap();
    assert_eq!(log.next(), u64::MAX);
    assert!(matches!(log.append(b"beyond"), Err(Error::TooLarge { what: "index", .. })));
    assert_eq!(log.entry(u64::MAX - 1).unwrap(), b"last");
    assert!(matches!(log.entry(u64::MAX), Err(Error::BeyondEnd { .. })));
}

#[test]
fn wild_arguments_are_typed_errors() {
    let log = log();
    log.append(b"zero").unwrap();
    assert!(matches!(log.commit(Batch::new().truncate(2)), Err(Error::BeyondEnd { .. })));
    assert!(matches!(log.commit(Batch::new().trim(u64::MAX)), Err(Error::BeyondEnd { .. })));
    assert!(matches!(log.read(0..u64::MAX), Err(Error::BeyondEnd { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let backwards = log.read(1..0);
    assert!(matches!(backwards, Err(Error::InvalidArgument { .. })));
    assert!(log.read(77..77).unwrap().is_empty());
    log.commit(Batch::new().trim(1)).unwrap();
    assert!(matches!(log.commit(Batch::new().truncate(0)), Err(Error::Trimmed { .. })));
    assert!(matches!(log.entry(0), Err(Error::Trimmed { wanted: 0, first: 1 })));
    assert_eq!((log.first(), log.next()), (1, 1));
}

/// All segments of a batch are open before its first frame is written: without a limit a long batch
/// would be out of descriptors however often it is tried.
#[cfg(feature = "testing")]
#[test]
pub(crate) fn batch_begins_segments_up_to_its_limit() {
    use indelible::io::sim::SimDisk;

    let options = Options::new().tiny_segments(8 * 1024).background(false);
    let disk = SimDisk::new(1);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    let files = disk.image().len();
    // One of these in each segment, the first one in that of the create.
    let batch = |segments: u64| {
        let mut batch = Batch::new();
        for _ in 0..=segments {
            batch.append(vec![6; 3000]);
        }
        batch
    };
    assert!(is_too_large(log.commit(&batch(BATCH_SEGMENTS_MAX + 1)), BATCH_SEGMENTS_MAX));
    assert_eq!((log.next(), log.stats().poisoned, disk.image().len()), (0, false, files));
    log.commit(&batch(BATCH_SEGMENTS_MAX)).unwrap();
    assert_eq!((log.next(), log.stats().rolls), (BATCH_SEGMENTS_MAX + 1, BATCH_SEGMENTS_MAX));
}

/// Whatever the policy, an open after a crash looks at no more than was stated: at twice the bytes
/// between two checkpoints.
#[cfg(feature = "testing")]
#[test]
pub(crate) fn open_looks_at_no_more_than_two_steps_under_every_policy() {
    use indelible::Durability;
    use indelible::io::sim::{Persistence, SimDisk};

    const STEP: u64 = 16 * 1024;
    for durability in [Durability::Always, Durability::Barrier, Durability::Os] {
        let options = Options::new()
            .segment_bytes(64 * 1024)
            .checkpoint_bytes(STEP)
            .durability(durability)
            .background(false);
        let disk = SimDisk::new(7);
        let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
        let mut looked = 0;
        for number in 0..400_u16 {
            log.append(&vec![1; 1000]).unwrap();
            if number % 13 == 0 {
                let left = disk.crash_copy(Persistence::Everything);
                let (_, report) = Log::open_in(std::sync::Arc::new(left), &options).unwrap();
                looked = looked.max(report.bytes_scanned);
            }
        }
        // Footers, headers and the block of the witness come on top.
        assert!(looked <= 2 * STEP + 16 * 1024, "{durability:?}: {looked} bytes");
    }
}

/// With more gaps in the numbers of segments than a checkpoint has room for, dead segments stay named.
/// They ask for no checkpoint of their own.
#[cfg(feature = "testing")]
#[test]
pub(crate) fn gaps_beyond_the_limit_cost_no_checkpoint_at_each_batch() {
    use indelible::format::slot::RUNS_MAX;
    use indelible::io::sim::SimDisk;

    let options = Options::new().tiny_segments(8 * 1024).background(false);
    let log = Log::create_in(std::sync::Arc::new(SimDisk::new(1)), &options).unwrap();
    let mut gaps = 0;
    while gaps < RUNS_MAX + 4 {
        // The first of these segments stays; the others leave a gap.
        let kept = log.next() + 1;
        while log.stats().rolls < 4 * (gaps as u64 + 1) {
            log.append(&[1; 1500]).unwrap();
        }
        log.commit(Batch::new().truncate(kept).append(b"kept")).unwrap();
        gaps += 1;
    }
    log.maintain().unwrap();
    assert!(log.stats().segments > RUNS_MAX as u64, "each gap has a segment before it");
    let before = log.stats().checkpoints;
    for number in 0..20_u64 {
        log.commit(Batch::new().set("vote", number.to_le_bytes().to_vec())).unwrap();
    }
    assert!(
        log.stats().checkpoints <= before + 1,
        "{} checkpoints",
        log.stats().checkpoints - before
    );
}
