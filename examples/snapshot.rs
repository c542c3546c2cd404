//! A snapshot beside the log, and the entries it covers dropped: `cargo run --example snapshot`.

use std::collections::BTreeMap;
use std::io::Write;

use indelible::{Batch, Log, Options};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("node-1");
    let log = Log::create(&path, &Options::new())?;

    // A state machine: keys and values, "key=value" in each entry.
    let mut state = BTreeMap::new();
    for number in 0..1000 {
        let entry = format!("{}={number}", number % 10);
        log.append(entry.as_bytes())?;
        state.insert((number % 10).to_string(), number.to_string());
    }

    // The bytes first, as a stream of any length, durable once `finish` returns.
    let covered = log.next();
    let mut file = log.side_file_writer()?;
    for (key, value) in &state {
        writeln!(file, "{key}={value}")?;
    }
    let file = file.finish()?;

    // Then, in one batch: the cell that refers to them, and the end of the entries they cover. A crash
    // before it leaves the log as it was; there is no state between.
    let mut batch = Batch::new();
    batch.attach("snapshot", file).trim(covered);
    log.commit(&batch)?;
    log.append(b"0=2000")?;
    log.close()?;

    // A restart begins with the snapshot, and applies what came after it.
    let (log, _) = Log::open(&path, &Options::new())?;
    let snapshot = log.side_file("snapshot")?.ok_or("no snapshot")?.read_all()?;
    let mut entries = String::from_utf8(snapshot)?;
    for entry in &log.read(log.first()..log.next())? {
        entries.push_str(std::str::from_utf8(entry)?);
        entries.push('\n');
    }
    let restored: BTreeMap<_, _> =
        entries.lines().filter_map(|line| line.split_once('=')).collect();
    println!("entries {}..{}, {restored:?}", log.first(), log.next());
    assert_eq!((restored.get("0"), restored.get("9")), (Some(&"2000"), Some(&"999")));
    Ok(())
}
