//! What the values of the kubelet's flags amount to.
//!
//! Rests on `cmd/kubelet/app/options` for the flags, and for their types on spf13/pflag and on
//! `k8s.io/component-base/cli/flag` (`MapStringString`, `MapStringBool`). Of a scalar the last flag
//! counts. The first flag of a list or of reserved amounts replaces what the configuration file
//! says, any other adds to it. Feature gates always add.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::kubelet::errors::LineError;
use crate::kubelet::flags::Flag;
use crate::kubelet::setting::{Driver, NO_CGROUP, NO_DRIVER, Origin, Sourced};
use crate::kubelet::settings::Settings;

impl Settings {
    /// These settings with a command line over them; `path` is the args file that holds it.
    ///
    /// # Errors
    /// For a value that the kubelet would refuse or that cannot be known here.
    pub fn with_flags(self, flags: &[Flag], path: &Path) -> Result<Self, LineError> {
        let mut new = self;
        let mut seen = BTreeSet::new();
        for flag in flags {
            let origin = Origin::Args(path.to_owned(), flag.line);
            let is_again = !seen.insert(&flag.name);
            match flag.name.as_str() {
                "cgroups-per-qos" => new.cgroups_per_qos.set(flag.boolean()?, origin),
                "cgroup-driver" => new.driver.set(driver(flag)?, origin),
                "cgroup-root" => new.cgroup_root.set(group(flag)?, origin),
                "enforce-node-allocatable" => {
                    let words = flag.text()?.split(',').filter(|word| !word.is_empty());
                    let words = words.map(str::to_owned);
                    if is_again {
                        new.enforced.value.extend(words);
                        new.enforced.origin = origin;
                    } else {
                        new.enforced.set(words.collect(), origin);
                    }
                }
                "kube-reserved-cgroup" => new.kube_reserved.set(reserved(flag)?, origin),
                "system-reserved-cgroup" => new.system_reserved.set(reserved(flag)?, origin),
                "kube-reserved" => reserve(&mut new.kube_reservation, flag, is_again, &origin)?,
                "system-reserved" => reserve(&mut new.system_reservation, flag, is_again, &origin)?,
                "reserved-cpus" => new.reserved_cpus.set(given(flag), origin),
                "cpu-manager-policy-options" => {
                    let options = &mut new.cpu_manager_options;
                    merge(options, flag, flag.text()?, is_again, &origin)?;
                }
                "fail-swap-on" => new.fail_swap_on.set(flag.boolean()?, origin),
                "protect-kernel-defaults" => {
                    new.protect_kernel_defaults.set(flag.boolean()?, origin);
                }
                "container-runtime-endpoint" => {
                    new.runtime_endpoint.set(Some(flag.as_written()), origin);
                }
                "feature-gates" => {
                    // Over what the configuration file says of the same gates.
                    for (name, value) in flag.switches()? {
                        let gate = Sourced::new(value, origin.clone());
                        new.feature_gates.insert(name.to_owned(), gate);
                    }
                }
                "root-dir" => new.root_dir.set(PathBuf::from(flag.text()?), origin),
                "fail-cgroupv1" => new.fail_cgroup_v1.set(Some(flag.boolean()?), origin),
                "cpu-manager-policy" => new.cpu_manager_policy.set(flag.text()?.to_owned(), origin),
                "memory-manager-policy" => {
                    let policy = flag.text()?.to_owned();
                    new.memory_manager_policy.set(policy, origin);
                }
                _ => {}
            }
        }
        Ok(new)
    }
}

/// The value of the flag, unless it is empty.
fn given(flag: &Flag) -> Option<String> {
    Some(flag.as_written()).filter(|text| !text.is_empty())
}

fn driver(flag: &Flag) -> Result<Driver, LineError> {
    let name = flag.text()?;
    if name.is_empty() {
        return Ok(Driver::Cgroupfs);
    }
    let error = || format!("--cgroup-driver={name:?} {NO_DRIVER}");
    Driver::parse(name).ok_or_else(|| flag.unknown(error()))
}

fn group(flag: &Flag) -> Result<CgroupPath, LineError> {
    let path = flag.text()?;
    let error = || format!("--{}={path:?} {NO_CGROUP}", flag.name);
    CgroupPath::parse(path).ok_or_else(|| flag.unknown(error()))
}

/// For the kubelet an empty name means that there is no such cgroup.
fn reserved(flag: &Flag) -> Result<Option<CgroupPath>, LineError> {
    if flag.text()?.is_empty() {
        return Ok(None);
    }
    group(flag).map(Some)
}

/// `name=value,name=value`: in place of what the configuration file says, or added to an earlier
/// flag.
fn merge(
    map: &mut BTreeMap<String, Sourced<String>>,
    flag: &Flag,
    text: &str,
    is_again: bool,
    origin: &Origin,
) -> Result<(), LineError> {
    if !is_again {
        map.clear();
    }
    for (name, value) in flag.pairs(text)? {
        let value = Sourced::new(value.to_owned(), origin.clone());
        map.insert(name.to_owned(), value);
    }
    Ok(())
}

/// `cpu=100m,memory=1Gi`. It only matters here whether anything is reserved, so a value that only
/// the service knows counts as a reservation.
fn reserve(
    resources: &mut BTreeMap<String, Sourced<String>>,
    flag: &Flag,
    is_again: bool,
    origin: &Origin,
) -> Result<(), LineError> {
    let text = match &flag.unknown_variable {
        Some(_) => "cpu=1",
        None => flag.text()?,
    };
    merge(resources, flag, text, is_again, origin)
}

impl Flag {
    /// The value; empty for a flag without a value.
    ///
    /// # Errors
    /// When a variable in it is not known.
    pub(super) fn text(&self) -> Result<&str, LineError> {
        match &self.unknown_variable {
            Some(variable) => Err(self.unknown(unknown_variable(&self.name, variable))),
            None => Ok(self.value.as_deref().unwrap_or_default()),
        }
    }

    /// The value, or the variable in its place.
    pub(super) fn as_written(&self) -> String {
        match &self.unknown_variable {
            Some(variable) => format!("${variable}"),
            None => self.value.clone().unwrap_or_default(),
        }
    }

    /// The value of a boolean flag; without a value it is true.
    ///
    /// # Errors
    /// For anything that Go does not know as a boolean.
    pub(super) fn boolean(&self) -> Result<bool, LineError> {
        let Some(value) = self.value.as_deref() else {
            return Ok(true);
        };
        let error = || format!("--{}={value:?} {NO_BOOLEAN}", self.name);
        parse_bool(value).ok_or_else(|| self.refused(error()))
    }

    /// `value`, which this flag has, as pairs `a=b,c=d`.
    ///
    /// # Errors
    /// For a piece without `=`.
    pub(super) fn pairs<'a>(&self, value: &'a str) -> Result<Vec<(&'a str, &'a str)>, LineError> {
        let mut pairs = Vec::new();
        for piece in value.split(',').filter(|piece| !piece.is_empty()) {
            let Some((name, value)) = piece.split_once('=') else {
                return Err(self.refused(format!(
                    "--{}: {piece:?} is not of the form name=value",
                    self.name
                )));
            };
            pairs.push((name.trim(), value.trim()));
        }
        Ok(pairs)
    }

    /// The value as pairs of a name and a boolean.
    ///
    /// # Errors
    /// For a piece without `=`, for anything that Go does not know as a boolean, and when a
    /// variable in it is not known.
    pub(super) fn switches(&self) -> Result<Vec<(&str, bool)>, LineError> {
        let mut switches = Vec::new();
        for (name, value) in self.pairs(self.text()?)? {
            let error = || format!("--{}: {name}={value:?} {NO_BOOLEAN}", self.name);
            let value = parse_bool(value).ok_or_else(|| self.refused(error()))?;
            switches.push((name, value));
        }
        Ok(switches)
    }
}

const NO_BOOLEAN: &str = "is neither true nor false";

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Why the value of a flag is not known: it contains a variable of the service's environment.
pub(super) fn unknown_variable(flag: &str, variable: &str) -> String {
    format!("--{flag} contains ${variable}, whose value only the running service knows")
}

#[cfg(test)]
pub(super) use tests::settings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::{args, flags};

    /// The settings by an args file.
    pub fn settings(file: &str) -> Result<Settings, LineError> {
        let flags = flags::parse(&args::parse(file, &|_| None))?;
        Settings::default().with_flags(&flags, Path::new("args/kubelet"))
    }

    #[test]
    fn the_last_of_a_scalar_wins_and_lists_grow() {
        let read = settings("--cgroup-root=/a\n--cgroup-root /b").unwrap_or_default();
        assert_eq!(read.cgroup_root.value.to_string(), "/b");
        assert_eq!(read.cgroup_root.origin.to_string(), "args/kubelet:2");
        let enforced = |file| settings(file).unwrap_or_default().enforced.value;
        assert_eq!(enforced(""), ["pods"]);
        assert_eq!(
            enforced("--enforce-node-allocatable=kube-reserved"),
            ["kube-reserved"]
        );
        assert_eq!(
            enforced("--enforce-node-allocatable=a\n--enforce-node-allocatable=b,c"),
            ["a", "b", "c"]
        );
        assert!(enforced("--enforce-node-allocatable=").is_empty());
    }

    #[test]
    fn an_overruled_value_is_remembered() {
        let read = settings("--cgroup-root=/a\n--cgroup-root /b\n--cgroup-root=/b")
            .unwrap_or_default()
            .cgroup_root;
        let overruled = read
            .overruled
            .map(|before| (before.value.to_string(), before.origin.to_string()));
        assert_eq!(
            overruled,
            Some(("/a".to_owned(), "args/kubelet:1".to_owned()))
        );
        assert!(read.origin.to_string().ends_with(":3"));
    }

    #[test]
    fn reservations_of_flags() {
        let resources = |file: &str| {
            let read = settings(file).unwrap();
            let [kube, _] = read.reservations();
            kube.resources
                .iter()
                .map(|(name, amount)| format!("{name}={}", amount.value))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(resources(""), "");
        assert_eq!(resources("--kube-reserved="), "");
        assert_eq!(
            resources(
                "--kube-reserved=cpu=1,,memory = 1Gi"
                    .replace(" = ", "=")
                    .as_str()
            ),
            "cpu=1 memory=1Gi"
        );
        assert_eq!(
            resources("--kube-reserved=cpu=1\n--kube-reserved cpu=2,pid=9"),
            "cpu=2 pid=9"
        );
        assert_eq!(
            resources("--kube-reserved=cpu=$CPUS"),
            "cpu=1",
            "something is reserved"
        );
        assert!(settings("--kube-reserved=cpu").is_err());
    }

    #[test]
    fn invalid_and_unknown_values_are_errors() {
        for file in [
            "--cgroup-driver=docker",
            "--cgroup-root=$HOME",
            "--cgroup-root=/a/../b",
            "--cgroups-per-qos=maybe",
        ] {
            assert!(settings(file).is_err(), "{file}");
        }
        assert!(settings("--other=$HOME").is_ok());
    }

    #[test]
    fn booleans_follow_the_rules_of_go() {
        let value = |text: &str| {
            let flags = flags::parse(&args::parse(text, &|_| None)).unwrap_or_default();
            flags.first().and_then(|flag| flag.boolean().ok())
        };
        assert_eq!(value("--cgroups-per-qos=F"), Some(false));
        assert_eq!(value("--cgroups-per-qos"), Some(true));
        assert_eq!(value("--cgroups-per-qos=no"), None);
        assert_eq!(value("--cgroups-per-qos="), None);
    }
}
