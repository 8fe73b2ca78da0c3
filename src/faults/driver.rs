//! The kubelet's cgroup driver: containerd has to use the same, or no pod starts; and what the
//! other one left behind.

use crate::faults::{
    Case, Fault, Finding, Impact, Location, Nature, Occasion, Remedy, Step, Terms,
};
use crate::host::OtherTree;
use crate::kubelet::{Driver, Settings};

pub(super) const FAULTS: &[&Fault] = &[&DRIVER_CHANGED, &DRIVER_MISMATCH];

pub(crate) static DRIVER_CHANGED: Fault = Fault {
    name: "driver-changed",
    message_id: "58ab17f519cb4e2893289f516416c98c",
    title: "The tree of the other cgroup driver is left",
    meaning: "The kubelet keeps its pods in kubepods (cgroupfs) or in kubepods.slice (systemd), \
              and was told to use the other driver than before. Pods in the old tree are beyond \
              the reach of this kubelet; an empty old tree disturbs nobody.",
    signs: "A kubepods of the driver that the kubelet does not use is there.",
    remedy: "kubepods-repair removes the old tree before the kubelet's start if no process lives \
             anywhere in it and no kubelet runs. Otherwise it leaves it alone.",
    by_hand: "Drain the node and stop its containers (microk8s stop ends them all), or reboot: \
              cgroups live in memory.",
    threads: &[],
    does: "removes the other driver's tree before the kubelet's start, if it is empty",
    nature: Nature::Fault,
};

pub(crate) static DRIVER_MISMATCH: Fault = Fault {
    name: "driver-mismatch",
    message_id: "c986d1a589b54267837dc231b199cd7a",
    title: "The kubelet and containerd use different cgroup drivers",
    meaning: "One makes its cgroups itself (cgroupfs), the other through systemd. The kubelet \
              starts, and every pod fails, since the runtime refuses the name that the kubelet \
              gives a container's group.",
    signs: "The kubelet's cgroupDriver and SystemdCgroup in containerd's configuration do not say \
            the same.",
    remedy: "kubepods-repair leaves both alone.",
    by_hand: "Make SystemdCgroup in /var/snap/microk8s/current/args/containerd-template.toml and \
              the kubelet's --cgroup-driver say the same, then restart MicroK8s.",
    threads: &[],
    does: "reports the setting to change",
    nature: Nature::Fault,
};

pub(super) fn left_behind(case: &Case) -> Option<Finding> {
    let other = case.tree.other.as_ref()?;
    let location = case.at(&other.kubepods);
    Some(judge_other(other, location, case.layout.driver, case.terms))
}

/// The tree of the driver that the kubelet used before: this kubelet does not know of what lives
/// in it.
pub(super) fn judge_other(
    other: &OtherTree,
    location: Location,
    now: Driver,
    terms: Terms,
) -> Finding {
    if other.populated {
        let effect = "the kubelet starts and does not see these processes: pods may run twice, and \
                      beyond their limits";
        let evidence = format!(
            "processes live in the tree of the other driver, and the kubelet's driver is {now}"
        );
        let remedy = Remedy::tell(
            "drain the node and stop its containers (microk8s stop ends them all), or reboot it",
        );
        return DRIVER_CHANGED.finding(Impact::degraded(effect), location, evidence, remedy);
    }
    let remedy = if terms.occasion == Occasion::PreStart && !other.kubelet_runs {
        Remedy::step(Step::RemoveTree(other.kubepods.clone()))
    } else {
        Remedy::tell("nothing to do: the next start of the kubelet's service removes it")
    };
    let impact = Impact::notice("no kubelet looks there");
    let evidence =
        format!("the empty tree of the other driver is there, and the kubelet's driver is {now}");
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
        "; a containerd 2, where somebody has put one in, tells a kubelet from 1.31 on what counts"
    };
    let evidence = format!(
        "containerd is told {}, and the kubelet {kubelet} ({origin}){unless}",
        containerd.driver
    );
    let effect = "the kubelet starts and no pod does: each names the group of a container in a way \
                  the other refuses";
    let remedy = Remedy::tell(format!(
        "set SystemdCgroup in args/containerd-template.toml to what fits {kubelet}, or change the \
         kubelet's driver"
    ));
    let location = Location::File(containerd.path.clone());
    Some(DRIVER_MISMATCH.finding(Impact::degraded(effect), location, evidence, remedy))
}
