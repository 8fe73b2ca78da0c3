//! Controllers on the way from the root of the hierarchy to kubepods, and the anchor in kubepods
//! itself.
//!
//! systemd rewrites the root's `cgroup.subtree_control` whenever it realises units and takes out
//! what no unit asks for; with the same controller switched on in kubepods the kernel answers
//! EBUSY, and it stays. That is the anchor.

use std::collections::BTreeSet;

use crate::cgroup::{CgroupPath, Controllers};
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{
    Case, Finding, Impact, blockers, can_pass_on, container, count, name_processes, slices,
};
use crate::host::Refusal;
use crate::host::group::{Group, Kind};
use crate::kubelet::microk8s::MICROK8S;
use nix::errno::Errno;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let through = groups_to_pass_through(case);
    let mut findings: Vec<Finding> = through
        .iter()
        .filter_map(|path| not_enabled(case, path))
        .collect();
    findings.extend(not_anchored(case).filter(|_| !case.by_systemd()));
    findings
}

/// The groups whose `cgroup.subtree_control` counts: above kubepods and above every reserved group.
fn groups_to_pass_through(case: &Case) -> BTreeSet<CgroupPath> {
    let ends = case.layout.reserved.iter().chain([&case.layout.kubepods]);
    // What belongs to a service is judged in `services`.
    ends.flat_map(CgroupPath::ancestors)
        .filter(|path| path.unit().is_none())
        .collect()
}

fn not_enabled(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let group = case.group(path)?;
    let lacking = case.lacking(path);
    if lacking.is_empty() {
        return None;
    }
    let mut finding = if !can_pass_on(group) {
        cannot_pass_on(case, group, &lacking)
    } else if let Some(refusal) = case
        .tree
        .refusals
        .iter()
        .find(|refusal| refusal.group == *path)
    {
        refused(case, refusal, &lacking)
    } else {
        let evidence = format!("not passed on: {lacking}");
        let location = case.at_file(path, "cgroup.subtree_control");
        let (impact, remedy) = (unless_enabled(case, path), enable(case, path, &lacking));
        Finding::new(
            Fault::ControllerNotEnabled,
            impact,
            location,
            evidence,
            remedy,
        )
    };
    finding.controllers = lacking;
    Some(finding)
}

fn enable(case: &Case, path: &CgroupPath, lacking: &Controllers) -> Remedy {
    let controllers = lacking.minus(&case.withheld);
    if controllers.is_empty() {
        return Remedy::Tell(format!(
            "left to the start of {}: on a kernel with CONFIG_RT_GROUP_SCHED, every real-time unit \
             that starts after {lacking} is enabled fails",
            MICROK8S.kubelet_unit
        ));
    }
    let mut steps = slices::ask_for_all(case);
    steps.push(Step::Enable {
        group: path.clone(),
        controllers,
    });
    Remedy::Steps(steps)
}

/// The kubelet switches controllers on only from its cgroup root down; what lies above, or on the
/// way to a reserved group, it demands.
fn unless_enabled(case: &Case, path: &CgroupPath) -> Impact {
    let root = &case.layout.cgroup_root;
    let on_the_way_to_reserved = case
        .layout
        .reserved
        .iter()
        .any(|reserved| path.is_above(reserved));
    if path.is_above(root) {
        Impact::fatal(
            "the kubelet refuses its cgroup root for missing controllers and never switches them \
             on there",
        )
    } else if on_the_way_to_reserved && path != root {
        Impact::fatal(
            "the kubelet refuses the reserved group for missing controllers and never switches \
             them on there",
        )
    } else if slices::kubelet_dies_of_asking(case) {
        Impact::fatal(
            "this kubelet asks systemd for its slices without AllowedCPUs=, so that systemd takes \
             cpuset away again before the kubelet looks",
        )
    } else {
        Impact::notice(
            "the kubelet switches controllers on itself at its start, but systemd may take them \
             away again",
        )
    }
}

fn cannot_pass_on(case: &Case, group: &Group, lacking: &Controllers) -> Finding {
    let path = &group.path;
    if matches!(
        group.kind,
        Kind::DomainInvalid | Kind::DomainThreaded | Kind::Threaded
    ) {
        let evidence = format!("its type is \"{}\"", group.kind.as_str());
        let impact = Impact::fatal(
            "no controller that limits memory can be switched on in a threaded group, and the \
             kubelet dies below it",
        );
        let how =
            "this group is not the kubelet's: whoever made it threaded has to remove it and make \
             it again"
                .to_owned();
        let location = case.at_file(path, "cgroup.type");
        return Finding::new(
            Fault::Threaded,
            impact,
            location,
            evidence,
            Remedy::Tell(how),
        );
    }
    let holds = count(group.processes.len(), "process", "processes");
    let evidence = format!(
        "holds {holds}: {}; not passed on: {lacking}",
        name_processes(&group.processes)
    );
    let impact = Impact::fatal(
        "a group that holds processes cannot pass controllers on (EBUSY), and the kubelet dies of \
         their absence",
    );
    let location = case.at_file(path, "cgroup.procs");
    let (fault, how) = if path.is_root() {
        (
            Fault::NestedRootBusy,
            container::vacate(case.host.boot.container.as_ref()),
        )
    } else {
        let how = format!(
            "this group is not the kubelet's: move its processes into a group of their own below \
             or beside {path}"
        );
        (Fault::StrayProcesses, how)
    };
    Finding::new(fault, impact, location, evidence, Remedy::Tell(how))
}

fn refused(case: &Case, refusal: &Refusal, lacking: &Controllers) -> Finding {
    let Refusal {
        group,
        controller,
        errno,
    } = refusal;
    let evidence = format!("not passed on: {lacking}; the kernel answers {errno} to +{controller}");
    let impact =
        Impact::fatal("the kubelet gets the same answer and then says that kubepods doesn't exist");
    let remedy = match blamed(case, controller, *errno) {
        Some(fault) => Remedy::Waits(fault),
        None => Remedy::Tell(explain(controller, *errno).to_owned()),
    };
    let location = case.at_file(group, "cgroup.subtree_control");
    let mut finding = Finding::new(
        Fault::ControllerNotEnabled,
        impact,
        location,
        evidence,
        remedy,
    );
    finding.errno = Some(*errno);
    finding
}

/// The finding that names who is in the way, if there is one.
fn blamed(case: &Case, controller: &str, errno: Errno) -> Option<Fault> {
    let fault = match (controller, errno) {
        ("cpu", Errno::EINVAL) => Fault::RealtimeTaskBlocksCpu,
        ("cpuset", Errno::EINVAL) => Fault::PinnedTaskBlocksCpuset,
        _ => return None,
    };
    blockers::diagnose(case)
        .iter()
        .any(|finding| finding.fault == fault)
        .then_some(fault)
}

/// What an errno of a write to `cgroup.subtree_control` means (`cgroup_subtree_control_write` and
/// the `can_attach` calls).
fn explain(controller: &str, errno: Errno) -> &'static str {
    match (controller, errno) {
        ("cpu", Errno::EINVAL) => {
            "find the real-time task outside the root cgroup that the kernel refuses it for"
        }
        ("cpuset", Errno::EINVAL) => {
            "find the task with PF_NO_SETAFFINITY outside the root cgroup that the kernel refuses \
             it for"
        }
        (_, Errno::EINVAL) => {
            "the controller is switched off in this kernel: look at cgroup_disable= on its command \
             line"
        }
        (_, Errno::EBUSY) => "processes sit directly in this group and have to leave it first",
        (_, Errno::EOPNOTSUPP) => "the group is threaded and has to be made anew",
        (_, Errno::ENOMEM | Errno::ENOSPC) => {
            "the kernel is out of memory cgroups: stale groups elsewhere have to go"
        }
        (_, Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
            "let this program write to the cgroup file system"
        }
        _ => "look into the kernel's log for the reason",
    }
}

fn not_anchored(case: &Case) -> Option<Finding> {
    let kubepods = case.group(&case.layout.kubepods)?;
    let lacking = case.wanted().minus(&kubepods.subtree_control);
    if lacking.is_empty() || kubepods.kind == Kind::Threaded {
        return None;
    }
    let evidence = format!("not anchored: {lacking}");
    let impact = Impact::notice(
        "nothing keeps systemd from taking the controller away again at the next daemon-reload",
    );
    let steps = vec![Step::Enable {
        group: kubepods.path.clone(),
        controllers: lacking.clone(),
    }];
    let location = case.at_file(&kubepods.path, "cgroup.subtree_control");
    let mut finding = Finding::new(
        Fault::ControllerNotAnchored,
        impact,
        location,
        evidence,
        Remedy::Steps(steps),
    );
    finding.controllers = lacking;
    Some(finding)
}
