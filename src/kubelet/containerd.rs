//! The cgroup driver that containerd's own configuration asks for.
//!
//! From containerd 2 on the runtime tells the kubelet its driver (RuntimeConfig of the CRI), and kubelets from 1.31 on obey;
//! it is `SystemdCgroup` of the default runtime (`internal/cri/server/runtime_config_linux.go`). The file is read rather than
//! the runtime asked, which may not be up yet.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::kubelet::Driver;
use crate::root::{ReadError, Root};

/// Where the CRI's part of the configuration stands: containerd 2, containerd 1.
const PLUGINS: [&str; 2] = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];

/// The version of the configuration that containerd 2 brought.
const VERSION_OF_SECOND: i64 = 3;

/// The runtime that MicroK8s uses unless a GPU is found; its template names it by a variable.
const USUAL_RUNTIME: &str = "runc";

/// What containerd is told, and in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containerd {
    /// `systemd` for `SystemdCgroup = true`.
    pub driver: Driver,
    /// The file that says so, or does not say otherwise.
    pub path: PathBuf,
    /// Whether only a containerd 2 reads this file, which answers a kubelet that asks. One that both read tells nothing.
    pub is_second: bool,
}

/// Why containerd's configuration is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerdError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no TOML.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The driver by the first of `candidates` that exists; `None` where none does.
///
/// # Errors
/// When that file cannot be read or is no TOML.
pub fn read(root: &Root, candidates: &[PathBuf]) -> Result<Option<Containerd>, ContainerdError> {
    for path in candidates {
        if let Some(text) = root.read_if_there(path)? {
            let table = parse(path, &text)?;
            let is_second = table.get("version").and_then(Value::as_integer) >= Some(VERSION_OF_SECOND);
            return Ok(Some(Containerd { driver: driver(&table), path: path.clone(), is_second }));
        }
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<Table, ContainerdError> {
    text.parse().map_err(|error: toml::de::Error| ContainerdError::Invalid {
        path: path.to_owned(),
        line: error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.split('\n').count()),
        reason: error.message().to_owned(),
    })
}

fn driver(table: &Table) -> Driver {
    match PLUGINS.iter().find_map(|plugin| systemd_cgroup(table, plugin)) {
        Some(true) => Driver::Systemd,
        Some(false) | None => Driver::Cgroupfs,
    }
}

fn systemd_cgroup(table: &Table, plugin: &str) -> Option<bool> {
    let containerd = table.get("plugins")?.get(plugin)?.get("containerd")?;
    let named = containerd.get("default_runtime_name").and_then(Value::as_str).filter(|name| !name.starts_with('$'));
    let runtime = containerd.get("runtimes")?.get(named.unwrap_or(USUAL_RUNTIME))?;
    runtime.get("options")?.get("SystemdCgroup")?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(text: &str) -> Driver {
        super::driver(&parse(Path::new("/x"), text).unwrap())
    }

    #[test]
    fn the_default_runtime_decides() {
        let template = |plugin: &str, name: &str| {
            format!(
                "version = 2\n[plugins.\"{plugin}\".containerd]\ndefault_runtime_name = \"{name}\"\n\
                 [plugins.\"{plugin}\".containerd.runtimes.runc]\nruntime_type = \"${{RUNTIME_TYPE}}\"\n\
                 [plugins.\"{plugin}\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n\
                 [plugins.\"{plugin}\".containerd.runtimes.kata.options]\nSystemdCgroup = false\n"
            )
        };
        for plugin in PLUGINS {
            assert_eq!(driver(&template(plugin, "${RUNTIME}")), Driver::Systemd);
            assert_eq!(driver(&template(plugin, "runc")), Driver::Systemd);
            assert_eq!(driver(&template(plugin, "kata")), Driver::Cgroupfs);
        }
        assert_eq!(driver(""), Driver::Cgroupfs);
        assert_eq!(driver("# SystemdCgroup = true\n"), Driver::Cgroupfs);
    }

    #[test]
    fn an_error_names_its_line() {
        let error = parse(Path::new("/x"), "a = 1\nb = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("/x, line 2: "), "{error}");
    }
}
