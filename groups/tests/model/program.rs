//! Programs out of bytes: steps on four groups, and what happens to the log and its disk meanwhile,
//! held against maps in memory. The fuzz target `groups_operations` runs them, and `main` does without
//! a fuzzer.
//!
//! Invariants:
//! 1. After each step the groups hold what the maps do.
//! 2. After a close they hold all of it.
//! 3. After a kill or a power cut, whatever of the unsynced writes survives, they hold what they did
//!    after some step since the last that was acknowledged as durable, whole steps only, but for what
//!    was set lazily.
//! 4. Nothing is refused or fails, but for a step that needs space on a full disk, which changes
//!    nothing; promises and trims go on there.
//! 5. Whatever was left opens, can be written on and closed, and opens again.

use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::{Durability, Error};
use indelible_groups::Groups;

use super::ops::{Model, Op, open};

/// Most steps of a program.
const STEPS_MAX: usize = 200;
/// Bytes of a step.
const STEP_BYTES: usize = 4;

struct Run {
    disk: SimDisk,
    durability: Durability,
    groups: Groups,
    model: Model,
    /// What may be found after a power cut: the states since the last that is durable, oldest first.
    possible: Vec<Model>,
}

/// Runs the program that these bytes are: the durability, then steps of four bytes. Panics if an
/// invariant is broken.
pub(crate) fn run(bytes: &[u8]) {
    let Some((config, steps)) = bytes.split_first() else { return };
    let durability = if config % 2 == 0 { Durability::Always } else { Durability::Barrier };
    let disk = SimDisk::new(u64::from(*config));
    let groups = open(&disk, durability).unwrap();
    let model = Model::default();
    let mut run = Run { disk, durability, groups, possible: vec![model.clone()], model };
    let (steps, _) = steps.as_chunks::<STEP_BYTES>();
    for step in steps.iter().take(STEPS_MAX) {
        run.step(*step);
    }
    run.disk.set_capacity(None);
    run.close();
    run.close();
}

/// The operation that three bytes are.
fn op(kind: u8, a: u8, b: u8) -> Op {
    let (group, small) = (u64::from(a % 4), u64::from(b % 8));
    match kind {
        0 => Op::Create(group),
        1 => Op::Remove(group),
        2 => Op::Replace { group, back: small, count: u64::from(a / 4 % 4) },
        3 => Op::Trim { group, count: u64::from(b % 32) },
        4 => Op::Reset { group, ahead: small },
        5 => Op::Set { group, cell: b, value: b / 4 },
        6 => Op::Clear { group, cell: b },
        7 => Op::Snapshot { group, bytes: usize::from(b) * 40 },
        8 => Op::Lazily { group, value: b % 4 },
        9 => Op::Move { from: group, to: u64::from(b % 4) },
        10 => Op::Sync,
        11 => Op::Maintain,
        13 => Op::Retake { group },
        14 => Op::Large { group, cell: b },
        15 if b.is_multiple_of(4) => Op::Many { group },
        _ => Op::Append { group, count: u64::from(a / 4 % 16), bytes: usize::from(b) * 2 + 1 },
    }
}

impl Run {
    fn step(&mut self, [kind, a, b, c]: [u8; STEP_BYTES]) {
        match kind % 24 {
            17 => self.close(),
            18 => self.crash(self.disk.kill_copy()),
            19 => self.power_cut(a),
            20 => {
                // At a call to come: one of those of the next steps.
                let call = self.disk.calls() + u64::from(c % 64) + 1;
                let moment = if b % 2 == 0 { Moment::Before } else { Moment::Within };
                self.disk.crash_at_call(call, moment);
            }
            21 => self.disk.set_capacity(Some(self.disk.used() + u64::from(c) * 512)),
            22 => self.disk.set_capacity(None),
            kind => self.carry_out(&op(kind, a, b), c),
        }
        if self.disk.is_down() {
            self.power_cut(c);
        }
    }

    fn carry_out(&mut self, op: &Op, c: u8) {
        let before = self.model.clone();
        let answer = self.model.run(&self.groups, op);
        if self.disk.is_down() {
            self.possible.push(self.model.clone());
            self.possible.push(self.seen());
            return self.power_cut(c);
        }
        let done = answer.is_ok();
        match answer {
            Ok(()) => self.possible.push(self.model.clone()),
            // Nothing was changed; a checkpoint, or what is given back, waits for space.
            Err(Error::DiskFull { .. }) => {
                let counter = self.model.counter;
                self.model = Model { counter, ..before };
            }
            Err(error) => panic!("{op:?}: {error}"),
        }
        let binding =
            matches!(op, Op::Sync | Op::Maintain) || self.durability == Durability::Always;
        if binding && done {
            self.possible.drain(..self.possible.len() - 1);
        }
        match Model::observed(&self.groups) {
            Ok(found) => assert_eq!(found, self.model.seen(), "after {op:?}"),
            Err(_) if self.disk.is_down() => self.power_cut(c),
            Err(error) => panic!("read after {op:?}: {error}"),
        }
    }

    /// The model with the lazily set cells in it.
    fn seen(&self) -> Model {
        Model { groups: self.model.seen(), counter: self.model.counter }
    }

    fn close(&mut self) {
        let lazy = self.model.seen() != self.model.durable();
        let closed = self.groups.close();
        let reopened = open(&self.disk, self.durability);
        let found = reopened.and_then(|groups| {
            self.groups = groups;
            Model::observed(&self.groups)
        });
        let found = match (closed, found) {
            (Ok(()), Ok(found)) => found,
            (Err(Error::DiskFull { .. }), Ok(found)) if lazy => found,
            _ if self.disk.is_down() => {
                self.possible.push(self.seen());
                return self.power_cut(0);
            }
            (closed, found) => panic!("close: {closed:?}, then {found:?}"),
        };
        // On a full disk what was set lazily may find no room.
        assert!(found == self.model.seen() || lazy && found == self.model.durable(), "a close");
        self.found(found);
    }

    fn power_cut(&mut self, how: u8) {
        let persistence = match how % 4 {
            0 => Persistence::Nothing,
            1 => Persistence::Everything,
            _ => Persistence::Random(u64::from(how)),
        };
        self.crash(self.disk.crash_copy(persistence));
    }

    /// Opens what a mishap left; what the old handles still do concerns another disk.
    fn crash(&mut self, left: SimDisk) {
        self.groups = open(&left, self.durability).unwrap();
        self.disk = left;
        let found = Model::observed(&self.groups).unwrap();
        let known = self.possible.iter().any(|model| model.durable() == found);
        assert!(known, "{found:?} after a crash is none of {:?}", self.possible);
        self.found(found);
    }

    /// What an open found is durable.
    fn found(&mut self, groups: std::collections::BTreeMap<u64, super::ops::GroupModel>) {
        self.model = Model { groups, counter: self.model.counter };
        self.possible = vec![self.model.clone()];
    }
}
