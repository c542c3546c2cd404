//! Measuring: everybody has a short turn per round, so that drift of the disk hits all alike, until the
//! intervals are narrow or the time is up.
//!
//! Owns: the rounds, and the two figures that are taken after them (the roll, the neighbour).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indelible::{Log, Options, Result};

use super::contenders::{Contender, Role, io_at, nanoseconds, now};
use super::report::{Label, Neighbour, Roll, rows};
use super::statistics::{Samples, ratio};

/// Rounds that are made whatever time they take: a ratio has an interval from two of them on.
const ROUNDS_LEAST: usize = 2;
/// Rounds before anything is believed to be settled.
const ROUNDS_MIN: usize = 50;
/// Rounds between two looks at the intervals.
const ROUNDS_PER_LOOK: usize = 25;
/// An interval that is this narrow, as a share, will not change the advice.
const NARROW: f64 = 0.04;
/// Appends that roll, and the entries that make a segment of [`ROLL_SEGMENT_BYTES`] full soon.
const ROLLS: usize = 20;
const ROLL_SEGMENT_BYTES: u64 = 1024 * 1024;
const ROLL_ENTRY_BYTES: usize = 64 * 1024;
/// What a neighbour writes without a sync.
const BURST_BYTES: u64 = 64 * 1024 * 1024;
/// How long its burst is watched.
const BURST_TIME: Duration = Duration::from_secs(10);

/// What a run is told.
pub(super) struct Run<'a> {
    pub(super) bytes: usize,
    pub(super) time: Duration,
    /// Set when it is to stop.
    pub(super) stop: &'a AtomicBool,
    /// Hears how much of the time is over, and all of it.
    pub(super) progress: &'a mut dyn FnMut(Duration, Duration),
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The samples of everybody.
pub(super) struct Rounds {
    pub(super) labels: Vec<Label>,
    pub(super) samples: Vec<Samples>,
    pub(super) count: usize,
    pub(super) settled: bool,
}

/// Round after round. A first one warms everybody up and does not count.
pub(super) fn rounds(mut contenders: Vec<Contender>, run: &mut Run<'_>) -> Result<Rounds> {
    let entry = vec![0x5a; run.bytes];
    let labels: Vec<Label> = contenders.iter().map(|it| it.label.clone()).collect();
    let mut samples: Vec<Samples> = contenders.iter().map(|_| Samples::new()).collect();
    round(&mut contenders, &entry, None)?;
    let started = now();
    let mut count = 0;
    let mut settled = false;
    while !settled && !run.stopped() && (count < ROUNDS_LEAST || started.elapsed() < run.time) {
        round(&mut contenders, &entry, Some(&mut samples))?;
        count += 1;
        settled = count >= ROUNDS_MIN
            && count.is_multiple_of(ROUNDS_PER_LOOK)
            && narrow(&labels, &samples);
        (run.progress)(started.elapsed(), run.time);
    }
    Ok(Rounds { labels, samples, count, settled })
}

/// Everybody's turn, in an order that begins with another one each time.
fn round(
    contenders: &mut [Contender],
    entry: &[u8],
    mut samples: Option<&mut Vec<Samples>>,
) -> Result<()> {
    let offset = samples.as_deref().and_then(|it| it.first()).map_or(0, |it| it.rounds().len());
    for turn in 0..contenders.len() {
        let at = (turn + offset) % contenders.len();
        let Some(contender) = contenders.get_mut(at) else { continue };
        let mut slice = contender.turn(entry)?;
        if let Some(samples) = samples.as_deref_mut().and_then(|it| it.get_mut(at)) {
            samples.slice(&mut slice.latencies, slice.elapsed);
        }
        contender.tidy()?;
    }
    Ok(())
}

/// Whether more rounds would change no advice.
fn narrow(labels: &[Label], samples: &[Samples]) -> bool {
    rows(labels, samples)
        .iter()
        .filter_map(|row| row.to_default)
        .all(|interval| interval.width() < NARROW)
}

/// What an append costs that begins a segment, beside one of the same size that does not.
pub(super) fn roll(place: &Path, run: &Run<'_>) -> Result<Option<Roll>> {
    let options = Options::new().segment_bytes(ROLL_SEGMENT_BYTES);
    let log = Log::create(place.join("roll"), &options)?;
    let entry = vec![0x5a; ROLL_ENTRY_BYTES];
    let (mut rolled, mut other) = (Vec::new(), Vec::new());
    let started = now();
    while rolled.len() < ROLLS && started.elapsed() < run.time / 4 && !run.stopped() {
        let before = log.stats().rolls;
        let append = now();
        log.append(&entry)?;
        let took = nanoseconds(append.elapsed());
        if log.stats().rolls == before {
            other.push(took);
        } else {
            rolled.push(took);
        }
        if log.next() - log.first() > 64 {
            log.commit(indelible::Batch::new().trim(log.next()))?;
        }
    }
    rolled.sort_unstable();
    other.sort_unstable();
    let middle = |times: &[u64]| times.get(times.len() / 2).copied();
    Ok(middle(&rolled).zip(middle(&other)).map(|(rolled_p50_ns, other_p50_ns)| Roll {
        rolls: rolled.len(),
        rolled_p50_ns,
        other_p50_ns,
    }))
}

/// What durable appends suffer while a neighbour's burst of dirty pages goes to the disk.
pub(super) fn neighbour(place: &Path, run: &Run<'_>) -> Result<Neighbour> {
    let log = Log::create(place.join("neighbour"), &Options::new())?;
    let entry = vec![0x5a; run.bytes];
    let mut before = Vec::new();
    for _ in 0..100 {
        before.push(append(&log, &entry)?);
    }
    before.sort_unstable();
    let usual = before.get(before.len() / 2).copied().unwrap_or(0);
    let path = place.join("burst");
    let writing = AtomicBool::new(true);
    let started = now();
    let (during, hurt) = std::thread::scope(|scope| {
        let burst = scope.spawn(|| {
            let written = burst(&path, run.stop);
            writing.store(false, Ordering::Release);
            written
        });
        let watched = watch(&log, &entry, usual, started, &writing);
        let written = burst.join().unwrap_or_else(|_| Err(std::io::Error::other("panicked")));
        written.map_err(|source| io_at("write", &path, source))?;
        watched
    })?;
    let middle = during.get(during.len() / 2).copied().unwrap_or(0);
    Ok(Neighbour {
        burst_bytes: BURST_BYTES,
        before_p50_ns: usual,
        during_p50_ns: middle,
        during_max_ns: during.last().copied().unwrap_or(0),
        hurt_ms: u64::try_from(hurt.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Appends until the burst is over and has not been felt for a while. Returns the times of those that
/// were made until it was felt last, ascending, and when that was.
fn watch(
    log: &Log,
    entry: &[u8],
    usual: u64,
    started: Instant,
    writing: &AtomicBool,
) -> Result<(Vec<u64>, Duration)> {
    const CALM: usize = 50;
    let (mut during, mut felt, mut calm) = (Vec::new(), Duration::ZERO, 0);
    let mut last = 0;
    while (calm < CALM || writing.load(Ordering::Acquire)) && started.elapsed() < BURST_TIME {
        let took = append(log, entry)?;
        during.push(took);
        calm += 1;
        if took > usual.saturating_mul(2) {
            (felt, calm, last) = (started.elapsed(), 0, during.len());
        }
    }
    during.truncate(last.max(1));
    during.sort_unstable();
    Ok((during, felt))
}

fn append(log: &Log, entry: &[u8]) -> Result<u64> {
    let started = now();
    log.append(entry)?;
    Ok(nanoseconds(started.elapsed()))
}

/// Writes the burst through the page cache, and syncs it at the end as a neighbour would.
fn burst(path: &Path, stop: &AtomicBool) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let piece = vec![0x5a; 1024 * 1024];
    let mut left = BURST_BYTES;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        file.write_all(&piece)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    rustix::fs::fsync(&file)?;
    Ok(())
}

/// Whether a ratio of the default to its floor can be formed: the least that a report needs.
pub(super) fn has_figures(rounds: &Rounds) -> bool {
    let default = rounds.labels.iter().position(|label| label.role == Role::Default);
    let pair = default.and_then(|at| rounds.samples.get(at)).zip(rounds.samples.first());
    pair.is_some_and(|(own, floor)| ratio(own.rounds(), floor.rounds(), 0.95).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::advice::{UNBELIEVABLE_NS, Verdict, verdict};
    use super::super::contenders::alike;
    use super::*;

    /// Real logs that are all the same, in memory, where nothing but luck tells them apart. What keeps
    /// a run in memory from any advice, that a sync there takes no time, is taken away.
    #[test]
    fn logs_with_nothing_to_choose_between_never_get_a_recommendation() {
        let memory = Path::new("/dev/shm");
        let memory = if memory.is_dir() { memory } else { &std::env::temp_dir() };
        let place = tempfile::tempdir_in(memory).unwrap();
        let (mut made, stop) = (0, AtomicBool::new(false));
        let mut progress = |_, _| {
            made += 1;
            stop.store(made == 4 * ROUNDS_MIN, Ordering::Relaxed);
        };
        // As many rounds as it takes, however long each takes on a machine that is busy.
        let time = Duration::MAX;
        let mut run = Run { bytes: 256, time, stop: &stop, progress: &mut progress };
        let rounds = rounds(alike(place.path(), 256, 12).unwrap(), &mut run).unwrap();
        assert!(rounds.count >= ROUNDS_MIN);
        let mut rows = rows(&rounds.labels, &rounds.samples);
        rows[0].p50_ns = UNBELIEVABLE_NS;
        let verdict = verdict(&rows);
        assert!(matches!(verdict, Verdict::Keep { .. }), "{} rounds: {verdict:?}", rounds.count);
    }
}
