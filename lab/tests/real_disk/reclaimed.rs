//! A machine short of memory beside a device that fails: pages of a log that somebody has open are
//! reclaimed, its file system shuts down, and then each way to read and to write is gone once. An
//! error is right, and so is success out of memory; a signal, damage or a wrong byte is not.
//!
//! Needs root, loop devices and the tools of XFS.
#![expect(unsafe_code, reason = "pages are reclaimed by address")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use indelible::{Batch, Durability, Error, Log, Options, Result, WriteMode};

use crate::Outcome;
use crate::mounted::{Mounted, System, run, unmount};

const MODES: [(&str, WriteMode); 4] = [
    ("buffered", WriteMode::Buffered),
    ("mmap", WriteMode::Mmap),
    ("pwrite", WriteMode::Pwrite),
    ("direct", WriteMode::Direct),
];

type Way = (&'static str, fn(&Log, &Path) -> Result<()>);

/// Every way to read and to write.
const WAYS: [Way; 16] = [
    ("entry", |log, _| (0..log.next()).try_for_each(|at| log.entry(at).map(|it| right(at, &it)))),
    ("read", |log, _| chunks(log, |at, to| log.read(at..to).map(|it| all_right(at, it.iter())))),
    ("read_owned", |log, _| log.read_owned(0..log.next()).map(|it| all_right(0, it.iter()))),
    ("read_within", |log, _| {
        log.read_within(0..log.next(), 100_000).map(|it| all_right(0, it.iter()))
    }),
    ("iter", |log, _| log.iter(0).try_for_each(|step| step.map(|(at, it)| right(at, &it)))),
    ("scrub", |log, _| log.scrub(None, &mut |_| ControlFlow::Continue(())).map(drop)),
    ("backup", |log, place| log.backup(place.join("backup")).map(drop)),
    ("append", |log, _| (0..3).try_for_each(|_| log.append(&entry(log.next())).map(drop))),
    ("large batch", |log, _| log.commit(&batch(log.next(), 200)).map(drop)),
    ("roll", |log, _| (0..20).try_for_each(|_| log.commit(&batch(log.next(), 100)).map(drop))),
    ("state", |log, _| log.commit(Batch::new().set("promise", b"2".as_slice())).map(drop)),
    ("truncate", |log, _| log.commit(Batch::new().truncate(100)).map(drop)),
    ("trim", |log, _| log.commit(Batch::new().trim(2000)).and_then(|_| log.maintain())),
    ("sync", |log, _| log.submit(&batch(log.next(), 3)).and_then(|_| log.sync())),
    ("maintain", |log, _| log.append(b"x").and_then(|_| log.maintain())),
    ("close", |log, _| log.close()),
];

fn entry(index: u64) -> Vec<u8> {
    vec![index.to_le_bytes()[0]; 1000]
}

fn batch(from: u64, entries: u64) -> Batch<'static> {
    let mut batch = Batch::new();
    for index in from..from + entries {
        batch.append(entry(index));
    }
    batch
}

fn right(index: u64, got: &[u8]) {
    assert!(got == entry(index), "entry {index} is read wrong");
}

fn all_right<'a>(from: u64, entries: impl Iterator<Item = &'a [u8]>) {
    (from..).zip(entries).for_each(|(index, got)| right(index, got));
}

fn chunks(log: &Log, mut read: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    (0..log.next()).step_by(50).try_for_each(|from| read(from, log.next().min(from + 50)))
}

/// The process that has the log open: `DIRECTORY MODE DURABILITY WAY`.
pub(crate) fn child(words: &[String]) {
    let [directory, mode, durability, way] = words else { panic!("{words:?}") };
    let directory = Path::new(directory);
    let mode = MODES.iter().find(|it| it.0 == mode).unwrap().1;
    let durability = if durability == "os" { Durability::Os } else { Durability::Always };
    let way = WAYS.iter().find(|it| it.0 == way).unwrap().1;
    let options = Options::new()
        .segment_bytes(1 << 20)
        .background(false)
        .warm_bytes(0)
        .write_mode(mode)
        .durability(durability);
    let log = Log::create(directory, &options).unwrap();
    for _ in 0..30 {
        log.commit(&batch(log.next(), 100)).unwrap();
    }
    // By somebody else, who tells the log nothing.
    run(Command::new("sync").arg("-f").arg(directory)).unwrap();
    chunks(&log, |from, to| log.read(from..to).map(drop)).unwrap();
    println!("{}", reclaim(directory));
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let ended = way(&log, elsewhere.path());
    elsewhere.close().unwrap();
    match ended {
        Ok(()) => println!("ok"),
        Err(Error::Io { .. } | Error::Poisoned { .. }) => println!("error"),
        Err(other) => println!("{other}"),
    }
    std::io::stdout().flush().unwrap();
    // Not an orderly end: the log is gone with its file system.
    std::process::exit(0);
}

/// Has every page of the segments reclaimed, of maps and of files. Returns how many of the maps are
/// gone.
fn reclaim(directory: &Path) -> usize {
    const MADV_PAGEOUT: libc::c_int = 21;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = |line: &&str| line.contains(directory.to_str().unwrap()) && line.contains(".seg");
    let mut gone = 0;
    for line in maps.lines().filter(ours) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let start = usize::from_str_radix(start, 16).unwrap();
        let len = usize::from_str_radix(end, 16).unwrap() - start;
        let resident = || {
            let mut seen = vec![0_u8; len.div_ceil(4096)];
            // SAFETY: the map is the log's, which has it for as long as it has the segment open, and
            // nothing else runs here; the vector has a byte for each of its pages.
            let asked = unsafe { libc::mincore(start as *mut _, len, seen.as_mut_ptr()) };
            assert_eq!(asked, 0);
            seen.iter().filter(|page| **page & 1 == 1).count()
        };
        let before = resident();
        // SAFETY: as above; pages of a file that are reclaimed come back when they are touched.
        unsafe { libc::madvise(start as *mut _, len, MADV_PAGEOUT) };
        gone += before.saturating_sub(resident());
    }
    for file in fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()) {
        let file = File::open(file).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    gone
}

/// What a lane of this did.
#[derive(Default)]
struct Done {
    ways: usize,
    pages: usize,
    errors: usize,
}

/// Each way in each mode, on a file system that has shut down.
pub(crate) fn ways() -> Outcome {
    let mounted = match Mounted::new(System::Xfs, System::Xfs.mebibytes()) {
        Ok(mounted) => mounted,
        Err(why) => return Outcome::Skipped(why),
    };
    if let Err(why) = run(Command::new("xfs_io").arg("-V")) {
        return Outcome::Skipped(why);
    }
    let mut done = Done::default();
    for (mode, _) in MODES {
        for durability in ["always", "os"] {
            for (way, _) in WAYS {
                let name = format!("{mode}-{durability}-{}", way.replace(' ', "-"));
                let directory = mounted.path().join(name);
                one(&mounted, &directory, [mode, durability, way], &mut done);
            }
        }
    }
    assert!(done.pages > 1000, "{} pages were reclaimed: nothing was injected", done.pages);
    assert!(done.errors > done.ways / 2, "{} errors of {}: does it fail?", done.errors, done.ways);
    let Done { ways, pages, errors } = done;
    Outcome::Passed(format!("{ways} ways, {pages} pages reclaimed from maps, {errors} errors"))
}

fn one(mounted: &Mounted, directory: &Path, words: [&str; 3], done: &mut Done) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("reclaimed")
        .arg(directory)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let pages = said.next().unwrap_or_else(|| panic!("{words:?}: it did not begin")).unwrap();
    done.pages += pages.parse::<usize>().unwrap_or_else(|_| panic!("{words:?}: {pages}"));
    run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(mounted.path())).unwrap();
    writeln!(child.stdin.take().unwrap()).unwrap();
    let ended = said.next().transpose().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None, "{words:?}: ended by a signal");
    assert!(status.success(), "{words:?}: {status}, {ended:?}");
    match ended.as_deref() {
        Some("ok") => {}
        Some("error") => done.errors += 1,
        other => panic!("{words:?}: {other:?}"),
    }
    done.ways += 1;
    unmount(&mounted.path()).unwrap();
    mounted.mount().unwrap();
    fs::remove_dir_all(directory).unwrap();
}
