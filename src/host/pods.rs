//! The groups of pods, and the two signs that a pod is still there.
//!
//! The kubelet names a pod's group by its uid (`Layout::pod_uid`) and keeps a directory
//! `pods/<uid>` under its root directory for as long as it cares for the pod
//! (`pkg/kubelet/kubelet_pods.go`, `cleanupOrphanedPodCgroups`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::host::tasks::{self, KUBELETS};
use crate::root::{ReadError, Root};

/// The pod groups, and what is known around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodGroups {
    /// All of them.
    pub groups: Vec<PodGroup>,
    /// The kubelet's `pods` directory.
    pub directory: PathBuf,
    /// Why nothing can be said about directories, where it cannot be read.
    pub unknown: Option<String>,
    /// Whether a kubelet runs now, which makes a pod's group before its directory. Only looked up
    /// where a group is empty.
    pub kubelet_runs: bool,
}

/// The group of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// Where.
    pub group: CgroupPath,
    /// The directory that would say that the kubelet still cares for it; `None` where there can be
    /// none of that name.
    pub directory: Option<PathBuf>,
    /// Whether it has that directory, or a process lives in the group or below. True where that was
    /// not to be found out.
    pub lives: bool,
}

impl PodGroup {
    /// The pod of this group. A group called `pod` and no more has an empty uid: the kubelet takes
    /// it for an orphaned pod's and removes it (`GetAllPodsFromCgroups` in
    /// `pkg/kubelet/cm/pod_container_manager_linux.go`), and so may we.
    pub fn new(group: CgroupPath, uid: &OsStr, pods: &Path, lives: bool) -> Self {
        let is_name = !["", ".", ".."].iter().any(|other| uid == OsStr::new(other));
        let directory = is_name.then(|| pods.join(uid));
        Self {
            group,
            directory,
            lives,
        }
    }

    /// Whether it has neither sign of life.
    pub fn is_empty(&self) -> bool {
        !self.lives
    }
}

/// Looks at the pod groups in `groups`, each with its pod's uid; `is_populated` says whether a
/// process is anywhere below.
///
/// # Errors
/// When a group's state cannot be read.
pub fn observe(
    root: &Root,
    groups: BTreeMap<CgroupPath, OsString>,
    is_populated: impl Fn(&CgroupPath) -> Result<bool, ReadError>,
    kubelet_root: &Path,
) -> Result<PodGroups, ReadError> {
    let mut pods = PodGroups {
        directory: kubelet_root.join("pods"),
        ..PodGroups::default()
    };
    if groups.is_empty() {
        return Ok(pods);
    }
    let wanted: Option<BTreeSet<OsString>> = match root.directories(&pods.directory) {
        Ok(names) => names.map(|names| names.into_iter().collect()),
        Err(error) => {
            pods.unknown = Some(error.to_string());
            None
        }
    };
    for (group, uid) in groups {
        let lives = match &wanted {
            Some(wanted) => wanted.contains(&uid) || is_populated(&group)?,
            None => true,
        };
        let pod = PodGroup::new(group, &uid, &pods.directory, lives);
        pods.groups.push(pod);
    }
    if pods.groups.iter().any(PodGroup::is_empty) {
        pods.kubelet_runs = tasks::runs(root, &KUBELETS)?;
    }
    Ok(pods)
}
