//! Restarts a unit of MicroK8s, at most once per boot.

use crate::repair::bus::Systemd;
use crate::repair::{Effect, RepairError};
use crate::state::RestartStamp;

/// Asks systemd to restart the unit and waits for the job. systemd carries it out even if this
/// program ends meanwhile. The caller must not hold the lock: the unit's own pre-start takes it.
pub(super) fn restart(unit: &str, stamp: &str) -> Result<Effect, RepairError> {
    let systemd = Systemd::connect()?;
    RestartStamp::write(unit, stamp)?;
    let job = systemd.try_restart(unit)?;
    systemd.wait_for(&job, unit)?;
    Ok(Effect::Done(None))
}
