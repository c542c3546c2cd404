//! `instructions`: what a call costs in instructions and allocations, counted by valgrind: figures that
//! no other load of the machine changes (docs/BENCHMARKS.md).
//!
//! Owns: the calls that are counted, on a log with eight cells and entries of 256 bytes, in memory or in
//! files, and on sixteen groups in one log in memory. Each is run twice in a process of its own, a
//! different number of times; what is printed is the difference for one call. Does not own: how long a
//! call takes (`benches`), nor what the system does for it: valgrind counts nothing of that.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::process::Command;

use indelible::{Batch, Durability, Log, Options};
use indelible_groups::{Group, GroupBatch, Groups, GroupsOptions};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Has the C library copy long buffers by loops of vector instructions. By default it uses
/// `rep movsb`, one instruction to a processor, which valgrind counts once for each byte.
const COPY_BY_LOOPS: &str = "glibc.cpu.x86_rep_movsb_threshold=1099511627776";

/// Times that a call is made in the shorter run and in the longer one.
const COUNTS: [u64; 2] = [2000, 4000];

/// The calls, by the names they are printed under.
const CALLS: [&str; 11] = [
    "append",
    "commit(set + entry)",
    "set_lazily + commit(set + entry)",
    "entry, of the newest",
    "read of one",
    "read_owned of one",
    "entry, from a file",
    "read of 1000, from a file",
    "read_owned of 1000, from a file",
    "append, of one of 16 groups",
    "commit(entry), of all 16 groups",
];

/// Entries that a log has in the beginning.
const ENTRIES: u64 = 1100;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = arguments.as_slice() {
        return run(name, count.parse()?);
    }
    let (first, second) = ("instructions", "bytes copied by loops");
    println!("{:34} {first:>12} {second:>21} {:>11}", "call", "allocations");
    for name in CALLS {
        let per_call = |tool: &str, label: &str, tunables: &str| -> Result<f64> {
            let [fewer, more] = COUNTS;
            let less = counted(name, fewer, tool, label, tunables)?;
            let all = counted(name, more, tool, label, tunables)?;
            Ok((all - less) / u32::try_from(more - fewer).map(f64::from)?)
        };
        let instructions = per_call("callgrind", "Collected : ", "")?;
        let by_loops = per_call("callgrind", "Collected : ", COPY_BY_LOOPS)?;
        let allocations = per_call("memcheck", "total heap usage: ", "")?;
        println!("{name:34} {instructions:>12.0} {by_loops:>21.0} {allocations:>11.2}");
    }
    Ok(())
}

/// The number that valgrind prints after `label` for so many calls.
fn counted(name: &str, count: u64, tool: &str, label: &str, tunables: &str) -> Result<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.env("GLIBC_TUNABLES", tunables).arg(format!("--tool={tool}"));
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
    let options = Options::new().background(false);
    if name.ends_with("16 groups") {
        return run_on_groups(name, count, options);
    }
    let place = tempfile::tempdir()?;
    let log = if name.ends_with("from a file") {
        // Nothing is kept in memory, so the file is asked.
        Log::create(place.path(), &options.durability(Durability::Os).warm_bytes(0))?
    } else {
        Log::in_memory(&options)?
    };
    let entry = [7; 256];
    for cell in 0..8 {
        log.commit(Batch::new().set(format!("cell-{cell}"), b"12345678".to_vec()))?;
    }
    for _ in 0..ENTRIES {
        log.append(&entry)?;
    }
    log.sync()?;
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
            "entry, of the newest" | "entry, from a file" => drop(log.entry(50 + nth % 50)?),
            "read of one" => drop(log.read(50 + nth % 50..51 + nth % 50)?),
            "read_owned of one" => drop(log.read_owned(50 + nth % 50..51 + nth % 50)?),
            "read of 1000, from a file" => drop(log.read(0..1000)?),
            "read_owned of 1000, from a file" => drop(log.read_owned(0..1000)?),
            other => return Err(format!("there is no call `{other}`").into()),
        }
    }
    Ok(())
}

fn run_on_groups(name: &str, count: u64, options: Options) -> Result<()> {
    let groups = Groups::in_memory(&GroupsOptions::new().log(options))?;
    let handles = (0..16).map(|id| groups.create_group(id));
    let handles: Vec<Group> = handles.collect::<indelible::Result<_>>()?;
    let entry = [7; 256];
    let mut of_each = Batch::new();
    of_each.append(&entry[..]);
    let mut of_all = GroupBatch::new();
    for group in &handles {
        of_all.change(group.id(), &of_each);
    }
    for (_, group) in (0..count).zip(handles.iter().cycle()) {
        match name {
            "append, of one of 16 groups" => drop(group.append(&entry)?),
            _ => drop(groups.commit(&of_all)?),
        }
    }
    Ok(())
}
