//! One behaviour suite for the three doors (operating system, memory, simulation), and for each
//! fault of the simulated disk a test that shows it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may fail, or say why it cannot"
)]

use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use indelible::SyncMethod::{self, Dsync, Fdatasync, Fsync, Msync};
use indelible::io::mem::MemDirectory;
use indelible::io::sim::{
    Fault, Moment, NameOrder, Op, Persistence, Repeat, Rot, SECTOR_BYTES, SimDisk, Unit,
};
use indelible::io::{Access, Directory, DirectoryEntry, File, LockRefused};

#[path = "../support/os_door.rs"]
mod os_door;

/// Runs a behaviour against every door.
fn everywhere(behaviour: impl Fn(&dyn Directory)) {
    let temporary = tempfile::tempdir().unwrap();
    behaviour(&*os_door::open(temporary.path().join("a/b"), true).unwrap());
    behaviour(&MemDirectory::new());
    behaviour(&SimDisk::new(1));
}

fn bytes_of(file: &Arc<dyn File>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_at(offset, &mut bytes).unwrap();
    bytes
}

fn names(directory: &dyn Directory) -> Vec<(String, u64)> {
    let mut files: Vec<_> =
        directory.list().unwrap().into_iter().map(|entry| (entry.name, entry.bytes)).collect();
    files.sort();
    files.retain(|(name, _)| name != "lock");
    files
}

/// A file with a durable name and durable contents.
fn durable_file(directory: &dyn Directory, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let (temporary, file) = directory.create(bytes.len() as u64, true).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync(0..bytes.len() as u64, Fdatasync).unwrap();
    directory.rename(&temporary, name).unwrap();
    directory.sync().unwrap();
    file
}

fn survivors(disk: &SimDisk, name: &str, len: usize) -> Vec<u8> {
    bytes_of(&disk.open(name, Access::Read).unwrap(), 0, len)
}

#[test]
fn created_file_reads_as_zeros_until_written() {
    everywhere(|directory| {
        for allocate in [false, true] {
            let (name, file) = directory.create(8192, allocate).unwrap();
            assert!(name.strip_suffix(".tmp").is_some(), "{name}");
            assert_eq!(bytes_of(&file, 0, 8192), vec![0; 8192]);
            file.write_at(4000, b"across a page").unwrap();
            assert_eq!(bytes_of(&file, 4000, 13), b"across a page");
            assert_eq!(names(directory), [(name.clone(), 8192)]);
            directory.remove(&name).unwrap();
        }
    });
}

#[test]
fn read_past_the_end_is_an_error_and_a_write_grows_the_file() {
    everywhere(|directory| {
        let (name, file) = directory.create(0, false).unwrap();
        let mut byte = [0];
        assert_eq!(file.read_at(0, &mut byte).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.write_at(10_000, b"end").unwrap();
        assert_eq!(names(directory), [(name, 10_003)]);
        assert_eq!(bytes_of(&file, 9_998, 5), b"\0\0end");
        assert_eq!(file.read_at(10_003, &mut byte).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(file.read_at(u64::MAX, &mut byte).is_err());
        assert!(file.write_at(u64::MAX, &byte).is_err());
    });
}

#[test]
fn writes_reads_and_maps_of_one_file_agree() {
    everywhere(|directory| {
        let (name, file) = directory.create(16_384, true).unwrap();
        let map = file.map(16_384, true).unwrap();
        let other = directory.open(&name, Access::Write).unwrap();
        let view = other.map(8192, false).unwrap();

        map.store(0, b"by map").unwrap();
        assert_eq!(bytes_of(&other, 0, 6), b"by map");
        other.write_at(5000, b"by write").unwrap();
        map.publish(5008);
        assert_eq!(map.bytes(5000..5008).unwrap(), b"by write");
        view.populate_read(0..8192).unwrap();
        view.publish(8192);
        assert_eq!(view.bytes(0..6).unwrap(), b"by map");
        assert!(view.store(8192, b"").is_err(), "a read-only map refuses");
        assert!(map.store(5007, b"x").is_err(), "published bytes do not change");
        assert!(file.map(16_385, false).is_err(), "a map never reaches past the end");
        for method in [Fdatasync, Fsync, Msync, Dsync] {
            file.sync(0..5008, method).unwrap();
        }
        assert_eq!(bytes_of(&file, 5000, 8), b"by write");
    });
}

#[test]
fn rename_replaces_and_remove_removes() {
    everywhere(|directory| {
        durable_file(directory, "one", b"1");
        durable_file(directory, "two", b"22");
        directory.rename("one", "two").unwrap();
        assert_eq!(names(directory), [("two".to_owned(), 1)]);
        assert_eq!(directory.rename("one", "x").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(directory.remove("one").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(directory.open("one", Access::Read).unwrap_err().kind(), ErrorKind::NotFound);
        directory.remove("two").unwrap();
        assert_eq!(names(directory), []);
        directory.sync().unwrap();
    });
}

#[test]
fn removed_file_lives_on_in_its_handles_and_maps() {
    everywhere(|directory| {
        let file = durable_file(directory, "gone", b"still here");
        let map = file.map(10, false).unwrap();
        directory.remove("gone").unwrap();
        directory.sync().unwrap();
        assert_eq!(bytes_of(&file, 0, 10), b"still here");
        drop(file);
        map.publish(10);
        assert_eq!(map.bytes(0..10).unwrap(), b"still here");
    });
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    everywhere(|directory| {
        durable_file(directory, "here", b"x");
        for name in ["", ".", "..", "../here", "a/b", "/here", "a\0b"] {
            let refused = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
            };
            refused(directory.open(name, Access::Read).map(drop));
            refused(directory.rename("here", name));
            refused(directory.rename(name, "there"));
            refused(directory.remove(name));
        }
    });
}

#[test]
fn handle_for_reading_changes_nothing() {
    everywhere(|directory| {
        durable_file(directory, "file", b"bytes");
        let file = directory.open("file", Access::Read).unwrap();
        assert!(file.write_at(0, b"x").is_err());
        assert_eq!(file.map(5, true).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(bytes_of(&file, 0, 5), b"bytes");
    });
}

#[test]
fn second_lock_is_refused_until_the_first_is_dropped() {
    everywhere(|directory| {
        let lock = directory.lock().unwrap();
        let Err(LockRefused::Held(owner)) = directory.lock() else {
            panic!("locked twice");
        };
        assert_eq!(owner, Some(std::process::id()));
        drop(lock);
        drop(directory.lock().unwrap());
    });
}

#[test]
fn distrustful_open_shows_what_was_synced() {
    everywhere(|directory| {
        let file = durable_file(directory, "tail", &vec![7; 40_000]);
        drop(file);
        for from in [0, 1, 4096, 39_999, 40_000, 50_000, u64::MAX] {
            for to in [0, 1, 20_000, 40_000, u64::MAX] {
                let file = directory.open("tail", Access::Distrust { from, to }).unwrap();
                assert_eq!(bytes_of(&file, 0, 40_000), vec![7; 40_000]);
                file.write_at(0, &[7]).unwrap();
            }
        }
    });
}

#[test]
fn distrustful_open_beside_a_map_rewrites_what_stays_cached() {
    everywhere(|directory| {
        let file = durable_file(directory, "tail", &vec![7; 20_000]);
        let map = file.map(20_000, false).unwrap();
        map.populate_read(0..20_000).unwrap();
        map.publish(20_000);
        let again = directory.open("tail", Access::Distrust { from: 5000, to: u64::MAX }).unwrap();
        assert_eq!(bytes_of(&again, 0, 20_000), vec![7; 20_000]);
        assert_eq!(map.bytes(0..20_000).unwrap(), vec![7; 20_000]);
    });
}

#[test]
fn full_fsync_is_refused_where_it_does_not_exist() {
    let temporary = tempfile::tempdir().unwrap();
    let file = durable_file(&*os_door::open(temporary.path(), false).unwrap(), "file", b"x");
    let done = file.sync(0..1, SyncMethod::FullFsync);
    assert_eq!(done.is_ok(), cfg!(target_vendor = "apple"));
}

#[test]
fn symbolic_links_and_pipes_are_no_files() {
    let temporary = tempfile::tempdir().unwrap();
    let outside = temporary.path().join("outside");
    std::fs::write(&outside, b"secret").unwrap();
    let directory = os_door::open(temporary.path().join("log"), true).unwrap();
    std::os::unix::fs::symlink(&outside, temporary.path().join("log").join("link")).unwrap();
    std::fs::create_dir(temporary.path().join("log").join("sub")).unwrap();
    for access in [Access::Read, Access::Write, Access::Distrust { from: 0, to: u64::MAX }] {
        assert!(directory.open("link", access).is_err());
        assert!(directory.open("sub", access).is_err());
    }
    let mut listed = directory.list().unwrap();
    listed.sort();
    assert_eq!(
        listed,
        [
            DirectoryEntry::other("link", "a symbolic link"),
            DirectoryEntry::other("sub", "a directory"),
        ]
    );
    assert!(os_door::open(temporary.path().join("missing"), false).is_err());
    assert!(os_door::open(&outside, false).is_err());
}

#[test]
fn full_disk_is_storage_full_and_leaves_no_file() {
    let refuses = |directory: &dyn Directory, bytes| {
        let error = directory.create(bytes, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(names(directory), []);
    };
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(10_000));
    refuses(&disk, 10_001);
    // A small file system of its own: the kernel takes what there is before it says that it is full.
    let Some(small) = Small::mount("128k") else {
        eprintln!("SKIPPED for the operating system: needs the right to mount a tmpfs");
        return;
    };
    refuses(&*os_door::open(small.0.path(), false).unwrap(), 1 << 20);
}

/// A small file system, if this machine lets us mount one.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(place.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(self.0.path()).output();
    }
}

// The simulated disk: what a crash leaves.

#[test]
fn file_sync_does_not_carry_the_name() {
    let disk = SimDisk::new(2);
    let (temporary, file) = disk.create(3, true).unwrap();
    file.write_at(0, b"abc").unwrap();
    file.sync(0..3, Fsync).unwrap();
    disk.rename(&temporary, "name").unwrap();
    assert_eq!(names(&disk.crash_copy(Persistence::Nothing)), []);
    assert_eq!(names(&disk.crash_copy(Persistence::Everything)), [("name".to_owned(), 3)]);
    disk.sync().unwrap();
    let after = disk.crash_with(Persistence::Nothing);
    assert_eq!(survivors(&after, "name", 3), b"abc");
}

#[test]
fn directory_sync_does_not_carry_bytes_nor_length() {
    let disk = SimDisk::new(3);
    let (temporary, file) = disk.create(0, true).unwrap();
    file.write_at(0, b"abc").unwrap();
    disk.rename(&temporary, "name").unwrap();
    disk.sync().unwrap();
    assert_eq!(names(&disk.crash_copy(Persistence::Nothing)), [("name".to_owned(), 0)]);
    assert_eq!(disk.dirty_units(), 2);
    // The length alone: the bytes are zeros.
    assert_eq!(survivors(&disk.crash_copy(Persistence::Mask(0b01)), "name", 3), [0; 3]);
    // The bytes alone: the file is empty.
    assert_eq!(names(&disk.crash_copy(Persistence::Mask(0b10))), [("name".to_owned(), 0)]);
    assert_eq!(survivors(&disk.crash_with(Persistence::Mask(0b11)), "name", 3), b"abc");
}

#[test]
fn every_subset_of_dirty_sectors_and_names_is_a_crash_state() {
    let disk = SimDisk::new(4);
    let file = durable_file(&disk, "file", &[0; 4 * SECTOR_BYTES]);
    file.write_at(0, &[1; SECTOR_BYTES]).unwrap();
    file.write_at(3 * SECTOR_BYTES as u64, &[1; SECTOR_BYTES]).unwrap();
    disk.rename("file", "moved").unwrap();
    let units = disk.units();
    assert_eq!(units.len(), 3);
    assert_eq!(units[1], Unit::Sector { name: "moved".into(), sector: 3 });
    assert_eq!(units[2], Unit::Link { name: "moved".into() });
    for mask in 0..8 {
        let after = disk.crash_with(Persistence::Mask(mask));
        let name = if mask & 4 == 4 { "moved" } else { "file" };
        let bytes = survivors(&after, name, 4 * SECTOR_BYTES);
        assert_eq!(names(&after).len(), 1, "a rename leaves one name");
        assert_eq!(u64::from(bytes[0]), mask & 1);
        assert_eq!(u64::from(bytes[3 * SECTOR_BYTES]), mask >> 1 & 1);
        assert_eq!(after.dirty_units(), 0);
        assert_eq!(after.durable_image(), after.image());
    }
}

#[test]
fn renames_chained_without_a_sync_leave_one_name() {
    let disk = SimDisk::new(5);
    durable_file(&disk, "a", b"first");
    durable_file(&disk, "b", b"second");
    disk.rename("a", "c").unwrap();
    disk.rename("c", "b").unwrap();
    disk.remove("b").unwrap();
    for mask in 0..8_u64 {
        let left = names(&disk.crash_copy(Persistence::Mask(mask)));
        let expected: &[&str] = match mask {
            0 => &["a", "b"],
            0b001 => &["b", "c"],
            0b010..=0b101 => &["b"],
            _ => &[],
        };
        assert_eq!(left.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
    }
    disk.set_name_order(NameOrder::Prefix);
    let left = names(&disk.crash_with(Persistence::Mask(0b110)));
    assert_eq!(left.len(), 2, "nothing survives without what came before it");
}

#[test]
fn torn_sector_is_cut_at_a_byte() {
    let disk = SimDisk::new(6);
    let file = durable_file(&disk, "file", &[0; SECTOR_BYTES]);
    file.write_at(0, &[1; SECTOR_BYTES]).unwrap();
    for (way, front, back) in [(2, 1, 0), (3, 0, 1)] {
        let mut answers = vec![99, way].into_iter().rev().cycle();
        let after = disk.crash(&mut |_| answers.next().unwrap());
        let bytes = survivors(&after, "file", SECTOR_BYTES);
        assert!(bytes[..100].iter().all(|&byte| byte == front));
        assert!(bytes[100..].iter().all(|&byte| byte == back));
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let bytes = survivors(&disk.crash_with(Persistence::Random(seed)), "file", SECTOR_BYTES);
        seen.insert(bytes.iter().map(|&byte| usize::from(byte)).sum::<usize>());
    }
    assert!(seen.contains(&0) && seen.contains(&SECTOR_BYTES) && seen.len() > 20, "{seen:?}");
}

#[test]
fn msync_and_dsync_cover_their_range_only() {
    for method in [Msync, Dsync] {
        let disk = SimDisk::new(7);
        let file = durable_file(&disk, "file", &[0; 8 * SECTOR_BYTES]);
        let map = file.map(8 * SECTOR_BYTES as u64, true).unwrap();
        map.store(0, &[1; 8 * SECTOR_BYTES]).unwrap();
        file.sync(1000..1030, method).unwrap();
        assert_eq!(disk.dirty_units(), 6);
        let bytes = survivors(&disk.crash_with(Persistence::Nothing), "file", 8 * SECTOR_BYTES);
        assert_eq!(bytes.iter().position(|&byte| byte == 1), Some(SECTOR_BYTES));
        assert_eq!(bytes.iter().rposition(|&byte| byte == 1), Some(3 * SECTOR_BYTES - 1));
    }
}

#[test]
fn failed_sync_then_good_sync_leaves_the_medium_old_and_distrust_shows_it() {
    for method in [Fdatasync, Fsync, Msync, Dsync] {
        let disk = SimDisk::new(8);
        let file = durable_file(&disk, "file", b"old");
        file.write_at(0, b"new").unwrap();
        disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
        assert!(file.sync(0..3, method).is_err());
        file.sync(0..3, method).unwrap();
        assert_eq!(bytes_of(&file, 0, 3), b"new", "the cache does not tell");
        assert_eq!(survivors(&disk.crash_copy(Persistence::Everything), "file", 3), b"old");

        let restarted = disk.kill();
        let trusting = restarted.open("file", Access::Write).unwrap();
        assert_eq!(bytes_of(&trusting, 0, 3), b"new");
        trusting.sync(0..3, method).unwrap();
        let wary = restarted.open("file", Access::Distrust { from: 0, to: u64::MAX }).unwrap();
        assert_eq!(bytes_of(&wary, 0, 3), b"old");
        assert_eq!(bytes_of(&trusting, 0, 3), b"old");
    }
}

#[test]
fn distrust_of_a_mapped_file_puts_the_cache_on_the_medium() {
    let disk = SimDisk::new(9);
    let file = durable_file(&disk, "file", b"old");
    let map = file.map(3, true).unwrap();
    map.store(0, b"new").unwrap();
    map.publish(3);
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    assert!(file.sync(0..3, Fdatasync).is_err());
    let wary = disk.open("file", Access::Distrust { from: 0, to: u64::MAX }).unwrap();
    assert_eq!(bytes_of(&wary, 0, 3), b"new");
    assert_eq!(map.bytes(0..3).unwrap(), b"new");
    assert_eq!(survivors(&disk.crash_with(Persistence::Nothing), "file", 3), b"new");
}

#[test]
fn failed_writeback_is_reported_once_to_whoever_syncs_next() {
    let disk = SimDisk::new(10);
    let file = durable_file(&disk, "file", b"old");
    file.write_at(0, b"new").unwrap();
    disk.fail_writeback("file").unwrap();
    let disk = disk.kill();
    assert!(disk.open("file", Access::Distrust { from: 0, to: u64::MAX }).is_err());
    let file = disk.open("file", Access::Distrust { from: 0, to: u64::MAX }).unwrap();
    assert_eq!(bytes_of(&file, 0, 3), b"old");
}

#[test]
fn partial_sync_puts_some_sectors_on_the_medium() {
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "file", &[0; 16 * SECTOR_BYTES]);
        file.write_at(0, &[1; 16 * SECTOR_BYTES]).unwrap();
        disk.fail_next(Op::Sync, Fault::IoPartial, Repeat::Once);
        assert!(file.sync(0..1, Fdatasync).is_err());
        assert_eq!(disk.dirty_units(), 0, "they are clean whether they got there or not");
        let after = survivors(&disk.crash_with(Persistence::Everything), "file", 16 * SECTOR_BYTES);
        reached.insert(after.iter().map(|&byte| usize::from(byte)).sum::<usize>() / SECTOR_BYTES);
    }
    assert!(reached.len() > 4, "{reached:?}");
}

#[test]
fn killed_process_leaves_the_cache_and_frees_the_lock() {
    let disk = SimDisk::new(11);
    let file = durable_file(&disk, "file", b"old");
    let map = file.map(3, true).unwrap();
    let lock = disk.lock().unwrap();
    map.store(0, b"new").unwrap();
    disk.create(1, true).unwrap();
    let after = disk.kill();
    assert!(disk.is_down() && !after.is_down());
    drop((lock, after.lock().unwrap()));
    assert_eq!(survivors(&after, "file", 3), b"new");
    assert_eq!(names(&after).len(), 2);
    assert_eq!(after.dirty_units(), 3);
    assert!(map.store(0, b"bad").is_err());
    assert!(file.write_at(0, b"bad").is_err() && file.read_at(0, &mut [0]).is_err());
    assert!(file.sync(0..3, Fdatasync).is_err() && file.map(3, false).is_err());
    assert!(disk.list().is_err() && disk.sync().is_err() && disk.remove("file").is_err());
    assert_eq!(survivors(&after, "file", 3), b"new");
    assert_eq!(survivors(&after.crash_with(Persistence::Nothing), "file", 3), b"old");
}

// The simulated disk: faults in calls.

fn workload(disk: &SimDisk) -> std::io::Result<()> {
    let (name, file) = disk.create(4096, true)?;
    file.write_at(0, &[1; 2048])?;
    file.sync(0..2048, Fdatasync)?;
    disk.rename(&name, "done")?;
    disk.sync()?;
    file.write_at(2048, &[2; 2048])?;
    file.sync(2048..4096, Fdatasync)
}

#[test]
fn every_call_can_fail_once_or_forever() {
    let calls = {
        let disk = SimDisk::new(12);
        workload(&disk).unwrap();
        assert_eq!(disk.counts().syncs_by_file["done"], 2);
        let trace: Vec<Op> = disk.trace().iter().map(|call| call.op).collect();
        let sync = [Op::Write, Op::Sync];
        assert_eq!(trace[..3], [Op::Create, sync[0], sync[1]]);
        assert_eq!(trace[3..], [Op::Rename, Op::SyncDirectory, sync[0], sync[1]]);
        disk.calls()
    };
    assert_eq!(calls, 7);
    for call in 1..=calls {
        for fault in [Fault::Io, Fault::IoPartial, Fault::ReadOnly, Fault::Full] {
            let disk = SimDisk::new(12);
            disk.fail_call(call, fault, Repeat::Once);
            let error = workload(&disk).unwrap_err();
            assert_eq!(disk.counts().faults, 1);
            assert_eq!(error.kind() == ErrorKind::StorageFull, fault == Fault::Full);
            let next = disk.sync();
            let expected = (fault == Fault::ReadOnly).then_some(ErrorKind::ReadOnlyFilesystem);
            assert_eq!(next.err().map(|error| error.kind()), expected);

            let disk = SimDisk::new(12);
            disk.fail_call(call, fault, Repeat::Forever);
            assert!(workload(&disk).is_err() && workload(&disk).is_err());
            disk.clear_faults();
            workload(&disk).unwrap();
        }
        let disk = SimDisk::new(12);
        disk.fail_call(call, Fault::Delay(Duration::from_millis(1)), Repeat::Once);
        workload(&disk).unwrap();
        assert_eq!((disk.counts().delays, disk.counts().directory_syncs), (1, 1));
    }
}

#[test]
fn machine_can_stop_before_and_within_every_call() {
    for moment in [Moment::Before, Moment::Within] {
        for call in 1..=7 {
            let disk = SimDisk::new(13);
            disk.crash_at_call(call, moment);
            assert!(workload(&disk).is_err());
            assert!(disk.is_down() && workload(&disk).is_err());
            assert_eq!(disk.calls(), call);
            let old = disk.crash_with(Persistence::Nothing);
            let new = disk.crash_with(Persistence::Everything);
            match (call, moment) {
                (6.., _) => assert_eq!(survivors(&old, "done", 2048), [1; 2048]),
                (5, Moment::Before) => assert_eq!(names(&old), []),
                _ => {}
            }
            if call >= 5 {
                assert_eq!(survivors(&new, "done", 2048), [1; 2048]);
            }
            workload(&old).unwrap();
            workload(&new).unwrap();
        }
    }
}

#[test]
fn same_seed_and_calls_give_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        workload(&disk).unwrap();
        disk.crash_at_call(disk.calls() + 2, Moment::Within);
        assert!(workload(&disk).is_err());
        let after = disk.crash_with(Persistence::Random(3));
        (after.image(), after.random())
    };
    assert_eq!(run(14), run(14));
    assert_ne!(run(14), run(15));
}

#[test]
fn disk_can_be_full_at_any_byte_of_a_write() {
    for capacity in 0..=300 {
        let disk = SimDisk::new(16);
        disk.set_capacity(Some(capacity));
        let (name, file) = disk.create(0, false).unwrap();
        file.write_at(0, &[1; 100]).ok();
        let written = file.write_at(100, &[2; 200]);
        assert_eq!(written.is_ok(), capacity == 300);
        assert!(disk.used() <= capacity);
        assert_eq!(names(&disk)[0].1, capacity);
        file.write_at(0, &vec![3; usize::try_from(capacity).unwrap()]).unwrap();
        disk.remove(&name).unwrap();
        assert_eq!(disk.used(), 0);
        disk.create(capacity, true).unwrap();
        assert_eq!(disk.create(1, true).unwrap_err().kind(), ErrorKind::StorageFull);
    }
}

#[test]
fn rot_changes_the_medium_without_an_error() {
    let sector = SECTOR_BYTES;
    let bytes: Vec<u8> = (0..4).flat_map(|n| vec![n + 1; sector]).collect();
    let disk = SimDisk::new(17);
    let file = durable_file(&disk, "file", &bytes);
    file.write_at(0, &[9; SECTOR_BYTES]).unwrap();
    file.sync(0..1, Fdatasync).unwrap();
    let rotten = |rot| {
        let disk = disk.kill();
        disk.rot("file", rot).unwrap();
        let seen = survivors(&disk, "file", 4 * sector);
        assert_eq!(survivors(&disk.crash_with(Persistence::Nothing), "file", 4 * sector), seen);
        seen
    };
    assert_eq!(rotten(Rot::FlipBit { offset: 515, bit: 7 })[514..517], [2, 130, 2]);
    assert_eq!(rotten(Rot::ZeroSector { sector: 3 })[3 * sector..], [0; SECTOR_BYTES]);
    assert_eq!(rotten(Rot::StaleSector { sector: 0 })[..sector], [1; SECTOR_BYTES]);
    assert_eq!(rotten(Rot::Misdirected { from: 1, to: 2 })[2 * sector..3 * sector], [2; 512]);
    assert!(disk.rot("file", Rot::ZeroSector { sector: 4 }).is_err());
    assert!(disk.rot("none", Rot::ZeroSector { sector: 0 }).is_err());
    disk.rot("file", Rot::Remove).unwrap();
    assert_eq!(names(&disk.crash_with(Persistence::Nothing)), []);
}

#[test]
fn rot_under_a_borrowed_page_shows_after_a_restart() {
    let disk = SimDisk::new(18);
    let file = durable_file(&disk, "file", &[1; 1024]);
    let map = file.map(1024, false).unwrap();
    map.publish(1024);
    let borrowed = map.bytes(0..1024).unwrap();
    disk.rot("file", Rot::ZeroSector { sector: 0 }).unwrap();
    assert_eq!(borrowed, [1; 1024]);
    assert_eq!(disk.open("file", Access::Write).map(|file| bytes_of(&file, 0, 1)).unwrap(), [1]);
    assert_eq!(survivors(&disk.crash_with(Persistence::Nothing), "file", 1), [0]);
}

#[test]
fn image_goes_out_and_comes_back() {
    let disk = SimDisk::new(19);
    workload(&disk).unwrap();
    durable_file(&disk, "odd", &[5; 777]);
    let image = disk.image();
    let copy = SimDisk::from_image(1, &image);
    assert_eq!(copy.image(), image);
    assert_eq!(copy.crash_with(Persistence::Nothing).image(), image);
}
