//! Durable appends by one thread: how long one call takes.

use std::time::Instant;

use super::{Contestant, Payloads, Plan, finish};
use crate::grid::{Grid, Table, order};
use crate::peer::{FLOOR, Mode, Outcome};

const BATCHES: [usize; 2] = [1, 100];

pub fn run(plan: &Plan) -> Outcome<Table> {
    let payloads = Payloads::new();
    let mut contestants = Contestant::all(plan, "synced", Mode::Synced)?;
    let mut grid = Grid::new("durable append, one thread", "µs", false, FLOOR);
    let calls = if plan.quick { 8 } else { 32 };
    // Round 0 is for caches and first files; it is not kept.
    for round in 0..=plan.rounds {
        grid.next_round();
        for batch in BATCHES {
            let entries = payloads.batch(round, batch);
            let column = format!("batch of {batch}");
            for at in order(contestants.len(), round) {
                let contestant = &mut contestants[at];
                let times = contestant.turn(|peer| {
                    let mut times = Vec::with_capacity(calls);
                    for _ in 0..calls {
                        let start = Instant::now();
                        peer.append(0, &entries)?;
                        times.push(start.elapsed().as_secs_f64() * 1e6);
                    }
                    Ok(times)
                });
                if round > 0 {
                    grid.record(contestant.name, &column, times.unwrap_or_default());
                }
            }
        }
    }
    finish(plan, Mode::Synced, &grid, contestants)
}
