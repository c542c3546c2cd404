//! The file system in its place: mounted, unmounted, mounted again.
//!
//! Owns: that it is unmounted when it is dropped. Does not own: what it does (`state`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption};
use parking_lot::Mutex;

use super::server::Server;
use super::state::State;

/// One file system at one place.
#[derive(Debug)]
pub(crate) struct Mount {
    place: PathBuf,
    state: Arc<Mutex<State>>,
    write_back: bool,
    session: Option<BackgroundSession>,
}

impl Mount {
    pub(crate) fn new(
        place: &Path,
        state: Arc<Mutex<State>>,
        write_back: bool,
    ) -> Result<Self, String> {
        let mut mount = Self { place: place.to_owned(), state, write_back, session: None };
        mount.begin()?;
        Ok(mount)
    }

    pub(crate) fn begin(&mut self) -> Result<(), String> {
        let server = Server { state: Arc::clone(&self.state), write_back: self.write_back };
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("indelible".to_owned()), MountOption::NoAtime];
        // A request can wait for another one: a read of a page for a write to it.
        config.n_threads = Some(2);
        let session = fuser::spawn_mount(server, &self.place, &config);
        self.session = Some(session.map_err(|error| format!("cannot mount: {error}"))?);
        Ok(())
    }

    /// Unmounts and waits for the threads of the session. On return the kernel has written back what it
    /// would, and has forgotten everything.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match session.umount_and_join() {
            // A thread that is at taking a request when the kernel lets go of the connection, such as
            // a `RELEASE` that nobody waits for, is told `ECONNABORTED` instead of `ENODEV`
            // (`fuse_dev_do_read` of Linux): everything was written back before, and nothing is
            // missing.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(()),
            // It is still mounted, and its threads go on without the session.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                unmount(&self.place)?;
                // They let go of their share of the state when they end.
                patiently(|| match Arc::strong_count(&self.state) {
                    2 => Ok(()),
                    _ => Err("the threads of the file system do not end".to_owned()),
                })
            }
            ended => ended.map_err(|error| error.to_string()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.end().is_err() {
            // Somebody still has it open: it goes when they do.
            let _best_effort = run(Command::new("umount").arg("-l").arg(&self.place));
        }
    }
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// How long what has just ended may still keep something busy.
const BUSY: Duration = Duration::from_secs(10);

/// Tries until it works, or for as long as it may be busy.
pub(crate) fn patiently(mut step: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match step() {
            Err(_) if started.elapsed() < BUSY => std::thread::sleep(Duration::from_millis(10)),
            ended => return ended,
        }
    }
}

/// Unmounts what is mounted at a place.
pub(crate) fn unmount(place: &Path) -> Result<(), String> {
    patiently(|| run(Command::new("umount").arg(place)).map(drop))
}
