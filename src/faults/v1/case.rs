//! Everything that a rule about cgroup v1 may look at.

use crate::cgroup::CgroupPath;
use crate::faults::{Learned, Terms};
use crate::host::Host;
use crate::host::v1::{Hierarchies, Hierarchy};
use crate::kubelet::Driver;
use crate::kubelet::layout::Layout;

pub(super) struct V1Case<'a> {
    pub host: &'a Host,
    pub v1: &'a Hierarchies,
    pub layout: &'a Layout,
    pub terms: Terms,
    pub learned: &'a Learned,
}

/// systemd removes empty groups of its slices from these hierarchies (`cg_trim_v1_controllers`),
/// whatever created them. The kubelet does not check these hierarchies, and libcontainer creates
/// the groups that a pod needs with the pod.
const TRIMMED: [&str; 2] = ["blkio", "devices"];

impl V1Case<'_> {
    /// The hierarchies in which a group should exist and does not.
    pub fn without<'a>(&'a self, path: &'a CgroupPath) -> impl Iterator<Item = &'a Hierarchy> {
        let by_systemd = self.layout.driver == Driver::Systemd;
        let is_trimmed = |hierarchy: &Hierarchy| {
            let mut trimmed = TRIMMED.iter();
            trimmed.any(|name| hierarchy.controllers.contains(name))
        };
        let without = self.v1.without(path);
        without.filter(move |hierarchy| !(by_systemd && is_trimmed(hierarchy)))
    }
}
