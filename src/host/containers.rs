//! Finds out whether a container of the kubelet's own containerd is running.
//!
//! Each container, or each pod, has a shim, which containerd starts with `-address` and the path of
//! its own socket (containerd's `pkg/shim/util_unix.go` and `cmd/containerd-shim-runc-v2/manager`;
//! before 2.0 `runtime/v2/shim/util.go`). Docker's containerd and all others have different
//! sockets, and their containers do not matter to this kubelet.

use std::path::Path;

use crate::root::keep::text;
use crate::root::{ReadError, Root};

/// The name of every shim, `containerd-shim…`, as the kernel truncates it to 15 bytes.
const SHIM: &str = "containerd-shim";

/// Whether a shim is running whose containerd serves a socket that `is_meant` accepts.
///
/// # Errors
/// When `/proc` or a process in it cannot be read. Processes that end meanwhile are skipped.
pub fn live(root: &Root, is_meant: impl Fn(&str) -> bool) -> Result<bool, ReadError> {
    let keep = text(keep);
    for pid in root.pids()? {
        let folder = Path::new("/proc").join(&pid);
        let comm = root.read_value(&folder.join("comm"))?.unwrap_or_default();
        if comm.trim_end() != SHIM {
            continue;
        }
        let arguments = root.keeping(&keep).read_if_there(&folder.join("cmdline"))?;
        if address(&arguments.unwrap_or_default()).is_some_and(&is_meant) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The value of `-address` in arguments that each end with a NUL. Go's `flag` accepts one dash or
/// two, and the value after `=` or as the next argument.
fn address(arguments: &str) -> Option<&str> {
    let mut arguments = arguments.split('\0').skip(1);
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix('-') else {
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("address", "") => return arguments.next(),
            ("address", value) => return Some(value),
            _ => {}
        }
    }
    None
}

/// What a capture keeps of a shim's command line.
fn keep(arguments: &str) -> String {
    match address(arguments) {
        Some(socket) if socket.starts_with('/') => format!("{SHIM}\0-address\0{socket}\0"),
        // Anything but a path is not a socket, and may be the secret of another flag.
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_names_its_containerd() {
        let shim = |rest: &str| {
            format!("/snap/microk8s/1/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0{rest}")
        };
        assert_eq!(
            address(&shim("-id\0a\0-address\0/run/a.sock\0")),
            Some("/run/a.sock")
        );
        assert_eq!(
            address(&shim("--address=/run/a.sock\0-id\0a\0")),
            Some("/run/a.sock")
        );
        for rest in [
            "",
            "-address",
            "-id\0a\0",
            "-addresses\0/run/a.sock\0",
            "address\0/run/a.sock\0",
        ] {
            assert_eq!(address(&shim(rest)), None, "{rest:?}");
        }
    }

    #[test]
    fn a_capture_keeps_the_address_and_no_other_argument() {
        for arguments in [
            "x\0-id\0S\0-address\0/run/a.sock\0S\0",
            "S\0--address=/run/a.sock\0S",
        ] {
            assert_eq!(keep(arguments), "containerd-shim\0-address\0/run/a.sock\0");
            assert_eq!(keep(&keep(arguments)), keep(arguments));
        }
        for arguments in ["", "x\0S\0", "x\0-address\0--token=S\0"] {
            assert_eq!(keep(arguments), "");
        }
    }
}
