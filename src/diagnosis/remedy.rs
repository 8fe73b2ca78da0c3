//! What can be done about a finding: the words that diagnosis, plan, repair and report share.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::cgroup::{CgroupPath, Controllers};
use crate::diagnosis::catalogue::Fault;
use crate::host::pods::AbandonedPod;
use crate::host::v1::MEMORY_LIMIT;

/// The answer to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// This program does it.
    Steps(Vec<Step>),
    /// Somebody else has to: what, without a full stop.
    Tell(String),
    /// It would be done, but for this other fault that has to be cured first.
    Waits(Fault),
}

/// A step in words, such as `made`, `make`, `/sys/fs/cgroup/kubepods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Past tense.
    pub done: &'static str,
    /// Plain form.
    pub plain: &'static str,
    /// What it is done to, with all that belongs to it.
    pub object: String,
}
/// What `memory.limit_in_bytes` takes for no limit.
pub const NO_LIMIT: &str = "-1";

/// One change to the machine. What is not here cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes `max` to `cgroup.max.descendants` or `cgroup.max.depth` of a group of the kubelet's
    /// own, or to its `memory.max`, which the kubelet sets anew at each start; on version 1
    /// [`NO_LIMIT`] to `memory.limit_in_bytes`.
    LiftLimit {
        /// Whose.
        group: CgroupPath,
        /// Which file.
        file: &'static str,
    },
    /// Removes pod groups that nobody wants and nothing lives in.
    RemovePods(Rc<[AbandonedPod]>),
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
        /// Which.
        slice: CgroupPath,
        /// cpu and cpuset, where nothing else makes systemd keep them.
        keeping: Controllers,
    },
    /// Switches controllers on in a group's `cgroup.subtree_control`.
    Enable {
        /// Whose.
        group: CgroupPath,
        /// Which: all of them or none.
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
        /// Which.
        unit: String,
        /// What is noted of it: a line for each task that is to go.
        stamp: String,
    },
    /// Renames a damaged checkpoint, so that the kubelet begins a new one.
    SetAside {
        /// The file.
        file: PathBuf,
        /// Becomes part of the new name.
        boot_id: String,
    },
}

impl Step {
    /// What it does; groups are shown below `mount`.
    pub fn words(&self, mount: &Path) -> Words {
        let dir = |group: &CgroupPath| group.under(mount).display().to_string();
        let (done, plain, object) = match self {
            Self::LiftLimit { group, file } => {
                let none = if *file == MEMORY_LIMIT {
                    NO_LIMIT
                } else {
                    "max"
                };
                ("wrote", "write", format!("{none} to {}/{file}", dir(group)))
            }
            Self::RemovePods(pods) => match &**pods {
                [only] => (
                    "removed",
                    "remove",
                    format!("the stale pod group {}", dir(&only.group)),
                ),
                pods => (
                    "removed",
                    "remove",
                    format!("{} stale pod groups", pods.len()),
                ),
            },
            Self::RemoveTree(group) => (
                "removed",
                "remove",
                format!("{} with all below", dir(group)),
            ),
            Self::MoveProcesses { from, to, frozen } => {
                let frozen = if *frozen { "frozen " } else { "" };
                (
                    "moved",
                    "move",
                    format!("the {frozen}processes of {} to {}", dir(from), dir(to)),
                )
            }
            Self::MakeAnew(group) => ("made", "make", format!("{} anew", dir(group))),
            Self::Make(group) | Self::MakeQosGroup(group) => ("made", "make", dir(group)),
            Self::RemoveQosGroup(group) => ("removed", "remove", dir(group)),
            Self::StartSlice(slice) => ("started", "start", slice.name().display().to_string()),
            Self::AskForSlice { slice, keeping } => {
                let keeping = if keeping.is_empty() {
                    String::new()
                } else {
                    format!(", keeping {keeping}")
                };
                (
                    "asked systemd for",
                    "ask systemd for",
                    format!("{}{keeping}", slice.name().display()),
                )
            }
            Self::Enable { group, controllers } => {
                let file = group.under(mount).join("cgroup.subtree_control");
                (
                    "switched on",
                    "switch on",
                    format!("{controllers} in {}", file.display()),
                )
            }
            Self::Mount { options, point } => (
                "mounted",
                "mount",
                format!("{options} on {}", point.display()),
            ),
            Self::FillCpuset(group) => (
                "filled",
                "fill",
                format!(
                    "the CPUs and memory nodes of {} from its parent",
                    dir(group)
                ),
            ),
            Self::Thaw(group) => ("thawed", "thaw", dir(group)),
            Self::Restart { unit, .. } => ("restarted", "restart", unit.clone()),
            Self::SetAside { file, .. } => ("set aside", "set aside", file.display().to_string()),
            Self::RemoveStraysGroup(group) => {
                ("removed", "remove", format!("the empty {}", dir(group)))
            }
        };
        Words {
            done,
            plain,
            object,
        }
    }

    /// Whether this adds to the tree; the others only take away what is in the way.
    pub fn builds(&self) -> bool {
        matches!(
            self,
            Self::MakeAnew(_)
                | Self::Make(_)
                | Self::MakeQosGroup(_)
                | Self::StartSlice(_)
                | Self::AskForSlice { .. }
                | Self::Enable { .. }
                | Self::Mount { .. }
                | Self::FillCpuset(_)
        )
    }

    /// Whether the kubelet starts without this step, too: it is taken last and has a time limit of
    /// its own.
    pub fn is_housekeeping(&self) -> bool {
        matches!(
            self,
            Self::RemovePods(_) | Self::RemoveTree(_) | Self::RemoveStraysGroup(_)
        )
    }

    /// The group that is changed (of many pods, the first one's).
    pub fn group(&self) -> Option<&CgroupPath> {
        match self {
            Self::LiftLimit { group, .. }
            | Self::Enable { group, .. }
            | Self::MoveProcesses { from: group, .. } => Some(group),
            Self::MakeAnew(group) | Self::Make(group) | Self::MakeQosGroup(group) => Some(group),
            Self::RemoveTree(group) | Self::RemoveQosGroup(group) | Self::FillCpuset(group) => {
                Some(group)
            }
            Self::StartSlice(group) => Some(group),
            Self::Thaw(group) | Self::RemoveStraysGroup(group) => Some(group),
            Self::AskForSlice { slice, .. } => Some(slice),
            Self::RemovePods(pods) => pods.first().map(|pod| &pod.group),
            Self::Mount { .. } | Self::Restart { .. } | Self::SetAside { .. } => None,
        }
    }
}
