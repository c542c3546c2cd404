//! Reads of 10 000 entries in a row out of a log that was just written.
//!
//! A read is over when every entry of it was looked at once: a form that leaves it to the reader to
//! find the entries in a buffer is not done when it has the buffer.

use std::hint::black_box;
use std::time::Instant;

use super::{Contestant, Payloads, Plan, finish};
use crate::ENTRY_BYTES;
use crate::grid::{Grid, Table, order};
use crate::owned::Seen;
use crate::peer::{FLOOR, Mode, Outcome, Peer};

const LOADED: usize = 200_000;
const READ: usize = 10_000;

pub fn run(plan: &Plan) -> Outcome<Table> {
    let payloads = Payloads::new();
    // Synced, in batches: the log as a consensus host would have left it.
    let mut contestants = Contestant::all(plan, "reads", Mode::Synced)?;
    for contestant in &mut contestants {
        contestant.turn(|peer| {
            for first in (0..LOADED).step_by(1000) {
                peer.append(0, &payloads.batch(first, 1000))?;
            }
            peer.flush()
        });
    }
    plan.settle()?;
    let mut grid = Grid::new("read of 10 000 entries", "µs", false, FLOOR);
    for round in 0..=plan.rounds.min(LOADED / READ - 1) {
        grid.next_round();
        // Somewhere else each time, and never a place that another round has warmed up.
        let first = ((round * 7919) % (LOADED / READ) * READ) as u64;
        for at in order(contestants.len(), round) {
            let contestant = &mut contestants[at];
            let owned = contestant.turn(|peer| owned(peer, first));
            let borrowed = contestant.turn(|peer| borrowed(peer, first)).flatten();
            if round > 0 {
                grid.record(contestant.name, "owned", owned.into_iter().collect());
                grid.record(contestant.name, "borrowed", borrowed.into_iter().collect());
            }
        }
    }
    finish(plan, Mode::Synced, &grid, contestants)
}

fn owned(peer: &dyn Peer, first: u64) -> Outcome<f64> {
    let start = Instant::now();
    let owned = black_box(peer.read(first, READ)?);
    let seen = Seen::all(&*owned);
    let elapsed = start.elapsed();
    check(seen)?;
    if owned.len() != READ {
        return Err(format!("says it has {} entries, and shows {READ}", owned.len()).into());
    }
    Ok(elapsed.as_secs_f64() * 1e6)
}

fn borrowed(peer: &dyn Peer, first: u64) -> Outcome<Option<f64>> {
    let start = Instant::now();
    let Some(seen) = peer.look(first, READ) else {
        return Ok(None);
    };
    let elapsed = start.elapsed();
    check(seen?)?;
    Ok(Some(elapsed.as_secs_f64() * 1e6))
}

/// Refuses a read that saw anything but what was asked for.
fn check(seen: Seen) -> Outcome<()> {
    let all = Seen { entries: READ, bytes: READ * ENTRY_BYTES };
    if seen == all { Ok(()) } else { Err(format!("{seen:?} instead of {all:?}").into()) }
}
