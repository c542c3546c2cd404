//! Target `groups_operations`: programs on groups, with closes, kills, power cuts and full disks,
//! against maps in memory. `groups/tests/model/program.rs` says how bytes become a program and lists
//! the invariants; the tests of groups run the same without a fuzzer.

#[path = "../../groups/tests/model/ops.rs"]
mod ops;
#[path = "../../groups/tests/model/program.rs"]
mod program;

use crate::Seed;

/// One execution.
pub fn run(bytes: &[u8]) {
    program::run(bytes);
}

/// Programs by hand, one for each mishap, and some of chance.
pub fn seeds() -> Vec<Seed> {
    let create = [0, 0, 0, 0, 0, 1, 0, 0];
    // Sixteen entries of 81 bytes in group 0, then of 321 bytes in group 1.
    let append = [12, 60, 40, 0, 12, 61, 160, 0];
    let trim = [3, 1, 31, 0];
    let busy = [append, append].concat();
    let parts: [(&str, &[&[u8]]); 7] = [
        ("closed", &[&append, &trim, &[17, 0, 0, 0], &append]),
        ("killed", &[&append, &[8, 0, 1, 0], &[18, 0, 0, 0], &append]),
        ("power_cut", &[&busy, &[19, 2, 0, 0], &append, &[19, 0, 0, 0]]),
        ("cut_within", &[&busy, &[20, 0, 1, 9], &busy, &[11, 0, 0, 0]]),
        ("full", &[&busy, &[21, 0, 0, 1], &busy, &[5, 0, 3, 0], &trim, &[22, 0, 0, 0], &append]),
        ("carried", &[&busy, &busy, &trim, &busy, &trim, &busy, &trim, &[11, 0, 0, 0], &append]),
        ("moved", &[&append, &[7, 0, 200, 0], &[9, 0, 1, 0], &[2, 9, 3, 0], &[1, 1, 0, 0]]),
    ];
    let mut seeds = Vec::new();
    for (name, parts) in parts {
        for config in [0, 1] {
            let bytes = [&[config], &create[..], &parts.concat()].concat();
            seeds.push((format!("{name}_{config}"), bytes));
        }
    }
    let mut state = 7_u64;
    for number in 0..8_u8 {
        let mut bytes = vec![number];
        bytes.extend(create);
        for _ in 0..400 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push(state.to_be_bytes()[0]);
        }
        seeds.push((format!("chance_{number}"), bytes));
    }
    seeds
}
