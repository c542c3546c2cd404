//! Reads of what is cached: one entry and 10 000, borrowed and owned, and the bounds.
//!
//! Two floors: one `pread` of the same payload bytes out of a file that has nothing else, into a buffer
//! that is used again; and a copy of them from memory to memory. Every read of a range ends with
//! a look at each entry.
//!
//! `cargo bench -p indelible-benches --bench read`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::disallowed_types, clippy::cast_possible_truncation)]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Batch, Durability, Log, Options};
use support::{Contender, Times, directory, print_table, rounds, take_turns};

const ENTRIES: u64 = 100_000;
const ENTRY_BYTES: usize = 256;
const RANGE: u64 = 10_000;
/// Single reads in one turn.
const POINTS: u64 = 1000;

/// Fills a log with entries in batches of a thousand.
fn fill(log: &Log) {
    let entry = [0xa5; ENTRY_BYTES];
    for _ in 0..ENTRIES / 1000 {
        let mut batch = Batch::new();
        for _ in 0..1000 {
            batch.append(&entry);
        }
        log.commit(&batch).unwrap();
    }
}

/// A log whose entries lie in sealed segments and in the tail, reopened so that nothing is known
/// of it but what is on disk.
fn reopened(path: &Path, segment_bytes: u64) -> Log {
    let options = Options::new().segment_bytes(segment_bytes).durability(Durability::Os);
    let log = Log::create(path, &options).unwrap();
    fill(&log);
    log.close().unwrap();
    Log::open(path, &options).unwrap().0
}

/// The same payloads in a file that has nothing else, and in memory.
struct Floors {
    file: File,
    memory: Vec<u8>,
    buffer: Vec<u8>,
}

impl Floors {
    fn new(place: &Path) -> Self {
        let path = place.join("payloads");
        let memory = vec![0xa5; ENTRIES as usize * ENTRY_BYTES];
        std::fs::write(&path, &memory).unwrap();
        let buffer = vec![1; RANGE as usize * ENTRY_BYTES];
        Self { file: File::open(path).unwrap(), memory, buffer }
    }

    fn pread(&mut self, range: Range<u64>) {
        let (at, len) = Self::place(range);
        self.file.read_exact_at(&mut self.buffer[..len], at as u64).unwrap();
        black_box(&self.buffer);
    }

    fn copy(&mut self, range: Range<u64>) {
        let (at, len) = Self::place(range);
        self.buffer[..len].copy_from_slice(&self.memory[at..at + len]);
        black_box(&self.buffer);
    }

    fn place(range: Range<u64>) -> (usize, usize) {
        let len = (range.end - range.start) as usize * ENTRY_BYTES;
        (range.start as usize * ENTRY_BYTES, len)
    }
}

/// Reads `range` in one way and looks at each entry of it.
type Read = fn(&Log, Range<u64>);

fn look<'a>(entries: impl Iterator<Item = &'a [u8]>) {
    assert!(entries.map(|entry| black_box(entry).len()).sum::<usize>() >= ENTRY_BYTES);
}

const WAYS: [(&str, Read); 3] = [
    ("borrowed", |log, range| look(log.read(range).unwrap().iter())),
    ("owned, one buffer", |log, range| look(log.read_owned(range).unwrap().iter())),
    ("owned, a vector an entry", |log, range| {
        look(log.read_to_vec(range).unwrap().iter().map(Vec::as_slice));
    }),
];

/// Has the floors and the ways to read take turns at ranges of `len` entries, `reads` in a turn.
fn take(log: &Log, floors: [&mut Floors; 2], len: u64, reads: u64, title: &str) {
    // Somewhere else in each turn, the same places for everybody.
    let ranges = move |turn: &mut u64| {
        *turn += reads;
        let places = (*turn..*turn + reads).map(move |nth| nth * 7919 % (ENTRIES - len));
        places.map(move |first| first..first + len)
    };
    let [pread, copy] = floors;
    let mut turns = [0; 6];
    let [a, b, rest @ .., last] = &mut turns;
    let mut contenders = vec![
        Contender::new("pread: one buffer, used again", || ranges(a).for_each(|r| pread.pread(r))),
        Contender::new("memcpy: one buffer, used again", || ranges(b).for_each(|r| copy.copy(r))),
    ];
    for ((name, read), turn) in WAYS.into_iter().zip(rest) {
        contenders.push(Contender::new(name, move || {
            ranges(turn).for_each(|range| read(log, range));
        }));
    }
    if len == 1 {
        let entry = move |range: Range<u64>| black_box(log.entry(range.start).unwrap()).len();
        contenders.push(Contender::new("owned, by `Log::entry`", move || {
            assert_eq!(ranges(last).map(entry).sum::<usize>(), reads as usize * ENTRY_BYTES);
        }));
    }
    let mut contenders: Vec<_> =
        contenders.into_iter().map(|contender| contender.units(reads as usize)).collect();
    let times: Vec<Times> = take_turns(&mut contenders, rounds(60), 3);
    print_table(title, &contenders, &times, 2);
}

fn reads(criterion: &mut Criterion) {
    let place = directory();
    let (mut pread, mut copy) = (Floors::new(place.path()), Floors::new(place.path()));
    let memory = Log::in_memory(&Options::new()).unwrap();
    fill(&memory);
    let logs = [
        ("tail", reopened(&place.path().join("tail"), 64 << 20)),
        ("sealed", reopened(&place.path().join("sealed"), 4 << 20)),
        ("memory", memory),
    ];
    for (name, log) in &logs {
        let title = format!("read/{name}/one entry of 256 B");
        take(log, [&mut pread, &mut copy], 1, POINTS, &title);
        let title = format!("read/{name}/{RANGE} entries of 256 B");
        take(log, [&mut pread, &mut copy], RANGE, 1, &title);
    }
    let [_, _, (_, log)] = &logs;
    criterion.bench_function("read/bounds", |bencher| {
        bencher.iter(|| (black_box(log).first(), black_box(log).next()));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = reads
}
criterion_main!(benches);
