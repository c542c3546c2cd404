//! `indelible-peers`: indelible beside other logs and stores, on the same work, in one run.
//!
//! Owns: the command line, the order of the works. See `--help`, and docs/BENCHMARKS.md for what
//! came out and how to read it.

mod grid;
mod groups;
mod omni;
mod owned;
mod peer;
mod peers;
mod picture;
mod report;
mod syncs;
mod work;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use peer::{KINDS, Kind, Mode, Outcome};
use peers::walrus;
use report::{Machine, Report};
use work::Plan;

/// Bytes of every entry.
const ENTRY_BYTES: usize = 256;

const HELP: &str = "\
indelible-peers [run] [options]    measure, in rounds that give every peer its turn
indelible-peers syncs [options]    count the sync calls of each peer with strace
indelible-peers list               the peers, and what to know about each

  --dir DIR          where the logs go (default: a directory below the current one, removed after)
  --quick            small and few rounds: to see that it works, not to quote
  --rounds N         rounds of each work (default 15, quick 3)
  --only A,B         these peers (the floor always takes part)
  --work A,B         of: syncs, synced, threads, unsynced, reads, reopen, omnipaxos,
                     groups (default: all)
  --appends N        syncs: durable appends to trace (default 100)
  --json FILE        everything as JSON
  --svg DIR          a picture a table
";

struct Arguments {
    command: String,
    plan: Plan,
    works: Vec<String>,
    appends: usize,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    /// What the children `load`, `load-unsynced` and `child` are to write into.
    target: Option<PathBuf>,
    keep_dir: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| dispatch(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("indelible-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Arguments> {
    let mut arguments = Arguments {
        command: "run".to_owned(),
        plan: Plan { dir: PathBuf::from("peers-data"), quick: false, rounds: 0, only: Vec::new() },
        works: Vec::new(),
        appends: 100,
        json: None,
        svg: None,
        target: None,
        keep_dir: false,
    };
    let plan = &mut arguments.plan;
    let list = |word: String| word.split(',').map(str::to_owned).collect();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "run" | "syncs" | "list" | "load" | "load-unsynced" | "child" => {
                arguments.command = word;
            }
            "--help" | "-h" => "help".clone_into(&mut arguments.command),
            "--dir" => {
                plan.dir = value()?.into();
                arguments.keep_dir = true;
            }
            "--quick" => plan.quick = true,
            "--rounds" => plan.rounds = value()?.parse()?,
            "--only" => plan.only = list(value()?),
            "--work" => arguments.works = list(value()?),
            "--appends" => arguments.appends = value()?.parse()?,
            "--json" => arguments.json = Some(value()?.into()),
            "--svg" => arguments.svg = Some(value()?.into()),
            _ if !word.starts_with('-') => arguments.target = Some(word.into()),
            _ => return Err(format!("{word}: no such option\n\n{HELP}").into()),
        }
    }
    if plan.rounds == 0 {
        plan.rounds = if plan.quick { 3 } else { 15 };
    }
    for name in &plan.only {
        if !KINDS.iter().any(|kind| kind.name == name) {
            return Err(format!("{name}: no such peer\n\n{}", report::notes()).into());
        }
    }
    Ok(arguments)
}

fn dispatch(arguments: &Arguments) -> Outcome<()> {
    match arguments.command.as_str() {
        "help" => print!("{HELP}"),
        "list" => print!("{}", report::notes()),
        command => {
            std::fs::create_dir_all(&arguments.plan.dir)?;
            let root = arguments.plan.dir.canonicalize()?;
            if std::env::var_os(walrus::DIR_VARIABLE).is_none_or(|set| *set != *root) {
                return again_with_variables(&root);
            }
            let plan = Plan { dir: root, only: arguments.plan.only.clone(), ..arguments.plan };
            match command {
                "load" | "load-unsynced" => {
                    let mode = if command == "load" { Mode::Synced } else { Mode::Unsynced };
                    let (kind, target) = (the_one(&plan)?, target(arguments)?);
                    work::reopen::load(&kind, target, arguments.appends, mode)?;
                }
                "child" => syncs::child(&the_one(&plan)?, target(arguments)?, arguments.appends)?,
                _ => measure(arguments, &plan)?,
            }
        }
    }
    Ok(())
}

/// Runs this program again with the variables that walrus reads: they can only be set for a
/// process that has not begun.
fn again_with_variables(root: &Path) -> Outcome<()> {
    let error = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(walrus::DIR_VARIABLE, root)
        .env(walrus::QUIET_VARIABLE, "1")
        .exec();
    Err(error.into())
}

/// The peer that `load` or `child` was started for.
fn the_one(plan: &Plan) -> Outcome<Kind> {
    let kind = KINDS.iter().find(|kind| plan.only.iter().any(|name| name == kind.name));
    Ok(*kind.ok_or("needs --only")?)
}

fn target(arguments: &Arguments) -> Outcome<&Path> {
    Ok(arguments.target.as_deref().ok_or("needs a directory")?)
}

fn measure(arguments: &Arguments, plan: &Plan) -> Outcome<()> {
    let mut report = Report {
        machine: Machine::look(&plan.dir),
        rounds: plan.rounds,
        quick: plan.quick,
        ..Report::default()
    };
    if arguments.command == "syncs" {
        report.syncs = syncs::run(plan, arguments.appends)?;
    } else {
        settle_walrus(plan)?;
        run(arguments, plan, &mut report)?;
    }
    report.machine.load_after = Machine::load();
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(dir) = &arguments.svg {
        std::fs::create_dir_all(dir)?;
        report.tables.iter().try_for_each(|table| picture::draw(dir, table))?;
    }
    if !arguments.keep_dir {
        work::remove(&plan.dir)?;
    }
    Ok(())
}

fn run(arguments: &Arguments, plan: &Plan, report: &mut Report) -> Outcome<()> {
    let wanted = |work: &str| {
        let wanted = arguments.works.is_empty() || arguments.works.iter().any(|name| name == work);
        if wanted {
            eprintln!("{work} …");
        }
        wanted
    };
    if wanted("syncs") {
        match syncs::run(plan, arguments.appends) {
            Ok(syncs) => report.syncs = syncs,
            Err(error) => eprintln!("syncs left out: {error}"),
        }
    }
    let tables = &mut report.tables;
    if wanted("synced") {
        tables.push(work::synced::run(plan)?);
    }
    if wanted("threads") {
        tables.push(work::threads::run(plan)?);
    }
    for table in &mut *tables {
        let absent = report.syncs.iter().filter(|syncs| !syncs.on_device());
        table.not_on_device = absent.map(|syncs| syncs.name.to_owned()).collect();
        for row in &mut table.rows {
            let syncs = report.syncs.iter().find(|syncs| syncs.name == row.name);
            row.survives = syncs.map_or("", syncs::Syncs::survives).to_owned();
        }
    }
    if wanted("unsynced") {
        let mut table = work::unsynced::run(plan)?;
        work::survival::run(plan, &mut table)?;
        tables.push(table);
    }
    if wanted("reads") {
        tables.push(work::reads::run(plan)?);
    }
    if wanted("reopen") {
        tables.extend(work::reopen::run(plan)?);
    }
    if wanted("groups") {
        tables.extend(groups::run(plan)?);
    }
    if wanted("omnipaxos") {
        tables.extend(omni::run(plan)?);
    }
    Ok(())
}

/// walrus settles for a process whether its files are opened with `O_SYNC`, at its first instance.
fn settle_walrus(plan: &Plan) -> Outcome<()> {
    let dir = plan.fresh("settle", "walrus")?;
    drop(walrus::open(&dir, Mode::Unsynced)?);
    work::remove(&dir)
}
