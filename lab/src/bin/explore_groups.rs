//! The explorer for groups: power cuts within and before every call of programs in which a slow group
//! is paged and carried forward, and of those in which the disk becomes full, and every subset of what
//! was not durable there, if that is not much.
//!
//! `cargo run --release -p indelible-lab --bin explore_groups -- 10 1`: ten programs, from seed 1. With
//! `--rot` before these, the logs of the programs decay instead: after a close, after a kill, and after
//! power cuts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it fails as the tests do whose steps it takes"
)]

use std::ops::Range;
use std::process::ExitCode;

use indelible::Durability;

#[path = "../../../groups/tests/model/crash.rs"]
mod crash;
#[path = "../../../groups/tests/model/ops.rs"]
#[expect(dead_code, reason = "the tests of groups take every step there is")]
mod ops;
#[path = "../../../groups/tests/model/rot.rs"]
mod rot;

/// Things that are not durable at a crash of which every subset survives in turn.
const UNITS_MAX: usize = 6;

/// Where logs come to rest that decay, the power cuts in percent of the calls.
const ENDS: [rot::End; 7] = [
    rot::End::Closed,
    rot::End::Killed,
    rot::End::Cut(15),
    rot::End::Cut(35),
    rot::End::Cut(55),
    rot::End::Cut(75),
    rot::End::Cut(95),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let decays = words.next_if(|word| word == "--rot").is_some();
    let mut number = |otherwise| words.next().map_or(Ok(otherwise), |word| word.parse::<u64>());
    let (Ok(programs), Ok(seed)) = (number(10), number(1)) else {
        eprintln!("usage: explore_groups [--rot] [PROGRAMS [SEED]]");
        return ExitCode::FAILURE;
    };
    let seeds = seed..seed.saturating_add(programs);
    if decays { decay(seeds) } else { crash_everywhere(seeds) }
}

/// Lets the logs of the programs decay.
fn decay(seeds: Range<u64>) -> ExitCode {
    let mut tally = rot::Tally::default();
    let density = rot::Density { bits: 61, sectors: 1, lengths: 61 };
    for (seed, end) in seeds.flat_map(|seed| ENDS.map(|end| (seed, end))) {
        if let Err(wrong) = rot::explore(seed, end, density, &mut tally) {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
        println!("up to seed {seed}, {end:?}: {tally}");
    }
    println!("nothing forgotten");
    ExitCode::SUCCESS
}

/// Cuts the power at every call of the programs.
fn crash_everywhere(seeds: Range<u64>) -> ExitCode {
    let (programs, mut states) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        for durability in [Durability::Always, Durability::Barrier] {
            for about in crash::About::ALL {
                match crash::explore(about, seed, 1, durability, UNITS_MAX) {
                    Ok(crashes) => states += crashes,
                    Err(wrong) => {
                        eprintln!("{about:?}, {durability:?}: {wrong}");
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
        println!("{states} crash states up to the program of seed {seed}");
    }
    println!("{programs} programs, {states} crash states, nothing lost");
    ExitCode::SUCCESS
}
