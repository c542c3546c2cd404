//! Power cuts at every call of the disk, through checkpoints, carries and trims, and while the disk
//! is full: what was acknowledged is there, and what is there is what some step left.

use std::collections::BTreeMap;

#[cfg(all(test, not(feature = "sabotage")))]
use indelible::io::sim::{Fault, Repeat};
use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::{Durability, Error};
use indelible_groups::Groups;

use crate::ops::{GroupModel, Model, Op, open};

/// What a program is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A slow group is paged and carried forward.
    Carry,
    /// The disk is full, so what changes cells and bounds is put aside and taken over.
    FullDisk,
}

impl About {
    pub(crate) const ALL: [Self; 2] = [Self::Carry, Self::FullDisk];

    pub(crate) fn program(self, seed: u64) -> Vec<Step> {
        match self {
            Self::Carry => program(seed).into_iter().map(Step::Op).collect(),
            Self::FullDisk => full_disk_program(seed),
        }
    }
}

/// One step of a program.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Op(Op),
    /// From here on there is room for so many bytes more, or for any number.
    Room(Option<u64>),
}

/// Numbers from a seed.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// Steps in which a slow group is carried forward, from a seed.
pub(crate) fn program(seed: u64) -> Vec<Op> {
    let mut number = numbers(seed);
    let mut ops = vec![Op::Create(0), Op::Create(1), Op::Create(2)];
    ops.push(Op::Append { group: 0, count: 14, bytes: 60 });
    ops.push(Op::Snapshot { group: 0, bytes: 700 });
    for _ in 0..70 {
        let group = number(3);
        ops.push(match number(12) {
            0 => Op::Replace { group, back: number(3), count: number(3) },
            1 => Op::Set { group, cell: 0, value: 1 },
            2 => Op::Lazily { group, value: u8::try_from(number(3)).unwrap() },
            3 => Op::Move { from: group, to: number(3) },
            4 if group > 0 => Op::Snapshot { group, bytes: 300 },
            5 if number(4) == 0 => Op::Remove(2),
            6 => Op::Create(2),
            7 if number(4) == 0 => Op::Maintain,
            8 if number(4) == 0 => Op::Sync,
            _ => Op::Append { group: 1, count: 3, bytes: 300 },
        });
        ops.push(Op::Trim { group: 1, count: 3 });
    }
    ops
}

/// Groups of a program about a full disk.
const GROUPS: u64 = 4;

/// Steps on a disk that becomes full twice, with a little room in between and as much as it takes in
/// the end, from a seed.
fn full_disk_program(seed: u64) -> Vec<Step> {
    let mut number = numbers(seed);
    let mut steps: Vec<_> = (0..GROUPS).map(Op::Create).map(Step::Op).collect();
    steps.push(Step::Op(Op::Append { group: 0, count: 4, bytes: 60 }));
    steps.extend((0..12).map(|_| Step::Op(Op::Append { group: 1, count: 3, bytes: 500 })));
    let rooms = [Some(number(16) * 512), Some(number(160) * 512), Some(number(16) * 512), None];
    for (room, count) in rooms.into_iter().zip([25, 15, 20, 8]) {
        steps.push(Step::Room(room));
        if room.is_none() {
            steps.push(Step::Op(Op::Maintain));
        }
        for _ in 0..count {
            let group = number(GROUPS);
            let byte = u8::try_from(number(256)).unwrap();
            steps.push(Step::Op(match number(16) {
                0 => Op::Replace { group, back: number(3), count: number(2) },
                1 => Op::Trim { group: 1, count: number(12) },
                2 => Op::Lazily { group, value: byte },
                3 => Op::Set { group, cell: byte, value: byte },
                4 => Op::Clear { group, cell: byte },
                5 => Op::Snapshot { group, bytes: 300 },
                6 => Op::Move { from: 1, to: group },
                7 => Op::Create(GROUPS),
                8 => Op::Remove(GROUPS),
                9 if number(3) == 0 => Op::Maintain,
                9 => Op::Sync,
                10 | 11 => Op::Append { group, count: 2, bytes: 300 },
                _ => Op::Large { group, cell: byte },
            }));
        }
    }
    steps
}

/// Whether a full disk may refuse it.
fn needs_room(op: &Op) -> bool {
    match op {
        Op::Append { count, .. } | Op::Replace { count, .. } => *count > 0,
        Op::Snapshot { .. } | Op::Move { .. } | Op::Maintain => true,
        _ => false,
    }
}

/// What came of a program.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What was expected after each step.
    pub(crate) models: Vec<Model>,
    /// How many steps were acknowledged.
    pub(crate) acknowledged: usize,
    /// Something was carried forward, and a page was written.
    carried: bool,
    /// Something was refused on a full disk, and what was put aside there was taken over.
    taken_over: bool,
    /// What it met that it should not.
    wrong: Option<String>,
}

/// Runs a program until it ends or the power is cut.
pub(crate) fn run(disk: &SimDisk, steps: &[Step], durability: Durability) -> Outcome {
    let mut outcome = Outcome { models: vec![Model::default()], ..Outcome::default() };
    let Ok(groups) = open(disk, durability) else { return outcome };
    let mut model = Model::default();
    let [mut full, mut refused_any, mut aside] = [false; 3];
    for step in steps {
        let op = match step {
            Step::Op(op) => op,
            Step::Room(room) => {
                full = room.is_some();
                disk.set_capacity(room.map(|room| disk.used() + room));
                continue;
            }
        };
        let before = model.clone();
        let answer = model.run(&groups, op);
        let refused = matches!(answer, Err(Error::DiskFull { .. })) && full && needs_room(op);
        if answer.is_err() && !refused || disk.is_down() {
            outcome.models.push(model.clone());
            // The close writes what was set lazily, also if the step was refused.
            outcome.models.push(Model { groups: before.seen(), counter: 0 });
            outcome.models.push(Model { groups: model.seen(), counter: 0 });
            outcome.wrong = answer.err().map(|error| format!("{op:?}: {error}"));
            return outcome;
        }
        if refused {
            // Nothing was changed.
            model = Model { counter: model.counter, ..before };
        }
        outcome.models.push(model.clone());
        let binding = matches!(op, Op::Sync | Op::Maintain) || durability == Durability::Always;
        if binding && !refused {
            outcome.acknowledged = outcome.models.len() - 1;
        }
        refused_any |= refused;
        let was_aside = std::mem::replace(&mut aside, is_aside(&groups));
        outcome.taken_over |= refused_any && full && was_aside && !aside;
        let differs = |found| found != model.seen();
        if refused && Model::observed(&groups).is_ok_and(differs) {
            outcome.wrong = Some(format!("{op:?} was refused, and changed something"));
            return outcome;
        }
    }
    // The close writes what was set lazily.
    outcome.models.push(Model { groups: model.seen(), counter: 0 });
    let stats = groups.stats();
    outcome.carried = stats.carried_records > 0 && groups.log().first() > 0 && stats.page_bytes > 0;
    outcome
}

/// Whether records are put aside for want of space.
fn is_aside(groups: &Groups) -> bool {
    groups.log().cell("groups.pending.0").is_some()
}

/// What survives a crash, in turn: every subset of what is not durable, if it has `units_max` parts at
/// most; otherwise nothing, everything, a random part.
fn outcomes(disk: &SimDisk, call: u64, units_max: usize) -> Vec<Persistence> {
    let units = disk.dirty_units();
    if units <= units_max {
        return (0..1 << units).map(Persistence::Mask).collect();
    }
    vec![Persistence::Nothing, Persistence::Everything, Persistence::Random(call)]
}

/// Crashes at every `stride`th call. Returns the first thing that is wrong, or how many crashes
/// there were.
pub(crate) fn explore(
    about: About,
    seed: u64,
    stride: usize,
    durability: Durability,
    units_max: usize,
) -> Result<u64, String> {
    let steps = about.program(seed);
    let rehearsal = SimDisk::new(seed);
    let outcome = run(&rehearsal, &steps, durability);
    if let Some(wrong) = outcome.wrong {
        return Err(format!("seed {seed}: {wrong}"));
    }
    let reached = match about {
        About::Carry => outcome.carried,
        About::FullDisk => outcome.taken_over,
    };
    if !reached && cfg!(not(feature = "sabotage")) {
        return Err(format!("seed {seed}: the program is not about {about:?}"));
    }
    let mut crashes = 0;
    for call in (1..=rehearsal.calls()).step_by(stride) {
        for moment in [Moment::Before, Moment::Within] {
            let disk = SimDisk::new(seed);
            disk.crash_at_call(call, moment);
            let outcome = run(&disk, &steps, durability);
            for persistence in outcomes(&disk, call, units_max) {
                crashes += 1;
                let context = format!("seed {seed}, {moment:?} call {call}, {persistence:?}");
                let disk = disk.crash_copy(persistence);
                check(&disk, &outcome, durability)
                    .map_err(|wrong| format!("{context}: {wrong}"))?;
            }
        }
    }
    Ok(crashes)
}

/// Opens what a crash left, compares it, and goes on with it, first as full as the disk is.
fn check(disk: &SimDisk, outcome: &Outcome, durability: Durability) -> Result<(), String> {
    let groups = open(disk, durability).map_err(|error| format!("open: {error}"))?;
    let found = Model::observed(&groups).map_err(|error| format!("read: {error}"))?;
    let possible = || outcome.models.iter().skip(outcome.acknowledged).map(Model::durable);
    if possible().all(|model| model != found) {
        let possible: Vec<_> = possible().map(|model| summary(&model)).collect();
        return Err(format!("{} is what no step left of {possible:#?}", summary(&found)));
    }
    let mut model = Model { groups: found, ..Model::default() };
    // Twice as much as can be put aside.
    let ids: Vec<_> = model.groups.keys().copied().collect();
    let promises = (0..2).flat_map(|cell| ids.iter().map(move |group| (*group, cell)));
    for (group, cell) in promises {
        let op = Op::Large { group, cell };
        model.run(&groups, &op).map_err(|error| format!("{op:?} after it: {error}"))?;
    }
    let copy = disk.crash_copy(Persistence::Nothing);
    let kept = open(&copy, durability).and_then(|groups| Model::observed(&groups));
    if durability == Durability::Always && kept.as_ref().ok() != Some(&model.durable()) {
        return Err(format!("{kept:?} after promises"));
    }
    // The log goes on: what comes later finds what is there.
    disk.set_capacity(None);
    for op in [
        Op::Create(9),
        Op::Append { group: 9, count: 4, bytes: 900 },
        Op::Maintain,
        Op::Append { group: 9, count: 4, bytes: 900 },
        Op::Maintain,
    ] {
        model.run(&groups, &op).map_err(|error| format!("{op:?} after it: {error}"))?;
    }
    drop(groups);
    let groups = open(disk, durability).map_err(|error| format!("second open: {error}"))?;
    let found = Model::observed(&groups).map_err(|error| format!("second read: {error}"))?;
    (found == model.durable()).then_some(()).ok_or_else(|| format!("{found:?} after going on"))
}

/// Enough of a state to tell it from others.
fn summary(groups: &BTreeMap<u64, GroupModel>) -> String {
    let head = |bytes: &Vec<u8>| {
        let text: Vec<u8> = bytes.iter().copied().take_while(u8::is_ascii_graphic).collect();
        format!("{} +{}", String::from_utf8_lossy(&text), bytes.len() - text.len())
    };
    let group = |(id, model): (&u64, &GroupModel)| {
        let cells: Vec<_> =
            model.cells.iter().map(|(name, value)| format!("{name}={}", head(value))).collect();
        let entries: Vec<_> = model.entries.iter().map(head).collect();
        format!("{id} from {}: {entries:?} {cells:?}", model.first)
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn power_cut_at_any_call_leaves_what_some_step_left() {
    for (about, stride) in About::ALL.into_iter().zip([9, 23]) {
        let mut crashes = 0;
        for (seed, durability) in [(1, Durability::Always), (2, Durability::Barrier)] {
            let explored = explore(about, seed, stride, durability, 1);
            crashes += explored.unwrap_or_else(|wrong| panic!("{about:?}: {wrong}"));
        }
        assert!(crashes > 500, "{about:?}: {crashes} crashes");
    }
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn failure_of_any_call_leaves_what_some_step_left() {
    let (seed, durability) = (3, Durability::Always);
    for (about, stride) in About::ALL.into_iter().zip([7, 17]) {
        let steps = about.program(seed);
        let rehearsal = SimDisk::new(seed);
        run(&rehearsal, &steps, durability);
        let mut failures = 0;
        for call in (1..=rehearsal.calls()).step_by(stride) {
            for fault in [Fault::Io, Fault::Full] {
                let disk = SimDisk::new(seed);
                disk.fail_call(call, fault, Repeat::Once);
                let outcome = run(&disk, &steps, durability);
                failures += disk.counts().faults;
                disk.clear_faults();
                let context = format!("{about:?}, {fault:?} at call {call}");
                let wrong = check(&disk.kill(), &outcome, durability);
                wrong.unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
            }
        }
        assert!(failures > 50, "{about:?}: {failures} failures");
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn planted_bugs_are_noticed() {
    use indelible_groups::sabotage::{BUGS, enable};
    for bug in BUGS {
        enable(Some(*bug));
        let noticed = (1..4).any(|seed| {
            let notices = |about| explore(about, seed, 7, Durability::Always, 1).is_err();
            About::ALL.into_iter().any(notices)
        });
        enable(None);
        assert!(noticed, "{bug:?}");
    }
}
