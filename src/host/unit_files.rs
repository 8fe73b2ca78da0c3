//! Finds the drop-ins of a unit, and which one counts if two have the same name.
//!
//! See systemd.unit(5) and `unit_file_find_dropin_paths` in systemd's `src/shared/dropin.c`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::root::{ReadError, Root};

/// The drop-ins by name, which is the order in which systemd reads them. If two have the same name,
/// the one in the first of `folders` counts, and within a folder the one for the longest unit name.
/// Drop-ins for all units of the type come last, whatever their folder.
///
/// # Errors
/// When an existing folder cannot be listed.
pub(super) fn drop_ins(
    root: &Root,
    unit: &str,
    folders: &[&str],
) -> Result<BTreeMap<OsString, PathBuf>, ReadError> {
    let owners = owners(unit);
    let (_, kind) = unit.rsplit_once('.').unwrap_or_default();
    let mut places = Vec::new();
    for folder in folders {
        places.extend(owners.iter().map(|owner| format!("{folder}/{owner}.d")));
    }
    places.extend(folders.iter().map(|folder| format!("{folder}/{kind}.d")));
    let mut found = BTreeMap::new();
    for place in places {
        let files = match root.files_below(Path::new(&place)) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => continue,
            answer => answer?,
        };
        for file in files {
            if let Some(name) = file.file_name()
                && file.extension() == Some(OsStr::new("conf"))
            {
                found.entry(name.to_owned()).or_insert(file);
            }
        }
    }
    Ok(found)
}

/// The unit itself, and every prefix of its name that ends with a dash, with the unit's type.
fn owners(unit: &str) -> Vec<String> {
    let (_, kind) = unit.rsplit_once('.').unwrap_or_default();
    let mut owners = vec![unit.to_owned()];
    for (dash, _) in unit.rmatch_indices('-') {
        let prefix = unit.get(..=dash).unwrap_or_default();
        owners.push(format!("{prefix}.{kind}"));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_of_prefixes_count() {
        let expected = ["a-b-c.slice", "a-b-.slice", "a-.slice"];
        assert_eq!(owners("a-b-c.slice"), expected);
        assert_eq!(owners("a.b-c.service"), ["a.b-c.service", "a.b-.service"]);
    }
}
