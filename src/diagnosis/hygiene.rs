//! What the kubelet starts with and its pods suffer from: frozen groups, forgotten limits, stale pod groups.

use std::path::PathBuf;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Severity, Terms, count};
use crate::host::group::{Group, Setting};
use crate::host::pods::Pods;
use crate::kubelet::layout::Layout;

/// Of the group of best effort, whose weight the kubelet sets at its start (`sched_group_set_shares`: EINVAL).
const DIES_OF_IDLE: &str = "the kernel lets nobody set the weight of an idle group, and the kubelet dies of trying";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case.own_groups().filter_map(|group| frozen(case, group)).collect();
    // A slice has its CPUs from the kubelet or from this program, so that systemd keeps cpuset.
    let is_meant = |setting: &&Setting| !(case.by_systemd() && setting.file == "cpuset.cpus");
    let meant = |group: &Group| {
        let settings = group.leftovers.iter().filter(is_meant);
        leftovers(case.layout, &group.path, case.directory(&group.path), settings)
    };
    findings.extend(case.own_groups().filter_map(meant));
    findings.extend(stale_pods(&case.tree.pods, case.terms, case.directory(&case.layout.kubepods)));
    findings.extend(empty_strays_group(case));
    findings
}

fn frozen(case: &Case, group: &Group) -> Option<Finding> {
    let file = case.file(&group.path, "cgroup.freeze");
    group.frozen.then(|| is_frozen(&group.path, file, group.populated, "0"))
}

/// `thawed` is what `file` has to hold instead.
pub(super) fn is_frozen(group: &CgroupPath, file: PathBuf, populated: bool, thawed: &str) -> Finding {
    let remedy = match populated {
        false => Remedy::Steps(vec![Step::Thaw(group.clone())]),
        true => Remedy::Tell(format!(
            "processes live below it, and somebody may have meant to stop them: echo {thawed} > {}",
            file.display()
        )),
    };
    let effect = "every pod started below stands still from its first instruction, and the kubelet never thaws it";
    Finding::new(Fault::Frozen, Severity::Degraded, file, "the group is frozen".to_owned(), effect, remedy)
}

/// Limits on one group of the kubelet's own.
pub(super) fn leftovers<'a>(
    layout: &Layout,
    group: &CgroupPath,
    directory: PathBuf,
    settings: impl Iterator<Item = &'a Setting>,
) -> Option<Finding> {
    let settings: Vec<&Setting> = settings.collect();
    if settings.is_empty() {
        return None;
    }
    let is: Vec<String> = settings.iter().map(|Setting { file, value, .. }| format!("{file} is {value:?}")).collect();
    let undo = settings.iter().map(|Setting { file, default, .. }| {
        let default = if default.is_empty() { "''" } else { default };
        format!("echo {default} > {}", directory.join(file).display())
    });
    let (severity, effect) = match settings.iter().any(|setting| setting.file == "cpu.idle") {
        true if layout.qos.last() == Some(group) => (Severity::Fatal, DIES_OF_IDLE),
        _ => (Severity::Degraded, "all pods below share this limit, and the kubelet never resets it"),
    };
    let how = format!("if nobody meant it: {}", undo.collect::<Vec<_>>().join("; "));
    let evidence = is.join(", ");
    Some(Finding::new(Fault::LeftoverLimits, severity, directory, evidence, effect, Remedy::Tell(how)))
}

/// While a kubelet runs, a pod group without a directory may be one that is being born.
pub(super) fn stale_pods(pods: &Pods, terms: Terms, place: PathBuf) -> Option<Finding> {
    if pods.abandoned.is_empty() || pods.kubelet_runs {
        return None;
    }
    let groups = count(pods.abandoned.len(), "pod group has", "pod groups have");
    let evidence = format!("{groups} neither a process nor a directory in {}", pods.directory.display());
    let effect = "the kubelet clears them away one by one while it should start pods";
    let remedy = match terms.may_remove(pods) {
        true => Remedy::Steps(vec![Step::RemovePods(pods.abandoned.clone())]),
        false => Remedy::Tell("nothing to do: the next start of the kubelet's service removes them".to_owned()),
    };
    Some(Finding::new(Fault::StalePodGroups, Severity::Notice, place, evidence, effect, remedy))
}

fn empty_strays_group(case: &Case) -> Option<Finding> {
    let group = case.group(&case.layout.strays).filter(|group| !group.populated)?;
    let place = case.directory(&group.path);
    let evidence = "the group that strays were moved to is empty".to_owned();
    let effect = "nothing: it is only in the way";
    let remedy = Remedy::Steps(vec![Step::RemoveStraysGroup(group.path.clone())]);
    Some(Finding::new(Fault::StrayProcesses, Severity::Notice, place, evidence, effect, remedy))
}
