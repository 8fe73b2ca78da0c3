//! Metrics for node_exporter's textfile collector, which reads every `*.prom` in its folder at any
//! time.

use std::path::Path;

use crate::repair::RepairError;
use crate::repair::replace::replace;

const NAME: &str = "kubepods-repair.prom";

/// Writes `metrics` to `kubepods-repair.prom` in `folder`.
///
/// # Errors
/// When the folder is not there or cannot be written to; the metrics of the run before then stay.
pub fn write(folder: &Path, metrics: &str) -> Result<(), RepairError> {
    // Not `*.prom`, and of this run alone: a run by hand may meet that of the timer.
    let new = folder.join(format!(".{NAME}.{}", std::process::id()));
    replace(&folder.join(NAME), &new, metrics)
}
