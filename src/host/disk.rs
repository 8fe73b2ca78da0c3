//! The file system that MicroK8s keeps its data on.
//!
//! It may have become read-only because of an error (`errors=remount-ro` in ext4(5)). ext4 reports
//! the error in sysfs (`Documentation/ABI/testing/sysfs-fs-ext4`). Older kernels then make the
//! mount read-only, and from 6.15 on it has the option `emergency_ro`. From 6.12 on, and in the
//! stable releases that took that change, only the refused writes show it (`ext4_handle_error` in
//! `fs/ext4/super.c`).
//!
//! XFS shuts itself down instead (`xfs_do_force_shutdown` in `fs/xfs/xfs_fsops.c`). Neither the
//! mount nor sysfs shows it, but every folder that is listed then gives EIO.

use std::path::Path;

use nix::errno::Errno;

use crate::host::kernel;
use crate::host::mounts::{self, FileSystem};
use crate::kubelet::microk8s::MICROK8S;
use crate::root::keep::text;
use crate::root::{ReadError, Room, Root};

/// What is known of the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its mount; `None` if no mount contains the path.
    pub file_system: Option<FileSystem>,
    /// Its free space, if known.
    pub room: Option<Room>,
    /// Whether ext4 has recorded an error since the boot and refuses writes after one, although the
    /// mount does not show it.
    pub fails_silently: bool,
    /// If it refuses writes: the first error that ext4 recorded.
    pub first_error: Option<Ext4Error>,
    /// Whether XFS has shut it down, so that nothing can be read from it.
    pub is_shut_down: bool,
}

/// An error that ext4 keeps in its superblock until the file system is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext4Error {
    /// The number of errors.
    pub count: String,
    /// The kernel's function that found the first one.
    pub function: String,
}

/// Examines the file system.
///
/// # Errors
/// When its free space cannot be read.
pub fn observe(root: &Root, mountinfo: &str) -> Result<Disk, ReadError> {
    let path = Path::new(MICROK8S.common);
    let file_system = mounts::file_system(mountinfo, path);
    let mut fails_silently = false;
    let mut first_error = None;
    if let Some(system) = &file_system
        && (system.read_only || system.kind == "ext4")
        && let Some(device) = device(root, system)
    {
        fails_silently = !system.read_only && has_failed_since_boot(root, &device);
        if system.read_only || fails_silently {
            first_error = observe_first_error(root, &device);
        }
    }
    let is_xfs = |system: &FileSystem| system.kind == "xfs";
    let is_shut_down = file_system.as_ref().is_some_and(is_xfs) && has_shut_down(root, path);
    Ok(Disk {
        file_system,
        // statvfs(3) may fail there, too.
        room: if is_shut_down { None } else { root.room(path)? },
        fails_silently,
        first_error,
        is_shut_down,
    })
}

/// Examines the file system after a read has failed; `None` if that fails as well.
pub fn observe_after_failure(root: &Root) -> Option<Disk> {
    let mountinfo = mounts::read(root, Path::new("/proc/self/mountinfo")).ok()?;
    observe(root, &mountinfo).ok()
}

fn has_shut_down(root: &Root, folder: &Path) -> bool {
    let names = root.directories(folder);
    names.is_err_and(|error| error.errno == Errno::EIO)
}

fn has_failed_since_boot(root: &Root, device: &str) -> bool {
    let error = value(root, device, "last_error_time");
    // Absent or 0 without an error.
    let Some(error) = error.parse::<u64>().ok().filter(|time| *time > 0) else {
        return false;
    };
    let lines_of = |path: &str, word: &'static str| {
        let keep = text(move |content| lines_with(content, word));
        root.keeping(&keep)
            .read(Path::new(path))
            .unwrap_or_default()
    };
    let options = lines_of(&format!("/proc/fs/ext4/{device}/options"), "errors=");
    let boot = lines_of("/proc/stat", "btime ");
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
    let boot = boot.and_then(|time| time.trim().parse::<u64>().ok());
    options.lines().any(|option| option == "errors=remount-ro")
        && boot.is_some_and(|boot| boot <= error)
}

/// What a capture keeps: the lines that begin with this word.
fn lines_with(content: &str, word: &str) -> String {
    let kept = content.lines().filter(|line| line.starts_with(word));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// The name of the block device.
fn device(root: &Root, system: &FileSystem) -> Option<String> {
    let link = Path::new("/sys/dev/block").join(&system.device);
    let target = root.link(&link).ok()??;
    let name = Path::new(&target).file_name()?;
    Some(name.to_string_lossy().into_owned())
}

fn observe_first_error(root: &Root, device: &str) -> Option<Ext4Error> {
    let count = value(root, device, "errors_count");
    let function = value(root, device, "first_error_func");
    let is_known = !matches!(count.as_str(), "" | "0");
    is_known.then_some(Ext4Error { count, function })
}

/// What ext4 reports of the device in this file; empty if it does not.
fn value(root: &Root, device: &str, name: &str) -> String {
    kernel::value(root, &format!("/sys/fs/ext4/{device}/{name}"))
}
