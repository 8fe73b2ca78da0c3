//! Reads the version 1 hierarchies, as the kubelet and its libcontainer find them.
//!
//! See kubernetes' `pkg/kubelet/cm/helpers_linux.go` (`GetCgroupSubsystems`: of several mounts of
//! one controller the one with the shortest mount point, from 1.21 on),
//! `cgroup_v1_manager_linux.go` (`Validate`), and runc's `libcontainer/cgroups/fs` (`subsystems`:
//! where it creates groups) and `cgroups/v1_utils.go` (`tryDefaultPath`: first below
//! `/sys/fs/cgroup`).

pub mod names;
pub mod unmounted;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::group::{self, Depth, MemoryLimit, Setting, memory_limit};
use crate::host::kernel::Kernel;
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount, mounts_of};
use crate::host::other_tree::OtherTree;
use crate::host::pods::{self, PodGroups};
use crate::host::units::{self, SliceUnit};
use crate::kubelet::Settings;
use crate::root::keep::all;
use crate::root::{ReadError, Root};
use names::{CHECKED, SYSTEMD_HIERARCHY, USED};
use unmounted::Unmounted;

/// Controllers and their files that the kubelet never writes. Not every kernel has all of them.
const SETTINGS: [(&str, &str); 6] = [
    ("cpu", "cpu.idle"),
    ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "memory.kmem.limit_in_bytes"),
    ("memory", "memory.kmem.tcp.limit_in_bytes"),
    ("memory", "memory.oom_control"),
];

/// The file of a group's memory limit.
pub const MEMORY_LIMIT: &str = "memory.limit_in_bytes";

/// Controllers and their files that the kubelet writes only in kubepods.
const SETTINGS_OF_QOS: [(&str, &str); 2] = [("memory", MEMORY_LIMIT), ("pids", "pids.max")];

/// Everything about version 1 on this host that matters to the kubelet.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    /// The hierarchies in which libcontainer creates groups, sorted by mount point.
    pub mounted: Vec<Hierarchy>,
    /// The hierarchies that should be mounted but are not.
    pub unmounted: Vec<Unmounted>,
    /// The groups of pods.
    pub pods: PodGroups,
    /// With the systemd driver: the files of its slices.
    pub slices: BTreeMap<CgroupPath, SliceUnit>,
    /// The kubepods of the driver that the kubelet does not use, if it exists.
    pub other: Option<OtherTree>,
}

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Its controllers, or [`SYSTEMD_HIERARCHY`].
    pub controllers: Controllers,
    /// The mount point where libcontainer creates groups.
    pub point: PathBuf,
    /// Whether it can be written to.
    pub writable: bool,
    /// Whether it can limit CPU time: the hierarchy of cpu on a kernel with CONFIG_CFS_BANDWIDTH.
    pub has_quota: bool,
    /// Whether groups have a CPU weight: the hierarchy of cpu on a kernel with
    /// CONFIG_FAIR_GROUP_SCHED, which CONFIG_CFS_BANDWIDTH needs.
    pub has_shares: bool,
    /// Those of the examined groups that exist.
    pub groups: BTreeMap<CgroupPath, V1Group>,
    /// The group that is visible at the mount point.
    pub root: String,
    /// The mount that the kubelet uses, if it is a different one, or is covered by another.
    pub looked_at: Option<OtherMount>,
}

/// The mount of a controller in which the kubelet looks for its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherMount {
    /// The mount with the shortest mount point, which the kubelet chooses.
    pub mount: CgroupMount,
    /// Whether the kubelet finds kubepods there.
    pub has_kubepods: bool,
}

/// What is known of one group in one hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V1Group {
    /// Its CPUs and memory nodes, in the hierarchy of cpuset.
    pub cpuset: Option<Cpuset>,
    /// Whether the group itself was frozen, not only a group above it.
    pub frozen: bool,
    /// Whether it or a group below it holds a process. Only looked up if it is frozen.
    pub populated: bool,
    /// `memory.limit_in_bytes`, if it is a limit; only read if a group has to be created below.
    pub memory: Option<MemoryLimit>,
    /// The settings that the kubelet never resets; only read in the kubelet's own groups.
    pub settings: Vec<Setting>,
    /// The names of the groups directly below; only read in the kubelet's own groups.
    pub children: Vec<OsString>,
}

/// `cpuset.cpus` and `cpuset.mems`, lists such as `0-3`. While one of them is empty, the group
/// cannot hold a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpuset(pub [Setting; 2]);

impl Cpuset {
    /// The files that are empty.
    pub fn empty_files(&self) -> Vec<&'static str> {
        let empty = self.0.iter().filter(|setting| setting.value.is_empty());
        empty.map(|setting| setting.file).collect()
    }

    /// Each setting, paired with the same setting of another group.
    pub fn zip<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
        self.0.iter().zip(&other.0)
    }
}

impl Hierarchy {
    /// Whether the kubelet looks for its groups here.
    pub fn is_checked(&self) -> bool {
        CHECKED.iter().any(|name| self.controllers.contains(name))
    }

    /// Its usual name: the last part of its mount point.
    pub fn name(&self) -> String {
        let name = self.point.file_name();
        let name = name.unwrap_or(self.point.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

impl Hierarchies {
    /// The hierarchy of a controller.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        let mut mounted = self.mounted.iter();
        mounted.find(|hierarchy| hierarchy.controllers.contains(controller))
    }

    /// Whether the kubelet can set the weight of an existing QoS group. If it cannot (on a kernel
    /// without CONFIG_FAIR_GROUP_SCHED), it ends; for a group that it creates, it only logs it.
    pub fn has_cpu_shares(&self) -> bool {
        self.of("cpu").is_none_or(|cpu| cpu.has_shares)
    }

    /// The mount points of the hierarchies.
    pub fn points(&self) -> Vec<&Path> {
        points(&self.mounted)
    }

    /// Whether systemd's own hierarchy, which has all its units, contains this group.
    pub fn named_has(&self, group: &CgroupPath) -> bool {
        let named = self.of(SYSTEMD_HIERARCHY);
        named.is_some_and(|named| named.groups.contains_key(group))
    }

    /// Whether no hierarchy has this group.
    pub fn lack(&self, group: &CgroupPath) -> bool {
        self.without(group).count() == self.mounted.len()
    }

    /// Whether the group, or one below it, holds a process in any hierarchy.
    ///
    /// # Errors
    /// When a list of processes cannot be read.
    pub fn is_populated(&self, root: &Root, group: &CgroupPath) -> Result<bool, ReadError> {
        populated(root, &self.points(), group)
    }

    /// The hierarchies that have no such group.
    pub fn without<'a>(&'a self, group: &'a CgroupPath) -> impl Iterator<Item = &'a Hierarchy> {
        let mounted = self.mounted.iter();
        mounted.filter(move |hierarchy| !hierarchy.groups.contains_key(group))
    }
}

/// Examines all hierarchies.
///
/// # Errors
/// When something that the diagnosis depends on cannot be read.
pub fn observe(
    root: &Root,
    mounts: &[CgroupMount],
    kernel: &Kernel,
    settings: &Settings,
) -> Result<Hierarchies, ReadError> {
    let layout = settings.layout();
    let mut wanted = group::to_look_at(&layout);
    // On version 1 a group with children may also hold processes, so there are no strays.
    wanted.remove(&layout.strays);
    let mut mounted: BTreeMap<PathBuf, Hierarchy> = BTreeMap::new();
    for name in USED {
        let Some(mount) = made_in(mounts, name) else {
            continue;
        };
        if let Some(known) = mounted.get_mut(&mount.point) {
            known.controllers.insert(name);
        } else {
            let looked_at = looked_at(root, mounts, name, mount, &layout.kubepods)?;
            let hierarchy = hierarchy(root, mount, name, looked_at, &wanted)?;
            let is_seen = hierarchy.groups.contains_key(&CgroupPath::root());
            if !is_seen && mount.covered_by.is_none() {
                // The list of mounts and the tree contradict each other.
                return Err(ReadError {
                    operation: "find the mount",
                    path: mount.point.clone(),
                    errno: Errno::ENOENT,
                });
            }
            mounted.insert(mount.point.clone(), hierarchy);
        }
    }
    let mounted: Vec<Hierarchy> = mounted.into_values().collect();
    let points = points(&mounted);
    let lives = |group: &CgroupPath| populated(root, &points, group);
    let groups = mounted.iter().flat_map(|hierarchy| &hierarchy.groups);
    let pod_groups = layout.pod_groups(groups.map(|(path, group)| (path, &group.children)));
    // A pod has a group in each hierarchy.
    let pod_groups: BTreeMap<CgroupPath, OsString> = pod_groups.collect();
    let pods = pods::observe(root, pod_groups, lives, &settings.root_dir.value)?;
    let unmounted = unmounted::observe(root, mounts, kernel)?;
    let other = OtherTree::observe(root, &points, settings.other_kubepods(), lives)?;
    let slices = units::observe_all(root, &layout)?;
    Ok(Hierarchies {
        mounted,
        unmounted,
        pods,
        slices,
        other,
    })
}

fn points(mounted: &[Hierarchy]) -> Vec<&Path> {
    let points = mounted.iter().map(|hierarchy| &*hierarchy.point);
    points.collect()
}

/// Whether the group, or one below it, holds a process in any of the hierarchies on `points`.
///
/// # Errors
/// When a list of processes cannot be read.
pub fn populated(root: &Root, points: &[&Path], group: &CgroupPath) -> Result<bool, ReadError> {
    let mut to_visit: Vec<PathBuf> = points.iter().map(|point| group.under(point)).collect();
    while let Some(directory) = to_visit.pop() {
        let file = directory.join("cgroup.procs");
        let list = root.keeping(&all).read_if_there(&file)?;
        if list.is_some_and(|list| !list.is_empty()) {
            return Ok(true);
        }
        let below = root.directories(&directory)?.unwrap_or_default();
        to_visit.extend(below.iter().map(|name| directory.join(name)));
    }
    Ok(false)
}

/// The mount where libcontainer creates the groups of a controller. It prefers one directly below
/// `/sys/fs/cgroup`. A covered mount misleads libcontainer and the kubelet alike.
fn made_in<'a>(mounts: &'a [CgroupMount], name: &'a str) -> Option<&'a CgroupMount> {
    let seen = || mounts_of(mounts, name).filter(|mount| mount.covered_by.is_none());
    let covered = || mounts_of(mounts, name).find(|_| CHECKED.contains(&name));
    let usual = seen().find(|mount| mount.point.parent() == Some(Path::new(CGROUP_MOUNT)));
    usual.or_else(|| seen().next()).or_else(covered)
}

/// The mount where the kubelet looks for the groups of a controller.
fn looked_at(
    root: &Root,
    mounts: &[CgroupMount],
    name: &str,
    made_in: &CgroupMount,
    kubepods: &CgroupPath,
) -> Result<Option<OtherMount>, ReadError> {
    let mounts = mounts_of(mounts, name);
    let Some(mount) = mounts.min_by_key(|mount| mount.point.as_os_str().len()) else {
        return Ok(None);
    };
    let is_covered = mount.covered_by.is_some();
    // Of several mounts at one place, both use the one that is visible there.
    let is_same = mount.point == made_in.point && made_in.covered_by.is_none();
    if !CHECKED.contains(&name) || is_same {
        return Ok(None);
    }
    let has_kubepods = !is_covered && root.exists(&kubepods.under(&mount.point))?;
    let mount = mount.clone();
    Ok(Some(OtherMount {
        mount,
        has_kubepods,
    }))
}

fn hierarchy(
    root: &Root,
    mount: &CgroupMount,
    name: &str,
    looked_at: Option<OtherMount>,
    wanted: &BTreeMap<CgroupPath, Depth>,
) -> Result<Hierarchy, ReadError> {
    let has_quota = root.exists(&mount.point.join("cpu.cfs_quota_us"))?;
    let mut hierarchy = Hierarchy {
        controllers: [name].into_iter().collect(),
        point: mount.point.clone(),
        writable: mount.writable,
        has_quota,
        has_shares: has_quota || root.exists(&mount.point.join("cpu.shares"))?,
        groups: BTreeMap::new(),
        root: mount.root.clone(),
        looked_at,
    };
    for (path, depth) in wanted {
        let directory = path.under(&mount.point);
        if root.directories(&directory)?.is_some() {
            let files = V1Files {
                root,
                hierarchy: &hierarchy,
                path,
                directory,
            };
            let group = files.read(*depth)?;
            hierarchy.groups.insert(path.clone(), group);
        }
    }
    if name == "memory" && wanted.len() > hierarchy.groups.len() {
        let groups = hierarchy.groups.iter_mut();
        for (path, group) in groups.filter(|(path, _)| !path.is_root()) {
            let files = [MEMORY_LIMIT, "memory.usage_in_bytes"];
            group.memory = memory_limit(root, &path.under(&mount.point), files)?;
        }
    }
    Ok(hierarchy)
}

struct V1Files<'a> {
    root: &'a Root,
    hierarchy: &'a Hierarchy,
    path: &'a CgroupPath,
    directory: PathBuf,
}

impl V1Files<'_> {
    fn read(&self, depth: Depth) -> Result<V1Group, ReadError> {
        let mut group = V1Group::default();
        if self.has("cpuset") {
            let files = [self.setting("cpuset.cpus")?, self.setting("cpuset.mems")?];
            group.cpuset = Some(Cpuset(files));
        }
        if depth == Depth::Foreign {
            return Ok(group);
        }
        group.children = self.root.directories(&self.directory)?.unwrap_or_default();
        if self.has("freezer") && self.file("freezer.self_freezing")? == "1" {
            group.frozen = true;
            group.populated = populated(self.root, &[&self.hierarchy.point], self.path)?;
        }
        group.settings = self.settings(depth)?;
        Ok(group)
    }

    fn has(&self, controller: &str) -> bool {
        self.hierarchy.controllers.contains(controller)
    }

    fn file(&self, name: &str) -> Result<String, ReadError> {
        let path = self.directory.join(name);
        let text = self.root.keeping(&all).read(&path)?;
        Ok(text.trim_end().to_owned())
    }

    fn setting(&self, file: &'static str) -> Result<Setting, ReadError> {
        let value = self.file(file)?;
        Ok(Setting { file, value })
    }

    /// The first line of each file that the kubelet writes only in kubepods, or never.
    fn settings(&self, depth: Depth) -> Result<Vec<Setting>, ReadError> {
        let mut found = Vec::new();
        if self.hierarchy.has_quota {
            found.push(self.setting("cpu.cfs_quota_us")?);
        }
        for (controller, file) in SETTINGS_OF_QOS {
            if depth == Depth::Qos && self.has(controller) {
                found.push(self.setting(file)?);
            }
        }
        for (controller, file) in SETTINGS {
            if !self.has(controller) {
                continue;
            }
            let path = self.directory.join(file);
            if let Some(text) = self.root.keeping(&all).read_value(&path)? {
                let value = text.lines().next().unwrap_or_default().to_owned();
                found.push(Setting { file, value });
            }
        }
        Ok(found)
    }
}
