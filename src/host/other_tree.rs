//! The kubepods of the cgroup driver that the kubelet does not use.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::host::tasks;
use crate::root::{ReadError, Root};

/// The tree that a change of the cgroup driver leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTree {
    /// The root of its pods, as that driver names it.
    pub kubepods: CgroupPath,
    /// Whether any group in it holds a process.
    pub populated: bool,
    /// Whether a kubelet is running that may still use it. Only looked up if no group in it holds a
    /// process.
    pub kubelet_runs: bool,
}

impl OtherTree {
    /// Looks for `kubepods` in the hierarchies on `points`.
    ///
    /// # Errors
    /// When a group's state cannot be read, or `/proc` cannot be listed.
    pub fn observe(
        root: &Root,
        points: &[&Path],
        kubepods: CgroupPath,
        is_populated: impl Fn(&CgroupPath) -> Result<bool, ReadError>,
    ) -> Result<Option<Self>, ReadError> {
        for point in points {
            if root.directories(&kubepods.under(point))?.is_some() {
                let populated = is_populated(&kubepods)?;
                return Ok(Some(Self {
                    kubepods,
                    populated,
                    kubelet_runs: !populated && tasks::kubelet_runs(root)?,
                }));
            }
        }
        Ok(None)
    }
}
