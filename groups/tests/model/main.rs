//! Groups against a model of maps in memory: any steps, reopened in between, and crashed at any call
//! on a simulated disk. Bugs that are planted (feature `sabotage`) have to be noticed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod crash;
mod ops;
mod program;
mod rot;

use indelible::Durability;
use indelible::io::sim::SimDisk;
use proptest::prelude::*;

use ops::{Model, Op, open};

fn op() -> impl Strategy<Value = Op> {
    let group = 0_u64..4;
    prop_oneof![
        2 => group.clone().prop_map(Op::Create),
        1 => group.clone().prop_map(Op::Remove),
        8 => (group.clone(), 0_u64..6, 1_usize..600)
            .prop_map(|(group, count, bytes)| Op::Append { group, count, bytes }),
        3 => (group.clone(), 0_u64..5, 0_u64..4)
            .prop_map(|(group, back, count)| Op::Replace { group, back, count }),
        4 => (group.clone(), 0_u64..9).prop_map(|(group, count)| Op::Trim { group, count }),
        1 => (group.clone(), 0_u64..3).prop_map(|(group, ahead)| Op::Reset { group, ahead }),
        2 => (group.clone(), any::<u8>(), 0_u8..3)
            .prop_map(|(group, cell, value)| Op::Set { group, cell, value }),
        1 => (group.clone(), any::<u8>()).prop_map(|(group, cell)| Op::Clear { group, cell }),
        1 => (group.clone(), 0_usize..9000)
            .prop_map(|(group, bytes)| Op::Snapshot { group, bytes }),
        1 => group.clone().prop_map(|group| Op::Snapshot { group, bytes: 0 }),
        1 => group.clone().prop_map(|group| Op::Retake { group }),
        2 => (group.clone(), any::<u8>()).prop_map(|(group, cell)| Op::Large { group, cell }),
        1 => group.clone().prop_map(|group| Op::Many { group }),
        2 => (group.clone(), 0_u8..3).prop_map(|(group, value)| Op::Lazily { group, value }),
        2 => (group.clone(), group).prop_map(|(from, to)| Op::Move { from, to }),
        1 => Just(Op::Sync),
        1 => Just(Op::Maintain),
    ]
}

/// What happens to the log between two stretches of steps.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Closed,
    Killed,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![Just(Between::Nothing), Just(Between::Closed), Just(Between::Killed)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn groups_do_what_maps_in_memory_do(
        stretches in proptest::collection::vec(
            (proptest::collection::vec(op(), 1..60), between()), 1..5
        )
    ) {
        let mut disk = SimDisk::new(1);
        let mut groups = open(&disk, Durability::Always).unwrap();
        let mut model = Model::default();
        for (ops, between) in &stretches {
            for op in ops {
                model.run(&groups, op).unwrap();
                prop_assert_eq!(&Model::observed(&groups).unwrap(), &model.seen(), "{:?}", op);
            }
            match between {
                Between::Nothing => continue,
                Between::Closed => {
                    groups.close().unwrap();
                    model.groups = model.seen();
                }
                Between::Killed => {
                    disk = disk.kill();
                    model.groups = model.durable();
                }
            }
            groups = open(&disk, Durability::Always).unwrap();
            prop_assert_eq!(&Model::observed(&groups).unwrap(), &model.groups, "{:?}", between);
        }
        let sums = groups.stats();
        let live: u64 = groups.ids().iter().map(|id| groups.group(*id).unwrap().stats().live_bytes).sum();
        prop_assert_eq!(sums.live_bytes, live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn programs_of_mishaps_lose_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 1..800)
    ) {
        program::run(&bytes);
    }
}
