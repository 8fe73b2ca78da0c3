//! What the administrator may want to know of this boot; nothing is ever decided by it.

use std::path::PathBuf;

use crate::faults::{Fault, Finding, Impact, Location, Nature, Occasion, Remedy, Terms};
use crate::host::Host;
use crate::kubelet::microk8s::MICROK8S;
use crate::state::{MARKER, Notes, Shutdown};

pub(super) const FAULTS: &[&Fault] = &[&UNCLEAN_SHUTDOWN, &UPGRADED_SINCE_BOOT];

pub(crate) static UNCLEAN_SHUTDOWN: Fault = Fault {
    name: "unclean-shutdown",
    message_id: "cecb7424099d447c97e9f36467c48d81",
    title: "The boot before this one did not end cleanly",
    meaning: "No shutdown target was reached: the power went, or the machine crashed or was reset. \
              The cgroup tree begins anew at every boot, so it cannot be damaged; files can be, \
              and services may come up in another order than before.",
    signs: "The note in /var/lib/kubepods-repair/boot is of another boot and was never marked as \
            ended.",
    remedy: "Nothing depends on this note. What the power cut left behind is found and told on its \
             own.",
    by_hand: "Nothing.",
    threads: &["canonical/microk8s#4378"],
    does: "notes it",
    nature: Nature::Note,
};

pub(crate) static UPGRADED_SINCE_BOOT: Fault = Fault {
    name: "upgraded-since-boot",
    message_id: "d44b62fe9c7143c7ac22be63dcf2e553",
    title: "MicroK8s was refreshed since this boot",
    meaning: "The active revision is not the one that this boot began with. What the revision \
              before had made in the cgroup tree may still be there.",
    signs: "The revision noted at boot is not the one that /var/snap/microk8s/current points to.",
    remedy: "Nothing depends on this note.",
    by_hand: "Reboot when convenient.",
    threads: &[],
    does: "notes it",
    nature: Nature::Note,
};

pub(super) fn diagnose(host: &Host, notes: &Notes, terms: Terms) -> Vec<Finding> {
    let unclean = unclean(notes, terms.occasion);
    unclean.into_iter().chain(upgraded(host, notes)).collect()
}

/// That the boot before this one ended without a shutdown. Logged once a boot.
pub fn unclean(notes: &Notes, occasion: Occasion) -> Option<Finding> {
    if occasion != Occasion::Boot || notes.previous_shutdown() != Shutdown::Unclean {
        return None;
    }
    let evidence = "the boot before this one never reached a shutdown: power loss, crash or reset";
    let effect = "files may be torn and services may start in another order; the cgroup tree \
                  itself begins anew at every boot";
    let location = Location::File(PathBuf::from(MARKER));
    let remedy = Remedy::tell("nothing to do: what the power cut damaged is reported on its own");
    Some(UNCLEAN_SHUTDOWN.finding(Impact::notice(effect), location, evidence, remedy))
}

fn upgraded(host: &Host, notes: &Notes) -> Option<Finding> {
    let before = notes.marker.as_ref()?.revision.as_ref()?;
    let now = host.revision.as_ref().filter(|now| *now != before)?;
    let version = host.version.map(|version| format!(" ({version})"));
    let version = version.unwrap_or_default();
    let evidence =
        format!("MicroK8s was refreshed from revision {before} to {now}{version} since this boot");
    let impact = Impact::notice("groups and processes of the revision before may still be there");
    let location = Location::File(PathBuf::from(MICROK8S.current));
    let remedy = Remedy::tell("reboot when convenient: the cgroup tree then begins anew");
    Some(UPGRADED_SINCE_BOOT.finding(impact, location, evidence, remedy))
}
