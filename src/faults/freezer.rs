//! The kubelet's own groups that are frozen: the kubelet never thaws one.

use crate::cgroup::CgroupPath;
use crate::faults::finding::shell_word;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step};

pub(super) const FAULTS: &[&Fault] = &[&FROZEN];

pub(crate) static FROZEN: Fault = Fault {
    name: "frozen",
    message_id: "374546112c404479b0de43ce6b493296",
    title: "A cgroup of the kubelet is frozen",
    meaning: "No process in a frozen cgroup runs, and neither does any pod that starts below it. \
              The kubelet never checks whether its cgroups are frozen.",
    signs: "cgroup.freeze of kubepods or a QoS cgroup contains 1. On cgroup v1, its \
            freezer.self_freezing does.",
    remedy: "kubepods-repair thaws the cgroup if no process is in it or below it. Otherwise the \
             processes may have been frozen on purpose, and kubepods-repair leaves them frozen.",
    by_hand: "Thaw the cgroup: echo 0 > /sys/fs/cgroup/kubepods/cgroup.freeze (or the same file \
              of the cgroup that is reported). On cgroup v1, write THAWED to its freezer.state \
              instead.",
    threads: &[],
    does: "thaws the cgroup if no process is in it",
    nature: Nature::Fault,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in case.own_groups().filter(|group| group.frozen) {
        let location = case.at_file(&group.path, "cgroup.freeze");
        findings.push(is_frozen(&group.path, location, group.populated, "0"));
    }
    findings
}

/// `thawed` is the word that thaws the group when it is written to the file at `location`.
pub(super) fn is_frozen(
    group: &CgroupPath,
    location: Location,
    populated: bool,
    thawed: &str,
) -> Finding {
    let remedy = if populated {
        Remedy::run(
            "The cgroup contains processes that may have been frozen on purpose. If not, thaw it",
            [format!("echo {thawed} > {}", shell_word(&location))],
        )
    } else {
        Remedy::step(Step::Thaw(group.clone()))
    };
    let effect = "Pods that start below it do not run, and the kubelet never thaws it";
    FROZEN.finding(
        Impact::degraded(effect),
        location,
        "This cgroup is frozen",
        remedy,
    )
}
