//! The groups of pods, and the two signs that a pod still exists: a directory and a process.
//!
//! The kubelet names a pod's group by its uid (`Layout::pod_uid`), and keeps a directory
//! `pods/<uid>` under its root directory for as long as it manages the pod
//! (`pkg/kubelet/kubelet_pods.go`, `cleanupOrphanedPodCgroups`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::host::tasks;
use crate::root::{ReadError, Root};

/// The pod groups, and what else is needed to judge them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodGroups {
    /// Each group whose name is that of a pod's group.
    pub groups: Vec<PodGroup>,
    /// The kubelet's `pods` directory.
    pub directory: PathBuf,
    /// Why that directory cannot be listed, if it cannot.
    pub unknown: Option<String>,
    /// Whether a kubelet is running, which creates a pod's group before its directory. Only looked
    /// up if a group is empty.
    pub kubelet_runs: bool,
}

/// One pod's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// Its place in the hierarchy.
    pub group: CgroupPath,
    /// The directory that shows that the kubelet still manages the pod; `None` if no directory can
    /// have that name.
    pub directory: Option<PathBuf>,
    /// Whether that directory exists, or the group or one below it holds a process. True if the
    /// directories cannot be listed.
    pub lives: bool,
}

impl PodGroup {
    /// The pod group with this uid. A group called just `pod` has an empty uid: the kubelet takes
    /// it for the group of an orphaned pod and removes it (`GetAllPodsFromCgroups` in
    /// `pkg/kubelet/cm/pod_container_manager_linux.go`), so this program may remove it, too.
    pub fn new(group: CgroupPath, uid: &OsStr, pods: &Path, lives: bool) -> Self {
        let is_name = !["", ".", ".."].map(OsStr::new).contains(&uid);
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

/// Examines the pod groups in `groups`, which map to the uids of their pods. `is_populated` returns
/// whether a group or one below it holds a process.
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
    let wanted = root.directories(&pods.directory);
    pods.unknown = wanted.as_ref().err().map(ToString::to_string);
    let wanted = wanted.ok().flatten();
    let wanted: Option<BTreeSet<OsString>> = wanted.map(|names| names.into_iter().collect());
    for (group, uid) in groups {
        let lives = match &wanted {
            Some(wanted) => wanted.contains(&uid) || is_populated(&group)?,
            None => true,
        };
        let pod = PodGroup::new(group, &uid, &pods.directory, lives);
        pods.groups.push(pod);
    }
    if pods.groups.iter().any(PodGroup::is_empty) {
        pods.kubelet_runs = tasks::kubelet_runs(root)?;
    }
    Ok(pods)
}
