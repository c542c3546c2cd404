//! Tables as text and as JSON.
//!
//! The text is Markdown, so that a run's output is what docs/BENCHMARKS.md shows.

use std::fmt::Write as _;

use serde::Serialize;

use crate::grid::{Cell, Table};
use crate::peer::KINDS;
use crate::syncs::Syncs;

/// Everything one run has to say.
#[derive(Serialize, Default)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub quick: bool,
    pub tables: Vec<Table>,
    pub syncs: Vec<Syncs>,
}

/// Where it ran, and what else did.
#[derive(Serialize, Default)]
pub struct Machine {
    pub cpus: usize,
    pub cpu: String,
    pub kernel: String,
    pub file_system: String,
    /// The load average before and after: a busy machine cannot be told from a slow disk.
    pub load_before: String,
    pub load_after: String,
}

impl Machine {
    /// What `/proc` says, for the file system that holds `dir`.
    pub fn look(dir: &std::path::Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let mounts = read("/proc/mounts");
        let dir = dir.canonicalize().unwrap_or_default();
        let mount = mounts
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ').skip(1);
                Some((words.next()?, words.next()?, words.next()?))
            })
            .filter(|(point, ..)| dir.starts_with(point))
            .max_by_key(|(point, ..)| point.len());
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: mount
                .map(|(_, kind, options)| format!("{kind} ({options})"))
                .unwrap_or_default(),
            load_before: Self::load(),
            load_after: String::new(),
        }
    }

    pub fn load() -> String {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    }
}

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            text,
            "{} x {}, Linux {}, {}; load {} before, {} after; {} rounds{}\n",
            machine.cpus,
            machine.cpu,
            machine.kernel,
            machine.file_system,
            machine.load_before,
            machine.load_after,
            self.rounds,
            if self.quick { ", QUICK: not to be quoted" } else { "" },
        );
        for table in &self.tables {
            text.push_str(&table_text(table));
            text.push('\n');
        }
        if !self.syncs.is_empty() {
            text.push_str(&crate::syncs::text(&self.syncs));
        }
        text
    }
}

/// One table in Markdown: the median, the ratio to the base, the 99th percentile.
pub fn table_text(table: &Table) -> String {
    let mut text = String::new();
    let better = if table.more_is_better { "more" } else { "less" };
    let _ = writeln!(
        text,
        "**{}**, {}, {better} is better{}\n",
        table.title,
        table.unit,
        if table.has_ratios() { format!("; in brackets x {}", table.base) } else { String::new() },
    );
    let claims = table.rows.iter().any(|row| !row.survives.is_empty());
    let (head, line) = if claims { ("| survives ", "---|") } else { ("", "") };
    let _ = writeln!(text, "| {head}| {} |", table.columns.join(" | "));
    let _ = writeln!(text, "|---|{line}{}", "---:|".repeat(table.columns.len()));
    for row in &table.rows {
        let cells: Vec<String> =
            row.cells.iter().map(|cell| cell.map_or("-".to_owned(), cell_text)).collect();
        let mark = if table.not_on_device.contains(&row.name) { " †" } else { "" };
        let survives = if claims { format!("| {} ", row.survives) } else { String::new() };
        let _ = writeln!(text, "| {}{mark} {survives}| {} |", row.name, cells.join(" | "));
    }
    if !table.not_on_device.is_empty() {
        text.push_str("\n† does not reach the device: see the sync calls\n");
    }
    if !table.absent.is_empty() {
        let _ = writeln!(text, "\nWithout this mode: {}.", table.absent.join(", "));
    }
    text
}

fn cell_text(cell: Cell) -> String {
    let mut text = short(cell.median);
    if let Some(ratio) = cell.ratio {
        let _ = write!(text, " ({})", ratio_text(ratio));
    }
    if let Some(p99) = cell.p99 {
        let _ = write!(text, ", p99 {}", short(p99));
    }
    text
}

/// A ratio with as many digits as it deserves.
pub fn ratio_text(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 20.0 => format!("{ratio:.0}"),
        _ if ratio >= 0.095 || ratio == 0.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.4}"),
    }
}

/// Three significant digits, with k and M for large numbers.
pub fn short(value: f64) -> String {
    let (value, suffix) = match value {
        _ if value >= 1e6 => (value / 1e6, " M"),
        _ if value >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ if value >= 0.095 || value == 0.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}{suffix}")
}

/// The notes of the peers that took part.
pub fn notes() -> String {
    KINDS.iter().fold(String::new(), |mut text, kind| {
        let _ = writeln!(text, "{:18} {}", kind.name, kind.note);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(short(0.123), "0.12");
        assert_eq!(short(0.012_34), "0.0123");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(1234.0), "1234");
        assert_eq!(short(56_789.0), "56.8 k");
        assert_eq!(short(5_678_901.0), "5.68 M");
    }
}
