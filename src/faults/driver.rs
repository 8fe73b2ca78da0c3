//! The kubelet's cgroup driver: containerd has to use the same one, or no pod starts. And the
//! cgroup tree that the other driver left behind.

use crate::faults::{
    Case, Fault, Finding, Impact, Location, Nature, Occasion, Remedy, Step, Terms,
};
use crate::host::OtherTree;
use crate::kubelet::{Driver, Settings};

pub(super) const FAULTS: &[&Fault] = &[&DRIVER_CHANGED, &DRIVER_MISMATCH];

pub(crate) static DRIVER_CHANGED: Fault = Fault {
    name: "driver-changed",
    message_id: "58ab17f519cb4e2893289f516416c98c",
    title: "A cgroup tree of the other cgroup driver still exists",
    meaning: "The kubelet keeps its pods in kubepods (with the driver cgroupfs) or in \
              kubepods.slice (with the driver systemd). The configured driver has changed. The \
              kubelet does not manage pods in the old tree. An empty old tree does no harm.",
    signs: "The kubepods cgroup of the driver that the kubelet does not use exists.",
    remedy: "kubepods-repair removes the old tree before the kubelet starts, if no process runs in \
             it and no kubelet is running. Otherwise it leaves the tree alone.",
    by_hand: "Drain the node and stop its containers (microk8s stop stops all of them), or reboot \
              it: cgroups live in memory.",
    threads: &[],
    does: "removes the other driver's tree before the kubelet starts, if it is empty",
    nature: Nature::Fault,
};

pub(crate) static DRIVER_MISMATCH: Fault = Fault {
    name: "driver-mismatch",
    message_id: "c986d1a589b54267837dc231b199cd7a",
    title: "The kubelet and containerd use different cgroup drivers",
    meaning: "One of them creates cgroups itself (cgroupfs), the other one asks systemd for them. \
              The kubelet starts, but every pod fails, because the container runtime refuses the \
              cgroup names that the kubelet chooses.",
    signs: "The kubelet's cgroupDriver and SystemdCgroup in containerd's configuration do not \
            match.",
    remedy: "kubepods-repair changes neither setting.",
    by_hand: "Set SystemdCgroup in /var/snap/microk8s/current/args/containerd-template.toml to \
              true if the kubelet uses the systemd driver, or to false if it uses cgroupfs. Or \
              change the kubelet's --cgroup-driver. Then restart MicroK8s.",
    threads: &[],
    does: "reports the setting to change",
    nature: Nature::Fault,
};

pub(super) fn left_behind(case: &Case) -> Option<Finding> {
    let other = case.tree.other.as_ref()?;
    let location = case.at(&other.kubepods);
    Some(judge_other(other, location, case.layout.driver, case.terms))
}

/// The tree of the driver that the kubelet used before. This kubelet does not see the processes in
/// it.
pub(super) fn judge_other(
    other: &OtherTree,
    location: Location,
    now: Driver,
    terms: Terms,
) -> Finding {
    if other.populated {
        let effect = "The kubelet starts but does not see these processes. Pods may run twice and \
                      exceed their limits";
        let evidence =
            format!("Processes run in the cgroup tree of the other driver; the kubelet uses {now}");
        let remedy = Remedy::run(
            "If other nodes can run the pods, drain this node. Then stop MicroK8s with all its \
             containers and start it again. A reboot has the same effect",
            ["microk8s stop", "microk8s start"],
        );
        return DRIVER_CHANGED.finding(Impact::degraded(effect), location, evidence, remedy);
    }
    let remedy = if terms.occasion == Occasion::PreStart && !other.kubelet_runs {
        Remedy::step(Step::RemoveTree(other.kubepods.clone()))
    } else {
        Remedy::tell("Nothing to do. kubepods-repair removes it at the next start of kubelite")
    };
    let impact = Impact::notice("The kubelet does not use this tree");
    let evidence =
        format!("An empty cgroup tree of the other driver exists; the kubelet uses {now}");
    DRIVER_CHANGED.finding(impact, location, evidence, remedy)
}

pub(super) fn diagnose(settings: &Settings) -> Option<Finding> {
    let containerd = settings.containerd.as_ref()?;
    let (kubelet, origin) = (settings.driver.value, &settings.driver.origin);
    if containerd.driver == kubelet {
        return None;
    }
    let unless = if containerd.is_second {
        ""
    } else {
        ". If containerd was replaced by version 2 or later, a kubelet from 1.31 on takes \
         containerd's driver, and there is no mismatch"
    };
    let evidence = format!(
        "containerd uses the {} driver, the kubelet uses {kubelet} ({origin}){unless}",
        containerd.driver
    );
    let effect = "The kubelet starts, but no pod does: the container runtime refuses the cgroup \
                  names that the kubelet chooses";
    let words = format!(
        "Set SystemdCgroup = {} in /var/snap/microk8s/current/args/containerd-template.toml, or \
         set the kubelet's --cgroup-driver to {}. Then restart MicroK8s",
        kubelet == Driver::Systemd,
        containerd.driver
    );
    let remedy = Remedy::run(words, ["snap restart microk8s"]);
    let location = Location::File(containerd.path.clone());
    Some(DRIVER_MISMATCH.finding(Impact::degraded(effect), location, evidence, remedy))
}
