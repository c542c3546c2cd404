//! Real file systems in a file: what the device is told to write, and what a full disk does.
//!
//! Needs root, loop devices and the tools of the file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use indelible::{Batch, Error, Log, Options, SyncMethod, WriteMode};

use crate::Outcome;
pub(crate) use crate::lossy::mount::{patiently, run, unmount};

/// The file systems that P1 names, one that cannot reserve space, and one that is stacked on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Ext2,
    Ext4,
    Xfs,
    Btrfs,
    /// An overlay, as containers have it, whose upper layer is on ext4.
    Overlay,
}

impl System {
    /// Of the file system on the device.
    fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext4 | Self::Overlay => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest disk that its tools agree to.
    pub(crate) fn mebibytes(self) -> u64 {
        match self {
            Self::Ext2 | Self::Ext4 | Self::Overlay => 24,
            Self::Xfs => 320,
            Self::Btrfs => 128,
        }
    }

    /// How it is mounted where its writes are recorded.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Ext2 | Self::Ext4 | Self::Btrfs | Self::Overlay => "noatime",
            Self::Xfs => "noatime,nouuid",
        }
    }

    /// Places of the disk that it takes to be written in one piece: its superblocks, whose checksum
    /// would not survive a cut between two sectors.
    pub(crate) fn whole(self) -> &'static [u64] {
        match self {
            Self::Ext2 | Self::Ext4 | Self::Overlay => &[1024],
            Self::Xfs => &[],
            Self::Btrfs => &[64 << 10, 64 << 20],
        }
    }

    pub(crate) fn make(self, image: &Path) -> Command {
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext2 => command.args(["-q", "-F"]),
            // All of it now: otherwise the kernel goes on writing it once it is mounted.
            Self::Ext4 | Self::Overlay => {
                command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            }
            Self::Xfs => command.args(["-q", "-f"]),
            Self::Btrfs => command.args(["-q", "-f", "-m", "single"]),
        };
        command.arg(image);
        command
    }
}

/// A file system in a file, mounted until this is dropped.
pub(crate) struct Mounted {
    directory: tempfile::TempDir,
    device: String,
    system: System,
}

impl Mounted {
    pub(crate) fn new(system: System, mebibytes: u64) -> Result<Self, String> {
        if run(Command::new("id").arg("-u"))? != "0" {
            return Err("needs root".to_owned());
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = directory.path().join("image");
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        run(&mut system.make(&image))?;
        let place = directory.path().join("mount");
        fs::create_dir(&place).map_err(|error| error.to_string())?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
        let mounted = Self { directory, device, system };
        mounted.mount()?;
        Ok(mounted)
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        // No time stamps of reads, no discards: what is written is what the log writes.
        let (mut mount, below) = (Command::new("mount"), self.below());
        run(mount.args(["-o", "noatime"]).arg(&self.device).arg(&below))?;
        if self.system != System::Overlay {
            return Ok(());
        }
        let [lower, upper, work] = ["lower", "upper", "work"].map(|layer| below.join(layer));
        for directory in [&lower, &upper, &work, &self.path()] {
            fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        }
        let [lower, upper, work] = [&lower, &upper, &work].map(|layer| layer.display());
        let layers = format!("noatime,lowerdir={lower},upperdir={upper},workdir={work}");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "overlay", "overlay", "-o", &layers]).arg(self.path())).map(drop)
    }

    /// Where the device is mounted.
    fn below(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Where logs go.
    pub(crate) fn path(&self) -> PathBuf {
        if self.system == System::Overlay { self.below().join("merged") } else { self.below() }
    }

    /// Bytes that the device was told to write so far.
    fn written(&self) -> u64 {
        self.stat(6) * 512
    }

    /// Flushes that the device was told to carry out so far.
    fn flushes(&self) -> u64 {
        self.stat(15)
    }

    fn stat(&self, field: usize) -> u64 {
        let name = self.device.rsplit('/').next().unwrap();
        let text = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        text.split_whitespace().nth(field).unwrap().parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.system == System::Overlay {
            let _unmounted = run(Command::new("umount").arg(self.path()));
        }
        let _unmounted = run(Command::new("umount").arg(self.below()));
        let _detached = run(Command::new("losetup").args(["-d", &self.device]));
    }
}

const APPENDS: u64 = 200;
const ENTRY: [u8; 256] = [0x5a; 256];
/// Bytes of a frame around [`ENTRY`].
const FRAME_BYTES: u64 = 288;
const BLOCK_BYTES: u64 = 4096;

/// What the device writes for one synced append of 256 bytes: the block or two that the frame
/// touches and nothing else, in a fresh segment, a recycled one, and after a reopen.
pub(crate) fn writes(system: System) -> Outcome {
    let mounted = match Mounted::new(system, 600) {
        Ok(mounted) => mounted,
        Err(why) => return Outcome::Skipped(why),
    };
    let mut findings = Vec::new();
    for (mode, method) in [
        (WriteMode::Buffered, SyncMethod::Fdatasync),
        (WriteMode::Mmap, SyncMethod::Fdatasync),
        (WriteMode::Mmap, SyncMethod::Msync),
        (WriteMode::Pwrite, SyncMethod::Fdatasync),
        (WriteMode::Pwrite, SyncMethod::Dsync),
        (WriteMode::Direct, SyncMethod::Fdatasync),
        (WriteMode::Direct, SyncMethod::Dsync),
    ] {
        let options = Options::new()
            .segment_bytes(1 << 20)
            .background(false)
            .write_mode(mode)
            .sync_method(method);
        let path = mounted.path().join(format!("{mode:?}-{method:?}"));
        let log = Log::create(&path, &options).unwrap();
        let fresh = appended(&mounted, &log);
        log.close().unwrap();
        drop(log);
        let (log, _) = Log::open(&path, &options).unwrap();
        let reopened = appended(&mounted, &log);
        // Fills segments, lets them go, and comes to one that was in use before.
        while log.stats().recycled == 0 || log.stats().rolls < 4 {
            let rolls = log.stats().rolls;
            while log.stats().rolls == rolls {
                log.append(&vec![1; 60_000]).unwrap();
            }
            log.commit(Batch::new().trim(log.next() - 1)).unwrap();
            log.maintain().unwrap();
        }
        let recycled = appended(&mounted, &log);
        for (state, bytes) in [("fresh", fresh), ("reopened", reopened), ("recycled", recycled)] {
            let blocks = bytes.blocks_per_append();
            findings.push(format!("{mode:?}/{method:?} {state} {blocks:.2}"));
            // btrfs writes its log tree as well; the others write nothing but the block in which the
            // frames end, that of the witness, and now and then a step of space.
            if system != System::Btrfs {
                assert!(
                    (1.8..2.6).contains(&blocks),
                    "{system:?} {mode:?} {method:?} {state}: {blocks} blocks an append: {bytes:?}"
                );
            }
        }
    }
    Outcome::Passed(format!("4 KiB blocks for a synced 256-byte append: {}", findings.join(", ")))
}

#[derive(Debug)]
#[expect(dead_code, reason = "the flushes are for people")]
struct Traffic {
    bytes: u64,
    flushes: u64,
}

impl Traffic {
    fn blocks_per_append(&self) -> f64 {
        let quarters = u32::try_from(self.bytes / 1024).unwrap();
        f64::from(quarters) / 4.0 / f64::from(u32::try_from(APPENDS).unwrap())
    }
}

fn appended(mounted: &Mounted, log: &Log) -> Traffic {
    log.append(&ENTRY).unwrap();
    let (rolls, checkpoints) = (log.stats().rolls, log.stats().checkpoints);
    let (bytes, flushes) = (mounted.written(), mounted.flushes());
    for _ in 0..APPENDS {
        log.append(&ENTRY).unwrap();
    }
    let (bytes, flushes) = (mounted.written() - bytes, mounted.flushes() - flushes);
    let traffic = Traffic { bytes, flushes };
    assert!(flushes >= APPENDS, "an append was acknowledged without a flush: {traffic:?}");
    assert_eq!(
        (log.stats().rolls, log.stats().checkpoints),
        (rolls, checkpoints),
        "not only appends"
    );
    let least = APPENDS * FRAME_BYTES / BLOCK_BYTES * BLOCK_BYTES;
    assert!(traffic.bytes >= least, "nothing reached the device: {traffic:?}");
    traffic
}

/// A disk that fills up under the log: a typed error, nothing lost, state still written, and room
/// again after a trim.
pub(crate) fn full(system: System) -> Outcome {
    // While it commits, a full btrfs sometimes refuses for a moment to write over what a file has, or
    // keeps what was freed: about every second time on a busy machine.
    let tries = if system == System::Btrfs { 6 } else { 1 };
    let mut outcomes = (1..tries).filter_map(|_| std::panic::catch_unwind(|| fill_up(system)).ok());
    outcomes.next().unwrap_or_else(|| fill_up(system))
}

fn fill_up(system: System) -> Outcome {
    // XFS and btrfs refuse smaller ones, and keep some of what they call free for themselves.
    let (mebibytes, room) = match system {
        System::Ext2 | System::Ext4 | System::Overlay => (24, 10 << 20),
        System::Xfs => (320, 10 << 20),
        System::Btrfs => (256, 40 << 20),
    };
    let mounted = match Mounted::new(system, mebibytes) {
        Ok(mounted) => mounted,
        Err(why) => return Outcome::Skipped(why),
    };
    // Most of the space is taken, so that the log meets the end soon.
    let ballast = mounted.path().join("ballast");
    let free = free_bytes(&mounted.path());
    let taken = free.saturating_sub(room);
    run(Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "conv=fsync", "status=none"])
        .args([format!("of={}", ballast.display()), format!("count={}", taken >> 20)]))
    .unwrap();
    let mut findings = Vec::new();
    let modes = [
        (WriteMode::Buffered, 1),
        (WriteMode::Mmap, 1),
        (WriteMode::Pwrite, 2),
        (WriteMode::Direct, 1),
    ];
    for (mode, spares) in modes {
        let path = mounted.path().join(format!("{mode:?}"));
        findings.push(fill(&path, mode, spares));
        fs::remove_dir_all(&path).unwrap();
        // A directory that `cp` made on btrfs copies on write, where no space is ever kept.
        if system != System::Btrfs {
            findings.push(copy_with_holes(&path, mode));
            fs::remove_dir_all(&path).unwrap();
        }
        run(Command::new("sync").arg("-f").arg(mounted.path())).unwrap();
    }
    Outcome::Passed(findings.join("; "))
}

fn free_bytes(path: &Path) -> u64 {
    let text = run(Command::new("df").args(["--output=avail", "-B1"]).arg(path)).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

/// A log that was copied with holes wherever its files hold zeros: an open gets it the space again
/// that it counts on, so that promises are kept when the disk is full.
fn copy_with_holes(path: &Path, mode: WriteMode) -> String {
    let options = Options::new().segment_bytes(1 << 20).background(false).write_mode(mode);
    let original = path.with_extension("original");
    let log = Log::create(&original, &options).unwrap();
    log.append(&ENTRY).unwrap();
    log.close().unwrap();
    run(Command::new("cp").args(["-r", "--sparse=always"]).args([&original, path])).unwrap();
    fs::remove_dir_all(&original).unwrap();
    run(Command::new("sync").arg("-f").arg(path)).unwrap();
    let (log, _) = Log::open(path, &options).unwrap();
    let refused = (0..10_000).find_map(|_| log.append(&[7; 8192]).err()).unwrap();
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    for promise in 0..PROMISES {
        log.commit(Batch::new().set("promise", promise.to_le_bytes().to_vec())).unwrap();
    }
    let next = log.next();
    drop(log);
    let (log, _) = Log::open(path, &options).unwrap();
    assert_eq!((log.next(), log.entry(0).unwrap()), (next, ENTRY.to_vec()));
    assert_eq!(log.cell("promise").as_deref(), Some(&(PROMISES - 1).to_le_bytes()[..]));
    format!("a copy of it with holes kept {PROMISES} promises")
}

/// More than fit after the last entry of the last segment.
const PROMISES: u64 = 700;

fn fill(path: &Path, mode: WriteMode, spares: usize) -> String {
    let options =
        Options::new().segment_bytes(1 << 20).background(false).write_mode(mode).spares(spares);
    let log = Log::create(path, &options).unwrap();
    let entry = |index: u64| vec![index.to_le_bytes()[0]; 30_000];
    let mut next = 0;
    let refused = loop {
        match log.append(&entry(next)) {
            Ok(_) => next += 1,
            Err(error @ Error::DiskFull { .. }) => break error,
            Err(error) => panic!("{error}"),
        }
        assert!(next < 10_000, "the disk never fills up");
    };
    let same = |log: &Log| {
        assert_eq!((log.first(), log.next()), (0, next));
        for index in 0..next {
            assert!(log.entry(index).unwrap() == entry(index), "entry {index}");
        }
    };
    same(&log);
    // Promises are kept on a full disk: many, so that more than what is left of a segment is used.
    for promise in 0..PROMISES {
        let bytes = promise.to_le_bytes().to_vec();
        log.commit(Batch::new().set("promise", bytes)).unwrap();
    }
    assert!(matches!(log.append(&entry(next)), Err(Error::DiskFull { .. })), "{refused}");
    drop(log);
    let (log, _) = Log::open(path, &options).unwrap();
    same(&log);
    assert_eq!(log.cell("promise").as_deref(), Some(&(PROMISES - 1).to_le_bytes()[..]));
    let half = next / 2;
    log.commit(Batch::new().trim(half)).unwrap();
    log.maintain().unwrap();
    for index in next..next + 20 {
        log.append(&entry(index)).unwrap();
    }
    log.close().unwrap();
    let (log, _) = Log::open(path, &options).unwrap();
    assert_eq!((log.first(), log.next()), (half, next + 20));
    format!("{mode:?} refused after {next} entries, went on after a trim")
}
