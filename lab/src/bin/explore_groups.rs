//! The explorer for groups: power cuts within and before every call of programs in which a slow group
//! is paged and carried forward, and every subset of what was not durable there, if that is not much.
//!
//! `cargo run --release -p indelible-lab --bin explore_groups -- 10 1`: ten programs, from seed 1.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it fails as the tests do whose steps it takes"
)]

use std::process::ExitCode;

use indelible::Durability;

#[path = "../../../groups/tests/model/crash.rs"]
mod crash;
#[path = "../../../groups/tests/model/ops.rs"]
#[expect(dead_code, reason = "the tests of groups take every step there is")]
mod ops;

/// Things that are not durable at a crash of which every subset survives in turn.
const UNITS_MAX: usize = 7;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut number = |otherwise| words.next().map_or(Ok(otherwise), |word| word.parse::<u64>());
    let (Ok(programs), Ok(seed)) = (number(10), number(1)) else {
        eprintln!("usage: explore_groups [PROGRAMS [SEED]]");
        return ExitCode::FAILURE;
    };
    let mut states = 0;
    for seed in seed..seed.saturating_add(programs) {
        for durability in [Durability::Always, Durability::Barrier] {
            match crash::explore(seed, 1, durability, UNITS_MAX) {
                Ok(crashes) => states += crashes,
                Err(wrong) => {
                    eprintln!("{durability:?}: {wrong}");
                    return ExitCode::FAILURE;
                }
            }
        }
        println!("{states} crash states up to the program of seed {seed}");
    }
    println!("{programs} programs, {states} crash states, nothing lost");
    ExitCode::SUCCESS
}
