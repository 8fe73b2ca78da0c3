//! What the administrator may want to know about this boot. No decision depends on it.

use std::path::PathBuf;

use crate::faults::{Fault, Finding, Impact, Location, Nature, Occasion, Remedy, Terms};
use crate::host::Host;
use crate::kubelet::microk8s::MICROK8S;
use crate::state::{MARKER, Notes, Shutdown};

pub(super) const FAULTS: &[&Fault] = &[&UNCLEAN_SHUTDOWN, &UPGRADED_SINCE_BOOT];

pub(crate) static UNCLEAN_SHUTDOWN: Fault = Fault {
    name: "unclean-shutdown",
    message_id: "cecb7424099d447c97e9f36467c48d81",
    title: "The previous boot did not shut down cleanly",
    meaning: "The power failed, or the machine crashed or was reset. Files may be damaged, and \
              services may start in another order than before. The cgroup tree cannot be damaged, \
              since it is empty at every boot.",
    signs: "The marker in /var/lib/kubepods-repair/boot belongs to another boot and was never \
            marked as ended.",
    remedy: "kubepods-repair does nothing. It detects and reports damaged files independently of \
             this note.",
    by_hand: "Nothing.",
    threads: &["canonical/microk8s#4378"],
    does: "notes it",
    nature: Nature::Note,
};

pub(crate) static UPGRADED_SINCE_BOOT: Fault = Fault {
    name: "upgraded-since-boot",
    message_id: "d44b62fe9c7143c7ac22be63dcf2e553",
    title: "MicroK8s was refreshed since the last boot",
    meaning: "The active revision of MicroK8s is not the one that was active when this boot began. \
              Cgroups and processes of the previous revision may still exist.",
    signs: "The revision that was noted at boot is not the one that /var/snap/microk8s/current \
            points to.",
    remedy: "kubepods-repair does nothing.",
    by_hand: "Reboot when convenient.",
    threads: &[],
    does: "notes it",
    nature: Nature::Note,
};

pub(super) fn diagnose(host: &Host, notes: &Notes, terms: Terms) -> Vec<Finding> {
    let unclean = unclean(notes, terms.occasion);
    unclean.into_iter().chain(upgraded(host, notes)).collect()
}

/// How the previous boot ended, if it was not shut down. Reported once per boot.
pub fn unclean(notes: &Notes, occasion: Occasion) -> Option<Finding> {
    if occasion != Occasion::Boot || notes.previous_shutdown() != Shutdown::Unclean {
        return None;
    }
    let evidence = "The previous boot ended without a shutdown: power loss, crash or reset";
    let effect = "Files may be damaged, and services may start in another order";
    let location = Location::File(PathBuf::from(MARKER));
    let remedy = Remedy::tell("Nothing to do. Damaged files are reported separately");
    Some(UNCLEAN_SHUTDOWN.finding(Impact::notice(effect), location, evidence, remedy))
}

fn upgraded(host: &Host, notes: &Notes) -> Option<Finding> {
    let before = notes.marker.as_ref()?.revision.as_ref()?;
    let now = host.revision.as_ref().filter(|now| *now != before)?;
    let version = host.version.map(|version| format!(" ({version})"));
    let version = version.unwrap_or_default();
    let evidence = format!(
        "MicroK8s was refreshed from revision {before} to {now}{version} since the last boot"
    );
    let impact = Impact::notice("Cgroups and processes of the previous revision may still exist");
    let location = Location::File(PathBuf::from(MICROK8S.current));
    let remedy = Remedy::tell("Reboot when convenient");
    Some(UPGRADED_SINCE_BOOT.finding(impact, location, evidence, remedy))
}
