//! Planted bugs: small sabotages, to see that the tests would notice.
//!
//! Owns: the switch. Without the feature `sabotage` it is a constant, and the compiler removes every
//! trace of it.

/// A planted bug.
#[cfg_attr(not(feature = "sabotage"), expect(unreachable_pub, reason = "public with the feature"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// The log is trimmed although a group still needs something of the region.
    TrimBeforeCarry,
    /// A checkpoint says that it has a record more than it has.
    PositionAhead,
    /// The replay takes the older checkpoint for the newest, and goes on where the newest ends.
    OlderCheckpoint,
    /// A batch leaves its lazily set cells behind.
    RidersLeft,
    /// An entry that was carried forward is still looked for where its page says.
    PageKept,
    /// The cells keep what was put aside although the checkpoints have its effect.
    PendingKept,
    /// What was put aside is gone from the cells before the checkpoints that have its effect count.
    PendingClearedFirst,
}

/// All of them.
#[cfg(feature = "sabotage")]
pub const BUGS: &[Bug] = &[
    Bug::TrimBeforeCarry,
    Bug::PositionAhead,
    Bug::OlderCheckpoint,
    Bug::RidersLeft,
    Bug::PageKept,
    Bug::PendingKept,
    Bug::PendingClearedFirst,
];

#[cfg(feature = "sabotage")]
thread_local! {
    static ENABLED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is in force on this thread.
#[cfg(feature = "sabotage")]
pub(crate) fn planted(bug: Bug) -> bool {
    ENABLED.get() == Some(bug)
}

/// Whether a bug is in force: never.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// Puts a bug in force on this thread, in place of any other; `None` ends it.
#[cfg(feature = "sabotage")]
pub fn enable(bug: Option<Bug>) {
    ENABLED.set(bug);
}
