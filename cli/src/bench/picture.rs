//! Latencies as a picture: every sample of a row is a dot on a logarithmic axis, its median and its
//! 99th percentile are marked, and so is the floor's median.

use std::path::Path;

use plotters::prelude::*;

use super::contenders::{Group, Role};
use super::io_failure;
use super::report::{Place, Row};
use crate::Failure;

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

const ROW: u32 = 30;
const WIDTH: u32 = 960;

/// Refuses a file that nothing can be written into: its directory has to be there.
pub(super) fn can_be_written(file: &Path) -> Result<(), Failure> {
    crate::text::refuse_in_log(file, None)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let found =
        std::fs::metadata(parent).map_err(|source| io_failure("write into", file, source))?;
    if !found.is_dir() || file.is_dir() {
        let source = std::io::Error::other("no file can be made there");
        return Err(io_failure("write into", file, source));
    }
    Ok(())
}

/// The picture of one directory as SVG.
pub(super) fn svg(place: &Place, entry_bytes: u64) -> Result<String, Failure> {
    draw(place, entry_bytes).map_err(|error| {
        let source = std::io::Error::other(error.to_string());
        io_failure("draw", Path::new("the picture"), source)
    })
}

fn draw(place: &Place, entry_bytes: u64) -> Drawn<String> {
    let rows: Vec<&Row> = place.of(Group::Durable).collect();
    let count = u32::try_from(rows.len())?;
    let floor = rows.iter().find(|row| row.role == Role::Floor).map_or(1, |row| row.p50_ns.max(1));
    let samples = || rows.iter().flat_map(|row| &row.strip_ns).copied();
    let from = micros(samples().min().unwrap_or(1).max(1)) / 1.5;
    let to = micros(samples().max().unwrap_or(1_000)).max(from * 10.0) * 1.5;
    let mut text = String::new();
    {
        let size = (WIDTH, 120 + count * ROW);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("One durable append of {entry_bytes} bytes: every sample");
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(230)
            .build_cartesian_2d((from..to).log_scale(), 0.0..f64::from(count))?;
        let name = |at: &f64| name_at(&rows, *at);
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(BLACK.mix(0.06))
            .bold_line_style(BLACK.mix(0.14))
            .y_labels(usize::try_from(2 * count + 1)?)
            .y_label_formatter(&name)
            .x_label_formatter(&|micros: &f64| label(*micros))
            .x_desc("time per append, logarithmic   |   dot: one append   bar: p50 (dark) to p99   grey line: floor")
            .draw()?;
        let line = [(micros(floor), 0.0), (micros(floor), f64::from(count))];
        chart.draw_series([PathElement::new(line.to_vec(), BLACK.mix(0.45))])?;
        for (at, row) in (0..count).rev().zip(&rows) {
            let low = f64::from(at);
            chart.draw_series(dots(row, low))?;
            let color = color(row);
            let (p50, p99) = (micros(row.p50_ns.max(1)), micros(row.p99_ns.max(1)));
            let bar = |from: f64, to: f64, share| {
                Rectangle::new([(from, low + 0.12), (to, low + 0.24)], color.mix(share).filled())
            };
            chart.draw_series([bar(p50, p99, 0.35), bar(p50 / 1.02, p50 * 1.02, 1.0)])?;
        }
        root.present()?;
    }
    Ok(text)
}

/// The samples of a row, spread over the height of its strip in the order they were taken.
fn dots(row: &Row, low: f64) -> Vec<Circle<(f64, f64), i32>> {
    let style = color(row).mix(0.30).filled();
    let dot = |(nth, &latency): (usize, &u64)| {
        // A fixed walk through the strip's height, so that the same report gives the same picture.
        let height = f64::from(u32::try_from(nth * 37 % 101).unwrap_or(0)) / 101.0;
        Circle::new((micros(latency.max(1)), low + 0.30 + 0.60 * height), 1, style)
    };
    row.strip_ns.iter().enumerate().map(dot).collect()
}

const fn color(row: &Row) -> RGBColor {
    match row.role {
        Role::Floor => RGBColor(90, 90, 90),
        Role::Default => RGBColor(0, 130, 90),
        _ => RGBColor(30, 90, 180),
    }
}

/// The name of the row whose middle this is, and nothing between rows.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row of a picture")]
fn name_at(rows: &[&Row], at: f64) -> String {
    if (at.fract() - 0.5).abs() > 0.01 {
        return String::new();
    }
    let from_below = at as usize;
    let row = rows.len().checked_sub(from_below + 1).and_then(|at| rows.get(at));
    row.map(|row| match row.role {
        Role::Default => format!("{} (default)", row.name),
        _ => row.name.clone(),
    })
    .unwrap_or_default()
}

fn label(micros: f64) -> String {
    if micros < 1_000.0 { format!("{micros:.0} us") } else { format!("{:.0} ms", micros / 1e3) }
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}
