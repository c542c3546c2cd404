//! Lives of whole OmniPaxos clusters in this process, each on simulated disks and from one seed: power
//! cuts between and within calls, rot in sealed segments that is repaired and refilled
//! from a peer, partitions, delays, trims.
//!
//! A life ends with every fault healed. Then each node must have decided the same entries, and all that
//! anybody ever saw decided must be among them, in the same places.
//!
//! `cargo run --release -p indelible-lab --bin clusters -- --lives 1000 --seed 1`
#![expect(clippy::print_stdout, reason = "the summary is what it is for")]
#![expect(clippy::print_stderr, reason = "violations are for people")]
#![expect(clippy::disallowed_methods, reason = "a program that is timed, not the engine")]

mod history;
mod life;
mod network;
mod node;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use self::life::{Counts, Life};

/// Lives of whole OmniPaxos clusters on simulated disks.
#[derive(Debug, Parser)]
struct Args {
    /// How many lives.
    #[arg(long, default_value_t = 1_000)]
    lives: u64,
    /// Everything follows from it. Life number n of a run is the first one of seed + n.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tells every step.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut violations = 0_u64;
    for seed in args.seed..args.seed.saturating_add(args.lives) {
        match live(seed, args.verbose) {
            Ok(lived) => counts.add(&lived),
            Err(violation) => {
                violations += 1;
                eprintln!(
                    "VIOLATION  {violation}\n  again: clusters --lives 1 --verbose --seed {seed}"
                );
            }
        }
    }
    println!(
        "{} lives: {} entries decided, {} power cuts ({} within a call), \
         {} logs repaired and refilled, {} partitions, {} trims; {violations} violations, {:.0} s",
        args.lives,
        counts.decided,
        counts.cuts,
        counts.cuts_within,
        counts.refilled,
        counts.partitions,
        counts.trims,
        started.elapsed().as_secs_f64()
    );
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One life. A panic outside of a node is a violation as well.
fn live(seed: u64, verbose: bool) -> Result<Counts, String> {
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| Life::new(seed, verbose).live()));
    lived.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|&it| it.to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::live;

    #[cfg(not(feature = "sabotage"))]
    #[test]
    fn a_few_lives_lose_nothing() {
        // In the last one the power fails while decided entries are read.
        for seed in (1..20).chain([5022]) {
            live(seed, false).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        }
    }

    /// The only test of its build: a planted bug is planted for everybody in the process.
    #[cfg(feature = "sabotage")]
    #[test]
    fn a_sync_that_does_nothing_is_noticed() {
        use indelible::testing::sabotage::{Bug, enable};
        enable(Some(Bug::AcknowledgeBeforeSync));
        let noticed = (1..200).any(|seed| live(seed, false).is_err());
        enable(None);
        assert!(noticed);
    }
}
