//! The figures for a terminal of 80 columns, and as a Markdown block for others to read.

use std::io::{Result, Write};

use super::contenders::{Group, Role};
use super::ground::Ground;
use super::report::{Place, Report, Row, compared};

const GROUPS: [(Group, &str); 4] = [
    (Group::Durable, "one append, durable on return"),
    (Group::Batches, "a batch with one sync"),
    (Group::Threads, "threads that share syncs"),
    (Group::Policies, "per append, other promises"),
];

/// Everything of one directory.
pub(super) fn place(report: &Report, place: &Place, out: &mut dyn Write) -> Result<()> {
    ground(&place.ground, out)?;
    for busy in &place.busy {
        writeln!(out, "WARNING  The machine is busy. {busy}")?;
    }
    let settled =
        if place.settled { "until the intervals were narrow" } else { "until time was up" };
    writeln!(
        out,
        "entries of {} bytes, {} rounds in which all take turns, {settled}; times in us\n",
        report.entry_bytes, place.rounds
    )?;
    for (group, title) in GROUPS {
        header(title, out)?;
        for row in place.of(group) {
            line(row, out)?;
        }
        writeln!(out)?;
    }
    if let Some(roll) = &place.roll {
        writeln!(
            out,
            "An append of 64 KiB that begins a segment takes {}, one that does not {} ({} rolls).",
            time(roll.rolled_p50_ns),
            time(roll.other_p50_ns),
            roll.rolls
        )?;
    }
    if let Some(it) = &place.neighbour {
        writeln!(
            out,
            "A neighbour wrote {} MiB and synced them: appends took {} instead of {} (max {}), and it \
             was felt for {} ms.",
            it.burst_bytes >> 20,
            time(it.during_p50_ns),
            time(it.before_p50_ns),
            time(it.during_max_ns),
            it.hurt_ms
        )?;
    }
    place.advice.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn ground(ground: &Ground, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", ground.directory)?;
    for fact in facts(ground) {
        writeln!(out, "  {fact}")?;
    }
    ground.warnings.iter().try_for_each(|warning| writeln!(out, "WARNING  {warning}"))
}

/// What stands under a directory, a line per thing.
pub(super) fn facts(ground: &Ground) -> Vec<String> {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut facts = vec![format!(
        "{} on {}, {}",
        known(&ground.file_system),
        known(&ground.source),
        known(&ground.mount_options)
    )];
    if let Some(device) = &ground.device {
        let yes = |flag: Option<bool>, yes: &str, no: &str| match flag {
            Some(true) => yes.to_owned(),
            Some(false) => no.to_owned(),
            None => "unknown".to_owned(),
        };
        facts.push(format!(
            "{}{}{}: scheduler {}, write cache {}, FUA {}, {}",
            device.name,
            device.model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default(),
            if device.virtual_disk { ", virtual" } else { "" },
            known(&device.scheduler),
            known(&device.write_cache),
            yes(device.fua, "yes", "no"),
            yes(device.rotational, "rotational", "not rotational"),
        ));
    }
    facts
}

fn header(title: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{title:<31}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}",
        "ops/s", "mean", "p50", "p99", "p99.9", "max", "xfloor"
    )
}

fn line(row: &Row, out: &mut dyn Write) -> Result<()> {
    let name = if row.role == Role::Default { format!("{} *", row.name) } else { row.name.clone() };
    writeln!(
        out,
        "{name:<31.31}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}",
        rate(row.operations_per_second),
        micros(row.mean_ns),
        micros(row.p50_ns),
        micros(row.p99_ns),
        micros(row.p999_ns),
        micros(row.max_ns),
        row.to_floor.map_or_else(|| "-".to_owned(), |it| multiple(it.mid)),
    )
}

/// Microseconds in at most six columns.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn micros(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{:.2}", nanoseconds as f64 / 1e3),
        10_000..100_000 => format!("{:.1}", nanoseconds as f64 / 1e3),
        100_000..1_000_000_000 => format!("{}", nanoseconds / 1_000),
        _ => format!("{}k", nanoseconds / 1_000_000),
    }
}

/// A multiple in at most six columns.
fn multiple(of: f64) -> String {
    if of < 100.0 { format!("{of:.2}") } else { format!("{of:.0}") }
}

fn rate(per_second: f64) -> String {
    if per_second < 1e6 { format!("{per_second:.0}") } else { format!("{:.2}M", per_second / 1e6) }
}

/// A duration in the unit that suits it.
pub(super) fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} us", nanoseconds / 1000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

/// What changed since an older run of the same directories.
pub(super) fn comparison(new: &Report, old: &Report, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\ncompared with the run of {} on {} (x floor, now / then)", old.date, old.host)?;
    for place in &new.places {
        let same = |it: &&Place| it.ground.directory == place.ground.directory;
        let Some(before) = old.places.iter().find(same) else {
            writeln!(out, "  {}: not in that run", place.ground.directory)?;
            continue;
        };
        writeln!(out, "  {}", place.ground.directory)?;
        for (now, then, ratio) in compared(place, before) {
            let (Some(now_floor), Some(then_floor)) = (now.to_floor, then.to_floor) else {
                continue;
            };
            // Intervals that overlap show no change.
            let apart = now_floor.low > then_floor.high || now_floor.high < then_floor.low;
            let mark = if apart { "changed" } else { "" };
            writeln!(
                out,
                "    {:<30.30} {:>6.2} / {:>5.2}  x {ratio:>5.2}  {mark}",
                now.name, now_floor.mid, then_floor.mid
            )?;
        }
    }
    Ok(())
}

/// Which of several directories has the fastest durable append.
pub(super) fn fastest(report: &Report, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\nof these directories, by the default's durable append (p50, p99):")?;
    let default = |place: &Place| {
        let row = place.rows.iter().find(|row| row.role == Role::Default)?;
        Some((row.p50_ns, row.p99_ns, place.ground.directory.clone()))
    };
    let mut all: Vec<_> = report.places.iter().filter_map(default).collect();
    all.sort();
    for (p50, p99, directory) in all {
        writeln!(out, "  {:>10} {:>10}  {}", time(p50), time(p99), directory)?;
    }
    Ok(())
}

/// A block of Markdown: machine, disk, table.
pub(super) fn markdown(report: &Report, out: &mut dyn Write) -> Result<()> {
    for place in &report.places {
        writeln!(out, "### {}\n", place.ground.file_system.as_deref().unwrap_or("a disk"))?;
        for fact in facts(&place.ground) {
            writeln!(out, "- {fact}")?;
        }
        writeln!(
            out,
            "- Linux {}, {} processors, {}, {}, {} rounds",
            report.kernel, report.processors, report.date, report.program, place.rounds
        )?;
        for warning in place.ground.warnings.iter().chain(&place.busy) {
            writeln!(out, "- **{warning}**")?;
        }
        writeln!(
            out,
            "\n| entries of {} bytes | ops/s | mean us | p50 | p99 | p99.9 | max | x floor |",
            report.entry_bytes
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &place.rows {
            let ratio = row.to_floor.map_or_else(
                || "-".to_owned(),
                |it| format!("{:.2} ({:.2} to {:.2})", it.mid, it.low, it.high),
            );
            writeln!(
                out,
                "| {}{} | {} | {} | {} | {} | {} | {} | {ratio} |",
                row.name,
                if row.role == Role::Default { " (default)" } else { "" },
                rate(row.operations_per_second),
                micros(row.mean_ns),
                micros(row.p50_ns),
                micros(row.p99_ns),
                micros(row.p999_ns),
                micros(row.max_ns),
            )?;
        }
        writeln!(out)?;
        place.advice.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::rows_of_times;
    use super::*;

    #[test]
    fn no_line_of_a_table_is_wider_than_80_columns() {
        let slow = vec![123_456_789_012; 60];
        let mut rows = rows_of_times(&[vec![250_000; 60], slow.clone(), slow]);
        if let Some(row) = rows.last_mut() {
            row.name = "a name that is longer than its column by far".to_owned();
        }
        let mut out = Vec::new();
        header("one append, durable on return", &mut out).unwrap();
        for row in &rows {
            line(row, &mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().count() == 4);
    }
}
