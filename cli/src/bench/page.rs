//! A run as one self-contained page: what stands under each directory, the advice, the strips of all
//! samples, the tables.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::contenders::Role;
use super::picture::svg;
use super::report::{Place, Report, Row};
use super::table::{facts, time};
use crate::Failure;

const STYLE: &str = "
:root { color-scheme: light; --ink: #1b2420; --soft: #5c6a64; --line: #dfe5e2; --go: #00825a; --warn: #a35200; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p.sub, .facts { color: var(--soft); margin: .2rem 0; }
.advice { border-left: 4px solid var(--go); padding: .2rem .9rem; margin: 1rem 0; }
.advice p:first-child { font-weight: 600; }
.warn { border-left: 4px solid var(--warn); padding: .2rem .9rem; margin: .6rem 0; color: var(--warn); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:last-child, td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; }
tr.default td { color: var(--go); font-weight: 600; } tr.floor td { color: var(--soft); }
code { background: #f1f4f2; padding: 0 .25rem; } svg { max-width: 100%; height: auto; }
";

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String, Failure> {
    let places: Vec<Markup> =
        report.places.iter().map(|place| section(report, place)).collect::<Result<_, _>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "indelible bench, " (report.host) ", " (report.date) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "What a durable append costs here" }
                p.sub {
                    (report.host) ", Linux " (report.kernel) ", " (report.processors) " processors, "
                    (report.date) ", " (report.program) ", entries of " (report.entry_bytes) " bytes"
                }
                @for place in &places { (place) }
            }
        }
    };
    Ok(page.into_string())
}

fn section(report: &Report, place: &Place) -> Result<Markup, Failure> {
    let picture = svg(place, report.entry_bytes)?;
    Ok(html! {
        h2 { (place.ground.directory) }
        @for fact in facts(&place.ground) { p.facts { (fact) } }
        @for warning in place.ground.warnings.iter().chain(&place.busy) { div.warn { (warning) } }
        div.advice { @for line in &place.advice { p { (line) } } }
        (PreEscaped(picture))
        p.facts {
            (place.rounds) " rounds in which everybody had a short turn. "
            "x floor: the time as a multiple of a bare write of the same bytes, with a 95 % interval."
        }
        table {
            tr {
                th { "" } th { "ops/s" } th { "mean" } th { "p50" } th { "p99" } th { "p99.9" } th { "max" }
                th { "x floor" } th { "options" }
            }
            @for row in &place.rows { (table_row(row)) }
        }
    })
}

fn table_row(row: &Row) -> Markup {
    let class = match row.role {
        Role::Default => "default",
        Role::Floor => "floor",
        Role::Strategy | Role::Policy | Role::Load => "",
    };
    html! {
        tr class=(class) {
            td { (row.name) @if row.role == Role::Default { " (default)" } }
            td { (format!("{:.0}", row.operations_per_second)) }
            td { (time(row.mean_ns)) }
            td { (time(row.p50_ns)) }
            td { (time(row.p99_ns)) }
            td { (time(row.p999_ns)) }
            td { (time(row.max_ns)) }
            td {
                @if let Some(it) = row.to_floor { (format!("{:.2} ({:.2} to {:.2})", it.mid, it.low, it.high)) }
            }
            td { @if !row.options.is_empty() { code { (row.options) } } }
        }
    }
}
