//! Events and spans for those who watch a log (feature `tracing`), listed in docs/OPERATIONS.md:
//! open, recovery, commit, roll, checkpoint, trim, slow sync, stall, rot, junk that stays, poison. All
//! have the target `indelible`. Without the feature every function here is empty.
#![cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, clippy::missing_const_for_fn, reason = "empty without the feature")
)]

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::format::SegmentName;
use crate::recovery::RecoveryReport;

/// A sync that takes longer is worth a warning.
#[cfg(feature = "tracing")]
const SLOW_SYNC: Duration = Duration::from_millis(200);

/// Something that takes time, until this is dropped.
#[must_use = "a span lasts as long as this"]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

macro_rules! spans {
    ($($(#[$doc:meta])* $name:ident $level:ident;)*) => {
        $($(#[$doc])*
        #[inline]
        pub(crate) fn $name(path: &Path) -> Span {
            Span {
                #[cfg(feature = "tracing")]
                _entered: tracing::span!(
                    target: "indelible",
                    tracing::Level::$level,
                    stringify!($name),
                    path = %path.display()
                )
                .entered(),
            }
        })*
    };
}

spans! {
    /// A log is created or opened and recovered.
    open INFO;
    /// A batch is written and, if the policy has it so, made durable.
    commit TRACE;
    /// The tail is sealed and the next segment begun.
    roll DEBUG;
    /// What was written is made durable and recorded in both slots.
    checkpoint DEBUG;
}

/// A log was created or opened.
pub(crate) fn opened(path: &Path, report: &RecoveryReport) {
    #[cfg(feature = "tracing")]
    {
        let path = path.display();
        if let crate::recovery::Verdict::TornTail { offset, sequence, .. } = &report.verdict {
            tracing::warn!(
                target: "indelible",
                %path,
                offset,
                sequence,
                "dropped a torn end: nothing shows that it was acknowledged"
            );
        }
        tracing::info!(
            target: "indelible",
            %path,
            verdict = ?report.verdict,
            batches_replayed = report.batches_replayed,
            entries_replayed = report.entries_replayed,
            bytes_scanned = report.bytes_scanned,
            segments = report.segments,
            removed = report.removed.len(),
            slot_rewritten = report.slot_rewritten,
            elapsed = ?report.elapsed,
            "opened"
        );
    }
}

/// The tail was sealed and another one begun.
pub(crate) fn rolled(path: &Path, segment: SegmentName) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: "indelible",
        path = %path.display(),
        segment = segment.number,
        base = segment.base,
        "rolled"
    );
}

/// A batch dropped a prefix.
pub(crate) fn trimmed(path: &Path, first: u64) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "indelible", path = %path.display(), first, "trimmed");
}

/// A sync came back.
pub(crate) fn synced(path: &Path, sequence: u64, took: Duration) {
    #[cfg(feature = "tracing")]
    if took >= SLOW_SYNC {
        tracing::warn!(target: "indelible", path = %path.display(), sequence, ?took, "slow sync");
    }
}

/// A sync has not come back for longer than the stall watch allows.
pub(crate) fn stalled(path: &Path, age: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "indelible", path = %path.display(), ?age, "a sync is stalled");
}

/// A scrub found damage.
pub(crate) fn rotten(path: &Path, error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "indelible", path = %path.display(), %error, "scrub found damage");
}

/// A file that nothing refers to stays.
pub(crate) fn not_removed(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "indelible", %error, "nothing refers to it, and the next open tries again");
}

/// The handle is poisoned.
pub(crate) fn poisoned(path: &Path, error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "indelible", path = %path.display(), %error, "poisoned: reopen the log");
}
