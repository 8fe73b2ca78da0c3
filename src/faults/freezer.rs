//! Groups of the kubelet's own that are frozen: the kubelet never thaws one.

use crate::cgroup::CgroupPath;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step};

pub(super) const FAULTS: &[&Fault] = &[&FROZEN];

pub(crate) static FROZEN: Fault = Fault {
    name: "frozen",
    message_id: "374546112c404479b0de43ce6b493296",
    title: "A group of the kubelet is frozen",
    meaning: "Everything in a frozen cgroup stands still, so every pod started below it does \
              nothing, and the kubelet never looks at the switch.",
    signs: "cgroup.freeze of kubepods or a QoS group says 1; on version 1 its \
            freezer.self_freezing does.",
    remedy: "kubepods-repair thaws the group if no process lives in it or below. Otherwise \
             somebody may have meant to stop those processes, and it leaves them.",
    by_hand: "echo 0 > /sys/fs/cgroup/kubepods/cgroup.freeze, or the same file of the group that \
              is named; on version 1 echo THAWED > its freezer.state.",
    threads: &[],
    does: "thaws the group if nothing lives in it",
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

/// `thawed` is what the file has to hold instead.
pub(super) fn is_frozen(
    group: &CgroupPath,
    location: Location,
    populated: bool,
    thawed: &str,
) -> Finding {
    let remedy = if populated {
        Remedy::tell(format!(
            "processes live below it and may have been frozen on purpose: echo {thawed} > \
             {location}"
        ))
    } else {
        Remedy::step(Step::Thaw(group.clone()))
    };
    let effect = "every pod started below stops at its first instruction, and the kubelet never \
                  thaws the group";
    FROZEN.finding(
        Impact::degraded(effect),
        location,
        "the group is frozen",
        remedy,
    )
}
