//! `cgroup.max.descendants` and `cgroup.max.depth`: where they are used up, mkdir answers EAGAIN.
//!
//! Rests on the kernel's `cgroup_check_hierarchy_limits` (`kernel/cgroup/cgroup.c`): every group above the new one is asked
//! whether it has room for one more, and whether the new one is not too deep below it.

use std::collections::BTreeSet;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Severity};
use crate::host::group::Group;

/// A pod takes at least its own group and one container's.
const GROUPS_OF_A_POD: u64 = 2;

/// From kubepods down to a container: QoS group, pod, container.
const LEVELS_BELOW_KUBEPODS: usize = 3;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let missing = missing_groups(case);
    case.tree.groups.values().flat_map(|group| judge(case, group, &missing)).collect()
}

/// Whether the kernel would refuse to make `path` now, should it be missing.
pub(super) fn leave_no_room_for(case: &Case, path: &CgroupPath) -> bool {
    let above = path.ancestors();
    let refuses = |group: &Group| {
        group.max_descendants.is_some_and(|limit| limit <= group.descendants)
            || group.max_depth.is_some_and(|limit| lowest(group, limit) < path.depth())
    };
    case.group(path).is_none() && above.iter().filter_map(|above| case.group(above)).any(refuses)
}

/// The depth of the lowest groups that this `cgroup.max.depth` allows.
fn lowest(group: &Group, limit: u64) -> usize {
    group.path.depth().saturating_add(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// What has to be made before the kubelet runs, by it or by us.
fn missing_groups(case: &Case) -> BTreeSet<CgroupPath> {
    let wanted = case.layout.own().chain(&case.layout.reserved);
    let with_ancestors = wanted.flat_map(|path| path.ancestors().into_iter().chain([path.clone()]));
    with_ancestors.filter(|path| case.group(path).is_none()).collect()
}

fn judge(case: &Case, group: &Group, missing: &BTreeSet<CgroupPath>) -> Vec<Finding> {
    let to_make: Vec<&CgroupPath> = missing.iter().filter(|path| group.path.is_above(path)).collect();
    [descendants(case, group, &to_make), depth(case, group, &to_make)].into_iter().flatten().collect()
}

fn holds_pods(case: &Case, group: &Group) -> bool {
    group.path.is_above(&case.layout.kubepods) || case.layout.is_own(&group.path)
}

fn descendants(case: &Case, group: &Group, to_make: &[&CgroupPath]) -> Option<Finding> {
    let limit = group.max_descendants?;
    let now = group.descendants + to_make.len() as u64;
    let evidence = format!("cgroup.max.descendants is {limit} and there are {} already", group.descendants);
    let severity =
        severity_of(limit < now && !to_make.is_empty(), limit < now + GROUPS_OF_A_POD && holds_pods(case, group))?;
    let mut finding = finding(case, group, "cgroup.max.descendants", severity, evidence);
    // Where stale pod groups take the room, it is enough that they go.
    let stale = &case.tree.pods.abandoned;
    let below = stale.iter().filter(|pod| group.path.is_above(&pod.group)).count() as u64;
    let makes_room = limit >= now.saturating_sub(below) + GROUPS_OF_A_POD;
    if matches!(finding.remedy, Remedy::Tell(_)) && makes_room && case.terms.may_remove(&case.tree.pods) {
        finding.remedy = Remedy::Steps(vec![Step::RemovePods(stale.clone())]);
    }
    Some(finding)
}

fn depth(case: &Case, group: &Group, to_make: &[&CgroupPath]) -> Option<Finding> {
    let limit = group.max_depth?;
    let deepest = to_make.iter().map(|path| path.depth()).max().unwrap_or(0);
    let of_containers = case.layout.kubepods.depth() + LEVELS_BELOW_KUBEPODS;
    let allowed = lowest(group, limit);
    let severity = severity_of(allowed < deepest, allowed < of_containers && holds_pods(case, group))?;
    let evidence = format!("cgroup.max.depth is {limit}, and the containers of pods lie deeper");
    Some(finding(case, group, "cgroup.max.depth", severity, evidence))
}

fn severity_of(keeps_kubelet: bool, keeps_pods: bool) -> Option<Severity> {
    if keeps_kubelet { Some(Severity::Fatal) } else { keeps_pods.then_some(Severity::Degraded) }
}

fn finding(case: &Case, group: &Group, file: &'static str, severity: Severity, evidence: String) -> Finding {
    let location = case.at_file(&group.path, file);
    let impact = if severity == Severity::Fatal {
        Impact::fatal("the kubelet cannot make its groups: mkdir answers EAGAIN, resource temporarily unavailable")
    } else {
        Impact::degraded("no pod can be started: mkdir answers EAGAIN, resource temporarily unavailable")
    };
    let remedy = if case.layout.is_own(&group.path) {
        Remedy::Steps(vec![Step::LiftLimit { group: group.path.clone(), file }])
    } else {
        Remedy::Tell(format!(
            "this group is not the kubelet's; unless the limit was set on purpose: echo max > {location}"
        ))
    };
    Finding::new(Fault::LimitsExhausted, impact, location, evidence, remedy)
}
