//! What a caller may choose for many groups in one log.

use indelible::{Error, Options, Result};

/// The choices of a set of groups. Every setter returns `self` for chaining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsOptions {
    pub(crate) log: Options,
    pub(crate) checkpoint_bytes: Option<u64>,
    pub(crate) carry_below_percent: u64,
    pub(crate) carry_share_percent: u64,
}

impl Default for GroupsOptions {
    fn default() -> Self {
        Self {
            log: Options::new(),
            checkpoint_bytes: None,
            carry_below_percent: 25,
            carry_share_percent: 40,
        }
    }
}

impl GroupsOptions {
    /// The defaults: those of [`Options`] for the log, a checkpoint each 32 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// The options of the log underneath.
    #[must_use]
    pub fn log(mut self, options: Options) -> Self {
        self.log = options;
        self
    }

    /// Bytes of log after which all groups are written down, so that an open reads no more than
    /// twice as much; 4096 at least. By default as many as half a segment has, at most 32 MiB.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = Some(bytes);
        self
    }

    /// The share of live bytes, 1 to 50 percent, below which the oldest region of the log is worth
    /// emptying: what groups still need of it is written again. 25 by default.
    #[must_use]
    pub fn carry_below_percent(mut self, percent: u64) -> Self {
        self.carry_below_percent = percent;
        self
    }

    /// How much may be written again for each byte that groups write, 1 to 100 percent, as long as
    /// the log is not larger than it may be. 40 by default.
    #[must_use]
    pub fn carry_share_percent(mut self, percent: u64) -> Self {
        self.carry_share_percent = percent;
        self
    }

    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |option, reason| Err(Error::InvalidOption { option, reason });
        if self.checkpoint_bytes.is_some_and(|bytes| bytes < 4096) {
            return refuse("checkpoint_bytes", "must be 4096 at least");
        }
        if !(1..=50).contains(&self.carry_below_percent) {
            return refuse("carry_below_percent", "must be from 1 to 50");
        }
        if !(1..=100).contains(&self.carry_share_percent) {
            return refuse("carry_share_percent", "must be from 1 to 100");
        }
        Ok(())
    }
}
