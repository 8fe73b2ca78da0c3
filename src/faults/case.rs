//! Everything that a rule about the version 2 tree may look at.

use std::path::PathBuf;
use std::rc::Rc;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Learned, Location, Step, Terms, stale_pods};
use crate::host::group::{Group, Kind};
use crate::host::pods::PodGroup;
use crate::host::{Host, Tree};
use crate::kubelet::Driver;
use crate::kubelet::layout::{self, Layout};

pub(super) struct Case<'a> {
    pub host: &'a Host,
    pub tree: &'a Tree,
    pub layout: &'a Layout,
    /// What the kubelet will look for in kubepods.
    pub needed: Controllers,
    /// Of those, what is left to the kubelet's own start.
    pub withheld: Controllers,
    pub terms: Terms,
    pub learned: &'a Learned,
    /// The groups of deleted pods.
    pub stale: Rc<[PodGroup]>,
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
        // Early in the boot there is nothing to say about what kubelite's own start will see to.
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
            stale: stale_pods::stale(&tree.pods),
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

    /// kubepods and the QoS groups, those that exist.
    pub fn own_groups(&self) -> impl Iterator<Item = &'a Group> {
        let tree = self.tree;
        self.layout.own().filter_map(move |path| tree.group(path))
    }

    /// What this group does not pass on and should; everything, when it does not exist yet.
    pub fn lacking(&self, path: &CgroupPath) -> Controllers {
        match self.group(path) {
            Some(group) => self.needed.minus(&group.subtree_control),
            None => self.needed.clone(),
        }
    }

    /// What may be switched on now of what the kubelet needs.
    pub fn wanted(&self) -> Controllers {
        self.needed.minus(&self.withheld)
    }

    /// Whether the kubelet cannot set the weight of a QoS group: the root offers no cpu controller,
    /// or the kernel was built without CONFIG_FAIR_GROUP_SCHED and its cpu controller has no
    /// `cpu.weight`.
    ///
    /// A missing QoS group is then *created* with the error only logged, but one that exists is
    /// *updated*, and the error is fatal (`qos_container_manager_linux.go`, `Start`).
    pub fn is_weightless(&self) -> bool {
        !self.tree.offered().contains("cpu") || !self.tree.has_cpu_weight
    }

    /// Whether QoS groups may be made before the kubelet's start: only where it can update them.
    pub fn may_make_qos_groups(&self) -> bool {
        !self.is_weightless() && !self.withheld.contains("cpu")
    }

    /// systemd makes the groups, not the kubelet.
    pub fn by_systemd(&self) -> bool {
        self.layout.driver == Driver::Systemd
    }

    /// Slices are not asked for now.
    pub fn leaves_slices(&self) -> bool {
        self.by_systemd() && self.terms.occasion.precedes_pre_start()
    }

    /// The step that makes the group pass on all that it should; `None` on a host that offers
    /// nothing the kubelet asks for.
    pub fn pass_on(&self, path: &CgroupPath) -> Option<Step> {
        let controllers = self.wanted();
        (!controllers.is_empty()).then(|| Step::enable(path, controllers))
    }

    /// The steps that make the groups of the QoS classes, where that may be done.
    pub fn make_qos_groups(&self) -> Vec<Step> {
        if !self.may_make_qos_groups() {
            return Vec::new();
        }
        let groups = self.layout.qos.iter().cloned();
        groups.map(Step::MakeQosGroup).collect()
    }
}

/// Whether controllers can be switched on in this group's `cgroup.subtree_control`: the kernel lets
/// only the real root and groups without processes pass on all of them.
pub(super) fn can_pass_on(group: &Group) -> bool {
    match group.kind {
        Kind::Root => true,
        Kind::Domain => group.processes.is_empty(),
        Kind::DomainThreaded | Kind::DomainInvalid | Kind::Threaded => false,
    }
}
