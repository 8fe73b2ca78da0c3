//! What the host has. Everything here reads and nothing writes.

pub mod group;
pub mod kernel;
pub mod mounts;
pub mod pods;
pub mod root;
pub mod tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::kubelet::layout::Layout;
use crate::kubelet::{Driver, Settings};
use group::{Depth, Group};
use kernel::Kernel;
use mounts::{CgroupMount, Mode};
use pods::Pods;
use root::{ReadError, Root};
use tasks::Task;

/// The mounts of this host, its kernel, and (on version 2) the part of the tree that the kubelet cares about.
#[derive(Clone, Debug)]
pub struct Host {
    /// How the hierarchies are laid out.
    pub mode: Mode,
    /// All of them.
    pub mounts: Vec<CgroupMount>,
    /// The running kernel.
    pub kernel: Kernel,
    /// The version 2 tree of the cgroupfs driver; `None` in any other mode.
    pub tree: Option<Tree>,
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
    /// Pod groups.
    pub pods: Pods,
    /// The tasks that can make the kernel refuse a controller; `None` when nobody has looked.
    pub blockers: Option<Blockers>,
    /// What the kernel refused just now. Filled in by who asked it.
    pub refusals: Vec<Refusal>,
}

/// Tasks that the kernel may refuse a controller for.
#[derive(Clone, Debug)]
pub struct Blockers {
    /// Real-time or pinned, and outside the root cgroup.
    pub tasks: Vec<Task>,
    /// CONFIG_RT_GROUP_SCHED, without which real-time tasks block nothing; `None` when it cannot be known.
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

    /// What the root of the hierarchy offers.
    pub fn offered(&self) -> Controllers {
        self.group(&CgroupPath::root()).map(|root| root.controllers.clone()).unwrap_or_default()
    }
}

/// Looks at the host once.
///
/// # Errors
/// When something that a judgement would rest on cannot be read.
pub fn observe(root: &Root, settings: &Settings) -> Result<Host, ReadError> {
    let mountinfo = root.read(Path::new("/proc/self/mountinfo"))?;
    let mounts = mounts::parse(&mountinfo);
    let mode = mounts::mode(&mountinfo, &mounts);
    let tree = match (&mode, settings.driver.value) {
        (Mode::Unified(mount), Driver::Cgroupfs) => Some(observe_tree(root, mount, settings)?),
        _ => None,
    };
    Ok(Host { mode, mounts, kernel: kernel::observe(root), tree })
}

/// Looks for the tasks that can make the kernel refuse a controller: one pass over all of `/proc`.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn observe_blockers(root: &Root, kernel: &Kernel) -> Result<Blockers, ReadError> {
    Ok(Blockers { tasks: tasks::observe(root)?, rt_group_sched: kernel.has_rt_group_sched(root) })
}

fn observe_tree(root: &Root, mount: &CgroupMount, settings: &Settings) -> Result<Tree, ReadError> {
    let layout = settings.layout();
    let mut groups = BTreeMap::new();
    for (path, depth) in groups_to_look_at(&layout) {
        if let Some(group) = group::observe(root, &mount.point, &path, depth)? {
            groups.insert(path, group);
        }
    }
    let own = layout.own().filter_map(|path| groups.get(path));
    let pods = pods::observe(root, &mount.point, own, &settings.root_dir.value)?;
    Ok(Tree {
        mount: mount.point.clone(),
        writable: mount.writable,
        groups,
        pods,
        blockers: None,
        refusals: Vec::new(),
    })
}

/// Later entries win, so that a group that is also an ancestor is looked at as closely as its own role asks.
fn groups_to_look_at(layout: &Layout) -> BTreeMap<CgroupPath, Depth> {
    let mut wanted = BTreeMap::new();
    for expected in layout.reserved.iter().chain([&layout.kubepods]) {
        wanted.extend(expected.ancestors().into_iter().map(|path| (path, Depth::Foreign)));
    }
    wanted.extend(layout.reserved.iter().map(|path| (path.clone(), Depth::Foreign)));
    wanted.insert(layout.strays.clone(), Depth::Foreign);
    wanted.insert(layout.kubepods.clone(), Depth::Kubepods);
    wanted.extend(layout.qos.iter().map(|path| (path.clone(), Depth::Qos)));
    wanted
}
