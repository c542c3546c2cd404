//! SIGKILL: at random in a loop, and at every system call of a short program.
//!
//! What is checked after each: the next process finds exactly what was acknowledged, or that and
//! the one operation that had been begun; and nothing is called torn after it was acknowledged.
//! A killed process takes no page cache along, so nothing else is possible.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::child::{CONFIGS, Task};
use crate::known::Known;
use crate::lossy::dice::Dice;
use crate::mounted::run;

impl Known {
    /// Takes in the lines of one process; answers whether it came to its end.
    fn listen(&mut self, child: &mut Child) -> bool {
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> = out.lines().map_while(Result::ok).collect();
        self.replay(&lines);
        lines.last().is_some_and(|line| line == "closed")
    }

    /// On a sound disk there is no trouble.
    fn replay(&mut self, lines: &[String]) {
        for line in lines {
            let heard = self.hear(line);
            assert!(heard == Ok(None), "{heard:?}: {self:?}");
        }
    }
}

fn child(path: &Path, config: u64, seed: u64, known: &Known, operations: u64) -> Vec<String> {
    let (number, exists) = (known.number, known.exists);
    Task { config, seed, number, operations, exists }.words(path)
}

fn spawn(words: &[String]) -> Child {
    Command::new(&words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn().unwrap()
}

/// Kills at random moments, through all combinations of options.
pub(crate) fn at_random() -> Outcome {
    let wanted = kills_wanted();
    let mut dice = Dice::new(wanted);
    let (mut kills, mut early, mut total) = (0, 0, Known::default());
    for config in 0..CONFIGS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut known = Known::default();
        for _ in 0..wanted.div_ceil(CONFIGS) {
            let seed = dice.below(1 << 40);
            let mut process = spawn(&child(&path, config, seed, &known, 1 << 40));
            let opens = known.opens;
            let listener = {
                let mut out = process.stdout.take();
                let (told, tell) = std::sync::mpsc::channel();
                let id = process.id();
                let reader = std::thread::spawn(move || {
                    let mut lines = Vec::new();
                    for line in BufReader::new(out.take().unwrap()).lines().map_while(Result::ok) {
                        lines.push(line);
                        let _gone = told.send(());
                    }
                    lines
                });
                // From the first word on, mostly; sometimes while the log is being opened.
                if dice.below(4) > 0 {
                    let _early = tell.recv_timeout(Duration::from_secs(20));
                }
                std::thread::sleep(Duration::from_micros(dice.below(40_000)));
                assert!(id > 0);
                process.kill().unwrap();
                process.wait().unwrap();
                reader.join().unwrap()
            };
            known.replay(&listener);
            kills += 1;
            early += u64::from(known.opens == opens);
        }
        // The last one is left to finish, and says what it found.
        let mut process = spawn(&child(&path, config, 1, &known, 5));
        assert!(known.listen(&mut process), "the last process did not come to its end");
        assert!(process.wait().unwrap().success());
        total.add(&known);
    }
    assert!(kills >= wanted && total.acknowledged > kills / 4, "nothing was injected: {total:?}");
    Outcome::Passed(format!("{kills} kills ({early} before the log was open), {}", total.totals()))
}

const SIGKILL: i32 = 9;

/// The calls that change a disk, or what is mapped of it. `strace` counts each by itself.
const CALLS: [&str; 16] = [
    "mkdir",
    "mkdirat",
    "pwrite64",
    "pwritev2",
    "fdatasync",
    "fsync",
    "msync",
    "renameat",
    "renameat2",
    "rename",
    "unlinkat",
    "ftruncate",
    "fallocate",
    "openat",
    "madvise",
    "fadvise64",
];

/// Kills a short program at its first call of each kind, its second, and so on to its last, under the
/// first combination of options; under all those without background threads if a thousand kills or
/// more are asked for.
pub(crate) fn at_every_call() -> Outcome {
    if let Err(why) = run(Command::new("strace").args(["-o", "/dev/null", "true"])) {
        return Outcome::Skipped(format!("nothing can be traced: {why}"));
    }
    let configs: &[u64] = if kills_wanted() >= 1000 { &[0, 1, 2, 3, 4, 5] } else { &[0] };
    let mut kills = BTreeMap::new();
    let mut total = Known::default();
    for config in configs {
        for call in CALLS {
            let mut nth = 1_u64;
            while let Some(known) = killed_at(*config, call, nth) {
                *kills.entry(call).or_insert(0) += 1;
                total.add(&known);
                nth += 1;
            }
        }
    }
    let count: u64 = kills.values().sum();
    assert!(count > 40 && kills.len() > 6, "hardly anything was injected: {kills:?}");
    Outcome::Passed(format!("{count} kills ({kills:?}), {}", total.totals()))
}

/// Kills the program at the `nth` call of a kind and lets another process go on. `None`: there is
/// no such call.
fn killed_at(config: u64, call: &str, nth: u64) -> Option<Known> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut known = Known::default();
    let mut words: Vec<String> =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned).into();
    // Not every processor's Linux has every one of them.
    words.push(format!("inject=?{call}:signal=SIGKILL:when={nth}"));
    words.extend(child(&path, config, 7, &known, 10));
    let mut process = spawn(&words);
    let ended = known.listen(&mut process);
    let status = process.wait().unwrap();
    if ended && status.success() {
        return None;
    }
    assert_eq!(status.signal(), Some(SIGKILL), "the child failed by itself");
    let mut process = spawn(&child(&path, config, 8, &known, 3));
    assert!(known.listen(&mut process), "there is no going on after {call} number {nth}");
    assert!(process.wait().unwrap().success());
    Some(known)
}

fn kills_wanted() -> u64 {
    std::env::var("INDELIBLE_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(104)
}
