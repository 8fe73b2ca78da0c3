//! This boot, and the kind of container if the host is one.

use crate::host::container::{self, Manager};
use crate::host::kernel::{self, Kernel};
use crate::root::Root;

/// What is known of this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's boot id; empty if it cannot be read.
    pub id: String,
    /// The container manager, if this host is a container.
    pub container: Option<Manager>,
}

/// Examines this boot. What cannot be read counts as unknown, and is no error.
pub fn observe(root: &Root, running: &Kernel) -> Boot {
    Boot {
        id: kernel::value(root, "/proc/sys/kernel/random/boot_id"),
        container: container::observe(root, running),
    }
}
