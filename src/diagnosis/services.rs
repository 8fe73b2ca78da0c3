//! A cgroup root or a reserved group that is the group of a systemd service, or lies below one.
//!
//! systemd attaches a service's first process to the service's own group. If somebody else has made
//! that group and enabled controllers in it, the attach fails (cgroup v2: no processes beside
//! controllers that are passed on) and the start ends in `status=219/CGROUP` (measured;
//! systemd/systemd#14662). So nothing is ever made or enabled there.

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, name_processes};
use crate::host::group::Process;
use crate::kubelet::layout::Layout;
use crate::kubelet::microk8s::MICROK8S;

/// The name under which this program sees itself in its own service's group.
const OWN_NAME: &str = "kubepods-repair";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let demanded = std::iter::once(&case.layout.cgroup_root).chain(&case.layout.reserved);
    demanded.filter_map(|path| judge(case, path)).collect()
}

/// What keeps the kubelet from starting although the group exists.
fn judge(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let unit = path.unit()?;
    let group = case.group(path)?;
    // What the group above does not pass on is that group's fault, and can be repaired there.
    let passed_on = path
        .parent()
        .and_then(|above| case.group(&above))
        .map(|above| above.subtree_control.clone());
    let lacking = case
        .needed
        .and(&passed_on.unwrap_or_default())
        .minus(&group.controllers);
    let is_root = *path == case.layout.cgroup_root;
    let passes_on = case.lacking(path).is_empty();
    let others: Vec<Process> = group
        .processes
        .iter()
        .filter(|process| process.comm != OWN_NAME)
        .cloned()
        .collect();
    let evidence = if !lacking.is_empty() {
        format!("this group of {unit} has no {lacking}, though the group above passes it on")
    } else if is_root
        && !passes_on
        && unit == MICROK8S.kubelet_unit
        && !case.host.sandbox.has_subgroup()
    {
        format!("this is the group of {unit} itself, which the kubelet runs in")
    } else if is_root && !passes_on && !others.is_empty() {
        format!("processes of {unit} are in it: {}", name_processes(&others))
    } else {
        return None;
    };
    let impact = Impact::fatal(if lacking.is_empty() {
        "a group that holds processes cannot pass controllers on, and the kubelet dies of their \
         absence"
    } else {
        "the kubelet demands these controllers there and never enables them"
    });
    let mut finding = Finding::new(
        Fault::ServiceGroup,
        impact,
        case.at(path),
        evidence,
        advice(unit),
    );
    finding.controllers = lacking;
    Some(finding)
}

/// Takes out every step that would make a group of a service or fill it. The kubelet sees to the
/// rest itself, but for what it demands.
pub(super) fn leave_alone(findings: &mut Vec<Finding>, layout: &Layout) {
    let mut demanded = std::iter::once(&layout.cgroup_root).chain(&layout.reserved);
    if demanded.all(|path| path.unit().is_none()) {
        return;
    }
    findings.retain_mut(|finding| {
        let Remedy::Steps(steps) = &mut finding.remedy else {
            return true;
        };
        let Some(unit) = steps.iter().find_map(made_inside).map(str::to_owned) else {
            return true;
        };
        if !finding.is_fatal() {
            return false;
        }
        if matches!(
            finding.fault,
            Fault::CgroupRootMissing | Fault::ReservedGroupMissing | Fault::HierarchyIncomplete
        ) {
            finding.fault = Fault::ServiceGroup;
        }
        finding.remedy = advice(&unit);
        true
    });
}

/// The unit in whose group this step would make a group or enable controllers.
fn made_inside(step: &Step) -> Option<&str> {
    match step {
        Step::MoveProcesses { to, .. } => to.unit(),
        step if step.builds() => step.group()?.unit(),
        _ => None,
    }
}

fn advice(unit: &str) -> Remedy {
    Remedy::Tell(format!(
        "name a cgroup that no service owns; or, with systemd 254 or later, put Delegate=yes and \
         DelegateSubgroup=main under [Service] in a drop-in for {unit}, then systemctl \
         daemon-reload and restart it"
    ))
}
