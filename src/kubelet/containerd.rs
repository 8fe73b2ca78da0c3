//! The cgroup driver that containerd's own configuration asks for.
//!
//! From containerd 2 on the runtime tells the kubelet its driver (RuntimeConfig of the CRI), and
//! kubelets from 1.31 on obey. This program reads the file rather than asks the runtime, which may
//! not be up yet.
//!
//! Rests on containerd 2.0 to 2.3: `internal/cri/server/runtime_config_linux.go` and
//! `GenerateRuntimeOptions` for the answer, `plugins/cri/runtime/plugin.go` (`configMigration`) and
//! `cmd/containerd/server/config/config.go` for what is read.

mod format;
mod imports;
mod keep;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::kubelet::errors::{ErrorKind, SettingsError};
use crate::kubelet::setting::Driver;
use crate::root::Root;
use crate::root::keep::text;
use format::{GRPC_PLUGIN, RUNC_OPTIONS, RUNTIME_PLUGIN, SHORT_PLUGIN, SYSTEMD_CGROUP, parse};

/// The version of the file that containerd 2 brought.
const FORMAT_OF_SECOND: i64 = 3;

/// The runtime that is always there, with options of its own; MicroK8s' template names it by a
/// variable.
const USUAL_RUNTIME: &str = "runc";

/// The only type of runtime whose options say a driver, and how MicroK8s' template names it.
const RUNC_TYPES: [&str; 2] = ["io.containerd.runc.v2", "${RUNTIME_TYPE}"];

/// What exists where systemd is the init system.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// The driver that containerd's configuration sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containerd {
    /// The driver that containerd answers a kubelet that asks.
    pub driver: Driver,
    /// The file that sets it, or leaves the default.
    pub path: PathBuf,
    /// Whether only containerd 2 reads this file. containerd 2 answers a kubelet that asks for the
    /// driver. Any containerd reads a file of an older format, so this is false for it.
    pub is_second: bool,
}

/// A configuration file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// As [`Containerd::path`].
    pub path: PathBuf,
    /// As [`Containerd::is_second`].
    pub is_second: bool,
    /// The driver, or why it is not known.
    pub driver: Result<Driver, SettingsError>,
}

impl ConfigFile {
    /// The configuration with the driver that it sets.
    ///
    /// # Errors
    /// When the driver is not known.
    pub(super) fn known(self) -> Result<Containerd, SettingsError> {
        Ok(Containerd {
            driver: self.driver?,
            path: self.path,
            is_second: self.is_second,
        })
    }
}

/// The driver by the first of `candidates` that exists; `None` where none does.
///
/// # Errors
/// When that file cannot be read or is not valid TOML.
pub fn read(root: &Root, candidates: &[PathBuf]) -> Result<Option<ConfigFile>, SettingsError> {
    // The kubelet itself does not read these files, and so refuses nothing.
    let kind = ErrorKind::Unknown;
    let unreadable = |error| SettingsError::Read { error, kind };
    for path in candidates {
        let text = root.keeping(&text(keep::keep)).read_if_there(path);
        if let Some(text) = text.map_err(unreadable)? {
            let table = parse(&text).map_err(|error| error.in_file(path))?;
            return Ok(Some(ConfigFile {
                path: path.clone(),
                is_second: version(&table) >= FORMAT_OF_SECOND,
                driver: answer(root, path, &table),
            }));
        }
    }
    Ok(None)
}

/// The driver that containerd answers a kubelet with.
fn answer(root: &Root, path: &Path, table: &Table) -> Result<Driver, SettingsError> {
    imports::check(root, path, table)?;
    if let Some(driver) = driver(path, table)? {
        return Ok(driver);
    }
    if root.exists(Path::new(SYSTEMD_RUNS))? {
        return Ok(Driver::Systemd);
    }
    Ok(Driver::Cgroupfs)
}

/// The version of the file's format; a file without one is of version 1.
fn version(table: &Table) -> i64 {
    let version = table.get("version").and_then(toml::Value::as_integer);
    version.unwrap_or(1)
}

/// A key of the CRI plugin's `containerd` table. Files before version 3 are migrated: what the
/// newer plugin does not say, the older one does.
fn setting<'a>(table: &'a Table, key: &str) -> Option<&'a toml::Value> {
    let plugins: &[&str] = match version(table) {
        FORMAT_OF_SECOND.. => &[RUNTIME_PLUGIN],
        2 => &[RUNTIME_PLUGIN, GRPC_PLUGIN],
        _ => &[RUNTIME_PLUGIN, GRPC_PLUGIN, SHORT_PLUGIN],
    };
    let all = table.get("plugins")?;
    let in_plugin = |plugin: &&str| all.get(*plugin)?.get("containerd")?.get(key);
    plugins.iter().find_map(in_plugin)
}

/// The driver by the first runtime whose options say one, the default first, then by name; `None`
/// where none does, and containerd looks whether systemd runs.
fn driver(path: &Path, table: &Table) -> Result<Option<Driver>, SettingsError> {
    let empty = Table::new();
    let runtimes = setting(table, "runtimes").and_then(toml::Value::as_table);
    let runtimes = runtimes.unwrap_or(&empty);
    let default = match setting(table, "default_runtime_name") {
        None => USUAL_RUNTIME,
        Some(toml::Value::String(name)) if name.starts_with('$') => USUAL_RUNTIME,
        Some(toml::Value::String(name)) if name == USUAL_RUNTIME || runtimes.contains_key(name) => {
            name
        }
        Some(other) => {
            let name = other.as_str().unwrap_or(other.type_str());
            let reason = format!(
                "default_runtime_name is {name:?}, but no such runtime is configured, so \
                 containerd runs without its CRI plugin (\"no corresponding runtime configured in \
                 `containerd.runtimes`\")"
            );
            return Err(SettingsError::invalid(ErrorKind::Refused, path, reason));
        }
    };
    let mut names = BTreeSet::from([USUAL_RUNTIME]);
    names.extend(runtimes.keys().map(String::as_str));
    let mut by_rank = [default].into_iter().chain(names);
    Ok(by_rank.find_map(|name| driver_of(name, runtimes.get(name))))
}

/// The driver by a runtime's options, if they are such that say one.
fn driver_of(name: &str, runtime: Option<&toml::Value>) -> Option<Driver> {
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
    let mut uses_systemd = false;
    for (name, value) in options {
        let is_it = |(option, _): &&(&str, &str)| option.eq_ignore_ascii_case(name);
        let Some((option, expected)) = RUNC_OPTIONS.iter().find(is_it) else {
            continue;
        };
        // The integers among them have 32 bits and no sign.
        let is_in_range = |number| u32::try_from(number).is_ok();
        if value.type_str() != *expected || !value.as_integer().is_none_or(is_in_range) {
            return None;
        }
        if *option == SYSTEMD_CGROUP {
            uses_systemd = value.as_bool() == Some(true);
        }
    }
    if !RUNC_TYPES.contains(&kind) {
        None
    } else if uses_systemd {
        Some(Driver::Systemd)
    } else {
        Some(Driver::Cgroupfs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The driver that a configuration sets. In it `[C]` is short for the plugin's table, `[R.x]`
    /// for the table of a runtime.
    fn answer(plugin: &str, text: &str) -> Result<Option<Driver>, SettingsError> {
        let containerd = format!("[plugins.\"{plugin}\".containerd");
        let text = text.replace("[C]", &format!("{containerd}]"));
        let text = text.replace("[R.", &format!("{containerd}.runtimes."));
        driver(Path::new("/x"), &parse(&text).unwrap())
    }

    /// The same of version 3.
    fn newest(text: &str) -> Result<Option<Driver>, SettingsError> {
        answer(RUNTIME_PLUGIN, &format!("version = 3\n{text}"))
    }

    #[test]
    fn the_default_runtime_decides() {
        let template = "version = 2\n[C]\ndefault_runtime_name = \"NAME\"\n\
                        [R.runc]\nruntime_type = \"${RUNTIME_TYPE}\"\n\
                        [R.runc.options]\nSystemdCgroup = true\n\
                        [R.gpu]\nruntime_type = \"io.containerd.runc.v2\"\n\
                        [R.gpu.options]\nSystemdCgroup = false\n";
        let (cgroupfs, systemd) = (Ok(Some(Driver::Cgroupfs)), Ok(Some(Driver::Systemd)));
        for plugin in [RUNTIME_PLUGIN, GRPC_PLUGIN] {
            let of = |name: &str| answer(plugin, &template.replace("NAME", name));
            assert_eq!(of("${RUNTIME}"), systemd);
            assert_eq!(of("runc"), systemd);
            assert_eq!(of("gpu"), cgroupfs);
        }
        // A file without a version is of version 1.
        let first = "[R.runc.options]\nSystemdCgroup = true\n";
        assert_eq!(answer(SHORT_PLUGIN, first), systemd);
        let second = format!("version = 2\n{first}");
        assert_eq!(answer(SHORT_PLUGIN, &second), cgroupfs);
        assert_eq!(answer(SHORT_PLUGIN, "# SystemdCgroup = true\n"), cgroupfs);
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
            assert_eq!(newest(&text), *expected, "{text}");
        }
        for name in ["\"kata\"", "\"\"", "5"] {
            let error = newest(&format!("[C]\ndefault_runtime_name = {name}\n")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{name}");
        }
    }

    #[test]
    fn an_error_names_its_line() {
        let error = parse("a = 1\nb = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }
}
