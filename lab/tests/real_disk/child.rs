//! The process that is killed. It opens the log, says what it found, and then says each operation
//! before it begins it (`do`) and how it ended (`ok`, or why not).
//!
//! It judges nothing but what only it can see: after a failure the log must be poisoned, and what
//! was durable must still be read.

use std::io::Write;
use std::path::Path;

use indelible::{Batch, Error, Log, Options, SyncMethod, Verdict, WriteMode};

use crate::lossy::dice::Dice;
use crate::oracle::{BATCH_MAX, Op, digest, entry};

/// Tells a child which bug is to be in force (feature `sabotage`).
pub(crate) const BUG: &str = "INDELIBLE_PLANTED_BUG";
/// Tells a child to wait after each line until a line comes back.
pub(crate) const LOCKSTEP: &str = "INDELIBLE_LOCKSTEP";

/// The combinations of options that are killed, by number.
pub(crate) const CONFIGS: u64 = 12;

/// The options with a number.
pub(crate) fn options(config: u64) -> Options {
    let (mode, method) = match config % 6 {
        0 => (WriteMode::Buffered, SyncMethod::Fdatasync),
        1 => (WriteMode::Mmap, SyncMethod::Fdatasync),
        2 => (WriteMode::Mmap, SyncMethod::Msync),
        3 => (WriteMode::Pwrite, SyncMethod::Dsync),
        4 => (WriteMode::Direct, SyncMethod::Dsync),
        _ => (WriteMode::Buffered, SyncMethod::Dsync),
    };
    Options::new()
        .tiny_segments(16 * 1024)
        .checkpoint_bytes(8 * 1024)
        .write_mode(mode)
        .sync_method(method)
        .background(config / 6 % 2 == 1)
}

/// What a child is told to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) config: u64,
    pub(crate) seed: u64,
    /// First number that was never used for an entry.
    pub(crate) number: u64,
    pub(crate) operations: u64,
    /// Whether there is a log, which must be found then.
    pub(crate) exists: bool,
}

impl Task {
    /// The command line of this binary that does it.
    pub(crate) fn words(self, directory: &Path) -> Vec<String> {
        let mut words = vec![
            std::env::current_exe().unwrap().to_str().unwrap().to_owned(),
            "child".to_owned(),
            directory.to_str().unwrap().to_owned(),
        ];
        let exists = u64::from(self.exists);
        let numbers = [self.config, self.seed, self.number, self.operations, exists];
        words.extend(numbers.map(|number| number.to_string()));
        words
    }
}

/// `child DIRECTORY CONFIG SEED NUMBER OPERATIONS EXISTS`
pub(crate) fn run(words: &[String]) {
    let [directory, numbers @ ..] = words else { panic!("a directory is missing") };
    let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().unwrap()).collect();
    let &[config, seed, number, operations, exists] = &numbers[..] else { panic!("{words:?}") };
    let task = Task { config, seed, number, operations, exists: exists == 1 };
    #[cfg(feature = "sabotage")]
    if let Ok(wanted) = std::env::var(BUG) {
        use indelible::testing::sabotage::{BUGS, enable};
        enable(Some(*BUGS.iter().find(|bug| format!("{bug:?}") == wanted).unwrap()));
    }
    let options = options(config);
    let path = Path::new(directory);
    let open = |options: &Options| {
        if task.exists { Log::open(path, options) } else { Log::open_or_create(path, options) }
    };
    let opened = match open(&options) {
        // The file system takes no direct writes.
        Err(Error::InvalidOption { option: "write_mode", .. }) => {
            open(&options.write_mode(WriteMode::Buffered))
        }
        opened => opened,
    };
    let (log, report) = match opened {
        Ok(opened) => opened,
        Err(error) => return say(&format!("refused {} {error}", kind(&error))),
    };
    let torn = matches!(report.verdict, Verdict::TornTail { .. });
    match digest(&log) {
        Ok(digest) => {
            say(&format!("open {} {} {digest} {}", log.first(), log.next(), u8::from(torn)));
        }
        Err(error) => return say(&format!("unreadable {} {error}", kind(&error))),
    }
    if let Err(error) = carry_on(&log, task) {
        say(&format!("failed {} {error}", kind(&error)));
        look_at_failure(&log);
    }
}

/// All operations, maintenance in between, and the close.
fn carry_on(log: &Log, task: Task) -> indelible::Result<()> {
    let mut dice = Dice::new(task.seed);
    let mut number = task.number;
    for _ in 0..task.operations {
        let op = draw(&mut dice, log, number);
        number += BATCH_MAX;
        say(&format!("do {op}"));
        let mut batch = op.batch(log.next());
        if let Op::Snapshot { number, bytes } = op {
            // The log is as it was if this fails, and goes on.
            match side_file(log, &entry(number, bytes)) {
                Ok(file) => batch.attach("snapshot", file),
                Err(error) => {
                    say(&format!("unattached {} {error}", kind(&error)));
                    continue;
                }
            };
        }
        match log.submit(&batch) {
            Ok(ticket) => {
                ticket.wait()?;
                say("ok");
            }
            Err(Error::DiskFull { .. }) => say("full"),
            Err(error) => return Err(error),
        }
        if dice.below(12) == 0 {
            log.maintain()?;
        }
    }
    log.close()?;
    say("closed");
    Ok(())
}

fn side_file(log: &Log, bytes: &[u8]) -> indelible::Result<indelible::SideFile> {
    let mut writer = log.side_file_writer()?;
    // Smaller than its buffer: nothing is written yet.
    writer.write_all(bytes).unwrap();
    writer.finish()
}

/// Says whether a log that failed refuses to go on and still reads what was durable.
fn look_at_failure(log: &Log) {
    match log.submit(Batch::new().append(b"never".as_slice())) {
        Err(Error::Poisoned { .. }) => {}
        // It was the close that failed.
        Err(Error::Closed) => return say("shut"),
        Err(error) => return say(&format!("unpoisoned {error}")),
        Ok(_) => return say("unpoisoned: it takes another batch"),
    }
    let end = log.durable().min(log.next()).max(log.first());
    match log.read(log.first()..end) {
        Ok(entries) => say(&format!("poisoned {}", entries.len())),
        Err(error) => say(&format!("blind {} {error}", kind(&error))),
    }
}

/// The name of an error's variant.
fn kind(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
}

/// One line in one write, so that the parent never sees half of one as a whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes()).unwrap();
    out.flush().unwrap();
    if std::env::var_os(LOCKSTEP).is_some() {
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

fn draw(dice: &mut Dice, log: &Log, number: u64) -> Op {
    let held = log.next() - log.first();
    let bytes = [8, 40, 256, 900, 3000][usize::try_from(dice.below(5)).unwrap()];
    match dice.below(12) {
        0 if held > 20 => Op::Trim { to: log.first() + dice.below(held) },
        1 if held > 4 => Op::Truncate { to: log.next() - dice.below(4) },
        2 | 3 if held > 8 => Op::Replace { number, back: 1 + dice.below(6), bytes },
        4 => Op::Promise { number },
        5 => Op::Snapshot { number, bytes },
        // What is kept has to fit the parent's patience.
        _ if held > 200 => Op::Trim { to: log.next() - 20 },
        _ => Op::Append { number, count: 1 + dice.below(BATCH_MAX), bytes },
    }
}
