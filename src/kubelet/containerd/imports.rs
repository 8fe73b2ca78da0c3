//! What containerd's configuration imports: files that override it, and so may change the driver.
//!
//! Rests on `LoadConfigWithPlugins` and `resolveImports` in containerd's
//! `cmd/containerd/server/config/config.go`.

use std::path::{Component, Path, PathBuf};

use toml::Table;

use crate::kubelet::containerd::format::{GRPC_PLUGIN, RUNTIME_PLUGIN, SHORT_PLUGIN, parse};
use crate::kubelet::containerd::keep::keep;
use crate::kubelet::errors::{ErrorKind, SettingsError};
use crate::root::Root;
use crate::root::keep::text;

/// How many files imports may lead to.
const MOST_IMPORTS: usize = 64;

/// Why the driver is not known because of an import: a clause that names the import.
type Obstacle = String;

/// Follows `imports`, from file to file: an imported file overrides the one that imports it.
///
/// # Errors
/// When an import may change the driver, or cannot be followed.
pub(super) fn check(root: &Root, path: &Path, table: &Table) -> Result<(), SettingsError> {
    follow(root, path, table).map_err(|obstacle| {
        let reason = format!("{obstacle}, so the cgroup driver is not known");
        SettingsError::invalid(ErrorKind::Unknown, path, reason)
    })
}

fn follow(root: &Root, path: &Path, table: &Table) -> Result<(), Obstacle> {
    let mut imported = files(root, path, table)?;
    let mut next = 0;
    while let Some(import) = imported.get(next).cloned() {
        next += 1;
        let name = import.display().to_string();
        let error = |reason| Err(obstacle(&name, reason));
        let text = match root.keeping(&text(keep)).read_if_there(&import) {
            Ok(Some(text)) => text,
            Ok(None) => return error("does not exist"),
            Err(_) => return error("cannot be read"),
        };
        let Ok(table) = parse(&text) else {
            return error("is not valid TOML");
        };
        let plugins = table.get("plugins");
        let has = |plugin: &&str| plugins.is_some_and(|plugins| plugins.get(*plugin).is_some());
        if [RUNTIME_PLUGIN, GRPC_PLUGIN, SHORT_PLUGIN].iter().any(has) {
            return error("configures the CRI plugin itself");
        }
        for file in files(root, &import, &table)? {
            if file != path && !imported.contains(&file) {
                imported.push(file);
            }
        }
        if imported.len() > MOST_IMPORTS {
            return error("leads to too many other files");
        }
    }
    Ok(())
}

fn obstacle(import: &str, reason: &str) -> Obstacle {
    format!("the import {import:?} {reason}")
}

/// The files that the imports in `table` name; `parent` is the file that holds the table.
fn files(root: &Root, parent: &Path, table: &Table) -> Result<Vec<PathBuf>, Obstacle> {
    let Some(list) = table.get("imports") else {
        return Ok(Vec::new());
    };
    let Some(list) = list.as_array() else {
        let kind = list.type_str();
        return Err(format!(
            "the value of imports is of type {kind}, not a list"
        ));
    };
    let mut found = Vec::new();
    for pattern in list {
        let Some(pattern) = pattern.as_str() else {
            let kind = pattern.type_str();
            return Err(format!(
                "an item of imports is of type {kind}, not a string"
            ));
        };
        let error = |reason| obstacle(pattern, reason);
        let full = in_full(parent, pattern)
            .ok_or_else(|| error("cannot be followed by kubepods-repair"))?;
        if !pattern.contains('*') {
            found.push(full);
            continue;
        }
        let (folder, name) =
            split(&full).ok_or_else(|| error("cannot be followed by kubepods-repair"))?;
        let names = root.names(folder).map_err(|_| error("cannot be listed"))?;
        for file in names.unwrap_or_default() {
            if matches(name, &file.to_string_lossy()) {
                found.push(folder.join(file));
            }
        }
    }
    Ok(found)
}

/// An import as a path from the root, with the variable that MicroK8s puts into its template.
fn in_full(parent: &Path, import: &str) -> Option<PathBuf> {
    let args = parent.parent()?;
    let data = args.parent()?.to_str()?;
    let import = import.replace("${SNAP_DATA}", data);
    let path = args.join(&import);
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let can_follow = !import.is_empty() && !import.contains('$') && !goes_up;
    can_follow.then(|| path.components().collect())
}

/// The folder and the pattern of the names in it; `None` for a pattern that has more to it than
/// stars in the last name.
fn split(path: &Path) -> Option<(&Path, &str)> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let is_plain = !folder.to_string_lossy().contains(['*', '?', '[', '\\']);
    (is_plain && !name.contains(['?', '[', '\\'])).then_some((folder, name))
}

/// Whether `name` is what `pattern` means, in which a star matches any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, pattern)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    for piece in middle.split('*') {
        let Some((_, behind)) = rest.split_once(piece) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::containerd::read;

    /// The list of imports, the files that exist, and whether the cgroup driver is known as a
    /// result.
    type Row = (&'static str, &'static [(&'static str, &'static str)], bool);

    /// A folder of its own, gone at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let folder =
                std::env::temp_dir().join(format!("kubepods-repair-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = folder.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const CRI: &str = "[plugins.\"io.containerd.cri.v1.runtime\".containerd]\nx = 1\n";

    #[test]
    fn imports_that_may_decide_leave_the_driver_unknown() {
        let config = |imports: &str| format!("version = 3\nimports = {imports}\n");
        let table: &[Row] = &[
            ("[]", &[], true),
            ("[\"conf.d/*.toml\"]", &[], true),
            (
                "[\"conf.d/*.toml\"]",
                &[("data/args/conf.d/a.conf", CRI)],
                true,
            ),
            (
                "[\"conf.d/*.toml\"]",
                &[("data/args/conf.d/a.toml", "[debug]\nlevel = \"info\"\n")],
                true,
            ),
            (
                "[\"conf.d/*.toml\"]",
                &[("data/args/conf.d/a.toml", CRI)],
                false,
            ),
            (
                "[\"/data/args/conf.d/*\"]",
                &[("data/args/conf.d/.a", CRI)],
                false,
            ),
            (
                "[\"${SNAP_DATA}/args/conf.d/*\"]",
                &[("data/args/conf.d/a", CRI)],
                false,
            ),
            (
                "[\"conf.d/*.toml\"]",
                &[("data/args/conf.d/a.toml", "broken = = 1")],
                false,
            ),
            ("[\"one.toml\"]", &[], false),
            (
                "[\"one.toml\"]",
                &[
                    ("data/args/one.toml", "imports = [\"two.toml\"]"),
                    ("data/args/two.toml", CRI),
                ],
                false,
            ),
            (
                "[\"one.toml\"]",
                &[(
                    "data/args/one.toml",
                    "imports = [\"one.toml\", \"containerd.toml\"]",
                )],
                true,
            ),
            ("[\"*/a.toml\"]", &[], false),
            ("[\"$HOME/*.toml\"]", &[], false),
            ("[\"../*.toml\"]", &[], false),
            ("[5]", &[], false),
            ("\"a\"", &[], false),
        ];
        for (imports, files, is_known) in table {
            let main = config(imports);
            let mut all = vec![("data/args/containerd.toml", main.as_str())];
            all.extend(*files);
            let folder = Folder::new("imports", &all);
            let file = read(
                &Root::captured(&folder.0).unwrap(),
                &[PathBuf::from("/data/args/containerd.toml")],
            );
            let file = file.unwrap().unwrap();
            assert_eq!(
                file.driver.is_ok(),
                *is_known,
                "{imports} {files:?}: {:?}",
                file.driver
            );
            assert!(file.is_second);
        }
    }

    #[test]
    fn stars_match_any_text() {
        for (pattern, name, does) in [
            ("*", "", true),
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), does, "{pattern} {name}");
        }
    }
}
