//! One change to the machine: its place in the order, its words, and how it is made. The program
//! can make no change that is not listed here.

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
    /// Writes `max` to `cgroup.max.descendants` or `cgroup.max.depth` of one of the kubelet's own
    /// groups, or to its `memory.max`, which the kubelet sets again at each start; on version 1
    /// `-1` to `memory.limit_in_bytes`.
    LiftLimit {
        /// The group.
        group: CgroupPath,
        /// The file in it.
        file: &'static str,
    },
    /// Removes the groups of deleted pods that hold no process.
    RemovePods(Rc<Vec<PodGroup>>),
    /// Removes the tree that another cgroup driver left, if it holds no process.
    RemoveTree(CgroupPath),
    /// Removes the group of a QoS class that the kubelet cannot update and therefore ends on, if
    /// the group holds no process.
    RemoveQosGroup(CgroupPath),
    /// Moves every process that sits directly in `from`.
    MoveProcesses {
        /// A group of the kubelet's own.
        from: CgroupPath,
        /// The group for strays, or the one for frozen strays in it; created when it is missing.
        to: CgroupPath,
        /// Whether they are frozen; then `to` is frozen before they are moved.
        frozen: bool,
    },
    /// Removes a threaded group that holds no process, with the empty groups below it, and creates
    /// it again.
    MakeAnew(CgroupPath),
    /// Creates a group; on version 1 in every hierarchy that lacks it.
    Make(CgroupPath),
    /// Creates the group of a QoS class, unless the kubelet could not update its weight.
    MakeQosGroup(CgroupPath),
    /// Starts a slice that has a unit file of its own, and sets no property of it.
    StartSlice(CgroupPath),
    /// Asks systemd for a slice as libcontainer does, with properties that make systemd keep
    /// controllers enabled in the groups above it.
    AskForSlice {
        /// The slice's group.
        slice: CgroupPath,
        /// cpu and cpuset, where nothing else makes systemd keep them enabled.
        keeping: Controllers,
    },
    /// Enables controllers in a group's `cgroup.subtree_control`: all of them or none.
    Enable {
        /// The group.
        group: CgroupPath,
        /// The controllers.
        controllers: Controllers,
    },
    /// Mounts a version 1 hierarchy.
    Mount {
        /// Its controllers or its name, as the mount options spell them.
        options: String,
        /// The mount point, an empty directory.
        point: PathBuf,
    },
    /// Copies `cpuset.cpus` and `cpuset.mems` of a version 1 group from its parent, where they are
    /// empty.
    FillCpuset(CgroupPath),
    /// Thaws a group that holds no process.
    Thaw(CgroupPath),
    /// Removes the group for strays once it is empty.
    RemoveStraysGroup(CgroupPath),
    /// Restarts a unit of MicroK8s, once per boot, and waits until the restart is done.
    Restart {
        /// The name of the unit.
        unit: String,
        /// What to record about the restart: a line for each task that it is meant to end.
        stamp: String,
    },
    /// Renames a damaged state file, so that the kubelet creates a new one.
    SetAside {
        /// The damaged file.
        file: PathBuf,
        /// Becomes part of the new name.
        boot_id: String,
    },
}

/// The phase of a repair that a step belongs to. First go the obstacles, then threaded groups,
/// which keep their parent from enabling controllers; then the tree is built from the root down,
/// and frozen groups are thawed. Housekeeping comes last, because the kubelet starts without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The task that blocks a controller has to go before anything else can succeed.
    Unblock,
    /// Limits and leftovers that leave no room for new groups go.
    MakeRoom,
    /// Processes leave the groups that have to enable controllers for their children.
    Clear,
    /// Threaded groups go.
    MakeAnew,
    /// The tree is built, from the root down.
    Build,
    /// Frozen groups are thawed.
    Thaw,
    /// State files are set aside.
    SetAside,
    /// Leftovers that only take up room go.
    Housekeeping,
}

/// A step in words, such as `created`, `create`, `/sys/fs/cgroup/kubepods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepWords {
    /// The verb in the past tense.
    pub done: &'static str,
    /// The verb as it follows "would".
    pub plain: &'static str,
    /// The rest of the sentence: what is changed, and how.
    pub object: String,
}

impl Step {
    /// [`Self::Enable`] of these controllers in this group.
    pub fn enable(group: &CgroupPath, controllers: Controllers) -> Self {
        let group = group.clone();
        Self::Enable { group, controllers }
    }

    /// The phase of the repair that it belongs to.
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

    /// Its place within its phase: from the root down, and a group has to exist before controllers
    /// can be enabled in it.
    pub fn order(&self) -> (usize, u8) {
        let depth = self.group().map_or(0, CgroupPath::depth);
        match self {
            Self::Enable { .. } | Self::FillCpuset(_) => (depth, 1),
            // After all limits, however deep.
            Self::RemoveQosGroup(_) => (usize::MAX, 1),
            // The group for strays may lie in one of these, so it goes first.
            Self::RemoveTree(_) | Self::RemovePods(_) => (usize::MAX, 0),
            _ => (depth, 0),
        }
    }

    /// Whether this adds to the tree; the other steps only remove obstacles.
    pub fn builds(&self) -> bool {
        matches!(self.phase(), Phase::MakeAnew | Phase::Build)
    }

    /// Whether the kubelet starts even without this step. Such a step comes last and has a time
    /// limit of its own.
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

    /// What the step changes: a group's directory below `mount`, a mount point, a file or a unit.
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

    /// The step in words; groups are shown below `mount`.
    pub fn words(&self, mount: &Path) -> StepWords {
        let dir = |group: &CgroupPath| group.under(mount).display().to_string();
        // On version 1 a group is in several hierarchies, and has no single directory.
        let named = |group: &CgroupPath| {
            let is_v1 = mount == Path::new("/");
            let cgroup = if is_v1 { "cgroup " } else { "" };
            format!("{cgroup}{}", dir(group))
        };
        let (done, plain, object) = match self {
            Self::LiftLimit { group, file } => {
                let none = v1::no_limit(file);
                ("set", "set", format!("{}/{file} to {none}", dir(group)))
            }
            Self::RemovePods(pods) => {
                let object = match pods.as_slice() {
                    [only] => format!("the stale pod cgroup {}", dir(&only.group)),
                    pods => format!("{} stale pod cgroups", pods.len()),
                };
                ("removed", "remove", object)
            }
            Self::RemoveTree(group) => {
                let object = named(group) + " and everything below it";
                ("removed", "remove", object)
            }
            Self::MoveProcesses { from, to, frozen } => {
                let frozen = if *frozen { "frozen " } else { "" };
                let object = format!("the {frozen}processes in {} to {}", dir(from), dir(to));
                ("moved", "move", object)
            }
            Self::MakeAnew(group) => ("recreated", "recreate", dir(group)),
            Self::Make(group) | Self::MakeQosGroup(group) => ("created", "create", named(group)),
            Self::RemoveQosGroup(group) => ("removed", "remove", dir(group)),
            Self::StartSlice(slice) => ("started", "start", slice.name().display().to_string()),
            Self::AskForSlice { slice, keeping } => {
                let mut object = format!("{} through systemd", slice.name().display());
                if !keeping.is_empty() {
                    object += &format!(", keeping {keeping} enabled");
                }
                ("set up", "set up", object)
            }
            Self::Enable { group, controllers } => {
                let file = group.under(mount).join("cgroup.subtree_control");
                let object = format!("{controllers} in {}", file.display());
                ("enabled", "enable", object)
            }
            Self::Mount { options, point } => {
                let object = format!("the cgroup v1 hierarchy {options} on {}", point.display());
                ("mounted", "mount", object)
            }
            Self::FillCpuset(group) => {
                let group = named(group);
                let object = format!("cpuset.cpus and cpuset.mems to {group} from its parent");
                ("copied", "copy", object)
            }
            Self::Thaw(group) => ("thawed", "thaw", named(group)),
            Self::Restart { unit, .. } => ("restarted", "restart", unit.clone()),
            Self::SetAside { file, .. } => ("set aside", "set aside", file.display().to_string()),
            Self::RemoveStraysGroup(group) => (
                "removed",
                "remove",
                format!("the empty cgroup {}", dir(group)),
            ),
        };
        StepWords {
            done,
            plain,
            object,
        }
    }

    /// Makes the change. A step that removes many groups stops at `until`.
    ///
    /// # Errors
    /// When the kernel or systemd refuses. What is left half done then does no harm.
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
            Self::RemovePods(stale) => return groups::remove_pods(root, tree, stale, until),
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
                // systemd does not notice if another program has removed the directory.
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
            Self::RemovePods(stale) => v1::remove_pods(root, hierarchies, stale, until),
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

    /// The error of a step that does not fit this host. No rule plans such a step.
    fn is_misplaced(&self) -> RepairError {
        let words = self.words(Path::new("/"));
        RepairError::Misplaced {
            step: format!("{} {}", words.plain, words.object),
        }
    }
}
