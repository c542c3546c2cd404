//! One SVG picture per table: a panel per column, a line per contestant, best first.
//!
//! The scale is logarithmic, because contestants are orders of magnitude apart, and has no zero: so a
//! point stands for a median, not a bar, and a line for the middle half of the rounds. An axis with the
//! unit is below. Who does not reach the device is pale and marked. The base has a colour of its own,
//! indelible another.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::grid::{Cell, Table};
use crate::peer::Outcome;
use crate::report::{ratio_text, short};

const PANEL_WIDTH: u32 = 460;
const BAR_HEIGHT: i32 = 18;
const TITLE_HEIGHT: i32 = 44;
const AXIS_HEIGHT: i32 = 26;
const NAME_WIDTH: i32 = 178;
const VALUE_WIDTH: i32 = 110;
const COLUMNS_MAX: u32 = 2;

const OURS: RGBColor = RGBColor(31, 78, 121);
const BASE: RGBColor = RGBColor(150, 150, 150);
const OTHERS: RGBColor = RGBColor(217, 179, 130);
/// Of what does not reach the device.
const PALE: RGBColor = RGBColor(226, 208, 182);

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `table` into a file of `dir` that is named after its title.
pub fn draw(dir: &Path, table: &Table) -> Outcome<()> {
    let letters = |letter: char| {
        if letter.is_alphanumeric() { letter } else { '-' }
    };
    let name: String = table.title.to_lowercase().chars().map(letters).collect();
    let path = dir.join(format!("{}.svg", name.replace("--", "-")));
    let across = u32::try_from(table.columns.len())?.clamp(1, COLUMNS_MAX);
    let down = u32::try_from(table.columns.len())?.div_ceil(across).max(1);
    let height = TITLE_HEIGHT + BAR_HEIGHT * i32::try_from(table.rows.len())? + AXIS_HEIGHT;
    let size = (PANEL_WIDTH * across, u32::try_from(height)? * down);
    let area = SVGBackend::new(&path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((down as usize, across as usize));
    for (column, panel) in panels.iter().take(table.columns.len()).enumerate() {
        draw_column(panel, table, column)?;
    }
    area.present()?;
    Ok(())
}

fn draw_column(panel: &Panel<'_>, table: &Table, column: usize) -> Outcome<()> {
    let mut bars: Vec<(&str, Cell)> = table
        .rows
        .iter()
        .filter_map(|row| Some((row.name.as_str(), (*row.cells.get(column)?)?)))
        .collect();
    bars.sort_by(|(_, left), (_, right)| {
        let order = left.median.total_cmp(&right.median);
        if table.more_is_better { order.reverse() } else { order }
    });
    let title = format!("{}: {}", table.title, table.columns[column]);
    let bold = ("sans-serif", 14).into_font().style(FontStyle::Bold).color(&BLACK);
    panel.draw(&Text::new(title, (8, 6), bold))?;
    let better = if table.more_is_better { "more" } else { "less" };
    let base = if table.has_ratios() { format!(", (x {})", table.base) } else { String::new() };
    let unit = format!("{}, {better} is better, log scale; median, quartiles{base}", table.unit);
    panel.draw(&Text::new(unit, (8, 24), ("sans-serif", 11).into_font().color(&BLACK.mix(0.6))))?;

    let scale = Scale::of(bars.iter().flat_map(|(_, cell)| cell.quartiles));
    let bottom = TITLE_HEIGHT + BAR_HEIGHT * i32::try_from(bars.len())?;
    scale.draw_axis(panel, table.unit, bottom)?;
    for (number, (name, cell)) in (0..).zip(&bars) {
        draw_bar(panel, table, name, *cell, (TITLE_HEIGHT + BAR_HEIGHT * number, &scale))?;
    }
    Ok(())
}

/// Where a value stands: between powers of ten.
struct Scale {
    least: i32,
    most: i32,
}

#[expect(clippy::cast_possible_truncation, reason = "pixels of a panel, and powers of ten")]
impl Scale {
    /// From the power of ten below the smallest value to that above the largest.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        // Nothing has no logarithm.
        let values = values.filter(|value| *value > 0.0);
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let most = values.fold(f64::NEG_INFINITY, f64::max).log10().ceil() as i32;
        Self { least, most: most.max(least + 1) }
    }

    fn place(&self, value: f64) -> i32 {
        let room = f64::from(PANEL_WIDTH.cast_signed() - NAME_WIDTH - VALUE_WIDTH);
        let share = (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        NAME_WIDTH + (room * share.clamp(0.0, 1.0)) as i32
    }

    /// A line at each power of ten, with its number.
    fn draw_axis(&self, panel: &Panel<'_>, unit: &str, bottom: i32) -> Outcome<()> {
        let centre = Pos::new(HPos::Center, VPos::Top);
        let font = ("sans-serif", 10).into_font().color(&BLACK.mix(0.6)).pos(centre);
        for power in self.least..=self.most {
            let value = 10_f64.powi(power);
            let at = self.place(value);
            let line = vec![(at, TITLE_HEIGHT), (at, bottom + 3)];
            panel.draw(&PathElement::new(line, BLACK.mix(0.15)))?;
            panel.draw(&Text::new(short(value), (at, bottom + 4), font.clone()))?;
        }
        let end = NAME_WIDTH - 6;
        let right = font.pos(Pos::new(HPos::Right, VPos::Top));
        panel.draw(&Text::new(unit.to_owned(), (end, bottom + 4), right))?;
        Ok(())
    }
}

fn draw_bar(
    panel: &Panel<'_>,
    table: &Table,
    name: &str,
    cell: Cell,
    (top, scale): (i32, &Scale),
) -> Outcome<()> {
    let pale = table.not_on_device.iter().any(|row| row == name);
    let colour = match name {
        _ if pale => PALE,
        _ if name == table.base => BASE,
        _ if name.starts_with("indelible") => OURS,
        _ => OTHERS,
    };
    let font = ("sans-serif", 12).into_font().color(&BLACK);
    let middle = top + BAR_HEIGHT / 2;
    let right = font.pos(Pos::new(HPos::Right, VPos::Center));
    let left = font.pos(Pos::new(HPos::Left, VPos::Center));
    let mark = if pale { " †" } else { "" };
    panel.draw(&Text::new(format!("{name}{mark}"), (NAME_WIDTH - 6, middle), right))?;
    let [low, high] = cell.quartiles.map(|value| scale.place(value));
    let line = vec![(low, middle), (high, middle)];
    panel.draw(&PathElement::new(line, colour.stroke_width(3)))?;
    panel.draw(&Circle::new((scale.place(cell.median), middle), 4, colour.filled()))?;
    let ratio = cell.ratio.map_or(String::new(), |ratio| format!(" ({})", ratio_text(ratio)));
    let label = format!("{}{ratio}", short(cell.median));
    panel.draw(&Text::new(label, (high + 8, middle), left))?;
    Ok(())
}
