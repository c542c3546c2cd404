//! The lanes that record what a real file system writes to its disk while the log runs on it, and
//! go back to moments of that: the disk as a power cut would have left it is mounted, the file
//! system recovers itself, and the log on it is held against the oracle.
//!
//! `INDELIBLE_BLOCK_STATES=2000` sets the number of states for each file system (32 by default),
//! `INDELIBLE_BLOCK_SEED` the seed.

mod image;
mod recorder;

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use self::image::{Event, Fates, Image, after_power_cut};
use self::recorder::Disk;
use crate::Outcome;
use crate::child::{BUG, LOCKSTEP, Task};
use crate::known::Known;
use crate::lossy::dice::Dice;
use crate::mounted::{System, run};

/// One recording for each write mode and sync method.
const RECORDINGS: u64 = 6;

/// What was written while a program ran.
struct Recording {
    config: u64,
    base: Image,
    events: Vec<Event>,
    /// Where the flushes are, and between which two of them there are writes.
    flushes: Vec<usize>,
    gaps: Vec<Range<usize>>,
}

/// What a lane comes to.
#[derive(Debug, Default)]
struct Totals {
    recordings: u64,
    writes: u64,
    flushes: u64,
    /// States with and without writes that no flush had covered.
    cut: u64,
    between: u64,
    fates: Fates,
    known: Known,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Records and replays on one file system.
pub(crate) fn replay(system: System) -> Outcome {
    let states = number("INDELIBLE_BLOCK_STATES", 32);
    let seed = number("INDELIBLE_BLOCK_SEED", 1);
    if let Some(why) = missing(system) {
        return Outcome::Skipped(why);
    }
    let mut totals = Totals::default();
    for config in 0..RECORDINGS {
        let share = states / RECORDINGS + u64::from(config < states % RECORDINGS);
        if let Err(what) = totals.record_and_replay(system, config, seed + config, share, None) {
            panic!("{system:?}, config {config}, seed {seed}: {what}");
        }
    }
    let it = &totals;
    assert!(
        states < 32 || [it.cut, it.between, it.fates.lost, it.fates.torn].iter().all(|&n| n > 0),
        "hardly anything was injected: {totals:?}"
    );
    Outcome::Passed(format!(
        "{} recordings of {} writes and {} flushes; {} states right after a flush and {} before \
         the next, where {} writes were lost, {} kept and {} torn; in {} logs everything \
         acknowledged was found, of what was begun {} whole and {} absent; {} torn tails",
        it.recordings,
        it.writes,
        it.flushes,
        it.cut,
        it.between,
        it.fates.lost,
        it.fates.kept,
        it.fates.torn,
        it.known.opens,
        it.known.whole,
        it.known.absent,
        it.known.torn
    ))
}

/// Whether a bug that is planted into the engine is noticed here as well (feature `sabotage`).
#[cfg(feature = "sabotage")]
pub(crate) fn planted() -> Outcome {
    let system = System::Ext4;
    if let Some(why) = missing(system) {
        return Outcome::Skipped(why);
    }
    let mut found = Vec::new();
    for bug in ["AcknowledgeBeforeSync", "SideFileNotSynced", "SlotsNotSynced"] {
        let caught = (0..RECORDINGS).find_map(|config| {
            let mut totals = Totals::default();
            totals.record_and_replay(system, config, 1, 40, Some(bug)).err()
        });
        let Some(what) = caught else { panic!("{bug} is not noticed; but {found:?}") };
        found.push(format!("\n| `{bug}` | {what} |"));
    }
    Outcome::Passed(format!("every one of {} bugs is noticed:{}", found.len(), found.concat()))
}

/// Why there can be no such lane here.
fn missing(system: System) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    let disk = match Disk::new(system) {
        Ok(disk) => disk,
        Err(why) => return Some(why),
    };
    let made = run(&mut system.make(&disk.file())).and_then(|_| disk.mount()?.detach());
    made.err()
}

impl Totals {
    fn record_and_replay(
        &mut self,
        system: System,
        config: u64,
        seed: u64,
        states: u64,
        bug: Option<&str>,
    ) -> Result<(), String> {
        let mut dice = Dice::new(seed);
        let disk = Disk::new(system)?;
        let recording = record(&disk, config, &mut dice, bug)?;
        self.recordings += 1;
        self.flushes += recording.flushes.len() as u64;
        let is_write = |event: &&Event| matches!(event, Event::Write { .. });
        self.writes += recording.events.iter().filter(is_write).count() as u64;
        for state in 0..states {
            // Evenly over the recording, in turn right after a flush and before one.
            let spread = |count: usize| usize::try_from(state * count as u64 / states).unwrap();
            let end = if state % 2 == 0 {
                self.cut += 1;
                recording.flushes[spread(recording.flushes.len())] + 1
            } else {
                self.between += 1;
                let gap = &recording.gaps[spread(recording.gaps.len())];
                let span = if dice.below(2) == 0 { 1 } else { gap.len() as u64 };
                gap.end - usize::try_from(dice.below(span)).unwrap()
            };
            self.look(&disk, &recording, end, &mut dice, bug)
                .map_err(|what| format!("at event {end} of {}: {what}", recording.events.len()))?;
        }
        Ok(())
    }

    /// Goes back to a power cut before event `end`, and opens the log.
    fn look(
        &mut self,
        disk: &Disk,
        recording: &Recording,
        end: usize,
        dice: &mut Dice,
        bug: Option<&str>,
    ) -> Result<(), String> {
        let mut known = Known::default();
        for event in &recording.events[..end] {
            if let Event::Said(line) = event {
                expect_no_trouble(&mut known, line)?;
            }
        }
        known.count_anew();
        let whole = disk.system.whole();
        let image =
            after_power_cut(&recording.base, &recording.events, end, whole, dice, &mut self.fates);
        disk.tape.lock().image = image;
        let mounted = disk.mount()?;
        let (seed, number, exists) = (dice.below(1 << 40), known.number, known.exists);
        let task = Task { config: recording.config, seed, number, operations: 3, exists };
        let mut process = spawn(task, mounted.path(), bug);
        let last = listen(&mut process, |line| expect_no_trouble(&mut known, line));
        let status = process.wait().unwrap();
        self.known.add(&known);
        match last? {
            Some(line) if line == "closed" && status.success() => mounted.detach(),
            other => Err(format!("the process ended by itself: {status}, last {other:?}")),
        }
    }
}

fn expect_no_trouble(known: &mut Known, line: &str) -> Result<(), String> {
    match known.hear(line)? {
        None => Ok(()),
        Some(trouble) => Err(format!("{trouble:?}")),
    }
}

/// Runs a program on a new file system: a log is made and closed, opened and killed, opened and
/// closed again.
fn record(
    disk: &Disk,
    config: u64,
    dice: &mut Dice,
    bug: Option<&str>,
) -> Result<Recording, String> {
    run(&mut disk.system.make(&disk.file()))?;
    let mounted = disk.mount()?;
    run(Command::new("sync").arg("-f").arg(mounted.path()))?;
    let base = {
        let mut tape = disk.tape.lock();
        tape.events = Some(Vec::new());
        tape.image.clone()
    };
    let mut known = Known::default();
    for (operations, lines_max) in [(24, usize::MAX), (24, 30), (8, usize::MAX)] {
        let (seed, number, exists) = (dice.below(1 << 40), known.number, known.exists);
        let task = Task { config, seed, number, operations, exists };
        let mut process = spawn(task, mounted.path(), bug);
        let mut lines = 0;
        let listened = listen(&mut process, |line| {
            disk.tape.lock().note(Event::Said(line.to_owned()));
            lines += 1;
            expect_no_trouble(&mut known, line)?;
            if lines == lines_max { Err(String::new()) } else { Ok(()) }
        });
        let killed = process.kill();
        process.wait().unwrap();
        killed.unwrap();
        if let Err(what) = listened
            && !what.is_empty()
        {
            return Err(what);
        }
    }
    mounted.detach()?;
    let events = disk.tape.lock().events.take().unwrap();
    let at_flush = |(at, event): (usize, &Event)| matches!(event, Event::Flush).then_some(at);
    let flushes: Vec<usize> = events.iter().enumerate().filter_map(at_flush).collect();
    let is_write = |event: &Event| matches!(event, Event::Write { .. });
    let between = flushes.windows(2).map(|pair| pair[0] + 1..pair[1]);
    let gaps: Vec<_> = between.filter(|gap| events[gap.clone()].iter().any(is_write)).collect();
    if gaps.len() < 20 {
        return Err(format!("only {} syncs reached the disk", gaps.len()));
    }
    Ok(Recording { config, base, events, flushes, gaps })
}

fn spawn(task: Task, mount: &Path, bug: Option<&str>) -> Child {
    let words = task.words(&mount.join("log"));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).env(LOCKSTEP, "1");
    if let Some(bug) = bug {
        command.env(BUG, bug);
    }
    command.spawn().unwrap()
}

/// Hands each line to `hear`, and lets the process go on after that. Answers the last one.
fn listen(
    process: &mut Child,
    mut hear: impl FnMut(&str) -> Result<(), String>,
) -> Result<Option<String>, String> {
    let mut answers = process.stdin.take().unwrap();
    let mut last = None;
    for line in BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Err(what) = hear(&line) {
            // It may be waiting to be told to go on.
            let _dead_already = process.kill();
            return Err(what);
        }
        let _gone_already = answers.write_all(b"\n");
        last = Some(line);
    }
    Ok(last)
}
