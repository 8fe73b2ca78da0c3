//! Mounts version 1 hierarchies, and creates, fills, thaws and removes groups in all of them.

use std::path::Path;
use std::time::Instant;

use nix::mount::{MsFlags, mount};

use crate::cgroup::CgroupPath;
use crate::host::pods::PodGroup;
use crate::host::v1::{Hierarchies, MEMORY_LIMIT, populated};
use crate::repair::groups::{lived_in, remove_with_all_below};
use crate::repair::{Effect, MOUNT, RepairError, change, groups, slices, write_file};
use crate::root::Root;

/// The value that removes the limit in this file.
pub(super) fn no_limit(file: &str) -> &'static str {
    if file == MEMORY_LIMIT { "-1" } else { "max" }
}

/// Mounts a hierarchy with the flags that systemd uses. The kernel answers EBUSY if it is already
/// mounted there, or if a controller is in use in another hierarchy.
pub(super) fn mount_hierarchy(options: &str, point: &Path) -> Result<Effect, RepairError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some("cgroup"), point, Some("cgroup"), flags, Some(options));
    mounted
        .map(|()| Effect::Done(None))
        .map_err(change(MOUNT, point, options))
}

pub(super) fn lift(
    v1: &Hierarchies,
    group: &CgroupPath,
    file: &str,
) -> Result<Effect, RepairError> {
    let Some(memory) = v1.of("memory") else {
        return Ok(Effect::Nothing);
    };
    write_file(&group.under(&memory.point).join(file), no_limit(file)).map(|()| Effect::Done(None))
}

pub(super) fn make(v1: &Hierarchies, group: &CgroupPath) -> Result<Effect, RepairError> {
    let mut made = Vec::new();
    for hierarchy in v1.without(group) {
        if groups::make(&group.under(&hierarchy.point))? != Effect::Nothing {
            made.push(hierarchy.name());
        }
    }
    if made.is_empty() {
        return Ok(Effect::Nothing);
    }
    Ok(Effect::Done(Some(format!("in {}", made.join(" ")))))
}

pub(super) fn fill(
    root: &Root,
    v1: &Hierarchies,
    group: &CgroupPath,
) -> Result<Effect, RepairError> {
    let (Some(cpuset), Some(parent)) = (v1.of("cpuset"), group.parent()) else {
        return Ok(Effect::Nothing);
    };
    let mut filled = Vec::new();
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.under(&cpuset.point).join(name);
        if root.read(&file)?.trim_end().is_empty() {
            let above = root.read(&parent.under(&cpuset.point).join(name))?;
            write_file(&file, above.trim_end())?;
            filled.push(format!("{name} is {}", above.trim_end()));
        }
    }
    Ok(Effect::listing(&filled))
}

pub(super) fn thaw(
    root: &Root,
    v1: &Hierarchies,
    group: &CgroupPath,
) -> Result<Effect, RepairError> {
    let Some(freezer) = v1.of("freezer") else {
        return Ok(Effect::Nothing);
    };
    let path = group.under(&freezer.point);
    if populated(root, &[&freezer.point], group)? {
        return Err(lived_in(&path));
    }
    write_file(&path.join("freezer.state"), "THAWED").map(|()| Effect::Done(None))
}

pub(super) fn remove_pods(
    root: &Root,
    hierarchies: &Hierarchies,
    stale: &[PodGroup],
    until: Instant,
) -> Result<Effect, RepairError> {
    let systemd = slices::systemd_for(&hierarchies.slices)?;
    let points = hierarchies.points();
    groups::each_pod(root, &hierarchies.pods, stale, until, |pod| {
        if populated(root, &points, &pod.group)? {
            return Ok(false);
        }
        if let Some(systemd) = &systemd {
            slices::let_go(systemd, &pod.group)?;
        }
        remove_everywhere(root, &points, &pod.group)?;
        Ok(true)
    })
}

/// Removes the tree of the cgroup driver that the kubelet used before.
pub(super) fn remove_tree(
    root: &Root,
    points: &[&Path],
    group: &CgroupPath,
) -> Result<Effect, RepairError> {
    if populated(root, points, group)? {
        return Err(lived_in(group.as_path()));
    }
    remove_everywhere(root, points, group)?;
    Ok(Effect::Done(None))
}

fn remove_everywhere(root: &Root, points: &[&Path], group: &CgroupPath) -> Result<(), RepairError> {
    points
        .iter()
        .try_for_each(|point| remove_with_all_below(root, &group.under(point)))
}
