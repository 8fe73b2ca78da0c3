//! What lies on disk of a slice: its unit file and what its drop-ins set.
//!
//! Everything that has to be known of a unit stands in these files (systemd.unit(5), "Unit File
//! Load Path"), a transient one included, so that systemd itself is only asked when something has
//! to be done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::kubelet::layout::Layout;
use crate::root::keep::{BLANK, is_name, text};
use crate::root::{ReadError, Root};

/// Where systemd looks for units, the first that has one wins.
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

/// The property that makes systemd keep a controller on above a slice, however little it asks for.
const KEEPERS: [(&str, &str); 2] = [("AllowedCPUs", "cpuset"), ("CPUWeight", "cpu")];

/// A slice, by its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceUnit {
    /// Its unit file.
    pub fragment: Fragment,
    /// The controllers that its files make systemd keep.
    pub keeps: Controllers,
    /// Whether all CPUs belong to partitions of others, so that `AllowedCPUs=` cannot be set. Only
    /// looked up on version 2, where the files do not make systemd keep cpuset.
    pub no_cpus_left: bool,
}

/// The unit file of a slice. A slice needs none to be there, with a scope in it or a drop-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// There is none.
    #[default]
    None,
    /// Made over D-Bus, by the kubelet or this program, and gone with the next boot.
    Transient,
    /// Somebody's own.
    Foreign(PathBuf),
    /// A link to `/dev/null`, or an empty file: systemd starts it for nobody.
    Masked(PathBuf),
}

impl Fragment {
    /// Whether the slice is nobody's own, so that it may be asked for and told what to keep.
    pub fn may_be_asked_for(&self) -> bool {
        matches!(self, Self::None | Self::Transient)
    }
}

/// A slice that systemd would hear nothing of, and its words.
pub type Unmade = (CgroupPath, String);

/// Why systemd did not make this slice, where it was asked.
pub fn refusal<'a>(unmade: &'a [Unmade], slice: &CgroupPath) -> Option<&'a str> {
    unmade
        .iter()
        .find(|(path, _)| path == slice)
        .map(|(_, words)| words.as_str())
}

/// The files of all slices here; none with the cgroupfs driver.
///
/// # Errors
/// When one that is there cannot be read.
pub fn observe_all(
    root: &Root,
    layout: &Layout,
) -> Result<BTreeMap<CgroupPath, SliceUnit>, ReadError> {
    // Their names come from settings, and so are text.
    let observed =
        |path: CgroupPath| Ok((path.clone(), observe(root, &path.name().to_string_lossy())?));
    layout.slices().into_iter().map(observed).collect()
}

fn observe(root: &Root, name: &str) -> Result<SliceUnit, ReadError> {
    let mut unit = SliceUnit::default();
    let mut values = BTreeMap::new();
    for folder in FOLDERS.map(Path::new) {
        let path = folder.join(name);
        let Some(text) = fragment(root, &path)? else {
            continue;
        };
        note(&mut values, &text);
        unit.fragment = match (text.is_empty(), folder == Path::new(TRANSIENT)) {
            (true, _) => Fragment::Masked(path),
            (false, true) => Fragment::Transient,
            (false, false) => Fragment::Foreign(path),
        };
        break;
    }
    for path in dropins(root, name)?.values() {
        note(&mut values, &fragment(root, path)?.unwrap_or_default());
    }
    let kept = KEEPERS
        .into_iter()
        .filter(|(key, _)| values.get(key).is_some_and(|is_set| *is_set));
    unit.keeps = kept.map(|(_, controller)| controller).collect();
    Ok(unit)
}

/// The text of a unit file, empty for a masked one; `None` where there is none.
fn fragment(root: &Root, path: &Path) -> Result<Option<String>, ReadError> {
    match root.link(path) {
        Ok(None) => Ok(None),
        Ok(Some(target)) if Path::new(&target).ends_with("dev/null") => Ok(Some(String::new())),
        Ok(Some(_)) => root.keeping(&text(keep)).read_if_there(path),
        Err(error) if error.errno == Errno::EINVAL => root.keeping(&text(keep)).read_if_there(path),
        Err(error) => Err(error),
    }
}

/// By name, which is the order they count in; of two with one name the first folder's.
fn dropins(root: &Root, name: &str) -> Result<BTreeMap<PathBuf, PathBuf>, ReadError> {
    let mut found = BTreeMap::new();
    for owner in owners(name) {
        for folder in FOLDERS.map(|folder| Path::new(folder).join(format!("{owner}.d"))) {
            let files = match root.files_below(&folder) {
                Err(error) if error.errno == Errno::ENOENT => continue,
                answer => answer?,
            };
            for path in files {
                if let (Some(name), Some("conf")) = (
                    path.file_name(),
                    path.extension().and_then(|end| end.to_str()),
                ) {
                    found.entry(PathBuf::from(name)).or_insert(path);
                }
            }
        }
    }
    Ok(found)
}

/// Whose drop-ins count: its own, those of every prefix that ends with a dash, and those of all
/// slices.
fn owners(name: &str) -> Vec<String> {
    let dashes = name
        .rmatch_indices('-')
        .filter_map(|(at, _)| name.get(..=at));
    let prefixes = dashes.map(|prefix| format!("{prefix}.slice"));
    std::iter::once(name.to_owned())
        .chain(prefixes)
        .chain(["slice".to_owned()])
        .collect()
}

/// What a capture keeps of a unit's file: sections, the lines that are read, and of other settings
/// the names.
fn keep(text: &str) -> String {
    let mut continues = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let (key, is_setting) = line
            .split_once('=')
            .map_or((line, false), |(key, _)| (key, true));
        let key = key.trim();
        let section = line
            .trim()
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'));
        if is_setting && KEEPERS.iter().any(|(name, _)| *name == key) {
            kept.push_str(line);
        } else if !continues && section.is_some_and(is_name) {
            kept.push_str(line.trim());
        } else if !continues && is_setting && is_name(key) {
            kept.push_str(&format!("{key}={BLANK}"));
        } else if !line.trim().is_empty() {
            kept.push('#');
        }
        kept.push('\n');
        continues = line.ends_with('\\');
    }
    kept
}

/// Whether each keeper is set, by the last line that says so; an empty value takes it back.
fn note(values: &mut BTreeMap<&'static str, bool>, text: &str) {
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if let Some((key, _)) = KEEPERS.iter().find(|(name, _)| *name == key.trim()) {
            values.insert(key, !value.trim().is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_dropins_count() {
        let expected = ["a-b-c.slice", "a-b-.slice", "a-.slice", "slice"];
        assert_eq!(owners("a-b-c.slice"), expected);
    }

    #[test]
    fn a_capture_keeps_what_is_read() {
        let text = "# S\n[Slice]\nAllowedCPUs = 0-3\nEnvironment=A=S \\\n  B=S\n[S\nS\n\n";
        assert_eq!(
            keep(text),
            "#\n[Slice]\nAllowedCPUs = 0-3\nEnvironment=BLANKED\n#\n#\n#\n\n"
        );
        assert_eq!(keep(""), "");
        assert_eq!(keep("S"), "#\n");
    }

    #[test]
    fn the_last_word_counts() {
        let mut values = BTreeMap::new();
        note(
            &mut values,
            "[Slice]\nAllowedCPUs=0-3\nCPUWeight = 100\n# CPUWeight=\n",
        );
        assert_eq!(
            values,
            BTreeMap::from([("AllowedCPUs", true), ("CPUWeight", true)])
        );
        note(&mut values, "AllowedCPUs=\n");
        assert_eq!(values.get("AllowedCPUs"), Some(&false));
    }
}
