//! kubepods of the cgroup driver that the kubelet does not use.

use crate::cgroup::CgroupPath;
use crate::host::tasks::{self, KUBELETS};
use crate::root::{ReadError, Root};

/// What a change of the cgroup driver leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTree {
    /// Its kubepods.
    pub kubepods: CgroupPath,
    /// Whether a process lives anywhere in it.
    pub populated: bool,
    /// Whether a kubelet runs that may still use it. Only looked up where nothing lives in it.
    pub kubelet_runs: bool,
}

impl OtherTree {
    /// Looks for a kubelet where nothing lives in the tree.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn new(root: &Root, kubepods: CgroupPath, populated: bool) -> Result<Self, ReadError> {
        let kubelet_runs = !populated && tasks::runs(root, &KUBELETS)?;
        Ok(Self {
            kubepods,
            populated,
            kubelet_runs,
        })
    }
}
