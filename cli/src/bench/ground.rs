//! What stands under a directory: file system, mount, device, and what of it to be wary of.
//!
//! Owns: reading `/proc/self/mountinfo` and `/sys`. Everything in there is optional: a fact that is
//! not to be had is left out. On systems without these files only the path is known.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The facts of one directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Ground {
    pub(super) directory: String,
    /// Type of the file system, as `mount` names it.
    pub(super) file_system: Option<String>,
    /// Options of the mount and of its file system, comma separated.
    pub(super) mount_options: Option<String>,
    /// What is mounted.
    pub(super) source: Option<String>,
    pub(super) device: Option<Device>,
    /// What to be wary of, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// The facts of a block device, from its `queue` directory in `/sys`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) scheduler: Option<String>,
    /// `write back` or `write through`.
    pub(super) write_cache: Option<String>,
    /// Whether a single write can be forced to the medium without a flush of the whole cache.
    pub(super) fua: Option<bool>,
    pub(super) rotational: Option<bool>,
    /// Whether it is a disk of a virtual machine, or a file behind a loop device.
    pub(super) virtual_disk: bool,
}

/// Looks at what `directory` stands on.
pub(super) fn look(directory: &Path) -> Ground {
    look_in(directory, Path::new("/proc/self/mountinfo"), Path::new("/sys"))
}

fn look_in(directory: &Path, mounts: &Path, sys: &Path) -> Ground {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let shown = directory.display().to_string();
    let text = std::fs::read_to_string(mounts).unwrap_or_default();
    let mount = text.lines().filter_map(Mount::parse).filter(|it| directory.starts_with(&it.point));
    // Of two mounts on one point the later one is on top.
    let Some(mount) = mount.max_by_key(|it| it.point.components().count()) else {
        return Ground { directory: shown, ..Ground::default() };
    };
    let device = device(&mount, sys);
    let mut ground = Ground {
        directory: shown,
        file_system: Some(mount.file_system),
        mount_options: Some(mount.options),
        source: Some(mount.source),
        device,
        warnings: Vec::new(),
    };
    ground.warnings = warnings(&ground);
    ground
}

/// One line of `mountinfo`.
#[derive(Debug, PartialEq)]
struct Mount {
    /// `major:minor` of the device.
    number: String,
    point: PathBuf,
    file_system: String,
    source: String,
    options: String,
}

impl Mount {
    /// Reads `36 35 98:0 /root /point options fields... - type source options` (see `man 5 proc`).
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let number = left.nth(2)?.to_owned();
        let point = PathBuf::from(unescape(left.nth(1)?));
        let options = left.next()?;
        let mut right = right.split(' ');
        let file_system = right.next()?.to_owned();
        let source = unescape(right.next()?);
        let options = format!("{options},{}", right.next().unwrap_or_default());
        Some(Self { number, point, file_system, source, options })
    }
}

/// A path of `mountinfo`, where blanks are written as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn device(mount: &Mount, sys: &Path) -> Option<Device> {
    // File systems with several devices have a number of their own: then the source says which.
    let by_number = sys.join("dev/block").join(&mount.number);
    let by_name = || Some(sys.join("class/block").join(Path::new(&mount.source).file_name()?));
    let path = [Some(by_number), by_name()];
    let path = path.into_iter().flatten().find_map(|path| path.canonicalize().ok())?;
    // A partition has no queue; the disk it is on has.
    let disk = [Some(path.as_path()), path.parent()];
    let disk = disk.into_iter().flatten().find(|path| path.join("queue").is_dir())?.to_path_buf();
    let read = |name: &str| {
        let text = std::fs::read_to_string(disk.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let flag = |name: &str| read(name).map(|text| text != "0");
    let name = path.file_name()?.to_string_lossy().into_owned();
    let bus = disk.to_string_lossy();
    Some(Device {
        virtual_disk: ["/virtual/", "virtio", "/xen", "vbd-"].iter().any(|it| bus.contains(it)),
        model: read("device/model").or_else(|| read("loop/backing_file")),
        scheduler: read("queue/scheduler").map(|all| in_force(&all)),
        write_cache: read("queue/write_cache"),
        fua: flag("queue/fua"),
        rotational: flag("queue/rotational"),
        name,
    })
}

/// Of `none [mq-deadline]` the one in brackets.
fn in_force(all: &str) -> String {
    let inside = all.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(all, |(inside, _)| inside).to_owned()
}

fn warnings(ground: &Ground) -> Vec<String> {
    let mut warnings = Vec::new();
    match ground.file_system.as_deref().unwrap_or_default() {
        "tmpfs" | "ramfs" | "devtmpfs" => warnings.push(
            "This is memory: nothing written here survives a power cut or a restart.".to_owned(),
        ),
        kind @ ("nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "virtiofs") => {
            warnings.push(format!(
                "This is a network file system ({kind}): what a sync means is up to the server."
            ));
        }
        kind @ ("btrfs" | "zfs" | "bcachefs") => warnings.push(format!(
            "{kind} copies on write: each sync also writes a new place of the file's tree. A new log \
             on btrfs is exempted from that where it can be."
        )),
        "overlay" => warnings.push(
            "This is an overlay: the disk under it cannot be told from here.".to_owned(),
        ),
        kind if kind.starts_with("fuse") => warnings.push(format!(
            "This is a file system in a process ({kind}): what a sync means is up to that process."
        )),
        _ => {}
    }
    let options = ground.mount_options.as_deref().unwrap_or_default();
    if options.split(',').any(|it| it == "nobarrier" || it == "barrier=0") {
        warnings.push(
            "It is mounted without barriers: a sync does not flush the disk's write cache."
                .to_owned(),
        );
    }
    warnings
}

/// A warning for a sync so fast that it cannot have reached a medium.
pub(super) fn too_fast(ground: &Ground, sync_ns: u64) -> Option<String> {
    /// No flush of a medium without power-loss protection was ever seen to be faster.
    const FASTEST_FLUSH_NS: u64 = 30_000;
    // What a virtual disk says of rotation is a default and no fact.
    let physical = ground.device.as_ref().filter(|it| !it.virtual_disk);
    let rotational = physical.and_then(|it| it.rotational) == Some(true);
    let least = if rotational { 50 * FASTEST_FLUSH_NS } else { FASTEST_FLUSH_NS };
    (sync_ns < least).then(|| {
        "A sync is so fast here that it can only have reached a medium if the device keeps its cache \
         through a power cut. Make sure that it does."
            .to_owned()
    })
}

/// What keeps the machine busy right now, one sentence each: figures of a busy machine mislead.
pub(super) fn busy() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    busy_by(&read("/proc/loadavg"), &read("/proc/pressure/io"), processors)
}

#[expect(clippy::cast_precision_loss, reason = "a count of processors")]
fn busy_by(load: &str, pressure: &str, processors: usize) -> Vec<String> {
    /// Tasks per processor that leave room for a measurement.
    const LOAD_MAX: f64 = 0.5;
    /// Percent of the time in which some task waited for a disk.
    const WAITING_MAX: f64 = 5.0;
    let mut busy = Vec::new();
    let tasks = load.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    if tasks > LOAD_MAX * processors as f64 {
        busy.push(format!("{tasks} tasks were running on {processors} processors."));
    }
    let waiting = pressure.lines().find_map(|line| line.strip_prefix("some avg10="));
    let waiting = waiting.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    if let Some(waiting) = waiting.filter(|&waiting| waiting > WAITING_MAX) {
        busy.push(format!("Other programs waited for disks {waiting} % of the time."));
    }
    busy
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,nobarrier
40 22 0:35 / /run rw,nosuid - tmpfs tmpfs rw,size=100k
41 22 0:36 / /data\\040disk rw shared:2 - btrfs /dev/vdb rw,compress=zstd
not a line of mountinfo
";

    /// A `/sys` with one disk that has one partition, and one without.
    fn sys(root: &Path) {
        let disk = root.join("devices/pci0/virtio1/block/vda");
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        std::fs::create_dir_all(disk.join("vda1")).unwrap();
        let facts = [
            ("scheduler", "none [mq-deadline]\n"),
            ("write_cache", "write back\n"),
            ("fua", "0\n"),
        ];
        for (name, text) in facts {
            std::fs::write(disk.join("queue").join(name), text).unwrap();
        }
        std::fs::create_dir_all(root.join("dev/block")).unwrap();
        std::os::unix::fs::symlink(disk.join("vda1"), root.join("dev/block/254:1")).unwrap();
    }

    #[test]
    fn mount_and_device_are_found_for_a_partition() {
        let place = tempfile::tempdir().unwrap();
        sys(place.path());
        let mounts = place.path().join("mounts");
        std::fs::write(&mounts, MOUNTS).unwrap();
        let ground = look_in(Path::new("/"), &mounts, place.path());
        assert_eq!(ground.file_system.as_deref(), Some("ext4"));
        let device = ground.device.unwrap();
        assert_eq!((device.name.as_str(), device.virtual_disk), ("vda1", true));
        assert_eq!(device.scheduler.as_deref(), Some("mq-deadline"));
        assert_eq!((device.fua, device.rotational), (Some(false), None));
        assert!(ground.warnings.iter().any(|it| it.contains("without barriers")));
    }

    #[test]
    fn blanks_in_mount_points_are_read() {
        let mounts: Vec<_> = MOUNTS.lines().filter_map(Mount::parse).collect();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[2].point, Path::new("/data disk"));
        assert_eq!(mounts[2].file_system, "btrfs");
    }

    #[test]
    fn memory_and_copies_on_write_are_warned_of() {
        for (kind, word) in [("tmpfs", "memory"), ("btrfs", "copies"), ("nfs4", "network")] {
            let ground = Ground { file_system: Some(kind.to_owned()), ..Ground::default() };
            assert!(warnings(&ground).iter().any(|it| it.contains(word)), "{kind}");
        }
        assert_eq!(warnings(&Ground::default()), Vec::<String>::new());
        assert!(too_fast(&Ground::default(), 4_000).is_some());
        assert_eq!(too_fast(&Ground::default(), 200_000), None);
    }

    #[test]
    fn a_busy_machine_is_told_from_an_idle_one() {
        let waiting = "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00";
        assert_eq!(busy_by("3.10 1.00 0.50 2/300 4", waiting, 2).len(), 2);
        assert_eq!(busy_by("0.30 1.00 0.50 2/300 4", "some avg10=0.00 x", 2), Vec::<String>::new());
        assert_eq!(busy_by("", "", 2), Vec::<String>::new());
    }
}
