//! The kubelet's state files: damaged, or written under another policy or for another machine.
//!
//! Rests on `pkg/kubelet/checkpointmanager` (a file is written whole, as one line of JSON) and on
//! the managers that use it: `cm/cpumanager/state`, `cm/memorymanager/state`, `allocation/state`,
//! `cm/dra/state`. The kubelet reads the files before it looks at cgroups, with or without QoS
//! cgroups, so they are checked in every mode. It exits if one is damaged, and creates one that is
//! missing. `device-plugins/kubelet_internal_checkpoint` is not here: the kubelet starts without
//! it.

use serde::Deserialize;
use serde_json::Value;

use crate::faults::checksum::{self, Checksum, CpuState, MemoryState};
use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy, shell_word};
use crate::faults::terms::{Learned, Occasion, Terms};
use crate::host::Host;
use crate::host::partitions::Cpus;
use crate::host::state_files::{CPU_MANAGER, MEMORY_MANAGER, POD_STATUS, StateFile};
use crate::kubelet::microk8s::{MICROK8S, Version};
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
    title: "A kubelet state file is damaged",
    meaning: "The kubelet records which CPUs, memory and devices it has assigned to containers. \
              The records are small files in its root directory: cpu_manager_state, \
              memory_manager_state and others. A power cut can leave such a file empty, cut short \
              or filled with NUL bytes. The kubelet then exits at every start, for example with \
              \"could not restore state from checkpoint\".",
    signs: "The file exists, but it is not complete JSON, or its checksum does not match its \
            content.",
    remedy: "Before the kubelet starts, and only while no container runs, kubepods-repair renames \
             the file to NAME.damaged-BOOT-ID. The kubelet then creates a new file. \
             kubepods-repair deletes nothing.",
    by_hand: "If no container is running, restart kubelite: kubepods-repair then renames the file. \
              Otherwise drain the node if other nodes can run its pods, run microk8s stop, which \
              also stops the containers, rename or delete the file, and run microk8s start.",
    threads: &[
        "kubernetes/kubernetes#84783",
        "kubernetes/kubernetes#135711",
    ],
    does: "renames the file before the kubelet starts, if no MicroK8s container runs",
    nature: Nature::Fault,
};

pub(crate) static CHECKPOINT_DIFFERS: Fault = Fault {
    name: "checkpoint-differs",
    message_id: "ad2da61f6ef04c4c833a090caa016d2d",
    title: "A kubelet state file belongs to another policy",
    meaning: "The kubelet's CPU manager or memory manager policy was changed, but its state file \
              was written under the old policy. The kubelet then does not start.",
    signs: "The policy in cpu_manager_state or memory_manager_state is not the one in the \
            kubelet's settings.",
    remedy: "kubepods-repair does not change the file, since it records what running containers \
             use.",
    by_hand: "Drain the node if other nodes can run its pods, run microk8s stop, which also stops \
              the containers, delete the file, and run microk8s start. Or restore the old \
              policy in the kubelet's settings.",
    threads: &[],
    does: "reports the file and the commands that remove it",
    nature: Nature::Fault,
};

pub(crate) static CHECKPOINT_OUTDATED: Fault = Fault {
    name: "checkpoint-outdated",
    message_id: "f70c6676100f46829f281ed660897e06",
    title: "A kubelet state file does not match this machine",
    meaning: "The CPU manager's static policy and the memory manager's Static policy record which \
              CPUs and how much memory the machine has. If the machine has others, the kubelet \
              rejects the file and exits. For the CPUs its error is \"current set of available \
              CPUs … doesn't match with CPUs in state\" or \"not all reserved cpus … are \
              present\", for the memory \"the expected machine state is different from the real \
              one\". This happens when a virtual machine was resized, when a CPU is offline, when \
              a new kernel or firmware leaves some megabytes more or less, when other huge pages \
              are reserved, and after a power cut between the two writes with which the kubelet \
              assigns CPUs to a container.",
    signs: "The CPUs in cpu_manager_state are not those in /sys/devices/system/cpu/online, a \
            reserved CPU is not in its default set, or the memory or the huge pages in \
            memory_manager_state are not those in /sys/devices/system/node.",
    remedy: "Before the kubelet starts, and only while no container runs, kubepods-repair renames \
             the file to NAME.damaged-BOOT-ID. The kubelet then creates a new file. \
             kubepods-repair deletes nothing.",
    by_hand: "If no container is running, restart kubelite: kubepods-repair then renames the file. \
              Otherwise drain the node if other nodes can run its pods, run microk8s stop, which \
              also stops the containers, delete the file, and run microk8s start.",
    does: "renames the file before the kubelet starts, if no MicroK8s container runs",
    threads: &[
        "kubernetes/kubernetes#125648",
        "kubernetes/kubernetes#136604",
        "kubernetes/kubernetes#124066",
        "kubernetes/kubernetes#131253",
    ],
    nature: Nature::Fault,
};

/// The state of claims of devices.
const DRA_MANAGER: &str = "dra_manager_state";

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
        findings.extend(match trouble(settings, host, terms, file) {
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
pub fn asks_for_containers(settings: &Settings, host: &Host, terms: Terms) -> bool {
    host.state_files.iter().any(|file| {
        let trouble = trouble(settings, host, terms, file);
        matches!(trouble, Some(Trouble::Damaged(_) | Trouble::Outdated(_)))
    })
}

/// Whether this kubelet reads the file, by its version and gates. If its version is not known,
/// whether any version reads it by default.
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
        DRA_MANAGER => match gate("DynamicResourceAllocation") {
            Some(is_on) => is_on,
            None => is_at_least(34),
        },
        _ => true,
    }
}

fn trouble(settings: &Settings, host: &Host, terms: Terms, file: &StateFile) -> Option<Trouble> {
    let fields = match parse(file) {
        Ok(fields) => fields,
        Err(reason) => return Some(Trouble::Damaged(reason)),
    };
    if !is_read(settings, host.version, file.name) {
        return None;
    }
    match file.name {
        CPU_MANAGER => cpu_trouble(settings, host, &fields),
        MEMORY_MANAGER => memory_trouble(settings, host, terms, &fields),
        DRA_MANAGER => distrusted(checksum::of_claims(&fields)),
        _ => distrusted(checksum::of_pods(&fields)),
    }
}

fn distrusted(checksum: Checksum) -> Option<Trouble> {
    let reason = "Its checksum does not match its content";
    (checksum == Checksum::Wrong).then(|| Trouble::Damaged(reason.to_owned()))
}

/// The file as an object, or why the kubelet cannot parse it, without a full stop.
fn parse(file: &StateFile) -> Result<Value, String> {
    let text = &file.text;
    if text.is_empty() {
        return Err("The file is empty".to_owned());
    }
    if text.starts_with('\0') {
        return Err("The file is filled with NUL bytes".to_owned());
    }
    let no_json = |error: String| format!("The file is not valid JSON ({error})");
    if let Some(error) = keep::known_fault(text) {
        return Err(no_json(error.to_owned()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| no_json(error.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err("The file is JSON, but not an object".to_owned());
    };
    // From 1.37 on it is among the `data`.
    let has_policy = policy(&value).is_some() || fields.contains_key("data");
    if !has_policy && matches!(file.name, CPU_MANAGER | MEMORY_MANAGER) {
        return Err("The file names no policy".to_owned());
    }
    if fields.is_empty() {
        return Err("The file contains only an empty object".to_owned());
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
        let reason = format!(
            "Its defaultCpuSet {:?} is not a list of CPUs",
            state.default
        );
        return Some(Trouble::Damaged(reason));
    };
    if wanted != "static" {
        return None;
    }
    if default.is_empty() {
        let why = "Its default set of CPUs is empty, although it assigns CPUs to containers";
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
            "Its default set of CPUs ({default}) contains strictly reserved CPUs ({reserved})"
        )));
    }
    if !is_strict && !outside.is_empty() {
        return Some(Trouble::Outdated(format!(
            "Its default set of CPUs ({default}) does not contain all reserved CPUs ({reserved})"
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
    let (usable, state_now) = if is_strict {
        (online.minus(&reserved), "online and not reserved")
    } else {
        (online.clone(), "online")
    };
    (known != usable).then(|| {
        Trouble::Outdated(format!(
            "The file lists the CPUs {known}, but the CPUs {usable} are {state_now}"
        ))
    })
}

/// Rests on `Start` in `cm/memorymanager/policy_static.go` (`areMachineStatesEqual`).
fn memory_trouble(
    settings: &Settings,
    host: &Host,
    terms: Terms,
    fields: &Value,
) -> Option<Trouble> {
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
            "Its NUMA nodes are not those of this machine".to_owned(),
        ));
    }
    for (number, node) in &state.nodes {
        let is = is.get(number)?;
        let mut totals = vec![("memory", is.total)];
        // They may be reserved later in the boot.
        let huge = is.huge.as_ref();
        if let Some(huge) = huge.filter(|_| !terms.occasion.precedes_pre_start()) {
            totals.extend(huge.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
            let is_gone = |name: &&String| *name != "memory" && !huge.contains_key(*name);
            if let Some(name) = node.memory.keys().find(is_gone) {
                return Some(Trouble::Outdated(format!(
                    "The file records {name} for NUMA node {number}, which has none"
                )));
            }
        }
        for (name, is) in totals {
            let was = node.memory.get(name).map(|table| table.total);
            if was != Some(is) {
                let was = was.map_or("no".to_owned(), |was| was.to_string());
                return Some(Trouble::Outdated(format!(
                    "The file records {was} bytes of {name} for NUMA node {number}, which has {is}"
                )));
            }
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
        Trouble::Damaged(reason) => {
            let sentence = match file.name {
                CPU_MANAGER | MEMORY_MANAGER => {
                    "The kubelet does not start (\"could not restore state from checkpoint\")"
                }
                DRA_MANAGER => "The kubelet does not start (\"checkpoint is corrupted\")",
                _ => "The kubelet panics when it reads the file",
            };
            (&CHECKPOINT_DAMAGED, reason, sentence)
        }
        Trouble::Outdated(difference) => {
            let sentence = if file.name == MEMORY_MANAGER {
                "The kubelet does not start (\"the expected machine state is different from the \
                 real one\")"
            } else {
                "The kubelet rejects the file and does not start"
            };
            (&CHECKPOINT_OUTDATED, difference, sentence)
        }
        Trouble::OtherPolicy(_) => return None,
    };
    let impact = if is_read(settings, host.version, file.name) {
        Impact::fatal(sentence)
    } else {
        Impact::notice("This version of the kubelet does not read the file")
    };
    let remedy = if containers_live {
        remove(
            file,
            "Containers are running, and the file records what they use. If other nodes can run \
             the pods, drain this node. Then stop MicroK8s with its containers and remove the \
             file",
        )
    } else if terms.occasion == Occasion::PreStart {
        Remedy::Steps(vec![Step::SetAside {
            file: file.path.clone(),
            boot_id: host.boot.id.clone(),
        }])
    } else {
        Remedy::run(
            "Restart kubelite. Before it starts, kubepods-repair sets the file aside",
            [MICROK8S.restart()],
        )
    };
    let location = Location::File(file.path.clone());
    Some(fault.finding(impact, location, evidence, remedy))
}

/// Whether a container lives: below kubepods, of this driver or the other, or with its cgroup
/// elsewhere.
fn containers_live(host: &Host, learned: &Learned) -> bool {
    let of_tree = host.tree.as_ref().and_then(|tree| tree.other.as_ref());
    let of_v1 = host.v1.as_ref().and_then(|v1| v1.other.as_ref());
    learned.containers_run || of_tree.or(of_v1).is_some_and(|other| other.populated)
}

/// `microk8s stop` also stops the containers (MicroK8s' `microk8s-stop.wrapper`).
fn remove(file: &StateFile, words: &str) -> Remedy {
    let commands = [
        "microk8s stop".to_owned(),
        format!("rm {}", shell_word(file.path.display())),
        "microk8s start".to_owned(),
    ];
    Remedy::run(words, commands)
}

fn differs(settings: &Settings, file: &StateFile, written: &str) -> Option<Finding> {
    let wanted = match file.name {
        CPU_MANAGER => &settings.cpu_manager_policy,
        MEMORY_MANAGER => &settings.memory_manager_policy,
        _ => return None,
    };
    let evidence = format!(
        "The file was written under the policy {written:?}, but the kubelet is set to {:?} ({})",
        wanted.value, wanted.origin
    );
    let impact = Impact::fatal("The kubelet does not start with the state of another policy");
    let remedy = remove(
        file,
        "The file records what running containers use. If other nodes can run the pods, drain this \
         node. Then stop MicroK8s with its containers and remove the file",
    );
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
    fn a_file_that_is_cut_anywhere_is_damaged() {
        for (name, text) in HEALTHY {
            assert!(policy_of(name, text).is_ok(), "{text}");
            for length in 0..text.len() {
                let cut = policy_of(name, &text[..length]);
                assert!(cut.is_err(), "{text} cut to {length}");
            }
        }
    }

    #[test]
    fn content_that_parses_but_that_the_kubelet_rejects() {
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
    fn a_capture_keeps_the_error_but_not_the_content() {
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
