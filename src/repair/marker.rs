//! Writing the boot marker, so that a power cut leaves either the old one or the new one whole.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::host::boot::{Boot, MARKER, Marker};
use crate::repair::checkpoints::sync_folder_of;
use crate::repair::{RepairError, change, errno};

const NEW: &str = "/var/lib/kubepods-repair/boot.new";

/// Writes `marker` in place of whatever lies there.
///
/// # Errors
/// When the state directory cannot be written to; the old marker is still there then.
pub fn write(marker: &Marker) -> Result<(), RepairError> {
    let (new, place) = (Path::new(NEW), Path::new(MARKER));
    make_folder(place)?;
    let text = marker.render();
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(errno).map_err(change("write", new, ""))?;
    if let Err(error) = fs::rename(new, place) {
        // What could not be put in place is of no use to anybody.
        let _ = fs::remove_file(new);
        return Err(change("rename", new, MARKER)(errno(error)));
    }
    sync_folder_of(place)
}

/// Notes that this boot ends through a shutdown target. Without a marker of this boot there is nothing to note it in.
///
/// # Errors
/// As [`write`].
pub fn end(boot: &Boot) -> Result<(), RepairError> {
    match &boot.marker {
        Some(marker) => write(&Marker { ended: true, ..marker.clone() }),
        None => Ok(()),
    }
}

/// systemd makes it for the service; by hand it may be missing.
fn make_folder(marker: &Path) -> Result<(), RepairError> {
    let Some(folder) = marker.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(errno).map_err(change("make", folder, ""))
}
