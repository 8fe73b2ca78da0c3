//! Creates, thaws and removes groups. The kernel itself refuses to remove a group that holds a
//! process (EBUSY).

use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use crate::cgroup::CgroupPath;
use crate::host::Tree;
use crate::host::group::populated;
use crate::host::pods::{PodGroup, PodGroups};
use crate::repair::bus::Systemd;
use crate::repair::{Effect, RepairError, change, inhabited, slices, write_file};
use crate::root::Root;

/// For so many pods at once it is looked up whether the kubelet keeps a directory, and how late it
/// is. Their removal takes some milliseconds.
const AT_ONCE: usize = 32;

pub(super) fn make(path: &Path) -> Result<Effect, RepairError> {
    match mkdir(path, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(Effect::Done(None)),
        Err(Errno::EEXIST) => Ok(Effect::Nothing),
        Err(errno) => Err(change("create", path, "")(errno)),
    }
}

pub(super) fn remove(path: &Path) -> Result<(), RepairError> {
    match unlinkat(nix::fcntl::AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(change("remove", path, "")(errno)),
    }
}

pub(super) fn make_anew(
    root: &Root,
    tree: &Tree,
    group: &CgroupPath,
) -> Result<Effect, RepairError> {
    require_empty(root, tree, group)?;
    let path = group.under(&tree.mount);
    remove_with_all_below(root, &path)?;
    make(&path)
}

/// Creates the group, unless the kubelet could not update its weight (`Case::is_weightless`).
pub(super) fn make_qos_group(
    root: &Root,
    tree: &Tree,
    group: &CgroupPath,
) -> Result<Effect, RepairError> {
    let kubepods = group.parent().unwrap_or_else(CgroupPath::root);
    if !root.exists(&tree.file(&kubepods, "cpu.weight"))? {
        return Ok(Effect::Nothing);
    }
    make(&group.under(&tree.mount))
}

pub(super) fn remove_qos_group(
    root: &Root,
    tree: &Tree,
    group: &CgroupPath,
) -> Result<(), RepairError> {
    require_empty(root, tree, group)?;
    if tree.slices.contains_key(group) {
        slices::let_go(&Systemd::connect()?, group)?;
    }
    remove_with_all_below(root, &group.under(&tree.mount))
}

pub(super) fn remove_tree(root: &Root, tree: &Tree, group: &CgroupPath) -> Result<(), RepairError> {
    require_empty(root, tree, group)?;
    remove_with_all_below(root, &group.under(&tree.mount))
}

pub(super) fn thaw(root: &Root, tree: &Tree, group: &CgroupPath) -> Result<(), RepairError> {
    require_empty(root, tree, group)?;
    write_file(&tree.file(group, "cgroup.freeze"), "0")
}

pub(super) fn remove_pods(
    root: &Root,
    tree: &Tree,
    stale: &[PodGroup],
    until: Instant,
) -> Result<Effect, RepairError> {
    let systemd = slices::systemd_for(&tree.slices)?;
    each_pod(root, &tree.pods, stale, until, |pod| {
        remove_pod(root, tree, systemd.as_ref(), pod)
    })
}

/// Calls `remove` for each pod of which the kubelet still keeps no directory. It returns whether
/// the pod's group is gone. Stops at `until`; the kubelet removes the rest.
pub(super) fn each_pod(
    root: &Root,
    pods: &PodGroups,
    stale: &[PodGroup],
    until: Instant,
    remove: impl Fn(&PodGroup) -> Result<bool, RepairError>,
) -> Result<Effect, RepairError> {
    let mut removed = 0;
    for some in stale.chunks(AT_ONCE) {
        if Instant::now() >= until {
            break;
        }
        let wanted = root.directories(&pods.directory)?.unwrap_or_default();
        for pod in some.iter().filter(|pod| !wanted.contains(&pod.uid)) {
            removed += match remove(pod) {
                // A process has entered the group since it was examined.
                Err(RepairError::Change {
                    errno: Errno::EBUSY,
                    ..
                }) => 0,
                answer => usize::from(answer?),
            };
        }
    }
    Ok(outcome(removed, stale.len()))
}

/// What came of `removed` out of `of` groups. A group remains if a process has entered it, if the
/// kubelet has created the pod's directory, or if the time was over.
fn outcome(removed: usize, of: usize) -> Effect {
    if removed == 0 {
        Effect::Nothing
    } else if removed == of {
        Effect::Done(None)
    } else {
        Effect::Done(Some(format!(
            "{removed} of {of}; the others are in use again or left for the kubelet to remove"
        )))
    }
}

/// Removes the pod's group and returns whether it is gone. Whether it holds a process is checked
/// again right before; for a group without children the kernel itself checks.
fn remove_pod(
    root: &Root,
    tree: &Tree,
    systemd: Option<&Systemd>,
    pod: &PodGroup,
) -> Result<bool, RepairError> {
    let path = pod.group.under(&tree.mount);
    if systemd.is_none() && is_gone(&path)? {
        return Ok(true);
    }
    if populated(root, &tree.mount, &pod.group)? {
        return Ok(false);
    }
    if let Some(systemd) = systemd {
        slices::let_go(systemd, &pod.group)?;
    }
    remove_with_all_below(root, &path)?;
    Ok(true)
}

/// Removes a group unless it holds a process or another group, and returns whether it is gone.
fn is_gone(path: &Path) -> Result<bool, RepairError> {
    match remove(path) {
        Err(error) if error.errno() == Some(Errno::EBUSY) => Ok(false),
        answer => answer.map(|()| true),
    }
}

fn require_empty(root: &Root, tree: &Tree, group: &CgroupPath) -> Result<(), RepairError> {
    if populated(root, &tree.mount, group)? {
        return Err(lived_in(&group.under(&tree.mount)));
    }
    Ok(())
}

pub(super) fn lived_in(path: &Path) -> RepairError {
    inhabited(path, "it, or a cgroup below it, now holds a process")
}

/// Tries the group itself first: only if the kernel refuses are the groups below it listed.
pub(super) fn remove_with_all_below(root: &Root, path: &Path) -> Result<(), RepairError> {
    if is_gone(path)? {
        return Ok(());
    }
    for name in root.directories(path)?.unwrap_or_default() {
        remove_with_all_below(root, &path.join(name))?;
    }
    remove(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_removal_says_how_many_are_gone() {
        assert_eq!(outcome(0, 3), Effect::Nothing);
        assert_eq!(outcome(3, 3), Effect::Done(None));
        assert!(matches!(outcome(2, 3), Effect::Done(Some(words)) if words.starts_with("2 of 3")));
    }
}
