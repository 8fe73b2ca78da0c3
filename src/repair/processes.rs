//! Moving processes out of a group, whole and unharmed.

use std::path::Path;

use nix::errno::Errno;

use crate::host::group;
use crate::repair::{Effect, RepairError, groups, write_file};
use crate::root::Root;

/// A stray that forks as fast as it can is followed this many times through the list.
const PASSES: usize = 64;

/// Moves every process that sits directly in `from` to the group `to`, which is made when it is missing.
pub(super) fn move_out(root: &Root, from: &Path, to: &Path) -> Result<Effect, RepairError> {
    let mut moved = Vec::new();
    for _ in 0..PASSES {
        let pids = members(root, from)?;
        if pids.is_empty() {
            return Ok(match moved.is_empty() {
                true => Effect::Nothing,
                false => Effect::Done(Some(moved.join(", "))),
            });
        }
        if pids.iter().any(|pid| pid == "0") {
            // Written back, it would move this program itself.
            let reason = "a process of another pid namespace (listed as 0) is among them".to_owned();
            return Err(RepairError::Inhabited { path: from.to_owned(), reason });
        }
        groups::make(to)?;
        for pid in pids {
            moved.extend(move_process(root, &pid, to)?);
        }
    }
    let reason = format!("after {} processes were moved out, there are still new ones", moved.len());
    Err(RepairError::Inhabited { path: from.to_owned(), reason })
}

/// Its id and name; `None` when it ended before its turn came.
fn move_process(root: &Root, pid: &str, to: &Path) -> Result<Option<String>, RepairError> {
    let comm = root.read(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
    match write_file(&to.join("cgroup.procs"), pid) {
        Ok(()) => Ok(Some(format!("{pid} ({})", comm.trim_end()))),
        Err(RepairError::Change { errno: Errno::ESRCH, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn members(root: &Root, directory: &Path) -> Result<Vec<String>, RepairError> {
    let list = root.read(&directory.join(group::members_file(group::kind(root, directory)?)))?;
    Ok(list.lines().map(str::to_owned).collect())
}
