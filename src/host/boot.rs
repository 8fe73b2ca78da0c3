//! This boot, and the container that this is, if it is one.

use crate::host::container::{self, Manager};
use crate::host::kernel::{self, Kernel};
use crate::root::Root;

/// What is known of this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id for it; empty where it cannot be read.
    pub id: String,
    /// Who made the container that this is, if it is one.
    pub container: Option<Manager>,
}

/// Looks at it; what cannot be read is not known, and nothing fails.
pub fn observe(root: &Root, running: &Kernel) -> Boot {
    Boot {
        id: kernel::value(root, "/proc/sys/kernel/random/boot_id"),
        container: container::observe(root, running),
    }
}
