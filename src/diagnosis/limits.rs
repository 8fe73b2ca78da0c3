//! `cgroup.max.descendants` and `cgroup.max.depth`: where they are used up, mkdir answers EAGAIN.
//! And `memory.max`: where it is next to nothing, mkdir answers ENOMEM.
//!
//! Rests on the kernel's `cgroup_check_hierarchy_limits` (`kernel/cgroup/cgroup.c`): every group
//! above the new one is asked whether it has room for one more, and whether the new one is not too
//! deep below it.

use std::collections::BTreeSet;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Location, Severity};
use crate::host::group::{Group, MemoryLimit};

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
    case.tree
        .groups
        .values()
        .flat_map(|group| judge(case, group, &missing))
        .collect()
}

/// Whether the kernel would refuse to make `path` now, should it be missing.
pub(super) fn leave_no_room_for(case: &Case, path: &CgroupPath) -> bool {
    let above = path.ancestors();
    let refuses = |group: &Group| {
        group
            .max_descendants
            .is_some_and(|limit| limit <= group.descendants)
            || group
                .max_depth
                .is_some_and(|limit| lowest(group, limit) < path.depth())
    };
    case.group(path).is_none()
        && above
            .iter()
            .filter_map(|above| case.group(above))
            .any(refuses)
}

/// The depth of the lowest groups that this `cgroup.max.depth` allows.
fn lowest(group: &Group, limit: u64) -> usize {
    group
        .path
        .depth()
        .saturating_add(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// What has to be made before the kubelet runs, by it or by us.
fn missing_groups(case: &Case) -> BTreeSet<CgroupPath> {
    let wanted = case.layout.own().chain(&case.layout.reserved);
    let with_ancestors = wanted.flat_map(|path| path.ancestors().into_iter().chain([path.clone()]));
    with_ancestors
        .filter(|path| case.group(path).is_none())
        .collect()
}

fn judge(case: &Case, group: &Group, missing: &BTreeSet<CgroupPath>) -> Vec<Finding> {
    let to_make: Vec<&CgroupPath> = missing
        .iter()
        .filter(|path| group.path.is_above(path))
        .collect();
    let memory = memory(case, group, to_make.len());
    [
        descendants(case, group, &to_make),
        depth(case, group, &to_make),
        memory,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn holds_pods(case: &Case, group: &Group) -> bool {
    group.path.is_above(&case.layout.kubepods) || case.layout.is_own(&group.path)
}

fn descendants(case: &Case, group: &Group, to_make: &[&CgroupPath]) -> Option<Finding> {
    let limit = group.max_descendants?;
    let now = group.descendants + to_make.len() as u64;
    let evidence = format!(
        "cgroup.max.descendants is {limit} and there are {} already",
        group.descendants
    );
    let severity = severity_of(
        limit < now && !to_make.is_empty(),
        limit < now + GROUPS_OF_A_POD && holds_pods(case, group),
    )?;
    let mut finding = finding(case, group, "cgroup.max.descendants", severity, evidence);
    // Where stale pod groups take the room, it is enough that they go.
    let stale = &case.tree.pods.abandoned;
    let below = stale
        .iter()
        .filter(|pod| group.path.is_above(&pod.group))
        .count() as u64;
    let makes_room = limit >= now.saturating_sub(below) + GROUPS_OF_A_POD;
    if matches!(finding.remedy, Remedy::Tell(_))
        && makes_room
        && case.terms.may_remove(&case.tree.pods)
    {
        finding.remedy = Remedy::Steps(vec![Step::RemovePods(stale.clone())]);
    }
    Some(finding)
}

fn depth(case: &Case, group: &Group, to_make: &[&CgroupPath]) -> Option<Finding> {
    let limit = group.max_depth?;
    let deepest = to_make.iter().map(|path| path.depth()).max().unwrap_or(0);
    let of_containers = case.layout.kubepods.depth() + LEVELS_BELOW_KUBEPODS;
    let allowed = lowest(group, limit);
    let severity = severity_of(
        allowed < deepest,
        allowed < of_containers && holds_pods(case, group),
    )?;
    let evidence = format!("cgroup.max.depth is {limit}, and the containers of pods lie deeper");
    Some(finding(case, group, "cgroup.max.depth", severity, evidence))
}

fn memory(case: &Case, group: &Group, to_make: usize) -> Option<Finding> {
    // Switching memory on gives every group below counters of its own.
    let to_fill = if group.subtree_control.contains("memory") {
        0
    } else {
        group.children.len()
    };
    let is_own = case.layout.is_own(&group.path);
    let memory = group.memory.as_ref()?;
    let severity = short_of_memory(memory, to_make, to_fill)
        .filter(|severity| is_own || *severity == Severity::Fatal)?;
    // A kubepods that lacks a controller the kubelet creates, its limits with it, before it makes a
    // group in it.
    let is_created =
        group.path == case.layout.kubepods && !case.needed.minus(&group.controllers).is_empty();
    let severity = if is_created {
        Severity::Notice
    } else {
        severity
    };
    let (file, location) = ("memory.max", case.at_file(&group.path, "memory.max"));
    let remedy = if is_own {
        Remedy::Steps(vec![Step::LiftLimit {
            group: group.path.clone(),
            file,
        }])
    } else {
        not_ours(&location, "max")
    };
    Some(no_memory(location, severity, memory, remedy))
}

/// What the kubelet makes of a memory limit above so many groups that have to be made, or to be
/// given the controller; `None` where there is room for all of them.
pub(super) fn short_of_memory(
    memory: &MemoryLimit,
    to_make: usize,
    to_fill: usize,
) -> Option<Severity> {
    let MemoryLimit {
        limit,
        current,
        cpus,
    } = *memory;
    let cost = |groups: usize| BYTES_OF_A_GROUP * (groups as u64) * (cpus as u64);
    if limit >= MARGIN * cost(to_make + to_fill) {
        None
    } else if to_make > 0 && limit < current.saturating_add(cost(to_make)) {
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
    Finding::new(Fault::LimitsExhausted, impact, location, evidence, remedy)
}

pub(super) fn not_ours(location: &Location, none: &str) -> Remedy {
    Remedy::Tell(format!(
        "this group is not the kubelet's; unless the limit was set on purpose: echo {none} > \
         {location}"
    ))
}

fn severity_of(keeps_kubelet: bool, keeps_pods: bool) -> Option<Severity> {
    if keeps_kubelet {
        Some(Severity::Fatal)
    } else {
        keeps_pods.then_some(Severity::Degraded)
    }
}

fn finding(
    case: &Case,
    group: &Group,
    file: &'static str,
    severity: Severity,
    evidence: String,
) -> Finding {
    let location = case.at_file(&group.path, file);
    let impact = if severity == Severity::Fatal {
        Impact::fatal(
            "the kubelet cannot make its groups: mkdir answers EAGAIN, resource temporarily \
             unavailable",
        )
    } else {
        Impact::degraded(
            "no pod can be started: mkdir answers EAGAIN, resource temporarily unavailable",
        )
    };
    let remedy = if case.layout.is_own(&group.path) {
        Remedy::Steps(vec![Step::LiftLimit {
            group: group.path.clone(),
            file,
        }])
    } else {
        not_ours(&location, "max")
    };
    Finding::new(Fault::LimitsExhausted, impact, location, evidence, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_groups_that_have_to_be_made() {
        let judge = |limit, current, to_make, to_fill| {
            short_of_memory(
                &MemoryLimit {
                    limit,
                    current,
                    cpus: 2,
                },
                to_make,
                to_fill,
            )
        };
        assert_eq!(judge(0, 0, 1, 0), Some(Severity::Fatal));
        assert_eq!(judge(16384, 8192, 1, 0), Some(Severity::Fatal));
        assert_eq!(judge(65536, 8192, 2, 0), Some(Severity::Notice));
        assert_eq!(
            judge(1 << 20, 1 << 20, 2, 0),
            None,
            "what is in use can be reclaimed"
        );
        assert_eq!(judge(0, 0, 0, 2), Some(Severity::Notice));
        assert_eq!(judge(0, 0, 0, 0), None);
    }
}
