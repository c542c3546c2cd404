//! Tails that are longer than what an open keeps in memory at a time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Batch, Durability, Log, Options, Verdict};

/// Each entry has a byte of its own and a length of its own.
fn entry(index: u64) -> Vec<u8> {
    [index.to_le_bytes()[0], 7].repeat(usize::try_from(index % 700).unwrap())
}

fn batch(entries: std::ops::Range<u64>) -> Batch<'static> {
    let mut batch = Batch::new();
    for index in entries.clone() {
        batch.append(entry(index));
    }
    batch.set("next", entries.end.to_le_bytes().to_vec());
    batch
}

/// Batches of one entry and of thousands, some of which go on in the next segment or the one after, and
/// truncations; then a power cut that takes nothing, or everything that was not synced.
#[test]
fn long_tail_is_replayed_whole() {
    for segment_bytes in [512 << 10, 16 << 20] {
        let disk = SimDisk::new(1);
        let options = Options::new()
            .segment_bytes(segment_bytes)
            .durability(Durability::Barrier)
            .checkpoint_bytes(segment_bytes)
            .background(false);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        for count in [1, 1, 40, 2000, 1, 900, 1, 1, 3000, 7] {
            let next = log.next();
            log.commit(&batch(next..next + count)).unwrap();
        }
        log.commit(Batch::new().truncate(log.next() - 500)).unwrap();
        log.sync().unwrap();
        let synced = log.next();
        log.commit(&batch(synced..synced + 1500)).unwrap();
        log.hand_over().unwrap();
        // The end of the log and what the cell says: of what was synced, and of everything.
        let (least, all) = ((synced, synced + 500), (synced + 1500, synced + 1500));
        for persistence in [Persistence::Everything, Persistence::Nothing] {
            let left = disk.crash_copy(persistence);
            let (log, report) = Log::open_in(Arc::new(left), &options).unwrap();
            assert!(matches!(report.verdict, Verdict::Recovered | Verdict::TornTail { .. }));
            let cell = log.cell("next").unwrap();
            let found = (log.next(), u64::from_le_bytes(cell.as_ref().try_into().unwrap()));
            // A roll syncs what was written before it.
            let may_be = found == least && persistence == Persistence::Nothing;
            assert!(found == all || may_be, "{persistence:?}, {segment_bytes}: {found:?}");
            for (index, read) in log.iter(0).enumerate() {
                let index = u64::try_from(index).unwrap();
                assert_eq!(read.unwrap(), (index, entry(index)));
            }
        }
    }
}
