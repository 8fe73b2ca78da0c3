//! What kubelite's unit confines itself with: the raw settings in its unit file and its drop-ins.
//!
//! A service may see other mounts than this program, whose ExecStartPre has full privileges (`+`):
//! what is writable here may be read-only to the kubelet. Rests on systemd.exec(5), "Sandboxing",
//! systemd.unit(5) for where drop-ins lie and which of two with one name counts
//! (`unit_file_find_dropin_paths` in systemd's `src/shared/dropin.c`), and systemd.syntax(7).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::host::kernel;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::{ReadError, Root, keep};

/// Where snapd writes the units of a snap.
const OF_SNAPD: &str = "/etc/systemd/system";

/// Where people and packages put drop-ins, the first of two with one name wins.
const FOLDERS: [&str; 4] = [
    OF_SNAPD,
    "/run/systemd/system",
    SELDOM_THERE,
    "/usr/lib/systemd/system",
];

/// Asked for once instead of for each folder in it.
const SELDOM_THERE: &str = "/usr/local/lib/systemd/system";

/// The sections of a service's files; settings count in the last of them.
const SECTIONS: [&str; 3] = ["[Unit]", "[Install]", "[Service]"];

/// What a capture has in place of any other.
const OTHER_SECTION: &str = "[X-Other]";

/// This program's own drop-in, which confines nothing.
const OF_OURS: &str = "20-kubepods-repair.conf";

/// Settings of one value, and what they may be beside yes and no: the last one counts that systemd
/// can read, and an empty one is none. `private` and `strict` for cgroups came with systemd 257.
const SCALARS: [(&str, &[&str]); 5] = [
    ("PrivateDevices", &[]),
    ("ProtectControlGroups", &["private", "strict"]),
    ("ProtectKernelLogs", &[]),
    ("ProtectKernelTunables", &[]),
    ("ProtectSystem", &["full", "strict"]),
];

/// Settings of one value that may be any text.
const TEXTS: [&str; 1] = [SUBGROUP];

/// The group below its own that a service's processes run in (systemd 254 and later).
const SUBGROUP: &str = "DelegateSubgroup";

/// Settings that grow with each line until an empty one, with the names they had before systemd
/// 231.
const LISTS: [(&str, &str); 3] = [
    ("InaccessiblePaths", "InaccessibleDirectories"),
    ("ReadOnlyPaths", "ReadOnlyDirectories"),
    ("ReadWritePaths", "ReadWriteDirectories"),
];

/// The sysctls that the kubelet sets at its start, where they are something else
/// (`setupKernelTunables` in `pkg/kubelet/cm/container_manager_linux.go`).
pub const SYSCTLS: [(&str, &str); 6] = [
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
];

/// What may keep the kubelet from setting them.
const MAY_COVER_SYSCTLS: [&str; 3] = [
    "InaccessiblePaths",
    "ProtectKernelTunables",
    "ReadOnlyPaths",
];

/// A line that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// By its present name.
    pub key: &'static str,
    /// As it stands there.
    pub value: String,
    /// Where.
    pub file: PathBuf,
}

/// What kubelite's unit says of its surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The lines that count, in the order in which they are read.
    pub assignments: Vec<Assignment>,
    /// Of [`SYSCTLS`], what they are now; only looked up where the unit may keep the kubelet from
    /// setting them.
    pub sysctls: Vec<(&'static str, String)>,
}

/// Looks into the unit's files; nothing is known of a unit that snapd has not written.
///
/// # Errors
/// When one that is there cannot be read.
pub fn observe(root: &Root) -> Result<Sandbox, ReadError> {
    let unit = MICROK8S.kubelet_unit;
    let mut sandbox = Sandbox::default();
    let fragment = Path::new(OF_SNAPD).join(unit);
    let Some(text) = text_of(root, &fragment)? else {
        return Ok(sandbox);
    };
    note(&mut sandbox.assignments, &text, &fragment);
    for file in drop_ins(root, unit)?.values() {
        note(
            &mut sandbox.assignments,
            &text_of(root, file)?.unwrap_or_default(),
            file,
        );
    }
    if sandbox
        .assignments
        .iter()
        .any(|assignment| MAY_COVER_SYSCTLS.contains(&assignment.key))
    {
        sandbox.sysctls = SYSCTLS
            .iter()
            .map(|(file, _)| (*file, kernel::value(root, file)))
            .collect();
    }
    Ok(sandbox)
}

impl Sandbox {
    /// Whether its processes run in a group below the service's own, so that this one can pass
    /// controllers on.
    pub fn has_subgroup(&self) -> bool {
        self.assignments
            .iter()
            .any(|assignment| assignment.key == SUBGROUP)
    }
}

/// What a capture keeps of a unit's file: the sections and the settings that are read. Others may
/// hold secrets (`Environment=`).
fn keep(text: &str) -> String {
    let is_read = |line: &str| {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let is_list = LISTS
            .into_iter()
            .any(|(now, before)| [now, before].contains(&key));
        is_list || TEXTS.contains(&key) || SCALARS.into_iter().any(|(scalar, _)| scalar == key)
    };
    let is_section = |line: &str| SECTIONS.contains(&line);
    let kept = lines(text)
        .into_iter()
        .map(|line| line.trim().to_owned())
        .map(|line| match line.as_str() {
            _ if is_read(&line) || is_section(&line) => line,
            section if section.starts_with('[') => OTHER_SECTION.to_owned(),
            _ => String::new(),
        });
    kept.filter(|line| !line.is_empty())
        .map(|line| line + "\n")
        .collect()
}

/// A link to `/dev/null` masks a file, so that it says nothing.
fn text_of(root: &Root, file: &Path) -> Result<Option<String>, ReadError> {
    match root.keeping(&keep::text(keep)).read_value(file) {
        Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(Some(String::new())),
        answer => answer,
    }
}

/// By name, which is the order they count in.
fn drop_ins(root: &Root, unit: &str) -> Result<BTreeMap<OsString, PathBuf>, ReadError> {
    let prefix = unit
        .rsplit_once('-')
        .map_or(String::new(), |(prefix, _)| format!("{prefix}-.service"));
    let mut folders = FOLDERS.to_vec();
    if !root.exists(Path::new(SELDOM_THERE))? {
        folders.retain(|folder| *folder != SELDOM_THERE);
    }
    let own = folders
        .iter()
        .flat_map(|folder| [unit, prefix.as_str()].map(|owner| (*folder, owner)));
    let mut found = BTreeMap::new();
    for (folder, owner) in own.chain(folders.iter().map(|folder| (*folder, "service"))) {
        let folder = Path::new(folder).join(format!("{owner}.d"));
        let files = match root.files_below(&folder) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => continue,
            answer => answer?,
        };
        for file in files {
            if let (Some(name), Some("conf")) = (
                file.file_name(),
                file.extension().and_then(|end| end.to_str()),
            ) {
                found.entry(name.to_owned()).or_insert(file);
            }
        }
    }
    found.remove(&OsString::from(OF_OURS));
    Ok(found)
}

/// Adds what `text` assigns in its `[Service]`.
fn note(assignments: &mut Vec<Assignment>, text: &str, file: &Path) {
    let mut is_service = false;
    for line in lines(text) {
        let line = line.trim();
        if line.starts_with('[') {
            is_service = line == "[Service]";
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_service) else {
            continue;
        };
        let (key, value) = (key.trim_end(), value.trim_start());
        let list = LISTS
            .into_iter()
            .find(|(now, before)| [*now, *before].contains(&key))
            .map(|(now, _)| now);
        let is_value = |words: &[&str]| words.contains(&value) || boolean(value).is_some();
        let scalar = SCALARS
            .into_iter()
            .find(|(scalar, words)| *scalar == key && is_value(words))
            .map(|(key, _)| key);
        let text = TEXTS.into_iter().find(|text| *text == key);
        let Some(key) = list.or(scalar).or(text) else {
            continue;
        };
        if list.is_none() || value.is_empty() {
            assignments.retain(|assignment| assignment.key != key);
        }
        if !value.is_empty() {
            assignments.push(Assignment {
                key,
                value: value.to_owned(),
                file: file.to_owned(),
            });
        }
    }
}

/// systemd's `parse_boolean`; `None` for what is neither yes nor no.
pub fn boolean(value: &str) -> Option<bool> {
    let is_among = |words: [&str; 6]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_among(["1", "yes", "y", "true", "t", "on"]) {
        Some(true)
    } else if is_among(["0", "no", "n", "false", "f", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Lines without comments; one that ends with a backslash goes on with the next.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        if let Some(line) = line.strip_suffix('\\') {
            begun.push_str(line);
            begun.push(' ');
        } else {
            begun.push_str(line);
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines.push(begun);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for text in texts {
            note(&mut found, text, Path::new("/x"));
        }
        found
            .into_iter()
            .map(|assignment| (assignment.key, assignment.value))
            .collect()
    }

    #[test]
    fn the_last_one_counts_and_lists_grow() {
        let scalar = read(&[
            "[Service]\nProtectSystem=full\n",
            "[Service]\n ProtectSystem = strict \n",
        ]);
        assert_eq!(scalar, [("ProtectSystem", "strict".to_owned())]);
        let unread =
            read(&["[Service]\nPrivateDevices=yes\nPrivateDevices=\nPrivateDevices=perhaps\n"]);
        assert_eq!(unread, [("PrivateDevices", "yes".to_owned())]);
        let list = read(&["[Service]\nReadOnlyPaths=/a /b\nReadOnlyDirectories=/c\n"]);
        assert_eq!(
            list,
            [
                ("ReadOnlyPaths", "/a /b".to_owned()),
                ("ReadOnlyPaths", "/c".to_owned())
            ]
        );
        assert!(
            read(&[
                "[Service]\nReadOnlyDirectories=/c\n",
                "[Service]\nReadOnlyPaths=\n"
            ])
            .is_empty()
        );
    }

    #[test]
    fn only_lines_of_the_service_that_are_no_comments() {
        let text = "[Unit]\nPrivateDevices=yes\n[Service]\n#PrivateDevices=yes\n\
                    ;ProtectSystem=full\nNonsense\n";
        assert!(read(&[text]).is_empty());
        let text = "[Service]\nReadOnlyPaths=/a \\\n# between\n  /b\nExecStart=/x \
                    \\\nPrivateDevices=yes\n";
        assert_eq!(read(&[text]), [("ReadOnlyPaths", "/a    /b".to_owned())]);
    }
}
