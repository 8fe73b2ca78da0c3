//! All settings of the kubelet that its cgroups depend on, their defaults, and the cgroups that
//! follow from them.
//!
//! Rests on `pkg/kubelet/apis/config/v1beta1/defaults.go` for the defaults and
//! `cmd/kubelet/app/options` for the flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cgroup::CgroupPath;
use crate::kubelet::containerd::Containerd;
use crate::kubelet::layout::Layout;
use crate::kubelet::microk8s::Version;
use crate::kubelet::setting::{Driver, Sourced};
use crate::root::Filling;

/// The kubelet's own default for `--root-dir`.
const DEFAULT_ROOT_DIR: &str = "/var/lib/kubelet";

/// The first kubelet with `--fail-cgroupv1`, and the first whose default it is.
const CAN_REFUSE_V1: Version = Version(1, 31);
/// See [`CAN_REFUSE_V1`].
const REFUSES_V1: Version = Version(1, 35);

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
    /// `--cpu-manager-policy-options`, by name.
    pub cpu_manager_options: BTreeMap<String, Sourced<String>>,
    /// `--memory-manager-policy`.
    pub memory_manager_policy: Sourced<String>,
    /// `--protect-kernel-defaults`: the kubelet sets no sysctls, and exits if one differs.
    pub protect_kernel_defaults: Sourced<bool>,
    /// `--fail-swap-on`.
    pub fail_swap_on: Sourced<bool>,
    /// Of the args files that were read, those that hold nothing or only NUL bytes, as a power cut
    /// may leave them.
    pub emptied: Vec<(PathBuf, Filling)>,
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
            cpu_manager_options: BTreeMap::new(),
            memory_manager_policy: Sourced::default("None".to_owned()),
            protect_kernel_defaults: Sourced::default(false),
            fail_swap_on: Sourced::default(true),
            emptied: Vec::new(),
            runtime_endpoint: Sourced::default(None),
            reserved_cpus: Sourced::default(None),
            kube_reservation: BTreeMap::new(),
            system_reservation: BTreeMap::new(),
            feature_gates: BTreeMap::new(),
        }
    }
}

impl Settings {
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
        let kube = Reservation {
            key: "kube-reserved",
            is_enforced: self.enforces("kube-reserved"),
            group: &self.kube_reserved,
            resources: &self.kube_reservation,
        };
        let system = Reservation {
            key: "system-reserved",
            is_enforced: self.enforces("system-reserved"),
            group: &self.system_reserved,
            resources: &self.system_reservation,
        };
        [kube, system]
    }

    /// Whether `kube-reserved` or `system-reserved` is enforced, if only of compressible resources.
    fn enforces(&self, key: &str) -> bool {
        let is_it = |word: &String| matches!(word.strip_prefix(key), Some("" | "-compressible"));
        self.enforced.value.iter().any(is_it)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::flag_values::settings;

    fn layout(file: &str) -> Vec<String> {
        let layout = settings(file).unwrap_or_default().layout();
        std::iter::once(&layout.kubepods)
            .chain(&layout.reserved)
            .map(CgroupPath::to_string)
            .collect()
    }

    #[test]
    fn groups_follow_from_the_settings() {
        assert_eq!(layout(""), ["/kubepods"]);
        assert_eq!(layout("--cgroup-root=custom/x"), ["/custom/x/kubepods"]);
        let reserved =
            "--kube-reserved-cgroup=/podruntime\n--enforce-node-allocatable=pods,kube-reserved";
        assert_eq!(layout(reserved), ["/kubepods", "/podruntime"]);
        assert_eq!(layout("--kube-reserved-cgroup=/podruntime"), ["/kubepods"]);
        let enforced = |key: &str| {
            let file = format!("--system-reserved-cgroup=/sys\n--enforce-node-allocatable={key}");
            layout(&file)
        };
        assert_eq!(
            enforced("system-reserved-compressible"),
            ["/kubepods", "/sys"]
        );
        assert_eq!(enforced("system-reserved-compressibles"), ["/kubepods"]);
    }

    #[test]
    fn the_workaround_requires_that_nothing_is_enforced() {
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
