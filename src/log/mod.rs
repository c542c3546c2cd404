//! The public engine: one log, its handles, its reads.
//!
//! Owns: the API. Does not own: any step of it; see `writer` (a batch), `syncer` (syncs and
//! checkpoints), `reader` (what readers see), `open` (create and recover), `background` (threads).

pub(crate) mod background;
pub(crate) mod backup;
#[cfg(any(test, feature = "testing"))]
mod doors;
mod invariants;
mod open;
mod reader;
pub(crate) mod scrub;
pub(crate) mod shared;
pub(crate) mod signals;
mod syncer;
pub(crate) mod ticket;
pub(crate) mod watch;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

pub use self::reader::Iter;

use self::background::{Hired, Threads};
use self::shared::Shared;
use self::writer::{Writer, Written};
use crate::batch::{Batch, Record};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::directory::side_file::{Owner, SideFileReader, SideFileWriter};
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::io::mem::MemDirectory;
use crate::io::os::OsDirectory;
use crate::log::ticket::Ticket;
use crate::options::{Durability, Options, WriteMode};
use crate::recovery::RecoveryReport;
use crate::segment::entries::{Entries, OwnedEntries};
use crate::state::CellValue;
use crate::telemetry::stats::{Counters, Stats};

/// An open log. Clones are handles of the same log; the last one to go closes it as well as it
/// can, so call [`Self::close`] to hear of errors.
///
/// Indexes are `u64` and ranges half-open. A new log starts at index 0. In a process that was forked
/// from the one that opened the log, every call that can fail fails: with [`Error::Forked`],
/// unless its arguments are refused first.
///
/// ```
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("log");
/// use indelible::{Log, Options};
///
/// let log = Log::create(&path, &Options::new())?;
/// log.append(b"never forget")?; // durable on return
/// log.close()?;
///
/// let (log, report) = Log::open(&path, &Options::new())?;
/// assert_eq!(report.verdict, indelible::Verdict::Clean);
/// assert_eq!(log.entry(0)?, b"never forget");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All that it holds may be as large as the log.
        f.debug_struct("Log").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// What is shared by the handles but not by tickets and threads: its end is the end of the log.
struct Handle {
    shared: Arc<Shared>,
    threads: Threads,
    /// How the first close ended.
    closed: OnceLock<Result<()>>,
}

impl Log {
    /// Creates a log in `path`, which is created as well if need be. On return it is durable.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`], [`Error::ForeignFiles`], [`Error::Locked`], [`Error::InvalidOption`],
    /// [`Error::DiskFull`] and [`Error::Exhausted`]: this call has created no log. [`Error::Io`]: it may
    /// have; if so, [`Self::open`] finishes it, and until then [`Self::create`] says that there is one.
    pub fn create(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        options.validate()?;
        let path = path.as_ref();
        let door = OsDirectory::create(path)?.file_mode(options.file_mode);
        let options = for_system(&door, options)?;
        Self::start(Dir::new(Arc::new(door), path), &options, open::create)
    }

    /// Opens the log in `path` and recovers it if it was not closed. On return everything it holds
    /// is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Locked`], [`Error::Damaged`] (nothing was changed),
    /// [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`], [`Error::Incomplete`],
    /// [`Error::InvalidOption`], [`Error::HardLinked`], [`Error::Exhausted`], [`Error::Io`];
    /// [`Error::DiskFull`] if a creation was cut off and has to be finished.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<(Self, RecoveryReport)> {
        options.validate()?;
        let path = path.as_ref();
        let door = OsDirectory::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path: path.to_path_buf() },
            _ => Error::io("open directory", path, source),
        })?;
        let door = door.file_mode(options.file_mode);
        let options = for_system(&door, options)?;
        Self::start(Dir::new(Arc::new(door), path), &options, open::open).map(Self::reported)
    }

    /// Opens the log in `path`, or creates one if there never was any.
    ///
    /// A node that was replaced must not use this blindly: an empty disk in place of the old one
    /// looks like a new node, and has forgotten its promises (docs/OPERATIONS.md).
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create(
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<(Self, RecoveryReport)> {
        open_or_create(|| Self::open(&path, options), || Self::create(&path, options))
    }

    /// A log in memory, with the same behaviour and nothing on disk. It lives as long as its
    /// handles; durability, preparation and background threads are of no meaning to it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`].
    pub fn in_memory(options: &Options) -> Result<Self> {
        let dir = Dir::new(Arc::new(MemDirectory::new()), "");
        Self::start(dir, &options.volatile(), open::create)
    }

    /// Opens a log in a directory behind any door.
    #[cfg(feature = "tools")]
    pub(crate) fn open_at(dir: Dir, options: &Options) -> Result<Self> {
        Self::start(dir, options, open::open)
    }

    fn start(
        dir: Dir,
        options: &Options,
        open: fn(Dir, &Options) -> Result<Arc<Shared>>,
    ) -> Result<Self> {
        let threads = Hired::new(dir.path(), options)?;
        let shared = open(dir, options)?;
        let threads = threads.begin(&shared);
        crate::telemetry::trace::opened(shared.dir.path(), &shared.report);
        Ok(Self { handle: Arc::new(Handle { shared, threads, closed: OnceLock::new() }) })
    }

    fn reported(self) -> (Self, RecoveryReport) {
        let report = self.recovery().clone();
        (self, report)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The directory, as it was given; empty for a log behind another door.
    pub fn path(&self) -> &Path {
        self.shared().dir.path()
    }

    /// The identity of the log.
    pub fn uuid(&self) -> Uuid {
        self.shared().uuid
    }

    /// The options in force: as given, but for what the file system does not allow.
    pub fn options(&self) -> &Options {
        &self.shared().options
    }

    /// Size of each segment file in bytes, fixed when the log was created.
    pub fn segment_bytes(&self) -> u64 {
        self.shared().segment_bytes
    }

    /// Largest entry this log takes, in bytes.
    pub fn entry_bytes_max(&self) -> u64 {
        writer::entry_bytes_max(self.shared().segment_bytes)
    }

    /// How the log was found when it was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared().report
    }

    /// Refuses a process that was forked from the one that opened the log. For a store on top of the
    /// log, which asks before it takes a lock of its own: in a child nobody may be there to unlock it.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`].
    #[cfg(feature = "tools")]
    #[inline]
    pub fn not_forked(&self) -> Result<()> {
        self.shared().dir.not_forked()
    }

    /// Index of the first entry. An atomic load.
    #[inline]
    pub fn first(&self) -> u64 {
        self.shared().reader.first()
    }

    /// Index the next entry will get. An atomic load.
    #[inline]
    pub fn next(&self) -> u64 {
        self.shared().reader.next()
    }

    /// Exclusive end of the entries that are on media. An atomic load.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.shared().reader.durable()
    }

    /// Appends one entry, as a batch of its own.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn append(&self, entry: &[u8]) -> Result<Ticket> {
        let _span = crate::telemetry::trace::commit(self.path());
        // A borrowed entry has nothing to let go.
        let records = ManuallyDrop::new([Record::Append(Cow::Borrowed(entry))]);
        let written = self.shared().write(&*records)?;
        self.as_durable_as_asked(Ticket::new(self.shared(), written))
    }

    /// Commits a batch. Under [`Durability::Always`] it is durable on return; under the other
    /// policies it is written, readable and in order.
    ///
    /// # Errors
    ///
    /// [`Error::Trimmed`], [`Error::BeyondEnd`], [`Error::TooLarge`], [`Error::InvalidArgument`],
    /// [`Error::DiskFull`] and [`Error::Exhausted`]: nothing was changed. [`Error::Io`],
    /// [`Error::Poisoned`]: the outcome is unknown until the log is reopened. [`Error::Closed`].
    pub fn commit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        let _span = crate::telemetry::trace::commit(self.path());
        self.as_durable_as_asked(self.submit(batch)?)
    }

    /// The ticket of a commit, when it is as durable as the policy wants it to be on return.
    fn as_durable_as_asked(&self, ticket: Ticket) -> Result<Ticket> {
        if self.shared().options.durability == Durability::Always {
            self.shared().wait_durable(ticket.sequence())?;
        }
        Ok(ticket)
    }

    /// Writes a batch and waits for nothing, whatever the policy. It becomes durable with the next
    /// sync, be it one that its ticket asks for.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn submit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        if batch.is_empty() {
            self.shared().usable()?;
            return Ok(self.newest());
        }
        let written = self.shared().write(&batch.records)?;
        Ok(Ticket::new(self.shared(), written))
    }

    /// Sets a state cell whose value need not be durable by itself, and writes nothing now: it goes
    /// along with the next batch that is written, at the latest with [`Self::sync`], with the
    /// checkpoint of an idle log, or with [`Self::close`]. A crash before may bring back an older
    /// value, never one ahead of the batches that were written before it. For what a host can find
    /// again, such as a decided or a committed index.
    ///
    /// ```
    /// # use indelible::{Log, Options};
    /// # fn main() -> indelible::Result<()> {
    /// let log = Log::in_memory(&Options::new())?;
    /// log.append(b"decide me")?;
    /// log.set_lazily("decided", &1_u64.to_le_bytes())?;
    /// assert_eq!(log.cell("decided").as_deref(), Some(&1_u64.to_le_bytes()[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::InvalidArgument`] (a name that no cell has, or a cell that refers
    /// to a side file): nothing was changed. [`Error::Poisoned`], [`Error::Closed`].
    pub fn set_lazily(&self, cell: &str, value: &[u8]) -> Result<()> {
        self.shared().set_lazily(cell, value)
    }

    /// Makes everything written so far durable, and what was set lazily. Costs no I/O if it is
    /// already.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn sync(&self) -> Result<()> {
        self.shared().usable()?;
        self.shared().write_lazies()?;
        self.shared().wait_durable(self.shared().syncer.newest_written())
    }

    /// Hands everything written so far, and what was set lazily, to the operating system: it survives
    /// the end of this process, however sudden, and not a power cut. One write if something waits, and
    /// no sync.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn hand_over(&self) -> Result<()> {
        self.shared().usable()?;
        self.shared().write_lazies()?;
        self.shared().hand_over()
    }

    /// The ticket of the last batch written.
    fn newest(&self) -> Ticket {
        let sequence = self.shared().syncer.newest_written();
        Ticket::new(self.shared(), Written { sequence, next: self.next() })
    }

    /// One entry, copied: out of memory if it is among the newest ([`Options::warm_bytes`]), else by
    /// one positioned read, checked.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>> {
        self.shared().entry(index)
    }

    /// Entries without copying them, checked before they are handed out.
    ///
    /// # Errors
    ///
    /// [`Error::Trimmed`] and [`Error::BeyondEnd`] if the range is not within
    /// [`Self::first`]`..`[`Self::next`]; an empty range is fine anywhere. [`Error::Damaged`],
    /// [`Error::Hole`], [`Error::UnsupportedFeature`], [`Error::Io`]; [`Error::Closed`];
    /// [`Error::Poisoned`] if the log is poisoned and the range is not wholly durable.
    pub fn read(&self, range: Range<u64>) -> Result<Entries> {
        self.shared().read(&range)
    }

    /// The first entries of a range, as [`Self::read`] lends them: at least one, and as many more as
    /// come to no more than `bytes` bytes. Counted are frames, headers of 32 bytes included, and what
    /// lies between them, and of compressed entries what they are when they are looked at; so there
    /// may be fewer than would fit.
    ///
    /// ```
    /// # use indelible::{Log, Options};
    /// # fn main() -> indelible::Result<()> {
    /// # let log = Log::in_memory(&Options::new())?;
    /// for _ in 0..100 {
    ///     log.append(&[7; 1000])?;
    /// }
    /// let (mut next, end) = (0, log.next());
    /// while next < end {
    ///     let entries = log.read_within(next..end, 64 * 1024)?; // send these to a follower
    ///     next += entries.len() as u64;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_within(&self, range: Range<u64>, bytes: u64) -> Result<Entries> {
        self.shared().read_within(&range, bytes)
    }

    /// Entries, copied into one buffer by positioned reads. Several of them are checked as by
    /// [`Self::read`], unless they were before and have been in memory ever since; one always is.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_owned(&self, range: Range<u64>) -> Result<OwnedEntries> {
        self.shared().read_owned(&range)
    }

    /// Entries, each copied into a vector of its own.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_to_vec(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>> {
        Ok(self.read_owned(range)?.iter().map(<[u8]>::to_vec).collect())
    }

    /// The entries from `from` on, to the end the log has at each step. Read as by [`Self::read_owned`],
    /// 256 KiB at a time, or as much as one entry is long. A truncation in between ends the walk earlier.
    pub fn iter(&self, from: u64) -> Iter {
        Iter::new(self.clone(), from)
    }

    /// The value of a state cell; nothing if it is clear or refers to a side file, nor in a process
    /// that was forked from the one that opened the log.
    pub fn cell(&self, name: &str) -> Option<Arc<[u8]>> {
        self.shared().dir.not_forked().ok()?;
        match self.shared().writer().cell(name)? {
            CellValue::Inline(bytes) => Some(bytes),
            CellValue::SideFile(_) => None,
        }
    }

    /// Every state cell with its value, by name; none in a process that was forked from the one that
    /// opened the log.
    pub fn cells(&self) -> Vec<(String, CellValue)> {
        if self.shared().dir.not_forked().is_err() {
            return Vec::new();
        }
        self.shared().writer().cells().to_map().into_iter().collect()
    }

    /// Starts a side file: a snapshot, or any value too large for a state cell. It becomes part of
    /// the log when it is finished and then attached by a [`Batch`].
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`], [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn side_file_writer(&self) -> Result<SideFileWriter> {
        let shared = self.shared();
        shared.usable()?;
        let log: Weak<dyn Owner> = Arc::<Shared>::downgrade(shared);
        let method = shared.options.sync_method_in_force();
        SideFileWriter::new(&shared.dir, &shared.side_files, log, method)
    }

    /// The side file that a state cell refers to, for reading.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Closed`].
    pub fn side_file(&self, cell: &str) -> Result<Option<SideFileReader>> {
        let shared = self.shared();
        shared.dir.not_forked()?;
        if shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // The writer's lock keeps the file from being replaced and removed before it is open.
        let writer = shared.writer();
        match writer.state().cells.get(cell) {
            Some(CellValue::SideFile(file)) => SideFileReader::open(&shared.dir, *file).map(Some),
            _ => Ok(None),
        }
    }

    /// The counters of this log; all zero in a process that was forked from the one that opened it.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        if shared.dir.not_forked().is_err() {
            return Counters::new().read();
        }
        let mut stats = shared.counters.read();
        stats.segments = to_u64(shared.reader.segment_count());
        stats.spares = to_u64(shared.spares.count());
        stats.written_sequence = shared.syncer.newest_written();
        stats.durable_sequence = shared.syncer.durable();
        stats.poisoned = shared.poison.get().is_some();
        stats.sync_running = shared.watch.oldest();
        (stats.first, stats.next, stats.durable) = (self.first(), self.next(), self.durable());
        let looked = |writer: &Writer| (writer.state().holes, writer.tail().space.ready());
        let (holes, ready) = shared.writer.look(looked);
        stats.holes = holes;
        let sealed = stats.segments.saturating_sub(1).saturating_mul(shared.segment_bytes);
        let ready = ready.saturating_add(shared.spares.ready_bytes());
        stats.disk_bytes = sealed.saturating_add(ready);
        stats
    }

    /// Does now what the background threads would do some time: writes a checkpoint, recycles or
    /// removes what nothing refers to, prepares space, and spares if a roll is near. On return
    /// everything written is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn maintain(&self) -> Result<()> {
        self.shared().maintain_now()
    }

    /// Writes a checkpoint, and recycles or removes what nothing refers to, such as a side file that a
    /// batch has replaced. Prepares no space: on a full disk, [`Self::hold_space`] keeps what becomes
    /// free for what the caller writes next. On return everything written is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    #[cfg(any(test, feature = "tools"))]
    pub fn checkpoint(&self) -> Result<()> {
        self.shared().usable()?;
        self.shared().checkpoint(false, 0)
    }

    /// Takes no space for segments as long as the returned value lives, so that what becomes free on a
    /// full disk stays free for a side file. A batch that needs more than there is finds the disk full:
    /// one without entries is committed all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`].
    #[cfg(any(test, feature = "tools"))]
    pub fn hold_space(&self) -> Result<HeldSpace<'_>> {
        let shared = self.shared();
        shared.dir.not_forked()?;
        let held = HeldSpace(&shared.space_held);
        held.0.fetch_add(1, Ordering::AcqRel);
        // What is being made ready at this moment may still be. It ends after its step.
        drop(shared.preparing.lock());
        Ok(held)
    }

    /// Closes the log: everything written becomes durable, a checkpoint says so, the directory is
    /// unlocked. Every handle returns [`Error::Closed`] afterwards. Closing again returns what the
    /// first close did.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Poisoned`]: what was not durable before may be lost.
    /// [`Error::Closed`]: another thread, or the caller of this callback, is at it.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}

/// Keeps a log from taking space for segments; see [`Log::hold_space`].
#[cfg(any(test, feature = "tools"))]
#[derive(Debug)]
#[must_use]
pub struct HeldSpace<'l>(&'l std::sync::atomic::AtomicUsize);

#[cfg(any(test, feature = "tools"))]
impl Drop for HeldSpace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        let shared = &self.shared;
        shared.dir.not_forked()?;
        {
            // No batch is being written while the log is marked as closed, and none after.
            let _no_writer = shared.writer();
            if shared.closed.swap(true, Ordering::AcqRel) {
                return self.closed.get().cloned().unwrap_or(Err(Error::Closed));
            }
        }
        self.threads.stop(shared);
        let result = match shared.not_poisoned() {
            Ok(()) => shared.checkpoint(true, 0),
            Err(poisoned) => Err(poisoned),
        };
        shared.end();
        shared.call_back();
        self.closed.get_or_init(|| result).clone()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.dir.not_forked().is_err() {
            return self.threads.abandon();
        }
        // Nobody is left to hear of an error; what was acknowledged is durable already.
        let _unheard = self.close();
    }
}

/// Opens, or creates what is missing. Another process may be at the same: then there is a log by the
/// time it is to be created, and this one opens it.
fn open_or_create(
    open: impl Fn() -> Result<(Log, RecoveryReport)>,
    create: impl FnOnce() -> Result<Log>,
) -> Result<(Log, RecoveryReport)> {
    match open() {
        Err(Error::Missing { .. }) => match create() {
            Ok(log) => Ok(log.reported()),
            Err(Error::AlreadyExists { .. }) => open(),
            Err(error) => Err(error),
        },
        other => other,
    }
}

/// The options a directory of the operating system allows: on a copy-on-write file system bytes can
/// meet a full disk although the space was reserved, so there each batch is written for itself, and
/// refused if it cannot be. Direct writes are never a default: who asks for them hears of it.
fn for_system(door: &OsDirectory, options: &Options) -> Result<Options> {
    if !door.copy_on_write() {
        return Ok(options.clone());
    }
    if options.write_mode_in_force() == WriteMode::Direct {
        let reason = "the file system copies on write, where frames are written with `Pwrite`";
        return Err(Error::InvalidOption { option: "write_mode", reason });
    }
    Ok(options.clone().write_mode(WriteMode::Pwrite))
}
