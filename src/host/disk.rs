//! The file system that MicroK8s keeps its data on.
//!
//! It may have become read-only because of an error (`errors=remount-ro` in ext4(5)). ext4 reports
//! the error in sysfs (`Documentation/ABI/testing/sysfs-fs-ext4`).

use std::path::Path;

use crate::host::kernel;
use crate::host::mounts::{self, FileSystem};
use crate::kubelet::microk8s::MICROK8S;
use crate::root::{ReadError, Room, Root};

/// What is known of the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its mount; `None` if no mount contains the path.
    pub file_system: Option<FileSystem>,
    /// Its free space, if known.
    pub room: Option<Room>,
    /// If it refuses writes: the first error that ext4 recorded.
    pub first_error: Option<Ext4Error>,
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
    let refusing = file_system.as_ref().filter(|system| system.read_only);
    Ok(Disk {
        first_error: refusing.and_then(|system| first_error(root, system)),
        room: root.room(path)?,
        file_system,
    })
}

fn first_error(root: &Root, system: &FileSystem) -> Option<Ext4Error> {
    let link = Path::new("/sys/dev/block").join(&system.device);
    let target = root.link(&link).ok()??;
    let device = Path::new(&target).file_name()?;
    let folder = Path::new("/sys/fs/ext4").join(device);
    let value = |name: &str| kernel::value(root, &folder.join(name).to_string_lossy());
    let (count, function) = (value("errors_count"), value("first_error_func"));
    let is_known = !matches!(count.as_str(), "" | "0");
    is_known.then_some(Ext4Error { count, function })
}
