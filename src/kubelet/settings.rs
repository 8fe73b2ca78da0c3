//! The kubelet's settings, each with the place it comes from.
//!
//! Rests on `pkg/kubelet/apis/config/v1beta1/defaults.go` for the defaults and
//! `cmd/kubelet/app/options` for the flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::kubelet::containerd::Containerd;
use crate::kubelet::flags::{self, Flag, FlagError};
use crate::kubelet::layout::Layout;
use crate::kubelet::microk8s::Version;

/// The kubelet's own default for `--root-dir`.
const DEFAULT_ROOT_DIR: &str = "/var/lib/kubelet";

/// The first kubelet with `--fail-cgroupv1`, and the first whose default it is.
const CAN_REFUSE_V1: Version = Version(1, 31);
/// See [`CAN_REFUSE_V1`].
const REFUSES_V1: Version = Version(1, 35);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// An args file, and the line in it counted from 1.
    Args(PathBuf, usize),
    /// A configuration file, and the key in it.
    Config(PathBuf, &'static str),
    /// containerd's configuration file: the runtime tells the kubelet.
    Containerd(PathBuf),
}

impl Origin {
    /// The file that holds the value; `None` for a default.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Default => None,
            Self::Args(file, _) | Self::Config(file, _) | Self::Containerd(file) => Some(file),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Args(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Config(file, key) => write!(f, "{}, {key}", file.display()),
            Self::Containerd(file) => write!(f, "{}, SystemdCgroup", file.display()),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// What holds.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
    /// What somebody else said before, and what does not hold.
    pub overruled: Option<Box<Self>>,
}

impl<T: PartialEq> Sourced<T> {
    fn default(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
            overruled: None,
        }
    }

    /// A later word, which holds from now on.
    pub(super) fn set(&mut self, value: T, origin: Origin) {
        let before = std::mem::replace(
            self,
            Self {
                value,
                origin,
                overruled: None,
            },
        );
        let said_otherwise = before.origin != Origin::Default && before.value != self.value;
        self.overruled = if said_otherwise {
            Some(Box::new(before))
        } else {
            before.overruled
        };
    }
}

/// Who makes the kubelet's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kubelet itself, through libcontainer.
    Cgroupfs,
    /// systemd, as slices.
    Systemd,
}

impl Driver {
    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Cgroupfs => Self::Systemd,
            Self::Systemd => Self::Cgroupfs,
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        })
    }
}

/// One of the two reservations.
#[derive(Clone, Copy, Debug)]
pub struct Reservation<'a> {
    /// Its key in `--enforce-node-allocatable`, its flag without dashes, and with `-cgroup` behind
    /// it the flag of its group.
    pub key: &'static str,
    /// Whether the kubelet enforces it on its group.
    pub is_enforced: bool,
    /// The group.
    pub group: &'a Sourced<Option<CgroupPath>>,
    /// How much of what is reserved.
    pub resources: &'a BTreeMap<String, Sourced<String>>,
}

/// What the kubelet goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--cgroups-per-qos`: without it there is no kubepods.
    pub cgroups_per_qos: Sourced<bool>,
    /// `--cgroup-driver`, or what containerd says where the kubelet asks it.
    pub driver: Sourced<Driver>,
    /// The driver that containerd itself uses, where its configuration says it.
    pub containerd: Option<Containerd>,
    /// `--cgroup-root`.
    pub cgroup_root: Sourced<CgroupPath>,
    /// `--enforce-node-allocatable`.
    pub enforced: Sourced<Vec<String>>,
    /// `--kube-reserved-cgroup`.
    pub kube_reserved: Sourced<Option<CgroupPath>>,
    /// `--system-reserved-cgroup`.
    pub system_reserved: Sourced<Option<CgroupPath>>,
    /// `--root-dir`.
    pub root_dir: Sourced<PathBuf>,
    /// `--fail-cgroupv1`, where somebody set it: the default depends on the version.
    pub fail_cgroup_v1: Sourced<Option<bool>>,
    /// `--cpu-manager-policy`.
    pub cpu_manager_policy: Sourced<String>,
    /// `--cpu-manager-policy-options`, as they stand there.
    pub cpu_manager_options: Sourced<Option<String>>,
    /// `--memory-manager-policy`.
    pub memory_manager_policy: Sourced<String>,
    /// `--protect-kernel-defaults`: the kubelet dies of sysctls that differ, and sets none.
    pub protect_kernel_defaults: Sourced<bool>,
    /// `--fail-swap-on`.
    pub fail_swap_on: Sourced<bool>,
    /// The args file, where it holds nothing at all, as a power cut may leave it.
    pub empty_args_file: Option<PathBuf>,
    /// `--container-runtime-endpoint`, where it is given.
    pub runtime_endpoint: Sourced<Option<String>>,
    /// `--reserved-cpus`.
    pub reserved_cpus: Sourced<Option<String>>,
    /// `--kube-reserved`, by resource.
    pub kube_reservation: BTreeMap<String, Sourced<String>>,
    /// `--system-reserved`, by resource.
    pub system_reservation: BTreeMap<String, Sourced<String>>,
    /// `--feature-gates`, those that are given.
    pub feature_gates: BTreeMap<String, Sourced<bool>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cgroups_per_qos: Sourced::default(true),
            driver: Sourced::default(Driver::Cgroupfs),
            containerd: None,
            cgroup_root: Sourced::default(CgroupPath::root()),
            enforced: Sourced::default(vec!["pods".to_owned()]),
            kube_reserved: Sourced::default(None),
            system_reserved: Sourced::default(None),
            root_dir: Sourced::default(PathBuf::from(DEFAULT_ROOT_DIR)),
            fail_cgroup_v1: Sourced::default(None),
            cpu_manager_policy: Sourced::default("none".to_owned()),
            cpu_manager_options: Sourced::default(None),
            memory_manager_policy: Sourced::default("None".to_owned()),
            protect_kernel_defaults: Sourced::default(false),
            fail_swap_on: Sourced::default(true),
            empty_args_file: None,
            runtime_endpoint: Sourced::default(None),
            reserved_cpus: Sourced::default(None),
            kube_reservation: BTreeMap::new(),
            system_reservation: BTreeMap::new(),
            feature_gates: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// These settings with a command line over them.
    ///
    /// # Errors
    /// For a value that the kubelet would refuse or that cannot be known here.
    pub fn with_flags(self, flags: &[Flag], path: &Path) -> Result<Self, FlagError> {
        let mut settings = self;
        let mut enforced_before = false;
        let (mut kube, mut system) = (None, None);
        for flag in flags {
            let origin = Origin::Args(path.to_owned(), flag.line);
            match flag.name.as_str() {
                "cgroups-per-qos" => settings.cgroups_per_qos.set(flags::boolean(flag)?, origin),
                "cgroup-driver" => settings.driver.set(driver(flag)?, origin),
                "cgroup-root" => settings.cgroup_root.set(group(flag)?, origin),
                "enforce-node-allocatable" => {
                    let list = text(flag)?
                        .split(',')
                        .filter(|word| !word.is_empty())
                        .map(str::to_owned);
                    if std::mem::replace(&mut enforced_before, true) {
                        settings.enforced.value.extend(list);
                        settings.enforced.origin = origin;
                    } else {
                        settings.enforced.set(list.collect(), origin);
                    }
                }
                "kube-reserved-cgroup" => settings.kube_reserved.set(reserved(flag)?, origin),
                "system-reserved-cgroup" => settings.system_reserved.set(reserved(flag)?, origin),
                "kube-reserved" => reserve(kube.get_or_insert_default(), flag, &origin)?,
                "system-reserved" => reserve(system.get_or_insert_default(), flag, &origin)?,
                "cpu-manager-policy-options" => {
                    settings.cpu_manager_options.set(given(flag), origin);
                }
                "protect-kernel-defaults" => {
                    let value = flags::boolean(flag)?;
                    settings.protect_kernel_defaults.set(value, origin);
                }
                "fail-swap-on" => settings.fail_swap_on.set(flags::boolean(flag)?, origin),
                "reserved-cpus" => settings.reserved_cpus.set(given(flag), origin),
                "container-runtime-endpoint" => settings
                    .runtime_endpoint
                    .set(Some(as_written(flag)), origin),
                "feature-gates" => set_gates(&mut settings.feature_gates, flag, &origin)?,
                "root-dir" => settings.root_dir.set(PathBuf::from(text(flag)?), origin),
                "fail-cgroupv1" => settings
                    .fail_cgroup_v1
                    .set(Some(flags::boolean(flag)?), origin),
                "cpu-manager-policy" => settings
                    .cpu_manager_policy
                    .set(text(flag)?.to_owned(), origin),
                "memory-manager-policy" => settings
                    .memory_manager_policy
                    .set(text(flag)?.to_owned(), origin),
                _ => {}
            }
        }
        // The first of these flags replaces what the configuration file reserves.
        settings.kube_reservation = kube.unwrap_or(settings.kube_reservation);
        settings.system_reservation = system.unwrap_or(settings.system_reservation);
        Ok(settings)
    }

    /// kubepods as it would be under the other driver.
    pub fn other_kubepods(&self) -> CgroupPath {
        Layout::new(self.driver.value.other(), &self.cgroup_root.value, &[]).kubepods
    }

    /// The groups that follow from these settings.
    pub fn layout(&self) -> Layout {
        let named = self
            .reservations()
            .into_iter()
            .filter(|reservation| reservation.is_enforced);
        let groups = named.filter_map(|reservation| reservation.group.value.clone());
        let mut reserved: Vec<CgroupPath> = groups.filter(|group| !group.is_root()).collect();
        reserved.dedup();
        Layout::new(self.driver.value, &self.cgroup_root.value, &reserved)
    }

    /// What may be reserved, for Kubernetes' own daemons and for those of the system.
    pub fn reservations(&self) -> [Reservation<'_>; 2] {
        // `kube-reserved` and `kube-reserved-compressible`
        let enforces = |key: &str| {
            let is_meant = |word: &String| {
                word.strip_prefix(key)
                    .is_some_and(|rest| matches!(rest, "" | "-compressible"))
            };
            self.enforced.value.iter().any(is_meant)
        };
        let kube = Reservation {
            key: "kube-reserved",
            is_enforced: enforces("kube-reserved"),
            group: &self.kube_reserved,
            resources: &self.kube_reservation,
        };
        let system = Reservation {
            key: "system-reserved",
            is_enforced: enforces("system-reserved"),
            group: &self.system_reserved,
            resources: &self.system_reservation,
        };
        [kube, system]
    }

    /// Whether the kubelet refuses to run on cgroup version 1; `None` where only its version would
    /// say and that is not known.
    pub fn refuses_v1(&self, version: Option<Version>) -> Option<bool> {
        match (self.fail_cgroup_v1.value, version) {
            (Some(false), _) => Some(false),
            (given, Some(version)) => Some(version >= given.map_or(REFUSES_V1, |_| CAN_REFUSE_V1)),
            (_, None) => None,
        }
    }

    /// Whether the kubelet refuses these settings together: without QoS groups it can enforce
    /// nothing.
    pub fn enforces_without_qos(&self) -> bool {
        !self.cgroups_per_qos.value && self.enforced.value.iter().any(|word| word != "none")
    }
}

pub(super) fn text(flag: &Flag) -> Result<&str, FlagError> {
    match &flag.unknown_variable {
        Some(variable) => Err(FlagError::unknown(
            flag.line,
            unknown_variable(&flag.name, variable),
        )),
        None => Ok(flag.value.as_deref().unwrap_or_default()),
    }
}

pub(super) fn unknown_variable(flag: &str, variable: &str) -> String {
    format!("--{flag} holds ${variable}, whose value only the running service knows")
}

fn driver(flag: &Flag) -> Result<Driver, FlagError> {
    match text(flag)? {
        "" | "cgroupfs" => Ok(Driver::Cgroupfs),
        "systemd" => Ok(Driver::Systemd),
        other => {
            let reason = format!("--cgroup-driver={other:?} is neither cgroupfs nor systemd");
            Err(FlagError::unknown(flag.line, reason))
        }
    }
}

fn group(flag: &Flag) -> Result<CgroupPath, FlagError> {
    let path = text(flag)?;
    let reason = || {
        format!(
            "--{}={path:?} is no path of a cgroup that could be made or found as it stands",
            flag.name
        )
    };
    CgroupPath::parse(path).ok_or_else(|| FlagError::unknown(flag.line, reason()))
}

/// To the kubelet an empty name is none.
fn reserved(flag: &Flag) -> Result<Option<CgroupPath>, FlagError> {
    let group = group(flag)?;
    Ok(Some(group).filter(|_| flag.value.as_deref().is_some_and(|name| !name.is_empty())))
}

/// A value of which only matters whether there is one; one that only the service knows is taken for
/// one.
fn given(flag: &Flag) -> Option<String> {
    Some(as_written(flag)).filter(|value| !value.is_empty())
}

/// The value, or the variable that stands in its place.
fn as_written(flag: &Flag) -> String {
    match &flag.unknown_variable {
        Some(variable) => format!("${variable}"),
        None => flag.value.clone().unwrap_or_default(),
    }
}

/// `cpu=100m,memory=1Gi`. What only the service knows is taken for something: here only matters
/// whether anything is reserved.
fn reserve(
    resources: &mut BTreeMap<String, Sourced<String>>,
    flag: &Flag,
    origin: &Origin,
) -> Result<(), FlagError> {
    let value = if flag.unknown_variable.is_some() {
        "cpu=1"
    } else {
        flag.value.as_deref().unwrap_or_default()
    };
    for (name, amount) in flags::pairs(flag, value)? {
        let amount = Sourced {
            value: amount.to_owned(),
            origin: origin.clone(),
            overruled: None,
        };
        resources.insert(name.to_owned(), amount);
    }
    Ok(())
}

/// `A=true,B=false`: over what the configuration file says of the same gates.
fn set_gates(
    gates: &mut BTreeMap<String, Sourced<bool>>,
    flag: &Flag,
    origin: &Origin,
) -> Result<(), FlagError> {
    for (name, value) in flags::pairs(flag, text(flag)?)? {
        let value = flags::parse_bool(value).ok_or_else(|| {
            let reason = format!(
                "--feature-gates: {name}={value:?} is neither true nor false, and the \
                         kubelet refuses it"
            );
            FlagError::refused(flag.line, reason)
        })?;
        gates.insert(
            name.to_owned(),
            Sourced {
                value,
                origin: origin.clone(),
                overruled: None,
            },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::args;

    fn settings(file: &str) -> Result<Settings, FlagError> {
        Settings::default().with_flags(
            &flags::parse(&args::parse(file, &|_| None))?,
            Path::new("args/kubelet"),
        )
    }

    fn layout(file: &str) -> Vec<String> {
        let layout = settings(file).unwrap_or_default().layout();
        std::iter::once(&layout.kubepods)
            .chain(&layout.reserved)
            .map(CgroupPath::to_string)
            .collect()
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
    fn the_report_knows_what_was_overruled() {
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
    fn groups_that_follow() {
        assert_eq!(layout(""), ["/kubepods"]);
        assert_eq!(layout("--cgroup-root=custom/x"), ["/custom/x/kubepods"]);
        let reserved =
            "--kube-reserved-cgroup=/podruntime\n--enforce-node-allocatable=pods,kube-reserved";
        assert_eq!(layout(reserved), ["/kubepods", "/podruntime"]);
        assert_eq!(layout("--kube-reserved-cgroup=/podruntime"), ["/kubepods"]);
        let compressible = "--system-reserved-cgroup=/sys\n\
                            --enforce-node-allocatable=pods,system-reserved-compressible";
        assert_eq!(layout(compressible), ["/kubepods", "/sys"]);
        let misspelt = "--system-reserved-cgroup=/sys\n\
                        --enforce-node-allocatable=system-reserved-compressibles";
        assert_eq!(layout(misspelt), ["/kubepods"]);
    }

    #[test]
    fn nothing_is_guessed() {
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
    fn the_workaround_is_only_whole_without_enforcement() {
        let refused = |file| settings(file).unwrap_or_default().enforces_without_qos();
        assert!(refused("--cgroups-per-qos=false"));
        assert!(!refused(
            "--cgroups-per-qos=false\n--enforce-node-allocatable="
        ));
        assert!(!refused(
            "--cgroups-per-qos=false\n--enforce-node-allocatable=none"
        ));
        assert!(!refused("--cgroups-per-qos=true"));
    }
}
