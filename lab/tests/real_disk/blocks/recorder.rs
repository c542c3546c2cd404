//! A disk that writes down what it is told: one file on a FUSE file system, under a loop device.
//!
//! The loop device hands every block write and flush to the file as it comes (`--direct-io=off`:
//! the kernel's cache of the file writes through), and the file has no other user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::image::{Event, Image, PAGE_BYTES};
use crate::mounted::{System, patiently, run, unmount};

const FOR_GOOD: Duration = Duration::from_secs(24 * 3600);
const DISK: INodeNo = INodeNo(2);
const NAME: &str = "disk";

/// What the disk holds, and what it was told since the recording began.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) image: Image,
    pub(super) events: Option<Vec<Event>>,
}

impl Tape {
    pub(super) fn note(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

/// The file system with the file in it.
#[derive(Debug)]
struct Recorder {
    tape: Arc<Mutex<Tape>>,
    bytes: u64,
}

impl Recorder {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let kind = if ino == DISK { FileType::RegularFile } else { FileType::Directory };
        FileAttr {
            ino,
            size: if ino == DISK { self.bytes } else { 0 },
            blocks: self.bytes / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: u32::try_from(PAGE_BYTES).unwrap(),
            flags: 0,
        }
    }
}

impl Filesystem for Recorder {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOR_GOOD, &self.attributes(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_GOOD, &self.attributes(ino));
    }

    /// Its size and everything else stay as they are.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOR_GOOD, &self.attributes(ino));
    }

    /// The kernel forgets what it knew of the contents: they may be another disk's by now.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let count = u64::from(size).min(self.bytes.saturating_sub(offset));
        reply.data(&self.tape.lock().image.read(offset, usize::try_from(count).unwrap()));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        {
            let mut tape = self.tape.lock();
            tape.image.write(offset, data);
            tape.note(Event::Write { offset, bytes: data.to_vec() });
        }
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.tape.lock().note(Event::Flush);
        reply.ok();
    }
}

/// The disk, there until this is dropped.
pub(super) struct Disk {
    pub(super) tape: Arc<Mutex<Tape>>,
    pub(super) system: System,
    place: tempfile::TempDir,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// A disk without a file system on it.
    pub(super) fn new(system: System) -> Result<Self, String> {
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        for name in ["fuse", "mount"] {
            std::fs::create_dir(place.path().join(name)).map_err(|error| error.to_string())?;
        }
        let tape = Arc::new(Mutex::new(Tape::default()));
        let recorder = Recorder { tape: Arc::clone(&tape), bytes: system.mebibytes() << 20 };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("indelible-blocks".to_owned())];
        config.n_threads = Some(2);
        let session = fuser::spawn_mount(recorder, place.path().join("fuse"), &config)
            .map_err(|error| format!("cannot mount: {error}"))?;
        Ok(Self { tape, system, place, session: Some(session) })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.place.path().join("fuse").join(NAME)
    }

    /// Mounts the file system on the disk, which recovers itself first if it has to.
    pub(super) fn mount(&self) -> Result<Attached, String> {
        let mut losetup = Command::new("losetup");
        let device = run(losetup.args(["--find", "--show", "--direct-io=off"]).arg(self.file()))?;
        let backing = backing_file(&device);
        let mut attached = Attached { device: Some(device.clone()), backing, place: None };
        if self.system == System::Btrfs {
            // The kernel remembers the disk as it was before, which may have been newer.
            run(Command::new("btrfs").args(["device", "scan", "--forget"]))?;
        }
        let place = self.place.path().join("mount");
        run(Command::new("mount").args(["-o", self.system.options()]).arg(&device).arg(&place))?;
        attached.place = Some(place);
        Ok(attached)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.umount_and_join().is_err()
        {
            // Somebody still has it open: it goes when they do.
            let fuse = self.place.path().join("fuse");
            let _best_effort = run(Command::new("umount").arg("-l").arg(fuse));
        }
    }
}

/// A mounted disk, until this is detached or dropped.
pub(super) struct Attached {
    device: Option<String>,
    /// What is under the device.
    backing: Option<String>,
    place: Option<PathBuf>,
}

impl Attached {
    pub(super) fn path(&self) -> &Path {
        self.place.as_deref().unwrap()
    }

    /// Unmounts the file system and takes the device away, so that the kernel knows nothing of the
    /// disk any more.
    ///
    /// # Errors
    /// What is still in use.
    pub(super) fn detach(mut self) -> Result<(), String> {
        self.let_go()
    }

    /// Does nothing when it has been called before.
    fn let_go(&mut self) -> Result<(), String> {
        let unmounted = self.place.take().map_or(Ok(()), |place| unmount(&place));
        let Some(device) = self.device.take() else { return unmounted };
        let detached = run(Command::new("losetup").args(["-d", &device]));
        unmounted.and(detached.map(drop))?;
        // While somebody has the device open, the kernel keeps it and what it knows of the disk.
        patiently(|| {
            let stays = self.backing.is_some() && backing_file(&device) == self.backing;
            if stays { Err(format!("{device} stays in use")) } else { Ok(()) }
        })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(why) = self.let_go() {
            println!("real disk: {why}");
        }
    }
}

/// The path of the file under a loop device, as the kernel tells it.
fn backing_file(device: &str) -> Option<String> {
    let name = device.rsplit('/').next()?;
    std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
}
