//! Finds out whether kubelite is to be started, from what systemd and MicroK8s record about its
//! service.
//!
//! * systemd (`unit_export_state_files` in `src/core/unit.c`): the link in `/run/systemd/units`
//!   exists from a unit's first process until the unit is inactive or failed.
//! * snapd writes the unit to `/etc/systemd/system`, and enables it in `multi-user.target`.
//! * MicroK8s' wrappers: `microk8s stop` disables all services and creates `stopped.lock`, which
//!   kubelite removes whenever it is started (`run-kubelite-with-args`). So the lock alone does not
//!   stop kubelite.

use std::path::Path;

use nix::errno::Errno;

use crate::kubelet::microk8s::MICROK8S;
use crate::root::{ReadError, Root};

/// The folder in which snapd writes the units of a snap.
pub(super) const UNITS: &str = "/etc/systemd/system";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants";
const INVOCATIONS: &str = "/run/systemd/units";
/// If this socket exists, systemd is running, and a unit without an entry in [`INVOCATIONS`] is
/// not.
const MANAGER: &str = "/run/systemd/private";
const STOPPED: &str = "var/lock/stopped.lock";
/// MicroK8s creates it on a machine with little memory. kubelite's wrapper then starts nothing,
/// unless the node is a worker.
const GUARD: &str = "var/lock/low-memory-guard.lock";

/// kubelite's service.
#[expect(clippy::struct_excessive_bools, reason = "six independent facts")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// snapd has written its unit. Otherwise [`Self::enabled`] means nothing.
    pub installed: bool,
    /// systemd starts it at boot.
    pub enabled: bool,
    /// It is running, or is being started or stopped.
    pub active: bool,
    /// snapd has stopped it for a refresh that is still in progress.
    pub refreshed: bool,
    /// `microk8s stop` has stopped it, and nothing has started it since.
    pub stopped: bool,
    /// MicroK8s' low memory guard keeps it from doing anything.
    pub guarded: bool,
}

/// Examines the service of this revision.
///
/// # Errors
/// When it cannot be determined whether a file exists.
pub fn observe(root: &Root, revision: &str) -> Result<Service, ReadError> {
    let unit = MICROK8S.kubelet_unit;
    let enabled = is_link(root, &Path::new(ENABLED).join(unit))?;
    // If it is enabled, the facts about a service at rest do not matter.
    let active = !enabled && has_invocation(root)?;
    let rests = !enabled && !active;
    Ok(Service {
        installed: rests && root.exists(&Path::new(UNITS).join(unit))?,
        enabled,
        active,
        refreshed: rests && MICROK8S.is_refreshed(root),
        stopped: rests && root.exists(&MICROK8S.data(revision).join(STOPPED))?,
        guarded: is_guarded(root, revision)?,
    })
}

/// Whether MicroK8s' low memory guard is on. Only root and MicroK8s' group can see that; for others
/// it counts as off.
fn is_guarded(root: &Root, revision: &str) -> Result<bool, ReadError> {
    match root.exists(&MICROK8S.data(revision).join(GUARD)) {
        Ok(true) => Ok(!MICROK8S.is_worker(root, revision)?),
        Err(error) if error.errno == Errno::EACCES => Ok(false),
        answer => answer,
    }
}

/// Whether it is enabled but not running: it was stopped, or systemd no longer restarts it. While
/// systemd waits to restart it, it counts as running. What cannot be read counts as running, too.
pub fn is_idle(root: &Root, service: Service) -> bool {
    let knows = || root.exists(Path::new(MANAGER)).unwrap_or(false);
    service.enabled && knows() && !has_invocation(root).unwrap_or(true)
}

/// Whether systemd counts it as running.
fn has_invocation(root: &Root) -> Result<bool, ReadError> {
    let name = format!("invocation:{}", MICROK8S.kubelet_unit);
    is_link(root, &Path::new(INVOCATIONS).join(name))
}

/// Whether there is a link at `path`. A copied tree may have a file instead.
fn is_link(root: &Root, path: &Path) -> Result<bool, ReadError> {
    match root.link(path) {
        Err(error) if error.errno == Errno::EINVAL => root.exists(path),
        answer => answer.map(|target| target.is_some()),
    }
}
