//! The checksums in the kubelet's state files, as the kubelet computes them.
//!
//! Rests on `pkg/kubelet/checkpointmanager/checksum` (FNV-1a of the object as spew prints it, with
//! the checksum 0), `cm/cpumanager/state/checkpoint.go`, `cm/memorymanager/state/checkpoint.go`,
//! `allocation/state/checkpoint.go` (the string of `data`) and `cm/dra/state/checkpoint.go` (CRC-32
//! of `Data`), kubernetes v1.20 to v1.36. A file with other fields than these is not judged.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use serde::Deserialize;
use serde_json::Value;

/// What the kubelet makes of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It matches the content.
    Right,
    /// There is none, or 0: the CPU manager accepts that, the memory manager from 1.36 on.
    None,
    /// It does not match the content.
    Wrong,
    /// The format of the file is not known here.
    Unknown,
}

impl Checksum {
    fn judge(given: u64, right: &[u32]) -> Self {
        if given == 0 {
            Self::None
        } else if right.iter().any(|sum| u64::from(*sum) == given) {
            Self::Right
        } else {
            Self::Wrong
        }
    }
}

/// The CPU manager's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CpuState {
    #[serde(rename = "policyName")]
    pub policy: String,
    #[serde(rename = "defaultCpuSet", alias = "defaultCPUSet")]
    pub default: String,
    #[serde(default)]
    pub entries: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    checksum: u64,
}

impl CpuState {
    pub fn checksum(&self) -> Checksum {
        let entries = map(&self.entries, |containers| map(containers, String::clone));
        let dump = |kind: &str| {
            format!(
                "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} \
                 Entries:({kind}){entries} Checksum:(checksum.Checksum)0}}",
                self.policy, self.default
            )
        };
        let mut right = vec![fnv(&dump("map[string]map[string]string"))];
        if self.entries.is_empty() {
            // The format before 1.18, which is not known here with entries.
            right.push(fnv(&dump("map[string]string")));
        }
        Checksum::judge(self.checksum, &right)
    }
}

/// The memory manager's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryState {
    #[serde(rename = "policyName")]
    pub policy: String,
    #[serde(rename = "machineState")]
    pub nodes: BTreeMap<i64, MemoryNode>,
    #[serde(default)]
    entries: BTreeMap<String, BTreeMap<String, Vec<Block>>>,
    #[serde(default)]
    checksum: u64,
}

/// What the file records of a NUMA node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryNode {
    #[serde(rename = "numberOfAssignments")]
    assignments: i64,
    #[serde(rename = "memoryMap")]
    pub memory: BTreeMap<String, MemoryTable>,
    cells: Vec<i64>,
}

/// Bytes of one kind of memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryTable {
    pub total: u64,
    #[serde(rename = "systemReserved")]
    system_reserved: u64,
    allocatable: u64,
    reserved: u64,
    free: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(rename = "numaAffinity")]
    nodes: Vec<i64>,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
}

impl MemoryState {
    pub fn checksum(&self) -> Checksum {
        let nodes = map(&self.nodes, MemoryNode::dump);
        let entries = map(&self.entries, |containers| {
            map(containers, |blocks| list(blocks.iter().map(Block::dump)))
        });
        let dump = format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){} \
             MachineState:(state.NUMANodeMap){nodes} \
             Entries:(state.ContainerMemoryAssignments){entries} Checksum:(checksum.Checksum)0}}",
            self.policy
        );
        Checksum::judge(self.checksum, &[fnv(&dump)])
    }
}

impl MemoryNode {
    fn dump(&self) -> String {
        let memory = map(&self.memory, MemoryTable::dump);
        let cells = list(&self.cells);
        format!(
            "<*>{{NumberOfAssignments:(int){} \
             MemoryMap:(map[v1.ResourceName]*state.MemoryTable){memory} Cells:([]int){cells}}}",
            self.assignments
        )
    }
}

impl MemoryTable {
    fn dump(&self) -> String {
        format!(
            "<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} \
             Reserved:(uint64){} Free:(uint64){}}}",
            self.total, self.system_reserved, self.allocatable, self.reserved, self.free
        )
    }
}

impl Block {
    fn dump(&self) -> String {
        let nodes = list(&self.nodes);
        format!(
            "{{NUMAAffinity:([]int){nodes} Type:(v1.ResourceName){} Size:(uint64){}}}",
            self.kind, self.size
        )
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodState {
    data: String,
    checksum: u64,
}

/// The checksum of the files about pods' resources.
pub(super) fn of_pods(file: &Value) -> Checksum {
    let Ok(PodState { data, checksum }) = PodState::deserialize(file) else {
        return Checksum::Unknown;
    };
    // Go quotes more than these two characters, but the kubelet writes none of the others.
    if !data.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Checksum::Unknown;
    }
    let quoted = data.replace('\\', "\\\\").replace('"', "\\\"");
    let dump = format!("(string) (len={}) \"{quoted}\"", data.len());
    match Checksum::judge(checksum, &[fnv(&dump), fnv(&format!("(string){data}"))]) {
        Checksum::None => Checksum::Wrong,
        judged => judged,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DraState {
    data: String,
    checksum: u64,
}

/// The checksum of the file about claims of devices (1.34 and later).
pub(super) fn of_claims(file: &Value) -> Checksum {
    let Ok(DraState { data, checksum }) = DraState::deserialize(file) else {
        return Checksum::Unknown;
    };
    let mut crc = flate2::Crc::new();
    crc.update(data.as_bytes());
    if u64::from(crc.sum()) == checksum {
        Checksum::Right
    } else {
        Checksum::Wrong
    }
}

/// FNV-1a of 32 bits.
fn fnv(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

/// `map[a:1 b:2]`
fn map<K: Display, V>(map: &BTreeMap<K, V>, value: impl Fn(&V) -> String) -> String {
    let pairs = map
        .iter()
        .map(|(key, item)| format!("{key}:{}", value(item)));
    format!("map{}", list(pairs))
}

/// `[1 2]`
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.into_iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{space}{item}");
    }
    text + "]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_states_that_kubelets_wrote_or_accept() {
        for (text, right) in [
            (
                r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#,
                Checksum::Right,
            ),
            (
                r#"{"policyName":"none","defaultCpuSet":"4-6","checksum":354655845}"#,
                Checksum::Right,
            ),
            (
                r#"{"policyName":"none","defaultCPUSet":"1-3","entries":{"pod":{"container1":"4-6",
                    "container2":"1-3"}},"checksum":3610638499}"#,
                Checksum::Right,
            ),
            (
                r#"{"policyName":"none","defaultCPUSet":"1-3","checksum":1694838852}"#,
                Checksum::Right,
            ),
            (
                r#"{"policyName":"none","defaultCpuSet":"4-6","checksum":1337}"#,
                Checksum::Wrong,
            ),
            (
                r#"{"policyName":"none","defaultCpuSet":"4-6"}"#,
                Checksum::None,
            ),
        ] {
            let state: CpuState = serde_json::from_str(text).unwrap();
            assert_eq!(state.checksum(), right, "{text}");
        }
        let newer = r#"{"policyName":"none","defaultCpuSet":"","podEntries":{},"checksum":1}"#;
        assert!(serde_json::from_str::<CpuState>(newer).is_err());
    }

    #[test]
    fn memory_states_that_kubelets_wrote() {
        for text in [
            r#"{"policyName":"None","machineState":{},"checksum":4236770233}"#,
            r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":
                {"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,
                "free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],
                "type":"memory","size":512}]}},"checksum":4215593881}"#,
        ] {
            let state: MemoryState = serde_json::from_str(text).unwrap();
            assert_eq!(state.checksum(), Checksum::Right, "{text}");
            let torn = text.replace("\"checksum\":4", "\"checksum\":1");
            let state: MemoryState = serde_json::from_str(&torn).unwrap();
            assert_eq!(state.checksum(), Checksum::Wrong, "{torn}");
        }
    }

    #[test]
    fn states_of_pods_and_claims() {
        let judge =
            |of: fn(&Value) -> Checksum, text: &str| of(&serde_json::from_str(text).unwrap());
        let pods = r#"{"data":"{\"entries\":{}}","checksum":1057365947}"#;
        assert_eq!(judge(of_pods, pods), Checksum::Right);
        assert_eq!(judge(of_pods, &pods.replace('5', "6")), Checksum::Wrong);
        let limits = r#"{\"requests\":{\"cpu\":\"1Ki\",\"memory\":\"1Ki\"}}"#;
        let later = r#"{\"entries\":{\"pod1\":{\"ContainerResources\":{\"container1\":LIMITS}}}}"#;
        let earlier = r#"{\"allocationEntries\":{\"pod1\":{\"container1\":LIMITS}}}"#;
        for (data, checksum) in [(later, 1_178_570_812), (earlier, 1_555_601_526)] {
            let data = data.replace("LIMITS", limits);
            let text = &format!(r#"{{"data":"{data}","checksum":{checksum}}}"#);
            assert_eq!(judge(of_pods, text), Checksum::Right, "{text}");
        }
        assert_eq!(judge(of_pods, r#"{"entries":{}}"#), Checksum::Unknown);
        let claims = r#"{"Data":"{}","Checksum":2745614147}"#;
        assert_eq!(judge(of_claims, claims), Checksum::Right);
        assert_eq!(judge(of_claims, &claims.replace('4', "5")), Checksum::Wrong);
        assert_eq!(judge(of_claims, r#"{"version":"v1"}"#), Checksum::Unknown);
    }
}
