//! The life of one log on the file system: children that run and die, power that goes off.
//!
//! Owns: mounting, processes, and what every lane holds a child to. Does not own: what is done to
//! the log (`super`), nor what it must hold (`known`).
//!
//! A life follows from its seed, as far as a real kernel allows: it writes back when it likes, and
//! the log draws its own identities.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Pid;

use crate::child::{BUG, CONFIGS, Task};
use crate::known::{Known, Trouble};
use crate::lossy::dice::Dice;
use crate::lossy::mount::Mount;
use crate::lossy::state::{Plan, State};

/// A child that says nothing for so long hangs. Generous: the machine may be stopped meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);
const SIGKILL: i32 = 9;
/// Files that one process may leave a failed write in, at most.
const FILES_MAX: u64 = 8;

/// Which logs there can be.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    /// Also under the combinations of options that have background threads.
    pub(crate) threads: bool,
    /// A planted bug. It is in force on one thread only, so there must not be any other.
    pub(crate) bug: Option<String>,
}

impl Sort {
    pub(crate) const ANY: Self = Self { threads: true, bug: None };
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) troubles: Vec<Trouble>,
    /// Calls that answered `EIO`.
    pub(crate) faults: u64,
    /// It came to its end.
    closed: bool,
}

/// One log, and the file system it is on.
pub(crate) struct Life {
    pub(crate) dice: Dice,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) known: Known,
    config: u64,
    /// The kernel may still hold an error of an earlier process, for the next one to collect: of a
    /// call that failed, or of one that was interrupted when the process was killed.
    uneasy: bool,
    interrupted: bool,
    /// Errors of earlier processes that a later one collected.
    pub(crate) collected: u64,
    bug: Option<String>,
    mount: Mount,
    place: tempfile::TempDir,
}

impl Life {
    /// An empty file system, mounted.
    pub(crate) fn new(seed: u64, sort: &Sort) -> Result<Self, String> {
        let mut dice = Dice::new(seed);
        let (configs, bug) = (if sort.threads { CONFIGS } else { CONFIGS / 2 }, sort.bug.clone());
        let config = seed % configs;
        let write_back = dice.below(2) == 0;
        let state = Arc::new(Mutex::new(State::new(Dice::new(dice.below(1 << 40)))));
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        let known = Known::default();
        let (uneasy, interrupted, collected) = (false, false, 0);
        let mount = Mount::new(place.path(), Arc::clone(&state), write_back)?;
        Ok(Self { dice, state, known, config, uneasy, interrupted, collected, bug, mount, place })
    }

    /// On return the kernel has written back what it would, and has forgotten everything.
    pub(crate) fn unmount(&mut self) {
        self.mount.end().unwrap();
    }

    /// Power off and on again, if it went off or if the dice say so: `of` sides, all but one.
    pub(crate) fn maybe_cut_power(&mut self, of: u64) {
        let cut = self.dice.below(of) > 0;
        if self.state.lock().is_off() || cut {
            self.cut_power();
        }
    }

    /// Power off and on again.
    pub(crate) fn cut_power(&mut self) {
        self.unmount();
        self.state.lock().cut_power();
        self.mount.begin().unwrap();
        (self.uneasy, self.interrupted) = (false, false);
        trace("the power was cut");
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    /// Runs a child until it ends or is killed, and takes in what it says.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(crate) fn child(&mut self, operations: u64, plan: Plan) -> Result<Ended, String> {
        let seed = self.dice.below(1 << 40);
        let (config, number, exists) = (self.config, self.known.number, self.known.exists);
        let task = Task { config, seed, number, operations, exists };
        trace(&format!("{task:?} {plan:?} with {:?}", self.state.lock().medium.capacity));
        let words = task.words(&self.root().join("log"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(bug) = &self.bug {
            command.env(BUG, bug);
        }
        let mut process = {
            // Its first request waits until it is known whom to kill at it.
            let mut state = self.state.lock();
            let process = command.spawn().unwrap();
            state.plan(plan);
            state.set_victim(Pid::from_child(&process));
            process
        };
        let lines = lines_of(process.stdout.take().unwrap());
        let heard = self.listen(&lines);
        if heard.is_err() {
            process.kill().unwrap();
        }
        let (killed, faults) = {
            let mut state = self.state.lock();
            (state.take_victim(), state.faults)
        };
        let status = process.wait().unwrap();
        self.state.lock().plan(Plan::Sound);
        trace(&format!("{status}, killed: {killed}, faults: {faults}"));
        let mut troubles = heard?;
        if !(status.success() || killed && status.signal() == Some(SIGKILL)) {
            return Err(format!("the process ended by itself: {status}; {troubles:?}"));
        }
        if faults == 0 {
            troubles.retain(|trouble| !self.collects(trouble));
        }
        self.uneasy |= faults > 0;
        self.interrupted |= killed;
        Ok(Ended { troubles, faults, closed: self.known.is_closed() })
    }

    fn listen(&mut self, lines: &Receiver<String>) -> Result<Vec<Trouble>, String> {
        let mut troubles = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    trace(&line);
                    troubles.extend(self.known.hear(&line)?);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(troubles),
                Err(RecvTimeoutError::Timeout) => return Err("the process hangs".to_owned()),
            }
        }
    }

    /// Runs a child to which nothing happens: it must come to its end. Where a process died before
    /// it saw a failed write, the next one to sync that file is told, once for each file: it must
    /// refuse to open or be poisoned, and the one after it must not.
    pub(crate) fn sound_child(&mut self, operations: u64) -> Result<(), String> {
        for _ in 0..=FILES_MAX {
            let ended = self.child(operations, Plan::Sound)?;
            match &ended.troubles[..] {
                [] if ended.closed => return Ok(()),
                [] => {}
                troubles => return Err(format!("{troubles:?}")),
            }
        }
        Err("the errors of an earlier process never end".to_owned())
    }

    /// Whether an error is none of this process's own making.
    fn collects(&mut self, trouble: &Trouble) -> bool {
        // A write that was cut off with its process is told as it was, or, where a mapping only has
        // a flag for it, as `EIO`.
        let cut_off = ["(os error 4)", "(os error 5)"].iter().any(|it| trouble.text().contains(it));
        let interrupted = self.interrupted && cut_off;
        // Where a thread of the log met it, the call finds the log poisoned with it.
        let of_a_call = matches!(trouble.kind(), "Io" | "Poisoned");
        let collects = of_a_call && (self.uneasy || interrupted);
        self.collected += u64::from(collects);
        collects
    }
}

/// Says what happens, for people.
fn trace(what: &str) {
    if std::env::var_os("INDELIBLE_FUSE_TRACE").is_some() {
        println!("real disk: trace: {what}");
    }
}

/// The lines of a process, as they come; disconnected when it has closed its end.
fn lines_of(out: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}

/// Why no such file system can be mounted here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    Life::new(0, &Sort::ANY).err()
}
