//! How often this boot's tree was changed: a number in `/run`, gone with the boot.

use std::path::Path;

use crate::host::boot::{REPAIRS, repairs};
use crate::repair::RepairError;
use crate::repair::replace::replace;
use crate::root::Root;

const NEW: &str = "/run/kubepods-repair.repairs.new";

/// Counts one run that has changed something, and says how many there were. The lock must be held.
///
/// # Errors
/// When the number cannot be written. One that cannot be read is begun anew.
pub fn add(root: &Root) -> Result<u64, RepairError> {
    let number = repairs(root).unwrap_or(0).saturating_add(1);
    replace(Path::new(REPAIRS), Path::new(NEW), &format!("{number}\n")).map(|()| number)
}
