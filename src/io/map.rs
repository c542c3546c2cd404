//! Regions: bytes of a file that are shared through memory.
//!
//! Owns: memory maps, the heap memory that stands in for them in simulated and in-memory files,
//! and every line of unsafe code of this crate. Does not own: files, their lengths, or when bytes
//! become durable.
//!
//! Invariants:
//! - A region lends out only bytes below its watermark ([`Region::bytes`]), changes only bytes at
//!   or above it ([`Region::store`]), and the watermark never falls. So a borrowed slice cannot
//!   change, whoever stores meanwhile.
//! - Several regions and handles may share one heap. There the same holds across all of them: what
//!   any living region lends out, no store and no write changes.
//! - Nothing can enforce this for two maps of one file, nor against a stranger who writes to a
//!   file behind the back of its directory's lock. That is what the lock is for.
//! - Every access is checked against the length of the region; no argument can make it panic.
#![expect(unsafe_code, reason = "the one file that may: shared memory cannot be had without it")]

use std::alloc::Layout;
use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use memmap2::{Advice, MmapAsRawDesc, MmapOptions, MmapRaw};
use parking_lot::Mutex;

#[cfg(target_os = "linux")]
use crate::planted::{Bug, planted};

/// Pages that are asked about together.
#[cfg(target_os = "linux")]
const RESIDENT_PAGES: usize = 1024;

/// Bytes of a file that are shared through memory; a clone is another handle to the same region.
///
/// A region starts with nothing published. Its owner publishes what is finished, readers borrow
/// what is published, and one writer at a time stores after that. What the owner keeps back at the
/// start of it is never lent, and may change.
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    backing: Backing,
    writable: bool,
    /// Bytes below this are never lent.
    kept_back: AtomicUsize,
    /// Bytes from there to here are lent out and never change again.
    published: AtomicUsize,
    /// Taken while a store or a publication is under way; unused with a heap, which has a lock.
    busy: AtomicBool,
}

enum Backing {
    File(MmapRaw),
    /// The heap, the first `usize` bytes of which belong to the region, and its number there.
    Heap(Arc<Heap>, usize, u64),
}

impl Region {
    /// A writable region of zeros that belongs to no file.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] if there is not that much memory.
    #[cfg(any(test, feature = "testing"))]
    pub fn heap(bytes: usize) -> io::Result<Self> {
        Heap::new(bytes)?.region(bytes, true)
    }

    /// A map of the first `bytes` bytes of a file, which must not be shorter. With `random`, pages
    /// are read one by one: readahead would leave large folios in the page cache, and then every
    /// small store writes back a whole one.
    pub(crate) fn file(
        file: impl MmapAsRawDesc,
        bytes: usize,
        write: bool,
        random: bool,
    ) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(bytes);
        let map = if write { options.map_raw(file) } else { options.map_raw_read_only(file) }?;
        if random && bytes > 0 {
            // Advice only: without it the region is as right, and slower.
            map.advise(Advice::Random).ok();
        }
        Ok(Self::new(Backing::File(map), write))
    }

    fn new(backing: Backing, writable: bool) -> Self {
        let inner = Inner {
            backing,
            writable,
            kept_back: AtomicUsize::new(0),
            published: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match &self.inner.backing {
            Backing::File(map) => map.len(),
            Backing::Heap(_, len, _) => *len,
        }
    }

    /// Whether the region has no bytes at all.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The watermark: the exclusive end of what [`Self::bytes`] lends out.
    pub fn published(&self) -> usize {
        self.inner.published.load(Ordering::Acquire)
    }

    /// Never lends the first `bytes` bytes, so that they may go on changing. Does nothing once
    /// something is published.
    pub(crate) fn keep_back(&self, bytes: usize) {
        if self.published() == 0 {
            self.inner.kept_back.store(bytes, Ordering::Release);
        }
    }

    /// Raises the watermark to `to`, at most to the length. A lower value changes nothing. What is
    /// published can never be stored to again through this region.
    pub fn publish(&self, to: usize) {
        let to = to.min(self.len());
        match &self.inner.backing {
            Backing::File(_) => {
                let _busy = Busy::take(&self.inner.busy);
                if to > self.inner.published.load(Ordering::Relaxed) {
                    self.inner.published.store(to, Ordering::Release);
                }
            }
            Backing::Heap(heap, _, id) => {
                let mut lending = heap.lending.lock();
                if to > self.inner.published.load(Ordering::Relaxed) {
                    lending.publish(*id, self.inner.kept_back.load(Ordering::Acquire)..to);
                    self.inner.published.store(to, Ordering::Release);
                }
            }
        }
    }

    /// Borrows published bytes; `None` if any byte of the range is not published.
    ///
    /// On a file, touching a page that cannot be read raises a signal: [`Self::populate_read`]
    /// before turns that into an error.
    pub fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let published = self.published();
        let lent = self.inner.kept_back.load(Ordering::Acquire)..published;
        if range.start > range.end || range.start < lent.start || range.end > lent.end {
            return None;
        }
        let base = self.inner.base();
        // SAFETY: start <= published <= length, so the sum stays inside the allocation.
        let start = unsafe { base.add(range.start) };
        // SAFETY: the bytes are inside the allocation, which lives as long as `self`; they are
        // initialised (a map, or zeroed memory); and nothing stores between what is kept back and
        // the watermark, which was read with Acquire after the stores it covers.
        Some(unsafe { slice::from_raw_parts(start, range.end - range.start) })
    }

    /// Copies `bytes` to `offset`. On a file this changes the file; nothing is durable before a
    /// sync.
    ///
    /// On a file the pages are made writable by the same call: whoever writes the file back, be it the
    /// system by itself, write-protects them, and then a page that cannot be had would raise a signal.
    /// Kernels older than Linux 5.14, and other systems, cannot do this and say nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] outside the region or below the watermark,
    /// [`io::ErrorKind::PermissionDenied`] if the region is read-only; nothing was changed. A page
    /// cannot be had: the medium is unreadable, or has no space for it.
    pub fn store(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len()).ok_or_else(outside)?;
        if end > self.len() {
            return Err(outside());
        }
        if !self.inner.writable {
            return Err(read_only());
        }
        match &self.inner.backing {
            Backing::File(map) => {
                let _busy = Busy::take(&self.inner.busy);
                if offset < self.inner.published.load(Ordering::Relaxed) {
                    return Err(lent_out());
                }
                self.populate(offset..end, true)?;
                // SAFETY: offset <= end <= length, so the sum stays inside the map.
                let target = unsafe { map.as_mut_ptr().add(offset) };
                // SAFETY: the target is inside a writable map, at or past the watermark, so no
                // slice of it is lent out, and `busy` keeps every other store and publication
                // away; the source is a slice and therefore below a watermark or elsewhere.
                unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                Ok(())
            }
            Backing::Heap(heap, ..) => heap.write(offset, bytes),
        }
    }

    /// Faults in the pages of a range for reading, so that touching them raises no signal.
    ///
    /// Kernels older than Linux 5.14, and other systems, cannot do this and say nothing.
    ///
    /// # Errors
    /// The range is outside the region, or a page cannot be read from the medium.
    pub fn populate_read(&self, range: Range<usize>) -> io::Result<()> {
        self.populate(range, false)
    }

    /// Whether every page of a range is in memory, so that touching it needs no device. Returns no
    /// where that cannot be told. Linux tells those who may write to the file, as a log may; to
    /// others it says yes.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_resident(&self, range: Range<usize>) -> bool {
        let Backing::File(map) = &self.inner.backing else { return range.end <= self.len() };
        let page = page_bytes();
        let mut at = range.start / page * page;
        let mut seen = [0_u8; RESIDENT_PAGES];
        while at < range.end && range.end <= map.len() {
            let pages = (range.end - at).div_ceil(page).min(RESIDENT_PAGES);
            // SAFETY: `at` is below the length, so the sum stays inside the map.
            let start = unsafe { map.as_mut_ptr().add(at) };
            // SAFETY: the range starts at a page of the map and ends in or at the end of its last
            // one; the array has a byte for each page. No memory of the map is touched.
            let asked = unsafe { libc::mincore(start.cast(), pages * page, seen.as_mut_ptr()) };
            if asked != 0 || seen.iter().take(pages).any(|page| page & 1 == 0) {
                return false;
            }
            at += pages * page;
        }
        at >= range.end
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_resident(&self, _range: Range<usize>) -> bool {
        matches!(self.inner.backing, Backing::Heap(..))
    }

    #[cfg(target_os = "linux")]
    fn populate(&self, range: Range<usize>, write: bool) -> io::Result<()> {
        let Some(len) = range.end.checked_sub(range.start).filter(|_| range.end <= self.len())
        else {
            return Err(outside());
        };
        let Backing::File(map) = &self.inner.backing else {
            return Ok(());
        };
        if len == 0 || planted(Bug::PagesNotBroughtIn) {
            return Ok(());
        }
        let advice = if write { Advice::PopulateWrite } else { Advice::PopulateRead };
        match map.advise_range(advice, range.start, len) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Err(io::Error::other(
                "a page of the map cannot be had: the medium is unreadable or full",
            )),
            // This kernel does not know the advice.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn populate(&self, range: Range<usize>, _write: bool) -> io::Result<()> {
        if range.start > range.end || range.end > self.len() { Err(outside()) } else { Ok(()) }
    }

    /// Writes the pages of a range back and waits for the medium (`msync(MS_SYNC)`); nothing to do
    /// on a heap.
    pub(crate) fn flush(&self, range: Range<usize>) -> io::Result<()> {
        let Some(len) = range.end.checked_sub(range.start).filter(|_| range.end <= self.len())
        else {
            return Err(outside());
        };
        match &self.inner.backing {
            Backing::File(map) => map.flush_range(range.start, len),
            Backing::Heap(..) => Ok(()),
        }
    }

    /// A handle that does not keep the region alive.
    pub(crate) fn downgrade(&self) -> WeakRegion {
        WeakRegion { inner: Arc::downgrade(&self.inner) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.inner.backing {
            Backing::File(_) => "file",
            Backing::Heap(..) => "heap",
        };
        f.debug_struct("Region")
            .field("backing", &kind)
            .field("len", &self.len())
            .field("published", &self.published())
            .field("writable", &self.inner.writable)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn base(&self) -> *const u8 {
        match &self.backing {
            Backing::File(map) => map.as_ptr(),
            Backing::Heap(heap, ..) => heap.base.as_ptr(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Backing::Heap(heap, _, id) = &self.backing {
            heap.lending.lock().forget(*id);
        }
    }
}

/// A region that may be gone.
#[derive(Clone)]
pub(crate) struct WeakRegion {
    inner: Weak<Inner>,
}

impl WeakRegion {
    pub(crate) fn upgrade(&self) -> Option<Region> {
        self.inner.upgrade().map(|inner| Region { inner })
    }
}

impl fmt::Debug for WeakRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakRegion").finish_non_exhaustive()
    }
}

/// A spin lock for the length of a copy. Writers are expected to have a lock of their own above
/// this one; it is here so that the region is sound without.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    fn take(flag: &'a AtomicBool) -> Self {
        while flag.swap(true, Ordering::Acquire) {
            // The holder may be inside a page fault.
            std::thread::yield_now();
        }
        Self(flag)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Zeroed memory with the contents of one file that is not on a disk. Regions and handles share it;
/// every change is made under its lock.
pub(crate) struct Heap {
    base: NonNull<u8>,
    len: usize,
    lending: Mutex<Lending>,
}

/// Who lends out what, and what was changed.
#[derive(Debug, Default)]
struct Lending {
    /// The highest watermark of a living region.
    lent: usize,
    /// Living regions: number, and what they lend.
    regions: Vec<(u64, Range<usize>)>,
    /// The number the next region gets.
    next: u64,
    /// The smallest range with every change since [`Heap::take_touched`].
    touched: Option<Range<usize>>,
    /// The heap belongs to a machine that is no more; nothing changes it.
    frozen: bool,
}

impl Lending {
    fn publish(&mut self, id: u64, lent: Range<usize>) {
        self.lent = self.lent.max(lent.end);
        if let Some(entry) = self.regions.iter_mut().find(|entry| entry.0 == id) {
            entry.1 = lent;
        }
    }

    /// Whether any of these bytes are lent.
    fn lends(&self, range: &Range<usize>) -> bool {
        let overlaps = |lent: &Range<usize>| range.start < lent.end && lent.start < range.end;
        range.start < self.lent && self.regions.iter().any(|(_, lent)| overlaps(lent))
    }

    fn forget(&mut self, id: u64) {
        self.regions.retain(|entry| entry.0 != id);
        self.lent = self.regions.iter().map(|entry| entry.1.end).max().unwrap_or(0);
    }
}

// SAFETY: the memory belongs to the heap alone, and no thread has a claim on it.
unsafe impl Send for Heap {}
// SAFETY: memory that no region lends is touched under the lock only, and what one lends is never
// written.
unsafe impl Sync for Heap {}

impl Heap {
    /// `len` zeros, taken from the system page by page as they are touched.
    pub(crate) fn new(len: usize) -> io::Result<Arc<Self>> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout has a length other than zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Self { base, len, lending: Mutex::default() }))
    }

    fn layout(len: usize) -> io::Result<Layout> {
        Layout::array::<u8>(len.max(1)).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A region over the first `len` bytes.
    pub(crate) fn region(self: &Arc<Self>, len: usize, write: bool) -> io::Result<Region> {
        if len > self.len {
            return Err(outside());
        }
        let mut lending = self.lending.lock();
        let id = lending.next;
        lending.next += 1;
        lending.regions.push((id, 0..0));
        drop(lending);
        Ok(Region::new(Backing::Heap(Arc::clone(self), len, id), write))
    }

    /// Whether a region of this heap lives.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.lending.lock().regions.is_empty()
    }

    /// Changes bytes that no region lends out.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len()).ok_or_else(outside)?;
        if end > self.len {
            return Err(outside());
        }
        let mut lending = self.lending.lock();
        if lending.frozen {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the simulated machine is down",
            ));
        }
        if !bytes.is_empty() && lending.lends(&(offset..end)) {
            return Err(lent_out());
        }
        lending.touched = Some(match lending.touched.take() {
            Some(touched) => touched.start.min(offset)..touched.end.max(end),
            None => offset..end,
        });
        // SAFETY: offset <= end <= length, so the sum stays inside the memory.
        let target = unsafe { self.base.add(offset) };
        // SAFETY: the target is inside the memory and overlaps nothing that is lent out; the lock
        // keeps other writers and watermarks away; the source is a slice, hence below a watermark
        // or elsewhere.
        unsafe {
            target.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        };
        Ok(())
    }

    /// Fills `buffer` from `offset`.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.with_bytes(|all| {
            let from = offset.checked_add(buffer.len()).and_then(|end| all.get(offset..end));
            buffer.copy_from_slice(from.ok_or_else(outside)?);
            Ok(())
        })
    }

    /// Shows all bytes to `look`, which must not use the heap or its regions otherwise.
    pub(crate) fn with_bytes<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let _lending = self.lending.lock();
        // SAFETY: the memory is initialised, that long, and only changed under the lock, which is
        // held until `look` is done with the slice.
        let all = unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) };
        look(all)
    }

    /// The smallest range that holds every change since `reset` was last given.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn touched(&self, reset: bool) -> Option<Range<usize>> {
        let mut lending = self.lending.lock();
        if reset { lending.touched.take() } else { lending.touched.clone() }
    }

    /// Memory of its own with the same bytes, and the same changes since the last reset.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn duplicate(&self) -> io::Result<Arc<Self>> {
        let copy = Self::new(self.len)?;
        self.with_bytes(|all| copy.write(0, all))?;
        copy.lending.lock().touched = self.touched(false);
        Ok(copy)
    }

    /// From now on nothing changes these bytes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn freeze(&self) {
        self.lending.lock().frozen = true;
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap")
            .field("len", &self.len)
            .field("lending", &self.lending)
            .finish_non_exhaustive()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if let Ok(layout) = Self::layout(self.len) {
            // SAFETY: the memory was allocated with this very layout, and nobody has it any more.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
        }
    }
}

/// A directory of the operating system, for tests of what is built on the door. With `create` it is
/// made if it is missing.
///
/// # Safety
/// As long as entries are lent of a log in this directory, nothing may be written to its files through
/// this door but by that log, and no two regions of one file may be in use of which one is stored to.
///
/// # Errors
/// The directory is missing or cannot be opened, or cannot be made.
#[cfg(feature = "testing")]
pub unsafe fn os_directory(
    path: &std::path::Path,
    create: bool,
) -> io::Result<Arc<dyn super::Directory>> {
    use super::os::OsDirectory;
    let made = || OsDirectory::create(path).map_err(io::Error::other);
    let door = if create { made() } else { OsDirectory::open(path) };
    Ok(Arc::new(door?))
}

/// The size of a memory page, in bytes.
#[cfg(any(test, target_os = "linux"))]
pub(crate) fn page_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| {
        // SAFETY: asks for a number; touches no memory.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
    })
}

/// A page of memory that is full of zeros again in a child that this process forks.
#[derive(Debug)]
pub(crate) struct Wiped(MmapRaw);

impl Wiped {
    /// The one of this process and of those it forks; nothing where the system has none.
    #[inline]
    pub(crate) fn page() -> Option<&'static Self> {
        static PAGE: OnceLock<Option<Wiped>> = OnceLock::new();
        PAGE.get_or_init(Self::new).as_ref()
    }

    #[cfg(target_os = "linux")]
    fn new() -> Option<Self> {
        let map = MmapRaw::from(MmapOptions::new().len(page_bytes()).map_anon().ok()?);
        // SAFETY: the range is that of the map, which is private and anonymous; wiping it in a child
        // leaves zeros, which are valid for what is read there.
        let advised =
            unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_WIPEONFORK) };
        (advised == 0).then_some(Self(map))
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Option<Self> {
        None
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: the map is at least a page long, starts at a page, is never unmapped while `self`
        // lives, and is only used through this reference.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast()) }
    }

    /// The number in it; zero if it was never stored, or was wiped.
    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.number().load(Ordering::Relaxed)
    }

    /// Stores a number unless there is one. Returns the one that is there now.
    pub(crate) fn store_if_wiped(&self, number: u64) -> u64 {
        let stored =
            self.number().compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        stored.map_or_else(|there| there, |_| number)
    }
}

/// Which pages of `len` bytes of a file from `offset`, which is the start of a page, are in the
/// page cache. Touches none of them.
#[cfg(target_os = "linux")]
pub(crate) fn resident_pages(
    file: impl MmapAsRawDesc,
    offset: u64,
    len: usize,
) -> io::Result<Vec<bool>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let map = MmapOptions::new().offset(offset).len(len).map_raw_read_only(file)?;
    let mut pages = vec![0_u8; len.div_ceil(page_bytes())];
    // SAFETY: the map starts at a page, is `len` bytes long, and the vector has a byte for each of
    // its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), len, pages.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "outside the region")
}

fn lent_out() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "these bytes are published and must not change")
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the region is read-only")
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files they map")]
mod tests {
    use super::*;

    fn file_region(len: usize, write: bool) -> (tempfile::NamedTempFile, Region) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len as u64).unwrap();
        let region = Region::file(file.as_file(), len, write, true).unwrap();
        (file, region)
    }

    #[test]
    fn bytes_that_are_kept_back_are_never_lent_and_may_change() {
        let heap = Heap::new(64).unwrap();
        let region = heap.region(64, false).unwrap();
        region.keep_back(16);
        region.publish(32);
        region.keep_back(8);
        assert_eq!((region.bytes(15..17), region.bytes(0..0)), (None, None));
        assert_eq!(region.bytes(16..18), Some(&[0, 0][..]));
        heap.write(8, &[1; 8]).unwrap();
        assert!(heap.write(8, &[1; 9]).is_err() && heap.write(31, &[1]).is_err());
        heap.write(32, &[1]).unwrap();
    }

    #[test]
    fn published_bytes_are_lent_and_never_stored_to() {
        for region in [Region::heap(8192).unwrap(), file_region(8192, true).1] {
            assert_eq!(region.len(), 8192);
            assert_eq!(region.bytes(0..1), None);
            assert_eq!(region.bytes(0..0), Some(&[][..]));
            region.store(10, b"hello").unwrap();
            assert_eq!(region.bytes(10..15), None);
            region.publish(15);
            assert_eq!(region.bytes(10..15), Some(&b"hello"[..]));
            assert_eq!(region.bytes(10..16), None);
            region.publish(3);
            assert_eq!(region.published(), 15);
            assert_eq!(region.store(14, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
            region.store(15, b"y").unwrap();
            region.publish(usize::MAX);
            assert_eq!(region.published(), 8192);
            assert_eq!(region.bytes(14..16), Some(&b"oy"[..]));
        }
    }

    #[test]
    fn wild_arguments_are_errors() {
        for region in [Region::heap(4096).unwrap(), file_region(4096, true).1] {
            region.publish(100);
            assert!(region.store(4096, b"x").is_err());
            assert!(region.store(usize::MAX, b"xy").is_err());
            region.store(4096, b"").unwrap();
            assert_eq!(region.bytes(101..102), None);
            assert_eq!(region.bytes(0..usize::MAX), None);
            #[expect(clippy::reversed_empty_ranges, reason = "that is the wild argument")]
            let reversed = 9..3;
            assert_eq!(region.bytes(reversed.clone()), None);
            assert!(region.populate_read(reversed.clone()).is_err());
            assert!(region.flush(reversed).is_err());
            assert!(region.populate_read(0..4097).is_err());
            region.populate_read(0..0).unwrap();
            assert!(!region.is_resident(0..4097));
        }
        assert!(Region::heap(0).unwrap().is_empty());
        assert!(Region::heap(usize::MAX).is_err());
    }

    #[test]
    fn read_only_region_refuses_stores() {
        let (_file, region) = file_region(4096, false);
        assert_eq!(region.store(0, b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        region.populate_read(0..4096).unwrap();
    }

    #[test]
    fn page_past_the_end_of_the_file_is_an_error_not_a_signal() {
        let (file, region) = file_region(8192, true);
        file.as_file().set_len(4096).unwrap();
        region.populate_read(0..4096).unwrap();
        if cfg!(target_os = "linux") {
            assert!(region.populate_read(0..8192).is_err());
            assert!(region.store(4096, b"x").is_err());
        }
    }

    #[test]
    fn pages_that_were_brought_in_are_resident() {
        let len = 3 * RESIDENT_PAGES * page_bytes();
        let (file, region) = file_region(len, false);
        assert!(!region.is_resident(0..len), "nothing was read yet");
        region.populate_read(0..len).unwrap();
        assert_eq!(region.is_resident(1..len - 1), cfg!(target_os = "linux"));
        file.as_file().set_len(0).unwrap();
        assert!(!region.is_resident(5..6));
        assert!(Region::heap(9).unwrap().is_resident(0..9));
    }

    #[test]
    fn heap_shared_by_regions_lends_what_any_of_them_published() {
        let heap = Heap::new(4096).unwrap();
        let (writer, reader) = (heap.region(4096, true).unwrap(), heap.region(100, false).unwrap());
        writer.store(0, b"abc").unwrap();
        reader.publish(3);
        assert_eq!(reader.bytes(0..3), Some(&b"abc"[..]));
        assert_eq!(writer.bytes(0..3), None);
        assert!(writer.store(2, b"x").is_err());
        assert!(heap.write(0, b"x").is_err());
        drop(reader);
        writer.store(2, b"x").unwrap();
        assert_eq!(heap.touched(true), Some(0..3));
        assert_eq!(heap.touched(false), None);
        heap.freeze();
        assert!(writer.store(3, b"x").is_err());
    }

    #[test]
    fn concurrent_stores_and_readers_see_whole_publications() {
        let (_file, region) = file_region(64 * 1024, true);
        for region in [region, Region::heap(64 * 1024).unwrap()] {
            std::thread::scope(|scope| {
                let writer = region.clone();
                scope.spawn(move || {
                    for at in (0..64 * 1024).step_by(64) {
                        writer.store(at, &[7; 64]).unwrap();
                        writer.publish(at + 64);
                    }
                });
                while region.published() < 64 * 1024 {
                    let seen = region.bytes(0..region.published()).unwrap();
                    assert!(seen.iter().rev().take(128).all(|&byte| byte == 7));
                }
            });
        }
    }
}
