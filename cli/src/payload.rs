//! `dump --payload`: a program of the user that shows payloads.
//!
//! Owns: its processes. They are a group of their own, which ends with the [`Program`] and with this
//! process. Whatever the program does, each question ends with an answer or a failure.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::Failure;
use crate::exit::Exit;
use crate::interrupt::signals;
use crate::progress::now;
use crate::text::hex;

/// How long the program may neither read on nor answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one answer of the program.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A program that reads one payload per line, in hexadecimal, and writes a line for each.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    group: Group,
    to: ChildStdin,
    from: ChildStdout,
    /// What it wrote and nobody asked for yet.
    unread: Vec<u8>,
    patience: Duration,
}

impl Program {
    /// Starts a shell command. A question fails after the program neither read on nor answered for
    /// `patience`.
    pub(crate) fn start(command: &str, patience: Duration) -> Result<Self, Failure> {
        let start = || {
            // Before there is a group that a signal would leave behind.
            let signals = Signals::new(signals())?;
            let mut child = Command::new("sh")
                .args(["-c", command])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()?;
            let group = Group::of(&child);
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (to, from) = pipes.ok_or(ErrorKind::BrokenPipe)?;
            let program = Self { child, group, to, from, unread: Vec::new(), patience };
            ioctl_fionbio(&program.to, true)?;
            ioctl_fionbio(&program.from, true)?;
            program.group.end_with_this_process(signals)?;
            Ok(program)
        };
        start().map_err(|source: io::Error| {
            let said = format!("cannot run {command:?}: {source}");
            Failure::Refused(said, None, Exit::Unreadable)
        })
    }

    /// Returns what the program writes for a payload.
    pub(crate) fn ask(&mut self, payload: &[u8]) -> Result<String, Failure> {
        let question = hex(payload) + "\n";
        let mut left = question.as_bytes();
        let mut deadline = now() + self.patience;
        let end = self.unread.iter().position(|byte| *byte == b'\n');
        let mut answer = end.map(|end| end + 1);
        loop {
            if let Some(length) = answer
                && left.is_empty()
            {
                let line = String::from_utf8(self.unread.drain(..length).collect());
                let line = line.map_err(|error| stopped(&format!("wrote no text: {error}")))?;
                return Ok(line.trim_end().to_owned());
            }
            self.wait(answer.is_none(), !left.is_empty(), deadline)?;
            // It may write before it has read all: then it waits for a reader.
            if answer.is_none() {
                answer = self.read()?;
            }
            if !left.is_empty() && self.write(&mut left)? {
                deadline = now() + self.patience;
            }
        }
    }

    /// Waits until the program has written or takes more, whichever is of interest.
    fn wait(&self, reads: bool, writes: bool, deadline: Instant) -> Result<(), Failure> {
        // A pipe that is not of interest would end the wait when the program closes it.
        let mut pipes = Vec::with_capacity(2);
        if reads {
            pipes.push(PollFd::new(&self.from, PollFlags::IN));
        }
        if writes {
            pipes.push(PollFd::new(&self.to, PollFlags::OUT));
        }
        let left = Timespec::try_from(deadline.saturating_duration_since(now()));
        match poll(&mut pipes, left.ok().as_ref()) {
            Ok(0) => {
                let patience = humantime::format_duration(self.patience);
                Err(stopped(&format!("has not answered for {patience}")))
            }
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Reads what there is. Returns the length of the answer once it is whole.
    fn read(&mut self) -> Result<Option<usize>, Failure> {
        let known = self.unread.len();
        let room = ANSWER_BYTES_MAX.saturating_sub(known) as u64;
        let ended = match self.from.by_ref().take(room).read_to_end(&mut self.unread) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => return Err(failed(error)),
        };
        let length = self.unread.len();
        let end = self.unread.iter().skip(known).position(|byte| *byte == b'\n');
        match end {
            Some(end) => Ok(Some(known + end + 1)),
            None if length >= ANSWER_BYTES_MAX => {
                Err(stopped("wrote a line of more than a mebibyte"))
            }
            None if !ended => Ok(None),
            None if length == 0 => Err(stopped("has ended")),
            // Its last line may lack the end.
            None => Ok(Some(length)),
        }
    }

    /// Writes what the program takes now. Returns whether it took anything.
    fn write(&mut self, left: &mut &[u8]) -> Result<bool, Failure> {
        match self.to.write(left) {
            Ok(taken) => {
                *left = left.get(taken..).unwrap_or_default();
                Ok(taken > 0)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                ErrorKind::BrokenPipe => Err(stopped("has ended")),
                _ => Err(failed(error)),
            },
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.group.kill();
        // It may have left its group.
        let _best_effort = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn stopped(why: &str) -> Failure {
    let said = format!("the program that decodes payloads {why}");
    let advice = Some("it must write one line for each line that it reads, and flush it");
    Failure::Refused(said, advice, Exit::Unreadable)
}

fn failed(source: io::Error) -> Failure {
    let (op, path, source) = ("run", "--payload".into(), Arc::new(source));
    indelible::Error::Io { op, path, source }.into()
}

/// The processes of a program, until they are killed.
#[derive(Debug, Clone)]
struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    /// That of a child which leads one and nobody has waited for.
    fn of(child: &Child) -> Self {
        Self(Arc::new(Mutex::new(Some(Pid::from_child(child)))))
    }

    fn kill(&self) {
        // Once only: when the leader is reaped, its number may become another's.
        let mut leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = leader.take() {
            let _gone_already = kill_process_group(leader, Signal::KILL);
        }
    }

    /// A terminal's Ctrl-C reaches this process only: the group goes first, then this process as
    /// without a handler.
    fn end_with_this_process(&self, mut signals: Signals) -> io::Result<()> {
        let group = self.clone();
        let end = move || {
            for signal in signals.forever() {
                group.kill();
                let _does_not_return = emulate_default_handler(signal);
            }
        };
        std::thread::Builder::new().spawn(end).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::said::snapshot::compare;

    #[test]
    fn a_program_that_does_not_answer_is_not_waited_for() {
        let mut shown = String::new();
        // One that buffers, one that takes no more than fits a pipe, and one whose parts keep the pipes.
        for command in ["sed s/a/b/", "sleep 600", "cat | sort"] {
            let mut program = Program::start(command, Duration::from_millis(200)).unwrap();
            let failure = program.ask(&vec![0xaa; 100_000]).unwrap_err();
            let (message, advice) = crate::reason(&failure).unwrap();
            writeln!(shown, "{command}\n  {message}\n  {}", advice.unwrap()).unwrap();
        }
        compare("decode_silent", &shown);
    }

    #[test]
    fn an_answer_is_waited_for_and_may_lack_the_end_of_its_line() {
        let slow = "while read line; do sleep 0.2; echo \"$line\"; done";
        let mut program = Program::start(slow, Duration::from_secs(600)).unwrap();
        assert_eq!(program.ask(b"x").unwrap(), "78");
        assert_eq!(program.ask(b"y").unwrap(), "79");
        let unended = "read line; echo one; read line; printf two";
        let mut program = Program::start(unended, PATIENCE).unwrap();
        assert_eq!(program.ask(b"x").unwrap(), "one");
        assert_eq!(program.ask(b"y").unwrap(), "two");
    }
}
