//! Controllers on the way from the root of the hierarchy to kubepods, and the anchor in kubepods
//! itself.
//!
//! systemd rewrites the root's `cgroup.subtree_control` whenever it realises units and takes out
//! what no unit asks for; with the same controller switched on in kubepods the kernel answers
//! EBUSY, and it stays. That is the anchor.

use std::collections::BTreeSet;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::blockers::{PINNED_TASK_BLOCKS_CPUSET, REALTIME_TASK_BLOCKS_CPU};
use crate::faults::case::can_pass_on;
use crate::faults::container::NESTED_ROOT_BUSY;
use crate::faults::strays::{STRAY_PROCESSES, holds};
use crate::faults::threaded::THREADED;
use crate::faults::{
    Case, Fault, Finding, Impact, Nature, Remedy, Step, blockers, container, slices,
};
use crate::host::Refusal;
use crate::host::group::{Group, Kind};
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&CONTROLLER_NOT_ANCHORED, &CONTROLLER_NOT_ENABLED];

pub(crate) static CONTROLLER_NOT_ANCHORED: Fault = Fault {
    name: "controller-not-anchored",
    message_id: "33f219e2b6c847faa1a40f3526931441",
    title: "Nothing keeps systemd from taking a controller away",
    meaning: "systemd owns the root of the cgroup tree and switches off what none of its units \
              asks for, at every daemon-reload and at some starts of units. It cannot while the \
              controller is also switched on in kubepods: the kernel answers that it is busy. This \
              anchor is missing. The kubelet that runs notices nothing; the next one may not \
              start.",
    signs: "A controller that the kubelet needs is not among the words of \
            kubepods/cgroup.subtree_control.",
    remedy: "kubepods-repair switches the controller on in kubepods/cgroup.subtree_control.",
    by_hand: "echo \"+cpuset +cpu +memory +hugetlb +pids\" > \
              /sys/fs/cgroup/kubepods/cgroup.subtree_control, with the words that \
              kubepods/cgroup.controllers offers.",
    threads: &["kubernetes/kubernetes#122955", "systemd/systemd#38547"],
    does: "enables it in kubepods too, so that systemd cannot take it away",
    nature: Nature::Fault,
};

pub(crate) static CONTROLLER_NOT_ENABLED: Fault = Fault {
    name: "controller-not-enabled",
    message_id: "20ef5ead0b3e4798b45b66c04ec5c05c",
    title: "A controller is not passed on to kubepods",
    meaning: "The kubelet demands of kubepods every one of cpu, cpuset, hugetlb, memory and pids \
              that the root of the cgroup tree offers. It switches them on itself and ignores \
              every error in doing so; what is missing then makes it die of \"root container \
              [kubepods] doesn't exist\". So this is harmless as long as the kernel lets the \
              controller be switched on, and fatal as soon as it refuses.",
    signs: "On the way from the root of the tree to kubepods a cgroup.subtree_control lacks one of \
            these words. Where the kernel refused a write, its answer (EINVAL, EBUSY, EOPNOTSUPP) \
            is told with it.",
    remedy: "kubepods-repair switches on all that is needed in one write, from the root down, and \
             anchors it. Where the kernel refuses, it undoes the attempt and tells who is in the \
             way.",
    by_hand: "Look which words are missing: cat /sys/fs/cgroup/cgroup.controllers \
              /sys/fs/cgroup/cgroup.subtree_control. Then write one of them, such as echo +cpuset \
              > /sys/fs/cgroup/cgroup.subtree_control: if that fails, the other finding beside \
              this one says why.",
    threads: &[
        "kubernetes/kubernetes#122955",
        "coreos/go-systemd#443",
        "canonical/microk8s#4378",
    ],
    does: "enables what the kubelet needs from the root down, all in one write or nothing",
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

/// The groups whose `cgroup.subtree_control` counts: above kubepods and above every reserved group.
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
        let evidence = format!("not passed on: {lacking}");
        let location = case.at_file(path, "cgroup.subtree_control");
        let (impact, remedy) = (unless_enabled(case, path), enable(case, path, &lacking));
        CONTROLLER_NOT_ENABLED.finding(impact, location, evidence, remedy)
    };
    Some(finding.about(lacking))
}

fn enable(case: &Case, path: &CgroupPath, lacking: &Controllers) -> Remedy {
    let controllers = lacking.minus(&case.withheld);
    if controllers.is_empty() {
        return Remedy::tell(format!(
            "left to the start of {}: on a kernel with CONFIG_RT_GROUP_SCHED, every real-time unit \
             that starts after {lacking} is enabled fails",
            MICROK8S.kubelet_unit
        ));
    }
    let mut steps = slices::ask_for_all(case);
    steps.push(Step::enable(path, controllers));
    Remedy::Steps(steps)
}

/// The kubelet switches controllers on only from its cgroup root down; what lies above, or on the
/// way to a reserved group, it demands.
fn unless_enabled(case: &Case, path: &CgroupPath) -> Impact {
    let root = &case.layout.cgroup_root;
    let mut reserved = case.layout.reserved.iter();
    let leads_to_reserved = reserved.any(|reserved| path.is_above(reserved));
    if path.is_above(root) {
        Impact::fatal(
            "the kubelet refuses its cgroup root for missing controllers and never switches them \
             on there",
        )
    } else if leads_to_reserved && path != root {
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
    if group.kind != Kind::Domain {
        let evidence = format!("its type is \"{}\"", group.kind.as_str());
        let effect = "no controller that limits memory can be switched on in a threaded group, and \
                      the kubelet dies below it";
        let how = "this group is not the kubelet's: whoever made it threaded has to remove it and \
                   make it again";
        let location = case.at_file(path, "cgroup.type");
        return THREADED.finding(Impact::fatal(effect), location, evidence, Remedy::tell(how));
    }
    let evidence = format!("{}; not passed on: {lacking}", holds(&group.processes, ""));
    let impact = Impact::fatal(
        "a group that holds processes cannot pass controllers on (EBUSY), and the kubelet dies of \
         their absence",
    );
    let location = case.at_file(path, "cgroup.procs");
    if path.is_root() {
        let how = container::vacate(case.host.boot.container.as_ref());
        return NESTED_ROOT_BUSY.finding(impact, location, evidence, Remedy::tell(how));
    }
    let how = format!(
        "this group is not the kubelet's: move its processes into a group of their own below or \
         beside {path}"
    );
    STRAY_PROCESSES.finding(impact, location, evidence, Remedy::tell(how))
}

fn refused(case: &Case, refusal: &Refusal, lacking: &Controllers) -> Finding {
    let (controller, errno) = (&refusal.controller, refusal.errno);
    let evidence = format!("not passed on: {lacking}; the kernel answers {errno} to +{controller}");
    let impact =
        Impact::fatal("the kubelet gets the same answer and then says that kubepods doesn't exist");
    let remedy = match blamed(case, controller, errno) {
        Some(fault) => Remedy::Waits(fault),
        None => Remedy::tell(explain(controller, errno)),
    };
    let location = case.at_file(&refusal.group, "cgroup.subtree_control");
    let mut finding = CONTROLLER_NOT_ENABLED.finding(impact, location, evidence, remedy);
    finding.errno = Some(errno);
    finding
}

/// The fault that names who is in the way, if it was found.
fn blamed(case: &Case, controller: &str, errno: Errno) -> Option<&'static Fault> {
    let fault = match (controller, errno) {
        ("cpu", Errno::EINVAL) => &REALTIME_TASK_BLOCKS_CPU,
        ("cpuset", Errno::EINVAL) => &PINNED_TASK_BLOCKS_CPUSET,
        _ => return None,
    };
    let mut found = blockers::diagnose(case).into_iter();
    found.any(|finding| finding.fault == fault).then_some(fault)
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
    let remedy = Remedy::step(Step::enable(&kubepods.path, lacking.clone()));
    let location = case.at_file(&kubepods.path, "cgroup.subtree_control");
    let finding = CONTROLLER_NOT_ANCHORED.finding(impact, location, evidence, remedy);
    Some(finding.about(lacking))
}
