//! `operations`: programs of mutations, crashes and faults on the simulated disk, held against the
//! model. `indelible::testing::operations` says how bytes become a program, and
//! `tests/model/operations.rs` runs the same without a fuzzer.
//!
//! Invariants:
//! 1. What was acknowledged is there after every crash, in order, exactly; what was not is there
//!    whole or not at all.
//! 2. What recovery calls torn was never acknowledged; after a close that was the last word nothing
//!    is.
//! 3. Nothing is refused, and nothing fails, without a fault, a crash or a full disk behind it.
//! 4. After each step the log reads as the model says, entries, cells and side files.
//! 5. Whatever was left by crashes within recoveries opens in the end, can be written on, closed,
//!    and opened cleanly.

use crate::Seed;

/// One execution.
pub fn run(input: &[u8]) {
    if let Err(what) = indelible::testing::operations::run(input) {
        panic!("{what}");
    }
}

/// Programs by hand, one for each mishap, under several options; and some of chance.
pub fn seeds() -> Vec<Seed> {
    let append = [0, 1, 0, 40, 13, 0];
    let big = [1, 1, 6, 5, 7, 200];
    let submit = [6, 1, 0, 90, 8, 2];
    let cut = [13, 33, 0];
    let parts: [(&str, &[&[u8]]); 8] = [
        ("power_cut", &[&append, &submit, &cut, &append]),
        ("killed", &[&append, &big, &[12], &submit, &[12]]),
        ("rolled", &[&big, &big, &big, &[2, 1, 10, 9, 8, 3], &[10], &big, &cut]),
        ("io_error", &[&append, &[15, 2, 0, 0], &big, &[0, 0], &append]),
        ("full_disk", &[&append, &[18, 9], &big, &big, &[2, 0, 13, 0], &[19], &big]),
        ("stopped", &[&append, &[17, 9, 1], &big, &big, &[40, 0], &append]),
        ("recovery", &[&big, &submit, &[13, 60, 11, 5, 23, 7, 0], &append]),
        ("side_files", &[&[0, 1, 15, 200, 10, 1], &[0, 0, 14, 4], &[10], &cut, &[11]]),
    ];
    let mut seeds = Vec::new();
    for (number, (name, parts)) in parts.iter().enumerate() {
        for config in [number, number + 3] {
            let config = u8::try_from(config % 8).unwrap();
            seeds.push((format!("{name}_{config}"), [&[config], &parts.concat()[..]].concat()));
        }
    }
    let mut state = 1_u64;
    for number in 0..16_u8 {
        let mut bytes = vec![number];
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push(state.to_be_bytes()[0]);
        }
        seeds.push((format!("chance_{number:02}"), bytes));
    }
    seeds
}
