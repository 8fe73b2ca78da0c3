//! What the kubelet starts with and its pods suffer from: frozen groups, forgotten limits, stale pod groups.

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Severity, count};
use crate::host::group::{Group, Setting};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case.own_groups().filter_map(|group| frozen(case, group)).collect();
    findings.extend(case.own_groups().filter_map(|group| leftovers(case, group)));
    findings.extend(stale_pods(case));
    findings.extend(empty_strays_group(case));
    findings
}

fn frozen(case: &Case, group: &Group) -> Option<Finding> {
    if !group.frozen {
        return None;
    }
    let file = case.file(&group.path, "cgroup.freeze");
    let remedy = match group.populated {
        false => Remedy::Steps(vec![Step::Thaw(group.path.clone())]),
        true => Remedy::Tell(format!(
            "processes live below it, and somebody may have meant to stop them: echo 0 > {}",
            file.display()
        )),
    };
    let effect = "every pod started below stands still from its first instruction, and the kubelet never thaws it";
    Some(Finding::new(Fault::Frozen, Severity::Degraded, file, "the group is frozen".to_owned(), effect, remedy))
}

fn leftovers(case: &Case, group: &Group) -> Option<Finding> {
    // A slice has its CPUs from the kubelet or from this program, so that systemd keeps cpuset.
    let is_meant = |setting: &&Setting| !(case.by_systemd() && setting.file == "cpuset.cpus");
    let leftovers: Vec<&Setting> = group.leftovers.iter().filter(is_meant).collect();
    if leftovers.is_empty() {
        return None;
    }
    let directory = case.directory(&group.path);
    let is: Vec<String> = leftovers.iter().map(|Setting { file, value }| format!("{file} is {value:?}")).collect();
    let undo: Vec<String> = leftovers
        .iter()
        .map(|setting| format!("echo {} > {}", default_of(setting.file), directory.join(setting.file).display()))
        .collect();
    let effect = "all pods below share this limit, and the kubelet never resets it";
    let how = format!("if nobody meant it: {}", undo.join("; "));
    let evidence = is.join(", ");
    Some(Finding::new(Fault::LeftoverLimits, Severity::Degraded, directory, evidence, effect, Remedy::Tell(how)))
}

/// What the shell has to write so that the kernel's default holds again.
fn default_of(file: &str) -> &'static str {
    match file {
        "cpuset.cpus.partition" => "member",
        "cpuset.cpus" | "cpuset.mems" => "''",
        _ => "max",
    }
}

/// While a kubelet runs, a pod group without a directory may be one that is being born.
fn stale_pods(case: &Case) -> Option<Finding> {
    let pods = &case.tree.pods;
    if pods.abandoned.is_empty() || pods.kubelet_runs {
        return None;
    }
    let groups = count(pods.abandoned.len(), "pod group has", "pod groups have");
    let evidence = format!("{groups} neither a process nor a directory in {}", pods.directory.display());
    let effect = "the kubelet clears them away one by one while it should start pods";
    let remedy = match case.may_remove_pods() {
        true => Remedy::Steps(vec![Step::RemovePods(pods.abandoned.clone())]),
        false => Remedy::Tell("nothing to do: the next start of the kubelet's service removes them".to_owned()),
    };
    let place = case.directory(&case.layout.kubepods);
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
