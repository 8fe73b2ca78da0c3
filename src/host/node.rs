//! Reads the CPUs and memory that the kubelet compares with its state files, and other things
//! without which it does not start. Each is read only if it matters with the kubelet's settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::host::boot::Boot;
use crate::host::container::Manager;
use crate::host::kernel;
use crate::host::mounts::{self, CGROUP_MOUNT};
use crate::host::partitions::Cpus;
use crate::host::sandbox::sysctls;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::keep::{BLANK, text};
use crate::root::{Filling, ReadError, Root};

const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
const NUMA_NODES: &str = "/sys/devices/system/node";
const SWAPS: &str = "/proc/swaps";
const KERNEL_LOG: &str = "/dev/kmsg";

/// Files without which kubelite ends, and the kubelet with it (canonical/microk8s#4089, #3912,
/// #4296), and the nodes on which that is so. None of them is ever empty on purpose. kubelite runs
/// everything in one process, and ends it when one part returns an error; kube-proxy, the scheduler
/// and the controller manager do so without the kubeconfig that their arguments name
/// (`cmd/kubelite/app/daemons/daemon.go` in MicroK8s' patch).
const FILES: [(&str, On); 14] = [
    ("args/containerd", On::Every),
    ("args/kube-apiserver", On::ControlPlane),
    ("args/kube-controller-manager", On::ControlPlane),
    ("args/kube-proxy", On::Every),
    ("args/kube-scheduler", On::ControlPlane),
    ("certs/ca.crt", On::ControlPlane),
    ("certs/ca.remote.crt", On::Worker),
    ("certs/server.crt", On::ControlPlane),
    ("certs/serviceaccount.key", On::ControlPlane),
    ("credentials/client.config", On::ControlPlane),
    ("credentials/controller.config", On::ControlPlane),
    ("credentials/kubelet.config", On::Every),
    ("credentials/proxy.config", On::Every),
    ("credentials/scheduler.config", On::ControlPlane),
];

/// The nodes that need a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Every,
    ControlPlane,
    Worker,
}

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The CPUs that are online; only read with the CPU manager's static policy, or with
    /// `--reserved-cpus`.
    pub online_cpus: Option<Cpus>,
    /// The memory by NUMA node; only read with the memory manager's Static policy.
    pub memory: BTreeMap<i64, NodeMemory>,
    /// The kind of each swap area (`file`, `partition`); only read if the kubelet refuses swap.
    pub swaps: Vec<String>,
    /// The present values of [`SYSCTLS`](crate::host::sandbox::SYSCTLS); only read with
    /// `--protect-kernel-defaults`, or if they cannot be written.
    pub sysctls: Vec<(&'static str, String)>,
    /// Whether their mount refuses writes, as in a container.
    pub sysctls_read_only: bool,
    /// Those files of MicroK8s without which the kubelet does not start, and that are empty or
    /// begin with NUL bytes.
    pub emptied: Vec<(PathBuf, Filling)>,
    /// Whether this is a worker; only looked up if one of MicroK8s' files has lost its contents.
    pub is_worker: bool,
    /// Whether this is a container without the kernel log.
    pub lacks_kernel_log: bool,
    /// The inotify resource that is used up, and its limit.
    pub inotify: Option<(Inotify, String)>,
}

/// The memory of a NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// All of it, in bytes.
    pub total: u64,
    /// Bytes in huge pages by the kubelet's name for their size, such as `hugepages-2Mi`; `None` if
    /// the kernel does not list any.
    pub huge: Option<BTreeMap<String, u64>>,
}

/// What the kernel limits for each user of inotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inotify {
    /// Open file descriptors through which changes are reported.
    Instances,
    /// Watched folders and files.
    Watches,
}

impl Inotify {
    /// The kernel parameter that limits it.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Instances => "fs.inotify.max_user_instances",
            Self::Watches => "fs.inotify.max_user_watches",
        }
    }
}

/// Examines the machine.
///
/// # Errors
/// When something that exists cannot be read.
pub fn observe(
    root: &Root,
    settings: &Settings,
    revision: Option<&str>,
    mountinfo: &str,
    boot: &Boot,
) -> Result<Node, ReadError> {
    let sysctl_mount = mounts::file_system(mountinfo, Path::new(mounts::SYSCTLS));
    let (emptied, is_worker) = emptied(root, settings, revision)?;
    let mut node = Node {
        sysctls_read_only: sysctl_mount.is_some_and(|mount| mount.read_only),
        emptied,
        is_worker,
        lacks_kernel_log: lacks_kernel_log(root, boot)?,
        inotify: inotify(root),
        ..Node::default()
    };
    let is_static = settings.cpu_manager_policy.value == "static";
    if is_static || settings.reserved_cpus.value.is_some() {
        let online = root.read_value(Path::new(ONLINE_CPUS))?;
        node.online_cpus = online.map(|list| Cpus::parse(&list));
    }
    if settings.memory_manager_policy.value == "Static" {
        node.memory = memory(root)?;
    }
    if settings.fail_swap_on.value {
        let keep = text(keep_swaps);
        let list = root.keeping(&keep).read_value(Path::new(SWAPS))?;
        let list = list.unwrap_or_default();
        node.swaps = swaps(&list).map(str::to_owned).collect();
    }
    if settings.protect_kernel_defaults.value || node.sysctls_read_only {
        node.sysctls = sysctls(root);
    }
    Ok(node)
}

/// Whether `/dev/kmsg` is missing. The kernel creates it everywhere but in a container. A capture
/// without a record of it also lacks `/dev/null`, which every system has.
fn lacks_kernel_log(root: &Root, boot: &Boot) -> Result<bool, ReadError> {
    let is_container = !matches!(boot.container, None | Some(Manager::Wsl));
    let is_there = |path: &str| root.exists(Path::new(path));
    Ok(is_container && !is_there(KERNEL_LOG)? && is_there("/dev/null")?)
}

/// The files that this node needs and that are empty or begin with NUL bytes, and whether it is a
/// worker. A key that only its owner can read is skipped.
fn emptied(
    root: &Root,
    settings: &Settings,
    revision: Option<&str>,
) -> Result<(Vec<(PathBuf, Filling)>, bool), ReadError> {
    let Some(revision) = revision else {
        return Ok((Vec::new(), false));
    };
    let data = MICROK8S.data(revision);
    let mut emptied = Vec::new();
    for (name, on) in FILES {
        let path = data.join(name);
        match root.filling(&path) {
            Ok(None | Some(Filling::Something)) => {}
            Ok(Some(filling)) => emptied.push((path, filling, on)),
            Err(error) if error.errno == Errno::EACCES => {}
            Err(error) => return Err(error),
        }
    }
    if emptied.is_empty() && settings.emptied.is_empty() {
        return Ok((Vec::new(), false));
    }
    let is_worker = MICROK8S.is_worker(root, revision)?;
    let not_needed = if is_worker {
        On::ControlPlane
    } else {
        On::Worker
    };
    let needed = emptied.into_iter().filter(|(_, _, on)| *on != not_needed);
    let needed = needed.map(|(path, filling, _)| (path, filling));
    Ok((needed.collect(), is_worker))
}

/// The inotify resource that is used up, if any: cAdvisor watches every cgroup.
fn inotify(root: &Root) -> Option<(Inotify, String)> {
    let used_up = match root.inotify(Path::new(CGROUP_MOUNT)) {
        Err(Errno::EMFILE) => Inotify::Instances,
        Err(_) => Inotify::Watches,
        Ok(()) => return None,
    };
    let file = format!("/proc/sys/{}", used_up.parameter().replace('.', "/"));
    Some((used_up, kernel::value(root, &file)))
}

/// The memory of each NUMA node, from `Node 0 MemTotal: 16777216 kB` in its `meminfo`, as cAdvisor
/// reads it.
fn memory(root: &Root) -> Result<BTreeMap<i64, NodeMemory>, ReadError> {
    let mut memory = BTreeMap::new();
    let nodes = Path::new(NUMA_NODES);
    for folder in root.directories(nodes)?.unwrap_or_default() {
        let name = folder.to_string_lossy();
        let number = name.strip_prefix("node").map(str::parse);
        let Some(Ok(number)) = number else { continue };
        let folder = nodes.join(&folder);
        let meminfo = root.read_value(&folder.join("meminfo"))?;
        if let Some(kilobytes) = total(&meminfo.unwrap_or_default()) {
            let total = kilobytes.saturating_mul(1024);
            let huge = huge_pages(root, &folder.join("hugepages"))?;
            memory.insert(number, NodeMemory { total, huge });
        }
    }
    Ok(memory)
}

/// The huge pages of a NUMA node, from `hugepages-2048kB/nr_hugepages` in this folder, as cAdvisor
/// reads them.
fn huge_pages(root: &Root, folder: &Path) -> Result<Option<BTreeMap<String, u64>>, ReadError> {
    let Some(sizes) = root.directories(folder)? else {
        return Ok(None);
    };
    let mut huge = BTreeMap::new();
    for name in sizes {
        let kilobytes = name.to_str().and_then(|name| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            size.parse::<u64>().ok()
        });
        let pages = root.read_value(&folder.join(&name).join("nr_hugepages"))?;
        let pages = pages.and_then(|pages| pages.trim().parse::<u64>().ok());
        if let (Some(kilobytes), Some(pages)) = (kilobytes, pages) {
            let bytes = kilobytes.saturating_mul(1024).saturating_mul(pages);
            huge.insert(format!("hugepages-{}", binary(kilobytes)), bytes);
        }
    }
    Ok(Some(huge))
}

/// Kilobytes as Kubernetes writes such a quantity: `64Ki`, `2Mi`, `1Gi`.
fn binary(kilobytes: u64) -> String {
    let mut units = [(1 << 20, "Gi"), (1 << 10, "Mi"), (1, "Ki")].into_iter();
    let unit = units.find(|(unit, _)| kilobytes.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "Ki"));
    format!("{}{name}", kilobytes / unit)
}

fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let (_, total) = lines.find_map(|line| line.split_once("MemTotal:"))?;
    total.split_whitespace().next()?.parse().ok()
}

/// The kind of each swap area: the second word of each line but the first.
fn swaps(list: &str) -> impl Iterator<Item = &str> {
    let lines = list.lines().skip(1);
    lines.filter_map(|line| line.split_whitespace().nth(1))
}

/// What a capture keeps of the list: the kind of each swap area.
fn keep_swaps(list: &str) -> String {
    let kinds = swaps(list).map(|kind| format!("/{BLANK} {kind}\n"));
    format!("Filename Type\n{}", kinds.collect::<String>())
}
