//! The programs of the fuzz target `operations` without a fuzzer: its committed seeds, and bytes
//! drawn from a seed. `INDELIBLE_OPERATIONS=100000 INDELIBLE_SEED=7` runs more, others.
#![expect(clippy::print_stdout, reason = "what was done shows that something was")]

use std::path::Path;

use indelible::testing::operations::{Done, run};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 24
    }
}

#[test]
fn drawn_programs_keep_every_promise() {
    let (count, seed) = (number("INDELIBLE_OPERATIONS", 600), number("INDELIBLE_SEED", 1));
    let mut total = Done::default();
    for program in 0..count {
        let mut dice = Dice(seed.wrapping_mul(1 << 32) + program);
        let length = 10 + dice.next() % 110;
        let bytes: Vec<u8> = (0..length).map(|_| dice.next().to_le_bytes()[0]).collect();
        match run(&bytes) {
            Ok(done) => total.add(done),
            Err(what) => panic!("seed {seed}, program {program}: {what}\ninput {bytes:?}"),
        }
    }
    println!("{count} programs, seed {seed}: {total:?}");
    let Done { crashes, crashes_in_recovery, faults, refused, set_lazily, .. } = total;
    let injected = [crashes, crashes_in_recovery, faults, refused, set_lazily];
    assert!(injected.iter().all(|count| *count > 0), "nothing was injected: {total:?}");
}

#[test]
fn seeds_of_the_fuzzer_keep_every_promise() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/seeds");
    let mut count = 0;
    for file in std::fs::read_dir(seeds).unwrap() {
        let path = file.unwrap().path();
        if let Err(what) = run(&std::fs::read(&path).unwrap()) {
            panic!("{}: {what}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "the seeds are gone");
}
