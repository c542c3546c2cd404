//! Durable appends of single entries by many threads: how well a peer shares a sync.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::{Contestant, Payloads, Plan, finish};
use crate::grid::{Grid, Table, order};
use crate::peer::{FLOOR, Mode, Outcome, Peer};

const THREADS: [usize; 4] = [1, 4, 16, 64];

pub fn run(plan: &Plan) -> Outcome<Table> {
    let payloads = Payloads::new();
    let mut contestants = Contestant::all(plan, "threads", Mode::Synced)?;
    let mut grid = Grid::new("durable append, many threads", "entries/s", true, FLOOR);
    let slice = Duration::from_millis(if plan.quick { 40 } else { 150 });
    for round in 0..=plan.rounds {
        grid.next_round();
        for threads in THREADS {
            let column = format!("{threads} threads");
            for at in order(contestants.len(), round) {
                let contestant = &mut contestants[at];
                let rate = contestant.turn(|peer| together(peer, &payloads, threads, slice));
                if round > 0 {
                    grid.record(contestant.name, &column, rate.into_iter().collect());
                }
            }
        }
    }
    finish(plan, Mode::Synced, &grid, contestants)
}

/// Entries a second of `threads` threads that append one entry after another for `slice`.
fn together(peer: &dyn Peer, payloads: &Payloads, threads: usize, slice: Duration) -> Outcome<f64> {
    let start_line = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|lane| {
                let start_line = &start_line;
                scope.spawn(move || -> Outcome<usize> {
                    start_line.wait();
                    let start = Instant::now();
                    let mut count = 0;
                    while start.elapsed() < slice {
                        peer.append(lane, &[payloads.get(lane + count)])?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        start_line.wait();
        let start = Instant::now();
        let mut total = 0;
        for writer in writers {
            total += writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(total as f64 / start.elapsed().as_secs_f64())
    })
}
