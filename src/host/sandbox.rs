//! Reads the settings by which kubelite's unit is confined, from its unit file and its drop-ins.
//!
//! A service may have other mounts than this program, whose ExecStartPre has full privileges (`+`):
//! what is writable for this program may be read-only for the kubelet. See systemd.exec(5),
//! "Sandboxing", and systemd.syntax(7).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::host::kernel;
use crate::host::service::UNITS;
use crate::host::unit_files::drop_ins;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::{ReadError, Root, keep};
use Values::{Paths, Text, Words};

/// The folders of drop-ins. Of two drop-ins with the same name, the one in the first folder wins.
const FOLDERS: [&str; 4] = [
    UNITS,
    "/run/systemd/system",
    SELDOM_THERE,
    "/usr/lib/systemd/system",
];

/// Usually does not exist. It is looked up once instead of each folder in it.
const SELDOM_THERE: &str = "/usr/local/lib/systemd/system";

/// The sections of a service's files. Only settings in `[Service]` count.
const SECTIONS: [&str; 3] = ["[Unit]", "[Install]", "[Service]"];

/// The section that replaces any other one in a capture.
const OTHER_SECTION: &str = "[X-Other]";

/// This program's own drop-in, which does not confine the service.
const OF_OURS: &str = "20-kubepods-repair.conf";

/// The values that a setting can have, and which of its lines count.
enum Values {
    /// A boolean or one of these words. The last valid line counts.
    Words(&'static [&'static str]),
    /// Any text. The last line counts, and an empty value unsets it.
    Text,
    /// Paths. Each line adds to the list, and an empty value clears it. With the name that the
    /// setting had before systemd 231.
    Paths(&'static str),
}

/// The setting that makes a service's processes run in a group below its own (systemd 254 and
/// later).
const SUBGROUP: &str = "DelegateSubgroup";

/// The settings that are read. `private` and `strict` for `ProtectControlGroups` are new in systemd
/// 257.
static SETTINGS: [(&str, Values); 9] = [
    (SUBGROUP, Text),
    ("InaccessiblePaths", Paths("InaccessibleDirectories")),
    ("PrivateDevices", Words(&[])),
    ("ProtectControlGroups", Words(&["private", "strict"])),
    ("ProtectKernelLogs", Words(&[])),
    ("ProtectKernelTunables", Words(&[])),
    ("ProtectSystem", Words(&["full", "strict"])),
    ("ReadOnlyPaths", Paths("ReadOnlyDirectories")),
    ("ReadWritePaths", Paths("ReadWriteDirectories")),
];

/// The setting with this present or former name; `None` if it is not read.
fn known(key: &str) -> Option<&'static (&'static str, Values)> {
    SETTINGS.iter().find(|(now, values)| match values {
        Paths(before) => [*now, *before].contains(&key),
        Words(_) | Text => *now == key,
    })
}

/// The sysctls that the kubelet sets at its start, if they have other values
/// (`setupKernelTunables` in `pkg/kubelet/cm/container_manager_linux.go`).
pub const SYSCTLS: [(&str, &str); 6] = [
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
];

/// The settings that may keep the kubelet from setting them.
const MAY_COVER_SYSCTLS: [&str; 3] = [
    "InaccessiblePaths",
    "ProtectKernelTunables",
    "ReadOnlyPaths",
];

/// A setting that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The present name of the setting.
    pub key: &'static str,
    /// The value after `=`, without blanks around it.
    pub value: String,
    /// The unit file or drop-in that contains it.
    pub file: PathBuf,
}

/// The settings by which kubelite's unit is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The settings that are in effect, in the order in which systemd reads them.
    pub assignments: Vec<Assignment>,
    /// The present values of [`SYSCTLS`]; only read if the unit may keep the kubelet from setting
    /// them.
    pub sysctls: Vec<(&'static str, String)>,
}

/// Reads the unit's files; the result is empty if snapd has not written the unit.
///
/// # Errors
/// When an existing file cannot be read.
pub fn observe(root: &Root) -> Result<Sandbox, ReadError> {
    let unit = MICROK8S.kubelet_unit;
    let mut sandbox = Sandbox::default();
    let fragment = Path::new(UNITS).join(unit);
    let Some(text) = text_of(root, &fragment)? else {
        return Ok(sandbox);
    };
    let mut folders = FOLDERS.to_vec();
    if !root.exists(Path::new(SELDOM_THERE))? {
        folders.retain(|folder| *folder != SELDOM_THERE);
    }
    let mut drop_ins = drop_ins(root, unit, &folders)?;
    drop_ins.remove(OsStr::new(OF_OURS));
    let assignments = &mut sandbox.assignments;
    note(assignments, &text, &fragment);
    for file in drop_ins.values() {
        note(assignments, &text_of(root, file)?.unwrap_or_default(), file);
    }
    let mut assigned = assignments.iter();
    if assigned.any(|assignment| MAY_COVER_SYSCTLS.contains(&assignment.key)) {
        sandbox.sysctls = sysctls(root);
    }
    Ok(sandbox)
}

/// The present values of [`SYSCTLS`].
pub(super) fn sysctls(root: &Root) -> Vec<(&'static str, String)> {
    let value = |(file, _)| (file, kernel::value(root, file));
    SYSCTLS.into_iter().map(value).collect()
}

impl Sandbox {
    /// Whether the processes run in a group below the service's own group, so that the latter can
    /// enable controllers.
    pub fn has_subgroup(&self) -> bool {
        let mut assigned = self.assignments.iter();
        assigned.any(|assignment| assignment.key == SUBGROUP)
    }
}

/// What a capture keeps of a unit's file: the sections and the settings that are read. Other
/// settings may contain secrets (`Environment=`).
fn keep(text: &str) -> String {
    let mut kept = String::new();
    for line in lines(text) {
        let line = line.trim();
        let key = line.split_once('=').map(|(key, _)| key.trim());
        if key.is_some_and(|key| known(key).is_some()) || SECTIONS.contains(&line) {
            kept += line;
        } else if line.starts_with('[') {
            kept += OTHER_SECTION;
        } else {
            continue;
        }
        kept.push('\n');
    }
    kept
}

/// The text of a file; empty if a link to `/dev/null` masks it.
fn text_of(root: &Root, file: &Path) -> Result<Option<String>, ReadError> {
    match root.keeping(&keep::text(keep)).read_value(file) {
        Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(Some(String::new())),
        answer => answer,
    }
}

/// Adds the settings in the `[Service]` section of `text`.
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
        let value = value.trim_start();
        let Some((key, values)) = known(key.trim_end()) else {
            continue;
        };
        match values {
            Words(words) if !words.contains(&value) && boolean(value).is_none() => continue,
            Paths(_) if !value.is_empty() => {}
            Words(_) | Paths(_) | Text => {
                assignments.retain(|assignment| assignment.key != *key);
            }
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

/// Reads a boolean as systemd's `parse_boolean` does; `None` if it is not one.
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

/// The lines without comments. A line that ends with a backslash is joined with the next one.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    let is_comment = |line: &&str| line.trim_start().starts_with(['#', ';']);
    for line in text.lines().filter(|line| !is_comment(line)) {
        if let Some(line) = line.strip_suffix('\\') {
            begun += line;
            begun.push(' ');
        } else {
            begun += line;
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
    fn the_last_value_counts_and_lists_grow() {
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
    fn comments_and_other_sections_are_ignored() {
        let text = "[Unit]\nPrivateDevices=yes\n[Service]\n#PrivateDevices=yes\n\
                    ;ProtectSystem=full\nNonsense\n";
        assert!(read(&[text]).is_empty());
        let text = "[Service]\nReadOnlyPaths=/a \\\n# between\n  /b\nExecStart=/x \
                    \\\nPrivateDevices=yes\n";
        assert_eq!(read(&[text]), [("ReadOnlyPaths", "/a    /b".to_owned())]);
    }
}
