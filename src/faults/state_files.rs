//! The kubelet's state files: damaged, or written under another policy.
//!
//! Rests on `pkg/kubelet/checkpointmanager` (a file is written whole, as one line of JSON) and on
//! the managers that use it: `cm/cpumanager/state`, `cm/memorymanager/state`, `allocation/state`,
//! `cm/dra/state`. The kubelet reads them before it looks at cgroups and whether or not it makes
//! groups for QoS classes, so this is judged in every mode. It dies of one that is damaged, and
//! makes one that is missing anew. `device-plugins/kubelet_internal_checkpoint` is not here: the
//! kubelet goes on without it.

use serde_json::Value;

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy};
use crate::faults::terms::{Learned, Occasion, Terms};
use crate::host::Host;
use crate::host::state_files::{CPU_MANAGER, MEMORY_MANAGER, StateFile};
use crate::kubelet::microk8s::Version;
use crate::kubelet::{Settings, Sourced};
use crate::repair::step::Step;
use crate::root::keep;

pub(super) const FAULTS: &[&Fault] = &[&CHECKPOINT_DAMAGED, &CHECKPOINT_DIFFERS];

pub(crate) static CHECKPOINT_DAMAGED: Fault = Fault {
    name: "checkpoint-damaged",
    message_id: "d0701bf477f04afe914eb674e54954fc",
    title: "A state file of the kubelet is damaged",
    meaning: "The kubelet keeps what it has assigned to containers in small files below its root \
              directory (cpu_manager_state, memory_manager_state and others). One is empty, cut \
              short or filled with NUL bytes, as a power cut may leave it, and the kubelet dies of \
              it at every start (\"could not restore state from checkpoint\").",
    signs: "The file is there and is not whole JSON.",
    remedy: "Before the kubelet's start, and while no container runs, kubepods-repair renames the \
             file to NAME.damaged-BOOT-ID; the kubelet then begins a new one. It deletes \
             nothing.",
    by_hand: "Stop the node's containers, delete or rename the file that is named, start kubelite.",
    threads: &[
        "kubernetes/kubernetes#84783",
        "kubernetes/kubernetes#135711",
    ],
    does: "renames it before the kubelet's start, while no container of MicroK8s runs",
    nature: Nature::Fault,
};

pub(crate) static CHECKPOINT_DIFFERS: Fault = Fault {
    name: "checkpoint-differs",
    message_id: "ad2da61f6ef04c4c833a090caa016d2d",
    title: "A state file of the kubelet belongs to another policy",
    meaning: "The kubelet was told to use another CPU or memory manager policy than the one its \
              state file was written under, and refuses to start.",
    signs: "The policy in cpu_manager_state or memory_manager_state is not the one in the \
            kubelet's settings.",
    remedy: "kubepods-repair leaves it alone: it records what running containers were given.",
    by_hand: "Drain the node, stop its containers and delete the file, or put the old policy back.",
    threads: &[],
    does: "reports the file to remove",
    nature: Nature::Fault,
};

/// The first kubelet that reads a file without being asked to.
const SINCE: [(&str, Version); 5] = [
    (CPU_MANAGER, Version(1, 20)),
    (MEMORY_MANAGER, Version(1, 22)),
    ("allocated_pods_state", Version(1, 33)),
    ("actuated_pods_state", Version(1, 33)),
    ("dra_manager_state", Version(1, 34)),
];

pub(super) fn diagnose(
    settings: &Settings,
    host: &Host,
    terms: Terms,
    learned: &Learned,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &host.state_files {
        match policy(file) {
            Err(reason) => {
                let lives = containers_live(host, learned);
                findings.push(damaged(host, terms, file, reason, lives));
            }
            Ok(policy) => findings.extend(differs(settings, file, &policy)),
        }
    }
    findings
}

/// Whether it matters if a container runs: a damaged file records what it uses.
pub fn asks_for_containers(host: &Host) -> bool {
    host.state_files.iter().any(|file| policy(file).is_err())
}

/// The policy that a file was written under, empty where it names none; why the kubelet cannot use
/// the file, without a full stop, where it cannot.
fn policy(file: &StateFile) -> Result<String, String> {
    let text = &file.text;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.starts_with('\0') {
        return Err("it is filled with NUL bytes".to_owned());
    }
    let no_json = |error: String| format!("it is no JSON: {error}");
    if let Some(error) = keep::known_fault(text) {
        return Err(no_json(error.to_string()));
    }
    let value = serde_json::from_str(text).map_err(|error| no_json(error.to_string()))?;
    let Value::Object(fields) = value else {
        return Err("it is JSON, but no object".to_owned());
    };
    let policy = fields.get("policyName").and_then(Value::as_str);
    let policy = policy.unwrap_or_default();
    if policy.is_empty() && matches!(file.name, CPU_MANAGER | MEMORY_MANAGER) {
        return Err("it names no policy".to_owned());
    }
    if fields.is_empty() {
        return Err("it is an empty object".to_owned());
    }
    Ok(policy.to_owned())
}

fn damaged(
    host: &Host,
    terms: Terms,
    file: &StateFile,
    reason: String,
    containers_live: bool,
) -> Finding {
    let since = SINCE.into_iter().find(|(name, _)| *name == file.name);
    let is_read = |version: Version| since.is_none_or(|(_, since)| version >= since);
    let impact = if host.version.is_none_or(is_read) {
        Impact::fatal(
            "the kubelet dies of it (\"could not restore state from checkpoint\") before it looks \
             at cgroups",
        )
    } else {
        Impact::notice("this version of the kubelet does not read it")
    };
    let path = file.path.display();
    let remedy = if terms.occasion != Occasion::PreStart {
        Remedy::tell(format!(
            "the start of the kubelet's service sets it aside once no container runs; by hand: rm \
             {path}"
        ))
    } else if containers_live {
        Remedy::tell(format!(
            "containers are running whose resources it records: drain the node, stop them, then rm \
             {path}"
        ))
    } else {
        Remedy::Steps(vec![Step::SetAside {
            file: file.path.clone(),
            boot_id: host.boot.id.clone(),
        }])
    };
    let location = Location::File(file.path.clone());
    CHECKPOINT_DAMAGED.finding(impact, location, reason, remedy)
}

/// Whether a container lives: below kubepods, of this driver or the other, or with its group
/// elsewhere.
fn containers_live(host: &Host, learned: &Learned) -> bool {
    let of_tree = host.tree.as_ref().and_then(|tree| tree.other.as_ref());
    let of_v1 = host.v1.as_ref().and_then(|v1| v1.other.as_ref());
    learned.containers_run || of_tree.or(of_v1).is_some_and(|other| other.populated)
}

fn differs(settings: &Settings, file: &StateFile, written: &str) -> Option<Finding> {
    let Sourced {
        value: wanted,
        origin,
        ..
    } = match file.name {
        CPU_MANAGER => &settings.cpu_manager_policy,
        MEMORY_MANAGER => &settings.memory_manager_policy,
        _ => return None,
    };
    if written == wanted {
        return None;
    }
    let evidence = format!(
        "it was written under the policy {written:?}, and the kubelet is told {wanted:?} ({origin})"
    );
    let impact = Impact::fatal("the kubelet refuses a state of another policy and does not start");
    let remedy = Remedy::tell(format!(
        "drain the node, stop its containers, then rm {}",
        file.path.display()
    ));
    let location = Location::File(file.path.clone());
    Some(CHECKPOINT_DIFFERS.finding(impact, location, evidence, remedy))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::state_files;

    /// What kubelets write under their default policies.
    const HEALTHY: [(&str, &str); 3] = [
        (
            CPU_MANAGER,
            r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#,
        ),
        (
            MEMORY_MANAGER,
            r#"{"policyName":"None","machineState":{},"checksum":4236770233}"#,
        ),
        (
            "allocated_pods_state",
            r#"{"data":"{\"entries\":{}}","checksum":1057365947}"#,
        ),
    ];

    fn policy_of(name: &'static str, text: &str) -> Result<String, String> {
        let (path, text) = (PathBuf::new(), text.to_owned());
        policy(&StateFile { name, path, text })
    }

    #[test]
    fn a_file_is_whole_or_damaged_at_every_length() {
        for (name, text) in HEALTHY {
            assert!(policy_of(name, text).is_ok(), "{text}");
            for length in 0..text.len() {
                let cut = policy_of(name, &text[..length]);
                assert!(cut.is_err(), "{text} cut to {length}");
            }
        }
    }

    #[test]
    fn what_parses_and_still_kills_the_kubelet() {
        for text in [
            "{}",
            "null",
            "[]",
            "5",
            "\0\0\0",
            "{\"policyName\":\"\"}",
            "{\"policyName\":\"none\"}\0\0",
        ] {
            assert!(policy_of(CPU_MANAGER, text).is_err(), "{text:?}");
        }
        assert!(policy_of("allocated_pods_state", "{}").is_err());
    }

    #[test]
    fn a_capture_keeps_what_is_wrong_and_not_what_it_is_wrong_in() {
        for text in [
            "SECRET",
            "{\"policyName\":\"SECRET",
            "{\"policyName\":\"none\",\"SECRET\":\"é\\u00e9SECRET\\n\",\n\"a\":[1,tru SECRET]}",
            "{\"a\":\"SECRET\\q\"}",
            "{\"a\":\"SECRET\u{1}SECRET\"}",
            "{\"a\":01SECRET}",
            "{\"a\":\"SECRET\"}SECRET",
            "{\"SECRET\":\"b\" SECRET",
            "[\"SECRET\"]",
            "\0\0SECRET",
            "",
        ] {
            let kept = String::from_utf8(state_files::keep(text.as_bytes())).unwrap();
            let (of_kept, of_text) = (policy_of(CPU_MANAGER, &kept), policy_of(CPU_MANAGER, text));
            assert_eq!(of_kept, of_text, "{text:?} becomes {kept:?}");
            assert!(!kept.contains("SECRET"), "{kept:?}");
        }
        for (_, text) in HEALTHY {
            assert_eq!(state_files::keep(text.as_bytes()), text.as_bytes());
        }
    }
}
