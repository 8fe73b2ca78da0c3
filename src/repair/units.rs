//! Restarting a unit of MicroK8s, at most once a boot.

use crate::repair::bus::Systemd;
use crate::repair::{Effect, RepairError};
use crate::state::RestartStamp;

/// One call that systemd carries out whatever becomes of us; then its job is waited for. The lock
/// must not be held: the unit's own pre-start wants it.
pub(super) fn restart(unit: &str, stamp: &str) -> Result<Effect, RepairError> {
    let systemd = Systemd::connect()?;
    RestartStamp::write(unit, stamp)?;
    let job = systemd.try_restart(unit)?;
    systemd.wait_for(&job, unit)?;
    Ok(Effect::Done(None))
}
