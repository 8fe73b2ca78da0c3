//! Moves whole processes out of a group, and leaves them running.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::CgroupPath;
use crate::host::{Tree, group};
use crate::repair::{Effect, RepairError, groups, inhabited, write_file};
use crate::root::Root;

/// How many times the list of processes is read again, for a stray that forks as fast as it can.
const MAX_PASSES: usize = 64;

/// The group that strays are moved to.
pub(super) struct Refuge<'a> {
    pub(super) tree: &'a Tree,
    pub(super) group: &'a CgroupPath,
    /// Whether the strays are frozen and have to stay frozen: a process that is moved to a group
    /// that is not frozen continues to run.
    pub(super) frozen: bool,
}

impl Refuge<'_> {
    /// Creates the group, and the group for strays if it lies in that.
    fn open(&self) -> Result<PathBuf, RepairError> {
        let directory = self.group.under(&self.tree.mount);
        if self.frozen {
            groups::make(directory.parent().unwrap_or(&directory))?;
        }
        groups::make(&directory)?;
        if self.frozen {
            write_file(&directory.join("cgroup.freeze"), "1")?;
        }
        Ok(directory)
    }
}

/// Moves every process that sits directly in `from`.
pub(super) fn move_out(root: &Root, from: &Path, to: &Refuge) -> Result<Effect, RepairError> {
    let mut moved = Vec::new();
    for _ in 0..MAX_PASSES {
        let pids = members(root, from)?;
        if pids.is_empty() {
            return Ok(Effect::listing(&moved));
        }
        if pids.iter().any(|pid| pid == "0") {
            // Writing 0 to cgroup.procs would move this program itself.
            let reason = "it holds a process of another PID namespace (listed as 0)";
            return Err(inhabited(from, reason));
        }
        let directory = to.open()?;
        for pid in pids {
            moved.extend(move_process(root, &pid, &directory)?);
        }
    }
    let number = moved.len();
    let reason = format!("{number} processes were moved out of it, but new ones keep appearing");
    Err(inhabited(from, reason))
}

/// Moves a process and returns its id and name; `None` if it ended before it could be moved.
fn move_process(root: &Root, pid: &str, to: &Path) -> Result<Option<String>, RepairError> {
    let comm = root.read(Path::new(&format!("/proc/{pid}/comm")));
    let comm = comm.unwrap_or_default();
    match write_file(&to.join("cgroup.procs"), pid) {
        Ok(()) => Ok(Some(format!("{pid} ({})", comm.trim_end()))),
        Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn members(root: &Root, directory: &Path) -> Result<Vec<String>, RepairError> {
    let file = group::members_file(group::kind(root, directory)?);
    let list = root.read(&directory.join(file))?;
    Ok(list.lines().map(str::to_owned).collect())
}
