//! The groups of pods, and the two signs that a pod still exists: a directory and a process.
//!
//! The kubelet names a pod's group by its uid (`Layout::pod_uid`), and keeps a directory
//! `pods/<uid>` under its root directory for as long as it manages the pod
//! (`pkg/kubelet/kubelet_pods.go`, `cleanupOrphanedPodCgroups`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::cgroup::CgroupPath;
use crate::host::tasks;
use crate::root::{ReadError, Root};

/// The pod groups, and what else is needed to judge them. They can be many thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodGroups {
    /// The groups with a sign of life; all of them if the directories cannot be listed.
    pub living: Vec<CgroupPath>,
    /// The groups without one. The finding, the plan and the report share this list.
    pub lifeless: Rc<Vec<PodGroup>>,
    /// The kubelet's `pods` directory.
    pub directory: PathBuf,
    /// Why that directory cannot be listed, if it cannot.
    pub unknown: Option<String>,
    /// Whether a kubelet is running, which creates a pod's group before its directory. Only looked
    /// up if a group is lifeless.
    pub kubelet_runs: bool,
}

/// The group of a pod, with neither a process nor a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// Its place in the hierarchy.
    pub group: CgroupPath,
    /// The name of the directory in [`PodGroups::directory`] that would show that the kubelet still
    /// manages the pod. It is empty if the group is called just `pod`: the kubelet takes such a
    /// group for that of an orphaned pod and removes it (`GetAllPodsFromCgroups` in
    /// `pkg/kubelet/cm/pod_container_manager_linux.go`), so this program may remove it, too.
    pub uid: OsString,
}

/// Examines the pod groups in `groups`, each with its pod's uid. `is_populated` returns whether
/// a group or one below it holds a process.
///
/// # Errors
/// When a group's state cannot be read.
pub fn observe(
    root: &Root,
    groups: impl IntoIterator<Item = (CgroupPath, OsString)>,
    is_populated: impl Fn(&CgroupPath) -> Result<bool, ReadError>,
    kubelet_root: &Path,
) -> Result<PodGroups, ReadError> {
    let mut pods = PodGroups {
        directory: kubelet_root.join("pods"),
        ..PodGroups::default()
    };
    let mut groups = groups.into_iter().peekable();
    if groups.peek().is_none() {
        return Ok(pods);
    }
    let wanted = root.directories(&pods.directory);
    pods.unknown = wanted.as_ref().err().map(ToString::to_string);
    let wanted = wanted.ok().flatten();
    let wanted: Option<BTreeSet<OsString>> = wanted.map(|names| names.into_iter().collect());
    let mut lifeless = Vec::new();
    for (group, uid) in groups {
        let lives = match &wanted {
            Some(wanted) => wanted.contains(&uid) || is_populated(&group)?,
            None => true,
        };
        if lives {
            pods.living.push(group);
        } else {
            lifeless.push(PodGroup { group, uid });
        }
    }
    lifeless.sort_unstable_by(|one, other| one.group.cmp(&other.group));
    pods.lifeless = Rc::new(lifeless);
    if !pods.lifeless.is_empty() {
        pods.kubelet_runs = tasks::kubelet_runs(root)?;
    }
    Ok(pods)
}
