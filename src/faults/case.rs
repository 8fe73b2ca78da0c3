//! Everything that a rule about a cgroup v2 tree may look at.

use std::path::PathBuf;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Learned, Location, Step, Terms};
use crate::host::group::{Group, Kind};
use crate::host::{Host, Tree};
use crate::kubelet::Driver;
use crate::kubelet::layout::{self, Layout};

pub(super) struct Case<'a> {
    pub host: &'a Host,
    pub tree: &'a Tree,
    pub layout: &'a Layout,
    /// The controllers that the kubelet requires in kubepods.
    pub needed: Controllers,
    /// Those of them that only the kubelet's own start enables.
    pub withheld: Controllers,
    pub terms: Terms,
    pub learned: &'a Learned,
}

impl<'a> Case<'a> {
    pub fn new(
        host: &'a Host,
        tree: &'a Tree,
        layout: &'a Layout,
        terms: Terms,
        learned: &'a Learned,
    ) -> Self {
        let withheld: Controllers = terms.leave_cpu.then_some("cpu").into_iter().collect();
        let mut needed = layout::needed(&tree.offered());
        // Early in the boot, what kubelite's own start enables is not a fault.
        if terms.occasion.precedes_pre_start() {
            needed = needed.minus(&withheld);
        }
        Self {
            host,
            tree,
            layout,
            needed,
            withheld,
            terms,
            learned,
        }
    }

    pub fn group(&self, path: &CgroupPath) -> Option<&'a Group> {
        self.tree.group(path)
    }

    pub fn directory(&self, path: &CgroupPath) -> PathBuf {
        path.under(&self.tree.mount)
    }

    pub fn at(&self, path: &CgroupPath) -> Location {
        Location::Cgroup(self.tree.mount.clone(), path.clone())
    }

    pub fn at_file(&self, path: &CgroupPath, file: &'static str) -> Location {
        Location::CgroupFile(self.tree.mount.clone(), path.clone(), file)
    }

    /// kubepods and the QoS cgroups, as far as they exist.
    pub fn own_groups(&self) -> impl Iterator<Item = &'a Group> {
        let tree = self.tree;
        self.layout.own().filter_map(move |path| tree.group(path))
    }

    /// The required controllers that this cgroup does not enable for its children; all of them if
    /// it does not exist.
    pub fn lacking(&self, path: &CgroupPath) -> Controllers {
        match self.group(path) {
            Some(group) => self.needed.minus(&group.subtree_control),
            None => self.needed.clone(),
        }
    }

    /// The required controllers that may be enabled now.
    pub fn wanted(&self) -> Controllers {
        self.needed.minus(&self.withheld)
    }

    /// Whether the kubelet cannot set the weight of a QoS cgroup: the root offers no cpu
    /// controller, or the kernel was built without CONFIG_FAIR_GROUP_SCHED and has no `cpu.weight`.
    ///
    /// The kubelet then *creates* a missing QoS cgroup and only logs the error, but *updates* one
    /// that exists and exits with the error (`qos_container_manager_linux.go`, `Start`).
    pub fn is_weightless(&self) -> bool {
        !self.tree.offered().contains("cpu") || !self.tree.has_cpu_weight
    }

    /// Whether QoS cgroups may be created before the kubelet's start: only if it can update them.
    pub fn may_make_qos_groups(&self) -> bool {
        !self.is_weightless() && !self.withheld.contains("cpu")
    }

    /// Whether systemd creates the cgroups, and not the kubelet.
    pub fn by_systemd(&self) -> bool {
        self.layout.driver == Driver::Systemd
    }

    /// Whether slices are left to kubelite's own pre-start.
    pub fn leaves_slices(&self) -> bool {
        self.by_systemd() && self.terms.occasion.precedes_pre_start()
    }

    /// The step that enables the required controllers in this cgroup; `None` if the host offers
    /// none of them.
    pub fn pass_on(&self, path: &CgroupPath) -> Option<Step> {
        let controllers = self.wanted();
        (!controllers.is_empty()).then(|| Step::enable(path, controllers))
    }

    /// The steps that create the QoS cgroups, if that may be done.
    pub fn make_qos_groups(&self) -> Vec<Step> {
        if !self.may_make_qos_groups() {
            return Vec::new();
        }
        let groups = self.layout.qos.iter().cloned();
        groups.map(Step::MakeQosGroup).collect()
    }
}

/// Whether the kernel lets this cgroup enable every controller for its children: only the real root
/// and domain cgroups without processes may.
pub(super) fn can_pass_on(group: &Group) -> bool {
    match group.kind {
        Kind::Root => true,
        Kind::Domain => group.processes.is_empty(),
        Kind::DomainThreaded | Kind::DomainInvalid | Kind::Threaded => false,
    }
}
