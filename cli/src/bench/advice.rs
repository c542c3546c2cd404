//! What follows from the figures, in plain words, with the options to write.

use super::contenders::Role;
use super::measure::{Measured, Report};
use super::time;

/// Below this a sync cannot have reached a device.
const UNBELIEVABLE_NS: u64 = 5_000;
/// Above this a host that can batch should.
const SLOW_NS: u64 = 1_000_000;
/// A strategy must take at most this share of the default's time to be worth a setting.
const WORTH_IT: f64 = 0.9;
/// With fewer rounds, a tenth may be chance.
const ROUNDS_MIN: usize = 100;

/// One line a thing to know, the recommendation first; nothing follows from what cannot be believed.
pub(super) fn recommendation(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let find = |role| report.of(std::slice::from_ref(&role)).next().map(cost);
    let (floor, default) = (find(Role::Floor).unwrap_or(0), find(Role::Default).unwrap_or(0));
    if floor < UNBELIEVABLE_NS {
        return vec![
            "A sync here takes no time at all: this is memory, or a disk that does not wait. What is \
             acknowledged here does not survive a power cut."
                .to_owned(),
            "Recommendation: measure a directory on the disk that the log will be on.".to_owned(),
        ];
    }
    lines.extend(strategy(report));
    if report.rounds < ROUNDS_MIN {
        lines.push(format!(
            "There was time for {} rounds only: give it more (--seconds) before you rely on it.",
            report.rounds
        ));
    }
    if report.copy_on_write {
        lines.push(
            "This file system copies on write: the engine uses Pwrite here whatever it is told."
                .to_owned(),
        );
    }
    let barrier = report.of(&[Role::Policy]).find(|policy| policy.setting.contains("Barrier"));
    if let Some(barrier) = barrier.map(cost).filter(|barrier| *barrier > 0) {
        let slow =
            if floor > SLOW_NS { " A sync is slow here: that, or several threads." } else { "" };
        lines.push(format!(
            "A host that syncs before its messages leave, and not for each append, pays {} an append \
             instead of {}: Options::new().durability(Durability::Barrier).{slow}",
            time(barrier),
            time(default),
        ));
    }
    lines.push("Interval and Os are not safe for consensus, however fast.".to_owned());
    lines
}

fn cost(measured: &Measured) -> u64 {
    measured.percentile(0.5)
}

/// Which strategy to take.
fn strategy(report: &Report) -> Option<String> {
    let default = report.of(&[Role::Default]).next()?;
    let strategies = report.of(&[Role::Strategy]);
    let best = strategies.min_by(|left, right| left.ratio.total_cmp(&right.ratio))?;
    Some(if best.ratio < default.ratio * WORTH_IT {
        format!(
            "Recommendation: Options::new(){} ({}), which takes {:.0} % less than the default ({}).",
            best.setting,
            best.name,
            (1.0 - best.ratio / default.ratio) * 100.0,
            default.name,
        )
    } else {
        format!(
            "Recommendation: keep Options::new() ({}); nothing here is faster by a tenth.",
            default.name
        )
    })
}
