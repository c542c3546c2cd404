//! A bounded rot sweep: some bits, every sector, some lengths, every file of logs of every shape.
//! The whole sweep is `explore --sweep rot`.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails, and says how far it went")]

use indelible::testing::explore::Tally;
use indelible::testing::rot::{Density, SHAPES, sweep, sweep_cut};

fn all(closed: bool) -> Tally {
    let mut total = Tally::default();
    for (shape, name) in SHAPES.iter().enumerate() {
        let (tally, violation) = sweep(shape, closed, 1, Density::SMALL);
        if let Some(violation) = violation {
            panic!("{name}: {violation}");
        }
        total.add(&tally);
    }
    println!("{total}");
    for kind in ["bits flipped", "sectors zeroed", "files cut", "missing files", "everything read"]
    {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}: {total}");
    }
    total
}

#[test]
fn decay_of_a_closed_log_is_never_read_nor_called_torn() {
    let total = all(true);
    assert!(!total.kinds.keys().any(|kind| kind.contains("torn")), "{total}");
    assert!(total.kinds.contains_key("the damage read as damage"), "{total}");
}

#[test]
fn decay_of_a_crashed_log_is_never_read_nor_called_torn_below_the_watermark() {
    all(false);
}

/// One bad bit, sector or block beside a power cut in a sync takes the batches of the last sync at
/// most.
#[test]
fn decay_beside_a_power_cut_takes_the_last_sync_at_most() {
    let mut total = Tally::default();
    for (shape, name) in SHAPES.iter().enumerate() {
        let (tally, violation) = sweep_cut(shape, 1, 2, Density::SMALL);
        if let Some(violation) = violation {
            panic!("{name}: {violation}");
        }
        total.add(&tally);
    }
    println!("{total}");
    for kind in ["bits flipped", "sectors zeroed", "blocks zeroed", "everything read"] {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}: {total}");
    }
}
