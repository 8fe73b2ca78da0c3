//! What the kubelet starts with and its pods suffer from: frozen groups, forgotten limits, stale
//! pod groups.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Location, Terms, count};
use crate::host::group::{Group, Setting};
use crate::host::pods::Pods;
use crate::kubelet::layout::Layout;

/// Of the group of best effort, whose weight the kubelet sets at its start
/// (`sched_group_set_shares`: EINVAL).
const DIES_OF_IDLE: &str =
    "the kernel refuses to set the weight of an idle group, and the kubelet dies of trying";

/// Of kubepods, whose limits the kubelet tries to set in the background, the weight before most
/// others (`fs2.Manager.Set`).
const KEEPS_FROM_LIMITS: &str = "all pods run only when nothing else wants a CPU; the kernel \
                                 refuses to set the weight of an idle group, and so the kubelet \
                                 cannot set all limits of all pods";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case
        .own_groups()
        .filter_map(|group| frozen(case, group))
        .collect();
    // A slice has its CPUs from the kubelet or from this program, so that systemd keeps cpuset.
    let is_meant = |setting: &&Setting| !(case.by_systemd() && setting.file == "cpuset.cpus");
    let meant = |group: &Group| {
        let settings = group.leftovers.iter().filter(is_meant);
        leftovers(case.layout, &group.path, &case.tree.mount, settings)
    };
    findings.extend(case.own_groups().filter_map(meant));
    findings.extend(stale_pods(
        &case.tree.pods,
        case.terms,
        case.at(&case.layout.kubepods),
    ));
    findings.extend(empty_strays_group(case));
    findings
}

fn frozen(case: &Case, group: &Group) -> Option<Finding> {
    let location = case.at_file(&group.path, "cgroup.freeze");
    group
        .frozen
        .then(|| is_frozen(&group.path, location, group.populated, "0"))
}

/// `thawed` is what the file has to hold instead.
pub(super) fn is_frozen(
    group: &CgroupPath,
    location: Location,
    populated: bool,
    thawed: &str,
) -> Finding {
    let remedy = if populated {
        Remedy::Tell(format!(
            "processes live below it and may have been frozen on purpose: echo {thawed} > \
             {location}"
        ))
    } else {
        Remedy::Steps(vec![Step::Thaw(group.clone())])
    };
    let impact = Impact::degraded(
        "every pod started below stops at its first instruction, and the kubelet never thaws the \
         group",
    );
    Finding::new(
        Fault::Frozen,
        impact,
        location,
        "the group is frozen".to_owned(),
        remedy,
    )
}

/// Limits on one group of the kubelet's own.
pub(super) fn leftovers<'a>(
    layout: &Layout,
    group: &CgroupPath,
    mount: &Path,
    settings: impl Iterator<Item = &'a Setting>,
) -> Option<Finding> {
    let settings: Vec<&Setting> = settings.collect();
    if settings.is_empty() {
        return None;
    }
    let is: Vec<String> = settings
        .iter()
        .map(|Setting { file, value, .. }| format!("{file} is {value:?}"))
        .collect();
    let undo = settings.iter().map(|Setting { file, default, .. }| {
        let default = if default.is_empty() { "''" } else { default };
        format!(
            "echo {default} > {}",
            group.under(mount).join(file).display()
        )
    });
    let is_idle = settings.iter().any(|setting| setting.file == "cpu.idle");
    let impact = if is_idle && layout.qos.last() == Some(group) {
        Impact::fatal(DIES_OF_IDLE)
    } else if is_idle && layout.kubepods == *group {
        Impact::degraded(KEEPS_FROM_LIMITS)
    } else {
        Impact::degraded("all pods below share this limit, and the kubelet never resets it")
    };
    let how = format!(
        "unless it was set on purpose: {}",
        undo.collect::<Vec<_>>().join("; ")
    );
    let location = Location::Cgroup(mount.to_owned(), group.clone());
    Some(Finding::new(
        Fault::LeftoverLimits,
        impact,
        location,
        is.join(", "),
        Remedy::Tell(how),
    ))
}

/// While a kubelet runs, a pod group without a directory may be one that is being born.
pub(super) fn stale_pods(pods: &Pods, terms: Terms, location: Location) -> Option<Finding> {
    if let Some(reason) = &pods.unknown {
        let groups = count(pods.groups, "pod group", "pod groups");
        let evidence =
            format!("there are {groups}, and whether any is stale cannot be known: {reason}");
        let impact = Impact::notice("the kubelet removes stale pod groups itself, one by one");
        let how =
            "run kubepods-repair as root, or nothing: the kubelet looks after them".to_owned();
        return Some(Finding::new(
            Fault::StalePodGroups,
            impact,
            location,
            evidence,
            Remedy::Tell(how),
        ));
    }
    if pods.abandoned.is_empty() || pods.kubelet_runs {
        return None;
    }
    let groups = count(pods.abandoned.len(), "pod group has", "pod groups have");
    let evidence = format!(
        "{groups} neither a process nor a directory in {}",
        pods.directory.display()
    );
    let impact = Impact::notice("the kubelet removes them one by one while it should start pods");
    let remedy = if terms.may_remove(pods) {
        Remedy::Steps(vec![Step::RemovePods(pods.abandoned.clone())])
    } else {
        Remedy::Tell(
            "nothing to do: the next start of the kubelet's service removes them".to_owned(),
        )
    };
    Some(Finding::new(
        Fault::StalePodGroups,
        impact,
        location,
        evidence,
        remedy,
    ))
}

fn empty_strays_group(case: &Case) -> Option<Finding> {
    let group = case
        .group(&case.layout.strays)
        .filter(|group| !group.populated)?;
    let evidence = "the group that strays were moved to is empty".to_owned();
    let impact = Impact::notice("no process needs it any more");
    let remedy = Remedy::Steps(vec![Step::RemoveStraysGroup(group.path.clone())]);
    Some(Finding::new(
        Fault::StrayProcesses,
        impact,
        case.at(&group.path),
        evidence,
        remedy,
    ))
}
