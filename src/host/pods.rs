//! Pod groups, and which of them nobody wants any more.
//!
//! The kubelet names a pod's group by its uid (`Layout::pod_uid`) and keeps a directory
//! `pods/<uid>` under its root directory for as long as it cares for the pod
//! (`pkg/kubelet/kubelet_pods.go`, `cleanupOrphanedPodCgroups`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::cgroup::CgroupPath;
use crate::host::KUBELETS;
use crate::host::tasks;
use crate::root::{ReadError, Root};

/// The pod groups without a directory and without a process, and what is known around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many pod groups there are.
    pub groups: usize,
    /// Those without a process anywhere below and without a directory in [`Self::directory`]. They
    /// can be many thousands, and finding, plan and report speak of the same ones.
    pub abandoned: Rc<[AbandonedPod]>,
    /// The kubelet's `pods` directory.
    pub directory: PathBuf,
    /// Why nothing can be said about directories, where it cannot be read. Where it is not there,
    /// no pod is called stale either.
    pub unknown: Option<String>,
    /// Whether a kubelet runs now, which makes a pod's group before its directory. Only looked up
    /// when it matters.
    pub kubelet_runs: bool,
}

/// A pod group that fails both tests of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonedPod {
    /// Its group.
    pub group: CgroupPath,
    /// The directory that would say that the kubelet still cares for it; `None` where there can be
    /// none of that name.
    pub directory: Option<PathBuf>,
}

impl AbandonedPod {
    /// The pod of this group. A group called `pod` and no more has an empty uid: the kubelet takes
    /// it for an orphaned pod's and removes it (`GetAllPodsFromCgroups` in
    /// `pkg/kubelet/cm/pod_container_manager_linux.go`), and so may we.
    pub fn new(group: CgroupPath, uid: &OsStr, pods: &Path) -> Self {
        let is_name = !["", ".", ".."].iter().any(|other| uid == OsStr::new(other));
        Self {
            group,
            directory: is_name.then(|| pods.join(uid)),
        }
    }
}

/// Looks at the pod groups in `groups`, each with its pod's uid; `lives` says whether a process is
/// anywhere below.
///
/// # Errors
/// When a group's state cannot be read.
pub fn observe(
    root: &Root,
    groups: BTreeMap<CgroupPath, OsString>,
    lives: impl Fn(&CgroupPath) -> Result<bool, ReadError>,
    kubelet_root: &Path,
) -> Result<Pods, ReadError> {
    let mut pods = Pods {
        groups: groups.len(),
        directory: kubelet_root.join("pods"),
        ..Pods::default()
    };
    if groups.is_empty() {
        return Ok(pods);
    }
    let wanted: BTreeSet<OsString> = match root.directories(&pods.directory) {
        Ok(Some(names)) => names.into_iter().collect(),
        Ok(None) => return Ok(pods),
        Err(error) => {
            return Ok(Pods {
                unknown: Some(error.to_string()),
                ..pods
            });
        }
    };
    let mut abandoned = Vec::new();
    for (group, uid) in groups {
        if !wanted.contains(&uid) && !lives(&group)? {
            abandoned.push(AbandonedPod::new(group, &uid, &pods.directory));
        }
    }
    pods.abandoned = abandoned.into();
    if !pods.abandoned.is_empty() {
        pods.kubelet_runs = tasks::runs(root, &KUBELETS)?;
    }
    Ok(pods)
}
