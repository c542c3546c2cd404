//! Appends that wait for no disk: how many entries a second one thread gets rid of.
//!
//! What such an append survives differs from peer to peer; `survival` finds out. After its turn each
//! peer puts what it wrote on the device and has a moment for what it does in the background, untimed,
//! so that nobody's turn pays for what another one left behind.

use std::time::{Duration, Instant};

use super::{Contestant, Payloads, Plan, finish};
use crate::grid::{Grid, Table, order};
use crate::peer::{FLOOR, Mode, Outcome};

const BATCHES: [usize; 2] = [1, 100];
/// Entries between two looks at the clock.
const STRIDE: usize = 100;

pub fn run(plan: &Plan) -> Outcome<Table> {
    let payloads = Payloads::new();
    let mut contestants = Contestant::all(plan, "unsynced", Mode::Unsynced)?;
    let mut grid = Grid::new("unsynced append, one thread", "entries/s", true, FLOOR);
    let rest = Duration::from_millis(if plan.quick { 10 } else { 100 });
    let slice = Duration::from_millis(if plan.quick { 5 } else { 25 });
    for round in 0..=plan.rounds {
        grid.next_round();
        for batch in BATCHES {
            let entries = payloads.batch(round, STRIDE);
            let column = format!("batch of {batch}");
            for at in order(contestants.len(), round) {
                let contestant = &mut contestants[at];
                let rate = contestant.turn(|peer| {
                    let start = Instant::now();
                    let mut count = 0;
                    while start.elapsed() < slice {
                        for batch in entries.chunks(batch) {
                            peer.append(0, batch)?;
                        }
                        count += STRIDE;
                    }
                    Ok(count as f64 / start.elapsed().as_secs_f64())
                });
                contestant.turn(|peer| peer.flush());
                std::thread::sleep(rest);
                if round > 0 {
                    grid.record(contestant.name, &column, rate.into_iter().collect());
                }
            }
        }
    }
    finish(plan, Mode::Unsynced, &grid, contestants)
}
