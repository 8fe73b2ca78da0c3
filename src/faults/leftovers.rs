//! Limits on the kubelet's own groups that the kubelet never resets. All pods below share them.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::faults::finding::shell_word;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::group::{Group, Setting};
use crate::kubelet::layout::Layout;

pub(super) const FAULTS: &[&Fault] = &[&LEFTOVER_LIMITS];

pub(crate) static LEFTOVER_LIMITS: Fault = Fault {
    name: "leftover-limits",
    message_id: "8f889dd1b393477abbfe3ef762714ebf",
    title: "A cgroup has a limit that the kubelet never resets",
    meaning: "kubepods or a QoS cgroup has a resource limit that the kubelet neither sets nor \
              resets. All pods below share the limit: they are slow, or are killed, or cannot \
              start processes, and no log gives the reason. With cpu.idle in the cgroup for best \
              effort pods the kubelet itself does not start, because the kernel refuses to set \
              the weight of an idle cgroup. With cpu.idle in kubepods it starts, but cannot set \
              all limits there.",
    signs: "cpu.max, cpu.idle, memory.high, memory.swap.max, cpuset.mems, cpuset.cpus.partition \
            or a similar file of these cgroups differs from its default. On cgroup v1: \
            cpu.cfs_quota_us, cpu.idle, pids.max, a memory limit, memory.oom_control, or a cpuset \
            that is narrower than the one above.",
    remedy: "kubepods-repair does not change the limit, because it may have been set on purpose. \
             It prints the command that resets it.",
    by_hand: "If the limit was not set on purpose, run the command that the finding shows. A \
              reboot also resets it.",
    threads: &[],
    does: "reports the command that resets it",
    nature: Nature::Fault,
};

/// `cpu.idle` in the group for best effort, whose weight the kubelet sets at its start
/// (`sched_group_set_shares`: EINVAL).
const DIES_OF_IDLE: &str = "The kernel refuses to set the weight of an idle cgroup (EINVAL), so \
                            the kubelet does not start";

/// `cpu.idle` in kubepods, whose limits the kubelet sets in the background, the weight before most
/// others (`fs2.Manager.Set`).
const KEEPS_FROM_LIMITS: &str = "Pods run only when no other process needs the CPU. The kernel \
                                 refuses to set the weight of an idle cgroup, so the kubelet \
                                 cannot set all limits of kubepods";

/// What the kubelet (1.20 to 1.36) expects in these files and never writes there. A value that ends
/// with a blank is the beginning of what is expected.
const EXPECTED: [(&str, &str); 9] = [
    ("cpu.max", "max "),
    ("cpu.idle", "0"),
    ("memory.high", "max"),
    ("memory.swap.max", "max"),
    ("memory.max", "max"),
    ("pids.max", "max"),
    ("cpuset.cpus", ""),
    ("cpuset.mems", ""),
    ("cpuset.cpus.partition", "member"),
];

/// A setting that differs from what the kubelet expects.
pub(super) struct Leftover<'a> {
    pub setting: &'a Setting,
    /// What resets it when it is written.
    pub default: &'a str,
}

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let of_group = |group: &Group| {
        let settings = group.settings.iter();
        let left = settings.filter_map(|setting| left_over(case, setting));
        let left: Vec<Leftover> = left.collect();
        finding(case.layout, &group.path, &case.tree.mount, &left)
    };
    case.own_groups().filter_map(of_group).collect()
}

fn left_over<'a>(case: &Case, setting: &'a Setting) -> Option<Leftover<'a>> {
    // The kubelet or this program sets the CPUs of a slice, so that systemd keeps cpuset enabled.
    if case.by_systemd() && setting.file == "cpuset.cpus" {
        return None;
    }
    let (_, expected) = EXPECTED
        .into_iter()
        .find(|(file, _)| *file == setting.file)?;
    let is_beginning = expected.ends_with(' ') && setting.value.starts_with(expected);
    let default = expected.trim_end();
    let is_left = setting.value != expected && !is_beginning;
    is_left.then_some(Leftover { setting, default })
}

/// Limits on one of the kubelet's own groups.
pub(super) fn finding(
    layout: &Layout,
    group: &CgroupPath,
    mount: &Path,
    leftovers: &[Leftover],
) -> Option<Finding> {
    if leftovers.is_empty() {
        return None;
    }
    let (mut found, mut undo) = (Vec::new(), Vec::new());
    for Leftover { setting, default } in leftovers {
        let default = if default.is_empty() { "''" } else { default };
        let file = group.under(mount).join(setting.file);
        found.push(format!("{} is {:?}", setting.file, setting.value));
        let file = shell_word(file.display());
        undo.push(format!("echo {default} > {file}"));
    }
    let is_idle = leftovers.iter().any(|left| left.setting.file == "cpu.idle");
    let impact = if is_idle && layout.qos.last() == Some(group) {
        Impact::fatal(DIES_OF_IDLE)
    } else if is_idle && layout.kubepods == *group {
        Impact::degraded(KEEPS_FROM_LIMITS)
    } else {
        Impact::degraded("This affects all pods in the cgroup, and the kubelet never resets it")
    };
    let remedy = Remedy::run("If this was not set on purpose, reset it", undo);
    let location = Location::Cgroup(mount.to_owned(), group.clone());
    Some(LEFTOVER_LIMITS.finding(impact, location, found.join(", "), remedy))
}
