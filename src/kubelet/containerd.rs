//! The cgroup driver that containerd's own configuration asks for.
//!
//! From containerd 2 on the runtime tells the kubelet its driver (RuntimeConfig of the CRI), and
//! kubelets from 1.31 on obey. The file is read rather than the runtime asked, which may not be up
//! yet.
//!
//! Rests on containerd 2.0 to 2.3: `internal/cri/server/runtime_config_linux.go` and
//! `GenerateRuntimeOptions` for the answer, `plugins/cri/runtime/plugin.go` (`configMigration`) and
//! `cmd/containerd/server/config/config.go` for what is read.

mod imports;
mod keep;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::kubelet::{Driver, ErrorKind};
use crate::root::keep::{known_fault, text};
use crate::root::{ReadError, Root};

/// Where the CRI's part of the configuration stands from version 3 of the file on, and before.
const RUNTIME_PLUGIN: &str = "io.containerd.cri.v1.runtime";
const GRPC_PLUGIN: &str = "io.containerd.grpc.v1.cri";
/// The same in version 1.
const SHORT_PLUGIN: &str = "cri";

/// The version of the configuration that containerd 2 brought.
const VERSION_OF_SECOND: i64 = 3;

/// The runtime that is always there, with options of its own; MicroK8s' template names it by a
/// variable.
const USUAL_RUNTIME: &str = "runc";

/// The only type of runtime whose options say a driver, and how MicroK8s' template names it.
const RUNC_TYPES: [&str; 2] = ["io.containerd.runc.v2", "${RUNTIME_TYPE}"];

/// The options of such a runtime (`api/types/runc/options`); one of another type spoils them all.
const RUNC_OPTIONS: [(&str, Expected); 12] = [
    ("NoPivotRoot", Expected::Boolean),
    ("NoNewKeyring", Expected::Boolean),
    ("ShimCgroup", Expected::Text),
    ("IoUid", Expected::Number),
    ("IoGid", Expected::Number),
    ("BinaryName", Expected::Text),
    ("Root", Expected::Text),
    (SYSTEMD_CGROUP, Expected::Boolean),
    ("CriuImagePath", Expected::Text),
    ("CriuWorkPath", Expected::Text),
    ("TaskApiAddress", Expected::Text),
    ("TaskApiVersion", Expected::Number),
];

const SYSTEMD_CGROUP: &str = "SystemdCgroup";

/// What exists where systemd is the init system.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

#[derive(Clone, Copy)]
enum Expected {
    Boolean,
    Number,
    Text,
}

/// What containerd is told, and in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containerd {
    /// What it answers a kubelet that asks.
    pub driver: Driver,
    /// The file that says so, or does not say otherwise.
    pub path: PathBuf,
    /// Whether only a containerd 2 reads this file, which answers a kubelet that asks. One that
    /// both read tells nothing.
    pub is_second: bool,
}

/// A configuration that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where.
    pub path: PathBuf,
    /// As [`Containerd::is_second`].
    pub is_second: bool,
    /// What it comes to.
    pub driver: Result<Driver, ContainerdError>,
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
    /// The default runtime is not there.
    #[error(
        "{path}: default_runtime_name {name:?} names no runtime of this file; containerd then runs \
         without its CRI plugin, and the kubelet finds no runtime (\"no corresponding runtime \
         configured in `containerd.runtimes`\")",
        path = path.display()
    )]
    NoDefaultRuntime {
        /// The file.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// It imports what may change the driver.
    #[error("{path}: imports {import:?} {reason}, so that the cgroup driver is not \
             known", path = path.display())]
    Imports {
        /// The file.
        path: PathBuf,
        /// A pattern in it, or a file that is imported.
        import: String,
        /// What about it.
        reason: &'static str,
    },
}

impl ContainerdError {
    /// What it means for the kubelet's start, where the driver depends on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDefaultRuntime { .. } => ErrorKind::Refused,
            Self::Read(_) | Self::Invalid { .. } | Self::Imports { .. } => ErrorKind::Unknown,
        }
    }

    /// The file that shows it.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read(error) => &error.path,
            Self::Invalid { path, .. }
            | Self::NoDefaultRuntime { path, .. }
            | Self::Imports { path, .. } => path,
        }
    }
}

/// The driver by the first of `candidates` that exists; `None` where none does.
///
/// # Errors
/// When that file cannot be read or is no TOML.
pub fn read(root: &Root, candidates: &[PathBuf]) -> Result<Option<ConfigFile>, ContainerdError> {
    for path in candidates {
        if let Some(text) = root.keeping(&text(keep::keep)).read_if_there(path)? {
            let table = parse(path, &text)?;
            let is_second = version(&table) >= VERSION_OF_SECOND;
            let driver =
                imports::check(root, path, &table).and_then(|()| match driver(path, &table)? {
                    Some(driver) => Ok(driver),
                    None => Ok(if root.exists(Path::new(SYSTEMD_RUNS))? {
                        Driver::Systemd
                    } else {
                        Driver::Cgroupfs
                    }),
                });
            return Ok(Some(ConfigFile {
                path: path.clone(),
                is_second,
                driver,
            }));
        }
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<Table, ContainerdError> {
    let line_of = |at: usize| text.get(..at).map(|before| before.split('\n').count());
    let invalid = |line: Option<usize>, reason: &str| ContainerdError::Invalid {
        path: path.to_owned(),
        line: line.unwrap_or(1),
        reason: reason.to_owned(),
    };
    if let Some((line, reason)) = known_fault(text).and_then(|fault| fault.split_once(' ')) {
        return Err(invalid(line.parse().ok(), reason));
    }
    text.parse().map_err(|error: toml::de::Error| {
        // The library quotes a number that is too large, and nothing else.
        let reason = match error.message() {
            number if number.starts_with("invalid type: integer") => {
                "an integer that does not fit into 64 bits"
            }
            reason => reason,
        };
        invalid(error.span().and_then(|span| line_of(span.start)), reason)
    })
}

fn version(table: &Table) -> i64 {
    table
        .get("version")
        .and_then(Value::as_integer)
        .unwrap_or(1)
}

/// A key of the CRI plugin's `containerd` table. Files before version 3 are migrated: what the
/// newer plugin does not say, the older one does.
fn setting<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let plugins: &[&str] = match version(table) {
        VERSION_OF_SECOND.. => &[RUNTIME_PLUGIN],
        2 => &[RUNTIME_PLUGIN, GRPC_PLUGIN],
        _ => &[RUNTIME_PLUGIN, GRPC_PLUGIN, SHORT_PLUGIN],
    };
    let all = table.get("plugins")?;
    plugins
        .iter()
        .find_map(|plugin| all.get(plugin)?.get("containerd")?.get(key))
}

/// What containerd answers: the word of the first runtime that has one, the default first, then by
/// name; `None` where none has and it looks whether systemd runs.
fn driver(path: &Path, table: &Table) -> Result<Option<Driver>, ContainerdError> {
    let empty = Table::new();
    let runtimes = setting(table, "runtimes")
        .and_then(Value::as_table)
        .unwrap_or(&empty);
    let default = match setting(table, "default_runtime_name") {
        None => USUAL_RUNTIME,
        Some(Value::String(name)) if name.starts_with('$') => USUAL_RUNTIME,
        Some(Value::String(name)) if name == USUAL_RUNTIME || runtimes.contains_key(name) => name,
        Some(other) => {
            let name = other.as_str().unwrap_or(other.type_str()).to_owned();
            return Err(ContainerdError::NoDefaultRuntime {
                path: path.to_owned(),
                name,
            });
        }
    };
    let mut names: Vec<&str> = runtimes
        .keys()
        .map(String::as_str)
        .chain([USUAL_RUNTIME])
        .collect();
    names.sort_unstable();
    names.dedup();
    names.sort_by_key(|name| *name != default);
    Ok(names
        .into_iter()
        .find_map(|name| driver_of(name, runtimes.get(name))))
}

/// The driver by a runtime's options, if they are such that say one.
fn driver_of(name: &str, runtime: Option<&Value>) -> Option<Driver> {
    let get = |key: &str| runtime.and_then(|runtime| runtime.get(key));
    // runc has its type and all its options by default, and what a file says is laid over them.
    let is_usual = name == USUAL_RUNTIME;
    let kind = match get("runtime_type") {
        Some(kind) => kind.as_str()?,
        None if is_usual => RUNC_TYPES[0],
        None => return None,
    };
    let options = match get("options") {
        Some(options) => options.as_table()?,
        None if is_usual => &Table::new(),
        None => return None,
    };
    let mut driver = Driver::Cgroupfs;
    for (name, value) in options {
        let known = RUNC_OPTIONS
            .iter()
            .find(|(option, _)| option.eq_ignore_ascii_case(name));
        let Some((option, expected)) = known else {
            continue;
        };
        let fits = match expected {
            Expected::Boolean => value.is_bool(),
            Expected::Number => value
                .as_integer()
                .is_some_and(|number| u32::try_from(number).is_ok()),
            Expected::Text => value.is_str(),
        };
        match value.as_bool() {
            _ if !fits => return None,
            Some(value) if *option == SYSTEMD_CGROUP => {
                driver = if value {
                    Driver::Systemd
                } else {
                    Driver::Cgroupfs
                };
            }
            _ => {}
        }
    }
    RUNC_TYPES.contains(&kind).then_some(driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of version 3; `[R.x]` is short for the table of a runtime.
    fn answer(text: &str) -> Result<Option<Driver>, ContainerdError> {
        let runtimes = format!("[plugins.\"{RUNTIME_PLUGIN}\".containerd.runtimes.");
        let containerd = format!("[plugins.\"{RUNTIME_PLUGIN}\".containerd]");
        let text = text.replace("[C]", &containerd).replace("[R.", &runtimes);
        driver(
            Path::new("/x"),
            &parse(Path::new("/x"), &format!("version = 3\n{text}")).unwrap(),
        )
    }

    #[test]
    fn the_default_runtime_decides() {
        let template = |plugin: &str, name: &str| {
            let of = format!("[plugins.\"{plugin}\".containerd");
            let (begin, kind) = ("version = 2\n", "runtime_type = ");
            format!(
                "{begin}{of}]\ndefault_runtime_name = \"{name}\"\n\
                 {of}.runtimes.runc]\n{kind}\"${{RUNTIME_TYPE}}\"\n\
                 {of}.runtimes.runc.options]\nSystemdCgroup = true\n\
                 {of}.runtimes.gpu]\n{kind}\"io.containerd.runc.v2\"\n\
                 {of}.runtimes.gpu.options]\nSystemdCgroup = false\n"
            )
        };
        let driver = |text: &str| driver(Path::new("/x"), &parse(Path::new("/x"), text).unwrap());
        for plugin in [RUNTIME_PLUGIN, GRPC_PLUGIN] {
            assert_eq!(
                driver(&template(plugin, "${RUNTIME}")),
                Ok(Some(Driver::Systemd))
            );
            assert_eq!(driver(&template(plugin, "runc")), Ok(Some(Driver::Systemd)));
            assert_eq!(driver(&template(plugin, "gpu")), Ok(Some(Driver::Cgroupfs)));
        }
        let first = "[plugins.cri.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
        assert_eq!(
            driver(first),
            Ok(Some(Driver::Systemd)),
            "a file without a version is of version 1"
        );
        assert_eq!(
            driver(&format!("version = 2\n{first}")),
            Ok(Some(Driver::Cgroupfs))
        );
        assert_eq!(driver(""), Ok(Some(Driver::Cgroupfs)));
        assert_eq!(
            driver("# SystemdCgroup = true\n"),
            Ok(Some(Driver::Cgroupfs))
        );
    }

    #[test]
    fn without_options_the_others_are_asked_and_then_systemd() {
        let (cgroupfs, systemd) = (Ok(Some(Driver::Cgroupfs)), Ok(Some(Driver::Systemd)));
        let v2 = "runtime_type = \"io.containerd.runc.v2\"\n";
        let table = [
            // runc has its options by default, whatever the file says of it.
            (format!("[R.runc]\n{v2}"), &cgroupfs),
            (
                "[C]\ndefault_runtime_name = \"kata\"\n[R.kata]\nruntime_type = \
              \"kata\"\n"
                    .into(),
                &cgroupfs,
            ),
            // The default without options, then the others by name.
            (
                format!(
                    "[C]\ndefault_runtime_name = \
                     \"z\"\n[R.z]\n{v2}[R.b]\n{v2}[R.b.options]\nSystemdCgroup = \
                     false\n[R.a]\n{v2}[R.a.options]\nSystemdCgroup = true\n"
                ),
                &systemd,
            ),
            // Options of another type of runtime say nothing, nor do such that are not of their
            // type.
            (
                "[C]\ndefault_runtime_name = \"k\"\n[R.k]\nruntime_type = \
                 \"k\"\n[R.k.options]\nSystemdCgroup = true\n[R.runc.options]\nSystemdCgroup = \
                 false\n"
                    .into(),
                &cgroupfs,
            ),
            (
                format!(
                    "[C]\ndefault_runtime_name = \
                         \"a\"\n[R.a]\n{v2}[R.a.options]\nSystemdCgroup = \"true\"\n"
                ),
                &cgroupfs,
            ),
            (
                format!(
                    "[C]\ndefault_runtime_name = \"a\"\n[R.a]\n{v2}[R.a.options]\nIoUid = \
                     -1\nSystemdCgroup = true\n"
                ),
                &cgroupfs,
            ),
            (
                format!("[R.runc]\n{v2}[R.runc.options]\nsystemdcgroup = true\n"),
                &systemd,
            ),
            (
                "[R.runc]\nruntime_type = \
                 \"io.containerd.runc.v1\"\n[R.runc.options]\nSystemdCgroup = false\n"
                    .into(),
                &Ok(None),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(answer(&text), *expected, "{text}");
        }
        for name in ["\"kata\"", "\"\"", "5"] {
            let error = answer(&format!("[C]\ndefault_runtime_name = {name}\n")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{name}");
        }
    }

    #[test]
    fn an_error_names_its_line() {
        let error = parse(Path::new("/x"), "a = 1\nb = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("/x, line 2: "), "{error}");
    }
}
