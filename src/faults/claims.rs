//! Controllers that cgroup v2 lacks because a cgroup v1 hierarchy has them.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::finding::shell_word;
use crate::faults::strays::name_processes;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::claims::Claim;

pub(super) const FAULTS: &[&Fault] = &[&CONTROLLER_ON_V1];

pub(crate) static CONTROLLER_ON_V1: Fault = Fault {
    name: "controller-on-v1",
    message_id: "5b70251d37c04871af46f6260cde0076",
    title: "A controller is bound to a cgroup v1 hierarchy",
    meaning: "This host uses cgroup v2, but a program has mounted a controller that pods need as \
              cgroup v1. A controller can be in one hierarchy only, so cgroup v2 no longer has \
              it. The kubelet starts, but cannot enforce the limits that need it.",
    signs: "cpu, cpuset, memory or pids is not listed in the root's cgroup.controllers. Either a \
            file system of type cgroup in /proc/self/mountinfo has the controller, or \
            /proc/cgroups assigns it to a hierarchy.",
    remedy: "kubepods-repair unmounts nothing. It reports the mount and the processes that use \
             it, if it can find them.",
    by_hand: "Stop the program that mounted the hierarchy, and unmount it. The controller returns \
              to cgroup v2 when no cgroup is left in the hierarchy. Then run kubepods-repair.",
    threads: &["kubernetes/kubernetes#125943"],
    does: "reports the mount and the processes that use it",
    nature: Nature::Fault,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let claims = case.tree.claims.iter();
    claims.map(|claim| on_v1(case, claim)).collect()
}

fn on_v1(case: &Case, claim: &Claim) -> Finding {
    let controller = &claim.controller;
    let (hierarchy, location, remedy) = match &claim.point {
        Some(point) => (
            format!(
                "the cgroup v1 hierarchy on {}{}",
                point.display(),
                whose_namespace(claim)
            ),
            Location::Mount(point.clone()),
            Remedy::run(
                "Stop the program that mounted it and remove its cgroups. Then unmount it and run \
                 kubepods-repair again",
                [unmount(claim, point), "kubepods-repair".to_owned()],
            ),
        ),
        None => (
            "a cgroup v1 hierarchy whose mount is not visible here".to_owned(),
            case.at_file(&CgroupPath::root(), "cgroup.controllers"),
            Remedy::tell(
                "Find the program that uses this hierarchy, keep it from mounting it, then reboot",
            ),
        ),
    };
    let used = if claim.users.is_empty() {
        "No process uses it".to_owned()
    } else {
        format!("Its cgroups contain {}", name_processes(&claim.users))
    };
    let evidence = format!("The {controller} controller is bound to {hierarchy}. {used}");
    let impact =
        Impact::degraded("The kubelet starts, but cannot enforce the corresponding pod limits");
    let finding = CONTROLLER_ON_V1.finding(impact, location, evidence, remedy);
    finding.about(Controllers::parse(controller))
}

/// Unmounts it, in the mount namespace in which it is mounted.
fn unmount(claim: &Claim, point: &Path) -> String {
    let point = shell_word(point.display());
    match &claim.mounted_for {
        Some(process) => format!("nsenter --mount --target {} umount {point}", process.pid),
        None => format!("umount {point}"),
    }
}

fn whose_namespace(claim: &Claim) -> String {
    let Some(process) = &claim.mounted_for else {
        return String::new();
    };
    let process = name_processes(std::slice::from_ref(process));
    format!(" in the mount namespace of {process}")
}
