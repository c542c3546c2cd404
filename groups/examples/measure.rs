//! Measures what docs/GROUPS.md states: `cargo run --release -p indelible-groups --example measure
//! -- DIR`.
//!
//! - open: 10 000 groups with 10 000 000 live entries, after a clean close and after a kill;
//! - mixed: groups that append and trim beside lagging ones, and what is written again for them;
//! - turn: one durable commit for each of n groups, all submitted before the first is waited for.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures")]

use std::path::Path;
use std::time::Instant;

use indelible::{Batch, Durability, Options, Result};
use indelible_groups::{Group, Groups, GroupsOptions};

const GROUPS: u64 = 10_000;
const ENTRIES: u64 = 1_000;
const ENTRIES_PER_COMMIT: u64 = 10;

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "groups-measure".to_owned());
    let directory = Path::new(&directory);
    open(&directory.join("open"))?;
    mixed(&directory.join("mixed"))?;
    turn(&directory.join("turn"))
}

fn options(durability: Durability) -> GroupsOptions {
    GroupsOptions::new().log(Options::new().durability(durability))
}

fn open(path: &Path) -> Result<()> {
    let options = options(Durability::Os);
    let groups = Groups::create(path, &options)?;
    let handles = (0..GROUPS).map(|id| groups.create_group(id)).collect::<Result<Vec<_>>>()?;
    let mut batch = Batch::new();
    for _ in 0..ENTRIES_PER_COMMIT {
        batch.append(&[7; 32][..]);
    }
    let start = Instant::now();
    for _ in 0..ENTRIES / ENTRIES_PER_COMMIT {
        for group in &handles {
            group.commit(&batch)?;
        }
    }
    let stats = groups.stats();
    println!("fill: {:?} for {} entries", start.elapsed(), GROUPS * ENTRIES);
    println!("index: {:.1} bytes an entry", ratio(stats.index_bytes, GROUPS * ENTRIES));
    println!("write amplification of the fill: {:.3}", stats.write_amplification());
    groups.sync()?;
    // A killed process leaves what was written, and no checkpoint of the close.
    let killed = path.with_extension("killed");
    copy_directory(path, &killed);
    drop(handles);
    groups.close()?;
    drop(groups);
    for (name, path) in [("a clean close", path), ("a kill", &killed)] {
        let start = Instant::now();
        let groups = Groups::open(path, &options)?;
        let (elapsed, stats) = (start.elapsed(), groups.stats());
        println!("open after {name}: {elapsed:?}, {} records replayed", stats.replayed);
        groups.close()?;
    }
    Ok(())
}

fn mixed(path: &Path) -> Result<()> {
    let groups = Groups::create(path, &options(Durability::Os))?;
    let handles = (0..256).map(|id| groups.create_group(id)).collect::<Result<Vec<Group>>>()?;
    let start = Instant::now();
    let mut peak = 0.0_f64;
    for round in 0..10_000_u64 {
        for group in &handles {
            // One in sixteen writes rarely and trims rarely; the others keep a thousand entries.
            let lags = group.id() % 16 == 0;
            if lags && round % 64 > 0 {
                continue;
            }
            group.append(&[7; 256])?;
            let keep = if lags { 4_000 } else { 1_000 };
            if round % 256 == 0 && group.next() > keep {
                let mut batch = Batch::new();
                batch.trim(group.next() - keep);
                group.commit(&batch)?;
            }
        }
        if round % 100 == 99 {
            let stats = groups.stats();
            let segments = groups.log().segment_bytes() * 4;
            peak = peak.max(ratio(stats.bytes.saturating_sub(segments), stats.live_bytes));
        }
    }
    let stats = groups.stats();
    println!(
        "mixed: {:?}, write amplification {:.3}",
        start.elapsed(),
        stats.write_amplification()
    );
    println!("mixed: at most {peak:.2} bytes a live byte, beside four segments");
    groups.close()
}

fn turn(path: &Path) -> Result<()> {
    let groups = Groups::create(path, &options(Durability::Barrier))?;
    for count in [1_u64, 16, 256, 4_096] {
        let handles =
            (0..count).map(|id| groups.open_or_create_group(id)).collect::<Result<Vec<Group>>>()?;
        groups.sync()?;
        let (start, syncs) = (Instant::now(), groups.stats().log.syncs);
        for _ in 0..200 {
            let tickets =
                handles.iter().map(|group| group.append(&[7; 256])).collect::<Result<Vec<_>>>()?;
            tickets.iter().try_for_each(indelible_groups::GroupTicket::wait)?;
        }
        let syncs = groups.stats().log.syncs - syncs;
        println!("turn of {count} groups: {:?}, {syncs} syncs for 200", start.elapsed() / 200);
    }
    groups.close()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}

fn copy_directory(from: &Path, to: &Path) {
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let path = entry?.path();
            std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    if let Err(error) = copy() {
        println!("cannot copy {}: {error}", from.display());
    }
}
