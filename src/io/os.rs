//! The door to a directory of the operating system.
//!
//! Owns: every system call on files, and what a sync or a distrustful open means to the kernel.
//! Does not own: memory maps (`map`), file names and their meaning, the lock (`lock`), what kind of
//! file system it is (`kind`).
//!
//! Invariants:
//! - Files are listed, created, opened, renamed and removed through the descriptor of their directory
//!   and are never symbolic links. So no name leads outside, and a directory that is moved while it is
//!   in use is still the one that was opened: what stands under its old path is not touched.
//! - A failed sync is reported and never repeated: the kernel marks the pages clean, and a second
//!   sync would say that all is well.
//!
//! What other systems than Linux cannot promise: [`Access::Distrust`] syncs, but cannot see that
//! the cache was dropped; [`SyncMethod::Dsync`] writes and then syncs the whole file; there is no
//! advice against readahead. On Apple systems every sync is the one that reaches the medium.
#![expect(clippy::disallowed_types, reason = "this file is the one that may use files")]
#![expect(clippy::disallowed_methods, reason = "this file is the one that may use files")]

#[cfg(target_os = "linux")]
mod ahead;
pub(crate) mod apart;
mod kind;
mod lock;

use std::fs::{self, File as OsHandle};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::lock::Lockable;
use super::map::{Region, WeakRegion};
use super::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Way, check_name};
use crate::error::Error;
use crate::format::names;
use crate::options::{FILE_MODE_DEFAULT, SyncMethod};

/// How often cached pages are asked to go before their bytes are written again instead.
#[cfg(target_os = "linux")]
const DROP_ATTEMPTS: u32 = 4;

/// The largest folio of a page cache, in bytes: what a large page of the processor has.
#[cfg(target_os = "linux")]
const FOLIO_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Bytes that are read and written again in one step. Larger writes would leave large folios in
/// the page cache, and then every small store writes back a whole one.
const REWRITE_BYTES: usize = 16 * 1024;

/// A directory of the operating system.
#[derive(Debug)]
pub(crate) struct OsDirectory {
    /// The open directory, and whether it is locked.
    locked: Arc<Lockable>,
    file_mode: u32,
}

impl OsDirectory {
    /// An existing directory.
    ///
    /// # Errors
    /// It is missing, is no directory, or may not be read.
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path.as_ref(), flags, Mode::empty())?;
        let locked = Arc::new(Lockable::new(OsHandle::from(handle)));
        Ok(Self { locked, file_mode: FILE_MODE_DEFAULT })
    }

    fn handle(&self) -> &OsHandle {
        &self.locked.handle
    }

    /// Gives files made from now on these permissions, as far as the umask of the process leaves
    /// them: `0o640` lets a group read.
    #[must_use]
    pub(crate) fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = mode;
        self
    }

    /// A directory that is made if it is missing, as are its parents; every name that was made is
    /// durable on return. A new directory on btrfs is exempted from copy-on-write where possible.
    ///
    /// # Errors
    /// A directory cannot be made, opened or synced: the error names the one that is in the way.
    pub(crate) fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let made = make_directories(path)?;
        let directory = Self::open(path).map_err(|source| match source.kind() {
            // Its name is taken, and there is nothing to open.
            io::ErrorKind::NotFound => Error::io("follow the link", path, source),
            _ => Error::io("open directory", path, source),
        })?;
        if made {
            kind::forgo_copy_on_write(directory.handle());
        }
        Ok(directory)
    }

    /// Whether files made here are written to new places each time (btrfs without `chattr +C`,
    /// bcachefs, ZFS, and whatever is stacked on one of these). There even space that is fully
    /// allocated can run out at a store to a map, which raises a signal: write with `pwrite`. A
    /// stacked file system that does not say what is below counts as one of them.
    pub(crate) fn copy_on_write(&self) -> bool {
        kind::copies_on_write(self.handle())
    }

    /// Whether somebody else holds the lock of this directory, as [`lock::is_held`] tells.
    pub(crate) fn locked(&self) -> Option<bool> {
        lock::is_held(self)
    }

    /// Gives a file of this directory the same name in another one, without copying its bytes.
    /// Durable after a sync of that directory.
    ///
    /// # Errors
    /// The file system cannot do it: another one, or one without hard links.
    pub(crate) fn link(&self, name: &str, to: &Self) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::linkat(self.handle(), name, to.handle(), name, AtFlags::empty())?)
    }

    /// Opens a plain file of this directory, following no link.
    fn open_plain(&self, name: &str, flags: OFlags) -> io::Result<OsHandle> {
        check_name(name)?;
        // NONBLOCK: a pipe under this name must be refused, not waited for.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // Systems keep modes in integers of different widths.
        let bits = (0..9).filter(|bit| (self.file_mode >> bit) & 1 == 1);
        let mode = bits.fold(Mode::empty(), |mode, bit| mode | Mode::from_raw_mode(1 << bit));
        let no_file = || {
            let said = format!("`{name}` is no plain file");
            io::Error::new(io::ErrorKind::InvalidInput, said)
        };
        let file = match rustix::fs::openat(self.handle(), name, flags, mode) {
            // A link, a directory, a socket.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(no_file()),
            opened => OsHandle::from(opened?),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
    }
}

impl Directory for OsDirectory {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.handle())? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let about = match rustix::fs::statat(self.handle(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(about) => about,
                // Removed since the directory was read.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let other = other(FileType::from_raw_mode(about.st_mode));
            entries.push(match (name.to_str(), other) {
                (Ok(name), None) => {
                    DirectoryEntry::new(name, u64::try_from(about.st_size).unwrap_or(0))
                }
                (_, other) => {
                    let what = other.unwrap_or("a file whose name is no text");
                    DirectoryEntry::other(name.to_string_lossy(), what)
                }
            });
        }
        Ok(entries)
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        lock::take(self)
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        within_file_size(bytes)?;
        let (name, handle) = loop {
            let name = names::temporary(self.random());
            match self.open_plain(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => break (name, opened.map_err(full)?),
            }
        };
        let file = OsFile::new(handle, Access::Write, bytes);
        let made = file.handle.set_len(bytes).map_err(full);
        let made =
            made.and_then(|()| if allocate { file.allocate(0..bytes, false) } else { Ok(()) });
        if let Err(error) = made {
            // Junk, if it stays: the next open removes it as well.
            self.remove(&name).ok();
            return Err(error);
        }
        Ok((name, Arc::new(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let flags = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        let handle = self.open_plain(name, flags)?;
        let bytes = handle.metadata()?.len();
        if access != Access::Read {
            if has_another_name(&handle)? {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            within_file_size(bytes)?;
        }
        if let Access::Distrust { from, to } = access {
            // Makes durable what a former process wrote, and collects its error if the kernel
            // still has one to report. A crash just before this sync loses only what was never
            // acknowledged.
            handle.sync_all()?;
            disbelieve_cache(&handle, from..to)?;
        }
        Ok(Arc::new(OsFile::new(handle, access, bytes)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        rustix::fs::renameat(self.handle(), from, self.handle(), to).map_err(|e| full(e.into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::unlinkat(self.handle(), name, AtFlags::empty())?)
    }

    /// Makes durable: names. A crash just before brings back names that were removed or replaced,
    /// and loses new ones.
    fn sync(&self) -> io::Result<()> {
        self.handle().sync_all()
    }

    fn random(&self) -> u64 {
        super::system_random()
    }

    /// By what the file system says of the alignment it wants, where the kernel asks it
    /// (`STATX_DIOALIGN`, 6.1), and by trying it. One in memory takes such writes and gains nothing
    /// from them.
    #[cfg(target_os = "linux")]
    fn takes_direct(&self) -> bool {
        if kind::is_memory(self.handle()) {
            return false;
        }
        let mut memory = super::aligned::Aligned::default();
        let Ok(block) = memory.bytes(super::aligned::BLOCK_BYTES) else { return false };
        // What else may be wrong, a full disk for one, says nothing of such writes.
        let Ok((name, file)) = self.create(block.len() as u64, false) else { return true };
        // Not found: without `/proc` a file cannot be opened for them.
        let refused =
            [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported, io::ErrorKind::NotFound];
        let taken = kind::wants_no_more_than(self.handle(), &name, super::aligned::BLOCK_BYTES)
            && match file.write_by(Way::Direct, 0, block) {
                Ok(()) => true,
                Err(error) => !refused.contains(&error.kind()),
            };
        // Junk, if it stays: the next open removes it as well.
        self.remove(&name).ok();
        taken
    }
}

/// What a name stands for, if it is no plain file.
fn other(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        FileType::RegularFile => return None,
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "no plain file",
    })
}

/// Whether a file is linked elsewhere as well, as a backup does with segments that never change.
fn has_another_name(file: &OsHandle) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1)
}

#[derive(Debug)]
struct OsFile {
    handle: OsHandle,
    access: Access,
    /// Its length when it was opened, in bytes: writing past it makes the file longer.
    opened_bytes: u64,
    /// The map that `msync` works on, for as long as somebody uses it.
    mapped: Mutex<Option<WeakRegion>>,
    /// The same file opened for direct writes, once there was one.
    #[cfg(target_os = "linux")]
    direct: std::sync::OnceLock<OsHandle>,
    /// What was dropped from the cache, and is going to be read in order.
    #[cfg(target_os = "linux")]
    ahead: Option<ahead::Ahead>,
}

impl OsFile {
    fn new(handle: OsHandle, access: Access, opened_bytes: u64) -> Self {
        #[cfg(target_os = "linux")]
        if access != Access::Read {
            // Advice only. Readahead would leave large folios in the page cache, and then every
            // small store writes back a whole one.
            rustix::fs::fadvise(&handle, 0, None, rustix::fs::Advice::Random).ok();
        }
        Self {
            #[cfg(target_os = "linux")]
            ahead: ahead::Ahead::after(access, &handle, opened_bytes),
            handle,
            access,
            opened_bytes,
            mapped: Mutex::new(None),
            #[cfg(target_os = "linux")]
            direct: std::sync::OnceLock::new(),
        }
    }

    /// Refuses what would make the file longer than this process may make one.
    fn check_size(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.opened_bytes { within_file_size(end) } else { Ok(()) }
    }

    /// `msync(MS_SYNC)` of the pages of `range`, or `fdatasync` where no map has them.
    fn msync(&self, range: Range<u64>) -> io::Result<()> {
        let region = self.mapped.lock().as_ref().and_then(WeakRegion::upgrade);
        let start = usize::try_from(range.start);
        let end = usize::try_from(range.end);
        match (region, start, end) {
            (Some(region), Ok(start), Ok(end)) if start <= end && end <= region.len() => {
                region.flush(start..end)
            }
            _ => self.handle.sync_data(),
        }
    }

    /// Writes `range` again, each piece returning when it is on the medium: `RWF_DSYNC`, which is
    /// for one call what `O_DSYNC` is for a descriptor. Nobody may change the range meanwhile.
    #[cfg(target_os = "linux")]
    fn dsync(&self, range: Range<u64>) -> io::Result<()> {
        for_pieces(&self.handle, range, |offset, piece| write_through(&self.handle, offset, piece))
    }

    /// The same file, opened for direct writes. By its descriptor: its name may be another by now.
    #[cfg(target_os = "linux")]
    fn direct(&self) -> io::Result<&OsHandle> {
        use std::os::fd::AsRawFd;
        if let Some(direct) = self.direct.get() {
            return Ok(direct);
        }
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = OsHandle::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(self.direct.get_or_init(|| opened))
    }

    #[cfg(not(target_os = "linux"))]
    fn direct(&self) -> io::Result<&OsHandle> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_os = "linux"))]
    fn dsync(&self, range: Range<u64>) -> io::Result<()> {
        for_pieces(&self.handle, range, |offset, piece| self.handle.write_all_at(piece, offset))?;
        self.handle.sync_data()
    }
}

/// Writes bytes and returns when they are on the medium: `RWF_DSYNC`, or a sync where that is not
/// known.
fn write_through(handle: &OsHandle, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let written = write_dsync(handle, offset, bytes)?;
    let rest = bytes.get(written..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    handle.write_all_at(rest, offset + written as u64)?;
    handle.sync_data()
}

/// Writes with `RWF_DSYNC`. Returns how many bytes are on the medium: fewer than all of them where
/// the file system does not know the flag.
#[cfg(target_os = "linux")]
fn write_dsync(handle: &OsHandle, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::ReadWriteFlags;
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let (slices, offset) = ([io::IoSlice::new(rest)], offset + written as u64);
        match rustix::io::pwritev2(handle, &slices, offset, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}

#[cfg(not(target_os = "linux"))]
fn write_dsync(_: &OsHandle, _: u64, _: &[u8]) -> io::Result<usize> {
    Ok(0)
}

impl File for OsFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(ahead) = &self.ahead {
            ahead.note(&self.handle, offset);
        }
        self.handle.read_exact_at(buffer, offset)
    }

    fn read_to_end(&self, mut offset: u64, bytes: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.reserve_exact(bytes);
        let start = out.len();
        if out.capacity() - start != bytes {
            out.resize(start.saturating_add(bytes), 0);
            return self.read_at(offset, out.get_mut(start..).unwrap_or_default());
        }
        // Into memory that is exactly as long, and need not be filled with zeros first.
        while out.len() < out.capacity() {
            match rustix::io::pread(&self.handle, rustix::buffer::spare_capacity(out), offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => offset += read as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_size(offset, bytes)?;
        self.handle.write_all_at(bytes, offset).map_err(full)
    }

    /// Makes durable, with [`Way::Through`] and [`Way::DirectThrough`]: the bytes, and whatever is
    /// needed to read them. A crash just before loses any part of that.
    fn write_by(&self, way: Way, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_size(offset, bytes)?;
        match way {
            Way::Through => write_through(&self.handle, offset, bytes),
            Way::Direct => self.direct()?.write_all_at(bytes, offset),
            Way::DirectThrough => write_through(self.direct()?, offset, bytes),
        }
        .map_err(full)
    }

    fn allocate(&self, range: Range<u64>, fill: bool) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // Before anything is written: where writes only go to a cache (NFS, file systems in user
        // space), a full disk would be met by the sync, which cannot be taken back.
        match reserve(&self.handle, range.clone()) {
            // Nothing was reserved: this file system knows no such call.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                super::zero_fill(self, range)
            }
            Ok(()) if fill => super::zero_fill(self, range),
            reserved => reserved,
        }
        .map_err(full)
    }

    /// Makes durable: the bytes of `range` and whatever is needed to read them; with `Fdatasync`
    /// and `Fsync` every byte of the file. A crash just before loses any part of that.
    fn sync(&self, range: Range<u64>, method: SyncMethod) -> io::Result<()> {
        match method {
            SyncMethod::Fdatasync => self.handle.sync_data(),
            SyncMethod::Fsync => self.handle.sync_all(),
            SyncMethod::Msync => self.msync(range),
            SyncMethod::Dsync => self.dsync(range),
            SyncMethod::FullFsync if cfg!(target_vendor = "apple") => self.handle.sync_all(),
            SyncMethod::FullFsync => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        if write && self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if bytes > self.handle.metadata()?.len() {
            // Touching what is past the end would raise a signal.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let region = Region::file(&self.handle, len, write, self.access != Access::Read)?;
        *self.mapped.lock() = Some(region.downgrade());
        Ok(region)
    }
}

/// Makes a directory and its missing parents, durably; whether the last one was made.
fn make_directories(path: &Path) -> Result<bool, Error> {
    if path.as_os_str().is_empty() {
        let reason = "is empty; `.` is the working directory";
        return Err(Error::InvalidArgument { what: "path of the directory", reason });
    }
    let parent = parent(path).unwrap_or(Path::new("/"));
    let made = match make_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != path => {
            make_directories(parent)?;
            make_directory(path)
        }
        made => made,
    };
    // What is in the way is where the directory was to be made.
    let made = made.map_err(|source| Error::io("create a directory in", parent, source))?;
    // Makes durable: the name of the directory, also one that a former process made and had no
    // time to sync. A crash just before loses the directory with all that is in it.
    match OsHandle::open(parent).and_then(|parent| parent.sync_all()) {
        // It was there before, and its parent is none of our business.
        Err(error) if !made && error.kind() == io::ErrorKind::PermissionDenied => {}
        synced => synced.map_err(|source| Error::io("sync", parent, source))?,
    }
    Ok(made)
}

/// Makes a directory; whether there was none.
fn make_directory(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

/// The parent of a path; the working directory for a bare name.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Refuses a file that would be longer than this process may make one (`RLIMIT_FSIZE`): beyond that
/// the kernel sends a signal, which ends the process unless somebody handles it.
fn within_file_size(bytes: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| bytes > limit) {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(())
}

/// Reserves the space of a range, and has the file be that long. Not by `fs2::allocate`, which
/// takes the error of `posix_fallocate` from `errno`, where it never is.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn reserve(file: &OsHandle, range: Range<u64>) -> io::Result<()> {
    let (flags, bytes) = (rustix::fs::FallocateFlags::empty(), range.end - range.start);
    loop {
        match rustix::fs::fallocate(file, flags, range.start, bytes) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn reserve(file: &OsHandle, range: Range<u64>) -> io::Result<()> {
    fs2::FileExt::allocate(file, range.end)
}

/// A quota that is used up is a full disk to us: nothing changed, and it may pass.
fn full(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => error,
    }
}

/// Reads `range` in small pieces and hands each with its offset to `act`.
fn for_pieces(
    file: &OsHandle,
    range: Range<u64>,
    mut act: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [0; REWRITE_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let left = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(REWRITE_BYTES);
        let piece = buffer.get_mut(..left).unwrap_or_default();
        file.read_exact_at(piece, offset)?;
        act(offset, piece)?;
        offset += left as u64;
    }
    Ok(())
}

/// Sees to it that what is read of `range` is on the medium. The file has just been synced.
///
/// After a failed sync the cache holds bytes that the medium does not have, as clean pages. So they
/// are dropped, and `mincore` must show that they are gone. Pages that stay — another process maps
/// or reads them — are written again from their cached contents and synced, which is as good:
/// readers see those contents now and may have acted on them; a crash could at worst have torn
/// them, which is what a crash may do to bytes that are not known to be durable; and when the sync
/// returns the medium has what the cache shows. The caller holds the lock, so nobody else writes.
#[cfg(target_os = "linux")]
fn disbelieve_cache(file: &OsHandle, range: Range<u64>) -> io::Result<()> {
    if kind::is_memory(file) {
        return Ok(()); // The cache is the medium.
    }
    let page = super::map::page_bytes() as u64;
    let file_end = file.metadata()?.len();
    let (start, end) = (range.start / page * page, range.end.min(file_end));
    if start >= end {
        return Ok(());
    }
    let resident = drop_cache(file, start..end)?;
    if !resident.contains(&true) {
        return Ok(());
    }
    let mut offset = start;
    for stays in resident {
        if stays {
            for_pieces(file, offset..file_end.min(offset + page), |at, piece| {
                file.write_all_at(piece, at)
            })?;
        }
        offset += page;
    }
    // Makes durable: the pages just written. A crash just before leaves each as it was or as it is.
    file.sync_data()
}

/// Asks the cache to drop a range, which starts at a page, and returns which of its pages it kept.
#[cfg(target_os = "linux")]
fn drop_cache(file: &OsHandle, range: Range<u64>) -> io::Result<Vec<bool>> {
    let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut resident = Vec::new();
    for attempt in 0..DROP_ATTEMPTS {
        // A large folio goes only as a whole, and may begin before the range and end after it.
        let (from, to) = match attempt {
            0 => (range.start, range.end.next_multiple_of(super::map::page_bytes() as u64)),
            1 => (
                range.start / FOLIO_BYTES_MAX * FOLIO_BYTES_MAX,
                range.end.next_multiple_of(FOLIO_BYTES_MAX),
            ),
            _ => (0, i64::MAX.unsigned_abs()),
        };
        let span = std::num::NonZeroU64::new(to - from);
        rustix::fs::fadvise(file, from, span, rustix::fs::Advice::DontNeed)?;
        resident = super::map::resident_pages(file, range.start, len)?;
        if !resident.contains(&true) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1 << attempt));
    }
    Ok(resident)
}

/// This system cannot tell what its cache holds, so every byte of `range` is written again and
/// synced.
#[cfg(not(target_os = "linux"))]
fn disbelieve_cache(file: &OsHandle, range: Range<u64>) -> io::Result<()> {
    let end = file.metadata()?.len().min(range.end);
    for_pieces(file, range.start..end, |at, piece| file.write_all_at(piece, at))?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn distrustful_open_leaves_nothing_in_the_cache() {
        // Beside the sources rather than in the temporary directory, which may be in memory.
        let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let directory = OsDirectory::create(place.path().join("log")).unwrap();
        if kind::is_memory(directory.handle()) {
            return; // Nothing can be dropped where the cache is the medium.
        }
        let pages = 300;
        let len = pages * super::super::map::page_bytes();
        let (name, file) = directory.create(len as u64, true).unwrap();
        // One large write, for large folios.
        file.write_at(0, &vec![7; len]).unwrap();
        // The kernel drops no dirty page.
        file.sync(0..len as u64, SyncMethod::Fdatasync).unwrap();
        drop(file);
        let resident = |from: usize, to: usize| {
            let handle = directory.open_plain(&name, OFlags::RDONLY).unwrap();
            let cached = super::super::map::resident_pages(&handle, 0, len).unwrap();
            cached[from..to].iter().filter(|&&page| page).count()
        };
        assert_eq!(resident(0, pages), pages);
        let handle = || directory.open_plain(&name, OFlags::RDWR).unwrap();
        for (from, to) in [(len / 2 + 1, len / 4 * 3), (len / 2 + 1, len), (0, len)] {
            // An open asks for the pages again, so this looks at the step before.
            let page = super::super::map::page_bytes();
            let (first, end) = (from / page, to.div_ceil(page));
            drop_cache(&handle(), (first * page) as u64..to as u64).unwrap();
            assert_eq!(resident(first, end), 0);
            let (from, to) = (from as u64, to as u64);
            let file = directory.open(&name, Access::Distrust { from, to }).unwrap();
            let mut read = vec![0; len];
            file.read_at(0, &mut read).unwrap();
            assert!(read.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn directories_are_made_with_their_parents_and_only_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/c");
        OsDirectory::create(&path).unwrap();
        OsDirectory::create(&path).unwrap();
        OsDirectory::open(&path).unwrap();
        fs::write(place.path().join("file"), b"").unwrap();
    }

    #[test]
    fn directory_that_cannot_be_made_names_what_is_in_the_way() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("file"), b"").unwrap();
        std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
        let said = |path: &Path| {
            let said = OsDirectory::create(path).unwrap_err().to_string();
            said.replace(&format!("{}/", place.path().display()), "")
        };
        for (tried, expected) in [
            ("file", "cannot open directory file: Not a directory"),
            ("file/below", "cannot create a directory in file: Not a directory"),
            ("link", "cannot follow the link link: No such file"),
            ("link/below", "cannot create a directory in link: No such file"),
        ] {
            assert!(said(&path(tried)).starts_with(expected), "{tried}: {}", said(&path(tried)));
        }
        assert!(said(Path::new("")).starts_with("path of the directory: is empty"));
    }
}
