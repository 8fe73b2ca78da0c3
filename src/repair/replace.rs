//! A file put in place of another, so that a reader, or a power cut, meets either the old one or
//! the new one whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::repair::state_files::sync_folder_of;
use crate::repair::{RepairError, change, errno};

/// Readable by everybody, whatever the umask.
const PUBLIC_MODE: u32 = 0o644;

/// Writes `text` to `new`, which lies in the folder of `place`, and renames it to `place`.
pub(crate) fn replace(place: &Path, new: &Path, text: &str) -> Result<(), RepairError> {
    put(place, new, PUBLIC_MODE, |file| {
        file.write_all(text.as_bytes())
    })?;
    sync_folder_of(place)
}

/// As [`replace`], with a file of this mode, and no certainty that a power cut leaves it there.
pub(super) fn put(
    place: &Path,
    new: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), RepairError> {
    // Left by a run that was cut short, or put there by whom the folder belongs to: in either case
    // nothing to write into.
    let _ = fs::remove_file(new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(new).and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(mode))?;
        write(&mut file)?;
        file.sync_all()
    });
    let to = place.display().to_string();
    let placed = match written.map_err(errno) {
        Ok(()) => fs::rename(new, place)
            .map_err(errno)
            .map_err(change("rename", new, &to)),
        Err(errno) => Err(change("write", new, "")(errno)),
    };
    if placed.is_err() {
        // What could not be put in place is of no use to anybody.
        let _ = fs::remove_file(new);
    }
    placed
}
