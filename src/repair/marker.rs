//! Writing the boot marker, so that a power cut leaves either the old one or the new one whole.

use std::fs;
use std::path::Path;

use crate::host::boot::{Boot, MARKER, Marker};
use crate::kubelet::microk8s::Version;
use crate::kubelet::remembered;
use crate::repair::replace::replace;
use crate::repair::{RepairError, change, errno};
use crate::root::Root;

const NEW: &str = "/var/lib/kubepods-repair/boot.new";

/// Writes `marker` in place of whatever lies there.
///
/// # Errors
/// When the state directory cannot be written to; the old marker is still there then.
pub fn write(marker: &Marker) -> Result<(), RepairError> {
    let (new, place) = (Path::new(NEW), Path::new(MARKER));
    make_folder(place)?;
    replace(place, new, &marker.render())
}

/// Notes that this boot ends through a shutdown target. Without a marker of this boot there is
/// nothing to note it in.
///
/// # Errors
/// As [`write`].
pub fn end(boot: &Boot) -> Result<(), RepairError> {
    match &boot.marker {
        Some(marker) => write(&Marker {
            ended: true,
            ..marker.clone()
        }),
        None => Ok(()),
    }
}

/// Keeps the kubelet's version for a boot service that runs before the snap is mounted. Written
/// only where it has changed.
///
/// # Errors
/// As [`write`].
pub fn remember(root: &Root, revision: &str, version: Version) -> Result<(), RepairError> {
    let (place, text) = (
        Path::new(remembered::PLACE),
        remembered::render(revision, version),
    );
    if root.read(place).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    make_folder(place)?;
    replace(place, &place.with_extension("new"), &text)
}

/// systemd makes it for the service; by hand it may be missing.
fn make_folder(marker: &Path) -> Result<(), RepairError> {
    let Some(folder) = marker.parent() else {
        return Ok(());
    };
    fs::create_dir_all(folder)
        .map_err(errno)
        .map_err(change("make", folder, ""))
}
