//! A copy of a log that no process has open, for an operator.
//!
//! Owns: that nothing of the log is changed, and that nobody opened it meanwhile. Does not own: the
//! copying, nor the check of the copy (`backup`).

use std::path::Path;
use std::sync::Arc;

use super::{Backup, Copy, Links, directory_for_copy, side_files_of};
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::names::METADATA;
use crate::format::number::to_u64;
use crate::format::slot::METADATA_BYTES;
use crate::inspect::scene::Scene;
use crate::inspect::{InUse, Progress, generation, in_use, os_door};
use crate::io::Access;
use crate::io::os::OsDirectory;
use crate::recovery::observe::Files;

impl Backup {
    /// Copies a log that no process has open, as it is: nothing of it is changed, locked or opened
    /// for writing, so it may be on a read-only mount. The copy is durable and verified on return.
    /// Sealed segments and side files are hard links where `link` and the file system allow it.
    /// Progress counts bytes.
    ///
    /// # Errors
    /// [`Error::Locked`] if a process has it open, or did something to it meanwhile: use
    /// [`Log::backup`](crate::Log::backup) there; [`Error::InvalidArgument`] if `to` is inside the
    /// directory of the log; [`Error::AlreadyExists`]; [`Error::Missing`]; what an open of the log
    /// would refuse; [`Error::Damaged`] that names the file of the log, or that of the copy if only
    /// the copy is damaged; [`Error::DiskFull`], [`Error::Io`].
    pub fn of_stopped(
        path: impl AsRef<Path>,
        to: impl AsRef<Path>,
        link: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let (path, to) = (path.as_ref(), to.as_ref());
        let source = os_door(path)?;
        let locked = |source: &OsDirectory, from: &Dir| match source.locked() {
            Some(true) => {
                let owner = match in_use(from, Some(true)) {
                    InUse::Yes(owner) => owner,
                    _ => None,
                };
                Err(Error::Locked { path: path.to_path_buf(), owner })
            }
            _ => Ok(()),
        };
        let from = Dir::read_only(Arc::new(os_door(path)?), path);
        locked(&source, &from)?;
        let before = generation(&from);
        let scene = Scene::of(&from)?;
        scene.readable(&from)?;
        if let Some(error) = scene.refusal() {
            return Err(error.clone());
        }
        let door = directory_for_copy(path, to)?;
        let links = Links { from: link.then_some(source), to: link.then(|| Arc::clone(&door)) };
        let to = &Dir::new(door, to);
        let _lock = to.lock()?;
        if Files::list(to)?.any() {
            return Err(Error::AlreadyExists { path: to.path().to_path_buf() });
        }
        let mut copy = Copy::new(&from, to, &links, progress);
        let checked = copy.of_scene(&scene).and_then(|slots| {
            locked(&os_door(path)?, &from)?;
            if before != generation(&from) {
                return Err(Error::Locked { path: path.to_path_buf(), owner: None });
            }
            copy.conclude(&slots)
        });
        let checked = checked.inspect_err(|_| copy.undo())?;
        let state = scene.state().ok_or_else(|| Error::Missing { path: path.to_path_buf() })?;
        Ok(copy.report(state.uuid, state.first..state.next, state.sequence, &checked))
    }
}

impl Copy<'_> {
    /// Every file of a log that nobody writes. Returns the bytes of its metadata file.
    fn of_scene(&mut self, scene: &Scene) -> Result<Vec<u8>> {
        let missing = || Error::Missing { path: self.from.path().to_path_buf() };
        let checkpoint = scene.checkpoint().cloned().ok_or_else(missing)?;
        let cells = scene.state().map(|state| state.cells).unwrap_or_default();
        let cells = cells.into_iter().collect();
        let segments = checkpoint.segment_bytes.saturating_mul(to_u64(scene.parts.len()));
        let sides = side_files_of(&cells).map(|file| file.length);
        // All of it is read back in the end.
        self.so_far.total = sides.fold(segments, u64::saturating_add).saturating_mul(2);
        for part in &scene.parts {
            let (name, length) = (part.name, checkpoint.segment_bytes);
            self.take(name.to_string(), length, length, name.number < checkpoint.tail_number)?;
            self.finish()?;
        }
        self.side_files(&cells)?;
        self.finish()?;
        // Makes the names durable before the metadata file says that they are there.
        self.to.sync()?;
        let mut slots = vec![0; METADATA_BYTES];
        let file = self.from.open(METADATA, Access::Read)?;
        let failed = |source| Error::io("read", self.from.join(METADATA), source);
        file.read_at(0, &mut slots).map_err(failed)?;
        Ok(slots)
    }
}
