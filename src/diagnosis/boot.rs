//! What the administrator may want to know of this boot; nothing is ever decided by it.

use std::path::PathBuf;

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::Remedy;
use crate::diagnosis::{Finding, Impact, Location, Occasion, Terms};
use crate::host::Host;
use crate::host::boot::{MARKER, Shutdown};
use crate::kubelet::microk8s::MICROK8S;

pub(super) fn diagnose(host: &Host, terms: Terms) -> Vec<Finding> {
    [unclean(host, terms), upgraded(host)]
        .into_iter()
        .flatten()
        .collect()
}

/// Logged once a boot.
fn unclean(host: &Host, terms: Terms) -> Option<Finding> {
    if terms.occasion != Occasion::Boot || host.boot.previous_shutdown() != Shutdown::Unclean {
        return None;
    }
    let evidence =
        "the boot before this one never reached a shutdown: power loss, crash or reset".to_owned();
    let impact = Impact::notice(
        "files may be torn and services may start in another order; the cgroup tree itself begins \
         anew at every boot",
    );
    let how = "nothing to do: what the power cut damaged is reported on its own".to_owned();
    Some(Finding::new(
        Fault::UncleanShutdown,
        impact,
        Location::File(PathBuf::from(MARKER)),
        evidence,
        Remedy::Tell(how),
    ))
}

fn upgraded(host: &Host) -> Option<Finding> {
    let before = host.boot.marker.as_ref()?.revision.as_ref()?;
    let now = host.revision.as_ref().filter(|now| *now != before)?;
    let version = host
        .version
        .map_or(String::new(), |version| format!(" ({version})"));
    let evidence =
        format!("MicroK8s was refreshed from revision {before} to {now}{version} since this boot");
    let impact = Impact::notice("groups and processes of the revision before may still be there");
    let how = "reboot when convenient: the cgroup tree then begins anew".to_owned();
    let location = Location::File(PathBuf::from(MICROK8S.current));
    Some(Finding::new(
        Fault::UpgradedSinceBoot,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    ))
}
