//! Why the kubelet's settings cannot be used. Where one of these errors stands, nothing is guessed
//! and nothing touched.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::kubelet::setting::{Driver, Origin};
use crate::root::ReadError;
use crate::root::keep::{fault, known_fault};

/// What it means for the kubelet's start that its settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The kubelet itself refuses them: it does not start.
    Refused,
    /// This program cannot read them or does not know what they come to. So it does not know
    /// either whether the kubelet starts.
    Unknown,
}

/// What is wrong in one line of a file. The file's path is added by [`Self::in_file`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// One sentence, without any value that may be a secret.
    pub reason: String,
    /// What it means for the kubelet's start.
    pub kind: ErrorKind,
}

impl LineError {
    /// The kubelet refuses what stands in this line.
    pub(super) fn refused(line: usize, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, line, reason.into())
    }

    /// What this line comes to cannot be known here.
    pub(super) fn unknown(line: usize, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unknown, line, reason.into())
    }

    fn new(kind: ErrorKind, line: usize, reason: String) -> Self {
        Self { line, reason, kind }
    }

    /// What a capture keeps in place of a file with this error.
    pub(super) fn keep(&self) -> String {
        let kind = match self.kind {
            ErrorKind::Refused => "refused",
            ErrorKind::Unknown => "unknown",
        };
        fault(&format!("{kind} {} {}", self.line, self.reason))
    }

    /// The error that [`Self::keep`] left in a file's place.
    pub(super) fn kept(text: &str) -> Option<Self> {
        let (kind, rest) = known_fault(text)?.split_once(' ')?;
        let (line, reason) = rest.split_once(' ')?;
        let line = line.parse().ok()?;
        Some(match kind {
            "refused" => Self::refused(line, reason),
            _ => Self::unknown(line, reason),
        })
    }

    /// The same with the file before it; `separator` stands between the two.
    pub(super) fn in_file(&self, path: &Path, separator: &str) -> SettingsError {
        let message = format!("{}{separator}{self}", path.display());
        SettingsError::invalid(self.kind, path, message)
    }
}

/// Why the settings are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file, folder or link that must be read cannot be.
    #[error("{error}")]
    Read {
        /// The kernel's answer.
        error: ReadError,
        /// What it means for the kubelet's start.
        kind: ErrorKind,
    },
    /// Something in a file is wrong, or cannot be followed.
    #[error("{message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, and what is wrong: the path is part of this.
        message: String,
        /// What it means for the kubelet's start.
        kind: ErrorKind,
    },
    /// The kubelet asks its container runtime for the driver, and that runtime is not MicroK8s'
    /// own.
    #[error(
        "{endpoint} ({origin}) is not the socket of MicroK8s' own containerd, and the kubelet asks \
         what listens there for the cgroup driver"
    )]
    RuntimeUnknown {
        /// The runtime's socket.
        endpoint: String,
        /// The place that names the socket.
        origin: Origin,
        /// The args file.
        path: PathBuf,
    },
    /// Whether the kubelet asks containerd for its driver depends on a version that is not known.
    #[error(
        "{path} sets the {containerd} driver and the kubelet's own settings {kubelet}: which one \
         counts depends on the kubelet's version, and that cannot be read from the snap"
    )]
    VersionUnknown {
        /// containerd's configuration.
        path: PathBuf,
        /// The driver that it sets.
        containerd: Driver,
        /// The driver by the kubelet's own settings.
        kubelet: Driver,
    },
}

impl SettingsError {
    pub(super) fn invalid(kind: ErrorKind, path: &Path, message: String) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            message,
            kind,
        }
    }

    /// What it means for the kubelet's start.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { kind, .. } | Self::Invalid { kind, .. } => *kind,
            Self::RuntimeUnknown { .. } | Self::VersionUnknown { .. } => ErrorKind::Unknown,
        }
    }

    /// The file that shows it.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Read { error, .. } => error.path.clone(),
            Self::Invalid { path, .. }
            | Self::RuntimeUnknown { path, .. }
            | Self::VersionUnknown { path, .. } => path.clone(),
        }
    }

    /// The kernel's answer, where something could not be read.
    pub fn failed_read(&self) -> Option<&ReadError> {
        if let Self::Read { error, .. } = self {
            Some(error)
        } else {
            None
        }
    }
}

/// For the files of the kubelet's own: one that does not exist or is no file, the kubelet cannot
/// read either.
impl From<ReadError> for SettingsError {
    fn from(error: ReadError) -> Self {
        let kind = match error.errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR => ErrorKind::Refused,
            _ => ErrorKind::Unknown,
        };
        Self::Read { error, kind }
    }
}
