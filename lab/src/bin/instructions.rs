//! `instructions`: what a call costs in instructions and allocations, counted by valgrind: figures that
//! no other load of the machine changes (docs/BENCHMARKS.md).
//!
//! Owns: the calls that are counted, on a log in memory with eight cells and entries of 256 bytes. Each
//! is run twice in a process of its own, a different number of times; what is printed is the difference
//! for one call. Does not own: how long a call takes (`benches`).
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::process::Command;

use indelible::{Batch, Log, Options};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Times that a call is made in the shorter run and in the longer one.
const COUNTS: [u64; 2] = [2000, 4000];

/// The calls, by the names they are printed under.
const CALLS: [&str; 6] = [
    "append",
    "commit(set + entry)",
    "set_lazily + commit(set + entry)",
    "entry, of the newest",
    "read of one",
    "read_owned of one",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = arguments.as_slice() {
        return run(name, count.parse()?);
    }
    println!("{:34} {:>12} {:>11}", "call", "instructions", "allocations");
    for name in CALLS {
        let per_call = |tool: &str, label: &str| -> Result<f64> {
            let [fewer, more] = COUNTS;
            let (less, all) =
                (counted(name, fewer, tool, label)?, counted(name, more, tool, label)?);
            Ok((all - less) / u32::try_from(more - fewer).map(f64::from)?)
        };
        let instructions = per_call("callgrind", "Collected : ")?;
        let allocations = per_call("memcheck", "total heap usage: ")?;
        println!("{name:34} {instructions:>12.0} {allocations:>11.2}");
    }
    Ok(())
}

/// The number that valgrind prints after `label` for so many calls.
fn counted(name: &str, count: u64, tool: &str, label: &str) -> Result<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg(format!("--tool={tool}"));
    if tool == "callgrind" {
        valgrind.arg("--callgrind-out-file=/dev/null");
    }
    let output =
        valgrind.arg(std::env::current_exe()?).arg(name).arg(count.to_string()).output()?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let after = printed.split(label).nth(1).filter(|_| output.status.success());
    let number = after.and_then(|rest| rest.split_whitespace().next()).ok_or(&*printed)?;
    Ok(number.replace(',', "").parse()?)
}

/// Makes a call so many times.
fn run(name: &str, count: u64) -> Result<()> {
    let log = Log::in_memory(&Options::new().background(false))?;
    let entry = [7; 256];
    for cell in 0..8 {
        log.commit(Batch::new().set(format!("cell-{cell}"), b"12345678".to_vec()))?;
    }
    for _ in 0..100 {
        log.append(&entry)?;
    }
    for nth in 0..count {
        let value = nth.to_le_bytes();
        match name {
            "append" => drop(log.append(&entry)?),
            "commit(set + entry)" => {
                log.commit(Batch::new().set("cell-3", &value[..]).append(&entry[..]))?;
            }
            "set_lazily + commit(set + entry)" => {
                log.set_lazily("cell-5", &value)?;
                log.commit(Batch::new().set("cell-3", &value[..]).append(&entry[..]))?;
            }
            "entry, of the newest" => drop(log.entry(50 + nth % 50)?),
            "read of one" => drop(log.read(50 + nth % 50..51 + nth % 50)?),
            "read_owned of one" => drop(log.read_owned(50 + nth % 50..51 + nth % 50)?),
            other => return Err(format!("there is no call `{other}`").into()),
        }
    }
    Ok(())
}
