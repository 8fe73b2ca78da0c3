//! Restarting a unit of MicroK8s, at most once a boot.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::host::restart_stamp;
use crate::repair::bus::Systemd;
use crate::repair::{Effect, RepairError, change, errno};

/// One call that systemd carries out whatever becomes of us; then its job is waited for. The lock
/// must not be held: the unit's own pre-start wants it.
pub(super) fn restart(unit: &str, stamp: &str) -> Result<Effect, RepairError> {
    let systemd = Systemd::connect()?;
    note(unit, stamp)?;
    let job = systemd.try_restart(unit)?;
    systemd.wait_for(&job, unit)?;
    Ok(Effect::Done(None))
}

/// Before the call, so that a restart is never asked for twice; should we end in between, the tasks
/// in it still live, and the note counts for nothing.
fn note(unit: &str, stamp: &str) -> Result<(), RepairError> {
    let path = restart_stamp(unit);
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(stamp.as_bytes()));
    written
        .map_err(errno)
        .map_err(change("write", &path, stamp))
}
