//! Latencies as pictures: a line of blocks for the terminal, an SVG file for elsewhere.

use std::path::Path;

use plotters::prelude::*;

use super::cannot;
use super::contenders::Role;
use super::measure::{Measured, Report};
use crate::Failure;

/// Columns of the terminal's picture: six decades from 100 ns to 100 ms.
const COLUMNS: usize = 24;
const COLUMNS_PER_DECADE: f64 = 4.0;
const FIRST_NS: u64 = 100;
/// What stands above the pictures: a mark where each decade begins.
pub(super) const SCALE: &str = "'100ns  '10us   '1ms";

/// How often each latency occurred, on a logarithmic scale.
pub(super) fn sparkline(measured: &Measured) -> String {
    const BLOCKS: [char; 9] = [
        ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
        '\u{2588}',
    ];
    let mut counts = [0_usize; COLUMNS];
    for latency in &measured.latencies {
        if let Some(count) = counts.get_mut(column(*latency)) {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let block = |count: usize| {
        // Anything that occurred is seen.
        let level = (count * (BLOCKS.len() - 1)).div_ceil(most);
        BLOCKS.get(level).copied().unwrap_or(' ')
    };
    counts.into_iter().map(block).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a column of a picture"
)]
fn column(nanoseconds: u64) -> usize {
    let decades = (nanoseconds.max(FIRST_NS) as f64 / FIRST_NS as f64).log10();
    ((decades * COLUMNS_PER_DECADE) as usize).min(COLUMNS - 1)
}

/// Refuses a file that no picture can be drawn into: its directory has to be there.
pub(super) fn can_be_drawn(file: &Path) -> Result<(), Failure> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let parent = std::fs::metadata(parent).map_err(|source| cannot("draw into", file, source))?;
    if !parent.is_dir() || file.is_dir() {
        let source = std::io::Error::other("no file can be made there");
        return Err(cannot("draw into", file, source));
    }
    Ok(())
}

/// Draws p50 and p99 of every strategy as multiples of the floor's median.
pub(super) fn svg(report: &Report, file: &Path) -> Result<(), Failure> {
    draw(report, file)
        .map_err(|error| cannot("draw into", file, std::io::Error::other(error.to_string())))
}

fn draw(report: &Report, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const ROW: u32 = 44;
    let measured: Vec<_> = report.of(&[Role::Floor, Role::Default, Role::Strategy]).collect();
    let rows = u32::try_from(measured.len())?;
    let size = (900, 110 + rows * ROW);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let high = |measured: &Measured| {
        measured.ratio * scale(measured.percentile(0.99), measured.percentile(0.5))
    };
    let most = measured.iter().map(|measured| high(measured)).fold(2.0, f64::max).min(50.0);
    let title = format!("Durable append of {} bytes, as a multiple of the floor", report.bytes);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(250)
        .build_cartesian_2d(0.0..most, (0..rows.saturating_sub(1)).into_segmented())?;
    let names: Vec<_> = measured.iter().map(|measured| measured.name.clone()).collect();
    let name = |row: &SegmentValue<u32>| match row {
        SegmentValue::CenterOf(row) => {
            let at = usize::try_from(rows.saturating_sub(*row).saturating_sub(1)).unwrap_or(0);
            names.get(at).cloned().unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_x_mesh()
        .y_labels(measured.len())
        .y_label_formatter(&name)
        .x_desc("x floor: dark p50, light p99")
        .draw()?;
    for (at, measured) in (0..rows).rev().zip(&measured) {
        let bar = |to: f64, color: RGBAColor| {
            let (from_row, to_row) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
            let mut bar = Rectangle::new([(0.0, from_row), (to.min(most), to_row)], color.filled());
            bar.set_margin(4, 4, 0, 0);
            bar
        };
        chart.draw_series([
            bar(high(measured), BLUE.mix(0.25)),
            bar(measured.ratio, BLUE.mix(0.8)),
        ])?;
    }
    root.present()?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn scale(high: u64, low: u64) -> f64 {
    high as f64 / low.max(1) as f64
}
