//! The file system that MicroK8s keeps its data on.
//!
//! Rests on `errors=remount-ro` of ext4(5). What made it so is in sysfs
//! (`Documentation/ABI/testing/sysfs-fs-ext4`).

use std::path::Path;

use crate::host::kernel;
use crate::host::mounts::{self, FileSystem};
use crate::kubelet::microk8s::MICROK8S;
use crate::root::{ReadError, Room, Root};

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The file system; `None` where no mount says so.
    pub file_system: Option<FileSystem>,
    /// What it has room for, where that is known.
    pub room: Option<Room>,
    /// Where it refuses writes: what ext4 noted of its first error.
    pub first_error: Option<Ext4Error>,
}

/// An error that ext4 keeps in its superblock until the file system is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext4Error {
    /// How many there were.
    pub count: String,
    /// The kernel's function that found the first.
    pub function: String,
}

/// Looks at it.
///
/// # Errors
/// When the kernel does not tell what there is room for.
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
