//! Why the kubelet's settings cannot be used. After one of these errors nothing is guessed and
//! nothing is changed.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::kubelet::setting::{Driver, Origin};
use crate::root::keep::{fault, known_fault};
use crate::root::{Filling, ReadError};

/// What it means for the kubelet's start that its settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The kubelet itself refuses them: it does not start.
    Refused,
    /// This program cannot read or interpret them, so it does not know whether the kubelet starts.
    Unknown,
}

/// What is wrong in one line of a file. The file's path is added by [`Self::in_file`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, without a full stop and without any value that may be a secret. It follows a
    /// colon, so it begins in lower case.
    pub reason: String,
    /// What it means for the kubelet's start.
    pub kind: ErrorKind,
}

impl LineError {
    /// The kubelet refuses this line.
    pub(super) fn refused(line: usize, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, line, reason.into())
    }

    /// What this line amounts to cannot be known here.
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

    /// The same error with the file that the line is in.
    pub(super) fn in_file(&self, path: &Path) -> SettingsError {
        SettingsError::Invalid {
            path: path.to_owned(),
            place: Some(Place::Line(self.line)),
            reason: self.reason.clone(),
            kind: self.kind,
        }
    }
}

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The number of a line, counted from 1.
    Line(usize),
    /// The key of a setting.
    Key(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// Why the settings are not known. The words are a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file, folder or link that must be read cannot be.
    #[error("{}", unread(error))]
    Read {
        /// The kernel's answer.
        error: ReadError,
        /// What it means for the kubelet's start.
        kind: ErrorKind,
    },
    /// Something in a file is wrong, or cannot be followed.
    #[error("{}: {reason}", location(path, place.as_ref()))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, if that is known.
        place: Option<Place>,
        /// What is wrong, as [`LineError::reason`].
        reason: String,
        /// What it means for the kubelet's start.
        kind: ErrorKind,
    },
    /// A file holds what no text file holds.
    #[error(
        "{} contains NUL bytes or is not valid UTF-8, as a power cut can leave it",
        path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it means for the kubelet's start.
        kind: ErrorKind,
    },
    /// The args file does not exist: kubelite exits (`ReadArgsFromFile` of MicroK8s' kubelite).
    #[error("{} does not exist", path.display())]
    ArgsMissing {
        /// The file.
        path: PathBuf,
        /// Whether the node is a worker.
        is_worker: bool,
    },
    /// A power cut has emptied the args file, and without its contents the settings are not known.
    #[error("{} has lost its contents", path.display())]
    ArgsEmptied {
        /// The file.
        path: PathBuf,
        /// What it contains instead.
        filling: Filling,
        /// Whether the node is a worker.
        is_worker: bool,
    },
    /// The kubelet asks its container runtime for the driver, and that runtime is not MicroK8s'
    /// own.
    #[error(
        "The kubelet asks the container runtime at {endpoint} ({origin}) for the cgroup driver. \
         This is not the socket of MicroK8s' own containerd, so the driver is not known"
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
        "{path} sets the cgroup driver {containerd}, but the kubelet's own settings say \
         {kubelet}. Which one counts depends on the kubelet's version, which cannot be read from \
         the snap"
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
    /// Something is wrong in a file, not in one of its lines.
    pub(super) fn invalid(kind: ErrorKind, path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            place: None,
            reason: reason.into(),
            kind,
        }
    }

    /// The kubelet refuses the setting that comes from here.
    pub(super) fn refused_at(origin: &Origin, reason: String) -> Self {
        Self::Invalid {
            path: origin.file().unwrap_or(Path::new("/")).to_owned(),
            place: match origin {
                Origin::Args(_, line) => Some(Place::Line(*line)),
                Origin::Config(_, key) => Some(Place::Key(key)),
                Origin::Default | Origin::Containerd(_) => None,
            },
            reason,
            kind: ErrorKind::Refused,
        }
    }

    /// What it means for the kubelet's start.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { kind, .. } | Self::Invalid { kind, .. } | Self::NotText { kind, .. } => {
                *kind
            }
            Self::ArgsMissing { .. } | Self::ArgsEmptied { .. } => ErrorKind::Refused,
            Self::RuntimeUnknown { .. } | Self::VersionUnknown { .. } => ErrorKind::Unknown,
        }
    }

    /// What is wrong, as a sentence without a full stop for a reader who knows [`Self::path`].
    pub fn evidence(&self) -> String {
        match self {
            Self::Read { error, .. } => match error.errno {
                Errno::ENOENT => "It does not exist".to_owned(),
                Errno::EISDIR => "It is a directory, not a file".to_owned(),
                _ => format!(
                    "kubepods-repair cannot {} it: {}",
                    error.operation, error.errno
                ),
            },
            Self::Invalid { place, reason, .. } => match place {
                Some(Place::Line(line)) => format!("Line {line}: {reason}"),
                Some(Place::Key(key)) => format!("{key}: {reason}"),
                None => format!("In this file, {reason}"),
            },
            Self::NotText { .. } => {
                "The file contains NUL bytes or is not valid UTF-8, as a power cut can leave it"
                    .to_owned()
            }
            Self::VersionUnknown {
                containerd,
                kubelet,
                ..
            } => format!(
                "This file sets the cgroup driver {containerd}, but the kubelet's own settings say \
                 {kubelet}. Which one counts depends on the kubelet's version, which cannot be \
                 read from the snap"
            ),
            Self::ArgsMissing { .. } => "It does not exist".to_owned(),
            Self::ArgsEmptied { .. } | Self::RuntimeUnknown { .. } => self.to_string(),
        }
    }

    /// The file that shows it.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Read { error, .. } => error.path.clone(),
            Self::Invalid { path, .. }
            | Self::NotText { path, .. }
            | Self::RuntimeUnknown { path, .. }
            | Self::VersionUnknown { path, .. }
            | Self::ArgsMissing { path, .. }
            | Self::ArgsEmptied { path, .. } => path.clone(),
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

/// `PATH`, `PATH, line 3` or `PATH, cgroupRoot`.
fn location(path: &Path, place: Option<&Place>) -> String {
    let path = path.display();
    place.map_or_else(|| path.to_string(), |place| format!("{path}, {place}"))
}

/// What a failed read says, as a sentence.
fn unread(error: &ReadError) -> String {
    let ReadError {
        operation,
        path,
        errno,
    } = error;
    let path = path.display();
    match errno {
        Errno::ENOENT => format!("{path} does not exist"),
        Errno::EISDIR => format!("{path} is a directory, not a file"),
        _ => format!("kubepods-repair cannot {operation} {path}: {errno}"),
    }
}

/// For the kubelet's own files: if one does not exist or is not a file, the kubelet cannot read it
/// either.
impl From<ReadError> for SettingsError {
    fn from(error: ReadError) -> Self {
        let kind = match error.errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR => ErrorKind::Refused,
            _ => ErrorKind::Unknown,
        };
        Self::Read { error, kind }
    }
}
