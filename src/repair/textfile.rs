//! Writes metrics for node_exporter's textfile collector, which may read any `*.prom` in its folder
//! at any time.

use std::path::Path;

use crate::repair::RepairError;
use crate::repair::replace::replace;

const NAME: &str = "kubepods-repair.prom";

/// Writes `metrics` to `kubepods-repair.prom` in `folder`.
///
/// # Errors
/// When the folder does not exist or cannot be written to. The metrics of the previous run stay.
pub fn write(folder: &Path, metrics: &str) -> Result<(), RepairError> {
    // Not `*.prom`, and unique to this run: a run by hand and the timer's may overlap.
    let new = folder.join(format!(".{NAME}.{}", std::process::id()));
    replace(&folder.join(NAME), &new, metrics)
}
