//! The promises on version 1: a step may touch a dozen hierarchies.

use std::path::Path;

use kubepods_repair::cgroup::{CgroupPath, Controllers};
use kubepods_repair::faults::slices::may_be_asked_for;
use kubepods_repair::faults::{Occasion, Step, Terms};
use kubepods_repair::host::OtherTree;
use kubepods_repair::host::v1::Hierarchies;
use kubepods_repair::host::v1::unmounted::Place;
use kubepods_repair::kubelet::layout::Layout;

/// A step on the hierarchies, with the steps before it.
pub struct OnHierarchies<'a> {
    pub layout: &'a Layout,
    pub v1: &'a Hierarchies,
    pub terms: Terms,
    pub wants_groups: bool,
    pub before: &'a [&'a Step],
}

impl OnHierarchies<'_> {
    pub fn judge(&self, step: &Step) -> Option<&'static str> {
        match step {
            Step::Mount { options, point } => self.mount(options, point),
            _ if !self.wants_groups => Some("no group is wanted"),
            Step::Make(group) | Step::MakeQosGroup(group) => self.make(group),
            Step::LiftLimit {
                group,
                file: "memory.limit_in_bytes",
            } if *group == self.layout.kubepods => None,
            Step::FillCpuset(group) => self.fill(group),
            Step::Thaw(group) => self.thaw(group),
            Step::RemovePods(pods) => {
                let may = self.terms.occasion == Occasion::PreStart && !self.v1.pods.kubelet_runs;
                let fair = pods.iter().all(|pod| self.v1.pods.lifeless.contains(pod));
                (!may || !fair)
                    .then_some("pods that may be alive, or that a kubelet may be about to use")
            }
            Step::AskForSlice { slice, keeping } => self.ask_for(slice, keeping),
            Step::RemoveTree(group) => self.remove_tree(group),
            _ => Some("a step of version 2"),
        }
    }

    fn mount(&self, options: &str, point: &Path) -> Option<&'static str> {
        let is_meant = self.v1.unmounted.iter().any(|unmounted| {
            let names = unmounted.controllers.join(",");
            let is_it = unmounted.point == point && options.contains(&names);
            is_it && unmounted.place == Place::Empty && unmounted.obstacle.is_none()
        });
        (!is_meant).then_some("mounted where something is, or what is claimed elsewhere")
    }

    /// Nothing has to be kept: no controller can be taken away.
    fn ask_for(&self, path: &CgroupPath, keeping: &Controllers) -> Option<&'static str> {
        let may =
            !matches!(self.terms.occasion, Occasion::Early | Occasion::Boot) && keeping.is_empty();
        let unit = self.v1.slices.get(path);
        let is_fair = unit.is_some_and(may_be_asked_for);
        (!may || !is_fair || !self.is_wanted(path))
            .then_some("asked for a slice early, or for one that is somebody's own")
    }

    fn remove_tree(&self, path: &CgroupPath) -> Option<&'static str> {
        let is_left =
            |other: &OtherTree| other.kubepods == *path && !other.populated && !other.kubelet_runs;
        let is_fair = self.v1.other.as_ref().is_some_and(is_left)
            && self.terms.occasion == Occasion::PreStart;
        (!is_fair || self.is_wanted(path)).then_some("removed a tree that may be in use")
    }

    fn is_wanted(&self, path: &CgroupPath) -> bool {
        let mut ends = self.layout.own().chain(&self.layout.reserved);
        ends.any(|end| end == path || path.is_above(end))
    }

    fn is_made(&self, path: &CgroupPath) -> bool {
        self.v1.without(path).next().is_none()
            || self.before.iter().any(
                |step| matches!(step, Step::Make(made) | Step::MakeQosGroup(made) if made == path),
            )
    }

    fn make(&self, path: &CgroupPath) -> Option<&'static str> {
        let read_only = self.v1.without(path).any(|hierarchy| !hierarchy.writable);
        match (
            self.is_wanted(path),
            path.parent().is_some_and(|parent| self.is_made(&parent)),
            read_only,
        ) {
            (true, true, false) => None,
            (false, ..) => Some("made a group that nobody wants"),
            (_, false, _) => Some("made before its parent"),
            (.., true) => Some("made where nothing can be written"),
        }
    }

    /// Never over what somebody has set.
    fn fill(&self, path: &CgroupPath) -> Option<&'static str> {
        let known = self
            .v1
            .of("cpuset")
            .and_then(|cpuset| cpuset.groups.get(path));
        let has_room = known.is_none_or(|group| {
            group
                .cpuset
                .as_ref()
                .is_some_and(|set| !set.empty_files().is_empty())
        });
        (path.is_root() || !self.is_wanted(path) || !has_room)
            .then_some("filled what is not empty, or not wanted")
    }

    fn thaw(&self, path: &CgroupPath) -> Option<&'static str> {
        let frozen = self
            .v1
            .of("freezer")
            .and_then(|freezer| freezer.groups.get(path));
        let is_fair = self.layout.own().any(|own| own == path)
            && frozen.is_some_and(|group| group.frozen && !group.populated);
        (!is_fair).then_some("thawed where something lives, or where it is not the kubelet's")
    }
}
