//! What containerd's configuration imports: files that lie over it, and may so change the driver.
//!
//! Rests on `LoadConfigWithPlugins` and `resolveImports` in containerd's
//! `cmd/containerd/server/config/config.go`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use toml::Table;

use super::keep::keep;
use super::{ContainerdError, GRPC_PLUGIN, RUNTIME_PLUGIN, SHORT_PLUGIN, parse};
use crate::root::Root;
use crate::root::keep::text;

/// How many files imports may lead to.
const MOST_IMPORTS: usize = 64;

/// Follows `imports`, from file to file: what is imported lies over what imports it.
pub(super) fn check(root: &Root, path: &Path, table: &Table) -> Result<(), ContainerdError> {
    let mut imported = files(root, path, path, table)?;
    let mut seen = 0;
    while seen < imported.len() {
        let error = |import: &Path, reason| {
            let import = import.display().to_string();
            Err(ContainerdError::Imports {
                path: path.to_owned(),
                import,
                reason,
            })
        };
        let Some(import) = imported.get(seen).cloned() else {
            break;
        };
        seen += 1;
        let text = match root.keeping(&text(keep)).read_if_there(&import) {
            Ok(Some(text)) => text,
            Ok(None) => return error(&import, "does not exist, which containerd refuses"),
            Err(_) => return error(&import, "cannot be read"),
        };
        let Ok(table) = parse(&import, &text) else {
            return error(&import, "is no TOML");
        };
        let plugins = table.get("plugins");
        let has = |plugin: &&str| plugins.is_some_and(|plugins| plugins.get(*plugin).is_some());
        if [RUNTIME_PLUGIN, GRPC_PLUGIN, SHORT_PLUGIN].iter().any(has) {
            return error(&import, "has settings of its own for the CRI");
        }
        for next in files(root, path, &import, &table)? {
            if next != path && !imported.contains(&next) {
                imported.push(next);
            }
        }
        if imported.len() > MOST_IMPORTS {
            return error(&import, "leads to too many files");
        }
    }
    Ok(())
}

/// The files that the imports in `table`, which stands in `parent`, come to.
fn files(
    root: &Root,
    path: &Path,
    parent: &Path,
    table: &Table,
) -> Result<Vec<PathBuf>, ContainerdError> {
    let error = |import: &str, reason| {
        let import = import.to_owned();
        Err(ContainerdError::Imports {
            path: path.to_owned(),
            import,
            reason,
        })
    };
    let Some(list) = table.get("imports") else {
        return Ok(Vec::new());
    };
    let Some(list) = list.as_array() else {
        return error(list.type_str(), "is no list");
    };
    let mut found = Vec::new();
    for pattern in list {
        let Some(pattern) = pattern.as_str() else {
            return error(pattern.type_str(), "is no text");
        };
        let Some(full) = in_full(parent, pattern) else {
            return error(pattern, "cannot be followed");
        };
        if !pattern.contains('*') {
            found.push(full);
            continue;
        }
        let (Some(folder), Some(name)) = (
            full.parent(),
            full.file_name().and_then(|name| name.to_str()),
        ) else {
            return error(pattern, "cannot be followed");
        };
        // More than stars in the last name, this program does not match.
        if name.contains(['?', '[', '\\'])
            || folder.to_string_lossy().contains(['*', '?', '[', '\\'])
        {
            return error(pattern, "cannot be followed");
        }
        let Ok(names) = root.names(folder) else {
            return error(pattern, "cannot be listed");
        };
        let is_meant = |found: &OsString| matches(name, &found.to_string_lossy());
        found.extend(
            names
                .into_iter()
                .flatten()
                .filter(is_meant)
                .map(|name| folder.join(name)),
        );
    }
    Ok(found)
}

/// An import as a path from the root, with the variable that MicroK8s puts into its template.
fn in_full(parent: &Path, import: &str) -> Option<PathBuf> {
    let args = parent.parent()?;
    let data = args.parent()?.to_str()?;
    let import = import.replace("${SNAP_DATA}", data);
    let path = args.join(&import);
    let is_plain = |component: Component<'_>| !matches!(component, Component::ParentDir);
    (!import.is_empty() && !import.contains('$') && path.components().all(is_plain))
        .then(|| path.components().collect())
}

/// Whether `name` is what `pattern` means, in which a star stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::containerd::read;

    /// What is imported, the files that are there, and whether the driver is known then.
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

    #[test]
    fn imports_that_may_decide_leave_the_driver_unknown() {
        const CRI: &str = "[plugins.\"io.containerd.cri.v1.runtime\".containerd]\nx = 1\n";
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
    fn stars() {
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
