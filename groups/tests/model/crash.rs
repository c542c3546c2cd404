//! Power cuts at every call of the disk, through checkpoints, carries and trims: what was
//! acknowledged is there, and what is there is what some step left.

use std::collections::BTreeMap;

use indelible::Durability;
#[cfg(all(test, not(feature = "sabotage")))]
use indelible::io::sim::{Fault, Repeat};
use indelible::io::sim::{Moment, Persistence, SimDisk};

use crate::ops::{GroupModel, Model, Op, open};

/// Steps in which a slow group is carried forward, from a seed.
pub(crate) fn program(seed: u64) -> Vec<Op> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
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

/// Runs a program until it ends or the power is cut. Returns what was expected after each step,
/// and how many steps were acknowledged.
pub(crate) fn run(disk: &SimDisk, ops: &[Op], durability: Durability) -> (Vec<Model>, usize, bool) {
    let mut models = vec![Model::default()];
    let mut acknowledged = 0;
    let Ok(groups) = open(disk, durability) else { return (models, 0, false) };
    let mut model = Model::default();
    for op in ops {
        let before = model.seen();
        let answer = model.run(&groups, op);
        models.push(model.clone());
        if answer.is_err() || disk.is_down() {
            // The close writes what was set lazily, also if the step was refused.
            models.push(Model { groups: before, counter: 0 });
            models.push(Model { groups: model.seen(), counter: 0 });
            return (models, acknowledged, false);
        }
        let binding = matches!(op, Op::Sync | Op::Maintain) || durability == Durability::Always;
        if binding {
            acknowledged = models.len() - 1;
        }
    }
    // The close writes what was set lazily.
    models.push(Model { groups: model.seen(), counter: 0 });
    let stats = groups.stats();
    let carried = stats.carried_records > 0 && groups.log().first() > 0 && stats.page_bytes > 0;
    (models, acknowledged, carried)
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
    seed: u64,
    stride: usize,
    durability: Durability,
    units_max: usize,
) -> Result<u64, String> {
    let ops = program(seed);
    let rehearsal = SimDisk::new(seed);
    let (_, _, carried) = run(&rehearsal, &ops, durability);
    if !carried && cfg!(not(feature = "sabotage")) {
        return Err(format!("seed {seed}: nothing was carried forward, or no page was written"));
    }
    let mut crashes = 0;
    for call in (1..=rehearsal.calls()).step_by(stride) {
        for moment in [Moment::Before, Moment::Within] {
            let disk = SimDisk::new(seed);
            disk.crash_at_call(call, moment);
            let (models, acknowledged, _) = run(&disk, &ops, durability);
            for persistence in outcomes(&disk, call, units_max) {
                crashes += 1;
                let context = format!("seed {seed}, {moment:?} call {call}, {persistence:?}");
                let disk = disk.crash_copy(persistence);
                check(&disk, &models, acknowledged, durability)
                    .map_err(|wrong| format!("{context}: {wrong}"))?;
            }
        }
    }
    Ok(crashes)
}

/// Opens what a crash left, compares it, and goes on with it.
fn check(
    disk: &SimDisk,
    models: &[Model],
    acknowledged: usize,
    durability: Durability,
) -> Result<(), String> {
    let groups = open(disk, durability).map_err(|error| format!("open: {error}"))?;
    let found = Model::observed(&groups).map_err(|error| format!("read: {error}"))?;
    let after = models.iter().skip(acknowledged).position(|model| model.durable() == found);
    if after.is_none() {
        let possible = models.iter().skip(acknowledged).map(|model| summary(&model.durable()));
        let possible: Vec<_> = possible.collect();
        return Err(format!("{} is what no step left of {possible:#?}", summary(&found)));
    }
    // The log goes on: what comes later finds what is there.
    let mut model = Model { groups: found, ..Model::default() };
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
    let mut crashes = 0;
    for (seed, durability) in [(1, Durability::Always), (2, Durability::Barrier)] {
        crashes += explore(seed, 9, durability, 1).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    assert!(crashes > 500, "{crashes} crashes");
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn failure_of_any_call_leaves_what_some_step_left() {
    let (seed, durability) = (3, Durability::Always);
    let ops = program(seed);
    let rehearsal = SimDisk::new(seed);
    run(&rehearsal, &ops, durability);
    let mut failures = 0;
    for call in (1..=rehearsal.calls()).step_by(7) {
        for fault in [Fault::Io, Fault::Full] {
            let disk = SimDisk::new(seed);
            disk.fail_call(call, fault, Repeat::Once);
            let (models, acknowledged, _) = run(&disk, &ops, durability);
            failures += disk.counts().faults;
            disk.clear_faults();
            let context = format!("{fault:?} at call {call}");
            let wrong = check(&disk.kill(), &models, acknowledged, durability);
            wrong.unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
        }
    }
    assert!(failures > 50, "{failures} failures");
}

#[cfg(feature = "sabotage")]
#[test]
fn planted_bugs_are_noticed() {
    use indelible_groups::sabotage::{BUGS, enable};
    for bug in BUGS {
        enable(Some(*bug));
        let noticed = (1..4).any(|seed| explore(seed, 7, Durability::Always, 1).is_err());
        enable(None);
        assert!(noticed, "{bug:?}");
    }
}
