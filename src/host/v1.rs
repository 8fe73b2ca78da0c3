//! Version 1 hierarchies, as the kubelet and its libcontainer find them.
//!
//! Rests on kubernetes' `pkg/kubelet/cm/helpers_linux.go` (`GetCgroupSubsystems`: of several mounts
//! of one controller the shortest mount point, from 1.21 on), `cgroup_v1_manager_linux.go`
//! (`Validate`), and runc's `libcontainer/cgroups/fs` (`subsystems`: where it makes groups) and
//! `cgroups/v1_utils.go` (`tryDefaultPath`: first below `/sys/fs/cgroup`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::group::{Depth, MemoryLimit, NO_MEMORY_LIMIT, Setting, memory_limit};
use crate::host::kernel::Kernel;
use crate::host::mounts::{CGROUP_MOUNT, CgroupMount, Version};
use crate::host::pods::{self, Pods};
use crate::host::units::{self, SliceUnit, Unmade};
use crate::host::unmounted::{self, Unmounted};
use crate::host::{OtherTree, groups_to_look_at};
use crate::kubelet::Settings;
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// systemd's own hierarchy, which has a name and no controller.
pub const NAMED: &str = "name=systemd";

/// What libcontainer makes groups in (`subsystems`), so far as it is mounted.
pub const USED: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    NAMED,
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// Where the kubelet looks whether a group exists (`Validate`), so far as it is mounted.
pub const CHECKED: [&str; 7] = [
    "cpu", "cpuacct", "cpuset", "hugetlb", "memory", NAMED, "pids",
];

/// Controller, file, and what stands there (of a memory limit: none) as long as nobody has written
/// it. The kubelet never does. Not every kernel has all of them.
const LEFTOVERS: [(&str, &str, &str); 6] = [
    ("cpu", "cpu.idle", "0"),
    ("memory", "memory.soft_limit_in_bytes", "-1"),
    ("memory", "memory.memsw.limit_in_bytes", "-1"),
    ("memory", "memory.kmem.limit_in_bytes", "-1"),
    ("memory", "memory.kmem.tcp.limit_in_bytes", "-1"),
    ("memory", "memory.oom_control", "oom_kill_disable 0"),
];

/// The file of a group's memory limit.
pub const MEMORY_LIMIT: &str = "memory.limit_in_bytes";

/// What it writes on kubepods alone.
const LEFTOVERS_OF_QOS: [(&str, &str, &str); 2] =
    [("memory", MEMORY_LIMIT, "-1"), ("pids", "pids.max", "max")];

/// All that matters of version 1 on this host.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    /// Those that libcontainer makes groups in, by mount point.
    pub mounted: Vec<Hierarchy>,
    /// Those that should be mounted and are not.
    pub unmounted: Vec<Unmounted>,
    /// Pod groups.
    pub pods: Pods,
    /// With the systemd driver: the files of its slices.
    pub slices: BTreeMap<CgroupPath, SliceUnit>,
    /// kubepods of the driver that the kubelet does not use, where there is one.
    pub other: Option<OtherTree>,
    /// Filled in by who asked systemd.
    pub unmade: Vec<Unmade>,
}

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Its controllers, or [`NAMED`].
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
    pub groups: BTreeMap<CgroupPath, Group>,
    /// Where the kubelet looks instead, if it looks elsewhere and sees something else there.
    pub shadow: Option<Shadow>,
}

/// A second mount of a controller that misleads the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The mount.
    pub mount: CgroupMount,
    /// Whether the kubelet finds kubepods there all the same.
    pub has_kubepods: bool,
}

/// What is known of one group in one hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its CPUs and memory nodes, in the hierarchy of cpuset.
    pub cpuset: Option<Cpuset>,
    /// Whether it was frozen itself (not only its parent).
    pub frozen: bool,
    /// Whether a process lives in it or below. Only looked up where it is frozen.
    pub populated: bool,
    /// `memory.limit_in_bytes`, where it is one; only looked up where something has to be made
    /// below.
    pub memory: Option<MemoryLimit>,
    /// What the kubelet never sets back.
    pub leftovers: Vec<Setting>,
    /// The names of the groups directly below; only read of the kubelet's own.
    pub children: Vec<OsString>,
}

/// `cpuset.cpus` and `cpuset.mems`. While one of them is empty nothing can live in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpuset {
    /// A list such as `0-3`.
    pub cpus: String,
    /// A list of memory nodes.
    pub mems: String,
}

impl Cpuset {
    /// The files that are empty.
    pub fn empty_files(&self) -> Vec<&'static str> {
        let files = [("cpuset.cpus", &self.cpus), ("cpuset.mems", &self.mems)];
        files
            .into_iter()
            .filter(|(_, value)| value.is_empty())
            .map(|(file, _)| file)
            .collect()
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

    /// Whether systemd, which keeps a hierarchy of its own for all its units, has this group in it.
    pub fn named_has(&self, group: &CgroupPath) -> bool {
        self.of(NAMED)
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
        let points: Vec<&Path> = self
            .mounted
            .iter()
            .map(|hierarchy| hierarchy.point.as_path())
            .collect();
        populated(root, &points, group)
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
    let mut wanted = groups_to_look_at(&layout);
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
            let shadow = shadow(root, mounts, name, mount, &layout.kubepods)?;
            mounted.insert(
                mount.point.clone(),
                hierarchy(root, mount, name, shadow, &wanted)?,
            );
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
        unmade: Vec::new(),
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

/// The mounts of a controller, in their order.
pub(super) fn mounts_of<'a>(
    mounts: &'a [CgroupMount],
    name: &'a str,
) -> impl Iterator<Item = &'a CgroupMount> {
    mounts.iter().filter(move |mount| {
        mount.version == Version::V1 && mount.options.iter().any(|option| option == name)
    })
}

/// libcontainer's choice: below `/sys/fs/cgroup` before anything else. A covered mount misleads it
/// and the kubelet alike.
fn made_in<'a>(mounts: &'a [CgroupMount], name: &'a str) -> Option<&'a CgroupMount> {
    let seen = || mounts_of(mounts, name).filter(|mount| mount.covered_by.is_none());
    let covered = || mounts_of(mounts, name).find(|_| CHECKED.contains(&name));
    let usual = seen().find(|mount| mount.point.parent() == Some(Path::new(CGROUP_MOUNT)));
    usual.or_else(|| seen().next()).or_else(covered)
}

/// The kubelet's choice, where it is not as good as libcontainer's: something else is seen there,
/// or it cannot be written.
fn shadow(
    root: &Root,
    mounts: &[CgroupMount],
    name: &str,
    made_in: &CgroupMount,
    kubepods: &CgroupPath,
) -> Result<Option<Shadow>, ReadError> {
    let looked_at = mounts_of(mounts, name).min_by_key(|mount| mount.point.as_os_str().len());
    let is_as_good = |mount: &CgroupMount| {
        mount.covered_by.is_none()
            && mount.root == made_in.root
            && mount.writable >= made_in.writable
    };
    let Some(mount) = looked_at.filter(|mount| CHECKED.contains(&name) && !is_as_good(mount))
    else {
        return Ok(None);
    };
    let has_kubepods = mount.covered_by.is_none() && root.exists(&kubepods.under(&mount.point))?;
    Ok(Some(Shadow {
        mount: mount.clone(),
        has_kubepods,
    }))
}

fn hierarchy(
    root: &Root,
    mount: &CgroupMount,
    name: &str,
    shadow: Option<Shadow>,
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
        shadow,
    };
    for (path, depth) in wanted {
        let directory = path.under(&mount.point);
        if root.directories(&directory)?.is_some() {
            let group = Files {
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

struct Files<'a> {
    root: &'a Root,
    hierarchy: &'a Hierarchy,
    path: &'a CgroupPath,
    directory: PathBuf,
}

impl Files<'_> {
    fn read(&self, depth: Depth) -> Result<Group, ReadError> {
        let mut group = Group::default();
        if self.has("cpuset") {
            group.cpuset = Some(Cpuset {
                cpus: self.file("cpuset.cpus")?,
                mems: self.file("cpuset.mems")?,
            });
        }
        if depth == Depth::Foreign {
            return Ok(group);
        }
        group.children = self.root.directories(&self.directory)?.unwrap_or_default();
        if self.has("freezer") && self.file("freezer.self_freezing")? == "1" {
            group.frozen = true;
            group.populated = populated(self.root, &[&self.hierarchy.point], self.path)?;
        }
        group.leftovers = self.leftovers(depth, &group)?;
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

    /// What the kubelet writes only on kubepods, or nowhere.
    fn leftovers(&self, depth: Depth, group: &Group) -> Result<Vec<Setting>, ReadError> {
        let mut found = Vec::new();
        if self.hierarchy.has_quota {
            found.extend(leftover(
                "cpu.cfs_quota_us",
                &self.file("cpu.cfs_quota_us")?,
                "-1",
            ));
        }
        for (_, file, usual) in LEFTOVERS_OF_QOS
            .iter()
            .filter(|(name, ..)| depth == Depth::Qos && self.has(name))
        {
            found.extend(leftover(file, &self.file(file)?, usual));
        }
        for (_, file, usual) in LEFTOVERS.iter().filter(|(name, ..)| self.has(name)) {
            let text = self
                .root
                .keeping(&all)
                .read_value(&self.directory.join(file))?;
            found.extend(text.and_then(|text| leftover(file, &text, usual)));
        }
        let above = self
            .path
            .parent()
            .and_then(|parent| self.hierarchy.groups.get(&parent)?.cpuset.as_ref());
        if let (Some(own), Some(above)) = (&group.cpuset, above) {
            let files = [
                ("cpuset.cpus", &own.cpus, &above.cpus),
                ("cpuset.mems", &own.mems, &above.mems),
            ];
            let narrowed = files
                .into_iter()
                .filter(|(_, own, above)| own != above && !own.is_empty() && !above.is_empty());
            found.extend(narrowed.map(|(file, own, above)| setting(file, own, above)));
        }
        Ok(found)
    }
}

fn leftover(file: &'static str, text: &str, usual: &str) -> Option<Setting> {
    let value = text.lines().next().unwrap_or_default();
    let is_no_limit = value
        .parse::<u64>()
        .is_ok_and(|bytes| bytes >= NO_MEMORY_LIMIT);
    let (_, default) = usual.rsplit_once(' ').unwrap_or(("", usual));
    (value != usual && !is_no_limit).then(|| setting(file, value, default))
}

fn setting(file: &'static str, value: &str, default: &str) -> Setting {
    Setting {
        file,
        value: value.to_owned(),
        default: default.to_owned(),
    }
}
