//! Which cgroups the kubelet will want, from its settings.
//!
//! Rests on `pkg/kubelet/cm/container_manager_linux.go` and `cgroup_manager_linux.go` (`ParseCgroupfsToCgroupName`), the
//! cgroupfs driver: names are joined with `/` below the cgroup root.

use crate::cgroup::{CgroupPath, Controllers};

/// The controllers that the kubelet validates, of those that the root of the hierarchy offers
/// (`getSupportedUnifiedControllers`; the same from 1.20 to 1.36).
const VALIDATED: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];

/// The two QoS classes with a group of their own; guaranteed pods live directly in kubepods.
const QOS_CLASSES: [&str; 2] = ["burstable", "besteffort"];

/// Where this program puts processes that must not be in kubepods: beside it.
const STRAYS: &str = "kubepods-strays";

/// The groups that the kubelet makes or expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `--cgroup-root`: the kubelet never makes it.
    pub cgroup_root: CgroupPath,
    /// The root of all pods.
    pub kubepods: CgroupPath,
    /// `burstable` and `besteffort`.
    pub qos: Vec<CgroupPath>,
    /// Reserved groups that are enforced: the kubelet never makes them.
    pub reserved: Vec<CgroupPath>,
    /// Where strays go.
    pub strays: CgroupPath,
}

impl Layout {
    /// The groups below `cgroup_root`.
    pub fn new(cgroup_root: CgroupPath, reserved: Vec<CgroupPath>) -> Self {
        let kubepods = cgroup_root.join("kubepods");
        let qos = QOS_CLASSES.iter().map(|class| kubepods.join(class)).collect();
        let strays = cgroup_root.join(STRAYS);
        Self { cgroup_root, kubepods, qos, reserved, strays }
    }

    /// kubepods and the QoS groups.
    pub fn own(&self) -> impl Iterator<Item = &CgroupPath> {
        std::iter::once(&self.kubepods).chain(&self.qos)
    }
}

/// What the kubelet will look for in `kubepods/cgroup.controllers`, of what the root offers.
pub fn needed(offered: &Controllers) -> Controllers {
    VALIDATED.into_iter().collect::<Controllers>().and(offered)
}

/// What pods are the worse for when the kernel does not offer it (a kernel without huge pages is no fault).
pub fn desirable() -> Controllers {
    VALIDATED.into_iter().filter(|name| *name != "hugetlb").collect()
}
