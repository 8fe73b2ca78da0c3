//! The state files that the kubelet reads before it does anything else, and dies of when they are
//! damaged.
//!
//! Rests on `pkg/kubelet/checkpointmanager` (a file is written whole, as one line of JSON) and on
//! the managers that use it: `cm/cpumanager/state`, `cm/memorymanager/state`, `allocation/state`,
//! `cm/dra/state`. All of them recreate a file that is missing.
//! `device-plugins/kubelet_internal_checkpoint` is not here: the kubelet goes on without it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kubelet::microk8s::Version;
use crate::root::{ReadError, Root, keep};

/// One kind of state file.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name, directly below the kubelet's root directory.
    pub name: &'static str,
    /// The first kubelet that reads it without being asked to.
    pub since: Version,
}

/// All that are fatal when they are damaged.
pub const KINDS: [Kind; 5] = [
    Kind {
        name: CPU_MANAGER,
        since: Version(1, 20),
    },
    Kind {
        name: MEMORY_MANAGER,
        since: Version(1, 22),
    },
    Kind {
        name: "allocated_pods_state",
        since: Version(1, 33),
    },
    Kind {
        name: "actuated_pods_state",
        since: Version(1, 33),
    },
    Kind {
        name: "dra_manager_state",
        since: Version(1, 34),
    },
];

/// The CPU manager's.
pub const CPU_MANAGER: &str = "cpu_manager_state";
/// The memory manager's.
pub const MEMORY_MANAGER: &str = "memory_manager_state";

/// A state file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which.
    pub kind: &'static Kind,
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
}

/// What a state file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing that the kubelet could parse; why, without a full stop.
    Damaged(String),
    /// A JSON object, with the policy it was written under where it names one.
    Whole {
        /// `policyName`
        policy: Option<String>,
    },
}

impl Checkpoint {
    /// Whether the kubelet cannot parse it.
    pub fn is_damaged(&self) -> bool {
        matches!(self.content, Content::Damaged(_))
    }
}

/// The state files below the kubelet's root directory.
///
/// # Errors
/// When one is there and cannot be read.
pub fn observe(root: &Root, kubelet_root: &Path) -> Result<Vec<Checkpoint>, ReadError> {
    let mut found = Vec::new();
    for kind in &KINDS {
        let path = kubelet_root.join(kind.name);
        if let Some(text) = root.keeping(&keep).read_if_there(&path)? {
            found.push(Checkpoint {
                kind,
                path,
                content: judge(kind, &text),
            });
        }
    }
    Ok(found)
}

fn judge(kind: &Kind, text: &str) -> Content {
    if text.is_empty() {
        return Content::Damaged("it is empty".to_owned());
    }
    if text.starts_with('\0') {
        return Content::Damaged("it is filled with NUL bytes".to_owned());
    }
    if let Some(error) = keep::known_fault(text) {
        return Content::Damaged(format!("it is no JSON: {error}"));
    }
    let names_policy = matches!(kind.name, CPU_MANAGER | MEMORY_MANAGER);
    match serde_json::from_str(text) {
        Err(error) => Content::Damaged(format!("it is no JSON: {error}")),
        Ok(Value::Object(fields)) => match fields.get("policyName").and_then(Value::as_str) {
            None | Some("") if names_policy => Content::Damaged("it names no policy".to_owned()),
            _ if fields.is_empty() => Content::Damaged("it is an empty object".to_owned()),
            policy => Content::Whole {
                policy: policy.map(str::to_owned),
            },
        },
        Ok(_) => Content::Damaged("it is JSON, but no object".to_owned()),
    }
}

/// What a capture keeps of a state file: of one that the kubelet can parse all, since it holds CPUs
/// and the uids of pods. What a power cut leaves may be of another file, and only what is wrong
/// with it is kept.
fn keep(content: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What kubelets write under their default policies.
    const HEALTHY: [&str; 3] = [
        r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#,
        r#"{"policyName":"None","machineState":{},"checksum":4236770233}"#,
        r#"{"data":"{\"entries\":{}}","checksum":1057365947}"#,
    ];

    #[test]
    fn a_file_is_whole_or_damaged_at_every_length() {
        for (kind, text) in KINDS.iter().zip(HEALTHY) {
            assert!(matches!(judge(kind, text), Content::Whole { .. }), "{text}");
            for length in 0..text.len() {
                assert!(
                    matches!(judge(kind, &text[..length]), Content::Damaged(_)),
                    "{text} cut to {length}"
                );
            }
        }
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
            let kept = String::from_utf8(keep(text.as_bytes())).unwrap();
            assert_eq!(
                judge(&KINDS[0], &kept),
                judge(&KINDS[0], text),
                "{text:?} becomes {kept:?}"
            );
            assert!(!kept.contains("SECRET"), "{kept:?}");
        }
        for text in HEALTHY {
            assert_eq!(keep(text.as_bytes()), text.as_bytes());
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
            assert!(
                matches!(judge(&KINDS[0], text), Content::Damaged(_)),
                "{text:?}"
            );
        }
        assert!(matches!(judge(&KINDS[2], "{}"), Content::Damaged(_)));
    }
}
