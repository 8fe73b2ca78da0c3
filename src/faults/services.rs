//! A cgroup root or a reserved group that is the group of a systemd service, or lies below one.
//!
//! systemd attaches a service's first process to the service's own group. If somebody else has made
//! that group and enabled controllers in it, the attach fails (cgroup v2: no processes beside
//! controllers that are passed on) and the start ends in `status=219/CGROUP` (measured;
//! systemd/systemd#14662). So nothing is ever made or enabled there.

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
    meaning: "The kubelet's cgroup root, or a reserved cgroup, is the group of a systemd service \
              or lies below one. The kubelet demands that it exists with all controllers. Only the \
              service itself can provide that: if anything else makes the group and enables \
              controllers in it, the service can no longer start (219/CGROUP).",
    signs: "--cgroup-root, --kube-reserved-cgroup or --system-reserved-cgroup names a path with a \
            .service or .scope in it, and the group does not exist, lacks a controller, or holds \
            the service's own processes.",
    remedy: "kubepods-repair neither makes such a group nor enables controllers in it.",
    by_hand: "Name a cgroup that no service owns. Or, with systemd 254 or later, put Delegate=yes \
              and DelegateSubgroup=main under [Service] in a drop-in for the service: its \
              processes then live in a subgroup, and its own group can pass controllers on.",
    threads: &["systemd/systemd#14662"],
    does: "reports it: a service's own cgroup is never made or filled",
    nature: Nature::Fault,
};

/// The faults of a demanded group that does not exist.
const MISSING: [&Fault; 3] = [
    &CGROUP_ROOT_MISSING,
    &RESERVED_GROUP_MISSING,
    &HIERARCHY_INCOMPLETE,
];

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
    let above = path.parent().and_then(|above| case.group(&above));
    let passed_on = above.map(|above| above.subtree_control.clone());
    let passed_on = case.needed.and(&passed_on.unwrap_or_default());
    let lacking = passed_on.minus(&group.controllers);
    let blocks = *path == case.layout.cgroup_root && !case.lacking(path).is_empty();
    let is_kubelites = unit == MICROK8S.kubelet_unit && !case.host.sandbox.has_subgroup();
    let is_other = |process: &&Process| process.comm != OWN_NAME;
    let others: Vec<Process> = group.processes.iter().filter(is_other).cloned().collect();
    let evidence = if !lacking.is_empty() {
        format!("this group of {unit} has no {lacking}, though the group above passes it on")
    } else if blocks && is_kubelites {
        format!("this is the group of {unit} itself, which the kubelet runs in")
    } else if blocks && !others.is_empty() {
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
    let finding = SERVICE_GROUP.finding(impact, case.at(path), evidence, advice(unit));
    Some(finding.about(lacking))
}

/// Takes out every step that would make a group of a service or fill it. The kubelet sees to the
/// rest itself, but for what it demands.
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
        }
        finding.remedy = advice(&unit);
        finding.is_fatal()
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
    Remedy::tell(format!(
        "name a cgroup that no service owns; or, with systemd 254 or later, put Delegate=yes and \
         DelegateSubgroup=main under [Service] in a drop-in for {unit}, then systemctl \
         daemon-reload and restart it"
    ))
}
