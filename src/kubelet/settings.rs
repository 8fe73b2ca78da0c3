//! The kubelet's settings, each with the place it comes from.
//!
//! Rests on `pkg/kubelet/apis/config/v1beta1/defaults.go` for the defaults and `cmd/kubelet/app/options` for the flags.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupPath;
use crate::kubelet::containerd::{Containerd, ContainerdError};
use crate::kubelet::flags::{self, Flag, FlagError};
use crate::kubelet::layout::Layout;
use crate::kubelet::microk8s::Version;

/// The kubelet's own default for `--root-dir`.
const DEFAULT_ROOT_DIR: &str = "/var/lib/kubelet";

/// The first MicroK8s whose containerd answers RuntimeConfig (2.1; kubelets ask from 1.31 on, but until 1.34 it ships
/// containerd 1.7, which does not answer).
const CONTAINERD_DECIDES: Version = Version(1, 35);

/// The first kubelet that asks at all: with it, containerd decides where a user has put a containerd 2 in.
const CONTAINERD_IS_ASKED: Version = Version(1, 31);
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
        Self { value, origin: Origin::Default, overruled: None }
    }

    /// A later word, which holds from now on.
    pub(super) fn set(&mut self, value: T, origin: Origin) {
        let before = std::mem::replace(self, Self { value, origin, overruled: None });
        let said_otherwise = before.origin != Origin::Default && before.value != self.value;
        self.overruled = if said_otherwise { Some(Box::new(before)) } else { before.overruled };
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
    /// `--memory-manager-policy`.
    pub memory_manager_policy: Sourced<String>,
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
        for flag in flags {
            let origin = Origin::Args(path.to_owned(), flag.line);
            match flag.name.as_str() {
                "cgroups-per-qos" => settings.cgroups_per_qos.set(flags::boolean(flag)?, origin),
                "cgroup-driver" => settings.driver.set(driver(flag)?, origin),
                "cgroup-root" => settings.cgroup_root.set(group(flag)?, origin),
                "enforce-node-allocatable" => {
                    let list = text(flag)?.split(',').filter(|word| !word.is_empty()).map(str::to_owned);
                    match std::mem::replace(&mut enforced_before, true) {
                        true => {
                            settings.enforced.value.extend(list);
                            settings.enforced.origin = origin;
                        }
                        false => settings.enforced.set(list.collect(), origin),
                    }
                }
                "kube-reserved-cgroup" => settings.kube_reserved.set(reserved(flag)?, origin),
                "system-reserved-cgroup" => settings.system_reserved.set(reserved(flag)?, origin),
                "root-dir" => settings.root_dir.set(PathBuf::from(text(flag)?), origin),
                "fail-cgroupv1" => settings.fail_cgroup_v1.set(Some(flags::boolean(flag)?), origin),
                "cpu-manager-policy" => settings.cpu_manager_policy.set(text(flag)?.to_owned(), origin),
                "memory-manager-policy" => settings.memory_manager_policy.set(text(flag)?.to_owned(), origin),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// These settings with containerd's word: it decides where the kubelet asks for it, and then has to be known.
    ///
    /// # Errors
    /// When it decides and cannot be known.
    pub(super) fn with_containerd(
        self,
        containerd: Result<Option<Containerd>, ContainerdError>,
        version: Option<Version>,
    ) -> Result<Self, ContainerdError> {
        let answers = containerd.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|found| found.is_second));
        let decides =
            version.is_some_and(|version| version >= CONTAINERD_DECIDES || (version >= CONTAINERD_IS_ASKED && answers));
        let containerd = match (containerd, decides) {
            (Err(error), true) => return Err(error),
            (answer, _) => answer.ok().flatten(),
        };
        let mut settings = Self { containerd: containerd.clone(), ..self };
        if let Some(Containerd { driver, path, .. }) = containerd.filter(|_| decides) {
            settings.driver.set(driver, Origin::Containerd(path));
        }
        Ok(settings)
    }

    /// kubepods as it would be under the other driver.
    pub fn other_kubepods(&self) -> CgroupPath {
        Layout::new(self.driver.value.other(), &self.cgroup_root.value, &[]).kubepods
    }

    /// The groups that follow from these settings.
    pub fn layout(&self) -> Layout {
        let enforces = |word: &str| self.enforced.value.iter().any(|enforced| enforced == word);
        let kube = self.kube_reserved.value.clone().filter(|_| enforces("kube-reserved"));
        let system = self.system_reserved.value.clone().filter(|_| enforces("system-reserved"));
        let mut reserved: Vec<CgroupPath> = kube.into_iter().chain(system).collect();
        reserved.dedup();
        Layout::new(self.driver.value, &self.cgroup_root.value, &reserved)
    }

    /// Whether the kubelet refuses to run on cgroup version 1; `None` where only its version would say and that is not known.
    pub fn refuses_v1(&self, version: Option<Version>) -> Option<bool> {
        match (self.fail_cgroup_v1.value, version) {
            (Some(false), _) => Some(false),
            (given, Some(version)) => Some(version >= given.map_or(REFUSES_V1, |_| CAN_REFUSE_V1)),
            (_, None) => None,
        }
    }

    /// Whether the kubelet refuses these settings together: without QoS groups it can enforce nothing.
    pub fn enforces_without_qos(&self) -> bool {
        !self.cgroups_per_qos.value && self.enforced.value.iter().any(|word| word != "none")
    }
}

pub(super) fn text(flag: &Flag) -> Result<&str, FlagError> {
    match &flag.unknown_variable {
        Some(variable) => Err(FlagError { line: flag.line, reason: unknown_variable(&flag.name, variable) }),
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
            Err(FlagError { line: flag.line, reason })
        }
    }
}

fn group(flag: &Flag) -> Result<CgroupPath, FlagError> {
    let path = text(flag)?;
    let reason = || format!("--{}={path:?} is no path of a cgroup that could be made or found as it stands", flag.name);
    CgroupPath::parse(path).ok_or_else(|| FlagError { line: flag.line, reason: reason() })
}

fn reserved(flag: &Flag) -> Result<Option<CgroupPath>, FlagError> {
    Ok(Some(group(flag)?).filter(|path| !path.is_root()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::args;

    fn settings(file: &str) -> Result<Settings, FlagError> {
        Settings::default().with_flags(&flags::parse(&args::parse(file, &|_| None))?, Path::new("args/kubelet"))
    }

    fn layout(file: &str) -> Vec<String> {
        let layout = settings(file).unwrap_or_default().layout();
        std::iter::once(&layout.kubepods).chain(&layout.reserved).map(CgroupPath::to_string).collect()
    }

    #[test]
    fn the_last_of_a_scalar_wins_and_lists_grow() {
        let read = settings("--cgroup-root=/a\n--cgroup-root /b").unwrap_or_default();
        assert_eq!(read.cgroup_root.value.as_str(), "/b");
        assert_eq!(read.cgroup_root.origin.to_string(), "args/kubelet:2");
        let enforced = |file| settings(file).unwrap_or_default().enforced.value;
        assert_eq!(enforced(""), ["pods"]);
        assert_eq!(enforced("--enforce-node-allocatable=kube-reserved"), ["kube-reserved"]);
        assert_eq!(enforced("--enforce-node-allocatable=a\n--enforce-node-allocatable=b,c"), ["a", "b", "c"]);
        assert!(enforced("--enforce-node-allocatable=").is_empty());
    }

    #[test]
    fn the_report_knows_what_was_overruled() {
        let read = settings("--cgroup-root=/a\n--cgroup-root /b\n--cgroup-root=/b").unwrap_or_default().cgroup_root;
        let overruled = read.overruled.map(|before| (before.value.to_string(), before.origin.to_string()));
        assert_eq!(overruled, Some(("/a".to_owned(), "args/kubelet:1".to_owned())));
        assert!(read.origin.to_string().ends_with(":3"));
    }

    #[test]
    fn containerd_decides_where_kubelet_and_containerd_both_know_how() {
        for (version, is_second, decides) in [
            (Some(Version(1, 30)), true, false),
            (Some(Version(1, 31)), true, true),
            (Some(Version(1, 31)), false, false),
            (Some(Version(1, 34)), true, true),
            (Some(Version(1, 34)), false, false),
            (Some(Version(1, 35)), false, true),
            (None, true, false),
        ] {
            let containerd = Containerd { driver: Driver::Systemd, path: PathBuf::from("toml"), is_second };
            let read = Settings::default().with_containerd(Ok(Some(containerd)), version).unwrap_or_default();
            assert_eq!(read.driver.value == Driver::Systemd, decides, "{version:?} {is_second}");
        }
    }

    #[test]
    fn groups_that_follow() {
        assert_eq!(layout(""), ["/kubepods"]);
        assert_eq!(layout("--cgroup-root=custom/x"), ["/custom/x/kubepods"]);
        let reserved = "--kube-reserved-cgroup=/podruntime\n--enforce-node-allocatable=pods,kube-reserved";
        assert_eq!(layout(reserved), ["/kubepods", "/podruntime"]);
        assert_eq!(layout("--kube-reserved-cgroup=/podruntime"), ["/kubepods"]);
    }

    #[test]
    fn nothing_is_guessed() {
        for file in
            ["--cgroup-driver=docker", "--cgroup-root=$HOME", "--cgroup-root=/a/../b", "--cgroups-per-qos=maybe"]
        {
            assert!(settings(file).is_err(), "{file}");
        }
        assert!(settings("--other=$HOME").is_ok());
    }

    #[test]
    fn the_workaround_is_only_whole_without_enforcement() {
        let refused = |file| settings(file).unwrap_or_default().enforces_without_qos();
        assert!(refused("--cgroups-per-qos=false"));
        assert!(!refused("--cgroups-per-qos=false\n--enforce-node-allocatable="));
        assert!(!refused("--cgroups-per-qos=false\n--enforce-node-allocatable=none"));
        assert!(!refused("--cgroups-per-qos=true"));
    }
}
