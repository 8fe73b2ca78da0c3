//! A cgroup root or a reserved group that is the group of a systemd service, or lies below one.
//!
//! systemd attaches a service's first process to the service's own group. If another program has
//! created that group and enabled controllers in it, the attach fails (on cgroup v2, a group that
//! enables controllers for its children cannot hold processes) and the start ends with
//! `status=219/CGROUP` (measured; systemd/systemd#14662). So this program never creates a group or
//! enables a controller there.

use crate::cgroup::CgroupPath;
use crate::faults::groups::{CGROUP_ROOT_MISSING, RESERVED_GROUP_MISSING};
use crate::faults::strays::name_processes;
use crate::faults::v1::groups::HIERARCHY_INCOMPLETE;
use crate::faults::{Case, Fault, Finding, Impact, Nature, Remedy, Step};
use crate::host::group::Process;
use crate::kubelet::layout::Layout;
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&SERVICE_GROUP];

pub(crate) static SERVICE_GROUP: Fault = Fault {
    name: "service-group",
    message_id: "9f9da7fa60db483fbeabdef9c1d65d94",
    title: "A configured cgroup belongs to a systemd service",
    meaning: "The kubelet's cgroup root, or a reserved cgroup, is the cgroup of a systemd service \
              or lies below one. The kubelet requires it to exist with all controllers. Only the \
              service itself can provide this: if another program creates the cgroup and enables \
              controllers in it, the service can no longer start (219/CGROUP).",
    signs: "--cgroup-root, --kube-reserved-cgroup or --system-reserved-cgroup names a path that \
            contains a .service or .scope. This cgroup does not exist, lacks a controller, or \
            holds the service's own processes.",
    remedy: "kubepods-repair neither creates such a cgroup nor enables controllers in it.",
    by_hand: "Configure a cgroup that does not belong to a service, and restart kubelite. Or, with \
              systemd 254 or later, put Delegate=yes and DelegateSubgroup=main under [Service] in \
              a drop-in for the service, run systemctl daemon-reload, and restart the service. Its \
              processes then run in a child cgroup, and the service's own cgroup can enable \
              controllers.",
    threads: &["systemd/systemd#14662"],
    does: "reports it; a service's own cgroup is never created or changed",
    nature: Nature::Fault,
};

/// The faults of a required group that does not exist.
const MISSING: [&Fault; 3] = [
    &CGROUP_ROOT_MISSING,
    &RESERVED_GROUP_MISSING,
    &HIERARCHY_INCOMPLETE,
];

/// The name of this program's own process, which runs in the service's group.
const OWN_NAME: &str = "kubepods-repair";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let demanded = std::iter::once(&case.layout.cgroup_root).chain(&case.layout.reserved);
    demanded.filter_map(|path| judge(case, path)).collect()
}

/// What keeps the kubelet from starting although the group exists.
fn judge(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let unit = path.unit()?;
    let group = case.group(path)?;
    // What the group above does not enable is a fault of that group, and can be repaired there.
    let above = path.parent().and_then(|above| case.group(&above));
    let passed_on = above.map(|above| above.subtree_control.clone());
    let passed_on = case.needed.and(&passed_on.unwrap_or_default());
    let lacking = passed_on.minus(&group.controllers);
    let blocks = *path == case.layout.cgroup_root && !case.lacking(path).is_empty();
    let is_kubelites = unit == MICROK8S.kubelet_unit && !case.host.sandbox.has_subgroup();
    let is_other = |process: &&Process| process.comm != OWN_NAME;
    let others: Vec<Process> = group.processes.iter().filter(is_other).cloned().collect();
    let evidence = if !lacking.is_empty() {
        format!("This cgroup of {unit} lacks controllers that its parent enables: {lacking}")
    } else if blocks && is_kubelites {
        format!("This is the cgroup of {unit}, in which the kubelet itself runs")
    } else if blocks && !others.is_empty() {
        let names = name_processes(&others);
        format!("Processes of {unit} run in this cgroup: {names}")
    } else {
        return None;
    };
    let impact = Impact::fatal(if lacking.is_empty() {
        "A cgroup that holds processes cannot enable controllers for its child cgroups, and the \
         kubelet does not start without them"
    } else {
        "The kubelet requires these controllers there and never enables them"
    });
    let finding = SERVICE_GROUP.finding(impact, case.at(path), evidence, advice(unit));
    Some(finding.about(lacking))
}

/// Removes every step that would create a service's group or enable controllers in it. Findings
/// that are not fatal are removed with their steps: the kubelet repairs these itself.
pub(super) fn leave_alone(findings: &mut Vec<Finding>, layout: &Layout) {
    let mut demanded = std::iter::once(&layout.cgroup_root).chain(&layout.reserved);
    if demanded.all(|path| path.unit().is_none()) {
        return;
    }
    findings.retain_mut(|finding| {
        let unit = finding.steps().iter().find_map(made_inside);
        let Some(unit) = unit.map(str::to_owned) else {
            return true;
        };
        if MISSING.contains(&finding.fault) {
            finding.fault = &SERVICE_GROUP;
            finding.evidence = format!("This cgroup does not exist, and it belongs to {unit}");
        }
        finding.remedy = advice(&unit);
        finding.is_fatal()
    });
}

/// The unit in whose group this step would create a group or enable controllers.
fn made_inside(step: &Step) -> Option<&str> {
    match step {
        Step::MoveProcesses { to, .. } => to.unit(),
        step if step.builds() => step.group()?.unit(),
        _ => None,
    }
}

fn advice(unit: &str) -> Remedy {
    let words = format!(
        "Configure a cgroup that does not belong to a service (or, with systemd 254 or later, set \
         Delegate=yes and DelegateSubgroup=main for {unit}), then restart kubelite"
    );
    Remedy::run(words, [MICROK8S.restart()])
}
