//! Spare segment files: prepared ahead of need, so that a roll never waits for it.
//!
//! Owns: making a file ready and keeping a few. Does not own: when (`log::background`), or whether
//! a used segment may become a spare (`log::syncer`).
//!
//! A crash in any step leaves a temporary file, which the next open removes, or a spare, which it
//! takes over without believing anything of it but its length.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::{SegmentHeader, names};
use crate::io::{Access, File, Region};
use crate::options::Preparation;
use crate::planted::{Bug, planted};
use crate::segment::FRAMES_START;
use crate::segment::space::{Failed, Space};

/// A file that waits to become a segment. It is not open.
#[derive(Debug)]
struct Waiting {
    name: String,
    /// Everything before this has its space.
    ready: u64,
}

/// A file about to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) space: Arc<Space>,
    region: OnceLock<Region>,
}

impl Spare {
    fn new(name: String, space: Arc<Space>) -> Self {
        Self { name, space, region: OnceLock::new() }
    }

    /// The map of the file, made by the first call, which also has it opened for direct writes. Called
    /// before a batch has written anything: what the system may have too little of is taken by then.
    pub(crate) fn region(&self, dir: &Dir, bytes: u64, write: bool) -> Result<&Region> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let failed = |op| move |source| Error::io(op, dir.join(&self.name), source);
        self.space.open().map_err(failed("open"))?;
        let region = self.space.file().map(bytes, write).map_err(failed("map"))?;
        Ok(self.region.get_or_init(|| region))
    }
}

/// The spares of one log.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: Dir,
    segment_bytes: u64,
    preparation: Preparation,
    direct: bool,
    target: usize,
    ready: Mutex<VecDeque<Waiting>>,
    /// Unfinished files of a former process, to be removed when there is time.
    leftovers: Mutex<Vec<String>>,
}

impl Spares {
    pub(crate) fn new(
        dir: &Dir,
        segment_bytes: u64,
        (preparation, direct): (Preparation, bool),
        target: usize,
    ) -> Self {
        let (ready, leftovers) = (Mutex::default(), Mutex::default());
        Self { dir: dir.clone(), segment_bytes, preparation, direct, target, ready, leftovers }
    }

    /// Leaves unfinished files of a former process to [`Self::remove_leftovers`]: removing a large
    /// file takes as long as the rest of an open.
    pub(crate) fn leave(&self, temporaries: &[String]) {
        self.leftovers.lock().extend_from_slice(temporaries);
    }

    /// Removes what was left, as far as it can be. A crash before this leaves it to the next open.
    /// Returns what stays.
    pub(crate) fn remove_leftovers(&self) -> Vec<String> {
        let leftovers = std::mem::take(&mut *self.leftovers.lock());
        self.dir.remove_junk(leftovers)
    }

    /// A spare, if one is ready. One that cannot be opened any more is left to the next open; for want
    /// of a descriptor it waits on.
    pub(crate) fn take(&self) -> Result<Option<Spare>> {
        loop {
            let Some(waiting) = self.ready.lock().pop_front() else { return Ok(None) };
            match self.open_unshared(&waiting.name) {
                Ok(Some(file)) => {
                    let space = self.space(file, waiting.ready);
                    return Ok(Some(Spare::new(waiting.name, space)));
                }
                Ok(None) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    self.ready.lock().push_front(waiting);
                    return Err(error);
                }
            }
        }
    }

    /// Keeps a spare for later, also beyond the target: it is here already.
    pub(crate) fn put(&self, spare: Spare) {
        self.wait(spare.name, spare.space.ready());
    }

    fn wait(&self, name: String, ready: u64) {
        self.ready.lock().push_back(Waiting { name, ready });
    }

    /// How many are ready.
    pub(crate) fn count(&self) -> usize {
        self.ready.lock().len()
    }

    /// Bytes of all of them that have their space.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready.lock().iter().map(|spare| spare.ready).sum()
    }

    /// Whether fewer are ready than there should be.
    pub(crate) fn wanting(&self) -> bool {
        self.count() < self.target
    }

    /// Takes over a file that the log no longer needs, under the name of a spare; everything before
    /// `ready` has its space. Returns whether it did: a file that has another name as well, in a
    /// backup, must keep its bytes.
    pub(crate) fn recycle(&self, name: &str, ready: u64) -> Result<bool> {
        if self.open_unshared(name)?.is_none() {
            return Ok(false);
        }
        let spare = names::spare(self.dir.door().random());
        self.dir.rename(name, &spare)?;
        self.wait(spare, ready);
        Ok(true)
    }

    /// Takes over a spare that is in the directory already. Returns whether it did, as
    /// [`Self::recycle`]. How much of it has its space is not known, so all of it is made ready
    /// again, a little ahead of need like that of any other.
    ///
    /// As a spare it gets the name of a segment, and a crash that loses its new header brings the old
    /// one back under that name. So two kinds are left: one that was begun as the segment after the
    /// tail of generation `tail`, by a batch that was dropped, and one of another log than `uuid`.
    pub(crate) fn adopt(&self, name: String, uuid: [u8; 16], tail: u64) -> Result<bool> {
        let left =
            |header: SegmentHeader| header.uuid != uuid || header.previous_generation == tail;
        if self.dir.segment_header(&name)?.is_ok_and(left) && !planted(Bug::AnySpareAdopted) {
            return Ok(false);
        }
        if self.open_unshared(&name)?.is_none() {
            return Ok(false);
        }
        self.wait(name, 0);
        Ok(true)
    }

    /// The space of a file of this log, of which everything before `ready` has it.
    pub(crate) fn space(&self, file: Arc<dyn File>, ready: u64) -> Arc<Space> {
        let space = Space::new(file, self.segment_bytes, self.preparation, ready);
        Arc::new(if self.direct { space.direct() } else { space })
    }

    /// A file for writing, unless it has another name.
    fn open_unshared(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        match self.dir.open(name, Access::Write) {
            Err(Error::HardLinked { .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Prepares a file from nothing, with space for the first frames. `stop` is asked between steps
    /// and ends the work early with nothing left behind. On return the space is on media; the name
    /// becomes durable with that of the segment.
    pub(crate) fn prepare(&self, stop: &dyn Fn() -> bool) -> Result<Option<Spare>> {
        self.make(|space, name| {
            let failed = |op, source| self.dir.full_or_io(op, name, self.segment_bytes, source);
            // Nobody else has it.
            let sync = |sync: &dyn Fn() -> io::Result<()>| sync().map_err(|e| failed("sync", e));
            space.prepare(0, stop, &sync).map_err(|what| match what {
                Failed::Write(source) => failed("write", source),
                Failed::Sync(error) => error,
            })
        })
    }

    /// As [`Self::prepare`], for a commit that waits for it: nothing is synced, since what is
    /// written to it will be.
    pub(crate) fn prepare_in_line(&self) -> Result<Spare> {
        let made = self.make(|space, name| {
            let failed = |source| self.dir.full_or_io("write", name, self.segment_bytes, source);
            space.extend(0, FRAMES_START).map(|()| true).map_err(failed)
        })?;
        made.ok_or(Error::Internal { what: "a spare that nobody stopped is not there" })
    }

    /// Makes a file and has `ready` make space in it; returns nothing if that was stopped.
    fn make(&self, ready: impl FnOnce(&Space, &str) -> Result<bool>) -> Result<Option<Spare>> {
        let (temporary, file) = self.dir.create(self.segment_bytes, false)?;
        let space = self.space(file, 0);
        let named = || {
            let name = names::spare(self.dir.door().random());
            self.dir.rename(&temporary, &name)?;
            Ok(name)
        };
        let made = match ready(&space, &temporary) {
            Ok(true) => named().map(|name| Some(Spare::new(name, space))),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(made, Ok(Some(_))) {
            // What is left of it is junk that the next open removes as well.
            let _ignored = self.dir.remove(&temporary);
        }
        made
    }

    /// Removes a spare that a commit made for itself and could not use, so that the disk is as full
    /// as it was before. What is left of it is junk that the next open removes as well.
    pub(crate) fn discard(&self, spare: &Spare) {
        if planted(Bug::RefusedSpaceKept) {
            return;
        }
        let _ignored = self.dir.remove(&spare.name);
    }
}
