//! The kernel's protocol: requests from `/dev/fuse`, carried out on the state.
//!
//! Owns: what the kernel may keep. It keeps names and attributes for good, since nobody else
//! changes them, and the pages of a file across its opens: a reopen that wants to see the medium
//! has to see to it itself.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use parking_lot::{Mutex, MutexGuard};

use super::contents::{Contents, PAGE_BYTES};
use super::medium::{Ino, Names, Node};
use super::state::State;

const FOR_GOOD: Duration = Duration::from_secs(24 * 3600);
const NO_HANDLE: FileHandle = FileHandle(0);
/// Larger writes reach the file system in pieces, each of which can be the last one.
const WRITE_BYTES_MAX: u32 = 16 * 1024;

/// The file system as the kernel sees it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) state: Arc<Mutex<State>>,
    /// Writes stay in the kernel's cache until they are synced; otherwise they come here at once.
    pub(crate) write_back: bool,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn attributes(state: &State, ino: Ino) -> Result<FileAttr, Errno> {
    let node = state.medium.node(ino).ok_or(Errno::ENOENT)?;
    let (kind, size, pages) = match node {
        Node::File(contents) => (FileType::RegularFile, contents.len(), contents.pages()),
        Node::Directory(_) => (FileType::Directory, PAGE_BYTES, 1),
    };
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: size as u64,
        blocks: (pages * PAGE_BYTES / 512) as u64,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
        nlink: u32::from(state.medium.is_named(ino)),
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn entry(reply: ReplyEntry, answer: Result<FileAttr, Errno>) {
    match answer {
        Ok(attributes) => reply.entry(&FOR_GOOD, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attr(reply: ReplyAttr, answer: Result<FileAttr, Errno>) {
    match answer {
        Ok(attributes) => reply.attr(&FOR_GOOD, &attributes),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, answer: Result<(), Errno>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config.set_max_write(WRITE_BYTES_MAX).ok();
        if self.write_back {
            config
                .add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE)
                .map_err(|_| std::io::ErrorKind::Unsupported)?;
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let found = state.directory(parent.0).and_then(|it| it.find(name).ok_or(Errno::ENOENT));
        entry(reply, found.and_then(|ino| attributes(&state, ino)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, attributes(&self.state(), ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
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
        let mut state = self.state();
        let done = size.map_or(Ok(()), |len| state.set_len(ino.0, len));
        attr(reply, done.and_then(|()| attributes(&state, ino.0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let made = state.create(parent.0, name, Node::Directory(Names::default()));
        entry(reply, made.and_then(|ino| attributes(&state, ino)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        let made = state.create(parent.0, name, Node::File(Contents::default()));
        match made.and_then(|ino| attributes(&state, ino)) {
            Ok(attributes) => reply.created(
                &FOR_GOOD,
                &attributes,
                Generation(0),
                NO_HANDLE,
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != new_parent {
            reply.error(Errno::EXDEV);
        } else if flags.is_empty() {
            empty(reply, self.state().rename(parent.0, name, new_name));
        } else {
            reply.error(Errno::EINVAL);
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().read(ino.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let cached = flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        match self.state().write(ino.0, offset, data, cached) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.state().sync_delay;
        std::thread::sleep(delay);
        empty(reply, self.state().sync(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.state();
        let Some(Node::Directory(names)) = state.medium.node(ino.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (at, (name, ino)) in (1..).zip(names.iter()).skip_while(|(at, _)| *at <= offset) {
            let kind = match state.medium.node(ino) {
                Some(Node::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(ino), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.state().sync_directory(ino.0));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = self.state().medium.free_pages() as u64;
        let page = u32::try_from(PAGE_BYTES).unwrap();
        reply.statfs(1 << 18, free, free, 1 << 20, 1 << 20, page, 255, page);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode == 0 {
            empty(reply, self.state().reserve(ino.0, offset, length));
        } else {
            reply.error(Errno::EOPNOTSUPP);
        }
    }
}
