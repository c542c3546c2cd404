//! The lanes on a file system of our own, which does to the real binary what the simulated disk
//! does to the engine: it loses and tears sectors, loses names, fails, and fills up.
//!
//! `INDELIBLE_FUSE_CYCLES=5000` sets how often a process runs and dies in each lane (240 by
//! default), `INDELIBLE_FUSE_SEED` the seed of the first life. A failure names the seed of its
//! life, with which it starts the next time; `INDELIBLE_FUSE_TRACE=1` shows what happens in it.

mod life;
#[cfg(feature = "sabotage")]
mod planted;

use std::os::unix::fs::FileExt;

pub(crate) use self::life::missing;
use self::life::{Life, Sort};
use crate::Outcome;
use crate::known::{Known, Trouble};
use crate::lossy::injected::Injected;
use crate::lossy::state::{Call, Plan};

#[cfg(feature = "sabotage")]
pub(crate) use self::planted::planted;

/// Times a process runs and dies in one life.
const CYCLES_PER_LIFE: u64 = 8;

/// What one life is put through; the error is the promise that was broken.
type Course = fn(&mut Life) -> Result<(), String>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// What a lane comes to.
#[derive(Debug, Default)]
struct Totals {
    known: Known,
    injected: Injected,
    lives: u64,
    /// Errors of a process that had died, which the next open was told of.
    collected: u64,
}

impl Totals {
    /// Puts one more log through its life.
    fn live(&mut self, seed: u64, sort: &Sort, course: Course) -> Result<(), String> {
        let mut life = Life::new(seed, sort)?;
        let lived = course(&mut life);
        self.lives += 1;
        self.collected += life.collected;
        self.known.add(&life.known);
        self.injected.add(&life.state.lock().injected);
        lived.map_err(|what| format!("seed {seed}: {what}"))
    }
}

fn lane(course: Course, injected_enough: fn(&Totals) -> bool) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let (first, cycles) = (number("INDELIBLE_FUSE_SEED", 1), number("INDELIBLE_FUSE_CYCLES", 240));
    let mut totals = Totals::default();
    for seed in first..first + cycles.div_ceil(CYCLES_PER_LIFE) {
        if let Err(what) = totals.live(seed, &Sort::ANY, course) {
            panic!("{what}");
        }
    }
    assert!(injected_enough(&totals) || cycles < 100, "hardly anything was injected: {totals:?}");
    Outcome::Passed(format!(
        "{} lives from seed {first} on: {}; {}; {} poisoned, {} errors of dead processes \
         collected, {} refused",
        totals.lives,
        totals.injected,
        totals.known.totals(),
        totals.known.poisoned,
        totals.collected,
        totals.known.refused
    ))
}

/// Power cuts: at any request, while the log opens, runs, or closes, and after it was closed.
pub(crate) fn power() -> Outcome {
    lane(power_course, |totals| {
        let it = &totals.injected;
        let all = [
            it.power_cuts,
            it.kills,
            it.sectors_lost,
            it.sectors_torn,
            it.sectors_between,
            it.sectors_new,
            it.names_lost,
            it.names_kept,
            it.syncs,
            it.directory_syncs,
            totals.known.acknowledged,
            totals.known.whole,
            totals.known.absent,
        ];
        all.iter().all(|&count| count > 0)
    })
}

fn power_course(life: &mut Life) -> Result<(), String> {
    for _ in 0..CYCLES_PER_LIFE - 1 {
        let plan = kill_plan(life);
        let operations = 1 + life.dice.below(24);
        let ended = life.child(operations, plan)?;
        if !ended.troubles.is_empty() {
            return Err(format!("{:?}", ended.troubles));
        }
        // Now and then the process is all that dies, and the cache survives it.
        life.maybe_cut_power(8);
    }
    life.sound_child(3)
}

fn kill_plan(life: &mut Life) -> Plan {
    let span = [20, 60, 200][usize::try_from(life.dice.below(3)).unwrap()];
    match life.dice.below(8) {
        0 => Plan::Sound,
        way => Plan::Kill { at: 1 + life.dice.below(span), power: way % 2 == 0 },
    }
}

/// Calls that fail, once and for good; the next process finds the kernel's cache as the failure
/// left it, or a medium without power in between.
pub(crate) fn errors() -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    cache_lies_after_a_failed_sync();
    lane(errors_course, |totals| {
        let it = &totals.injected;
        Call::ALL.iter().all(|call| it.eio.contains_key(call.name()))
            && it.cached_only > 0
            && totals.known.poisoned > 0
    })
}

fn errors_course(life: &mut Life) -> Result<(), String> {
    life.sound_child(2)?;
    for _ in 0..CYCLES_PER_LIFE / 2 {
        let plan = fail_plan(life);
        let operations = 4 + life.dice.below(24);
        judge_failures(life, operations, plan)?;
        if life.dice.below(4) == 0 {
            // It still fails when the next process comes.
            judge_failures(life, 2, plan)?;
        }
        if life.dice.below(3) == 0 {
            life.cut_power();
        }
        // What this one finds is acknowledged by its open, whatever the cache shows.
        let operations = life.dice.below(4);
        life.sound_child(operations)?;
        if life.dice.below(4) > 0 {
            life.cut_power();
        }
    }
    life.sound_child(3)
}

fn fail_plan(life: &mut Life) -> Plan {
    let call = Call::ALL[usize::try_from(life.dice.below(Call::ALL.len() as u64)).unwrap()];
    let call = match life.dice.below(4) {
        0 | 1 => call,
        // What the engine does most.
        2 => Call::Sync,
        _ => Call::Write,
    };
    let nth = 1 + life.dice.below(match call {
        Call::Write => 60,
        Call::Sync => 30,
        Call::Read => 6,
        _ => 5,
    });
    let (forever, partial) = (life.dice.below(2) == 0, life.dice.below(2) == 0);
    Plan::Fail { call, nth, forever, partial, kill: life.dice.below(4) == 0 }
}

/// A child whose calls may fail: its errors are typed, and there are none without a cause.
fn judge_failures(life: &mut Life, operations: u64, plan: Plan) -> Result<(), String> {
    let ended = life.child(operations, plan)?;
    for trouble in &ended.troubles {
        let expected = match trouble {
            Trouble::Refused(kind, _) | Trouble::Blind(kind, _) => kind == "Io",
            Trouble::Failed(kind, _) | Trouble::Unattached(kind, _) => {
                kind == "Io" || kind == "Poisoned"
            }
        };
        if ended.faults == 0 || !expected {
            return Err(format!("after {} faults ({plan:?}): {trouble:?}", ended.faults));
        }
    }
    Ok(())
}

/// The trap itself, without the log: after a failed sync the next one says that all is well, and
/// reads show bytes that the medium does not have, until the cache is dropped.
fn cache_lies_after_a_failed_sync() {
    let life = Life::new(1, &Sort::ANY).unwrap();
    let open = || {
        let path = life.root().join("file");
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path).unwrap()
    };
    let first_byte = |file: &std::fs::File| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        byte[0]
    };
    let file = open();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&[2; 4096], 0).unwrap();
    let fail = Plan::Fail { call: Call::Sync, nth: 1, forever: false, partial: false, kill: false };
    life.state.lock().plan(fail);
    assert!(file.sync_all().is_err(), "the first sync is told to fail");
    file.sync_all().unwrap();
    drop(file);
    let file = open();
    file.sync_all().unwrap();
    assert_eq!(first_byte(&file), 2, "the cache shows what the medium does not have");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_eq!(first_byte(&file), 1, "the medium has what was there before");
}

/// Disks that fill up, with and without a power cut while they are full.
pub(crate) fn full() -> Outcome {
    lane(full_course, |totals| {
        totals.injected.enospc.values().sum::<u64>() > 0
            && totals.known.refused > 0
            && totals.injected.power_cuts > 0
    })
}

fn full_course(life: &mut Life) -> Result<(), String> {
    for _ in 0..(CYCLES_PER_LIFE - 1) / 2 {
        let room = usize::try_from(life.dice.below(24)).unwrap();
        {
            let mut state = life.state.lock();
            state.medium.capacity = Some(state.medium.used() + room);
        }
        let operations = 20 + life.dice.below(40);
        for plan in [Plan::Sound, kill_plan(life)] {
            let operations = if plan == Plan::Sound { operations } else { operations / 4 };
            let existed = life.known.exists;
            let ended = life.child(operations, plan)?;
            for trouble in &ended.troubles {
                let refused = matches!(trouble, Trouble::Refused(..));
                let unattached = matches!(trouble, Trouble::Unattached(..));
                if trouble.kind() != "DiskFull" || !(refused && !existed || unattached) {
                    return Err(format!("with room for {room} pages: {trouble:?}"));
                }
            }
            life.maybe_cut_power(2);
        }
        // There is room again.
        life.state.lock().medium.capacity = None;
    }
    life.sound_child(10)
}
