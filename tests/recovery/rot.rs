//! A bounded rot sweep: some bits, every sector, some lengths, every file of logs of every shape.
//! The whole sweep is `explore --sweep rot`.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails, and says how far it went")]

use indelible::testing::exchange::{sweep_names, sweep_older};
use indelible::testing::explore::{Tally, Violation};
use indelible::testing::rot::{Density, SHAPES, Share, sweep, sweep_cut};

/// Sweeps a log of each shape, and adds up what was done. Each of these kinds must have been met.
fn each_shape(kinds: &[&str], sweep: impl Fn(usize) -> (Tally, Option<Violation>)) -> Tally {
    let mut total = Tally::default();
    for (shape, name) in SHAPES.iter().enumerate() {
        let (tally, violation) = sweep(shape);
        if let Some(violation) = violation {
            panic!("{name}: {violation}");
        }
        total.add(&tally);
    }
    println!("{total}");
    for kind in kinds {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}: {total}");
    }
    total
}

fn all(closed: bool) -> Tally {
    let kinds = ["bits flipped", "sectors zeroed", "files cut", "missing files", "everything read"];
    each_shape(&kinds, |shape| sweep(shape, closed, 1, Density::SMALL))
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
    let kinds = ["bits flipped", "sectors zeroed", "blocks zeroed", "everything read"];
    each_shape(&kinds, |shape| sweep_cut((shape, 0), 1, 0..2, Density::SMALL));
}

/// An older copy of a file or a slot is refused, or read as damage, or changes nothing.
#[test]
fn older_copies_forget_nothing_without_a_word() {
    let kinds = [
        "older copies of a file",
        "older slots",
        "older slots without the other one",
        "older copies of metadata and tail",
        "refused at open, the right file named",
        "written to, killed, opened again",
    ];
    each_shape(&kinds, |shape| sweep_older(shape, shape % 2 == 1, 1, Share::new(0, 4)));
}

/// Names that lie, and segments that are none of this log's, change no entry.
#[test]
fn segments_in_wrong_places_change_no_entry() {
    let kinds = [
        "segments renamed",
        "segments swapped",
        "segments twice",
        "segments as spares",
        "segments of another log",
        "frames of another log",
        "the damage read as damage",
        "repaired",
    ];
    each_shape(&kinds, |shape| sweep_names(shape, shape % 2 == 1, 1, Share::new(0, 4)));
}
