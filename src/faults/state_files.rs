//! The kubelet's state files: damaged, or written under another policy.
//!
//! Rests on `pkg/kubelet/checkpointmanager` (a file is written whole, as one line of JSON) and on
//! the managers that use it: `cm/cpumanager/state`, `cm/memorymanager/state`, `allocation/state`,
//! `cm/dra/state`. The kubelet reads them before it looks at cgroups and whether or not it makes
//! groups for QoS classes, so this is judged in every mode. It dies of one that is damaged, and
//! makes one that is missing anew. `device-plugins/kubelet_internal_checkpoint` is not here: the
//! kubelet goes on without it.

use serde::Deserialize;
use serde_json::Value;

use crate::faults::checksum::{self, Checksum, CpuState, MemoryState};
use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy};
use crate::faults::terms::{Learned, Occasion, Terms};
use crate::host::Host;
use crate::host::partitions::Cpus;
use crate::host::state_files::{CPU_MANAGER, MEMORY_MANAGER, POD_STATUS, StateFile};
use crate::kubelet::microk8s::Version;
use crate::kubelet::{Settings, flag_values};
use crate::repair::step::Step;
use crate::root::keep;

pub(super) const FAULTS: &[&Fault] = &[
    &CHECKPOINT_DAMAGED,
    &CHECKPOINT_DIFFERS,
    &CHECKPOINT_OUTDATED,
];

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

pub(crate) static CHECKPOINT_OUTDATED: Fault = Fault {
    name: "checkpoint-outdated",
    message_id: "f70c6676100f46829f281ed660897e06",
    title: "A state file of the kubelet is about another machine",
    meaning: "The CPU manager's static policy and the memory manager's Static policy write down \
              which CPUs and how much memory there are. When that is not what the machine has, \
              the kubelet refuses the file and dies before it looks at cgroups. It is so after a \
              power cut between the two writes that giving a CPU to a container takes, when a \
              virtual machine was resized, when a CPU is offline, and when a new kernel or \
              firmware leaves some megabytes more or less.",
    signs: "The CPUs in cpu_manager_state are not those in /sys/devices/system/cpu/online, or a \
            reserved one is not in its default set; or the memory in memory_manager_state is not \
            that in /sys/devices/system/node.",
    remedy: "Before the kubelet's start, and while no container runs, kubepods-repair renames the \
             file to NAME.damaged-BOOT-ID; the kubelet then begins a new one. It deletes nothing.",
    by_hand: "Drain the node, stop MicroK8s, remove the file that is named, and start MicroK8s.",
    does: "renames it before the kubelet's start, while no container of MicroK8s runs",
    threads: &[
        "kubernetes/kubernetes#125648",
        "kubernetes/kubernetes#136604",
        "kubernetes/kubernetes#124066",
        "kubernetes/kubernetes#131253",
    ],
    nature: Nature::Fault,
};

/// What the kubelet makes of a file that it cannot use.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// It cannot parse the file, or does not trust it: why, without a full stop.
    Damaged(String),
    /// It was written for another machine: how they differ, without a full stop.
    Outdated(String),
    /// It was written under this other policy.
    OtherPolicy(String),
}

pub(super) fn diagnose(
    settings: &Settings,
    host: &Host,
    terms: Terms,
    learned: &Learned,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &host.state_files {
        findings.extend(match trouble(settings, host, file) {
            Some(Trouble::OtherPolicy(written)) => differs(settings, file, &written),
            Some(trouble) => {
                let lives = containers_live(host, learned);
                unusable(settings, host, terms, file, trouble, lives)
            }
            None => None,
        });
    }
    findings
}

/// Whether it matters if a container runs: a file that would be set aside records what it uses.
pub fn asks_for_containers(settings: &Settings, host: &Host) -> bool {
    host.state_files.iter().any(|file| {
        let trouble = trouble(settings, host, file);
        matches!(trouble, Some(Trouble::Damaged(_) | Trouble::Outdated(_)))
    })
}

/// Whether this kubelet reads the file, by its version and gates; where its version is not known,
/// whether any does without being asked to.
fn is_read(settings: &Settings, version: Option<Version>, name: &str) -> bool {
    let gate = |name: &str| settings.feature_gates.get(name).map(|gate| gate.value);
    let is_at_least = |minor: u32| version.is_none_or(|version| version >= Version(1, minor));
    let scaling = gate("InPlacePodVerticalScaling");
    match name {
        MEMORY_MANAGER => is_at_least(22) || gate("MemoryManager") == Some(true),
        POD_STATUS => {
            let is_old = version.is_some_and(|version| version < Version(1, 33));
            is_old && is_at_least(27) && scaling == Some(true)
        }
        "allocated_pods_state" | "actuated_pods_state" => is_at_least(33) && scaling != Some(false),
        "dra_manager_state" => match gate("DynamicResourceAllocation") {
            Some(is_on) => is_on,
            None => is_at_least(34),
        },
        _ => true,
    }
}

fn trouble(settings: &Settings, host: &Host, file: &StateFile) -> Option<Trouble> {
    let fields = match parse(file) {
        Ok(fields) => fields,
        Err(reason) => return Some(Trouble::Damaged(reason)),
    };
    if !is_read(settings, host.version, file.name) {
        return None;
    }
    match file.name {
        CPU_MANAGER => cpu_trouble(settings, host, &fields),
        MEMORY_MANAGER => memory_trouble(settings, host, &fields),
        "dra_manager_state" => distrusted(checksum::of_claims(&fields)),
        _ => distrusted(checksum::of_pods(&fields)),
    }
}

fn distrusted(checksum: Checksum) -> Option<Trouble> {
    let reason = "its checksum does not match its content";
    (checksum == Checksum::Wrong).then(|| Trouble::Damaged(reason.to_owned()))
}

/// The file as an object; why the kubelet cannot parse it, without a full stop, where it cannot.
fn parse(file: &StateFile) -> Result<Value, String> {
    let text = &file.text;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.starts_with('\0') {
        return Err("it is filled with NUL bytes".to_owned());
    }
    let no_json = |error: String| format!("it is no JSON: {error}");
    if let Some(error) = keep::known_fault(text) {
        return Err(no_json(error.to_owned()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| no_json(error.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err("it is JSON, but no object".to_owned());
    };
    // From 1.37 on it is among the `data`.
    let has_policy = policy(&value).is_some() || fields.contains_key("data");
    if !has_policy && matches!(file.name, CPU_MANAGER | MEMORY_MANAGER) {
        return Err("it names no policy".to_owned());
    }
    if fields.is_empty() {
        return Err("it is an empty object".to_owned());
    }
    Ok(value)
}

fn policy(fields: &Value) -> Option<&str> {
    let policy = fields.get("policyName").and_then(Value::as_str);
    policy.filter(|policy| !policy.is_empty())
}

/// Rests on `restoreState` in `cm/cpumanager/state/state_checkpoint.go` and `validateState` in
/// `cm/cpumanager/policy_static.go`.
fn cpu_trouble(settings: &Settings, host: &Host, fields: &Value) -> Option<Trouble> {
    let state = CpuState::deserialize(fields).ok();
    let checksum = state.as_ref().map_or(Checksum::Unknown, CpuState::checksum);
    if let Some(trouble) = distrusted(checksum) {
        return Some(trouble);
    }
    let wanted = &settings.cpu_manager_policy.value;
    let written = policy(fields)?;
    if written != wanted {
        return Some(Trouble::OtherPolicy(written.to_owned()));
    }
    let state = state?;
    let Some(default) = Cpus::parse_strictly(&state.default) else {
        let reason = format!("its defaultCpuSet {:?} is no list of CPUs", state.default);
        return Some(Trouble::Damaged(reason));
    };
    if wanted != "static" {
        return None;
    }
    if default.is_empty() {
        let why = "its default set of CPUs is empty, though containers have been given some";
        return (!state.entries.is_empty()).then(|| Trouble::Outdated(why.to_owned()));
    }
    let reserved = settings.reserved_cpus.value.as_deref().unwrap_or_default();
    let reserved = Cpus::parse(reserved);
    let strict = settings.cpu_manager_options.get("strict-cpu-reservation");
    let is_strict =
        strict.is_some_and(|option| flag_values::parse_bool(&option.value) == Some(true));
    // Of an amount that is reserved, only the kubelet knows on which CPUs.
    if is_strict && reserved.is_empty() {
        return None;
    }
    let outside = reserved.minus(&default);
    if is_strict && outside != reserved {
        return Some(Trouble::Outdated(format!(
            "strictly reserved CPUs (of {reserved}) are in its default set ({default})"
        )));
    }
    if !is_strict && !outside.is_empty() {
        return Some(Trouble::Outdated(format!(
            "not all reserved CPUs ({reserved}) are in its default set ({default})"
        )));
    }
    let mut known = default;
    for assigned in state
        .entries
        .values()
        .flat_map(|containers| containers.values())
    {
        known.extend(&Cpus::parse(assigned));
    }
    let online = host.node.online_cpus.as_ref()?;
    let usable = if is_strict {
        online.minus(&reserved)
    } else {
        online.clone()
    };
    (known != usable).then(|| {
        Trouble::Outdated(format!(
            "it is about the CPUs {known}, and {usable} are online"
        ))
    })
}

/// Rests on `Start` in `cm/memorymanager/policy_static.go` (`areMachineStatesEqual`).
fn memory_trouble(settings: &Settings, host: &Host, fields: &Value) -> Option<Trouble> {
    let state = MemoryState::deserialize(fields).ok();
    let checksum = state
        .as_ref()
        .map_or(Checksum::Unknown, MemoryState::checksum);
    let accepts_none = host.version.is_none_or(|version| version >= Version(1, 36));
    if checksum == Checksum::None && !accepts_none {
        return distrusted(Checksum::Wrong);
    }
    if let Some(trouble) = distrusted(checksum) {
        return Some(trouble);
    }
    let wanted = &settings.memory_manager_policy.value;
    let written = policy(fields)?;
    if written != wanted {
        return Some(Trouble::OtherPolicy(written.to_owned()));
    }
    let state = state?;
    // A state without nodes is filled at the start.
    if wanted != "Static" || state.nodes.is_empty() || host.node.memory.is_empty() {
        return None;
    }
    let is = &host.node.memory;
    if !state.nodes.keys().eq(is.keys()) {
        return Some(Trouble::Outdated(
            "its NUMA nodes are not those of this machine".to_owned(),
        ));
    }
    for (number, node) in &state.nodes {
        let (was, is) = (node.memory.get("memory")?.total, is.get(number)?);
        if was != *is {
            return Some(Trouble::Outdated(format!(
                "it gives NUMA node {number} {was} bytes of memory, and it has {is}"
            )));
        }
    }
    None
}

fn unusable(
    settings: &Settings,
    host: &Host,
    terms: Terms,
    file: &StateFile,
    trouble: Trouble,
    containers_live: bool,
) -> Option<Finding> {
    let (fault, evidence, sentence) = match trouble {
        Trouble::Damaged(reason) => (
            &CHECKPOINT_DAMAGED,
            reason,
            "the kubelet dies of it (\"could not restore state from checkpoint\") before it looks \
             at cgroups",
        ),
        Trouble::Outdated(difference) if file.name == MEMORY_MANAGER => (
            &CHECKPOINT_OUTDATED,
            difference,
            "the kubelet dies of it (\"the expected machine state is different from the real \
             one\") before it looks at cgroups",
        ),
        Trouble::Outdated(difference) => (
            &CHECKPOINT_OUTDATED,
            difference,
            "the kubelet dies of it (\"current set of available CPUs … doesn't match with CPUs \
             in state\", \"not all reserved cpus … are present\") before it looks at cgroups",
        ),
        Trouble::OtherPolicy(_) => return None,
    };
    let impact = if is_read(settings, host.version, file.name) {
        Impact::fatal(sentence)
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
    Some(fault.finding(impact, location, evidence, remedy))
}

/// Whether a container lives: below kubepods, of this driver or the other, or with its group
/// elsewhere.
fn containers_live(host: &Host, learned: &Learned) -> bool {
    let of_tree = host.tree.as_ref().and_then(|tree| tree.other.as_ref());
    let of_v1 = host.v1.as_ref().and_then(|v1| v1.other.as_ref());
    learned.containers_run || of_tree.or(of_v1).is_some_and(|other| other.populated)
}

fn differs(settings: &Settings, file: &StateFile, written: &str) -> Option<Finding> {
    let wanted = match file.name {
        CPU_MANAGER => &settings.cpu_manager_policy,
        MEMORY_MANAGER => &settings.memory_manager_policy,
        _ => return None,
    };
    let evidence = format!(
        "it was written under the policy {written:?}, and the kubelet is told {:?} ({})",
        wanted.value, wanted.origin
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
        let fields = parse(&StateFile { name, path, text })?;
        Ok(policy(&fields).unwrap_or_default().to_owned())
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
