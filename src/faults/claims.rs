//! Controllers that a version 1 mount has taken away from version 2.

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::strays::name_processes;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::claims::Claim;

pub(super) const FAULTS: &[&Fault] = &[&CONTROLLER_ON_V1];

pub(crate) static CONTROLLER_ON_V1: Fault = Fault {
    name: "controller-on-v1",
    message_id: "5b70251d37c04871af46f6260cde0076",
    title: "A controller is bound to a version 1 hierarchy",
    meaning: "This host uses cgroup version 2, and some program has mounted a controller that pods \
              need as version 1. A controller can be in one place only, so version 2 no longer has \
              it: the kubelet starts without it and cannot enforce the limits that need it.",
    signs: "cpu, cpuset, memory or pids is not a word of the root's cgroup.controllers, and a file \
            system of type cgroup in /proc/self/mountinfo has it, or /proc/cgroups counts it to a \
            hierarchy.",
    remedy: "kubepods-repair unmounts nothing. It names the mount and, where any are known, the \
             processes that use it.",
    by_hand: "Stop the program that mounted it, then umount the mount point. The controller goes \
              back to version 2 once no group is left in the hierarchy; after that run \
              kubepods-repair.",
    threads: &["kubernetes/kubernetes#125943"],
    does: "reports the mount and who uses it",
    nature: Nature::Fault,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let claims = case.tree.claims.iter();
    claims.map(|claim| on_v1(case, claim)).collect()
}

fn on_v1(case: &Case, claim: &Claim) -> Finding {
    let controller = &claim.controller;
    let (mounted, location, how) = match &claim.point {
        Some(point) => (
            format!("mounted on {}{}", point.display(), whose_namespace(claim)),
            Location::Mount(point.clone()),
            format!(
                "stop the program that mounted it, remove its groups, then umount {}; run \
                 kubepods-repair again",
                point.display()
            ),
        ),
        None => (
            "and no mount of it is to be seen".to_owned(),
            case.at_file(&CgroupPath::root(), "cgroup.controllers"),
            format!(
                "{controller} comes back when nothing mounts that hierarchy and no group is left \
                 in it: end what uses it, or keep from mounting it whoever does, and reboot"
            ),
        ),
    };
    let used = if claim.users.is_empty() {
        "no process lives in its groups".to_owned()
    } else {
        format!("in its groups live {}", name_processes(&claim.users))
    };
    let evidence = format!("{controller} belongs to a version 1 hierarchy, {mounted}; {used}");
    let impact = Impact::degraded(
        "version 2 no longer has it: the kubelet starts without it and cannot enforce the limits \
         that need it",
    );
    let finding = CONTROLLER_ON_V1.finding(impact, location, evidence, Remedy::tell(how));
    finding.about(Controllers::parse(controller))
}

fn whose_namespace(claim: &Claim) -> String {
    let Some(process) = &claim.mounted_for else {
        return String::new();
    };
    let process = name_processes(std::slice::from_ref(process));
    format!(" in the mount namespace of {process}")
}
