//! Disks that lose power, are slow, or are full: one for each node. One that is only to be full is a
//! small tmpfs, where that can be mounted; the others are the program `lossy`.
//!
//! Owns: the conversation with it; that nothing stays mounted. Does not own: what it does to the bytes
//! (`lab/src/lossy`), when (`run`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, Outcome, Why};

const PATIENCE: Duration = Duration::from_secs(30);
/// Room on a small file system before any is taken away.
const ROOM_BYTES: u64 = 1 << 30;
/// How often room is taken away again from a file system that filled up meanwhile.
const ATTEMPTS: usize = 100;

/// A file system in memory, in which a node has everything.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) place: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A tmpfs.
    Small,
    /// The program `lossy`.
    Lossy(Lossy),
}

#[derive(Debug)]
struct Lossy {
    process: Child,
    orders: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Disk {
    /// Mounts one that can do anything.
    pub(crate) fn mount(place: &Path, seed: u64) -> Outcome<Self> {
        fs::create_dir_all(place).why(|| format!("cannot create {}", place.display()))?;
        Ok(Self { place: place.to_owned(), kind: Kind::Lossy(Lossy::mount(place, seed)?) })
    }

    /// Mounts one that can be full: a tmpfs if this process may, else as [`Self::mount`].
    pub(crate) fn mount_small(place: &Path, seed: u64) -> Outcome<Self> {
        fs::create_dir_all(place).why(|| format!("cannot create {}", place.display()))?;
        let size = format!("size={ROOM_BYTES}");
        if mount(&["-t", "tmpfs", "-o", &size, "kv_cluster"], place) {
            return Ok(Self { place: place.to_owned(), kind: Kind::Small });
        }
        Self::mount(place, seed)
    }

    /// What it is, in words.
    pub(crate) const fn what(&self) -> &'static str {
        match self.kind {
            Kind::Small => "a tmpfs",
            Kind::Lossy(_) => "the program `lossy`",
        }
    }

    /// Gives an order and waits until it is carried out. Returns what it came to.
    pub(crate) fn order(&mut self, words: &str) -> Outcome<String> {
        match &mut self.kind {
            Kind::Lossy(lossy) => lossy.order(words),
            Kind::Small => self.leave(words),
        }
    }

    /// Leaves so much room as the order says, or all that there was.
    fn leave(&self, words: &str) -> Outcome<String> {
        let room: Option<u64> =
            words.strip_prefix("room ").map(str::parse).transpose().why(|| words.to_owned())?;
        for _ in 0..ATTEMPTS {
            let seen = rustix::fs::statvfs(&self.place)
                .map_err(std::io::Error::from)
                .why(|| format!("cannot look at {}", self.place.display()))?;
            let used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize;
            let size = format!("remount,size={}", room.map_or(ROOM_BYTES, |room| used + room));
            if mount(&["-o", &size], &self.place) {
                return Ok(size);
            }
        }
        Err(Failure::new(format!("cannot leave {} less room", self.place.display())))
    }

    /// Copies what is on it, for a look after it is gone.
    pub(crate) fn copy_to(&self, place: &Path) -> Outcome<()> {
        copy(&self.place, place).why(|| format!("cannot copy to {}", place.display()))
    }
}

/// Whether `mount` did it.
fn mount(arguments: &[&str], place: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(place).output().is_ok_and(|output| output.status.success())
}

impl Lossy {
    fn mount(place: &Path, seed: u64) -> Outcome<Self> {
        let mut process = Command::new(program()?)
            .arg(place)
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .why(|| "cannot start the program `lossy`")?;
        let (tell, said) = mpsc::channel();
        if let Some(out) = process.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let orders = process.stdin.take();
        let lossy = Self { process, orders, said };
        lossy.hear().map_err(|failure| {
            failure.hint("a file system of our own needs root and /dev/fuse; leave the option out")
        })?;
        Ok(lossy)
    }

    fn order(&mut self, words: &str) -> Outcome<String> {
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "{words}").why(|| "the program `lossy` is gone")?;
        }
        self.hear()
    }

    fn hear(&self) -> Outcome<String> {
        self.said.recv_timeout(PATIENCE).why(|| "the program `lossy` does not answer")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Lossy(lossy) => {
                // It unmounts and ends when it can read no more.
                drop(lossy.orders.take());
                let _nothing_else_to_do = lossy.process.wait();
            }
            Kind::Small => {
                // Also where a node that was killed a moment ago still has files open.
                let _nothing_else_to_do =
                    Command::new("umount").arg("--lazy").arg(&self.place).output();
            }
        }
        let _not_empty_if_still_mounted = fs::remove_dir(&self.place);
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The program, which is built into the directory of this one or into the one above.
fn program() -> Outcome<PathBuf> {
    let here = std::env::current_exe().why(|| "cannot find this program")?;
    let mut places = here.ancestors().skip(1).take(2).map(|place| place.join("lossy"));
    places.find(|place| place.is_file()).ok_or_else(|| {
        Failure::new("the program `lossy` is not beside this one")
            .hint("cargo build [--release] -p indelible-lab --features real-disk --bin lossy")
    })
}
