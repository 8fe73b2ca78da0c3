//! What the program never does, as a judge over any plan: README's list, made exact.

mod v1;

use std::collections::BTreeSet;

use kubepods_repair::cgroup::{CgroupPath, Controllers};
use kubepods_repair::faults::{Learned, Occasion, Step, Terms};
use kubepods_repair::host::group::{Group, Kind};
use kubepods_repair::host::units::UnitFile;
use kubepods_repair::host::{Host, Tree, state_files};
use kubepods_repair::kubelet::layout::{self, Layout};
use kubepods_repair::kubelet::microk8s::MICROK8S;
use kubepods_repair::kubelet::{Driver, Settings};
use v1::OnHierarchies;

/// What a plan has been made for.
pub struct Judge<'a> {
    pub settings: &'a Settings,
    pub host: &'a Host,
    pub terms: Terms,
    pub learned: &'a Learned,
}

impl Judge<'_> {
    /// The first broken promise, in words.
    pub fn broken(&self, plan: &[&Step]) -> Option<String> {
        let layout = self.settings.layout();
        for (index, step) in plan.iter().enumerate() {
            let (before, after) = (&plan[..index], &plan[index + 1..]);
            if after.contains(step) {
                return Some(format!("twice: {step:?}"));
            }
            let wants_groups = self.settings.cgroups_per_qos.value;
            let why = match (step, &self.host.tree) {
                (Step::SetAside { file, .. }, _) => self.set_aside(file),
                (Step::Restart { unit, .. }, _) => self.restart(unit),
                (_, None) => match &self.host.v1 {
                    Some(v1) => OnHierarchies {
                        layout: &layout,
                        v1,
                        terms: self.terms,
                        wants_groups,
                        before,
                    }
                    .judge(step),
                    None => Some("a step on a tree that nobody has looked at"),
                },
                (_, Some(_)) if !wants_groups => Some("no group is wanted"),
                (_, Some(tree)) if !tree.writable => Some("the tree is read-only"),
                (_, Some(tree)) => OnTree {
                    judge: self,
                    layout: &layout,
                    tree,
                    before,
                    after,
                }
                .judge(step),
            };
            if let Some(why) = why {
                return Some(format!("{why}: {step:?}"));
            }
        }
        None
    }

    /// Only what the kubelet keeps there itself, before its start, while no container runs.
    fn set_aside(&self, file: &std::path::Path) -> Option<&'static str> {
        let root_dir = &self.settings.root_dir.value;
        let is_checkpoint = state_files::NAMES
            .iter()
            .any(|name| root_dir.join(name) == file);
        let other = self.host.tree.as_ref().and_then(|tree| tree.other.as_ref());
        let lives = self.learned.containers_run || other.is_some_and(|other| other.populated);
        match (
            is_checkpoint,
            self.terms.occasion == Occasion::PreStart,
            lives,
        ) {
            (true, true, false) => None,
            (false, ..) => Some("no checkpoint"),
            (_, false, _) => Some("not before the kubelet's start"),
            (.., true) => Some("containers live"),
        }
    }

    fn restart(&self, unit: &str) -> Option<&'static str> {
        if self.terms.no_restart || self.terms.occasion != Occasion::PreStart {
            return Some("nobody may restart now");
        }
        (unit != MICROK8S.restartable_unit).then_some("a unit that the table does not name")
    }
}

/// A step on the tree, with the steps around it.
struct OnTree<'a> {
    judge: &'a Judge<'a>,
    layout: &'a Layout,
    tree: &'a Tree,
    before: &'a [&'a Step],
    after: &'a [&'a Step],
}

impl OnTree<'_> {
    fn judge(&self, step: &Step) -> Option<&'static str> {
        match step {
            // The kubelet writes memory.max of kubepods at each start.
            Step::LiftLimit {
                group,
                file: "memory.max",
            } if *group == self.layout.kubepods => None,
            Step::LiftLimit { group, file } => {
                match (self.is_own(group), file.starts_with("cgroup.max.")) {
                    (true, true) => None,
                    (false, _) => Some("a limit of a group that is not the kubelet's"),
                    (_, false) => Some("a resource limit"),
                }
            }
            Step::RemovePods(pods) => self.remove(pods.iter().map(|pod| &pod.group)),
            Step::MoveProcesses { from, to, frozen } => self.move_processes(from, to, *frozen),
            Step::MakeAnew(group) => self.make_anew(group),
            Step::Make(group) => match self.layout.driver {
                Driver::Cgroupfs => self.make(group),
                Driver::Systemd => Some("made a group of systemd's"),
            },
            Step::AskForSlice { slice, .. } => self.ask_for(slice),
            Step::MakeQosGroup(group) => {
                match (self.layout.driver, self.layout.qos.contains(group)) {
                    (Driver::Cgroupfs, true) if self.tree.offered().contains("cpu") => {
                        self.make(group)
                    }
                    _ => Some("made a QoS group that the kubelet could not update"),
                }
            }
            Step::StartSlice(slice) => self.start(slice),
            Step::RemoveQosGroup(group) => self.remove_qos_group(group),
            Step::RemoveTree(group) => self.remove_tree(group),
            Step::Enable { group, controllers } => self.enable(group, controllers),
            Step::Thaw(group) => match (self.is_own(group), self.lives(group)) {
                (true, false) => None,
                _ => Some("thawed where something lives, or where it is not the kubelet's"),
            },
            Step::RemoveStraysGroup(group) => (*group != self.layout.strays || self.lives(group))
                .then_some("removed a group that is in use"),
            Step::Mount { .. } | Step::FillCpuset(_) => Some("a step of version 1"),
            Step::Restart { .. } | Step::SetAside { .. } => Some("not a step on the tree"),
        }
    }

    fn group(&self, path: &CgroupPath) -> Option<&Group> {
        self.tree.group(path)
    }

    fn is_own(&self, path: &CgroupPath) -> bool {
        self.layout.own().any(|own| own == path)
    }

    fn lives(&self, path: &CgroupPath) -> bool {
        self.group(path).is_some_and(|group| group.populated)
    }

    /// A group on a way that has to be passable, or the end of one.
    fn is_wanted(&self, path: &CgroupPath) -> bool {
        let mut ends = self.layout.own().chain(&self.layout.reserved);
        ends.any(|end| end == path || path.is_above(end))
    }

    fn is_made(&self, path: &CgroupPath) -> bool {
        self.before.iter().any(|step| match step {
            Step::Make(made) | Step::MakeQosGroup(made) | Step::MakeAnew(made) => made == path,
            Step::AskForSlice { slice, .. } | Step::StartSlice(slice) => slice == path,
            _ => false,
        })
    }

    fn is_cleared(&self, path: &CgroupPath) -> bool {
        self.before
            .iter()
            .any(|step| matches!(step, Step::MoveProcesses { from, .. } if from == path))
    }

    fn may_remove_pods(&self) -> bool {
        self.judge.terms.occasion == Occasion::PreStart && !self.tree.pods.kubelet_runs
    }

    fn remove<'b>(&self, pods: impl Iterator<Item = &'b CgroupPath>) -> Option<&'static str> {
        let abandoned: BTreeSet<&CgroupPath> = self
            .tree
            .pods
            .lifeless
            .iter()
            .map(|pod| &pod.group)
            .collect();
        let is_fair = |pod: &CgroupPath| {
            abandoned.contains(pod)
                && pod.parent().is_some_and(|parent| {
                    self.is_own(&parent) && self.layout.pod_uid(&parent, pod.name()).is_some()
                })
        };
        match (self.may_remove_pods(), pods.into_iter().all(is_fair)) {
            (true, true) => None,
            (false, _) => Some("pods removed while a kubelet may run"),
            (_, false) => Some("a pod that is not known to be abandoned"),
        }
    }

    /// Never out of a pod's group, and never a process that has no number here.
    fn move_processes(
        &self,
        from: &CgroupPath,
        to: &CgroupPath,
        frozen: bool,
    ) -> Option<&'static str> {
        let group = self.group(from)?;
        if group.frozen && !frozen {
            return Some("a frozen process would be thawed");
        }
        let refuge = if frozen {
            self.layout.strays.join("frozen")
        } else {
            self.layout.strays.clone()
        };
        match (
            self.is_own(from),
            *to == refuge,
            group.processes.iter().all(|process| process.pid > 0),
        ) {
            (true, true, true) => None,
            (false, ..) => Some("processes of a group that is not the kubelet's"),
            (_, false, _) => Some("to a place of nobody's"),
            (.., false) => Some("a process of another pid namespace"),
        }
    }

    fn make_anew(&self, path: &CgroupPath) -> Option<&'static str> {
        let Some(group) = self
            .group(path)
            .filter(|group| group.kind == Kind::Threaded && self.is_own(path))
        else {
            return Some("made anew what is not threaded, or not the kubelet's");
        };
        let family = || {
            self.layout
                .own()
                .filter(|own| *own == path || path.is_above(own))
        };
        if group.populated && !family().any(|own| self.is_cleared(own)) {
            return Some("made anew while something lives in it");
        }
        let holds_others = family().filter_map(|own| self.group(own)).any(|own| {
            own.children
                .iter()
                .any(|child| !self.is_own(&own.path.join(child)))
        });
        (holds_others && !self.may_remove_pods())
            .then_some("made anew over pods while a kubelet may run")
    }

    /// Never early in the boot, and never one that is somebody's own.
    fn ask_for(&self, path: &CgroupPath) -> Option<&'static str> {
        let files = self.tree.slices.get(path).map(|unit| &unit.file);
        if matches!(self.judge.terms.occasion, Occasion::Early | Occasion::Boot) {
            return Some("asked systemd early in the boot");
        }
        match (self.is_wanted(path), files) {
            (true, Some(UnitFile::None | UnitFile::Transient)) => None,
            (false, _) => Some("asked for a slice that nobody wants"),
            (true, _) => Some("asked for a slice that is somebody's own, or with the wrong driver"),
        }
    }

    /// Only what the kubelet demands and has a unit file of its own.
    fn start(&self, path: &CgroupPath) -> Option<&'static str> {
        let files = self.tree.slices.get(path).map(|unit| &unit.file);
        let is_early = matches!(self.judge.terms.occasion, Occasion::Early | Occasion::Boot);
        let is_fair = self.is_wanted(path)
            && !self.is_own(path)
            && matches!(files, Some(UnitFile::Installed(_)));
        (is_early || !is_fair)
            .then_some("started a slice that is not demanded, or early in the boot")
    }

    fn remove_qos_group(&self, path: &CgroupPath) -> Option<&'static str> {
        let before_the_start = self.judge.terms.occasion == Occasion::PreStart;
        let is_weightless = !self.tree.offered().contains("cpu") || !self.tree.has_cpu_weight;
        let is_fair = self.layout.qos.contains(path) && !self.lives(path) && is_weightless;
        (!before_the_start || !is_fair).then_some("removed a QoS group that may be in use")
    }

    /// Only what a change of the driver left, with no life in it, and before the kubelet's start.
    fn remove_tree(&self, path: &CgroupPath) -> Option<&'static str> {
        let fair = self.tree.other.as_ref().is_some_and(|other| {
            other.kubepods == *path
                && !other.populated
                && !other.kubelet_runs
                && !self.is_wanted(path)
        });
        let before_the_start = self.judge.terms.occasion == Occasion::PreStart;
        (!(fair && before_the_start)).then_some("removed a tree that may be in use")
    }

    fn make(&self, path: &CgroupPath) -> Option<&'static str> {
        let parent = path.parent()?;
        let is_there = |path: &CgroupPath| self.group(path).is_some() || self.is_made(path);
        match (self.is_wanted(path), is_there(&parent)) {
            (true, true) => None,
            (false, _) => Some("made a group that nobody wants"),
            (_, false) => Some("made before its parent"),
        }
    }

    /// Only what the kubelet needs of what there is, and never beside a process.
    fn enable(&self, path: &CgroupPath, controllers: &Controllers) -> Option<&'static str> {
        let needed = layout::needed(&self.tree.offered());
        if !controllers.minus(&needed).is_empty() || controllers.is_empty() {
            return Some("controllers that nobody needs, or that are not offered");
        }
        if self.judge.terms.leave_cpu && controllers.contains("cpu") {
            return Some("cpu before the kubelet's own start");
        }
        if !self.is_wanted(path) {
            return Some("controllers of a foreign group");
        }
        match self.group(path) {
            None => (!self.is_made(path)).then_some("controllers of a group that is not there yet"),
            Some(group) if self.is_made(path) || group.kind == Kind::Root => None,
            Some(group) if !group.processes.is_empty() && !self.is_cleared(path) => {
                Some("beside a process")
            }
            Some(_) => self
                .after
                .iter()
                .any(|step| matches!(step, Step::MakeAnew(_)))
                .then_some("before a threaded group has gone"),
        }
    }
}
