//! Controllers on the way from the root of the hierarchy to kubepods, and the anchor in kubepods
//! itself.
//!
//! systemd rewrites the root's `cgroup.subtree_control` whenever it realises units, and disables
//! the controllers that no unit asks for. While the same controller is enabled in kubepods, the
//! kernel answers EBUSY and the controller stays. That is the anchor.

use std::collections::BTreeSet;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::blockers::{PINNED_TASK_BLOCKS_CPUSET, REALTIME_TASK_BLOCKS_CPU};
use crate::faults::case::can_pass_on;
use crate::faults::container::NESTED_ROOT_BUSY;
use crate::faults::finding::{count, name_controllers};
use crate::faults::strays::{STRAY_PROCESSES, name_processes};
use crate::faults::threaded::THREADED;
use crate::faults::{
    Case, Fault, Finding, Impact, Nature, Remedy, Step, blockers, container, slices,
};
use crate::host::Refusal;
use crate::host::group::{Group, Kind};

pub(super) const FAULTS: &[&Fault] = &[&CONTROLLER_NOT_ANCHORED, &CONTROLLER_NOT_ENABLED];

pub(crate) static CONTROLLER_NOT_ANCHORED: Fault = Fault {
    name: "controller-not-anchored",
    message_id: "33f219e2b6c847faa1a40f3526931441",
    title: "systemd can disable a controller that kubepods needs",
    meaning: "systemd owns the root of the cgroup tree. At every daemon-reload, and when some \
              units start, it disables the controllers there that none of its units asks for. It \
              cannot disable a controller that is also enabled in kubepods, because the kernel \
              then answers EBUSY (Device or resource busy). This anchor is missing. A running \
              kubelet does not notice when a controller disappears, but the next one may not \
              start.",
    signs: "kubepods/cgroup.subtree_control does not contain a controller that the kubelet needs.",
    remedy: "kubepods-repair enables the controller in kubepods/cgroup.subtree_control.",
    by_hand: "Enable in kubepods what kubepods/cgroup.controllers lists: echo \"+cpuset +cpu \
              +memory +hugetlb +pids\" > /sys/fs/cgroup/kubepods/cgroup.subtree_control. Leave \
              out the controllers that are not listed.",
    threads: &["kubernetes/kubernetes#122955", "systemd/systemd#38547"],
    does: "enables it in kubepods too, so that systemd cannot disable it",
    nature: Nature::Fault,
};

pub(crate) static CONTROLLER_NOT_ENABLED: Fault = Fault {
    name: "controller-not-enabled",
    message_id: "20ef5ead0b3e4798b45b66c04ec5c05c",
    title: "A controller that the kubelet needs is not enabled",
    meaning: "The kubelet requires in kubepods each of cpu, cpuset, hugetlb, memory and pids that \
              the root of the cgroup tree offers. It enables them itself and ignores every error. \
              If a controller is still missing afterwards, it fails with \"root container \
              [kubepods] doesn't exist\". So this fault is harmless as long as the kernel allows \
              the controller to be enabled, and fatal when the kernel refuses.",
    signs: "A cgroup.subtree_control between the root of the tree and kubepods lacks one of these \
            controllers. If the kernel refused to enable it, the finding gives the error (EINVAL, \
            EBUSY or EOPNOTSUPP).",
    remedy: "kubepods-repair enables all controllers that are needed from the root down, with one \
             write per cgroup, and anchors them in kubepods. If the kernel refuses, it undoes the \
             attempt and reports what blocks the controller.",
    by_hand: "The first of these files lists the available controllers, the second one those \
              that are enabled: cat /sys/fs/cgroup/cgroup.controllers \
              /sys/fs/cgroup/cgroup.subtree_control. To enable a missing controller, run echo \
              +cpuset > /sys/fs/cgroup/cgroup.subtree_control. If that fails, fix the other faults \
              that kubepods-repair reports.",
    threads: &[
        "kubernetes/kubernetes#122955",
        "coreos/go-systemd#443",
        "canonical/microk8s#4378",
    ],
    does: "enables what the kubelet needs from the root down, all controllers or none",
    nature: Nature::HealedByKubelet,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let way = groups_to_pass_through(case);
    let not_enabled = way.iter().filter_map(|path| not_enabled(case, path));
    let mut findings: Vec<Finding> = not_enabled.collect();
    if !case.by_systemd() {
        findings.extend(not_anchored(case));
    }
    findings
}

/// The groups whose `cgroup.subtree_control` matters: those above kubepods and above every reserved
/// group.
fn groups_to_pass_through(case: &Case) -> BTreeSet<CgroupPath> {
    let ends = case.layout.reserved.iter().chain([&case.layout.kubepods]);
    let way = ends.flat_map(CgroupPath::ancestors);
    // What belongs to a service is judged in `services`.
    way.filter(|path| path.unit().is_none()).collect()
}

fn not_enabled(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let group = case.group(path)?;
    let lacking = case.lacking(path);
    if lacking.is_empty() {
        return None;
    }
    let mut refusals = case.learned.refusals.iter();
    let finding = if !can_pass_on(group) {
        cannot_pass_on(case, group, &lacking)
    } else if let Some(refusal) = refusals.find(|refusal| refusal.group == *path) {
        refused(case, refusal, &lacking)
    } else {
        let evidence = are_not_enabled(&lacking);
        let location = case.at_file(path, "cgroup.subtree_control");
        let (impact, remedy) = (unless_enabled(case, path), enable(case, path, &lacking));
        CONTROLLER_NOT_ENABLED.finding(impact, location, evidence, remedy)
    };
    Some(finding.about(lacking))
}

/// `The cpuset controller is not enabled for child cgroups`
fn are_not_enabled(lacking: &Controllers) -> String {
    let verb = if lacking.iter().count() == 1 {
        "is"
    } else {
        "are"
    };
    let controllers = name_controllers(lacking);
    format!("The {controllers} {verb} not enabled for child cgroups")
}

fn enable(case: &Case, path: &CgroupPath, lacking: &Controllers) -> Remedy {
    let controllers = lacking.minus(&case.withheld);
    if controllers.is_empty() {
        return Remedy::tell(format!(
            "kubelite's pre-start enables the {}. kubepods-repair does not do so earlier, because \
             with CONFIG_RT_GROUP_SCHED every real-time unit that starts afterwards fails",
            name_controllers(lacking)
        ));
    }
    let mut steps = slices::ask_for_all(case);
    steps.push(Step::enable(path, controllers));
    Remedy::Steps(steps)
}

/// The kubelet enables controllers only from its cgroup root down. Above it, and on the way to a
/// reserved group, it demands that they are enabled.
fn unless_enabled(case: &Case, path: &CgroupPath) -> Impact {
    let root = &case.layout.cgroup_root;
    let mut reserved = case.layout.reserved.iter();
    let leads_to_reserved = reserved.any(|reserved| path.is_above(reserved));
    if path.is_above(root) {
        Impact::fatal(
            "The kubelet does not start while its cgroup root lacks a controller, and it enables \
             no controllers above its cgroup root",
        )
    } else if leads_to_reserved && path != root {
        Impact::fatal(
            "The kubelet does not start while a reserved cgroup lacks a controller, and it enables \
             no controllers there",
        )
    } else if slices::kubelet_dies_of_asking(case) {
        Impact::fatal(
            "This kubelet creates its slices without AllowedCPUs=, so systemd disables cpuset \
             again before the kubelet checks it, and the kubelet does not start",
        )
    } else {
        Impact::notice(
            "The kubelet enables controllers itself when it starts, but systemd may disable them \
             again",
        )
    }
}

fn cannot_pass_on(case: &Case, group: &Group, lacking: &Controllers) -> Finding {
    let path = &group.path;
    if group.kind != Kind::Domain {
        let evidence = format!("The type of this cgroup is \"{}\"", group.kind.as_str());
        let effect = "The memory controller cannot be enabled in a cgroup of this type, and the \
                      kubelet does not start below it";
        let how = "This cgroup does not belong to the kubelet. Remove it and create it again, or \
                   have the program that made it threaded do so";
        let location = case.at_file(path, "cgroup.type");
        return THREADED.finding(Impact::fatal(effect), location, evidence, Remedy::tell(how));
    }
    let evidence = format!(
        "This cgroup contains {}: {}. As long as it does, the kernel refuses to enable controllers \
         for child cgroups (EBUSY)",
        count(group.processes.len(), "process", "processes"),
        name_processes(&group.processes)
    );
    let impact = Impact::fatal(format!(
        "The kubelet does not start without the {}",
        name_controllers(lacking)
    ));
    let location = case.at_file(path, "cgroup.procs");
    if path.is_root() {
        let how = container::vacate(case.host.boot.container.as_ref());
        return NESTED_ROOT_BUSY.finding(impact, location, evidence, Remedy::tell(how));
    }
    let remedy = Remedy::tell(
        "This cgroup does not belong to the kubelet, so kubepods-repair moves nothing out of it. \
         Move its processes into a child cgroup of their own, then run kubepods-repair again",
    );
    STRAY_PROCESSES.finding(impact, location, evidence, remedy)
}

fn refused(case: &Case, refusal: &Refusal, lacking: &Controllers) -> Finding {
    let (controller, errno) = (&refusal.controller, refusal.errno);
    let evidence = format!(
        "{}. The kernel refuses {controller} ({errno})",
        are_not_enabled(lacking)
    );
    let impact = Impact::fatal(
        "The kubelet gets the same error, ignores it, and then fails with \"root container \
         [kubepods] doesn't exist\"",
    );
    let remedy = match blamed(case, controller, errno) {
        Some(fault) => Remedy::Waits(fault),
        None => explain(controller, errno),
    };
    let location = case.at_file(&refusal.group, "cgroup.subtree_control");
    let mut finding = CONTROLLER_NOT_ENABLED.finding(impact, location, evidence, remedy);
    finding.errno = Some(errno);
    finding
}

/// The fault that names the tasks that block the controller, if it was found.
fn blamed(case: &Case, controller: &str, errno: Errno) -> Option<&'static Fault> {
    let fault = match (controller, errno) {
        ("cpu", Errno::EINVAL) => &REALTIME_TASK_BLOCKS_CPU,
        ("cpuset", Errno::EINVAL) => &PINNED_TASK_BLOCKS_CPUSET,
        _ => return None,
    };
    let mut found = blockers::diagnose(case).into_iter();
    found.any(|finding| finding.fault == fault).then_some(fault)
}

/// What to do about an errno of a write to `cgroup.subtree_control`
/// (`cgroup_subtree_control_write` and the `can_attach` calls).
fn explain(controller: &str, errno: Errno) -> Remedy {
    match (controller, errno) {
        ("cpu", Errno::EINVAL) => Remedy::tell(
            "A real-time task outside the root cgroup makes the kernel refuse cpu. Find it and \
             end it, then restart kubelite",
        ),
        ("cpuset", Errno::EINVAL) => Remedy::tell(
            "A task outside the root cgroup that must not change its CPUs (PF_NO_SETAFFINITY) \
             makes the kernel refuse cpuset. Find it and end it, then restart kubelite",
        ),
        (_, Errno::EINVAL) => Remedy::run(
            "This kernel has the controller disabled. Look for cgroup_disable= on its command line",
            ["cat /proc/cmdline"],
        ),
        (_, Errno::EBUSY) => {
            Remedy::tell("Move the processes out of this cgroup, then run kubepods-repair again")
        }
        (_, Errno::EOPNOTSUPP) => {
            Remedy::tell("This cgroup is threaded. Remove it and create it again")
        }
        (_, Errno::ENOMEM | Errno::ENOSPC) => Remedy::tell(
            "The kernel cannot create any more memory cgroups. Remove stale cgroups elsewhere, or \
             reboot",
        ),
        (_, Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
            Remedy::tell("Allow kubepods-repair to write to the cgroup file system")
        }
        _ => Remedy::run(
            "Look in the kernel log for the reason",
            ["journalctl -k -b"],
        ),
    }
}

fn not_anchored(case: &Case) -> Option<Finding> {
    let kubepods = case.group(&case.layout.kubepods)?;
    let lacking = case.wanted().minus(&kubepods.subtree_control);
    if lacking.is_empty() || kubepods.kind == Kind::Threaded {
        return None;
    }
    let evidence = are_not_enabled(&lacking);
    let impact = Impact::notice(
        "systemd may disable a controller at the next daemon-reload unless it is enabled here",
    );
    let remedy = Remedy::step(Step::enable(&kubepods.path, lacking.clone()));
    let location = case.at_file(&kubepods.path, "cgroup.subtree_control");
    let finding = CONTROLLER_NOT_ANCHORED.finding(impact, location, evidence, remedy);
    Some(finding.about(lacking))
}
