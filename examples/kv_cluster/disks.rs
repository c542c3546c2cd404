//! Disks that lose power, are slow, or are full: the program `lossy`, one for each node.
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

/// A file system in memory, in which a node has everything.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) place: PathBuf,
    process: Child,
    orders: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Disk {
    /// Mounts one.
    pub(crate) fn mount(place: &Path, seed: u64) -> Outcome<Self> {
        fs::create_dir_all(place).why(|| format!("cannot create {}", place.display()))?;
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
        let disk = Self { place: place.to_owned(), process, orders, said };
        disk.hear().map_err(|failure| {
            failure.hint("a file system of our own needs root and /dev/fuse; leave the option out")
        })?;
        Ok(disk)
    }

    /// Gives an order and waits until it is carried out. Returns what it came to.
    pub(crate) fn order(&mut self, words: &str) -> Outcome<String> {
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "{words}").why(|| "the program `lossy` is gone")?;
        }
        self.hear()
    }

    fn hear(&self) -> Outcome<String> {
        self.said.recv_timeout(PATIENCE).why(|| "the program `lossy` does not answer")
    }

    /// Copies what is on it, for a look after it is gone.
    pub(crate) fn copy_to(&self, place: &Path) -> Outcome<()> {
        copy(&self.place, place).why(|| format!("cannot copy to {}", place.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It unmounts and ends when it can read no more.
        drop(self.orders.take());
        let _nothing_else_to_do = self.process.wait();
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
