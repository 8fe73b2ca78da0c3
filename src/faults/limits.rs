//! `cgroup.max.descendants` and `cgroup.max.depth`: when they are reached, mkdir fails with EAGAIN.
//! And `memory.max`: when it leaves no room for a new group, mkdir fails with ENOMEM.
//!
//! Rests on the kernel's `cgroup_check_hierarchy_limits` (`kernel/cgroup/cgroup.c`). For every
//! group above the new one it checks whether there is room for one more group, and whether the new
//! one is not too deep.

use std::collections::BTreeSet;

use crate::cgroup::CgroupPath;
use crate::faults::finding::shell_word;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Severity, Step};
use crate::host::group::{Group, MemoryLimit};

pub(super) const FAULTS: &[&Fault] = &[&LIMITS_EXHAUSTED];

pub(crate) static LIMITS_EXHAUSTED: Fault = Fault {
    name: "limits-exhausted",
    message_id: "922c4c7da2344ab59a16ed23268464e3",
    title: "A limit leaves no room for new cgroups",
    meaning: "cgroup.max.descendants or cgroup.max.depth leaves no room for the cgroups that the \
              kubelet or its pods have to create, so mkdir always fails with \"Resource \
              temporarily unavailable\". Or memory.max leaves no room for the kernel's own memory \
              of a new cgroup, so mkdir fails with \"Cannot allocate memory\". Then the kubelet \
              exits before it can reset that limit.",
    signs: "cgroup.max.descendants or cgroup.max.depth of kubepods, of a QoS cgroup or of a \
            cgroup above them is too low for the cgroups that exist and those that are still to \
            be created. Or memory.max (on cgroup v1 memory.limit_in_bytes) of kubepods or a \
            cgroup above it is almost 0, and a cgroup has to be created below it.",
    remedy: "On kubepods and the QoS cgroups, kubepods-repair sets the limit back to max. It does \
             the same with memory.max of kubepods, which the kubelet sets at each start. On any \
             other cgroup it only reports the limit, because it may have been set on purpose.",
    by_hand: "Remove the limit: echo max > FILE, where FILE is the file that the finding names \
              (on cgroup v1: echo -1 > FILE).",
    threads: &[],
    does: "removes the limit on the kubelet's own cgroups; reports it on others",
    nature: Nature::Fault,
};

/// A pod needs at least its own group and that of one container.
const GROUPS_OF_A_POD: u64 = 2;

/// What a group costs the groups above it, for each CPU: the kernel charges a new group's counters
/// to the group it is created in (`mem_cgroup_css_alloc` in `mm/memcontrol.c`). Measured: 4 to 5
/// KiB for each CPU with all controllers enabled (6.1 and 6.12).
const BYTES_OF_A_GROUP: u64 = 8 << 10;

/// A limit of at least so many times that is not considered a problem. Where a lower one does not
/// stop the kubelet, the kubelet resets it a moment later.
const MARGIN: u64 = 8;

/// From kubepods down to a container: QoS group, pod, container.
const LEVELS_BELOW_KUBEPODS: usize = 3;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let missing = missing_groups(case);
    let mut findings = Vec::new();
    for group in case.tree.groups.values() {
        let below = missing.iter().filter(|path| group.path.is_above(path));
        let to_make: Vec<&CgroupPath> = below.collect();
        findings.extend(descendants(case, group, to_make.len() as u64));
        findings.extend(depth(case, group, &to_make));
        findings.extend(memory(case, group, to_make.len()));
    }
    findings
}

/// Whether `path` is missing and the kernel would refuse to create it now.
pub(super) fn leave_no_room_for(case: &Case, path: &CgroupPath) -> bool {
    if case.group(path).is_some() {
        return false;
    }
    let refuses = |group: &Group| {
        let is_full = |limit| limit <= group.descendants;
        let is_too_deep = |limit| lowest(group, limit) < path.depth();
        group.max_descendants.is_some_and(is_full) || group.max_depth.is_some_and(is_too_deep)
    };
    let way = path.ancestors();
    let mut groups = way.iter().filter_map(|above| case.group(above));
    groups.any(refuses)
}

/// The depth of the lowest groups that this `cgroup.max.depth` allows.
fn lowest(group: &Group, limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    group.path.depth().saturating_add(limit)
}

/// The groups that the kubelet or this program has to create before the kubelet runs.
fn missing_groups(case: &Case) -> BTreeSet<CgroupPath> {
    let mut wanted = BTreeSet::new();
    for path in case.layout.own().chain(&case.layout.reserved) {
        wanted.extend(path.ancestors());
        wanted.insert(path.clone());
    }
    wanted.retain(|path| case.group(path).is_none());
    wanted
}

fn holds_pods(case: &Case, group: &Group) -> bool {
    group.path.is_above(&case.layout.kubepods) || case.layout.is_own(&group.path)
}

fn descendants(case: &Case, group: &Group, to_make: u64) -> Option<Finding> {
    let (limit, there) = (group.max_descendants?, group.descendants);
    let needed = there + to_make;
    let keeps_kubelet = limit < needed && to_make > 0;
    let keeps_pods = limit < needed + GROUPS_OF_A_POD && holds_pods(case, group);
    let impact = used_up(keeps_kubelet, keeps_pods)?;
    let evidence = format!("The limit is {limit}, and {there} cgroups exist below");
    // In a group that is not the kubelet's, it is enough to remove the stale pod groups if they
    // take the room.
    let stale = case.tree.pods.lifeless.iter();
    let stale = stale.filter(|pod| group.path.is_above(&pod.group)).count();
    let makes_room = limit >= needed.saturating_sub(stale as u64) + GROUPS_OF_A_POD;
    let location = case.at_file(&group.path, "cgroup.max.descendants");
    let is_own = case.layout.is_own(&group.path);
    let remedy = if !is_own && makes_room && case.terms.may_remove(&case.tree.pods) {
        Remedy::step(Step::RemovePods(case.tree.pods.lifeless.clone()))
    } else {
        lift(case, group, "cgroup.max.descendants")
    };
    Some(LIMITS_EXHAUSTED.finding(impact, location, evidence, remedy))
}

fn depth(case: &Case, group: &Group, to_make: &[&CgroupPath]) -> Option<Finding> {
    let limit = group.max_depth?;
    let deepest = to_make.iter().map(|path| path.depth()).max().unwrap_or(0);
    let of_containers = case.layout.kubepods.depth() + LEVELS_BELOW_KUBEPODS;
    let allowed = lowest(group, limit);
    let keeps_pods = allowed < of_containers && holds_pods(case, group);
    let impact = used_up(allowed < deepest, keeps_pods)?;
    let evidence = format!("The limit is {limit}, and the cgroups of containers are deeper");
    let location = case.at_file(&group.path, "cgroup.max.depth");
    let remedy = lift(case, group, "cgroup.max.depth");
    Some(LIMITS_EXHAUSTED.finding(impact, location, evidence, remedy))
}

fn used_up(keeps_kubelet: bool, keeps_pods: bool) -> Option<Impact> {
    if keeps_kubelet {
        Some(Impact::fatal(
            "The kubelet cannot create its cgroups: mkdir fails with EAGAIN (Resource temporarily \
             unavailable)",
        ))
    } else if keeps_pods {
        Some(Impact::degraded(
            "No pod can start: mkdir fails with EAGAIN (Resource temporarily unavailable)",
        ))
    } else {
        None
    }
}

fn lift(case: &Case, group: &Group, file: &'static str) -> Remedy {
    if case.layout.is_own(&group.path) {
        Remedy::Steps(vec![Step::LiftLimit {
            group: group.path.clone(),
            file,
        }])
    } else {
        not_ours(&case.at_file(&group.path, file), "max")
    }
}

pub(super) fn not_ours(location: &Location, none: &str) -> Remedy {
    Remedy::run(
        "The cgroup does not belong to the kubelet. Unless the limit was set on purpose, remove it",
        [format!("echo {none} > {}", shell_word(location))],
    )
}

fn memory(case: &Case, group: &Group, to_make: usize) -> Option<Finding> {
    let memory = group.memory.as_ref()?;
    // Enabling memory gives every group below its own counters.
    let to_fill = if group.subtree_control.contains("memory") {
        0
    } else {
        group.children.len()
    };
    let mut severity = short_of_memory(memory, to_make, to_fill)?;
    if !case.layout.is_own(&group.path) && severity != Severity::Fatal {
        return None;
    }
    // The kubelet creates a kubepods that lacks a controller again and sets its limits, before it
    // creates a group in it.
    let lacks_controllers = !case.needed.minus(&group.controllers).is_empty();
    if group.path == case.layout.kubepods && lacks_controllers {
        severity = Severity::Notice;
    }
    let location = case.at_file(&group.path, "memory.max");
    let remedy = lift(case, group, "memory.max");
    Some(no_memory(location, severity, memory, remedy))
}

/// How severe a memory limit is above `to_make` groups that have to be created and `to_fill` groups
/// that have to get the controller; `None` where there is room for all of them.
pub(super) fn short_of_memory(
    memory: &MemoryLimit,
    to_make: usize,
    to_fill: usize,
) -> Option<Severity> {
    let cost = |groups: usize| BYTES_OF_A_GROUP * (groups as u64) * (memory.cpus as u64);
    let needed = memory.current.saturating_add(cost(to_make));
    if memory.limit >= MARGIN * cost(to_make + to_fill) {
        None
    } else if to_make > 0 && memory.limit < needed {
        Some(Severity::Fatal)
    } else {
        Some(Severity::Notice)
    }
}

pub(super) fn no_memory(
    location: Location,
    severity: Severity,
    memory: &MemoryLimit,
    remedy: Remedy,
) -> Finding {
    let MemoryLimit { limit, current, .. } = memory;
    let evidence = format!(
        "The limit is {limit} bytes ({current} in use), which is too little for the cgroups that \
         have to be created below"
    );
    let impact = match (severity, &remedy) {
        (Severity::Fatal, Remedy::Steps(_)) => Impact::fatal(
            "The kubelet exits before it can reset this limit: mkdir fails with ENOMEM (Cannot \
             allocate memory)",
        ),
        (Severity::Fatal, _) => Impact::fatal(
            "The kubelet does not start: mkdir fails with ENOMEM (Cannot allocate memory)",
        ),
        _ => Impact::notice(
            "The kubelet resets this limit when it starts, unless creating a cgroup fails before \
             (ENOMEM)",
        ),
    };
    LIMITS_EXHAUSTED.finding(impact, location, evidence, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_groups_that_have_to_be_made() {
        let judge = |limit, current, to_make, to_fill| {
            let cpus = 2;
            let memory = MemoryLimit {
                limit,
                current,
                cpus,
            };
            short_of_memory(&memory, to_make, to_fill)
        };
        assert_eq!(judge(0, 0, 1, 0), Some(Severity::Fatal));
        assert_eq!(judge(16384, 8192, 1, 0), Some(Severity::Fatal));
        assert_eq!(judge(65536, 8192, 2, 0), Some(Severity::Notice));
        let reclaimable = judge(1 << 20, 1 << 20, 2, 0);
        assert_eq!(reclaimable, None, "what is in use can be reclaimed");
        assert_eq!(judge(0, 0, 0, 2), Some(Severity::Notice));
        assert_eq!(judge(0, 0, 0, 0), None);
    }
}
