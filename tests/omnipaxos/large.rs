//! Snapshots and stop signs from one byte to 64 MiB.

use omnipaxos::storage::{Storage, StorageOp};

use super::support::{Joined, Store, config, reopen, stopsign, values};

const SIZES: [usize; 6] = [1, 1023, 1024, 1025, 1024 * 1024, 64 * 1024 * 1024];

/// Bytes that no two places of a value have in common for long.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn snapshots_of_every_size_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Store::create(&config(&directory.path().join("node"))).unwrap();
    storage.append_entries(values(0..SIZES.len() as u64)).unwrap();
    for (index, size) in SIZES.into_iter().enumerate() {
        let snapshot = Joined(bytes(size));
        storage
            .write_atomically(vec![
                StorageOp::SetDecidedIndex(index),
                StorageOp::Trim(index),
                StorageOp::SetCompactedIdx(index),
                StorageOp::SetSnapshot(Some(snapshot.clone())),
            ])
            .unwrap();
        assert!(storage.get_snapshot().unwrap().as_ref() == Some(&snapshot), "{size} before");
        storage = reopen(storage);
        assert!(storage.get_snapshot().unwrap().as_ref() == Some(&snapshot), "{size} after");
        assert_eq!(storage.get_compacted_idx().unwrap(), index);
        assert!(side_files(directory.path()) <= 1, "the replaced snapshot of {size} is gone");
    }
}

#[test]
fn stopsigns_of_every_size_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Store::create(&config(&directory.path().join("node"))).unwrap();
    for size in SIZES {
        let stopsign = Some(stopsign(Some(bytes(size))));
        storage.set_stopsign(stopsign.clone()).unwrap();
        assert!(storage.get_stopsign().unwrap() == stopsign, "{size} before");
        storage = reopen(storage);
        assert!(storage.get_stopsign().unwrap() == stopsign, "{size} after");
    }
    storage.set_stopsign(None).unwrap();
    storage = reopen(storage);
    assert_eq!(storage.get_stopsign().unwrap(), None);
    assert_eq!(side_files(directory.path()), 0);
}

#[test]
fn entries_larger_than_a_segment_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Store::create(&config(&directory.path().join("node"))).unwrap();
    // Segments have 128 KiB: many entries that need several in one batch.
    let entries: Vec<_> = (0..40).map(|_| super::support::Value(bytes(10_000))).collect();
    storage.append_entries(entries.clone()).unwrap();
    storage = reopen(storage);
    assert!(storage.get_suffix(0).unwrap() == entries);
}

fn side_files(directory: &std::path::Path) -> usize {
    let names = std::fs::read_dir(directory.join("node")).unwrap();
    names.filter(|name| name.as_ref().unwrap().path().extension() == Some("side".as_ref())).count()
}
