//! The state files that the kubelet reads before it does anything else.
//!
//! Which version reads which, and what it dies of, `faults/state_files.rs` knows.

use std::path::PathBuf;

use serde_json::Value;

use crate::kubelet::Settings;
use crate::root::{ReadError, Root, keep};

/// The CPU manager's.
pub const CPU_MANAGER: &str = "cpu_manager_state";
/// The memory manager's.
pub const MEMORY_MANAGER: &str = "memory_manager_state";

/// That of pods' resources in 1.27 to 1.32.
pub const POD_STATUS: &str = "pod_status_manager_state";

/// All of them, directly below the kubelet's root directory.
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
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// The state files below the kubelet's root directory.
///
/// # Errors
/// When one is there and cannot be read.
pub fn observe(root: &Root, settings: &Settings) -> Result<Vec<StateFile>, ReadError> {
    let kubelet_root = &settings.root_dir.value;
    let mut found = Vec::new();
    for name in NAMES {
        // No kubelet reads this one without being asked to.
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

/// What a capture keeps of a state file: of one that the kubelet can parse all, since it holds CPUs
/// and the uids of pods. What a power cut leaves may be of another file, and only what is wrong
/// with it is kept.
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
