//! Reads the files of a slice: its unit file and its drop-ins.
//!
//! Even a transient unit has files on disk (systemd.unit(5), "Unit File Load Path"), so a request
//! to systemd is needed only to change something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::CgroupPath;
use crate::host::partitions::Cpus;
use crate::host::unit_files::drop_ins;
use crate::kubelet::layout::Layout;
use crate::root::keep::{BLANK, is_name, text};
use crate::root::{ReadError, Root};

/// The folders in which systemd looks for units. The first one that has the unit wins.
const FOLDERS: [&str; 12] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    TRANSIENT,
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

const TRANSIENT: &str = "/run/systemd/transient";

/// The properties that make systemd keep a controller enabled in the groups above a slice.
const KEEPERS: [&str; 2] = ["AllowedCPUs", "CPUWeight"];

/// The settings in the files of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceUnit {
    /// The unit file that counts.
    pub file: UnitFile,
    /// Those of `AllowedCPUs` and `CPUWeight` that its files set.
    pub sets: BTreeSet<&'static str>,
    /// The CPUs that it may use: all but those in other groups' partitions. Only looked up on
    /// version 2, and if its files do not set `AllowedCPUs`.
    pub free_cpus: Option<Cpus>,
}

/// The unit file of a slice. A slice can exist without one if it contains a scope or has a drop-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UnitFile {
    /// It has no unit file.
    #[default]
    None,
    /// Created over D-Bus, by the kubelet or this program, until the next boot.
    Transient,
    /// Installed by the administrator or a package.
    Installed(PathBuf),
    /// A link to `/dev/null`, or an empty file.
    Empty(PathBuf),
}

/// A slice that systemd did not start when asked to, and its error message.
pub type Unmade = (CgroupPath, String);

/// Why systemd did not start this slice; `None` if it was not asked to.
pub fn refusal<'a>(unmade: &'a [Unmade], slice: &CgroupPath) -> Option<&'a str> {
    let (_, words) = unmade.iter().find(|(path, _)| path == slice)?;
    Some(words)
}

/// The files of all slices of the kubelet; empty with the cgroupfs driver.
///
/// # Errors
/// When an existing file cannot be read.
pub fn observe_all(
    root: &Root,
    layout: &Layout,
) -> Result<BTreeMap<CgroupPath, SliceUnit>, ReadError> {
    let mut units = BTreeMap::new();
    for slice in layout.slices() {
        // The names come from settings, so they are valid UTF-8.
        let unit = observe(root, &slice.name().to_string_lossy())?;
        units.insert(slice, unit);
    }
    Ok(units)
}

fn observe(root: &Root, name: &str) -> Result<SliceUnit, ReadError> {
    let mut unit = SliceUnit::default();
    for folder in FOLDERS {
        let path = Path::new(folder).join(name);
        let Some(text) = fragment(root, &path)? else {
            continue;
        };
        note(&mut unit.sets, &text);
        unit.file = if text.is_empty() {
            UnitFile::Empty(path)
        } else if folder == TRANSIENT {
            UnitFile::Transient
        } else {
            UnitFile::Installed(path)
        };
        break;
    }
    for path in drop_ins(root, name, &FOLDERS)?.values() {
        note(&mut unit.sets, &fragment(root, path)?.unwrap_or_default());
    }
    Ok(unit)
}

/// The text of a unit file, empty if it is masked; `None` if it does not exist.
fn fragment(root: &Root, path: &Path) -> Result<Option<String>, ReadError> {
    match root.link(path) {
        Ok(None) => return Ok(None),
        Ok(Some(target)) if Path::new(&target).ends_with("dev/null") => {
            return Ok(Some(String::new()));
        }
        // A file rather than a link.
        Err(error) if error.errno != Errno::EINVAL => return Err(error),
        Ok(Some(_)) | Err(_) => {}
    }
    root.keeping(&text(keep)).read_if_there(path)
}

/// What a capture keeps of a unit's file: sections, the lines that are read, and of other settings
/// the names.
fn keep(text: &str) -> String {
    let mut continues = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        let section = line.trim().strip_prefix('[');
        let section = section.and_then(|line| line.strip_suffix(']'));
        if key.is_some_and(|key| KEEPERS.contains(&key)) {
            kept.push_str(line);
        } else if !continues && section.is_some_and(is_name) {
            kept.push_str(line.trim());
        } else if let Some(key) = key.filter(|key| !continues && is_name(key)) {
            kept.push_str(&format!("{key}={BLANK}"));
        } else if !line.trim().is_empty() {
            kept.push('#');
        }
        kept.push('\n');
        continues = line.ends_with('\\');
    }
    kept
}

/// Adds those of [`KEEPERS`] that `text` sets; an empty value unsets one.
fn note(sets: &mut BTreeSet<&'static str>, text: &str) {
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or_default();
        let Some(key) = KEEPERS.into_iter().find(|name| *name == key.trim()) else {
            continue;
        };
        if value.trim().is_empty() {
            sets.remove(key);
        } else {
            sets.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_keeps_only_the_settings_that_are_used() {
        let text = "# S\n[Slice]\nAllowedCPUs = 0-3\nEnvironment=A=S \\\n  B=S\n[S\nS\n\n";
        assert_eq!(
            keep(text),
            "#\n[Slice]\nAllowedCPUs = 0-3\nEnvironment=BLANKED\n#\n#\n#\n\n"
        );
        assert_eq!(keep(""), "");
        assert_eq!(keep("S"), "#\n");
    }

    #[test]
    fn the_last_value_counts() {
        let mut sets = BTreeSet::new();
        let text = "[Slice]\nAllowedCPUs=0-3\nCPUWeight = 100\n# CPUWeight=\n";
        note(&mut sets, text);
        assert_eq!(sets, BTreeSet::from(KEEPERS));
        note(&mut sets, "AllowedCPUs=\n");
        assert_eq!(sets, BTreeSet::from(["CPUWeight"]));
    }
}
