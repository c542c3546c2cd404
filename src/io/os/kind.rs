//! What kind of file system a file is on, as far as it matters to a log.
//!
//! Owns: the numbers by which the kernel knows them, and what each cannot promise. Does not own:
//! what is done about it.
#![expect(clippy::disallowed_types, reason = "a part of the file that may use files")]

use std::fs::File as OsHandle;

#[cfg(target_os = "linux")]
const BTRFS: u64 = 0x9123_683e;
#[cfg(target_os = "linux")]
const BCACHEFS: u64 = 0xca45_1a4e;
#[cfg(target_os = "linux")]
const ZFS: u64 = 0x2fc1_2fc1;
#[cfg(target_os = "linux")]
const TMPFS: u64 = 0x0102_1994;
#[cfg(target_os = "linux")]
const RAMFS: u64 = 0x8584_58f6;
#[cfg(target_os = "linux")]
const OVERLAY: u64 = 0x794c_7630;
#[cfg(target_os = "linux")]
const ECRYPTFS: u64 = 0xf15f;
#[cfg(target_os = "linux")]
const AUFS: u64 = 0x6175_6673;

/// Whether the page cache is the medium.
#[cfg(target_os = "linux")]
pub(super) fn is_memory(file: &OsHandle) -> bool {
    matches!(magic(file), Some(TMPFS | RAMFS))
}

/// Whether direct writes of a file that are aligned like blocks of so many bytes are aligned enough for
/// its file system: no if it says that it takes none or wants more, yes if it says nothing.
#[cfg(target_os = "linux")]
pub(super) fn wants_no_more_than(directory: &OsHandle, name: &str, bytes: usize) -> bool {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let said = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::DIOALIGN);
    let Ok(said) = said else { return true };
    let fits = |align: u32| align > 0 && usize::try_from(align).is_ok_and(|align| align <= bytes);
    said.stx_mask & StatxFlags::DIOALIGN.bits() == 0
        || fits(said.stx_dio_offset_align) && fits(said.stx_dio_mem_align)
}

/// Whether bytes may be written to new places each time, so that space which is fully allocated can
/// run out at a store to a map.
#[cfg(target_os = "linux")]
pub(super) fn copies_on_write(directory: &OsHandle) -> bool {
    match magic(directory) {
        Some(BTRFS) => rustix::fs::ioctl_getflags(directory)
            .map_or(true, |flags| !flags.contains(rustix::fs::IFlags::NOCOW)),
        Some(OVERLAY) => upper_layer(directory).is_none_or(|upper| copies_on_write(&upper)),
        Some(BCACHEFS | ZFS | ECRYPTFS | AUFS) => true,
        _ => false,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn copies_on_write(_directory: &OsHandle) -> bool {
    false
}

/// Exempts new files of a directory from copy-on-write. Best effort: [`copies_on_write`] tells
/// whether it worked.
#[cfg(target_os = "linux")]
pub(super) fn forgo_copy_on_write(directory: &OsHandle) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if magic(directory) == Some(BTRFS) {
        ioctl_getflags(directory)
            .and_then(|flags| ioctl_setflags(directory, flags | IFlags::NOCOW))
            .ok();
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn forgo_copy_on_write(_directory: &OsHandle) {}

/// The number by which the kernel knows the kind of file system.
#[cfg(target_os = "linux")]
fn magic(file: &OsHandle) -> Option<u64> {
    // The field is signed on some machines and 32 bits wide on others; the numbers are 32 bits.
    let kind = i128::from(rustix::fs::fstatfs(file).ok()?.f_type);
    u64::try_from(kind & 0xffff_ffff).ok()
}

/// The directory that takes what is written to an overlay; nothing if this process cannot see it, as
/// in a container.
#[cfg(target_os = "linux")]
fn upper_layer(directory: &OsHandle) -> Option<OsHandle> {
    let device = std::os::unix::fs::MetadataExt::dev(&directory.metadata().ok()?);
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let upper = upper_layer_of(&mounts, &device)?;
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let upper = rustix::fs::open(upper, flags, rustix::fs::Mode::empty()).ok()?;
    Some(OsHandle::from(upper))
}

/// The upper layer of the overlay on a device, if the kernel's list of mounts states it plainly.
#[cfg(target_os = "linux")]
fn upper_layer_of<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    // "36 35 0:52 / /mnt rw,noatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w"
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, below) = mount.split_once(" - overlay ")?;
    let upper = below.split([',', ' ']).find_map(|option| option.strip_prefix("upperdir="))?;
    // A name with a backslash is written in a way of its own, and one that is not absolute means
    // what it meant to whoever mounted it.
    (upper.starts_with('/') && !upper.contains('\\')).then_some(upper)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn upper_layer_is_found_only_where_it_is_stated_plainly() {
        let mounts = "\
            22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            36 22 0:52 / /mnt rw,noatime - overlay overlay rw,lowerdir=/l,upperdir=/u/up,workdir=/w\n\
            37 22 0:53 / /two rw - overlay overlay rw,lowerdir=/l,upperdir=/u\\040p,workdir=/w\n\
            38 22 0:54 / /ro ro - overlay overlay ro,lowerdir=/l:/m\n\
            39 22 0:55 / /rel rw - overlay overlay rw,lowerdir=l,upperdir=u,workdir=w\n";
        assert_eq!(upper_layer_of(mounts, "0:52"), Some("/u/up"));
        for none in ["254:0", "0:53", "0:54", "0:55", "0:56", ""] {
            assert_eq!(upper_layer_of(mounts, none), None, "{none}");
        }
    }
}
