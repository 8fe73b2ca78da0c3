//! Controllers that a version 1 mount has taken away from version 2.

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::Remedy;
use crate::diagnosis::{Case, Finding, Impact, Location, name_processes};
use crate::host::claims::Claim;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    case.tree
        .claims
        .iter()
        .map(|claim| on_v1(case, claim))
        .collect()
}

fn on_v1(case: &Case, claim: &Claim) -> Finding {
    let Claim {
        controller,
        point,
        mounted_for,
        users,
    } = claim;
    let mounted = match (point, mounted_for) {
        (Some(point), None) => format!("mounted on {}", point.display()),
        (Some(point), Some(process)) => {
            let process = name_processes(std::slice::from_ref(process));
            format!(
                "mounted on {} in the mount namespace of {process}",
                point.display()
            )
        }
        (None, _) => "and no mount of it is to be seen".to_owned(),
    };
    let used = match users.as_slice() {
        [] => "no process lives in its groups".to_owned(),
        users => format!("in its groups live {}", name_processes(users)),
    };
    let location = match point {
        Some(point) => Location::Mount(point.clone()),
        None => case.at_file(&CgroupPath::root(), "cgroup.controllers"),
    };
    let how = match point {
        Some(point) => format!(
            "stop the program that mounted it, remove its groups, then umount {}; run \
             kubepods-repair again",
            point.display()
        ),
        None => format!(
            "{controller} comes back when nothing mounts that hierarchy and no group is left in \
             it: end what uses it, or keep from mounting it whoever does, and reboot"
        ),
    };
    let evidence = format!("{controller} belongs to a version 1 hierarchy, {mounted}; {used}");
    let impact = Impact::degraded(
        "version 2 no longer has it: the kubelet starts without it and cannot enforce the limits \
         that need it",
    );
    let mut finding = Finding::new(
        Fault::ControllerOnV1,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    );
    finding.controllers = [controller.as_str()].into_iter().collect();
    finding
}
