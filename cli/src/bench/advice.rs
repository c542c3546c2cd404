//! What follows from the figures, in plain words, with the options to write.
//!
//! A strategy is recommended only where its interval says that it is faster than the default by a
//! share that matters. The interval of each strategy is as wide as the number of strategies calls
//! for: whoever compares twenty of them finds one that was lucky.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contenders::Role;
use super::report::Row;
use super::statistics::Interval;

/// Below this a sync cannot have reached a device.
pub(super) const UNBELIEVABLE_NS: u64 = 5_000;
/// Above this a host that can batch should.
const SLOW_NS: u64 = 1_000_000;
/// A strategy must take at most this share of the default's time to be worth a setting.
const MATTERS: f64 = 0.95;
/// Chance that any of the strategies is recommended by luck.
const CHANCE: f64 = 0.05;
/// Rounds without which nothing is recommended: a bootstrap of fewer is narrower than it says.
pub(super) const ROUNDS_FOR_ADVICE: usize = 20;

/// What to set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Nothing that was measured here is known to be faster by a share that matters.
    Keep {
        /// Name of the default.
        default: String,
    },
    /// A strategy is faster.
    Take {
        /// Name of the strategy.
        name: String,
        /// What to write after `Options::new()`.
        options: String,
        /// Its time as a share of the default's.
        share: Interval,
    },
    /// Syncs here reach no medium, so nothing follows.
    NotADisk,
}

/// The confidence of each interval when `strategies` of them are compared with the default.
#[expect(clippy::cast_precision_loss, reason = "a handful")]
pub(super) fn confidence(strategies: usize) -> f64 {
    1.0 - CHANCE / strategies.max(1) as f64
}

/// Chooses between the rows.
pub(super) fn verdict(rows: &[Row]) -> Verdict {
    let floor = rows.iter().find(|row| row.role == Role::Floor).map_or(0, |row| row.p50_ns);
    if floor < UNBELIEVABLE_NS {
        return Verdict::NotADisk;
    }
    let sure = |row: &&Row| row.to_default.is_some_and(|share| share.high < MATTERS);
    let strategies = rows.iter().filter(|row| row.role == Role::Strategy);
    let middle = |row: &Row| row.to_default.map_or(f64::INFINITY, |share| share.mid);
    let best = strategies.filter(sure).min_by(|left, right| middle(left).total_cmp(&middle(right)));
    if let Some((best, share)) = best.and_then(|best| Some((best, best.to_default?))) {
        Verdict::Take { name: best.name.clone(), options: best.options.clone(), share }
    } else {
        let default = rows.iter().find(|row| row.role == Role::Default);
        Verdict::Keep { default: default.map(|row| row.name.clone()).unwrap_or_default() }
    }
}

/// One line per thing to know, the recommendation first.
pub(super) fn lines(verdict: &Verdict, rows: &[Row]) -> Vec<String> {
    let mut lines = vec![match verdict {
        Verdict::NotADisk => {
            return vec![
                "A sync here takes no time at all: this is memory, or a disk that does not wait. \
                 What is acknowledged here does not survive a power cut."
                    .to_owned(),
                "Recommendation: measure a directory on the disk that the log will be on."
                    .to_owned(),
            ];
        }
        Verdict::Keep { default } if rows.iter().any(is_open) => format!(
            "Recommendation: keep the default, Options::new() ({default}): the time was too short to \
             tell whether anything beats it. Give more --seconds."
        ),
        Verdict::Keep { default } => format!(
            "Recommendation: keep the default, Options::new() ({default}): nothing here beats it on \
             this disk."
        ),
        Verdict::Take { name, options, share } => format!(
            "Recommendation: Options::new(){options} ({name}). It takes {:.0} % less time than the \
             default; with 95 % confidence between {:.0} and {:.0} % less.",
            percent_less(share.mid),
            percent_less(share.high),
            percent_less(share.low),
        ),
    }];
    lines.extend(barrier(rows));
    lines.push("Interval and Os are not safe for consensus, however fast.".to_owned());
    lines
}

/// Whether a strategy had too few turns to be compared with the default.
fn is_open(row: &Row) -> bool {
    row.role == Role::Strategy && row.to_default.is_none()
}

fn percent_less(share: f64) -> f64 {
    (1.0 - share) * 100.0
}

/// What a host gains that syncs once for several appends.
fn barrier(rows: &[Row]) -> Option<String> {
    let default = rows.iter().find(|row| row.role == Role::Default)?;
    let barrier =
        rows.iter().find(|row| row.role == Role::Policy && row.options.contains("Barrier"))?;
    let slow = if default.p50_ns > SLOW_NS { " A sync is slow here: do that." } else { "" };
    Some(format!(
        "A host that syncs once before its messages leave pays {} per append instead of {}: \
         Options::new(){}.{slow}",
        super::table::time(barrier.p50_ns),
        super::table::time(default.p50_ns),
        barrier.options,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::report::rows_of_times;
    use super::*;

    /// Slices of a disk whose speed drifts and which now and then is slow for somebody.
    fn disk(random: &mut fastrand::Rng, rounds: usize, shares: &[f64]) -> Vec<Vec<u64>> {
        let mut slices = vec![Vec::new(); shares.len()];
        let mut speed = 200_000.0_f64;
        for _ in 0..rounds {
            speed = (speed * (0.93 + 0.14 * random.f64())).clamp(100_000.0, 900_000.0);
            for (slices, share) in slices.iter_mut().zip(shares) {
                let slow = if random.u8(..) < 12 { 4.0 } else { 1.0 };
                let took = speed * share * slow * (0.8 + 0.4 * random.f64());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a time of a simulated disk"
                )]
                slices.push(took as u64);
            }
        }
        slices
    }

    #[test]
    fn a_disk_with_nothing_to_choose_between_never_gets_a_recommendation() {
        // Also where the time was over after a few rounds.
        for rounds in [2, 19, 20, 60] {
            for seed in 0..16 {
                let mut random = fastrand::Rng::with_seed(seed);
                let rows = rows_of_times(&disk(&mut random, rounds, &[1.0; 18]));
                let verdict = verdict(&rows);
                let kept = matches!(verdict, Verdict::Keep { .. });
                assert!(kept, "{rounds} rounds, seed {seed}: {verdict:?}");
                let short = lines(&verdict, &rows).iter().any(|line| line.contains("--seconds"));
                assert_eq!(short, rounds < ROUNDS_FOR_ADVICE, "{rounds} rounds");
            }
        }
    }

    #[test]
    fn a_strategy_that_is_a_fifth_faster_is_found_every_time() {
        for seed in 0..8 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut shares = [1.0; 18];
            shares[7] = 0.8;
            let rows = rows_of_times(&disk(&mut random, 200, &shares));
            let Verdict::Take { name, share, .. } = verdict(&rows) else {
                panic!("seed {seed}: not found")
            };
            assert_eq!(name, "strategy 7");
            assert!(share.low < 0.8 && 0.8 < share.high, "seed {seed}: {share:?}");
        }
    }

    #[test]
    fn what_cannot_be_believed_is_no_base_for_advice() {
        let rows = rows_of_times(&[vec![900; 50], vec![900; 50], vec![300; 50]]);
        assert_eq!(verdict(&rows), Verdict::NotADisk);
        assert!(lines(&Verdict::NotADisk, &rows).iter().any(|line| line.contains("power cut")));
    }
}
