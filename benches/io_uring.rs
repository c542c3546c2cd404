//! Ways to put bytes on the medium, beside the floor: one call that is durable on return, direct
//! writes, and `io_uring`, a write linked to an fsync and submitted with one system call.
//!
//! `cargo bench -p indelible-benches --bench io_uring`
//!
//! Of the engine nothing runs here. It is the reason why it writes as it does (docs/DESIGN.md).

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::print_stdout, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]
#![expect(unsafe_code, reason = "the kernel is told where memory is; nothing else here is unsafe")]

#[path = "support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;

use criterion::{Criterion, criterion_group, criterion_main};
use io_uring::{IoUring, opcode, squeue, types};
use support::{Contender, DirectFloor, Floor, directory, print_table, rounds, settle, take_turns};

const FILE_BYTES: u64 = 64 << 20;

/// Writes and syncs with one submission, and waits for both.
fn write_then_sync(ring: &RefCell<IoUring>, file: &File, offset: u64, bytes: &[u8]) {
    let ring = &mut *ring.borrow_mut();
    let fd = types::Fd(file.as_raw_fd());
    let len = u32::try_from(bytes.len()).unwrap();
    let write = opcode::Write::new(fd, bytes.as_ptr(), len).offset(offset).build();
    let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
    let entries = [write.flags(squeue::Flags::IO_LINK), sync];
    // SAFETY: file and bytes are borrowed until both entries are complete, which is waited for below.
    unsafe { ring.submission().push_multiple(&entries) }.unwrap();
    ring.submit_and_wait(entries.len()).unwrap();
    let results: Vec<i32> = ring.completion().map(|done| done.result()).collect();
    assert!(results.len() == 2 && results.iter().all(|&result| result >= 0), "{results:?}");
}

fn ways(_: &mut Criterion) {
    let place = directory();
    let Ok(ring) = IoUring::new(8).map(RefCell::new) else {
        println!("left out: this system has no io_uring");
        return;
    };
    for bytes in [288, 4096, 28 * 1024, 256 * 1024] {
        let same_bytes = vec![0xa5; bytes];
        let mut floor = Floor::new(place.path(), FILE_BYTES);
        let through = Floor::named(place.path(), "through", FILE_BYTES);
        let ringed = Floor::named(place.path(), "ring", FILE_BYTES);
        let direct = |name: &str| {
            let place = place.path().join(name);
            std::fs::create_dir_all(&place).unwrap();
            DirectFloor::new(&place, FILE_BYTES)
        };
        let directs = ["one", "two", "three"].map(direct);
        let [Ok(mut one), Ok(mut two), Ok(mut three)] = directs else {
            println!("this file system takes no direct writes");
            return;
        };
        let next = |at: &mut u64| {
            *at = if *at + 2 * bytes as u64 > FILE_BYTES { 0 } else { *at + bytes as u64 };
            *at
        };
        let (mut a, mut b) = (0, 0);
        let mut contenders = vec![
            Contender::new("floor: pwrite + fdatasync", || floor.append(&same_bytes)),
            Contender::new("pwritev2, RWF_DSYNC", || {
                let slices = [std::io::IoSlice::new(&same_bytes)];
                let flags = rustix::io::ReadWriteFlags::DSYNC;
                let written = rustix::io::pwritev2(through.file(), &slices, next(&mut a), flags);
                assert_eq!(written.unwrap(), bytes);
            }),
            Contender::new("io_uring: write, fsync", || {
                write_then_sync(&ring, ringed.file(), next(&mut b), &same_bytes);
            }),
        ];
        contenders.push(Contender::new("O_DIRECT, RWF_DSYNC", || one.append(&same_bytes).unwrap()));
        contenders.push(Contender::new("O_DIRECT, fdatasync", || {
            let (at, range) = two.blocks(bytes);
            std::os::unix::fs::FileExt::write_all_at(&two.file, &two.memory[range], at).unwrap();
            two.file.sync_data().unwrap();
        }));
        contenders.push(Contender::new("O_DIRECT, io_uring: write, fsync", || {
            let (at, range) = three.blocks(bytes);
            write_then_sync(&ring, &three.file, at, &three.memory[range]);
        }));
        settle();
        let times = take_turns(&mut contenders, rounds(100), 8);
        print_table(&format!("io_uring/{bytes} B"), &contenders, &times, 1);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = ways
}
criterion_main!(benches);
