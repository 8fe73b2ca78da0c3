//! The kubelet's settings, each with the place it comes from: a report has to name that place, and
//! what it overrules.
//!
//! Rests on `pkg/kubelet/apis/config/v1beta1/defaults.go` for the defaults and
//! `cmd/kubelet/app/options` for the flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::kubelet::containerd::Containerd;
use crate::kubelet::errors::LineError;
use crate::kubelet::flags::Flag;
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
    /// The kubelet's own default.
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
    /// The value that counts.
    pub value: T,
    /// The place that sets it.
    pub origin: Origin,
    /// The value that an earlier place sets, where it is another one.
    pub overruled: Option<Box<Self>>,
}

impl<T: PartialEq> Sourced<T> {
    pub(super) fn new(value: T, origin: Origin) -> Self {
        Self {
            value,
            origin,
            overruled: None,
        }
    }

    fn default(value: T) -> Self {
        Self::new(value, Origin::Default)
    }

    /// Puts a value in place of the present one, and remembers that one where it is overruled.
    pub(super) fn set(&mut self, value: T, origin: Origin) {
        let before = std::mem::replace(self, Self::new(value, origin));
        self.overruled = if before.origin == Origin::Default || before.value == self.value {
            before.overruled
        } else {
            Some(Box::new(before))
        };
    }
}

/// The cgroup driver: what makes the kubelet's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kubelet itself, through libcontainer.
    Cgroupfs,
    /// systemd, as slices.
    Systemd,
}

impl Driver {
    /// The driver of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "cgroupfs" => Some(Self::Cgroupfs),
            "systemd" => Some(Self::Systemd),
            _ => None,
        }
    }

    /// The one that this is not.
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

/// One of the two reservations: for Kubernetes' own daemons, or for those of the system.
#[derive(Clone, Copy, Debug)]
pub struct Reservation<'a> {
    /// Its key in `--enforce-node-allocatable`, its flag without dashes, and with `-cgroup` behind
    /// it the flag of its group.
    pub key: &'static str,
    /// Whether the kubelet enforces it on its group.
    pub is_enforced: bool,
    /// The group that is to hold the daemons.
    pub group: &'a Sourced<Option<CgroupPath>>,
    /// The amount that is reserved, by resource.
    pub resources: &'a BTreeMap<String, Sourced<String>>,
}

/// The settings of the kubelet that its cgroups depend on.
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
    /// `--fail-cgroupv1`, where it is set: the default depends on the version.
    pub fail_cgroup_v1: Sourced<Option<bool>>,
    /// `--cpu-manager-policy`.
    pub cpu_manager_policy: Sourced<String>,
    /// `--memory-manager-policy`.
    pub memory_manager_policy: Sourced<String>,
    /// `--container-runtime-endpoint`, where it is given.
    pub runtime_endpoint: Sourced<Option<String>>,
    /// `--reserved-cpus`.
    pub reserved_cpus: Sourced<Option<String>>,
    /// `--kube-reserved`, by resource.
    pub kube_reservation: BTreeMap<String, Sourced<String>>,
    /// `--system-reserved`, by resource.
    pub system_reservation: BTreeMap<String, Sourced<String>>,
    /// `--feature-gates`, only the gates that are set.
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
            memory_manager_policy: Sourced::default("None".to_owned()),
            runtime_endpoint: Sourced::default(None),
            reserved_cpus: Sourced::default(None),
            kube_reservation: BTreeMap::new(),
            system_reservation: BTreeMap::new(),
            feature_gates: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// These settings with a command line over them; `path` is the args file that holds it.
    ///
    /// # Errors
    /// For a value that the kubelet would refuse or that cannot be known here.
    pub fn with_flags(self, flags: &[Flag], path: &Path) -> Result<Self, LineError> {
        let mut new = self;
        for (index, flag) in flags.iter().enumerate() {
            let origin = Origin::Args(path.to_owned(), flag.line);
            let is_again = flags
                .iter()
                .take(index)
                .any(|other| other.name == flag.name);
            match flag.name.as_str() {
                "cgroups-per-qos" => new.cgroups_per_qos.set(flag.boolean()?, origin),
                "cgroup-driver" => new.driver.set(driver(flag)?, origin),
                "cgroup-root" => new.cgroup_root.set(group(flag)?, origin),
                "enforce-node-allocatable" => enforce(&mut new.enforced, flag, is_again, origin)?,
                "kube-reserved-cgroup" => new.kube_reserved.set(reserved(flag)?, origin),
                "system-reserved-cgroup" => new.system_reserved.set(reserved(flag)?, origin),
                "kube-reserved" => reserve(&mut new.kube_reservation, flag, is_again, &origin)?,
                "system-reserved" => reserve(&mut new.system_reservation, flag, is_again, &origin)?,
                "reserved-cpus" => {
                    // Only whether any are reserved matters here.
                    let cpus = Some(flag.as_written()).filter(|cpus| !cpus.is_empty());
                    new.reserved_cpus.set(cpus, origin);
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

    /// kubepods as it would be under the other driver.
    pub fn other_kubepods(&self) -> CgroupPath {
        Layout::new(self.driver.value.other(), &self.cgroup_root.value, &[]).kubepods
    }

    /// The groups that follow from these settings.
    pub fn layout(&self) -> Layout {
        let mut reserved = Vec::new();
        for reservation in self.reservations() {
            if let Some(group) = &reservation.group.value
                && reservation.is_enforced
                && !group.is_root()
            {
                reserved.push(group.clone());
            }
        }
        reserved.dedup();
        Layout::new(self.driver.value, &self.cgroup_root.value, &reserved)
    }

    /// What may be reserved, for Kubernetes' own daemons and for those of the system.
    pub fn reservations(&self) -> [Reservation<'_>; 2] {
        let reservation = |key, group, resources| Reservation {
            key,
            is_enforced: self.enforces(key),
            group,
            resources,
        };
        [
            reservation("kube-reserved", &self.kube_reserved, &self.kube_reservation),
            reservation(
                "system-reserved",
                &self.system_reserved,
                &self.system_reservation,
            ),
        ]
    }

    /// Whether `kube-reserved` or `system-reserved` is enforced, if only of compressible resources.
    fn enforces(&self, key: &str) -> bool {
        let mut ends = self
            .enforced
            .value
            .iter()
            .map(|word| word.strip_prefix(key));
        ends.any(|end| matches!(end, Some("" | "-compressible")))
    }

    /// Whether the kubelet refuses to run on cgroup version 1; `None` where that depends on its
    /// version, which is not known.
    pub fn refuses_v1(&self, version: Option<Version>) -> Option<bool> {
        match (self.fail_cgroup_v1.value, version) {
            (Some(false), _) => Some(false),
            (Some(true), Some(version)) => Some(version >= CAN_REFUSE_V1),
            (None, Some(version)) => Some(version >= REFUSES_V1),
            (_, None) => None,
        }
    }

    /// Whether the kubelet refuses these settings together: without QoS groups it can enforce
    /// nothing.
    pub fn enforces_without_qos(&self) -> bool {
        !self.cgroups_per_qos.value && self.enforced.value.iter().any(|word| word != "none")
    }
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

/// To the kubelet an empty name means that there is no such group.
fn reserved(flag: &Flag) -> Result<Option<CgroupPath>, LineError> {
    if flag.text()?.is_empty() {
        return Ok(None);
    }
    group(flag).map(Some)
}

/// The first of these flags replaces what the configuration file says, any other adds to it.
fn enforce(
    enforced: &mut Sourced<Vec<String>>,
    flag: &Flag,
    is_again: bool,
    origin: Origin,
) -> Result<(), LineError> {
    let words = flag.text()?.split(',').filter(|word| !word.is_empty());
    let words = words.map(str::to_owned);
    if is_again {
        enforced.value.extend(words);
        enforced.origin = origin;
    } else {
        enforced.set(words.collect(), origin);
    }
    Ok(())
}

/// `cpu=100m,memory=1Gi`. Here only matters whether anything is reserved, so a value that only the
/// service knows stands for something. As in [`enforce`] the first of these flags replaces.
fn reserve(
    resources: &mut BTreeMap<String, Sourced<String>>,
    flag: &Flag,
    is_again: bool,
    origin: &Origin,
) -> Result<(), LineError> {
    if !is_again {
        resources.clear();
    }
    let value = match &flag.unknown_variable {
        Some(_) => "cpu=1",
        None => flag.text()?,
    };
    for (name, amount) in flag.pairs(value)? {
        let amount = Sourced::new(amount.to_owned(), origin.clone());
        resources.insert(name.to_owned(), amount);
    }
    Ok(())
}

/// What the words of an error end with, where a setting names another driver.
pub(super) const NO_DRIVER: &str = "is neither cgroupfs nor systemd";

/// See [`NO_DRIVER`].
pub(super) const NO_CGROUP: &str =
    "is no path of a cgroup that could be made or found as it stands";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::{args, flags};

    fn settings(file: &str) -> Result<Settings, LineError> {
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
        let compressible = "--system-reserved-cgroup=/sys\n--enforce-node-allocatable=pods,system-reserved-compressible";
        assert_eq!(layout(compressible), ["/kubepods", "/sys"]);
        let misspelt = "--system-reserved-cgroup=/sys\n--enforce-node-allocatable=system-reserved-compressibles";
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
