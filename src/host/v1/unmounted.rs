//! Version 1 hierarchies that should be mounted and are not, and where systemd would mount them.
//!
//! Rests on systemd's `src/shared/mount-setup.c` (`mount_cgroup_controllers`: which controllers
//! share a hierarchy), proc_cgroups(5) and the kernel's `kernel/cgroup/cgroup-v1.c`: a hierarchy
//! with groups outlives its last mount, and can then only be mounted with exactly the controllers
//! it has.

use std::path::{Path, PathBuf};

use crate::cgroup::Controllers;
use crate::host::kernel::{self, Kernel, Subsystem, V1_OPTIONS};
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount, CgroupVersion, mounts_of};
use crate::host::v1::names::{SYSTEMD_HIERARCHY, USED};
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// What systemd mounts together.
const TOGETHER: [[&str; 2]; 2] = [["cpu", "cpuacct"], ["net_cls", "net_prio"]];

/// A hierarchy that is not mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmounted {
    /// Its controllers, or [`SYSTEMD_HIERARCHY`].
    pub controllers: Vec<String>,
    /// Where systemd would mount it.
    pub point: PathBuf,
    /// What is there.
    pub place: Place,
    /// Why it cannot be mounted, where that is known.
    pub obstacle: Option<Obstacle>,
}

/// What is at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory without others in it, as an unmount leaves it.
    Empty,
    /// A directory with others in it, which a mount would hide.
    Occupied,
    /// Nothing, or something other than a directory.
    Absent,
}

/// What keeps a controller from version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel has no such controller for version 1.
    Unknown,
    /// It is switched off (`cgroup_disable=`).
    Disabled,
    /// The command line keeps it from version 1, with this word.
    Barred(String),
    /// The root of the version 2 hierarchy passes it on.
    UsedByV2(PathBuf),
}

/// Looks for them.
///
/// # Errors
/// When the list of the kernel's controllers or a mount point cannot be read.
pub fn observe(
    root: &Root,
    mounts: &[CgroupMount],
    kernel: &Kernel,
) -> Result<Vec<Unmounted>, ReadError> {
    let subsystems = subsystems_of_v1(root, mounts, kernel)?;
    let mut found: Vec<Unmounted> = Vec::new();
    for name in USED {
        let is_known = found
            .iter()
            .any(|unmounted| unmounted.controllers.iter().any(|known| known == name));
        if is_mounted(mounts, name) || is_known {
            continue;
        }
        let (controllers, point) = shared(root, mounts, &subsystems, name)?;
        let place = place(root, &point)?;
        let v2 = used_by_v2(root, mounts)?;
        let obstacle = controllers
            .iter()
            .find_map(|name| obstacle(&subsystems, kernel, v2.as_ref(), name));
        found.push(Unmounted {
            controllers,
            point,
            place,
            obstacle,
        });
    }
    Ok(found)
}

/// What can be mounted as version 1.
fn subsystems_of_v1(
    root: &Root,
    mounts: &[CgroupMount],
    kernel: &Kernel,
) -> Result<Vec<Subsystem>, ReadError> {
    let mut subsystems = kernel::subsystems(root)?;
    if V1_OPTIONS.iter().any(|(name, _)| !is_mounted(mounts, name)) {
        let not_built = kernel.not_built_for_v1(root);
        subsystems.retain(|subsystem| !not_built.contains(&subsystem.name.as_str()));
    }
    Ok(subsystems)
}

fn is_mounted(mounts: &[CgroupMount], name: &str) -> bool {
    mounts_of(mounts, name).next().is_some()
}

/// The controllers of the hierarchy that `name` belongs to or would, and its mount point.
fn shared(
    root: &Root,
    mounts: &[CgroupMount],
    subsystems: &[Subsystem],
    name: &str,
) -> Result<(Vec<String>, PathBuf), ReadError> {
    let below = |name: &str| Path::new(CGROUP_MOUNT).join(name);
    if name == SYSTEMD_HIERARCHY {
        return Ok((vec![name.to_owned()], below("systemd")));
    }
    let alive = subsystems
        .iter()
        .find(|subsystem| subsystem.name == name)
        .map_or(0, |subsystem| subsystem.hierarchy);
    if alive != 0 {
        let same = subsystems
            .iter()
            .filter(|subsystem| subsystem.hierarchy == alive);
        let names: Vec<String> = same.map(|subsystem| subsystem.name.clone()).collect();
        let point = below(&names.join(","));
        return Ok((names, point));
    }
    let pair = TOGETHER
        .iter()
        .find(|pair| pair.contains(&name) && !pair.iter().any(|name| is_mounted(mounts, name)));
    match pair {
        // Where each has a directory of its own (not a link into the common one), each has a
        // hierarchy of its own.
        Some(pair) if root.exists(&below(&pair.join(",")))? || !root.exists(&below(name))? => {
            Ok((pair.map(str::to_owned).to_vec(), below(&pair.join(","))))
        }
        _ => Ok((vec![name.to_owned()], below(name))),
    }
}

fn place(root: &Root, point: &Path) -> Result<Place, ReadError> {
    Ok(match root.directories(point)? {
        None => Place::Absent,
        Some(names) if names.is_empty() => Place::Empty,
        Some(_) => Place::Occupied,
    })
}

/// What the version 2 hierarchy beside passes on, with its mount point.
fn used_by_v2(
    root: &Root,
    mounts: &[CgroupMount],
) -> Result<Option<(PathBuf, Controllers)>, ReadError> {
    let Some(mount) = mounts
        .iter()
        .find(|mount| mount.version == CgroupVersion::V2 && mount.covered_by.is_none())
    else {
        return Ok(None);
    };
    let passed_on = root
        .keeping(&all)
        .read(&mount.point.join("cgroup.subtree_control"))?;
    Ok(Some((mount.point.clone(), Controllers::parse(&passed_on))))
}

fn obstacle(
    subsystems: &[Subsystem],
    kernel: &Kernel,
    v2: Option<&(PathBuf, Controllers)>,
    name: &str,
) -> Option<Obstacle> {
    let used = v2.filter(|(_, passed_on)| passed_on.contains(name));
    let known = subsystems.iter().find(|subsystem| subsystem.name == name);
    match (known, kernel.barred_from_v1(name), used) {
        (_, Some(word), _) => Some(Obstacle::Barred(word.to_owned())),
        (None, ..) if name != SYSTEMD_HIERARCHY => Some(Obstacle::Unknown),
        (Some(Subsystem { enabled: false, .. }), ..) => Some(Obstacle::Disabled),
        (_, _, Some((point, _))) => Some(Obstacle::UsedByV2(point.clone())),
        _ => None,
    }
}
