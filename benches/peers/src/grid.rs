//! Samples of one work: who took part, in what columns, in how many rounds.
//!
//! Owns: the order of a round, medians, ratios. Does not own: what a sample is (`work`), how it is
//! shown (`report`, `picture`).
//!
//! Invariant: one round gives every contestant its turn before any gets a second, in an order that
//! changes from round to round. A ratio is formed inside a round, against the base's sample of the
//! same round, and the median of the rounds' ratios is quoted: what slows the machine down for a
//! while slows both.

use std::collections::BTreeMap;

use serde::Serialize;

/// The samples of one work.
pub struct Grid {
    title: String,
    unit: &'static str,
    more_is_better: bool,
    base: String,
    names: Vec<String>,
    columns: Vec<String>,
    round: usize,
    cells: BTreeMap<(usize, usize), Vec<Sample>>,
}

struct Sample {
    round: usize,
    median: f64,
    all: Vec<f64>,
}

/// What a grid comes down to.
#[derive(Serialize)]
pub struct Table {
    pub title: String,
    pub unit: &'static str,
    pub more_is_better: bool,
    /// The row that the others are divided by.
    pub base: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// Rows that only look as durable as the others; see `syncs`.
    pub not_on_device: Vec<String>,
    /// Peers that were asked for and lack the mode that this work needs.
    pub absent: Vec<String>,
}

impl Table {
    /// Whether the base took part, so that there is something to divide by.
    pub fn has_ratios(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.cells).flatten().any(|cell| cell.ratio.is_some())
    }
}

/// One contestant's line.
#[derive(Serialize)]
pub struct Row {
    pub name: String,
    /// What an entry survives once its append has returned; empty if that is no matter here.
    pub survives: String,
    /// One a column; `None` where the contestant cannot do the work.
    pub cells: Vec<Option<Cell>>,
}

/// One contestant in one column.
#[derive(Serialize, Clone, Copy)]
pub struct Cell {
    /// Median of the rounds' medians.
    pub median: f64,
    /// Between these is the middle half of the rounds' medians.
    pub quartiles: [f64; 2],
    /// Median of the rounds' ratios to the base.
    pub ratio: Option<f64>,
    /// The 99th percentile of all samples, where a round has more than one.
    pub p99: Option<f64>,
    pub rounds: usize,
}

impl Grid {
    pub fn new(title: &str, unit: &'static str, more_is_better: bool, base: &str) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            more_is_better,
            base: base.to_owned(),
            names: Vec::new(),
            columns: Vec::new(),
            round: 0,
            cells: BTreeMap::new(),
        }
    }

    /// The number of a contestant or of a column, new or known.
    fn place(list: &mut Vec<String>, name: &str) -> usize {
        list.iter().position(|known| known == name).unwrap_or_else(|| {
            list.push(name.to_owned());
            list.len() - 1
        })
    }

    /// Starts the next round.
    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// Takes in the samples of one turn; none if the contestant cannot do it.
    pub fn record(&mut self, name: &str, column: &str, samples: Vec<f64>) {
        let cell = (Self::place(&mut self.names, name), Self::place(&mut self.columns, column));
        if let Some(median) = median(samples.clone()) {
            let sample = Sample { round: self.round, median, all: samples };
            self.cells.entry(cell).or_default().push(sample);
        }
    }

    /// Medians and ratios, contestants in the order of `names`.
    pub fn table(&self, names: &[&str]) -> Table {
        let rows = names.iter().filter_map(|name| {
            let row = self.names.iter().position(|known| known == name)?;
            let cells = (0..self.columns.len()).map(|column| self.cell(row, column)).collect();
            Some(Row { name: (*name).to_owned(), survives: String::new(), cells })
        });
        Table {
            title: self.title.clone(),
            unit: self.unit,
            more_is_better: self.more_is_better,
            base: self.base.clone(),
            columns: self.columns.clone(),
            rows: rows.collect(),
            not_on_device: Vec::new(),
            absent: Vec::new(),
        }
    }

    fn cell(&self, row: usize, column: usize) -> Option<Cell> {
        let samples = self.cells.get(&(row, column))?;
        let base = self.names.iter().position(|name| *name == self.base);
        let base = base.and_then(|base| self.cells.get(&(base, column)));
        let ratios = samples.iter().filter_map(|sample| {
            let base = base?.iter().find(|base| base.round == sample.round)?;
            (base.median > 0.0).then(|| sample.median / base.median)
        });
        let mut all: Vec<f64> = samples.iter().flat_map(|sample| &sample.all).copied().collect();
        all.sort_by(f64::total_cmp);
        let many = all.len() > samples.len();
        let mut medians: Vec<f64> = samples.iter().map(|sample| sample.median).collect();
        medians.sort_by(f64::total_cmp);
        let last = medians.len().checked_sub(1)?;
        Some(Cell {
            quartiles: [medians[last / 4], medians[last - last / 4]],
            median: median(medians)?,
            ratio: median(ratios.collect()),
            p99: many.then(|| all[all.len() * 99 / 100]),
            rounds: samples.len(),
        })
    }
}

/// The middle of `values`, the mean of the two middle ones if their number is even.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], upper)
    } else {
        upper
    })
}

/// The numbers `0..count` in an order of their own for each round.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = round as u64 + 1;
    for last in (1..count).rev() {
        // splitmix64: reproducible, and no crate for it.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let pick = usize::try_from((mixed ^ (mixed >> 31)) % (last as u64 + 1)).unwrap_or(0);
        order.swap(last, pick);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_formed_inside_a_round() {
        let mut grid = Grid::new("t", "s", false, "floor");
        for (floor, peer) in [(1.0, 2.0), (10.0, 20.0), (100.0, 200.0)] {
            grid.next_round();
            grid.record("floor", "one", vec![floor]);
            grid.record("peer", "one", vec![peer]);
        }
        let table = grid.table(&["floor", "peer"]);
        let cell = table.rows[1].cells[0].expect("measured");
        assert_eq!((cell.median, cell.ratio, cell.rounds), (20.0, Some(2.0), 3));
        assert_eq!(cell.quartiles, [2.0, 200.0]);
        for value in [1.0, 2.0] {
            grid.next_round();
            grid.record("peer", "one", vec![value]);
        }
        let cell = grid.table(&["peer"]).rows[0].cells[0].expect("measured");
        assert_eq!((cell.median, cell.quartiles), (2.0, [2.0, 20.0]));
    }

    #[test]
    fn missing_peer_has_an_empty_cell() {
        let mut grid = Grid::new("t", "s", false, "floor");
        grid.record("floor", "one", vec![1.0]);
        grid.record("peer", "one", vec![]);
        assert!(grid.table(&["floor", "peer"]).rows[1].cells[0].is_none());
    }

    #[test]
    fn order_has_everyone_once() {
        for round in 0..20 {
            let mut order = order(13, round);
            order.sort_unstable();
            assert_eq!(order, (0..13).collect::<Vec<_>>());
        }
    }
}
