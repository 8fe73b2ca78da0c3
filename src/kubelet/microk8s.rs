//! Where MicroK8s keeps the kubelet's files. All of its names and paths are in this one table.
//!
//! Rests on MicroK8s' `snap/snapcraft.yaml` and snapd's layout: `current` links to the active
//! revision and is taken away when the snap is disabled; `snap run` sets SNAP, SNAP_DATA and
//! SNAP_COMMON for the service, but not for an ExecStartPre.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::root::keep;
use crate::root::{ReadError, Root};

/// The names and paths of a distribution of Kubernetes.
#[derive(Debug)]
pub struct Product {
    /// The link to the data of the active revision.
    pub current: &'static str,
    /// What snapd keeps commands of the snap from starting with; it says for what.
    pub inhibited: &'static str,
    /// The data that all revisions share.
    pub common: &'static str,
    /// The mounted snaps, one folder a revision.
    pub snap: &'static str,
    /// The kubelet's arguments, below the data of the revision.
    pub kubelet_args: &'static str,
    /// The arguments of the program that the kubelet is part of.
    pub kubelite_args: &'static str,
    /// The flag in there that names another file than [`Self::kubelet_args`].
    pub kubelet_args_flag: &'static str,
    /// containerd's configuration, below the data of the revision: the one in use, and its
    /// template.
    pub containerd_args: [&'static str; 2],
    /// The socket of its own containerd, below what all revisions share.
    pub containerd_socket: &'static str,
    /// The unit that the kubelet is part of.
    pub kubelet_unit: &'static str,
    /// The unit whose threads may block cpuset, and that may be restarted to free it: nothing is
    /// ordered after it, the API server reconnects to it, and its own pre-start anchors the
    /// controller. (etcd opens no io_uring.)
    pub restartable_unit: &'static str,
    /// The service as its users name it to `snap start`.
    pub kubelet_service: &'static str,
    /// containerd, as [`Self::kubelet_service`].
    pub containerd_service: &'static str,
}

/// MicroK8s from 1.21 on, when it began to put everything into kubelite.
pub const MICROK8S: Product = Product {
    current: "/var/snap/microk8s/current",
    inhibited: "/var/lib/snapd/inhibit/microk8s.lock",
    common: "/var/snap/microk8s/common",
    snap: "/snap/microk8s",
    kubelet_args: "args/kubelet",
    kubelite_args: "args/kubelite",
    kubelet_args_flag: "kubelet-args-file",
    containerd_args: ["args/containerd.toml", "args/containerd-template.toml"],
    containerd_socket: "run/containerd.sock",
    kubelet_unit: "snap.microk8s.daemon-kubelite.service",
    restartable_unit: "snap.microk8s.daemon-k8s-dqlite.service",
    kubelet_service: "microk8s.daemon-kubelite",
    containerd_service: "microk8s.daemon-containerd",
};

/// Where a kubelet without `--container-runtime-endpoint` looks for its runtime
/// (`v1beta1/defaults.go`).
pub const DEFAULT_ENDPOINT: &str = "/run/containerd/containerd.sock";

/// If one of these files exists, the host's own containerd may listen at that endpoint.
pub const TRACES_OF_DEFAULT_RUNTIME: [&str; 2] = [DEFAULT_ENDPOINT, "/etc/containerd/config.toml"];

/// A version of Kubernetes: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.trim().trim_matches(['"', '\'']);
        let mut numbers = plain.strip_prefix('v').unwrap_or(plain).split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Self(number()?, number()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What [`Product::inhibited`] holds during a refresh.
const REFRESH: &str = "refresh";

/// The key of the version in `snap.yaml`.
const VERSION: &str = "version:";

/// The only line of `snap.yaml` that is read, and that a capture keeps.
fn version_line(text: &str) -> &str {
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with(VERSION))
        .unwrap_or_default()
}

impl Product {
    /// The active revision; `None` when the snap is not installed or is disabled.
    ///
    /// # Errors
    /// When the link exists but cannot be read.
    pub fn revision(&self, root: &Root) -> Result<Option<String>, ReadError> {
        let target = match root.link(Path::new(self.current)) {
            // A copied tree may hold a folder in the link's place.
            Err(error) if error.errno == Errno::EINVAL => Some(self.current.into()),
            answer => answer?,
        };
        Ok(target.and_then(|target| Some(Path::new(&target).file_name()?.to_str()?.to_owned())))
    }

    /// Whether snapd is refreshing or reverting the snap: from before it stops the services until
    /// it has linked the new revision, and on through a power cut (snapd
    /// `cmd/snaplock/runinhibit/inhibit.go`, `HintInhibitedForRefresh`). What cannot be read says
    /// nothing.
    pub fn is_refreshed(&self, root: &Root) -> bool {
        let is_so = |text: &str| text.trim_end() == REFRESH;
        let keep = keep::text(|text| if is_so(text) { REFRESH } else { "" }.to_owned());
        let hint = root.keeping(&keep).read(Path::new(self.inhibited));
        hint.is_ok_and(|hint| is_so(&hint))
    }

    /// Whether this node is a worker: it starts no control plane (`join.py`,
    /// `run-kubelite-with-args`).
    ///
    /// # Errors
    /// When that cannot be determined.
    pub fn is_worker(&self, root: &Root, revision: &str) -> Result<bool, ReadError> {
        root.exists(&self.data(revision).join("var/lock/clustered.lock"))
    }

    /// The value that `snap run` gives a variable, where it is one of its own that does not depend
    /// on the service.
    pub fn variable(&self, name: &str, revision: &str) -> Option<String> {
        match name {
            "SNAP" => Some(format!("{}/{revision}", self.snap)),
            "SNAP_DATA" => Some(self.data(revision).display().to_string()),
            "SNAP_COMMON" => Some(self.common.to_owned()),
            "SNAP_REVISION" => Some(revision.to_owned()),
            _ => None,
        }
    }

    /// The version that the snap of a revision declares, such as `v1.29.2`.
    pub fn version(&self, root: &Root, revision: &str) -> Option<Version> {
        let without_comment = |line: &str| line.split(" #").next().map(str::to_owned);
        let keep = keep::text(|text| without_comment(version_line(text)).unwrap_or_default());
        let file = Path::new(self.snap).join(revision).join("meta/snap.yaml");
        let text = root.keeping(&keep).read(&file).ok()?;
        Version::parse(version_line(&text).strip_prefix(VERSION)?)
    }

    /// containerd's configuration: as it was last started with, and what that is made from.
    pub fn containerd_configs(&self, revision: &str) -> [PathBuf; 2] {
        let data = self.data(revision);
        self.containerd_args.map(|name| data.join(name))
    }

    /// The command that restarts the kubelet. It also starts a kubelet that has failed, which
    /// `snap restart microk8s` passes over (snapd `wrappers/services.go`, `RestartServices`).
    pub fn restart(&self) -> String {
        format!("snap restart {}", self.kubelet_service)
    }

    /// The command that restarts containerd and the kubelet.
    pub fn restart_with_containerd(&self) -> String {
        format!(
            "snap restart {} {}",
            self.containerd_service, self.kubelet_service
        )
    }

    /// The args file of a kubelet unless `args/kubelite` names another one.
    pub fn usual_args_file(&self) -> PathBuf {
        Path::new(self.current).join(self.kubelet_args)
    }

    /// Whether this endpoint of the kubelet's is the socket of MicroK8s' own containerd: a path, or
    /// one behind `unix:` (`k8s.io/cri-client/pkg/util`, `parseEndpoint`).
    pub fn is_own_socket(&self, endpoint: &str) -> bool {
        let path = match endpoint.strip_prefix("unix:") {
            Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
            None => endpoint,
        };
        // Paths are compared by components, so that neither `//` nor `/./` makes a difference.
        Path::new(path) == Path::new(self.common).join(self.containerd_socket)
    }

    /// The data of a revision.
    pub fn data(&self, revision: &str) -> PathBuf {
        Path::new(self.current).with_file_name(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_microk8s_containerd_is_recognised() {
        for own in [
            "/var/snap/microk8s/common/run/containerd.sock",
            "/var//snap/microk8s/common/./run/containerd.sock",
        ] {
            for prefix in ["", "unix:", "unix://"] {
                assert!(
                    MICROK8S.is_own_socket(&format!("{prefix}{own}")),
                    "{prefix}{own}"
                );
            }
        }
        for other in [
            "",
            "unix://",
            "/run/containerd/containerd.sock",
            "unix:///run/crio/crio.sock",
            "tcp://localhost:3735",
            "var/snap/microk8s/common/run/containerd.sock",
            "/var/snap/microk8s/common/run/containerd.sock.ttrpc",
        ] {
            assert!(!MICROK8S.is_own_socket(other), "{other}");
        }
    }
}
