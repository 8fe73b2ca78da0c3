//! The facts about the host. The modules here only read.

pub mod boot;
pub mod claims;
pub mod container;
pub mod containers;
pub mod disk;
pub mod group;
pub mod kernel;
pub mod loader;
pub mod mounts;
pub mod node;
pub mod other_tree;
pub mod partitions;
pub mod pods;
pub mod sandbox;
pub mod service;
pub mod snap;
pub mod state_files;
pub mod tasks;
mod unit_files;
pub mod units;
pub mod v1;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::kubelet::Settings;
use crate::kubelet::layout::{self, Layout};
use crate::kubelet::microk8s::{MICROK8S, Version};
use crate::root::{ReadError, Root};
use boot::Boot;
use claims::Claim;
use disk::Disk;
use group::Group;
use kernel::{Kernel, Offer};
use loader::Source;
use mounts::{CgroupMount, Mode};
use node::Node;
pub use other_tree::OtherTree;
use pods::PodGroups;
use sandbox::Sandbox;
use snap::UnreadableSnap;
use state_files::StateFile;
use tasks::Task;
use units::SliceUnit;
use v1::Hierarchies;

/// Everything that is known about the host: its mounts, its kernel, and the part of the cgroup tree
/// that matters to the kubelet.
#[derive(Clone, Debug)]
pub struct Host {
    /// How the hierarchies are laid out.
    pub mode: Mode,
    /// The mounts of all hierarchies.
    pub mounts: Vec<CgroupMount>,
    /// The kernel's release and command line.
    pub kernel: Kernel,
    /// What the kernel says about its controllers; only read if one is missing.
    pub offer: Offer,
    /// The files that set the kernel's command line at the next boot; only read if a controller is
    /// missing.
    pub sources: Vec<Source>,
    /// This boot, and the kind of container if this host is one.
    pub boot: Boot,
    /// The active revision of MicroK8s.
    pub revision: Option<String>,
    /// The version of its kubelet, if the snap says it.
    pub version: Option<Version>,
    /// The snap of that revision, if it cannot be read.
    pub snap: Option<UnreadableSnap>,
    /// The existing state files that the kubelet reads at its start.
    pub state_files: Vec<StateFile>,
    /// The file system of MicroK8s' data.
    pub disk: Disk,
    /// Its CPUs, memory and swap.
    pub node: Node,
    /// The settings by which kubelite's unit is confined.
    pub sandbox: Sandbox,
    /// The version 2 tree; `None` in any other mode.
    pub tree: Option<Tree>,
    /// The hierarchies of version 1 and hybrid mode.
    pub v1: Option<Hierarchies>,
}

/// The part of the version 2 tree that matters to the kubelet.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
    /// Those of the examined groups that exist.
    pub groups: BTreeMap<CgroupPath, Group>,
    /// With the systemd driver: the files of its slices.
    pub slices: BTreeMap<CgroupPath, SliceUnit>,
    /// The groups of pods.
    pub pods: PodGroups,
    /// The kubepods of the driver that the kubelet does not use, if it exists.
    pub other: Option<OtherTree>,
    /// Whether groups with the cpu controller have `cpu.weight`, judged by kubepods.
    pub has_cpu_weight: bool,
    /// The controllers that are missing because a version 1 hierarchy has them.
    pub claims: Vec<Claim>,
}

/// Tasks because of which the kernel may refuse a controller.
#[derive(Clone, Debug)]
pub struct Blockers {
    /// Those that are real-time or pinned, and outside the root cgroup.
    pub tasks: Vec<Task>,
    /// Whether real-time tasks block a controller (CONFIG_RT_GROUP_SCHED); `None` if unknown.
    pub rt_group_sched: Option<bool>,
}

/// A controller that the kernel refused to enable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The group whose `cgroup.subtree_control` was written.
    pub group: CgroupPath,
    /// The name of the controller.
    pub controller: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Tree {
    /// The group at `path`, if it exists.
    pub fn group(&self, path: &CgroupPath) -> Option<&Group> {
        self.groups.get(path)
    }

    /// The path of a group's file on the host.
    pub fn file(&self, group: &CgroupPath, name: &str) -> PathBuf {
        group.under(&self.mount).join(name)
    }

    /// Whether the root has this controller, but kubepods or a group above one that the kubelet
    /// needs does not exist or does not enable it for its children.
    pub fn lacks(&self, controller: &str, layout: &Layout) -> bool {
        let mut way = vec![layout.kubepods.clone()];
        for demanded in layout.reserved.iter().chain([&layout.kubepods]) {
            way.extend(demanded.ancestors());
        }
        let passes_on = |group: &Group| group.subtree_control.contains(controller);
        let lacks = |path: &CgroupPath| !self.group(path).is_some_and(passes_on);
        self.offered().contains(controller) && way.iter().any(lacks)
    }

    /// The controllers of the hierarchy's root.
    pub fn offered(&self) -> Controllers {
        offered(&self.groups)
    }
}

impl Host {
    /// Where the version 2 hierarchy is mounted; `/` in any other mode, in which a group has no
    /// single directory.
    pub fn mount(&self) -> &Path {
        let tree = self.tree.as_ref();
        tree.map_or(Path::new("/"), |tree| &tree.mount)
    }

    /// The mount points of the hierarchies in which the kubelet creates groups.
    pub fn mount_points(&self) -> Vec<&Path> {
        match (&self.tree, &self.v1) {
            (Some(tree), _) => vec![&tree.mount],
            (None, Some(v1)) => v1.points(),
            (None, None) => Vec::new(),
        }
    }
}

/// The active revision of MicroK8s, if there is one, with the version of its kubelet, if known.
pub type Snap = Option<(String, Option<Version>)>;

/// Examines the host.
///
/// # Errors
/// When something that the diagnosis depends on cannot be read.
pub fn observe(root: &Root, settings: &Settings, snap: &Snap) -> Result<Host, ReadError> {
    let mountinfo = mounts::read(root, Path::new("/proc/self/mountinfo"))?;
    let mounts = mounts::parse(&mountinfo);
    let mode = mounts::mode(&mountinfo, &mounts);
    let kernel = kernel::observe(root);
    let (mut tree, mut v1) = (None, None);
    match &mode {
        Mode::Unified(mount) => tree = Some(observe_tree(root, mount, &mounts, &kernel, settings)?),
        Mode::Hybrid | Mode::Legacy => v1 = Some(v1::observe(root, &mounts, &kernel, settings)?),
        Mode::Unmounted => {}
    }
    let lacks = |tree: &Tree| !layout::desirable().minus(&tree.offered()).is_empty();
    let is_kept_out = |v1: &Hierarchies| v1.unmounted.iter().any(|one| one.obstacle.is_some());
    let (mut offer, mut sources) = (Offer::default(), Vec::new());
    if tree.as_ref().is_some_and(lacks) || v1.as_ref().is_some_and(is_kept_out) {
        offer = kernel::offer(root, &kernel);
        sources = loader::observe(root);
    }
    let (revision, version) = snap.clone().unzip();
    let boot = boot::observe(root, &kernel);
    let disk = disk::observe(root, &mountinfo)?;
    Ok(Host {
        mode,
        mounts,
        offer,
        sources,
        kernel,
        state_files: state_files::observe(root, settings)?,
        sandbox: sandbox::observe(root)?,
        disk,
        snap: snap::observe(root, revision.as_deref()),
        node: node::observe(root, settings, revision.as_deref(), &mountinfo, &boot)?,
        boot,
        revision,
        version: version.flatten(),
        tree,
        v1,
    })
}

/// Whether a container of the kubelet's own containerd is running, or any process in a group below
/// kubepods (on version 1 also in kubepods itself). The shims are looked up as well, because with
/// `--cgroups-per-qos=false`, or after a change of the cgroup driver, containers are not below
/// kubepods.
///
/// # Errors
/// When the groups or `/proc` cannot be read.
pub fn containers_run(root: &Root, settings: &Settings, host: &Host) -> Result<bool, ReadError> {
    let layout = settings.layout();
    let lives_in_kubepods = match (&host.tree, &host.v1) {
        (Some(tree), _) => lives_below(root, tree, &layout)?,
        (None, Some(v1)) => v1.is_populated(root, &layout.kubepods)?,
        (None, None) => false,
    };
    let endpoint = settings.runtime_endpoint.value.as_deref();
    let endpoint = endpoint.unwrap_or_default().trim_start_matches("unix://");
    let is_meant = |socket: &str| MICROK8S.is_own_socket(socket) || socket == endpoint;
    Ok(lives_in_kubepods || containers::live(root, is_meant)?)
}

/// Whether a group below kubepods or a QoS group holds a process. Processes directly in kubepods or
/// a QoS group are strays and not part of a container.
fn lives_below(root: &Root, tree: &Tree, layout: &Layout) -> Result<bool, ReadError> {
    let own = || layout.own().filter_map(|path| tree.group(path));
    if own().all(|group| group.processes.is_empty()) {
        let kubepods = tree.group(&layout.kubepods);
        return Ok(kubepods.is_some_and(|kubepods| kubepods.populated));
    }
    for group in own().filter(|group| group.populated) {
        for path in group.children.iter().map(|name| group.path.join(name)) {
            if !layout.is_own(&path) && group::populated(root, &tree.mount, &path)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Looks for the tasks that can make the kernel refuse a controller, in one pass over `/proc`.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn observe_blockers(root: &Root, kernel: &Kernel) -> Result<Blockers, ReadError> {
    Ok(Blockers {
        tasks: tasks::observe(root)?,
        rt_group_sched: kernel.has_rt_group_sched(root),
    })
}

fn observe_tree(
    root: &Root,
    mount: &CgroupMount,
    mounts: &[CgroupMount],
    kernel: &Kernel,
    settings: &Settings,
) -> Result<Tree, ReadError> {
    let layout = settings.layout();
    let mut groups = BTreeMap::new();
    for (path, depth) in group::to_look_at(&layout) {
        if let Some(group) = group::observe(root, &mount.point, &path, depth)? {
            groups.insert(path, group);
        } else if path.is_root() {
            // Without the files of its root, the hierarchy cannot be examined.
            return Err(ReadError {
                operation: "read",
                path: mount.point.join("cgroup.controllers"),
                errno: Errno::ENOENT,
            });
        }
    }
    observe_memory(root, mount, &layout, &mut groups)?;
    let own = layout.own().filter_map(|path| groups.get(path));
    let pod_groups = layout.pod_groups(own.map(|group: &Group| (&group.path, &group.children)));
    let is_populated = |group: &CgroupPath| group::populated(root, &mount.point, group);
    // If the parent holds no process, neither does any pod below it.
    let lives = |pod: &CgroupPath| {
        let above = pod.parent().and_then(|above| groups.get(&above));
        Ok(above.is_none_or(|above| above.populated) && is_populated(pod)?)
    };
    let pods = pods::observe(root, pod_groups, lives, &settings.root_dir.value)?;
    let other = settings.other_kubepods();
    let other = OtherTree::observe(root, &[&mount.point], other, is_populated)?;
    let kubepods = groups.get(&layout.kubepods);
    let has_cpu_weight = match kubepods.filter(|kubepods| kubepods.lacks_cpu_max) {
        Some(kubepods) => has_cpu_weight(root, kernel, &kubepods.path.under(&mount.point))?,
        None => true,
    };
    let mut slices = units::observe_all(root, &layout)?;
    for (slice, unit) in &mut slices {
        if !unit.sets.contains("AllowedCPUs") {
            unit.free_cpus = partitions::free_cpus(root, &mount.point, slice)?;
        }
    }
    let absent = layout::desirable().minus(&offered(&groups));
    Ok(Tree {
        mount: mount.point.clone(),
        writable: mount.writable,
        groups,
        slices,
        pods,
        other,
        has_cpu_weight,
        claims: claims::observe(root, mounts, &absent)?,
    })
}

fn offered(groups: &BTreeMap<CgroupPath, Group>) -> Controllers {
    let root = groups.get(&CgroupPath::root());
    root.map_or_else(Controllers::default, |root| root.controllers.clone())
}

/// A kernel without CONFIG_FAIR_GROUP_SCHED has neither `cpu.weight` nor `cpu.max`
/// (`kernel/sched/core.c`, `cpu_files`), so this is called only if `cpu.max` is missing.
fn has_cpu_weight(root: &Root, kernel: &Kernel, kubepods: &Path) -> Result<bool, ReadError> {
    Ok(root.exists(&kubepods.join("cpu.weight"))?
        || kernel.has(root, "CONFIG_FAIR_GROUP_SCHED") == Some(true))
}

/// Reads the memory limits if a group has to be created or to be given the memory controller: the
/// kernel charges the memory for its counters to the groups above.
fn observe_memory(
    root: &Root,
    mount: &CgroupMount,
    layout: &Layout,
    groups: &mut BTreeMap<CgroupPath, Group>,
) -> Result<(), ReadError> {
    let mut all = layout.own().chain(&layout.reserved);
    let has_all = all.all(|path| groups.contains_key(path));
    let kubepods = groups.get(&layout.kubepods);
    if has_all && kubepods.is_some_and(|group| group.subtree_control.contains("memory")) {
        return Ok(());
    }
    for (path, group) in groups.iter_mut().filter(|(path, _)| !path.is_root()) {
        let files = ["memory.max", "memory.current"];
        group.memory = group::memory_limit(root, &path.under(&mount.point), files)?;
    }
    Ok(())
}
