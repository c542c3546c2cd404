//! Scrubbing: sealed segments are read and checked while the log is in use, so that rot is found
//! while peers still have what it destroyed.
//!
//! Owns: the order and the pace. Does not own: the check (`inspect::survey`), or doing anything about
//! what is found: that takes a repair, with the log closed. Changes nothing, takes no lock that a
//! writer waits for.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Log;
use super::shared::Shared;
use crate::clock::Moment;
use crate::error::{Damage, Error, Result};
use crate::format::SegmentName;
use crate::format::number::to_u64;
use crate::inspect::survey::{Hints, Survey};
use crate::segment::{Opened, Segment};
use crate::telemetry::stats::add;

/// How long the background scrub rests between two passes.
const REST: Duration = Duration::from_secs(3600);

/// One segment that was scrubbed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scrubbed {
    /// The segment's number.
    pub segment: u64,
    /// The entries that were checked.
    pub entries: Range<u64>,
    /// Segments after this one that are still to be scrubbed.
    pub left: u64,
    /// What is wrong: entries that cannot be read.
    pub findings: Vec<Error>,
}

/// What a scrub came to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Everything that is wrong.
    pub findings: Vec<Error>,
}

impl Log {
    /// Reads and checks every sealed segment, at most `bytes_per_second` fast if given. `seen` hears
    /// of each one and may end the scrub. Writers and readers go on; what is in the page cache is
    /// checked there.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`]; [`Error::Io`] if the directory cannot be read,
    /// [`Error::Exhausted`] if something to do it with ran out. Damage is no error here.
    pub fn scrub(
        &self,
        bytes_per_second: Option<u64>,
        seen: &mut dyn FnMut(&Scrubbed) -> ControlFlow<()>,
    ) -> Result<ScrubReport> {
        self.shared().scrub(bytes_per_second, seen)
    }
}

impl Shared {
    fn scrub(
        &self,
        bytes_per_second: Option<u64>,
        seen: &mut dyn FnMut(&Scrubbed) -> ControlFlow<()>,
    ) -> Result<ScrubReport> {
        self.dir.not_forked()?;
        let mut report = ScrubReport::default();
        let mut from = 0;
        let started = Moment::now();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            // One at a time: a segment that is held here is not used again when it is trimmed.
            let Some((segment, live, after, left)) = self.reader.sealed_from(from) else {
                return Ok(report);
            };
            from = segment.name.number.saturating_add(1);
            let pace = &mut |read: u64| {
                report.bytes += read;
                self.keep_pace(started, report.bytes, bytes_per_second);
            };
            let Some(findings) = self.scrub_segment(&segment, &live, after, pace)? else {
                continue;
            };
            report.segments += 1;
            add(&self.counters.scrubbed, 1);
            add(&self.counters.scrub_findings, to_u64(findings.len()));
            for error in &findings {
                crate::telemetry::trace::rotten(self.dir.path(), error);
            }
            report.findings.extend(findings.iter().cloned());
            let segment = segment.name.number;
            let heard = seen(&Scrubbed { segment, entries: live, left, findings });
            // Whoever heard of it may have forked.
            self.dir.not_forked()?;
            if heard.is_break() {
                return Ok(report);
            }
        }
    }

    /// What is wrong with a segment, whose entries end where that of the name `after` begins; nothing
    /// at all if it was trimmed meanwhile.
    fn scrub_segment(
        &self,
        segment: &Arc<Segment>,
        live: &Range<u64>,
        after: SegmentName,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Option<Vec<Error>>> {
        let name = segment.name;
        let hints = Hints {
            uuid: self.uuid,
            segment_bytes: self.segment_bytes,
            generation: None,
            live_end: live.end,
            tail_end: None,
            settled: None,
            sealed_end: None,
        };
        // What this brings back from the medium looks to readers as if it had never been gone.
        let mut distrust = Some(Distrust::begin(segment));
        let surveyed = Survey::read(&self.dir, name, segment.bytes, &hints, &mut |read| {
            drop(distrust.take());
            pace(read);
            distrust = Some(Distrust::begin(segment));
        });
        let (survey, mut findings) = match surveyed {
            Err(error) if error.is_not_found() => {
                let now = self.reader.sealed_from(name.number);
                let is_trimmed = now.is_none_or(|(now, ..)| !Arc::ptr_eq(&now, segment));
                let missing = || segment.damaged(0, Some(live.clone()), Damage::MissingFile);
                return Ok((!is_trimmed).then(|| vec![missing()]));
            }
            surveyed => surveyed?,
        };
        let next = Segment::sealed(&self.dir, self.uuid, after, self.segment_bytes);
        let is_gone = next.read_header().is_err_and(|error| error.is_not_found());
        // This reads frames as well where the footer is lost.
        let refusal = self.refusal(name, &next, live);
        drop(distrust);
        let refused = match refusal {
            Some(error) if error.is_shortage() => return Err(error),
            refused => refused,
        };
        let mut known = live.clone();
        if is_gone || refused.is_some() {
            // Where entries end is not known, and what refuses a read of any is one finding for all.
            known.end = live.end.min(survey.places.end()).max(live.start);
        }
        findings.extend(refused.filter(|error| !error.is_not_found()));
        for range in survey.places.missing(&known) {
            let offset = survey.place_of(range.start);
            findings.push(segment.damaged(offset, Some(range), survey.reason_at(offset)));
        }
        Ok(Some(findings))
    }

    /// What refuses every read of these entries of a segment that is not open.
    fn refusal(&self, name: SegmentName, next: &Segment, wanted: &Range<u64>) -> Option<Error> {
        let segment = Segment::sealed(&self.dir, self.uuid, name, self.segment_bytes);
        let looked_up = segment.open(wanted).and_then(|(opened, _)| {
            segment.look_up(&opened, wanted.end)?;
            segment.check_bound(&opened, next, wanted)
        });
        looked_up.err()
    }

    /// Sleeps as long as reading was too fast.
    fn keep_pace(&self, started: Moment, bytes: u64, bytes_per_second: Option<u64>) {
        let Some(rate) = bytes_per_second.filter(|&rate| rate > 0) else { return };
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let due = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut left = due.saturating_sub(started.elapsed());
        while !left.is_zero() && !self.signals.stopping() {
            self.signals.nap(left);
            left = due.saturating_sub(started.elapsed());
        }
    }
}

/// For as long as a segment is read, readers believe nothing of it that they check meanwhile.
struct Distrust<'a> {
    segment: &'a Segment,
    begun: Option<(Arc<Opened>, u64)>,
}

impl<'a> Distrust<'a> {
    fn begin(segment: &'a Segment) -> Self {
        Self { segment, begun: begin_distrust(segment) }
    }
}

impl Drop for Distrust<'_> {
    fn drop(&mut self) {
        // A reader may have opened it meanwhile, or opened it anew.
        let now = begin_distrust(self.segment);
        for (opened, begun) in self.begun.take().into_iter().chain(now) {
            opened.end_distrust(begun);
        }
    }
}

fn begin_distrust(segment: &Segment) -> Option<(Arc<Opened>, u64)> {
    let opened = segment.opened()?;
    let begun = opened.distrust();
    Some((opened, begun))
}

/// The scrub's thread.
pub(super) fn scrub_forever(shared: &Shared) {
    let stop = || shared.signals.stopping();
    while !stop() {
        let go_on =
            |_: &Scrubbed| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        // What it finds is counted and traced; a directory that cannot be read fails the writers.
        let _counted = shared.scrub(shared.options.scrub, &mut { go_on });
        let rest = Moment::now();
        while !stop() && rest.elapsed() < REST {
            shared.signals.nap(REST.saturating_sub(rest.elapsed()));
        }
    }
}
