//! What a crash may leave: the oracle.
//!
//! Owns: the states that a recovery may return: the one that was last acknowledged, and each
//! one that was submitted or set lazily since, in order. Does not own: how they come about (`run`).

use std::sync::Arc;

use super::model::Model;
use super::run::Stop;
use crate::error::Error;
use crate::io::Directory;
use crate::log::Log;
use crate::options::Options;
use crate::recovery::{RecoveryReport, Verdict};

/// What a recovery may return.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// Whether the creation was acknowledged.
    pub(super) exists: bool,
    /// The acknowledged state, then what was submitted after it.
    pub(super) allowed: Vec<Arc<Model>>,
    /// Number of the last acknowledged batch.
    pub(super) acknowledged: u64,
    /// The log was closed, and that was acknowledged.
    pub(super) closed: bool,
}

impl Expected {
    /// Exactly this state, acknowledged.
    pub(super) fn exactly(model: &Arc<Model>, acknowledged: u64) -> Self {
        let allowed = vec![Arc::clone(model)];
        Self { exists: true, allowed, acknowledged, closed: false }
    }

    /// Takes the log's word that every entry before `durable` is durable. States that end before it
    /// are out as long as one comes after them that has it; one that drops entries is no such.
    pub(super) fn heard(&mut self, durable: u64) {
        let falls_short = |model: &&Arc<Model>| model.next() < durable;
        let short = self.allowed.iter().take_while(falls_short).count();
        if short < self.allowed.len() {
            self.allowed.drain(..short);
        }
    }

    /// Opens what a crash left and holds it against the oracle. `None`: there is rightly no log.
    pub(super) fn check(
        &self,
        directory: Arc<dyn Directory>,
        options: &Options,
    ) -> Result<Option<(Log, Arc<Model>)>, String> {
        let (log, report) = match Log::open_in(directory, options) {
            Err(Error::Missing { .. }) if !self.exists => return Ok(None),
            Err(error) => return Err(format!("the open is refused: {error}")),
            Ok(opened) => opened,
        };
        self.check_report(&report)?;
        let model = self.check_state(&log).map_err(|stop| match stop {
            Stop::Violation(what) => what,
            Stop::Failed(error) => format!("a read fails: {error}"),
        })?;
        Ok(Some((log, model)))
    }

    pub(super) fn check_report(&self, report: &RecoveryReport) -> Result<(), String> {
        if let Verdict::TornTail { sequence, .. } = report.verdict {
            if sequence <= self.acknowledged {
                let newest = self.acknowledged;
                return Err(format!("batch {sequence} is called torn; {newest} is acknowledged"));
            }
            if self.closed {
                return Err(format!("batch {sequence} is called torn after a close"));
            }
        }
        Ok(())
    }

    /// Which of the allowed states the log has. A read that fails says nothing about it.
    pub(super) fn check_state(&self, log: &Log) -> Result<Arc<Model>, Stop> {
        let mut closest = String::from("nothing is allowed");
        for model in &self.allowed {
            match model.difference(log) {
                Ok(None) => return Ok(Arc::clone(model)),
                Ok(Some(difference)) => closest = difference,
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        let count = self.allowed.len();
        let what = format!("none of {count} allowed states; compared with the newest: {closest}");
        Err(Stop::Violation(what))
    }
}
