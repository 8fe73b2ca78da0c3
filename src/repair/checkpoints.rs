//! Setting a damaged state file aside: a new name, never a deletion.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::repair::{Effect, RepairError, change, errno};

/// So many files of one boot can lie side by side.
const NAMES: usize = 100;

pub(super) fn set_aside(file: &Path, boot_id: &str) -> Result<Effect, RepairError> {
    for number in 1..=NAMES {
        let name = new_name(file, boot_id, number);
        match renameat2(AT_FDCWD, file, AT_FDCWD, &name, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => {
                sync_folder_of(file)?;
                return Ok(Effect::Done(Some(format!("it is now {}", name.display()))));
            }
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => return Ok(Effect::Nothing),
            Err(errno) => return Err(change("rename", file, &name.display().to_string())(errno)),
        }
    }
    Err(change("rename", file, "")(Errno::EEXIST))
}

fn new_name(file: &Path, boot_id: &str, number: usize) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".damaged-{boot_id}"));
    if number > 1 {
        name.push(format!("-{number}"));
    }
    PathBuf::from(name)
}

/// The new name has to outlive the next power cut.
pub(super) fn sync_folder_of(file: &Path) -> Result<(), RepairError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(errno).map_err(change("sync", folder, ""))
}
