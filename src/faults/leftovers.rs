//! Limits on the kubelet's own groups that it never sets back. All pods below share them.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::group::{Group, Setting};
use crate::kubelet::layout::Layout;

pub(super) const FAULTS: &[&Fault] = &[&LEFTOVER_LIMITS];

pub(crate) static LEFTOVER_LIMITS: Fault = Fault {
    name: "leftover-limits",
    message_id: "8f889dd1b393477abbfe3ef762714ebf",
    title: "A limit that the kubelet never resets",
    meaning: "A resource limit is set on kubepods or a QoS group that the kubelet neither sets nor \
              takes back. All pods below share it: they are slow, are killed, or cannot start a \
              process, and no log says why. Of cpu.idle in the group of best effort the kubelet \
              itself dies, since the kernel then refuses the weight it sets; of cpu.idle in \
              kubepods it only fails to set limits there.",
    signs: "cpu.max, cpu.idle, memory.high, memory.swap.max, cpuset.mems, cpuset.cpus.partition \
            and the like of these groups differ from what a new group has; on version 1 \
            cpu.cfs_quota_us, cpu.idle, pids.max, the limits of memory, memory.oom_control, or a \
            cpuset narrower than the one above.",
    remedy: "kubepods-repair leaves it alone, since somebody may have meant it, and prints the \
             command that resets it.",
    by_hand: "If nobody meant it, type the command that the finding shows. A reboot takes it away, \
              too.",
    threads: &[],
    does: "reports the command that resets it",
    nature: Nature::Fault,
};

/// Of the group of best effort, whose weight the kubelet sets at its start
/// (`sched_group_set_shares`: EINVAL).
const DIES_OF_IDLE: &str =
    "the kernel refuses to set the weight of an idle group, and the kubelet dies of trying";

/// Of kubepods, whose limits the kubelet tries to set in the background, the weight before most
/// others (`fs2.Manager.Set`).
const KEEPS_FROM_LIMITS: &str = "all pods run only when nothing else wants a CPU; the kernel \
                                 refuses to set the weight of an idle group, and so the kubelet \
                                 cannot set all limits of all pods";

/// What the kubelet expects (1.20 to 1.36) to find in these files and never writes there. A value
/// that ends with a blank is the beginning of what is expected.
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

/// A setting that is not as the kubelet expects it.
pub(super) struct Leftover<'a> {
    pub setting: &'a Setting,
    /// What has to be written so that the default holds again.
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
    // A slice has its CPUs from the kubelet or from this program, so that systemd keeps cpuset.
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

/// Limits on one group of the kubelet's own.
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
        undo.push(format!("echo {default} > {}", file.display()));
    }
    let is_idle = leftovers.iter().any(|left| left.setting.file == "cpu.idle");
    let impact = if is_idle && layout.qos.last() == Some(group) {
        Impact::fatal(DIES_OF_IDLE)
    } else if is_idle && layout.kubepods == *group {
        Impact::degraded(KEEPS_FROM_LIMITS)
    } else {
        Impact::degraded("all pods below share this limit, and the kubelet never resets it")
    };
    let how = format!("unless it was set on purpose: {}", undo.join("; "));
    let location = Location::Cgroup(mount.to_owned(), group.clone());
    Some(LEFTOVER_LIMITS.finding(impact, location, found.join(", "), Remedy::tell(how)))
}
