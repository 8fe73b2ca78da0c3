//! Groups of deleted pods: they hold no process, and the kubelet no longer keeps a directory for
//! the pod.

use crate::faults::finding::count;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy, Step, Terms};
use crate::host::pods::PodGroups;

pub(super) const FAULTS: &[&Fault] = &[&STALE_POD_GROUPS];

pub(crate) static STALE_POD_GROUPS: Fault = Fault {
    name: "stale-pod-groups",
    message_id: "0c06dd8f03174b9dbf39ed93bcd5789e",
    title: "Stale cgroups of deleted pods still exist",
    meaning: "A stale pod cgroup contains no process, and the kubelet's root directory no longer \
              contains a directory of its pod. The kubelet removes stale cgroups one by one after \
              its start, while it has pods to start.",
    signs: "A cgroup below kubepods that is named after a pod is empty, and the kubelet's \
            directory pods/ contains no directory of this pod.",
    remedy: "kubepods-repair removes them when it runs before the kubelet starts. When it is run \
             by hand, it keeps them: a running kubelet creates a pod's cgroup before the pod's \
             directory, so such a cgroup may belong to a new pod.",
    by_hand: "Nothing. The next start of kubelite removes them.",
    threads: &[],
    does: "removes them before the kubelet starts",
    nature: Nature::Fault,
};

/// While a kubelet runs, a pod group without a directory may belong to a pod that is being created.
pub(super) fn diagnose(pods: &PodGroups, terms: Terms, location: Location) -> Option<Finding> {
    if let Some(reason) = &pods.unknown {
        let groups = count(pods.living.len(), "pod cgroup exists", "pod cgroups exist");
        let evidence =
            format!("{groups}, but it is unknown whether any of them is stale: {reason}");
        let impact = Impact::notice("The kubelet removes stale pod cgroups itself, one by one");
        let remedy = Remedy::tell("Nothing to do, or run kubepods-repair as root to find out");
        return Some(STALE_POD_GROUPS.finding(impact, location, evidence, remedy));
    }
    let stale = &pods.lifeless;
    if stale.is_empty() || pods.kubelet_runs {
        return None;
    }
    let groups = count(stale.len(), "pod cgroup has", "pod cgroups have");
    let directory = pods.directory.display();
    let evidence = format!("{groups} neither a process nor a directory in {directory}");
    let impact = Impact::notice(
        "Such cgroups belong to deleted pods. The kubelet removes them one by one after its start",
    );
    let remedy = if terms.may_remove(pods) {
        Remedy::step(Step::RemovePods(stale.clone()))
    } else {
        Remedy::tell("Nothing to do. kubepods-repair removes them at the next start of kubelite")
    };
    Some(STALE_POD_GROUPS.finding(impact, location, evidence, remedy))
}
