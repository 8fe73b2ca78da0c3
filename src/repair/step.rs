//! One change to the machine: in which order it is made, how it is said, and how it is done. What
//! is not here cannot be done.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::mounts::CGROUP_MOUNT;
use crate::host::pods::PodGroup;
use crate::host::v1::Hierarchies;
use crate::host::{Host, Tree};
use crate::repair::processes::Refuge;
use crate::repair::{Effect, RepairError, controllers, groups, processes, slices, v1, write_file};
use crate::repair::{state_files, units};
use crate::root::Root;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes `max` to `cgroup.max.descendants` or `cgroup.max.depth` of a group of the kubelet's
    /// own, or to its `memory.max`, which the kubelet sets anew at each start; on version 1 `-1`
    /// to `memory.limit_in_bytes`.
    LiftLimit {
        /// The group.
        group: CgroupPath,
        /// The file in it.
        file: &'static str,
    },
    /// Removes the groups of deleted pods that nothing lives in.
    RemovePods(Rc<[PodGroup]>),
    /// Removes the tree that another cgroup driver left, if nothing lives in it.
    RemoveTree(CgroupPath),
    /// Removes the group of a QoS class that the kubelet would die of updating, if nothing lives in
    /// it.
    RemoveQosGroup(CgroupPath),
    /// Moves every process that sits directly in `from`.
    MoveProcesses {
        /// A group of the kubelet's own.
        from: CgroupPath,
        /// The group for strays, or the one for frozen strays in it; made when it is missing.
        to: CgroupPath,
        /// Whether they are frozen; then `to` is frozen before they come.
        frozen: bool,
    },
    /// Removes a threaded group, empty of processes, with the empty groups below, and makes it
    /// again.
    MakeAnew(CgroupPath),
    /// Makes a group; on version 1 in every hierarchy that lacks it.
    Make(CgroupPath),
    /// Makes the group of a QoS class, unless the kubelet could not update its weight.
    MakeQosGroup(CgroupPath),
    /// Starts a slice that has a unit file of its own, and tells systemd nothing else about it.
    StartSlice(CgroupPath),
    /// Asks systemd for a slice as libcontainer does, and such that it keeps controllers on above
    /// it.
    AskForSlice {
        /// The slice's group.
        slice: CgroupPath,
        /// cpu and cpuset, where nothing else makes systemd keep them.
        keeping: Controllers,
    },
    /// Switches controllers on in a group's `cgroup.subtree_control`: all of them or none.
    Enable {
        /// The group.
        group: CgroupPath,
        /// The controllers.
        controllers: Controllers,
    },
    /// Mounts a version 1 hierarchy.
    Mount {
        /// Its controllers or its name, as the kernel's options say it.
        options: String,
        /// An empty directory.
        point: PathBuf,
    },
    /// Copies `cpuset.cpus` and `cpuset.mems` of a version 1 group from its parent, where they are
    /// empty.
    FillCpuset(CgroupPath),
    /// Thaws a group that nothing lives in.
    Thaw(CgroupPath),
    /// Removes the group for strays, once it is empty.
    RemoveStraysGroup(CgroupPath),
    /// Restarts a unit of MicroK8s, once a boot, and waits until it is done.
    Restart {
        /// The unit.
        unit: String,
        /// What is noted of it: a line for each task that is to go.
        stamp: String,
    },
    /// Renames a damaged state file, so that the kubelet begins a new one.
    SetAside {
        /// The file.
        file: PathBuf,
        /// Becomes part of the new name.
        boot_id: String,
    },
}

/// When a step's turn comes. First what is in the kubelet's way, then threaded groups, which make
/// their parent refuse controllers, then what builds, from the root down, then the thaw.
/// Housekeeping comes last: the kubelet starts without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The task that blocks a controller has to go before anything else can succeed.
    Unblock,
    /// Room for what has to be made.
    MakeRoom,
    /// Processes leave the groups that have to pass controllers on.
    Clear,
    /// Threaded groups go.
    MakeAnew,
    /// The tree is built, from the root down.
    Build,
    /// Frozen groups are thawed.
    Thaw,
    /// State files are set aside.
    SetAside,
    /// What only takes up room goes.
    Housekeeping,
}

/// A step in words, such as `made`, `make`, `/sys/fs/cgroup/kubepods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepWords {
    /// Past tense.
    pub done: &'static str,
    /// Plain form.
    pub plain: &'static str,
    /// What it is done to, with all that belongs to it.
    pub object: String,
}

impl Step {
    /// [`Self::Enable`] of these controllers in this group.
    pub fn enable(group: &CgroupPath, controllers: Controllers) -> Self {
        let group = group.clone();
        Self::Enable { group, controllers }
    }

    /// When its turn comes.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Restart { .. } => Phase::Unblock,
            Self::LiftLimit { .. } | Self::RemoveQosGroup(_) => Phase::MakeRoom,
            Self::MoveProcesses { .. } => Phase::Clear,
            Self::MakeAnew(_) => Phase::MakeAnew,
            Self::Mount { .. }
            | Self::Make(_)
            | Self::MakeQosGroup(_)
            | Self::AskForSlice { .. }
            | Self::StartSlice(_)
            | Self::Enable { .. }
            | Self::FillCpuset(_) => Phase::Build,
            Self::Thaw(_) => Phase::Thaw,
            Self::SetAside { .. } => Phase::SetAside,
            Self::RemoveStraysGroup(_) | Self::RemoveTree(_) | Self::RemovePods(_) => {
                Phase::Housekeeping
            }
        }
    }

    /// Its place within its phase: from the root down, and a group has to be there before it can
    /// pass anything on.
    pub fn order(&self) -> (usize, u8) {
        let depth = self.group().map_or(0, CgroupPath::depth);
        match self {
            Self::Enable { .. } | Self::FillCpuset(_) => (depth, 1),
            // After all limits, however deep.
            Self::RemoveQosGroup(_) => (usize::MAX, 1),
            // They may hold the group for strays: it goes first.
            Self::RemoveTree(_) | Self::RemovePods(_) => (usize::MAX, 0),
            _ => (depth, 0),
        }
    }

    /// Whether this adds to the tree; the others only take away what is in the way.
    pub fn builds(&self) -> bool {
        matches!(self.phase(), Phase::MakeAnew | Phase::Build)
    }

    /// Whether the kubelet starts without this step, too: it is taken last and has a time limit of
    /// its own.
    pub fn is_housekeeping(&self) -> bool {
        self.phase() == Phase::Housekeeping
    }

    /// The group that is changed (of many pods, the first one's).
    pub fn group(&self) -> Option<&CgroupPath> {
        match self {
            Self::LiftLimit { group, .. }
            | Self::Enable { group, .. }
            | Self::MoveProcesses { from: group, .. }
            | Self::AskForSlice { slice: group, .. }
            | Self::MakeAnew(group)
            | Self::Make(group)
            | Self::MakeQosGroup(group)
            | Self::RemoveTree(group)
            | Self::RemoveQosGroup(group)
            | Self::FillCpuset(group)
            | Self::StartSlice(group)
            | Self::Thaw(group)
            | Self::RemoveStraysGroup(group) => Some(group),
            Self::RemovePods(pods) => pods.first().map(|pod| &pod.group),
            Self::Mount { .. } | Self::Restart { .. } | Self::SetAside { .. } => None,
        }
    }

    /// What it is taken on: a group's directory below `mount`, a mount point, a file or a unit.
    pub fn place(&self, mount: &Path) -> String {
        match self {
            Self::Mount { point, .. } => point.display().to_string(),
            Self::Restart { unit, .. } => unit.clone(),
            Self::SetAside { file, .. } => file.display().to_string(),
            _ => {
                let directory = self.group().map(|group| group.under(mount));
                directory.as_deref().unwrap_or(mount).display().to_string()
            }
        }
    }

    /// What it does; groups are shown below `mount`.
    pub fn words(&self, mount: &Path) -> StepWords {
        let dir = |group: &CgroupPath| group.under(mount).display().to_string();
        let (done, plain, object) = match self {
            Self::LiftLimit { group, file } => {
                let none = v1::no_limit(file);
                ("wrote", "write", format!("{none} to {}/{file}", dir(group)))
            }
            Self::RemovePods(pods) => {
                let object = match &**pods {
                    [only] => format!("the stale pod group {}", dir(&only.group)),
                    pods => format!("{} stale pod groups", pods.len()),
                };
                ("removed", "remove", object)
            }
            Self::RemoveTree(group) => ("removed", "remove", dir(group) + " with all below"),
            Self::MoveProcesses { from, to, frozen } => {
                let frozen = if *frozen { "frozen " } else { "" };
                let object = format!("the {frozen}processes of {} to {}", dir(from), dir(to));
                ("moved", "move", object)
            }
            Self::MakeAnew(group) => ("made", "make", dir(group) + " anew"),
            Self::Make(group) | Self::MakeQosGroup(group) => ("made", "make", dir(group)),
            Self::RemoveQosGroup(group) => ("removed", "remove", dir(group)),
            Self::StartSlice(slice) => ("started", "start", slice.name().display().to_string()),
            Self::AskForSlice { slice, keeping } => {
                let mut object = slice.name().display().to_string();
                if !keeping.is_empty() {
                    object += &format!(", keeping {keeping}");
                }
                ("asked systemd for", "ask systemd for", object)
            }
            Self::Enable { group, controllers } => {
                let file = group.under(mount).join("cgroup.subtree_control");
                let object = format!("{controllers} in {}", file.display());
                ("switched on", "switch on", object)
            }
            Self::Mount { options, point } => {
                let object = format!("{options} on {}", point.display());
                ("mounted", "mount", object)
            }
            Self::FillCpuset(group) => {
                let group = dir(group);
                let object = format!("the CPUs and memory nodes of {group} from its parent");
                ("filled", "fill", object)
            }
            Self::Thaw(group) => ("thawed", "thaw", dir(group)),
            Self::Restart { unit, .. } => ("restarted", "restart", unit.clone()),
            Self::SetAside { file, .. } => ("set aside", "set aside", file.display().to_string()),
            Self::RemoveStraysGroup(group) => {
                ("removed", "remove", format!("the empty {}", dir(group)))
            }
        };
        StepWords {
            done,
            plain,
            object,
        }
    }

    /// Takes it. What removes many groups ends at `until`.
    ///
    /// # Errors
    /// What the kernel or systemd answered; nothing of the step is left half done that matters.
    pub fn take(&self, root: &Root, host: &Host, until: Instant) -> Result<Effect, RepairError> {
        match (self, &host.tree, &host.v1) {
            (Self::Restart { unit, stamp }, ..) => units::restart(unit, stamp),
            (Self::SetAside { file, boot_id }, ..) => state_files::set_aside(file, boot_id),
            (_, Some(tree), _) => self.take_on_tree(root, tree, until),
            (_, None, Some(hierarchies)) => self.take_on_hierarchies(root, hierarchies, until),
            (_, None, None) => Err(self.is_misplaced()),
        }
    }

    fn take_on_tree(
        &self,
        root: &Root,
        tree: &Tree,
        until: Instant,
    ) -> Result<Effect, RepairError> {
        let directory = |group: &CgroupPath| group.under(&tree.mount);
        match self {
            Self::LiftLimit { group, file } => {
                write_file(&tree.file(group, file), v1::no_limit(file))?;
            }
            Self::RemovePods(pods) => return groups::remove_pods(root, tree, pods, until),
            Self::RemoveTree(group) => groups::remove_tree(root, tree, group)?,
            Self::RemoveQosGroup(group) => groups::remove_qos_group(root, tree, group)?,
            Self::MoveProcesses { from, to, frozen } => {
                let (group, frozen) = (to, *frozen);
                let to = Refuge {
                    tree,
                    group,
                    frozen,
                };
                return processes::move_out(root, &directory(from), &to);
            }
            Self::MakeAnew(group) => return groups::make_anew(root, tree, group),
            Self::Make(group) => return groups::make(&directory(group)),
            Self::MakeQosGroup(group) => return groups::make_qos_group(root, tree, group),
            Self::StartSlice(slice) => slices::start(slice)?,
            Self::AskForSlice { slice, keeping } => {
                slices::ask_for(root, &tree.mount, slice, keeping)?;
                // Where the directory was removed, systemd still believes it to be there.
                groups::make(&directory(slice))?;
            }
            Self::Enable { group, controllers } => {
                return controllers::enable(root, tree, group, controllers);
            }
            Self::Thaw(group) => groups::thaw(root, tree, group)?,
            Self::RemoveStraysGroup(group) => {
                groups::remove_with_all_below(root, &directory(group))?;
            }
            Self::Mount { .. }
            | Self::FillCpuset(_)
            | Self::Restart { .. }
            | Self::SetAside { .. } => return Err(self.is_misplaced()),
        }
        Ok(Effect::Done(None))
    }

    fn take_on_hierarchies(
        &self,
        root: &Root,
        hierarchies: &Hierarchies,
        until: Instant,
    ) -> Result<Effect, RepairError> {
        let points = hierarchies.points();
        match self {
            Self::Mount { options, point } => v1::mount_hierarchy(options, point),
            Self::Make(group) | Self::MakeQosGroup(group) => v1::make(hierarchies, group),
            Self::LiftLimit { group, file } => v1::lift(hierarchies, group, file),
            Self::FillCpuset(group) => v1::fill(root, hierarchies, group),
            Self::Thaw(group) => v1::thaw(root, hierarchies, group),
            Self::AskForSlice { slice, keeping } => {
                slices::ask_for(root, Path::new(CGROUP_MOUNT), slice, keeping)?;
                Ok(Effect::Done(None))
            }
            Self::RemoveTree(group) => v1::remove_tree(root, &points, group),
            Self::RemovePods(pods) => {
                let by_systemd = !hierarchies.slices.is_empty();
                groups::each_pod(pods, by_systemd, until, |systemd, pod| {
                    v1::remove_pod(root, &points, systemd, pod)
                })
            }
            Self::Restart { .. }
            | Self::SetAside { .. }
            | Self::MoveProcesses { .. }
            | Self::MakeAnew(_)
            | Self::Enable { .. }
            | Self::RemoveStraysGroup(_)
            | Self::RemoveQosGroup(_)
            | Self::StartSlice(_) => Err(self.is_misplaced()),
        }
    }

    /// No rule plans such a step for this host.
    fn is_misplaced(&self) -> RepairError {
        let words = self.words(Path::new("/"));
        RepairError::Misplaced {
            step: format!("{} {}", words.plain, words.object),
        }
    }
}
