//! Version 1 hierarchies, as the kubelet and its libcontainer find them.
//!
//! Rests on kubernetes' `pkg/kubelet/cm/helpers_linux.go` (`GetCgroupSubsystems`: of several mounts
//! of one controller the shortest mount point, from 1.21 on), `cgroup_v1_manager_linux.go`
//! (`Validate`), and runc's `libcontainer/cgroups/fs` (`subsystems`: where it makes groups) and
//! `cgroups/v1_utils.go` (`tryDefaultPath`: first below `/sys/fs/cgroup`).

pub mod names;
pub mod unmounted;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

/// Controller and file of what the kubelet never writes. Not every kernel has all of them.
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

/// What it writes on kubepods alone.
const SETTINGS_OF_QOS: [(&str, &str); 2] = [("memory", MEMORY_LIMIT), ("pids", "pids.max")];

/// All that matters of version 1 on this host.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    /// Those that libcontainer makes groups in, by mount point.
    pub mounted: Vec<Hierarchy>,
    /// Those that should be mounted and are not.
    pub unmounted: Vec<Unmounted>,
    /// Pod groups.
    pub pods: PodGroups,
    /// With the systemd driver: the files of its slices.
    pub slices: BTreeMap<CgroupPath, SliceUnit>,
    /// kubepods of the driver that the kubelet does not use, where there is one.
    pub other: Option<OtherTree>,
}

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Its controllers, or [`SYSTEMD_HIERARCHY`].
    pub controllers: Controllers,
    /// Where libcontainer makes groups.
    pub point: PathBuf,
    /// Whether it can be written there.
    pub writable: bool,
    /// Whether it can hold back CPU time: that of cpu, on a kernel with CONFIG_CFS_BANDWIDTH.
    pub has_quota: bool,
    /// Whether it can weigh groups: that of cpu, on a kernel with CONFIG_FAIR_GROUP_SCHED, which
    /// CONFIG_CFS_BANDWIDTH needs.
    pub has_shares: bool,
    /// Of the groups looked for, those that exist.
    pub groups: BTreeMap<CgroupPath, V1Group>,
    /// Which group of the hierarchy is seen there.
    pub root: String,
    /// Where the kubelet looks, if that is another mount, or covered by one.
    pub looked_at: Option<OtherMount>,
}

/// The mount of a controller that the kubelet looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherMount {
    /// The mount.
    pub mount: CgroupMount,
    /// Whether the kubelet finds kubepods there.
    pub has_kubepods: bool,
}

/// What is known of one group in one hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V1Group {
    /// Its CPUs and memory nodes, in the hierarchy of cpuset.
    pub cpuset: Option<Cpuset>,
    /// Whether it was frozen itself (not only its parent).
    pub frozen: bool,
    /// Whether a process lives in it or below. Only looked up where it is frozen.
    pub populated: bool,
    /// `memory.limit_in_bytes`, where it is one; only looked up where something has to be made
    /// below.
    pub memory: Option<MemoryLimit>,
    /// What the kubelet never sets back, where the group has it; only read of its own groups.
    pub settings: Vec<Setting>,
    /// The names of the groups directly below; only read of the kubelet's own.
    pub children: Vec<OsString>,
}

/// `cpuset.cpus` and `cpuset.mems`, lists such as `0-3`. While one of them is empty nothing can
/// live in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpuset(pub [Setting; 2]);

impl Cpuset {
    /// The files that are empty.
    pub fn empty_files(&self) -> Vec<&'static str> {
        let empty = self.0.iter().filter(|setting| setting.value.is_empty());
        empty.map(|setting| setting.file).collect()
    }

    /// Each with the same of another group.
    pub fn zip<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
        self.0.iter().zip(&other.0)
    }
}

impl Hierarchy {
    /// Whether the kubelet looks for its groups here.
    pub fn is_checked(&self) -> bool {
        CHECKED.iter().any(|name| self.controllers.contains(name))
    }

    /// The name under which people know it: the last part of its mount point.
    pub fn name(&self) -> String {
        self.point
            .file_name()
            .unwrap_or(self.point.as_os_str())
            .to_string_lossy()
            .into_owned()
    }
}

impl Hierarchies {
    /// The hierarchy of a controller.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.mounted
            .iter()
            .find(|hierarchy| hierarchy.controllers.contains(controller))
    }

    /// Whether the kubelet can set the weight of a QoS group that exists; it dies where it cannot,
    /// and only logs it of a group that it creates (a kernel without CONFIG_FAIR_GROUP_SCHED).
    pub fn has_cpu_shares(&self) -> bool {
        self.of("cpu").is_none_or(|cpu| cpu.has_shares)
    }

    /// Where they are mounted.
    pub fn points(&self) -> Vec<&Path> {
        self.mounted
            .iter()
            .map(|hierarchy| hierarchy.point.as_path())
            .collect()
    }

    /// Whether systemd, which keeps a hierarchy of its own for all its units, has this group in it.
    pub fn named_has(&self, group: &CgroupPath) -> bool {
        self.of(SYSTEMD_HIERARCHY)
            .is_some_and(|named| named.groups.contains_key(group))
    }

    /// Whether no hierarchy has this group.
    pub fn lack(&self, group: &CgroupPath) -> bool {
        self.without(group).count() == self.mounted.len()
    }

    /// Whether a process lives in the group or anywhere below, in whichever hierarchy.
    ///
    /// # Errors
    /// When a list of processes cannot be read.
    pub fn is_populated(&self, root: &Root, group: &CgroupPath) -> Result<bool, ReadError> {
        populated(root, &self.points(), group)
    }

    /// The hierarchies that have no such group.
    pub fn without<'a>(&'a self, group: &'a CgroupPath) -> impl Iterator<Item = &'a Hierarchy> {
        self.mounted
            .iter()
            .filter(move |hierarchy| !hierarchy.groups.contains_key(group))
    }
}

/// Looks at all hierarchies.
///
/// # Errors
/// When something that a judgement would rest on cannot be read.
pub fn observe(
    root: &Root,
    mounts: &[CgroupMount],
    kernel: &Kernel,
    settings: &Settings,
) -> Result<Hierarchies, ReadError> {
    let layout = settings.layout();
    let mut wanted = group::to_look_at(&layout);
    // Nothing has to leave a version 1 group for the kubelet's sake.
    wanted.remove(&layout.strays);
    let mut mounted: BTreeMap<PathBuf, Hierarchy> = BTreeMap::new();
    for name in USED {
        let Some(mount) = made_in(mounts, name) else {
            continue;
        };
        if let Some(known) = mounted.get_mut(&mount.point) {
            known.controllers.extend(&[name].into_iter().collect());
        } else {
            let looked_at = looked_at(root, mounts, name, mount, &layout.kubepods)?;
            let hierarchy = hierarchy(root, mount, name, looked_at, &wanted)?;
            mounted.insert(mount.point.clone(), hierarchy);
        }
    }
    let mounted: Vec<Hierarchy> = mounted.into_values().collect();
    let points: Vec<&Path> = mounted
        .iter()
        .map(|hierarchy| hierarchy.point.as_path())
        .collect();
    let lives = |group: &CgroupPath| populated(root, &points, group);
    let own = mounted
        .iter()
        .flat_map(|hierarchy| &hierarchy.groups)
        .map(|(path, group)| (path, &group.children));
    let pods = pods::observe(
        root,
        layout.pod_groups(own),
        lives,
        &settings.root_dir.value,
    )?;
    let unmounted = unmounted::observe(root, mounts, kernel)?;
    let other = observe_other(root, &points, settings.other_kubepods())?;
    let slices = units::observe_all(root, &layout)?;
    Ok(Hierarchies {
        mounted,
        unmounted,
        pods,
        slices,
        other,
    })
}

fn observe_other(
    root: &Root,
    points: &[&Path],
    kubepods: CgroupPath,
) -> Result<Option<OtherTree>, ReadError> {
    let mut places = points.iter().map(|point| kubepods.under(point));
    if !places.try_fold(false, |found, place| Ok(found || root.exists(&place)?))? {
        return Ok(None);
    }
    let populated = populated(root, points, &kubepods)?;
    OtherTree::new(root, kubepods, populated).map(Some)
}

/// Whether a process lives in the group or anywhere below, in whichever of the hierarchies on
/// `points`.
///
/// # Errors
/// When a list of processes cannot be read.
pub fn populated(root: &Root, points: &[&Path], group: &CgroupPath) -> Result<bool, ReadError> {
    let mut to_visit: Vec<PathBuf> = points.iter().map(|point| group.under(point)).collect();
    while let Some(directory) = to_visit.pop() {
        if root
            .keeping(&all)
            .read_if_there(&directory.join("cgroup.procs"))?
            .is_some_and(|list| !list.is_empty())
        {
            return Ok(true);
        }
        let below = root.directories(&directory)?.unwrap_or_default();
        to_visit.extend(below.iter().map(|name| directory.join(name)));
    }
    Ok(false)
}

/// libcontainer's choice: below `/sys/fs/cgroup` before anything else. A covered mount misleads it
/// and the kubelet alike.
fn made_in<'a>(mounts: &'a [CgroupMount], name: &'a str) -> Option<&'a CgroupMount> {
    let seen = || mounts_of(mounts, name).filter(|mount| mount.covered_by.is_none());
    let covered = || mounts_of(mounts, name).find(|_| CHECKED.contains(&name));
    let usual = seen().find(|mount| mount.point.parent() == Some(Path::new(CGROUP_MOUNT)));
    usual.or_else(|| seen().next()).or_else(covered)
}

/// The kubelet's choice.
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
    if !CHECKED.contains(&name) || mount == made_in && !is_covered {
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
            let group = V1Files {
                root,
                hierarchy: &hierarchy,
                path,
                directory,
            }
            .read(*depth)?;
            hierarchy.groups.insert(path.clone(), group);
        }
    }
    let is_incomplete = wanted.len() > hierarchy.groups.len();
    if name == "memory" && is_incomplete {
        for (path, group) in hierarchy
            .groups
            .iter_mut()
            .filter(|(path, _)| !path.is_root())
        {
            let file = |name: &str| path.under(&mount.point).join(name);
            group.memory = memory_limit(root, &file(MEMORY_LIMIT), &file("memory.usage_in_bytes"))?;
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
        Ok(self
            .root
            .keeping(&all)
            .read(&self.directory.join(name))?
            .trim_end()
            .to_owned())
    }

    fn setting(&self, file: &'static str) -> Result<Setting, ReadError> {
        let value = self.file(file)?;
        Ok(Setting { file, value })
    }

    /// What the kubelet writes only on kubepods, or nowhere: the first line of each file.
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
            let text = self.root.keeping(&all).read_value(&path)?;
            if let Some(line) = text.as_deref().map(|text| text.lines().next()) {
                let value = line.unwrap_or_default().to_owned();
                found.push(Setting { file, value });
            }
        }
        Ok(found)
    }
}
