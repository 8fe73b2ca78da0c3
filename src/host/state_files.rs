//! The state files that the kubelet reads at the beginning of its start.
//!
//! `faults/state_files.rs` knows which version reads which file, and what keeps it from starting.

use std::path::PathBuf;

use serde_json::Value;

use crate::kubelet::Settings;
use crate::root::{ReadError, Root, keep};

/// The CPU manager's state file.
pub const CPU_MANAGER: &str = "cpu_manager_state";
/// The memory manager's state file.
pub const MEMORY_MANAGER: &str = "memory_manager_state";

/// The state file of pods' resources in 1.27 to 1.32.
pub const POD_STATUS: &str = "pod_status_manager_state";

/// All state files, directly in the kubelet's root directory.
pub const NAMES: [&str; 6] = [
    CPU_MANAGER,
    MEMORY_MANAGER,
    POD_STATUS,
    "allocated_pods_state",
    "actuated_pods_state",
    "dra_manager_state",
];

/// A state file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// Its path on the host.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// The existing state files in the kubelet's root directory.
///
/// # Errors
/// When an existing one cannot be read.
pub fn observe(root: &Root, settings: &Settings) -> Result<Vec<StateFile>, ReadError> {
    let kubelet_root = &settings.root_dir.value;
    let mut found = Vec::new();
    for name in NAMES {
        // The kubelet reads this file only with its feature gate.
        let gates = &settings.feature_gates;
        if name == POD_STATUS && !gates.contains_key("InPlacePodVerticalScaling") {
            continue;
        }
        let path = kubelet_root.join(name);
        if let Some(text) = root.keeping(&keep).read_if_there(&path)? {
            found.push(StateFile { name, path, text });
        }
    }
    Ok(found)
}

/// What a capture keeps of a state file. If it is valid JSON, it holds CPUs and the uids of pods,
/// and is kept as it is. Otherwise only the error is kept: after a power cut the file may contain
/// data of another file.
pub(crate) fn keep(content: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(content);
    match serde_json::from_str(&text) {
        Ok(Value::Object(_)) => content.to_vec(),
        Ok(_) => b"null".to_vec(),
        Err(_) if text.is_empty() || text.starts_with('\0') => {
            content.iter().copied().take(1).collect()
        }
        Err(error) => keep::fault(&error.to_string()).into_bytes(),
    }
}
