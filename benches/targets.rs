//! The targets of the design, each beside its limit, in one interleaved run of some minutes.
//!
//! `cargo bench -p indelible-benches --bench targets`, with `-- synced` or another part's name after it
//! for some of them alone.
//!
//! The last lines are one table in Markdown. What has a bench of its own is not here: opens and scans
//! (`lifecycle`), groups, and what needs other logs and stores (`benches/peers`).

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::print_stdout, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, clippy::cast_precision_loss)]
#![allow(clippy::cast_possible_truncation)]

#[path = "support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Durability, Log, Options, SyncMethod, Witness, WriteMode};
use support::{
    Contender, DirectFloor, Floor, Times, batch, directory, is_test, print_table, rounds, settle,
    start_over, take_turns, time,
};

/// Rows of the table at the end: what, measured, target, met.
type Rows = RefCell<Vec<[String; 4]>>;

fn row(rows: &Rows, what: &str, got: String, target: String, met: bool) {
    let met = if met { "met" } else { "missed" };
    rows.borrow_mut().push([what.to_owned(), got, target, met.to_owned()]);
}

/// A row whose value may be no more than this.
fn at_most(rows: &Rows, what: &str, got: f64, limit: f64) {
    row(rows, what, format!("{got:.2} x"), format!("<= {limit:.2} x"), got <= limit);
}

/// Durable appends of `Buffered` and `Direct`, with and without witnesses, beside both floors.
fn synced(rows: &Rows) {
    let place = directory();
    let log = |name: &'static str, options: Options| {
        Some((name, Log::create(place.path().join(name), &options).ok()?))
    };
    let buffered = || Options::new().write_mode(WriteMode::Buffered);
    let direct = || Options::new().write_mode(WriteMode::Direct);
    // Where direct writes cannot be had two are missing.
    let logs: Vec<_> = [
        log("Buffered", buffered()),
        log("Buffered, no witness", buffered().witness(Witness::None)),
        log("Buffered, RWF_DSYNC", buffered().sync_method(SyncMethod::Dsync)),
        log("Direct", direct()),
        log("Direct, no witness", direct().witness(Witness::None)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let floor = RefCell::new(Floor::new(place.path(), 64 << 20));
    let direct_floor = DirectFloor::new(place.path(), 64 << 20).ok().map(RefCell::new);
    settle();
    for (bytes, count, limits) in
        [(256, 1, [0.97, 1.02]), (256, 100, [0.93, 1.02]), (64 * 1024, 16, [0.70, 1.10])]
    {
        let (entry, same_bytes) = (vec![0xa5; bytes], vec![0xa5; bytes * count]);
        let batch = batch(&entry, count);
        let mut contenders = vec![Contender::new("floor: pwrite + fdatasync", || {
            floor.borrow_mut().append(&same_bytes);
        })];
        if let Some(floor) = &direct_floor {
            contenders.push(Contender::new("direct: O_DIRECT, RWF_DSYNC", || {
                floor.borrow_mut().append(&same_bytes).unwrap();
            }));
        }
        let floors = contenders.len();
        for (name, log) in &logs {
            contenders.push(Contender::new(*name, || {
                log.commit(&batch).unwrap();
            }));
        }
        let times = take_turns(&mut contenders, rounds(if count == 16 { 60 } else { 250 }), 4);
        let title = format!("targets/synced, {count} x {bytes} B");
        print_table(&title, &contenders, &times, floors);
        let names: Vec<_> = contenders.iter().map(|it| it.name.clone()).collect();
        let of = |name: &str| times.get(names.iter().position(|it| it == name)?);
        judge(rows, &format!("{count} x {bytes} B, durable"), &times[..floors], of, limits);
        drop(contenders);
        for (_, log) in &logs {
            start_over(log);
        }
    }
}

/// The rows of one size, from the times of the floors and of what has this name.
fn judge<'a>(
    rows: &Rows,
    size: &str,
    floors: &[Times],
    of: impl Fn(&str) -> Option<&'a Times>,
    limits: [f64; 2],
) {
    for name in ["Buffered", "Buffered, RWF_DSYNC", "Direct"] {
        let Some(own) = of(name) else { continue };
        let what = format!("{size}, {name}");
        let names = ["the floor", "the direct floor"];
        for ((floor, limit), name) in floors.iter().zip(limits).zip(names) {
            at_most(rows, &format!("{what}: of {name}"), own.ratio(floor), limit);
        }
        let p99 = own.percentile(0.99) / floors[0].percentile(0.99);
        at_most(rows, &format!("{what}: p99 of the floor's"), p99, 1.0);
        if let Some(bare) = of(&format!("{name}, no witness")) {
            at_most(rows, &format!("{what}: witness on / off"), own.ratio(bare), 1.03);
        }
    }
    if let (Some(buffered), Some(direct)) = (of("Buffered"), of("Direct")) {
        let ratio = format!("{:.2} x", direct.ratio(buffered));
        row(rows, &format!("{size}: Direct / Buffered"), ratio, "the default".into(), true);
    }
}

/// What an entry costs that no commit waits for.
fn unsynced(rows: &Rows) {
    let place = directory();
    let options = Options::new().durability(Durability::Barrier);
    let entry = [0xa5; 256];
    for (count, target) in [(1, 5e6), (100, 7e6)] {
        let log = Log::create(place.path().join(count.to_string()), &options).unwrap();
        settle();
        // Less than may be ahead of a checkpoint.
        let commits = if is_test() { 2 } else { 8000 / count };
        let batch = batch(&entry, count);
        let mut contenders = [Contender::new(format!("Barrier, batches of {count}"), || {
            for _ in 0..commits {
                log.commit(&batch).unwrap();
            }
        })
        .units(commits * count)
        .rest(|| start_over(&log))];
        let times = take_turns(&mut contenders, rounds(40), 1);
        print_table("targets/unsynced, by entry", &contenders, &times, 0);
        let rate = 1.0 / times[0].median().max(1e-12);
        let what = format!("unsynced, batches of {count}");
        let (got, target_text) =
            (format!("{:.1} M/s", rate / 1e6), format!(">= {} M/s", target / 1e6));
        row(rows, &what, got, target_text, rate >= target);
    }
}

const READ: u64 = 10_000;

/// Reads of what is in memory and in the page cache.
fn reads(rows: &Rows) {
    let place = directory();
    let options = Options::new().durability(Durability::Os);
    let log = Log::create(place.path().join("log"), &options).unwrap();
    let entry = [0xa5; 256];
    for _ in 0..(if is_test() { 200 } else { 1000 }) {
        log.commit(&batch(&entry, 100)).unwrap();
    }
    log.sync().unwrap();
    let path = place.path().join("payloads");
    std::fs::write(&path, vec![0xa5; READ as usize * 288]).unwrap();
    let file = File::open(path).unwrap();
    let (next, mut buffer, mut out) = (log.next(), vec![1; READ as usize * 288], Vec::new());
    let (points, one) = (1000_u64, RefCell::new([0; 288]));
    let mut contenders = vec![
        Contender::new("pread: 288 B", || {
            (0..points).for_each(|nth| {
                file.read_exact_at(&mut *one.borrow_mut(), nth * 288).unwrap();
            });
        })
        .units(points as usize),
        Contender::new("one of the newest", || {
            (0..points).for_each(|nth| {
                black_box(log.entry(next - 1 - nth).unwrap());
            });
        })
        .units(points as usize),
        Contender::new("any other one, copied", || {
            (0..points).for_each(|nth| {
                black_box(log.entry(nth * 7).unwrap());
            });
        })
        .units(points as usize),
        Contender::new("pread and copy of 10 000", || {
            file.read_exact_at(&mut buffer, 0).unwrap();
            out.clear();
            out.extend_from_slice(&buffer);
            black_box(&out);
        }),
        Contender::new("10 000 owned", || {
            let read = log.read_owned(0..READ).unwrap();
            assert_eq!(read.iter().map(<[u8]>::len).sum::<usize>(), 256 * READ as usize);
        }),
        Contender::new("10 000 borrowed", || {
            let read = log.read(0..READ).unwrap();
            assert_eq!(read.iter().map(<[u8]>::len).sum::<usize>(), 256 * READ as usize);
        }),
    ];
    let times: Vec<Times> = take_turns(&mut contenders, rounds(60), 3);
    print_table("targets/reads", &contenders, &times, 1);
    let absolute = |what, at: usize, limit: f64| {
        let got = times[at].median();
        row(rows, what, time(got), format!("<= {}", time(limit)), got <= limit);
    };
    absolute("one of the newest, from memory", 1, 0.2e-6);
    row(
        rows,
        "any other one, copied",
        format!("{} = {:.2} x pread", time(times[2].median()), times[2].ratio(&times[0])),
        "one pread".into(),
        true,
    );
    at_most(rows, "10 000 owned: of pread + copy", times[4].ratio(&times[3]), 0.8);
    absolute("10 000 borrowed", 5, 0.1e-3);
}

/// What `crc32fast` 1.5.4 computes a checksum of so many bytes with on this machine, as its source
/// says (`src/specialized`).
fn checksum_by(bytes: usize) -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if std::arch::is_x86_feature_detected!("pclmulqdq") {
        let wide = std::arch::is_x86_feature_detected!("vpclmulqdq");
        let avx512 = wide && std::arch::is_x86_feature_detected!("avx512f");
        let avx2 = wide && std::arch::is_x86_feature_detected!("avx2");
        return match bytes {
            2048.. if avx512 => "VPCLMULQDQ, 512 bits",
            256.. if avx512 || avx2 => "VPCLMULQDQ, 256 bits",
            16.. => "PCLMULQDQ",
            _ => "tables",
        };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("crc") {
        return "CRC32X";
    }
    black_box(bytes);
    "tables"
}

/// What a checksum costs, and the instructions it is made of here.
fn checksums(rows: &Rows) {
    for bytes in [64, 256, 64 * 1024] {
        let by = checksum_by(bytes);
        let block = vec![0xa5; bytes];
        let turns = (1 << 20) / bytes;
        let mut contenders = [Contender::new(format!("crc32fast, {bytes} B"), || {
            (0..turns).for_each(|_| {
                black_box(crc32fast::hash(black_box(&block)));
            });
        })
        .units(turns)];
        let times = take_turns(&mut contenders, rounds(60), 3);
        let speed = bytes as f64 / times[0].median().max(1e-12) / 1e9;
        let what = format!("a checksum of {bytes} B, {by}");
        row(rows, &what, format!("{speed:.1} GB/s"), "-".into(), true);
    }
}

fn taken(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

/// What a log takes on the disk.
fn sizes(rows: &Rows) {
    let place = directory();
    let log = Log::create(place.path().join("log"), &Options::new()).unwrap();
    log.append(b"entry").unwrap();
    settle();
    let new = taken(log.path()) as f64 / f64::from(1 << 20);
    row(rows, "a new log with one entry", format!("{new:.2} MiB"), "<= 1 MiB".into(), new <= 1.0);
    let entry = [0xa5; 256];
    for _ in 0..(if is_test() { 1 } else { 500 }) {
        log.commit(&batch(&entry, 100)).unwrap();
    }
    settle();
    let payload = if is_test() { f64::INFINITY } else { 50_000.0 * 256.0 };
    at_most(rows, "50 000 x 256 B: of the payload", taken(log.path()) as f64 / payload, 1.3);
}

fn targets(_: &mut Criterion) {
    type Part = fn(&Rows);
    let rows = Rows::default();
    let parts: [(&str, Part); 5] = [
        ("synced", synced),
        ("unsynced", unsynced),
        ("reads", reads),
        ("checksums", checksums),
        ("sizes", sizes),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|it| it == name) {
            part(&rows);
        }
    }
    println!("\n| what | measured | target | |\n|---|---|---|---|");
    for [what, got, target, met] in rows.into_inner() {
        println!("| {what} | {got} | {target} | {met} |");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = targets
}
criterion_main!(benches);
