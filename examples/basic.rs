//! A log from its first entry to its second life: `cargo run --example basic`.

use indelible::{Batch, Log, Options};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("node-1");

    // A new node creates its log, once. `open` refuses a directory that has none: a node that has run
    // before must never go on without its log.
    let log = Log::create(&path, &Options::new())?;

    // One entry. It is durable when this returns.
    log.append(b"x = 1")?;

    // Several changes at once: all of them, or none, with one sync.
    let mut batch = Batch::new();
    batch.set("promise", b"ballot 7").append(b"y = 2").append(b"z = 3");
    log.commit(&batch)?;

    // A suffix is replaced in one step as well.
    let mut batch = Batch::new();
    batch.truncate(2).append(b"z = 4");
    log.commit(&batch)?;

    // Entries are read by index, one or many.
    for (index, entry) in (log.first()..).zip(&log.read(log.first()..log.next())?) {
        println!("{index}: {}", String::from_utf8_lossy(entry));
    }
    log.close()?;

    // Later, in another process.
    let (log, report) = Log::open(&path, &Options::new())?;
    println!("{:?}", report.verdict); // Clean; after a crash Recovered or TornTail { .. }
    assert_eq!(log.entry(2)?, b"z = 4");
    assert_eq!(log.cell("promise").as_deref(), Some(&b"ballot 7"[..]));
    Ok(())
}
