//! Bytes that nobody of ours wrote, as records, checkpoint and waiting cells: the fuzz target
//! `groups_open` on its seeds, and on changes of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

#[expect(unreachable_pub, reason = "it is public in the library of the fuzz targets")]
#[path = "../../fuzz/src/groups_open.rs"]
mod groups_open;

use proptest::prelude::*;

#[test]
fn seeds_pass() {
    let seeds = groups_open::seeds();
    assert_eq!(seeds.len(), 4);
    for (_, bytes) in seeds {
        groups_open::run(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn changed_seeds_are_refused_or_opened(
        seed in 0_usize..4, changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut in any::<usize>(), tail in proptest::collection::vec(any::<u8>(), 0..20)
    ) {
        let mut bytes = groups_open::seeds().swap_remove(seed).1;
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut % bytes.len());
            bytes.extend(tail);
        }
        groups_open::run(&bytes);
    }
}
