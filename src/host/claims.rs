//! Controllers that version 2 lacks because a version 1 hierarchy has them, and the processes that
//! use that hierarchy.
//!
//! See cgroups(7): a controller is in one hierarchy only, and stays in a version 1 hierarchy as
//! long as that is mounted anywhere or has groups.

use std::path::{Path, PathBuf};

use crate::cgroup::Controllers;
use crate::host::group::Process;
use crate::host::kernel::{self, Subsystem};
use crate::host::mounts::{self, CgroupMount, point_of};
use crate::root::{ReadError, Root};

/// A controller bound to version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name in `/proc/cgroups`.
    pub controller: String,
    /// Where its hierarchy is mounted; `None` if no mount was found.
    pub point: Option<PathBuf>,
    /// A process in whose mount namespace it is mounted, if that is not this program's own.
    pub mounted_for: Option<Process>,
    /// The processes in a group of the hierarchy. Its root does not count, since it holds every
    /// other process.
    pub users: Vec<Process>,
}

/// Looks for claims on the controllers in `absent`.
///
/// # Errors
/// When `/proc` cannot be read. Processes that end meanwhile are skipped.
pub fn observe(
    root: &Root,
    mounts: &[CgroupMount],
    absent: &Controllers,
) -> Result<Vec<Claim>, ReadError> {
    let mut claims = Vec::new();
    if absent.is_empty() {
        return Ok(claims);
    }
    // If the list cannot be read, only the mounts show it.
    let subsystems = kernel::subsystems(root).unwrap_or_default();
    for controller in absent.iter() {
        let point = point_of(mounts, controller);
        let is_bound = |known: &Subsystem| known.name == controller && known.hierarchy != 0;
        if point.is_none() && !subsystems.iter().any(is_bound) {
            continue;
        }
        let mut claim = Claim {
            controller: controller.to_owned(),
            point,
            mounted_for: None,
            users: Vec::new(),
        };
        for pid in root.pids()? {
            look_at(root, &pid, &mut claim);
        }
        claims.push(claim);
    }
    Ok(claims)
}

/// Adds the process to the claim if it uses the hierarchy or has it mounted.
fn look_at(root: &Root, pid: &str, claim: &mut Claim) {
    let Ok(number) = pid.parse() else { return };
    let folder = Path::new("/proc").join(pid);
    let groups = root.read(&folder.join("cgroup")).unwrap_or_default();
    if lives_in(&groups, &claim.controller) {
        claim.users.push(Process::named(root, number));
    }
    if claim.point.is_some() {
        return;
    }
    let mountinfo = mounts::read(root, &folder.join("mountinfo")).unwrap_or_default();
    claim.point = point_of(&mounts::parse(&mountinfo), &claim.controller);
    if claim.point.is_some() {
        claim.mounted_for = Some(Process::named(root, number));
    }
}

/// Whether a line of `/proc/PID/cgroup` puts the process in a group of this controller's hierarchy:
/// `4:cpuset:/a/group`.
fn lives_in(groups: &str, controller: &str) -> bool {
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next().unwrap_or_default();
        let path = fields.next().unwrap_or("/");
        path != "/" && names.split(',').any(|name| name == controller)
    })
}
