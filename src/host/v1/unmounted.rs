//! Finds version 1 hierarchies that should be mounted but are not, and where systemd would mount
//! them.
//!
//! See systemd's `src/shared/mount-setup.c` (`mount_cgroup_controllers`: which controllers share a
//! hierarchy), proc_cgroups(5), and the kernel's `kernel/cgroup/cgroup-v1.c`: a hierarchy with
//! groups continues to exist after its last unmount, and can then only be mounted with exactly the
//! same controllers.

use std::path::{Path, PathBuf};

use crate::cgroup::Controllers;
use crate::host::kernel::{self, Kernel, Subsystem, V1_OPTIONS};
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount, CgroupVersion, mounts_of};
use crate::host::v1::names::{SYSTEMD_HIERARCHY, USED};
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// Controllers that systemd mounts together.
const TOGETHER: [[&str; 2]; 2] = [["cpu", "cpuacct"], ["net_cls", "net_prio"]];

/// A hierarchy that is not mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmounted {
    /// Its controllers, or [`SYSTEMD_HIERARCHY`].
    pub controllers: Vec<String>,
    /// Where systemd would mount it.
    pub point: PathBuf,
    /// What exists at that mount point.
    pub place: Place,
    /// Why it cannot be mounted, if that is known.
    pub obstacle: Option<Obstacle>,
}

/// What exists at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory without subdirectories, as an unmount leaves it.
    Empty,
    /// A directory with subdirectories, which a mount would hide.
    Occupied,
    /// Nothing, or something other than a directory.
    Absent,
}

/// What keeps a controller out of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel has no such controller for version 1.
    Unknown,
    /// The command line disables it (`cgroup_disable=`).
    Disabled,
    /// This parameter of the command line keeps it out of version 1.
    Barred(String),
    /// The root of the version 2 hierarchy enables it.
    UsedByV2(PathBuf),
}

/// Looks for the hierarchies that libcontainer uses and that are not mounted.
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
        let mut known = found.iter().flat_map(|unmounted| &unmounted.controllers);
        if is_mounted(mounts, name) || known.any(|known| known == name) {
            continue;
        }
        let (controllers, point) = shared(root, mounts, &subsystems, name)?;
        let place = place(root, &point)?;
        let v2 = used_by_v2(root, mounts)?;
        let obstacle = |name: &String| obstacle(&subsystems, kernel, v2.as_ref(), name);
        let obstacle = controllers.iter().find_map(obstacle);
        found.push(Unmounted {
            controllers,
            point,
            place,
            obstacle,
        });
    }
    Ok(found)
}

/// The controllers that can be mounted as version 1.
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

/// The controllers of the hierarchy that `name` belongs to, or would belong to, and its mount
/// point.
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
    let known = subsystems.iter().find(|known| known.name == name);
    if let Some(alive) = known.filter(|known| known.hierarchy != 0) {
        let all = subsystems.iter();
        let same = all.filter(|known| known.hierarchy == alive.hierarchy);
        let names: Vec<String> = same.map(|known| known.name.clone()).collect();
        let point = below(&names.join(","));
        return Ok((names, point));
    }
    let own = below(name);
    let is_free = |pair: &[&str]| !pair.iter().any(|name| is_mounted(mounts, name));
    let mut pairs = TOGETHER.iter();
    if let Some(pair) = pairs.find(|pair| pair.contains(&name) && is_free(*pair)) {
        let common = below(&pair.join(","));
        // If each controller has a directory of its own, not a link to the common one, each has a
        // hierarchy of its own.
        if root.exists(&common)? || !root.exists(&own)? {
            return Ok((pair.map(str::to_owned).to_vec(), common));
        }
    }
    Ok((vec![name.to_owned()], own))
}

fn place(root: &Root, point: &Path) -> Result<Place, ReadError> {
    Ok(match root.directories(point)? {
        None => Place::Absent,
        Some(names) if names.is_empty() => Place::Empty,
        Some(_) => Place::Occupied,
    })
}

/// The mount point of the version 2 hierarchy beside those of version 1, and the controllers that
/// its root enables.
fn used_by_v2(
    root: &Root,
    mounts: &[CgroupMount],
) -> Result<Option<(PathBuf, Controllers)>, ReadError> {
    let is_v2 =
        |mount: &&CgroupMount| mount.version == CgroupVersion::V2 && mount.covered_by.is_none();
    let Some(mount) = mounts.iter().find(is_v2) else {
        return Ok(None);
    };
    let file = mount.point.join("cgroup.subtree_control");
    let passed_on = root.keeping(&all).read(&file)?;
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
