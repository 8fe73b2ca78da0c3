//! containerd's configuration file as TOML, and the names in it that both its reader and a capture
//! need.
//!
//! Rests on `plugins/cri/runtime/plugin.go` and `api/types/runc/options` of containerd 2.0 to 2.3.

use toml::Table;

use crate::kubelet::errors::LineError;
use crate::root::keep::known_fault;

/// The table with the CRI's part of the configuration, from version 3 of the file on and before.
pub(super) const RUNTIME_PLUGIN: &str = "io.containerd.cri.v1.runtime";
pub(super) const GRPC_PLUGIN: &str = "io.containerd.grpc.v1.cri";
/// The same in version 1.
pub(super) const SHORT_PLUGIN: &str = "cri";

/// runc's options (`api/types/runc/options`) and their types as [`toml::Value::type_str`] names
/// them. If one has another type, containerd uses none of them.
pub(super) const RUNC_OPTIONS: [(&str, &str); 12] = [
    ("NoPivotRoot", "boolean"),
    ("NoNewKeyring", "boolean"),
    ("ShimCgroup", "string"),
    ("IoUid", "integer"),
    ("IoGid", "integer"),
    ("BinaryName", "string"),
    ("Root", "string"),
    (SYSTEMD_CGROUP, "boolean"),
    ("CriuImagePath", "string"),
    ("CriuWorkPath", "string"),
    ("TaskApiAddress", "string"),
    ("TaskApiVersion", "integer"),
];

pub(super) const SYSTEMD_CGROUP: &str = "SystemdCgroup";

/// The file as a table.
///
/// # Errors
/// When it is not valid TOML, or a capture says that it was not.
pub(super) fn parse(text: &str) -> Result<Table, LineError> {
    if let Some((line, reason)) = known_fault(text).and_then(|fault| fault.split_once(' ')) {
        return Err(LineError::unknown(line.parse().unwrap_or(1), reason));
    }
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.split('\n').count());
        // The library quotes a number that is too large, and nothing else.
        let reason = match error.message() {
            number if number.starts_with("invalid type: integer") => {
                "this integer does not fit into 64 bits"
            }
            reason => reason,
        };
        LineError::unknown(line, reason)
    })
}
