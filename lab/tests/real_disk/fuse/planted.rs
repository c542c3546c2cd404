//! Whether the lanes would notice: bugs planted into the engine of the child (feature `sabotage`).
//!
//! A bug is in force on the child's only thread, so these lives have no background threads.

use super::life::{Sort, missing};
use super::{Course, Totals, errors_course, power_course};
use crate::Outcome;

/// Lives that a bug may go unnoticed.
const LIVES_MAX: u64 = 150;

/// Each with the lane that is after it.
const PLANTED: &[(&str, Course)] = &[
    ("AcknowledgeBeforeSync", power_course),
    ("SyncNewestRangeOnly", power_course),
    ("HeaderNotSynced", power_course),
    ("NoDirectorySyncOnRoll", power_course),
    ("NoDirectorySyncOnCreate", power_course),
    ("NoDirectorySyncOnSideFile", power_course),
    ("SideFileNotSynced", power_course),
    ("SlotsNotSynced", power_course),
    ("ReclaimBeforeCheckpoint", power_course),
    ("SideFileRemovedAtOnce", errors_course),
    ("SideFileRemovedWhileShared", power_course),
    ("CacheBelieved", errors_course),
    ("NoPoison", errors_course),
];

/// Every bug of the list is noticed, in a life that is sound without it.
pub(crate) fn planted() -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let mut found = Vec::new();
    let mut missed = Vec::new();
    for (bug, course) in PLANTED {
        let mut totals = Totals::default();
        let sort = Sort { threads: false, bug: Some((*bug).to_owned()) };
        let caught = (1..=LIVES_MAX).find_map(|seed| {
            let what = totals.live(seed, &sort, *course).err()?;
            totals.live(seed, &Sort { threads: false, bug: None }, *course).unwrap();
            Some(what)
        });
        if let Some(what) = caught {
            found.push(format!("\n| `{bug}` | {what} |"));
        } else {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}; noticed:{}", found.concat());
    Outcome::Passed(format!("every one of {} bugs is noticed:{}", PLANTED.len(), found.concat()))
}
