//! The process that is killed. It opens the log, says what it found, and then says each operation
//! before it begins it (`do`) and when it is acknowledged (`ok`).

use std::io::Write;
use std::path::Path;

use indelible::{Log, Options, SyncMethod, Verdict, WriteMode};

use crate::oracle::{BATCH_MAX, Dice, Op, digest};

/// The combinations of options that are killed, by number.
pub(crate) const CONFIGS: u64 = 8;

/// The options with a number.
pub(crate) fn options(config: u64) -> Options {
    let (mode, method) = match config % 4 {
        0 => (WriteMode::Mmap, SyncMethod::Fdatasync),
        1 => (WriteMode::Pwrite, SyncMethod::Fdatasync),
        2 => (WriteMode::Mmap, SyncMethod::Msync),
        _ => (WriteMode::Pwrite, SyncMethod::Dsync),
    };
    Options::new()
        .tiny_segments(16 * 1024)
        .checkpoint_bytes(8 * 1024)
        .write_mode(mode)
        .sync_method(method)
        .background(config / 4 % 2 == 1)
}

/// `child DIRECTORY CONFIG SEED NUMBER OPERATIONS`
pub(crate) fn run(words: &[String]) {
    let [directory, numbers @ ..] = words else { panic!("a directory is missing") };
    let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().unwrap()).collect();
    let &[config, seed, mut number, operations] = &numbers[..] else { panic!("{words:?}") };
    let (log, report) = Log::open_or_create(Path::new(directory), &options(config)).unwrap();
    let torn = matches!(report.verdict, Verdict::TornTail { .. });
    say(&format!("open {} {} {} {}", log.first(), log.next(), digest(&log), u8::from(torn)));
    let mut dice = Dice::new(seed);
    for _ in 0..operations {
        let op = draw(&mut dice, &log, number);
        number += BATCH_MAX;
        say(&format!("do {op}"));
        let ticket = log.submit(&op.batch(log.next())).unwrap();
        ticket.wait().unwrap();
        say("ok");
        if dice.below(12) == 0 {
            log.maintain().unwrap();
        }
    }
    log.close().unwrap();
    say("closed");
}

/// One line in one write, so that the parent never sees half of one as a whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn draw(dice: &mut Dice, log: &Log, number: u64) -> Op {
    let held = log.next() - log.first();
    let bytes = [8, 40, 256, 900, 3000][usize::try_from(dice.below(5)).unwrap()];
    match dice.below(10) {
        0 if held > 20 => Op::Trim { to: log.first() + dice.below(held) },
        1 if held > 4 => Op::Truncate { to: log.next() - dice.below(4) },
        2 | 3 if held > 8 => Op::Replace { number, back: 1 + dice.below(6), bytes },
        4 => Op::Promise { number },
        // What is kept has to fit the parent's patience.
        _ if held > 200 => Op::Trim { to: log.next() - 20 },
        _ => Op::Append { number, count: 1 + dice.below(BATCH_MAX), bytes },
    }
}
