//! The kubelet's state files: damaged, or written under another policy.
//!
//! The kubelet reads them whether or not it makes groups for QoS classes, so this is judged in
//! every mode.

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Finding, Impact, Location, Occasion, Terms};
use crate::host::Host;
use crate::host::checkpoints::{CPU_MANAGER, Checkpoint, Content, MEMORY_MANAGER};
use crate::kubelet::{Settings, Sourced};

pub(super) fn diagnose(settings: &Settings, host: &Host, terms: Terms) -> Vec<Finding> {
    let judge = |checkpoint: &Checkpoint| match &checkpoint.content {
        Content::Damaged(reason) => Some(damaged(host, terms, checkpoint, reason)),
        Content::Whole { policy } => differs(settings, checkpoint, policy.as_deref()?),
    };
    host.checkpoints.iter().filter_map(judge).collect()
}

fn damaged(host: &Host, terms: Terms, checkpoint: &Checkpoint, reason: &str) -> Finding {
    let read = host
        .version
        .is_none_or(|version| version >= checkpoint.kind.since);
    let impact = if read {
        Impact::fatal(
            "the kubelet dies of it (\"could not restore state from checkpoint\") before it looks \
             at cgroups",
        )
    } else {
        Impact::notice("this version of the kubelet does not read it")
    };
    let file = checkpoint.path.clone();
    let remedy = match (terms.occasion, containers_live(host)) {
        (Occasion::PreStart, false) => Remedy::Steps(vec![Step::SetAside {
            file,
            boot_id: host.boot.id.clone(),
        }]),
        (Occasion::PreStart, true) => Remedy::Tell(format!(
            "containers are running whose resources it records: drain the node, stop them, then rm \
             {}",
            file.display()
        )),
        _ => Remedy::Tell(format!(
            "the start of the kubelet's service sets it aside once no container runs; by hand: rm \
             {}",
            file.display()
        )),
    };
    let location = Location::File(checkpoint.path.clone());
    Finding::new(
        Fault::CheckpointDamaged,
        impact,
        location,
        reason.to_owned(),
        remedy,
    )
}

/// Whether a container lives: below kubepods, of this driver or the other, or with its group
/// elsewhere.
fn containers_live(host: &Host) -> bool {
    let of_tree = host.tree.as_ref().and_then(|tree| tree.other.as_ref());
    let of_v1 = host.v1.as_ref().and_then(|v1| v1.other.as_ref());
    host.containers_run || of_tree.or(of_v1).is_some_and(|other| other.populated)
}

fn differs(settings: &Settings, checkpoint: &Checkpoint, written: &str) -> Option<Finding> {
    let Sourced {
        value: wanted,
        origin,
        ..
    } = match checkpoint.kind.name {
        CPU_MANAGER => &settings.cpu_manager_policy,
        MEMORY_MANAGER => &settings.memory_manager_policy,
        _ => return None,
    };
    if written == wanted {
        return None;
    }
    let path = checkpoint.path.clone();
    let evidence = format!(
        "it was written under the policy {written:?}, and the kubelet is told {wanted:?} ({origin})"
    );
    let impact = Impact::fatal("the kubelet refuses a state of another policy and does not start");
    let how = format!(
        "drain the node, stop its containers, then rm {}",
        path.display()
    );
    Some(Finding::new(
        Fault::CheckpointDiffers,
        impact,
        Location::File(path),
        evidence,
        Remedy::Tell(how),
    ))
}
