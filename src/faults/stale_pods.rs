//! Groups of pods that are gone: without a process, and without the directory that the kubelet
//! keeps for as long as it cares for the pod.

use std::rc::Rc;

use crate::faults::finding::count;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy, Step, Terms};
use crate::host::pods::{PodGroup, PodGroups};

pub(super) const FAULTS: &[&Fault] = &[&STALE_POD_GROUPS];

pub(crate) static STALE_POD_GROUPS: Fault = Fault {
    name: "stale-pod-groups",
    message_id: "0c06dd8f03174b9dbf39ed93bcd5789e",
    title: "Groups of pods that are no more",
    meaning: "Pod groups without a process anywhere below them, whose pods have no directory under \
              the kubelet's root directory any more. The kubelet clears them away one by one while \
              it should start pods.",
    signs: "A group named after a pod below kubepods is empty, and the kubelet's pods/ holds no \
            directory of this pod.",
    remedy: "kubepods-repair removes them when it runs before the kubelet's start. By hand it \
             leaves them: a running kubelet makes a pod's group before its directory.",
    by_hand: "Nothing: the next start of kubelite's service removes them.",
    threads: &[],
    does: "removes them before the kubelet's start",
    nature: Nature::Fault,
};

/// Those that fail both tests of life. They can be many thousands, and finding, plan and report
/// speak of the same ones.
pub fn stale(pods: &PodGroups) -> Rc<[PodGroup]> {
    let stale = pods.groups.iter().filter(|pod| pod.is_empty());
    stale.cloned().collect()
}

/// While a kubelet runs, a pod group without a directory may be one that is being born.
pub(super) fn diagnose(
    pods: &PodGroups,
    stale: &Rc<[PodGroup]>,
    terms: Terms,
    location: Location,
) -> Option<Finding> {
    if let Some(reason) = &pods.unknown {
        let groups = count(pods.groups.len(), "pod group", "pod groups");
        let evidence =
            format!("there are {groups}, and whether any is stale cannot be known: {reason}");
        let impact = Impact::notice("the kubelet removes stale pod groups itself, one by one");
        let remedy =
            Remedy::tell("run kubepods-repair as root, or nothing: the kubelet looks after them");
        return Some(STALE_POD_GROUPS.finding(impact, location, evidence, remedy));
    }
    if stale.is_empty() || pods.kubelet_runs {
        return None;
    }
    let groups = count(stale.len(), "pod group has", "pod groups have");
    let directory = pods.directory.display();
    let evidence = format!("{groups} neither a process nor a directory in {directory}");
    let impact = Impact::notice("the kubelet removes them one by one while it should start pods");
    let remedy = if terms.may_remove(pods) {
        Remedy::step(Step::RemovePods(stale.clone()))
    } else {
        Remedy::tell("nothing to do: the next start of the kubelet's service removes them")
    };
    Some(STALE_POD_GROUPS.finding(impact, location, evidence, remedy))
}
