//! One SVG picture a table: a panel a column, a bar a contestant, best first.
//!
//! The scale is logarithmic: contestants are orders of magnitude apart, and a bar's end is labelled
//! with its number. Who does not reach the device is pale and marked. The base has a colour of its own, indelible another.

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
const NAME_WIDTH: i32 = 178;
const VALUE_WIDTH: i32 = 110;
const COLUMNS_MAX: u32 = 2;

const OURS: RGBColor = RGBColor(31, 78, 121);
const BASE: RGBColor = RGBColor(150, 150, 150);
const OTHERS: RGBColor = RGBColor(217, 179, 130);
/// Of what does not reach the device.
const PALE: RGBColor = RGBColor(244, 232, 216);

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
    let height = TITLE_HEIGHT + BAR_HEIGHT * i32::try_from(table.rows.len())? + 10;
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
    let unit = format!("{}, {better} is better, log scale{base}", table.unit);
    panel.draw(&Text::new(unit, (8, 24), ("sans-serif", 11).into_font().color(&BLACK.mix(0.6))))?;

    // Nothing has no logarithm: its bar has no length.
    let medians = bars.iter().map(|(_, cell)| cell.median).filter(|median| *median > 0.0);
    let least = medians.clone().fold(f64::INFINITY, f64::min).log10() - 0.5;
    let most = medians.fold(f64::NEG_INFINITY, f64::max).log10();
    let room = f64::from(i32::try_from(PANEL_WIDTH)? - NAME_WIDTH - VALUE_WIDTH);
    for (number, (name, cell)) in (0..).zip(&bars) {
        let top = TITLE_HEIGHT + BAR_HEIGHT * number;
        let share = (cell.median.log10() - least) / (most - least).max(0.1);
        #[expect(clippy::cast_possible_truncation, reason = "pixels of a panel")]
        let end = NAME_WIDTH + (room * share.max(0.0)) as i32;
        draw_bar(panel, table, name, *cell, (top, end))?;
    }
    Ok(())
}

fn draw_bar(
    panel: &Panel<'_>,
    table: &Table,
    name: &str,
    cell: Cell,
    (top, end): (i32, i32),
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
    let corners = [(NAME_WIDTH, top + 2), (end, top + BAR_HEIGHT - 2)];
    panel.draw(&Rectangle::new(corners, colour.filled()))?;
    let ratio = cell.ratio.map_or(String::new(), |ratio| format!(" ({})", ratio_text(ratio)));
    let label = format!("{}{ratio}", short(cell.median));
    panel.draw(&Text::new(label, (end + 5, middle), left))?;
    Ok(())
}
