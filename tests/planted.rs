//! Every planted bug is noticed. For each, this drives tests of the suite that need no more than a
//! moment (stories), all of them, and then small parts of the sweeps, the cheapest first, until one
//! notices. The printed table says which did; docs/TESTING.md has it.
//!
//! A story that only looks for one bug would prove nothing: those driven here stand in
//! `tests/api`, `tests/directory`, `tests/durability`, `tests/reads` and `tests/recovery` for promises of
//! their own.
#![cfg(feature = "sabotage")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails, and prints its table")]
#![expect(clippy::duplicate_mod, reason = "the binaries that it holds have helpers in common")]

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indelible::testing::config::CONFIGS;
use indelible::testing::exchange::{sweep_names, sweep_older};
use indelible::testing::explore::{Effort, Subject, Tally, Violation, explore};
use indelible::testing::faults::{sweep, sweep_full_disk};
use indelible::testing::program::{WORDS, count_of};
use indelible::testing::rot::{self, SHAPES, Share};
use indelible::testing::sabotage::{BUGS, Bug, enable};

#[path = "directory/main.rs"]
mod directory;
#[path = "durability/main.rs"]
mod durability;
#[path = "api/limits.rs"]
mod limits;
#[path = "support/process.rs"]
mod process;
#[path = "reads/main.rs"]
mod reads;
#[path = "recovery/main.rs"]
mod recovery;
#[path = "api/refusals.rs"]
mod refusals;

use directory::{footprint, signals};
use durability::{lazily, promises};
use recovery::{cells, evidence, footers, meetings, regressions};

macro_rules! stories {
    ($($file:ident: $($story:ident)*;)*) => {
        &[$($((stringify!($story), $file::$story as fn()),)*)*]
    };
}

/// Tests that bring about the moment they are about, each of which says something else.
const STORIES: &[(&str, fn())] = stories! {
    promises:
        second_handle_is_refused
        dropped_batch_never_comes_back_in_a_spare
        nothing_goes_where_there_is_no_space
        log_is_never_created_over_another_one
        unchanged_promise_costs_no_call
        frame_of_another_generation_is_not_read
        frame_in_another_place_is_none
        dropped_batch_that_touches_the_next_one_stays_dropped
        batch_without_its_first_frame_is_not_whole
        what_is_called_durable_survives_at_every_call
        segment_is_missed_from_the_acknowledgement_on
        batch_written_while_a_sync_runs_is_not_acknowledged_by_it
        promise_in_a_slot_whose_sync_failed_is_not_acknowledged
        lost_names_of_a_side_file_poison_the_log;
    durability:
        always_is_durable_on_return
        barrier_is_durable_after_sync_and_costs_one
        durable_end_follows_truncation
        failed_sync_poisons_and_only_a_reopen_clears_it
        failed_sync_fails_everyone_who_waits_for_it
        watermark_moves_on_disk
        frame_far_ahead_of_what_is_durable_states_nothing
        callback_that_panics_in_a_sync_poisons_the_log;
    cells:
        batch_whose_cells_are_too_many_on_its_way_only_is_replayed;
    evidence:
        header_is_evidence_without_its_payload
        bad_end_of_a_killed_log_takes_one_batch_at_most
        last_block_of_a_segment_has_its_witness_too
        witness_apart_outlives_the_sync_that_writes_the_next_one
        older_metadata_file_is_refused_as_what_it_is
        older_slot_without_the_other_is_refused_as_what_it_is
        metadata_of_a_log_being_created_removes_nothing
        metadata_of_the_middle_of_a_life_removes_no_segment
        older_metadata_file_that_names_segments_that_went_is_refused_as_what_it_is
        older_tail_is_refused
        renamed_segment_changes_no_entry
        segment_of_another_log_refuses_this_one_and_stays;
    footers:
        conflict_after_a_power_cut_leaves_replaced_entries_readable;
    meetings:
        frames_are_read_once_they_are_in_the_file
        roll_waits_for_frames_on_their_way
        writer_after_a_sync_is_woken_by_its_end
        tail_that_cannot_be_looked_up_is_never_sealed
        tail_without_entries_that_cannot_be_looked_up_takes_none
        frames_stay_within_what_the_next_checkpoint_states
        number_of_a_refused_batch_is_recorded_before_anything_follows
        poisoned_log_keeps_its_directory_while_it_is_being_written
        space_is_not_made_ready_after_a_close
        failure_that_a_roll_was_told_of_is_no_durable_batch
        failure_that_somebody_else_is_being_told_of_is_no_durable_batch
        close_writes_the_last_checkpoint;
    lazily:
        lazy_value_is_durable_after_whatever_takes_it_along
        batch_goes_after_the_lazy_values_before_it
        poisoned_log_takes_no_lazy_value_and_forgets_what_waited
        lazy_value_goes_into_the_slots_on_a_full_disk
        sync_takes_a_lazy_value_along_at_the_limit_of_segments;
    reads:
        bytes_that_came_from_the_medium_again_are_checked_again
        neighbour_that_a_copy_brought_back_is_checked_again
        dead_bytes_between_two_entries_are_not_read
        newest_entry_after_a_roll_is_not_one_of_before
        walk_reads_by_bytes_and_not_by_entries
        compressed_entries_are_decompressed_when_they_are_looked_at
        maps_and_descriptors_do_not_grow_with_the_log;
    regressions:
        number_of_a_dropped_batch_is_never_given_again
        side_file_stays_as_long_as_any_cell_refers_to_it
        footer_of_a_dropped_seal_is_never_believed
        footer_of_a_dropped_seal_does_not_outlast_the_next_roll
        spare_never_brings_a_dropped_batch_back
        log_with_many_gaps_in_its_segments_opens
        missing_side_file_after_a_torn_end_is_damage
        batch_refused_by_a_full_disk_never_comes_back
        readers_of_a_poisoned_log_see_what_was_there_before
        many_crashes_at_one_place_are_never_called_damage
        batch_that_takes_a_lazy_value_back_is_written
        lazy_value_that_is_put_back_replaces_the_one_in_the_checkpoint
        batch_in_the_slots_comes_after_what_was_set_lazily_before
        entries_of_the_life_before_stay_what_they_were;
    limits:
        segments_are_limited_as_the_option_says
        batch_begins_segments_up_to_its_limit
        open_looks_at_no_more_than_two_steps_under_every_policy
        gaps_beyond_the_limit_cost_no_checkpoint_at_each_batch;
    refusals:
        lost_footer_is_made_good_from_the_frames;
    signals:
        page_that_cannot_be_had_again_is_an_error;
    footprint:
        refused_batch_gives_back_the_segments_it_had_made
        reopened_log_makes_its_space_ready_again;
    directory:
        forked_child_changes_nothing
        forked_child_lets_the_last_handle_go
        second_writer_is_refused_although_the_lock_file_was_removed_by_hand
        log_is_not_created_beside_what_is_nobodys
        file_that_cannot_be_removed_is_counted_and_never_poisons
        shortage_is_refused_and_never_poisons
        absurd_window_for_writers_to_join_is_refused
        shortage_while_opening_drops_nothing_that_a_killed_process_left
        side_files_that_nobody_can_attach_go
        side_file_that_is_finished_after_the_close_leaves_nothing;
};

fn crashes() -> Option<String> {
    let small = [1, 3, 5, 7, 9, 11, 21, 23, 27, 29, 13, 17, 33, 39, 54];
    let effort = Effort::SMALL;
    let configs = [0, 5, 2, 3, 4, 1, 6, 7];
    let mut subjects: Vec<_> =
        small.iter().zip(configs.iter().cycle()).map(|(&n, &c)| Subject::Small(n, c)).collect();
    // A batch larger than what may be written before another checkpoint.
    subjects.extend((4..8).map(|config| Subject::Small(4, config)));
    let configs = CONFIGS.len();
    subjects.extend((0..configs).map(|config| Subject::Drawn(7, config)));
    let spread = |seed| usize::try_from(seed).unwrap() % configs;
    subjects.extend((0..48).map(|seed| Subject::Drawn(seed, spread(seed))));
    subjects.into_iter().find_map(|it| explore(it, 1, effort).1).map(|it| it.what)
}

fn faults() -> Option<String> {
    let two = count_of(1);
    let numbers = [3, 5, 11, 19, 31, 29, two + 11 + 2 * WORDS * 15];
    let subjects = numbers.into_iter().zip([1, 5, 1, 7, 0, 3, 4].into_iter().cycle());
    // A batch that waits in memory, and a sync that hands it over.
    let waits = (0..CONFIGS.len()).map(|config| (two + 2 * (15 + WORDS * 18), config));
    let mut found = subjects.chain(waits).map(|(n, c)| sweep(Subject::Small(n, c), 1).1);
    found.find_map(|it| it).map(|it| it.what)
}

fn full_disks() -> Option<String> {
    [3, 13, 27].iter().find_map(|&n| sweep_full_disk(Subject::Small(n, 1), 1).1).map(|it| it.what)
}

fn decay() -> Option<String> {
    let density = rot::Density::SMALL;
    let mut cases = (0..SHAPES.len()).flat_map(|shape| [(shape, true), (shape, false)]);
    cases.find_map(|(shape, closed)| rot::sweep(shape, closed, 1, density).1).map(|it| it.what)
}

/// A part of a sweep of exchanged files, of logs of each shape.
fn exchanged(
    sweep: fn(usize, bool, u64, Share) -> (Tally, Option<Violation>),
    share: Share,
) -> Option<String> {
    let mut cases = (0..SHAPES.len()).flat_map(|shape| [(shape, true), (shape, false)]);
    cases.find_map(|(shape, closed)| sweep(shape, closed, 1, share).1).map(|it| it.what)
}

fn older_copies() -> Option<String> {
    exchanged(sweep_older, Share::new(1, 4))
}

fn wrong_names() -> Option<String> {
    exchanged(sweep_names, Share::new(1, 4))
}

type Sweep = (&'static str, fn() -> Option<String>);

/// The cheapest first.
const SWEEPS: [Sweep; 6] = [
    ("crash exploration", crashes),
    ("rot sweep", decay),
    ("fault sweep", faults),
    ("full disks", full_disks),
    ("older copies", older_copies),
    ("wrong names", wrong_names),
];

/// Which sweep is tried first: the others have the same right, and take their time.
fn likely(bug: Bug) -> usize {
    match bug {
        Bug::OlderMetadataBelieved => 4,
        Bug::NamesBelieved | Bug::NoSalt => 5,
        Bug::OneSlotOnly
        | Bug::WatermarkNeverWritten
        | Bug::WatermarkIgnored
        | Bug::NextSegmentNotSearched
        | Bug::EntriesNotChecked
        | Bug::SlotsNotChecked
        | Bug::SideFilesNotChecked
        | Bug::MissingSideFileIgnored
        | Bug::MissingSegmentIgnored => 1,
        Bug::CacheBelieved
        | Bug::SlotFailureIgnored
        | Bug::NoPoison
        | Bug::RefusalNotRecorded
        | Bug::HandOverFailureForgotten
        | Bug::LazyValueOutlivesItsBatch => 2,
        _ => 0,
    }
}

/// How often a bug is looked for before it counts as missed: on a busy machine a thread may not come in
/// time to the moment that a story is about.
const LOOKS: u32 = 3;

/// What a story says that fails.
fn told(story: fn()) -> Option<String> {
    let panic = catch_unwind(story).err()?;
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    Some(panic.downcast_ref::<String>().cloned().or(literal).unwrap_or_default())
}

/// Who noticed a bug.
#[derive(Default)]
struct Noticed {
    stories: Vec<&'static str>,
    sweep: Option<&'static str>,
    /// What the sweep said, or the first story.
    said: String,
}

impl Noticed {
    fn is_any(&self) -> bool {
        !self.stories.is_empty() || self.sweep.is_some()
    }
}

fn look_for(bug: Bug) -> Noticed {
    enable(Some(bug));
    let mut noticed = Noticed::default();
    for (name, story) in STORIES {
        if let Some(said) = told(*story) {
            noticed.stories.push(name);
            noticed.said = if noticed.said.is_empty() { said } else { noticed.said };
        }
    }
    let sweeps = SWEEPS.iter().skip(likely(bug)).chain(&SWEEPS).take(SWEEPS.len());
    if let Some((name, said)) = sweeps.map(|(name, run)| (*name, run())).find(|it| it.1.is_some()) {
        noticed.sweep = Some(name);
        noticed.said = said.unwrap_or_default();
    }
    enable(None);
    noticed
}

/// Looks for every bug, on as many threads as there are cores.
fn look_for_all() -> Vec<Noticed> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some(bug) = BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut looks = (0..LOOKS).map(|_| look_for(*bug));
            let noticed = looks.find(Noticed::is_any).unwrap_or_default();
            found.lock().unwrap().push((*bug as usize, noticed));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            std::thread::Builder::new().name(QUIET.to_owned()).spawn_scoped(scope, work).unwrap();
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, noticed)| noticed).collect()
}

/// Name of threads on which a panic is an answer.
const QUIET: &str = "looks for planted bugs";

fn panic_quietly_there() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(QUIET) {
            usual(panic);
        }
    }));
}

/// The first names of many.
fn some_of(stories: &[&str]) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<_> = stories.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match stories.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[test]
fn every_planted_bug_is_noticed() {
    assert!(BUGS.len() >= 30);
    for (name, story) in STORIES {
        assert_eq!(told(*story), None, "{name} without any bug");
    }
    for (name, run) in SWEEPS {
        assert_eq!(run(), None, "{name} without any bug");
    }
    panic_quietly_there();
    let found = look_for_all();
    let document = include_str!("../docs/TESTING.md");
    let (mut missed, mut undocumented) = (Vec::new(), Vec::new());
    for (bug, noticed) in BUGS.iter().zip(&found) {
        let stories = some_of(&noticed.stories);
        let sweep = noticed.sweep.unwrap_or_default();
        let said = noticed.said.split([';', '\n']).next().unwrap_or_default();
        println!("| `{bug:?}` | {sweep} | {stories} | {said} |");
        if !noticed.is_any() {
            missed.push(*bug);
        }
        if !document.contains(&format!("\n| `{bug:?}` |")) {
            undocumented.push(*bug);
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not noticed");
    assert!(undocumented.is_empty(), "docs/TESTING.md has no row for {undocumented:?}");
}
