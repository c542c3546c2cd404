//! Sectors and blocks that a medium gives back in another one's place, once or twice: whatever that
//! leaves, a repair takes nothing that could be read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use indelible::io::sim::SimDisk;
use indelible::repair::apply_in;
use indelible::{Batch, Log, Options};

use super::{MemDirectory, Random};

type Image = Vec<(String, Vec<u8>)>;
type Entries = BTreeMap<u64, Vec<u8>>;

/// How many logs are looked at.
const SEEDS: u64 = 400;

fn options() -> Options {
    Options::new().tiny_segments(16 * 1024).background(false)
}

/// Frames of many lengths, most of them several to a sector, and entries that were replaced.
/// Killed: half of the tail comes after its checkpoint. With it what it holds, without its last
/// batch and with it.
fn killed(seed: u64) -> (Image, [Entries; 2]) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let disk = SimDisk::new(seed);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    let [mut before, mut truth] = [Entries::new(), Entries::new()];
    let mut next = 0_u64;
    for round in 0..120_u64 {
        before.clone_from(&truth);
        let mut batch = Batch::new();
        if random.below(8) == 0 && next > 6 {
            next -= random.below(6) as u64;
            batch.truncate(next);
            truth.split_off(&next);
        }
        for _ in 0..=random.below(3) {
            let lengths = [1, 24, 60, 200, 448, 480, 700];
            let length = lengths[random.below(lengths.len())];
            let entry: Vec<u8> =
                (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
            batch.append(entry.clone());
            truth.insert(next, entry);
            next += 1;
        }
        batch.set("promise", round.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
        if round == 110 {
            log.maintain().unwrap();
        }
    }
    (disk.kill_copy().image(), [before, truth])
}

/// A segment whose sectors or blocks came back in each other's place, or one in the place of another
/// as well: which, and which of its bytes are others than before.
struct Moved {
    told: String,
    segment: usize,
    ranges: Vec<Range<usize>>,
}

fn move_about(image: &mut Image, random: &mut Random) -> Moved {
    let segments: Vec<_> =
        (0..image.len()).filter(|at| image[*at].0.strip_suffix(".seg").is_some()).collect();
    let last = segments.len() - 1;
    let segment = segments[if random.below(2) == 0 { last } else { random.below(segments.len()) }];
    let (name, bytes) = &mut image[segment];
    let (mut told, mut ranges) = (name.clone(), Vec::new());
    for _ in 0..=random.below(2) {
        let unit = if random.below(3) == 0 { 4096 } else { 512 };
        let places = (bytes.len() - 2 * 4096) / unit;
        // The blocks of the header and of the footer stay. Neighbours as often as not.
        let place = |nth: usize| 4096 + nth % places * unit;
        let from = random.below(places);
        let far = if random.below(2) == 0 { places - 1 } else { 2.min(places - 1) };
        let by = 1 + random.below(far);
        let (one, other) = (place(from), place(from + by));
        let (one, other) = (one..one + unit, other..other + unit);
        let (first, second) = (bytes[one.clone()].to_vec(), bytes[other.clone()].to_vec());
        bytes[other.clone()].copy_from_slice(&first);
        let swapped = random.below(2) == 0;
        write!(told, ", {unit} at {one:?} to {other:?}, swapped {swapped}").unwrap();
        ranges.push(other);
        if swapped {
            bytes[one.clone()].copy_from_slice(&second);
            ranges.push(one);
        }
    }
    Moved { told, segment, ranges }
}

/// What an open log gives; nothing if it is refused.
fn readable(disk: SimDisk) -> Entries {
    let opened = Log::open_in(Arc::new(disk), &options().allow_holes(true));
    let Ok((log, _)) = opened else { return Entries::new() };
    let entry = |index| Some((index, log.entry(index).ok()?));
    (log.first()..log.next()).filter_map(entry).collect()
}

/// What can be read after a repair.
fn repaired(image: &Image, told: &str) -> Entries {
    let disk = SimDisk::from_image(1, image);
    apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new()))
        .unwrap_or_else(|error| panic!("{told}: {error}"));
    readable(disk)
}

/// A moved sector is no worse than one that is gone: what could be read, and what a repair saves
/// where those bytes are zeros, is there after the repair, and nothing else than was written.
#[test]
fn repair_takes_nothing_readable_where_sectors_moved() {
    let (mut refused, mut lost) = (0, 0);
    let (mut sound, mut truths) = killed(1);
    for seed in 1..=SEEDS {
        if seed.is_multiple_of(50) {
            (sound, truths) = killed(seed);
        }
        let mut image = sound.clone();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let Moved { told, segment, ranges } = move_about(&mut image, &mut random);
        let (told, count) = (format!("seed {seed}: {told}"), ranges.len());
        let mut without = sound.clone();
        for range in ranges {
            without[segment].1[range].fill(0);
        }
        let after = repaired(&image, &told);
        let (before, saved) = (readable(SimDisk::from_image(1, &image)), repaired(&without, &told));
        for (what, expected) in [("read", &before), ("saved", &saved)] {
            for (index, bytes) in expected {
                assert!(after.get(index) == Some(bytes), "{told}: entry {index} could be {what}");
            }
        }
        for (index, bytes) in &after {
            // One bad sector can hide the last batch, two another one and its witness.
            let hidden = count > 1 && saved.contains_key(index);
            let known = truths.iter().any(|truth| truth.get(index) == Some(bytes));
            assert!(known || hidden, "{told}: {index} is another one");
        }
        refused += u64::from(before.is_empty());
        lost += u64::from(after.len() < truths[1].len());
    }
    let least = SEEDS / 10;
    assert!(refused > least && lost > least, "too little was damaged: {refused}, {lost}");
}
