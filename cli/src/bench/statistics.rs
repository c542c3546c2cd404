//! What the samples of one contender say: percentiles, and how sure a ratio is.
//!
//! Owns: the arithmetic. A ratio is formed between slices of one round, because drift of the disk
//! hits all contenders of a round alike. The median of the rounds' ratios counts, and its interval
//! is a bootstrap over blocks of neighbouring rounds, which are not independent of each other.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Blocks that the rounds are summed up in: a bootstrap costs the same after ten minutes.
const BLOCKS_MAX: usize = 200;
/// Resamples per interval.
const RESAMPLES: usize = 1_000;
/// Samples kept for the pictures.
const STRIP_MAX: usize = 1_000;
/// The seed of every resample: the same samples give the same interval.
const SEED: u64 = 0x5eed;

/// A ratio, and the bounds it lies between with the confidence that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Interval {
    /// Lower bound.
    pub(super) low: f64,
    /// The median of the rounds.
    pub(super) mid: f64,
    /// Upper bound.
    pub(super) high: f64,
}

impl Interval {
    /// How wide the interval is, as a share of its middle.
    pub(super) fn width(&self) -> f64 {
        (self.high - self.low) / self.mid.max(f64::MIN_POSITIVE)
    }
}

/// Everything one contender was timed at.
#[derive(Debug)]
pub(super) struct Samples {
    histogram: Histogram<u64>,
    /// The median of each round's slice, in nanoseconds.
    rounds: Vec<u64>,
    /// Samples for a picture, spread evenly over the run.
    strip: Vec<u64>,
    /// Every n-th sample goes into the strip.
    stride: u64,
    operations: u64,
    /// Time spent in operations, in nanoseconds.
    busy_ns: u64,
    sum_ns: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new(3)
            .unwrap_or_else(|_| unreachable!("three significant digits are always valid"));
        Self {
            histogram,
            rounds: Vec::new(),
            strip: Vec::new(),
            stride: 1,
            operations: 0,
            busy_ns: 0,
            sum_ns: 0,
        }
    }

    /// Takes in one slice: the latency of each operation, and the time all of them took.
    pub(super) fn slice(&mut self, latencies: &mut [u64], elapsed_ns: u64) {
        for &latency in &*latencies {
            // Grows to hold it.
            let _fits = self.histogram.record(latency.max(1));
            self.sum_ns = self.sum_ns.saturating_add(latency);
            if self.operations.is_multiple_of(self.stride) {
                self.strip.push(latency);
            }
            self.operations += 1;
        }
        if self.strip.len() >= 2 * STRIP_MAX {
            let mut keep = false;
            self.strip.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
        self.busy_ns = self.busy_ns.saturating_add(elapsed_ns);
        latencies.sort_unstable();
        self.rounds.push(latencies.get(latencies.len() / 2).copied().unwrap_or(0));
    }

    pub(super) fn rounds(&self) -> &[u64] {
        &self.rounds
    }

    pub(super) fn strip(&self) -> &[u64] {
        &self.strip
    }

    pub(super) const fn operations(&self) -> u64 {
        self.operations
    }

    /// The latency below which this share of the operations stayed, in nanoseconds.
    pub(super) fn percentile(&self, share: f64) -> u64 {
        if self.operations == 0 { 0 } else { self.histogram.value_at_quantile(share) }
    }

    pub(super) fn mean(&self) -> u64 {
        self.sum_ns / self.operations.max(1)
    }

    /// Operations per second of the time they took.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn rate(&self) -> f64 {
        self.operations as f64 * 1e9 / self.busy_ns.max(1) as f64
    }
}

/// The ratio of two contenders round by round, with an interval that holds with `confidence`.
/// `None` before there were two rounds.
pub(super) fn ratio(own: &[u64], other: &[u64], confidence: f64) -> Option<Interval> {
    let ratios: Vec<f64> =
        own.iter().zip(other).map(|(own, other)| quotient(*own, *other)).collect();
    let blocks = blocks(&ratios);
    if blocks.len() < 2 {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut drawn = blocks.clone();
    let mut resample = |_| {
        for value in &mut drawn {
            *value = blocks.get(random.usize(..blocks.len())).copied().unwrap_or(f64::NAN);
        }
        median(&mut drawn)
    };
    let mut medians: Vec<f64> = (0..RESAMPLES).map(&mut resample).collect();
    medians.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let (low, high) = (at_share(&medians, tail), at_share(&medians, 1.0 - tail));
    Some(Interval { low, mid: median(&mut blocks.clone()), high })
}

/// Medians of runs of neighbouring rounds.
fn blocks(ratios: &[f64]) -> Vec<f64> {
    let size = ratios.len().div_ceil(BLOCKS_MAX).max(1);
    ratios.chunks(size).map(|block| median(&mut block.to_vec())).collect()
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if middle == values.len() {
        return f64::NAN;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list"
)]
fn at_share(ascending: &[f64], share: f64) -> f64 {
    let at = (ascending.len().saturating_sub(1) as f64 * share).round() as usize;
    ascending.get(at).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of times")]
fn quotient(own: u64, other: u64) -> f64 {
    own as f64 / other.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_what_it_was_drawn_from() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut held = 0;
        for _ in 0..100 {
            let floor: Vec<u64> = (0..120).map(|_| random.u64(90_000..110_000)).collect();
            let own: Vec<u64> = (0..120).map(|_| random.u64(108_000..132_000)).collect();
            let interval = ratio(&own, &floor, 0.95).unwrap();
            held += u32::from(interval.low <= 1.2 && 1.2 <= interval.high);
        }
        assert!(held >= 85, "{held} of 100 intervals held the ratio");
    }

    #[test]
    fn one_round_says_nothing() {
        assert_eq!(ratio(&[1], &[1], 0.95), None);
        assert_eq!(ratio(&[], &[], 0.95), None);
    }

    #[test]
    fn a_strip_is_bounded_and_spread_over_the_run() {
        let mut samples = Samples::new();
        for round in 0..10_000 {
            samples.slice(&mut [round, round], 2);
        }
        assert!(samples.strip().len() < 2 * STRIP_MAX);
        assert!(samples.strip().iter().any(|&latency| latency < 100));
        assert!(samples.strip().iter().any(|&latency| latency > 9_900));
        assert_eq!(samples.operations(), 20_000);
    }
}
