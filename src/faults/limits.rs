//! `cgroup.max.descendants` and `cgroup.max.depth`: where they are used up, mkdir answers EAGAIN.
//! And `memory.max`: where it is next to nothing, mkdir answers ENOMEM.
//!
//! Rests on the kernel's `cgroup_check_hierarchy_limits` (`kernel/cgroup/cgroup.c`): every group
//! above the new one is asked whether it has room for one more, and whether the new one is not too
//! deep below it.

use std::collections::BTreeSet;

use crate::cgroup::CgroupPath;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Severity, Step};
use crate::host::group::{Group, MemoryLimit};

pub(super) const FAULTS: &[&Fault] = &[&LIMITS_EXHAUSTED];

pub(crate) static LIMITS_EXHAUSTED: Fault = Fault {
    name: "limits-exhausted",
    message_id: "922c4c7da2344ab59a16ed23268464e3",
    title: "No more cgroups may be made here",
    meaning: "cgroup.max.descendants or cgroup.max.depth leaves no room for what the kubelet or \
              its pods have to make: mkdir answers \"resource temporarily unavailable\", and will \
              for ever. Or memory.max leaves no room for the kernel's own counters of a new group: \
              mkdir answers \"cannot allocate memory\", and the kubelet dies before it would set \
              this limit anew.",
    signs: "One of the first two files of kubepods, a QoS group or a group above holds a number \
            that the groups already there, and those still to come, reach; or memory.max (on \
            version 1 memory.limit_in_bytes) of kubepods or a group above is next to nothing, and \
            a group has to be made below.",
    remedy: "kubepods-repair sets the limit back to max on kubepods and the QoS groups; memory.max \
             of kubepods is the kubelet's own setting, which it writes at each start. On any other \
             group somebody has to want it.",
    by_hand: "echo max > the file that the finding names.",
    threads: &[],
    does: "lifts the limit on the kubelet's own groups; on others reports it",
    nature: Nature::Fault,
};

/// A pod takes at least its own group and one container's.
const GROUPS_OF_A_POD: u64 = 2;

/// What a group costs the groups above it, for each CPU: the kernel charges a new group's counters
/// to the one it is made in (`mem_cgroup_css_alloc` in `mm/memcontrol.c`). Measured were 4 to 5 KiB
/// a CPU with all controllers on (6.1 and 6.12).
const BYTES_OF_A_GROUP: u64 = 8 << 10;

/// From so many times of that on a limit is none that could be in the way. Where one below it does
/// not stop the kubelet, the kubelet writes it anew a moment later.
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

/// Whether the kernel would refuse to make `path` now, should it be missing.
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

/// What has to be made before the kubelet runs, by it or by us.
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
    let evidence = format!("cgroup.max.descendants is {limit} and there are {there} already");
    // Where stale pod groups take the room of somebody else's group, it is enough that they go.
    let stale = case.stale.iter();
    let stale = stale.filter(|pod| group.path.is_above(&pod.group)).count();
    let makes_room = limit >= needed.saturating_sub(stale as u64) + GROUPS_OF_A_POD;
    let location = case.at_file(&group.path, "cgroup.max.descendants");
    let is_own = case.layout.is_own(&group.path);
    let remedy = if !is_own && makes_room && case.terms.may_remove(&case.tree.pods) {
        Remedy::step(Step::RemovePods(case.stale.clone()))
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
    let evidence = format!("cgroup.max.depth is {limit}, and the containers of pods lie deeper");
    let location = case.at_file(&group.path, "cgroup.max.depth");
    let remedy = lift(case, group, "cgroup.max.depth");
    Some(LIMITS_EXHAUSTED.finding(impact, location, evidence, remedy))
}

fn used_up(keeps_kubelet: bool, keeps_pods: bool) -> Option<Impact> {
    if keeps_kubelet {
        Some(Impact::fatal(
            "the kubelet cannot make its groups: mkdir answers EAGAIN, resource temporarily \
             unavailable",
        ))
    } else if keeps_pods {
        Some(Impact::degraded(
            "no pod can be started: mkdir answers EAGAIN, resource temporarily unavailable",
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
    Remedy::tell(format!(
        "this group is not the kubelet's; unless the limit was set on purpose: echo {none} > \
         {location}"
    ))
}

fn memory(case: &Case, group: &Group, to_make: usize) -> Option<Finding> {
    let memory = group.memory.as_ref()?;
    // Switching memory on gives every group below counters of its own.
    let to_fill = if group.subtree_control.contains("memory") {
        0
    } else {
        group.children.len()
    };
    let mut severity = short_of_memory(memory, to_make, to_fill)?;
    if !case.layout.is_own(&group.path) && severity != Severity::Fatal {
        return None;
    }
    // A kubepods that lacks a controller the kubelet creates, its limits with it, before it makes a
    // group in it.
    let lacks_controllers = !case.needed.minus(&group.controllers).is_empty();
    if group.path == case.layout.kubepods && lacks_controllers {
        severity = Severity::Notice;
    }
    let location = case.at_file(&group.path, "memory.max");
    let remedy = lift(case, group, "memory.max");
    Some(no_memory(location, severity, memory, remedy))
}

/// What the kubelet makes of a memory limit above so many groups that have to be made, or to be
/// given the controller; `None` where there is room for all of them.
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
        "the limit is {limit} bytes, {current} are in use, and groups have to be made below"
    );
    let impact = match (severity, &remedy) {
        (Severity::Fatal, Remedy::Steps(_)) => Impact::fatal(
            "mkdir answers ENOMEM, cannot allocate memory, and the kubelet dies of it before it \
             would reset this limit",
        ),
        (Severity::Fatal, _) => Impact::fatal(
            "mkdir answers ENOMEM, cannot allocate memory, and the kubelet dies of it",
        ),
        _ => Impact::notice(
            "the kubelet resets it at its start, unless the kernel refuses it a group before \
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
