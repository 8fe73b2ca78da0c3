//! What the host has. Everything here reads and nothing writes.

pub mod boot;
pub mod claims;
pub mod container;
pub mod containers;
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
pub mod state_files;
pub mod tasks;
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
use group::{Depth, Group};
use kernel::{Kernel, Offer};
use loader::Source;
use mounts::{CgroupMount, Mode};
use node::Node;
pub use other_tree::OtherTree;
use pods::PodGroups;
use sandbox::Sandbox;
use state_files::StateFile;
use tasks::Task;
use units::SliceUnit;
use v1::Hierarchies;

/// The mounts of this host, its kernel, and (on version 2) the part of the tree that the kubelet
/// cares about.
#[derive(Clone, Debug)]
pub struct Host {
    /// How the hierarchies are laid out.
    pub mode: Mode,
    /// All of them.
    pub mounts: Vec<CgroupMount>,
    /// The running kernel.
    pub kernel: Kernel,
    /// What the kernel says of its controllers, where one is missing.
    pub offer: Offer,
    /// Where its next command line comes from, where a controller is missing.
    pub sources: Vec<Source>,
    /// This boot and the one before.
    pub boot: Boot,
    /// The active revision of MicroK8s and its kubelet's version, where they are known.
    pub revision: Option<String>,
    /// See [`Self::revision`].
    pub version: Option<Version>,
    /// The state files that the kubelet reads at its start, those that exist.
    pub state_files: Vec<StateFile>,
    /// Its CPUs, memory and swap.
    pub node: Node,
    /// What kubelite's unit confines itself with.
    pub sandbox: Sandbox,
    /// The version 2 tree; `None` in any other mode.
    pub tree: Option<Tree>,
    /// The hierarchies of version 1 and hybrid mode.
    pub v1: Option<Hierarchies>,
}

/// The groups that matter to the kubelet, and what stands in their way.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
    /// Of the groups looked for, those that exist.
    pub groups: BTreeMap<CgroupPath, Group>,
    /// With the systemd driver: the files of its slices.
    pub slices: BTreeMap<CgroupPath, SliceUnit>,
    /// Pod groups.
    pub pods: PodGroups,
    /// kubepods of the driver that the kubelet does not use, where there is one.
    pub other: Option<OtherTree>,
    /// Whether a group with the cpu controller has `cpu.weight`, as far as kubepods shows it.
    pub has_cpu_weight: bool,
    /// What version 1 has taken away from it.
    pub claims: Vec<Claim>,
}

/// Tasks that the kernel may refuse a controller for.
#[derive(Clone, Debug)]
pub struct Blockers {
    /// Real-time or pinned, and outside the root cgroup.
    pub tasks: Vec<Task>,
    /// CONFIG_RT_GROUP_SCHED, without which real-time tasks block nothing; `None` when it cannot be
    /// known.
    pub rt_group_sched: Option<bool>,
}

/// A controller that the kernel did not let be switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose `cgroup.subtree_control` was written.
    pub group: CgroupPath,
    /// The controller.
    pub controller: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Tree {
    /// The group at `path`, if it exists.
    pub fn group(&self, path: &CgroupPath) -> Option<&Group> {
        self.groups.get(path)
    }

    /// A file of a group, as the host names it.
    pub fn file(&self, group: &CgroupPath, name: &str) -> PathBuf {
        group.under(&self.mount).join(name)
    }

    /// Whether the root offers this controller and kubepods, or a group on the way to what the
    /// kubelet demands, does not pass it on or does not exist.
    pub fn lacks(&self, controller: &str, layout: &Layout) -> bool {
        let demanded = layout.reserved.iter().chain([&layout.kubepods]);
        let mut through = demanded
            .flat_map(CgroupPath::ancestors)
            .chain([layout.kubepods.clone()]);
        let passes_on = |group: &Group| group.subtree_control.contains(controller);
        self.offered().contains(controller)
            && !through.all(|path| self.group(&path).is_some_and(passes_on))
    }

    /// What the root of the hierarchy offers.
    pub fn offered(&self) -> Controllers {
        self.group(&CgroupPath::root())
            .map(|root| root.controllers.clone())
            .unwrap_or_default()
    }
}

impl Host {
    /// Where the version 2 hierarchy is mounted; `/` in any other mode, where groups have no one
    /// directory.
    pub fn mount(&self) -> &Path {
        self.tree
            .as_ref()
            .map_or(Path::new("/"), |tree| &tree.mount)
    }

    /// Where the kubelet's groups are.
    pub fn mount_points(&self) -> Vec<&Path> {
        match (&self.tree, &self.v1) {
            (Some(tree), _) => vec![&tree.mount],
            (None, Some(v1)) => v1.points(),
            (None, None) => Vec::new(),
        }
    }
}

/// The active revision of MicroK8s with its version, if there is one.
pub type Snap = Option<(String, Option<Version>)>;

/// Looks at the host once.
///
/// # Errors
/// When something that a judgement would rest on cannot be read.
pub fn observe(root: &Root, settings: &Settings, snap: &Snap) -> Result<Host, ReadError> {
    let mountinfo = root
        .keeping(&mounts::kept())
        .read(Path::new("/proc/self/mountinfo"))?;
    let mounts = mounts::parse(&mountinfo);
    let mode = mounts::mode(&mountinfo, &mounts);
    let kernel = kernel::observe(root);
    let tree = match &mode {
        Mode::Unified(mount) => Some(observe_tree(root, mount, &mounts, &kernel, settings)?),
        _ => None,
    };
    let v1 = match &mode {
        Mode::Hybrid | Mode::Legacy => Some(v1::observe(root, &mounts, &kernel, settings)?),
        _ => None,
    };
    let lacks = tree
        .as_ref()
        .is_some_and(|tree| !layout::desirable().minus(&tree.offered()).is_empty())
        || v1.as_ref().is_some_and(|v1| {
            v1.unmounted
                .iter()
                .any(|unmounted| unmounted.obstacle.is_some())
        });
    let revision = snap.as_ref().map(|(revision, _)| revision.as_str());
    let state_files = state_files::observe(root, settings)?;
    let sandbox = sandbox::observe(root)?;
    Ok(Host {
        mode,
        mounts,
        offer: if lacks {
            kernel::offer(root, &kernel)
        } else {
            Offer::default()
        },
        sources: if lacks {
            loader::observe(root)
        } else {
            Vec::new()
        },
        boot: boot::observe(root, &kernel),
        kernel,
        revision: snap.as_ref().map(|(revision, _)| revision.clone()),
        version: snap.as_ref().and_then(|(_, version)| *version),
        state_files,
        node: node::observe(root, settings, revision)?,
        sandbox,
        tree,
        v1,
    })
}

/// Whether a container of the kubelet's own containerd lives, or any process in a group below
/// kubepods (on version 1 also in kubepods itself). Below kubepods the tree itself tells; but with
/// `--cgroups-per-qos=false`, or after a change of the cgroup driver, containers live elsewhere.
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

/// Whether a process lives in a group below kubepods or a QoS group. Those directly in these groups
/// are strays and no container.
fn lives_below(root: &Root, tree: &Tree, layout: &Layout) -> Result<bool, ReadError> {
    let mut own = layout.own().filter_map(|path| tree.group(path));
    if own.all(|group| group.processes.is_empty()) {
        return Ok(tree
            .group(&layout.kubepods)
            .is_some_and(|kubepods| kubepods.populated));
    }
    for group in layout
        .own()
        .filter_map(|path| tree.group(path))
        .filter(|group| group.populated)
    {
        for path in group
            .children
            .iter()
            .map(|name| group.path.join(name))
            .filter(|path| !layout.is_own(path))
        {
            if group::populated(root, &tree.mount, &path)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Looks for the tasks that can make the kernel refuse a controller: one pass over all of `/proc`.
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
            // A mount without its own files is no hierarchy that could be judged.
            let path = mount.point.join("cgroup.controllers");
            return Err(ReadError {
                operation: "read",
                path,
                errno: Errno::ENOENT,
            });
        }
    }
    observe_memory(root, mount, &layout, &mut groups)?;
    let own = layout.own().filter_map(|path| groups.get(path));
    let pod_groups = layout.pod_groups(own.map(|group: &Group| (&group.path, &group.children)));
    // Where nothing lives below the parent, no pod has to be asked.
    let may_live = |pod: &CgroupPath| {
        pod.parent()
            .is_none_or(|above| groups.get(&above).is_none_or(|above| above.populated))
    };
    let lives = |pod: &CgroupPath| Ok(may_live(pod) && group::populated(root, &mount.point, pod)?);
    let pods = pods::observe(root, pod_groups, lives, &settings.root_dir.value)?;
    let other = observe_other(root, mount, settings.other_kubepods())?;
    let has_cpu_weight = has_cpu_weight(root, kernel, groups.get(&layout.kubepods), mount)?;
    let mut slices = units::observe_all(root, &layout)?;
    for (slice, unit) in &mut slices {
        if !unit.sets.contains("AllowedCPUs") {
            unit.free_cpus = partitions::free_cpus(root, &mount.point, slice)?;
        }
    }
    let offered = groups.get(&CgroupPath::root());
    let offered = offered.map(|root| root.controllers.clone());
    let absent = layout::desirable().minus(&offered.unwrap_or_default());
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

/// A kernel without CONFIG_FAIR_GROUP_SCHED has neither `cpu.weight` nor `cpu.max`
/// (`kernel/sched/core.c`, `cpu_files`), so the first is only looked for where the second is
/// missing.
fn has_cpu_weight(
    root: &Root,
    kernel: &Kernel,
    kubepods: Option<&Group>,
    mount: &CgroupMount,
) -> Result<bool, ReadError> {
    let Some(kubepods) = kubepods.filter(|group| group.lacks_cpu_max) else {
        return Ok(true);
    };
    let file = kubepods.path.under(&mount.point).join("cpu.weight");
    Ok(root.exists(&file)? || kernel.has(root, "CONFIG_FAIR_GROUP_SCHED") == Some(true))
}

/// Where a group has to be made, or be given the memory controller, the kernel charges its counters
/// to the groups above.
fn observe_memory(
    root: &Root,
    mount: &CgroupMount,
    layout: &Layout,
    groups: &mut BTreeMap<CgroupPath, Group>,
) -> Result<(), ReadError> {
    let lacks = |path: &CgroupPath| groups.get(path).is_none();
    let is_incomplete = layout.own().chain(&layout.reserved).any(lacks)
        || groups
            .get(&layout.kubepods)
            .is_some_and(|kubepods| !kubepods.subtree_control.contains("memory"));
    if !is_incomplete {
        return Ok(());
    }
    for (path, group) in groups.iter_mut().filter(|(path, _)| !path.is_root()) {
        let file = |name: &str| path.under(&mount.point).join(name);
        group.memory = group::memory_limit(root, &file("memory.max"), &file("memory.current"))?;
    }
    Ok(())
}

fn observe_other(
    root: &Root,
    mount: &CgroupMount,
    kubepods: CgroupPath,
) -> Result<Option<OtherTree>, ReadError> {
    let Some(Group { populated, .. }) =
        group::observe(root, &mount.point, &kubepods, Depth::Foreign)?
    else {
        return Ok(None);
    };
    OtherTree::new(root, kubepods, populated).map(Some)
}
