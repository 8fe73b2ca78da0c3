//! What the kubelet's managers of CPUs and memory hold their state files against, and what it
//! refuses to start with: each only read where the settings make the kubelet look at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::partitions::Cpus;
use crate::host::sandbox::sysctls;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::keep::{BLANK, text};
use crate::root::{ReadError, Root};

const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
const NUMA_NODES: &str = "/sys/devices/system/node";
const SWAPS: &str = "/proc/swaps";

/// Without one of these kubelite ends, and the kubelet with it (canonical/microk8s#4089, #3912,
/// #4296). None of them is empty by design.
const FILES: [&str; 7] = [
    "args/containerd",
    "args/kube-apiserver",
    "args/kubelite",
    "certs/ca.crt",
    "certs/server.crt",
    "certs/serviceaccount.key",
    "credentials/kubelet.config",
];

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The CPUs that are online; only read with the CPU manager's static policy, or with
    /// `--reserved-cpus`.
    pub online_cpus: Option<Cpus>,
    /// Bytes of memory by NUMA node; only read with the memory manager's Static policy.
    pub memory: BTreeMap<i64, u64>,
    /// What is swapped to; only read where the kubelet refuses swap.
    pub swaps: Vec<String>,
    /// Of [`SYSCTLS`](crate::host::sandbox::SYSCTLS), what they are now; only read with
    /// `--protect-kernel-defaults`.
    pub sysctls: Vec<(&'static str, String)>,
    /// Of MicroK8s' own files that the kubelet's process does not start without, those that hold
    /// nothing.
    pub empty_files: Vec<PathBuf>,
}

/// Looks at the machine.
///
/// # Errors
/// When something that is there cannot be read.
pub fn observe(
    root: &Root,
    settings: &Settings,
    revision: Option<&str>,
) -> Result<Node, ReadError> {
    let mut node = Node::default();
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
    if settings.protect_kernel_defaults.value {
        node.sysctls = sysctls(root);
    }
    if let Some(revision) = revision {
        for name in FILES {
            let path = MICROK8S.data(revision).join(name);
            if root.is_empty_file(&path)? == Some(true) {
                node.empty_files.push(path);
            }
        }
    }
    Ok(node)
}

/// `Node 0 MemTotal: 16777216 kB` in each node's `meminfo`, as cAdvisor reads it.
fn memory(root: &Root) -> Result<BTreeMap<i64, u64>, ReadError> {
    let mut memory = BTreeMap::new();
    let nodes = Path::new(NUMA_NODES);
    for folder in root.directories(nodes)?.unwrap_or_default() {
        let name = folder.to_string_lossy();
        let number = name.strip_prefix("node").map(str::parse);
        let Some(Ok(number)) = number else { continue };
        let meminfo = root.read_value(&nodes.join(&folder).join("meminfo"))?;
        if let Some(kilobytes) = total(&meminfo.unwrap_or_default()) {
            memory.insert(number, kilobytes.saturating_mul(1024));
        }
    }
    Ok(memory)
}

fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let (_, total) = lines.find_map(|line| line.split_once("MemTotal:"))?;
    total.split_whitespace().next()?.parse().ok()
}

/// The first word of each line but the first.
fn swaps(list: &str) -> impl Iterator<Item = &str> {
    let lines = list.lines().skip(1);
    lines.filter_map(|line| line.split_whitespace().next())
}

/// What a capture keeps of the list: how many there are, and of what kind.
fn keep_swaps(list: &str) -> String {
    let mut kept = String::from("Filename Type\n");
    for line in list.lines().skip(1) {
        let mut words = line.split_whitespace();
        let is_device = words.next().is_some_and(|name| name.starts_with("/dev/"));
        let folder = if is_device { "/dev" } else { "" };
        let kind = words.next().unwrap_or_default();
        kept += &format!("{folder}/{BLANK} {kind}\n");
    }
    kept
}
