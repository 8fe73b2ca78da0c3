//! Controllers that version 2 lacks since a version 1 hierarchy has them, and who is behind it.
//!
//! Rests on cgroups(7): a controller is in one hierarchy only, and stays in one of version 1 as
//! long as that is mounted anywhere or has groups.

use std::path::PathBuf;

use crate::cgroup::Controllers;
use crate::host::group::Process;
use crate::host::kernel;
use crate::host::mounts::{self, CgroupMount, mounts_of};
use crate::root::{ReadError, Root};

/// A controller bound to version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub controller: String,
    /// Where its hierarchy is mounted; `None` where no mount is to be seen.
    pub point: Option<PathBuf>,
    /// A process in whose mount namespace it is mounted, where that is not this program's own.
    pub mounted_for: Option<Process>,
    /// The processes that live in a group of the hierarchy (its root, where everybody lives, does
    /// not count).
    pub users: Vec<Process>,
}

/// Looks for those of `absent`.
///
/// # Errors
/// When `/proc` cannot be read; processes that end meanwhile are passed over.
pub fn observe(
    root: &Root,
    mounts: &[CgroupMount],
    absent: &Controllers,
) -> Result<Vec<Claim>, ReadError> {
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    // Without the list only the mounts tell.
    let subsystems = kernel::subsystems(root).unwrap_or_default();
    let is_bound = |name: &str| {
        subsystems
            .iter()
            .any(|subsystem| subsystem.name == name && subsystem.hierarchy != 0)
    };
    let mut claims = Vec::new();
    for controller in absent.iter() {
        let point = mounts_of(mounts, controller)
            .next()
            .map(|mount| mount.point.clone());
        if point.is_none() && !is_bound(controller) {
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

fn look_at(root: &Root, pid: &str, claim: &mut Claim) {
    let path = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let read = |name: &str| root.read(&path(name));
    let Ok(number) = pid.parse() else { return };
    let process = || Process {
        pid: number,
        comm: read("comm").unwrap_or_default().trim_end().to_owned(),
    };
    if read("cgroup").is_ok_and(|groups| lives_in(&groups, &claim.controller)) {
        claim.users.push(process());
    }
    if claim.point.is_none() {
        let mountinfo = root.keeping(&mounts::kept()).read(&path("mountinfo"));
        let seen = mounts::parse(&mountinfo.unwrap_or_default());
        claim.point = mounts_of(&seen, &claim.controller)
            .next()
            .map(|mount| mount.point.clone());
        claim.mounted_for = claim.point.as_ref().map(|_| process());
    }
}

/// `4:cpuset:/a/group` in `/proc/PID/cgroup`.
fn lives_in(groups: &str, controller: &str) -> bool {
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_meant = fields
            .next()
            .is_some_and(|names| names.split(',').any(|name| name == controller));
        is_meant && fields.next().is_some_and(|path| path != "/")
    })
}
