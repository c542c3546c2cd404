//! What a log tells of itself: events through `tracing`, figures through `metrics`.
//! `cargo run -p indelible-lab --example watch`

use indelible::{Log, Options, Publisher};
use metrics_util::debugging::DebuggingRecorder;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Wherever the host's events go. Those of a log have the target `indelible`.
    tracing_subscriber::fmt().with_target(true).init();

    // Wherever the host's figures go: an exporter for Prometheus, for example.
    let recorder = DebuggingRecorder::new();
    let figures = recorder.snapshotter();
    recorder.install()?;

    let directory = tempfile::tempdir()?;
    let options = Options::new().segment_bytes(256 * 1024);
    let log = Log::create(directory.path().join("node-1"), &options)?;
    let mut publisher = Publisher::new("node-1");
    for number in 0..1000_u32 {
        log.append(&number.to_le_bytes().repeat(200))?;
        if number % 250 == 249 {
            log.commit(indelible::Batch::new().trim(number.into()))?;
            publisher.publish(&log); // every ten seconds, say
        }
    }

    // docs/OPERATIONS.md says which of them to watch, and when to worry.
    let mut lines = Vec::new();
    for (key, _, _, value) in figures.snapshot().into_vec() {
        lines.push(format!("{} {value:?}", key.key().name()));
    }
    lines.sort();
    lines.iter().filter(|line| !line.contains("Histogram")).for_each(|line| println!("{line}"));
    assert!(lines.iter().any(|line| line.starts_with("indelible_appends_total Counter(1000)")));
    Ok(())
}
