//! Sets a damaged state file aside: it gets a new name and is never deleted.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::unistd::{linkat, unlink};

use crate::repair::{Effect, RENAME, RepairError, change, errno};

/// How many files can be set aside in one boot under numbered names.
const MAX_SET_ASIDE: usize = 100;

pub(super) fn set_aside(file: &Path, boot_id: &str) -> Result<Effect, RepairError> {
    for number in 1..=MAX_SET_ASIDE {
        let name = new_name(file, boot_id, number);
        match rename_unless_taken(file, &name) {
            Ok(()) => {
                sync_folder_of(file)?;
                return Ok(Effect::Done(Some(format!("renamed to {}", name.display()))));
            }
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => return Ok(Effect::Nothing),
            Err(errno) => return Err(change(RENAME, file, &name.display().to_string())(errno)),
        }
    }
    Err(change(RENAME, file, "")(Errno::EEXIST))
}

/// Renames `file` to `name`; `EEXIST` if that name is taken.
///
/// A file system without `RENAME_NOREPLACE` answers EINVAL: ZFS before 2.2 (`zpl_rename2` in its
/// `module/os/linux/zfs/zpl_inode.c`), NFS, some of FUSE.
fn rename_unless_taken(file: &Path, name: &Path) -> Result<(), Errno> {
    let flags = RenameFlags::RENAME_NOREPLACE;
    match renameat2(AT_FDCWD, file, AT_FDCWD, name, flags) {
        Err(Errno::EINVAL) => link_then_unlink(file, name),
        answer => answer,
    }
}

/// The same in two steps, for file systems with hard links. A power cut between them leaves the
/// file under both names, and the next run sets it aside once more.
fn link_then_unlink(file: &Path, name: &Path) -> Result<(), Errno> {
    linkat(AT_FDCWD, file, AT_FDCWD, name, AtFlags::empty())?;
    unlink(file)
}

fn new_name(file: &Path, boot_id: &str, number: usize) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".damaged-{boot_id}"));
    if number > 1 {
        name.push(format!("-{number}"));
    }
    PathBuf::from(name)
}

/// Makes a change of names in the file's folder survive a power cut.
pub(super) fn sync_folder_of(file: &Path) -> Result<(), RepairError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(errno).map_err(change("sync", folder, ""))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn without_noreplace_an_existing_file_is_not_overwritten() {
        let folder =
            std::env::temp_dir().join(format!("kubepods-repair-aside-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (file, name) = (folder.join("state"), folder.join("state.damaged"));
        fs::write(&file, "new").unwrap();
        fs::write(&name, "old").unwrap();
        assert_eq!(link_then_unlink(&file, &name), Err(Errno::EEXIST));
        assert_eq!(
            (
                fs::read_to_string(&file).unwrap(),
                fs::read_to_string(&name).unwrap()
            ),
            ("new".into(), "old".into())
        );
        fs::remove_file(&name).unwrap();
        assert_eq!(link_then_unlink(&file, &name), Ok(()));
        assert!(!file.exists());
        assert_eq!(fs::read_to_string(&name).unwrap(), "new");
        assert_eq!(
            link_then_unlink(&file, &folder.join("other")),
            Err(Errno::ENOENT)
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
