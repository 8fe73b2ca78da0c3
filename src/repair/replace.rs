//! Replaces a file in such a way that a reader sees either the old or the new content, and a power
//! cut leaves one of the two.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::repair::state_files::sync_folder_of;
use crate::repair::{RENAME, RepairError, change, errno};

/// Readable by every user, whatever the umask.
const PUBLIC_MODE: u32 = 0o644;

/// Writes `text` to `new`, which lies in the folder of `place`, and renames it to `place`.
pub(crate) fn replace(place: &Path, new: &Path, text: &str) -> Result<(), RepairError> {
    put(place, new, PUBLIC_MODE, |file| {
        file.write_all(text.as_bytes())
    })?;
    sync_folder_of(place)
}

/// As [`replace`], for a file with this mode and any content. A power cut may undo the rename.
pub(super) fn put(
    place: &Path,
    new: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), RepairError> {
    // Left by an interrupted run, or put there by the owner of the folder: never write into it.
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
            .map_err(change(RENAME, new, &to)),
        Err(errno) => Err(change("write", new, "")(errno)),
    };
    if placed.is_err() {
        // The new file is of no use if it could not take its place.
        let _ = fs::remove_file(new);
    }
    placed
}
