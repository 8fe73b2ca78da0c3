//! Whether a container of the kubelet's own containerd lives.
//!
//! Each container, or each pod, has a shim, and containerd starts it with `-address` and the socket
//! that it serves itself (containerd's `pkg/shim/util_unix.go` and
//! `cmd/containerd-shim-runc-v2/manager`; before 2.0 `runtime/v2/shim/util.go`). Docker's
//! containerd and any other one have sockets of their own: their containers do not concern this
//! kubelet.

use std::path::Path;

use crate::root::keep::text;
use crate::root::{ReadError, Root};

/// Every shim is called `containerd-shim…`; the kernel cuts a name to these 15 bytes.
const SHIM: &str = "containerd-shim";

/// Whether a shim runs whose containerd serves a socket that `is_meant`.
///
/// # Errors
/// When `/proc` cannot be listed or a process in it not be read; one that ends meanwhile is passed
/// over.
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

/// The value of `-address`, in arguments that each end with a NUL: Go's `flag` takes one dash or
/// two, and `=` or a blank.
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
        // Anything but a path is no socket, and may be another flag's secret.
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_shim_it_is() {
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
