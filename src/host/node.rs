//! What the kubelet's managers of CPUs and memory hold their state files against, and what it
//! refuses to start with: each only read where the settings make the kubelet look at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::kernel;
use crate::host::partitions::Cpus;
use crate::host::sandbox::SYSCTLS;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;
use crate::root::keep::text;
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
    /// Of [`SYSCTLS`], what they are now; only read with `--protect-kernel-defaults`.
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
        let list = root
            .keeping(&text(keep_swaps))
            .read_value(Path::new(SWAPS))?;
        node.swaps = swaps(&list.unwrap_or_default())
            .map(str::to_owned)
            .collect();
    }
    if settings.protect_kernel_defaults.value {
        let values = SYSCTLS
            .iter()
            .map(|(file, _)| (*file, kernel::value(root, file)));
        node.sysctls = values.collect();
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
    let folders = root.directories(Path::new(NUMA_NODES))?;
    for folder in folders.unwrap_or_default() {
        let name = folder.to_string_lossy();
        let Some(number) = name
            .strip_prefix("node")
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        let path = PathBuf::from(NUMA_NODES).join(&folder).join("meminfo");
        let meminfo = root.read_value(&path)?.unwrap_or_default();
        let total = meminfo
            .lines()
            .find_map(|line| line.split_once("MemTotal:"));
        let kilobytes = total.and_then(|(_, total)| total.split_whitespace().next()?.parse().ok());
        if let Some(kilobytes) = kilobytes {
            let kilobytes: u64 = kilobytes;
            memory.insert(number, kilobytes.saturating_mul(1024));
        }
    }
    Ok(memory)
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
        let (name, kind) = (words.next(), words.next());
        let name = if name.is_some_and(|name| name.starts_with("/dev/")) {
            "/dev/BLANKED"
        } else {
            "/BLANKED"
        };
        kept += &format!("{name} {}\n", kind.unwrap_or_default());
    }
    kept
}
