//! The cgroups that the kubelet wants by its settings, and their names.
//!
//! Rests on `pkg/kubelet/cm/container_manager_linux.go` and `cgroup_manager_linux.go`: the cgroupfs
//! driver joins names with `/` below the cgroup root (`ParseCgroupfsToCgroupName`), the systemd
//! driver makes slices of them (`ToSystemd`, `ParseSystemdToCgroupName`, and libcontainer's
//! `ExpandSlice`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::cgroup::{CgroupPath, Controllers};
use crate::kubelet::setting::Driver;

/// The controllers that the kubelet validates, of those that the root of the hierarchy offers
/// (`getSupportedUnifiedControllers`; the same from 1.20 to 1.36).
const VALIDATED: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];

/// The root of all pods, as the kubelet names it inside.
const KUBEPODS: &str = "kubepods";

/// The two QoS classes with a group of their own; guaranteed pods live directly in kubepods.
const QOS_CLASSES: [&str; 2] = ["burstable", "besteffort"];

/// Where this program moves processes that must not be in kubepods: beside it, or, with slices,
/// outside of systemd's cgroups.
const STRAYS: &str = "kubepods-strays";

const SLICE: &str = ".slice";

/// The cgroups that the kubelet makes or expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The driver that makes them, and by which they are named.
    pub driver: Driver,
    /// `--cgroup-root`: the kubelet never makes it.
    pub cgroup_root: CgroupPath,
    /// The root of all pods.
    pub kubepods: CgroupPath,
    /// `burstable` and `besteffort`.
    pub qos: Vec<CgroupPath>,
    /// Reserved groups that are enforced: the kubelet never makes them.
    pub reserved: Vec<CgroupPath>,
    /// The group for processes that must not be in kubepods.
    pub strays: CgroupPath,
}

impl Layout {
    /// The groups below `cgroup_root`, both as the settings name them.
    pub fn new(driver: Driver, cgroup_root: &CgroupPath, reserved: &[CgroupPath]) -> Self {
        let below = |names: &[&str]| {
            let names = names.iter().map(OsStr::new);
            let path = cgroup_root.components().chain(names);
            match driver {
                Driver::Cgroupfs => path.fold(CgroupPath::root(), |above, name| above.join(name)),
                // The settings name these groups, so they are text.
                Driver::Systemd => slice(path.map(OsStr::to_string_lossy)),
            }
        };
        let (reserved, strays) = match driver {
            Driver::Cgroupfs => (reserved.to_vec(), cgroup_root.join(STRAYS)),
            Driver::Systemd => {
                let slices = reserved.iter().map(reserved_slice).collect();
                (slices, CgroupPath::root().join(STRAYS))
            }
        };
        Self {
            driver,
            cgroup_root: below(&[]),
            kubepods: below(&[KUBEPODS]),
            qos: QOS_CLASSES.map(|class| below(&[KUBEPODS, class])).to_vec(),
            reserved,
            strays,
        }
    }

    /// kubepods and the QoS groups.
    pub fn own(&self) -> impl Iterator<Item = &CgroupPath> {
        std::iter::once(&self.kubepods).chain(&self.qos)
    }

    /// Whether the group is kubepods or that of a QoS class.
    pub fn is_own(&self, path: &CgroupPath) -> bool {
        self.own().any(|own| own == path)
    }

    /// With the systemd driver: every slice here, the cgroup root and what is above it included.
    pub fn slices(&self) -> BTreeSet<CgroupPath> {
        let mut slices = BTreeSet::new();
        if self.driver == Driver::Systemd {
            for lowest in self.reserved.iter().chain(self.own()) {
                slices.extend(lowest.ancestors());
                slices.insert(lowest.clone());
            }
        }
        slices.remove(&CgroupPath::root());
        slices
    }

    /// The pod groups among the children of these groups, each with its pod's uid.
    pub fn pod_groups<'a>(
        &'a self,
        parents: impl Iterator<Item = (&'a CgroupPath, &'a Vec<OsString>)>,
    ) -> impl Iterator<Item = (CgroupPath, OsString)> {
        let children =
            parents.flat_map(|(parent, names)| names.iter().map(move |name| (parent, name)));
        children.filter_map(|(parent, name)| Some((parent.join(name), self.pod_uid(parent, name)?)))
    }

    /// The uid of the pod whose group has this name inside `parent`, which may be empty; `None` for
    /// a group that is not a pod's.
    pub fn pod_uid(&self, parent: &CgroupPath, name: &OsStr) -> Option<OsString> {
        let name = name.as_bytes();
        if self.driver == Driver::Cgroupfs {
            return Some(OsStr::from_bytes(name.strip_prefix(b"pod")?).to_owned());
        }
        let stem = parent.name().as_bytes().strip_suffix(SLICE.as_bytes())?;
        let name = name.strip_suffix(SLICE.as_bytes())?;
        let mut uid = name.strip_prefix(stem)?.strip_prefix(b"-pod")?.to_vec();
        for byte in uid.iter_mut().filter(|byte| **byte == b'_') {
            *byte = b'-';
        }
        Some(OsString::from_vec(uid))
    }
}

/// `foo`, `bar-baz` → `/foo.slice/foo-bar_baz.slice`. To systemd a dash is a step down.
fn slice<'a>(names: impl Iterator<Item = Cow<'a, str>>) -> CgroupPath {
    let mut stem = String::new();
    let mut path = CgroupPath::root();
    for name in names {
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.push_str(&name.replace('-', "_"));
        path = path.join(format!("{stem}{SLICE}"));
    }
    path
}

/// Of a reserved group only the last name counts, which is a slice's own, with its suffix or
/// without.
fn reserved_slice(path: &CgroupPath) -> CgroupPath {
    let name = path.name().to_string_lossy();
    let stem = name.strip_suffix(SLICE).unwrap_or(&name);
    slice(stem.split('-').map(Cow::from))
}

/// What the kubelet will look for in `kubepods/cgroup.controllers`, of what the root offers.
pub fn needed(offered: &Controllers) -> Controllers {
    VALIDATED.into_iter().collect::<Controllers>().and(offered)
}

/// The controllers that pods miss when the kernel does not offer them. A kernel without huge pages
/// is not a fault.
pub fn desirable() -> Controllers {
    let names = VALIDATED.into_iter();
    names.filter(|name| *name != "hugetlb").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    fn slices(root: &str, reserved: &str) -> Layout {
        Layout::new(Driver::Systemd, &path(root), &[path(reserved)])
    }

    #[test]
    fn slices_carry_the_names_of_all_above() {
        for (root, kubepods) in [
            ("/", "/kubepods.slice"),
            (
                "/foo/bar",
                "/foo.slice/foo-bar.slice/foo-bar-kubepods.slice",
            ),
            ("/foo-bar", "/foo_bar.slice/foo_bar-kubepods.slice"),
            ("/foo.slice", "/foo.slice.slice/foo.slice-kubepods.slice"),
        ] {
            assert_eq!(slices(root, "/x").kubepods.to_string(), kubepods, "{root}");
        }
        let layout = slices("/foo", "/x");
        assert_eq!(layout.cgroup_root.to_string(), "/foo.slice");
        assert_eq!(
            layout.qos[0].to_string(),
            "/foo.slice/foo-kubepods.slice/foo-kubepods-burstable.slice"
        );
    }

    #[test]
    fn reserved_slices_go_by_their_last_name() {
        for (given, is) in [
            ("/system.slice", "/system.slice"),
            ("podruntime", "/podruntime.slice"),
            (
                "/foo.slice/foo-bar_baz.slice",
                "/foo.slice/foo-bar_baz.slice",
            ),
            ("/elsewhere/foo-bar.slice", "/foo.slice/foo-bar.slice"),
        ] {
            assert_eq!(slices("/", given).reserved[0].to_string(), is, "{given}");
        }
    }

    #[test]
    fn pods_by_the_names_of_their_groups() {
        let by_systemd = slices("/", "/x");
        let uid = |layout: &Layout, parent: &CgroupPath, name: &[u8]| {
            layout
                .pod_uid(parent, OsStr::from_bytes(name))
                .map(OsString::into_vec)
        };
        let (kubepods, burstable) = (&by_systemd.kubepods, &by_systemd.qos[0]);
        assert_eq!(
            uid(&by_systemd, burstable, b"kubepods-burstable-pod12_ab.slice"),
            Some(b"12-ab".to_vec())
        );
        assert_eq!(
            uid(&by_systemd, kubepods, b"kubepods-burstable.slice"),
            None
        );
        assert_eq!(
            uid(&by_systemd, kubepods, b"kubepods-pod7.slice"),
            Some(b"7".to_vec())
        );
        assert_eq!(
            uid(&by_systemd, kubepods, b"kubepods-pod.slice"),
            Some(Vec::new())
        );
        let by_kubelet = Layout::new(Driver::Cgroupfs, &path("/"), &[]);
        for (name, is) in [
            (b"pod7-8".as_slice(), b"7-8".as_slice()),
            (b"pod\xff", b"\xff"),
            (b"pod", b""),
        ] {
            assert_eq!(
                uid(&by_kubelet, &by_kubelet.kubepods, name),
                Some(is.to_vec())
            );
        }
    }
}
