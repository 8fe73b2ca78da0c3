//! The only module that changes the machine. It decides how a step is done, never which steps are
//! done.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "this module writes")
)]

mod bus;
pub mod capture;
mod controllers;
mod groups;
mod processes;
pub(crate) mod replace;
mod slices;
mod state_files;
pub mod step;
pub mod textfile;
mod units;
mod v1;

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::write;

use crate::host::Refusal;
use crate::root::ReadError;

/// Operations whose data becomes part of the message (see [`attempt`]).
const WRITE_TO: &str = "write to";
const MOUNT: &str = "mount";
const RENAME: &str = "rename";

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The kernel refused a change.
    #[error("cannot {}: {errno}", attempt(operation, path, data))]
    Change {
        /// `write to`, `create`, `remove` …
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What was to be written there, or the new name, or the mount options; empty for other
        /// operations.
        data: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Something that the change depends on could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kernel refused to enable controllers. Those that it did enable are disabled again.
    #[error("cannot write {line:?} to {path}: the kernel refuses {}; kubepods-repair has enabled \
             none of these controllers", answers(refusals), path = path.display())]
    Refused {
        /// The path of `cgroup.subtree_control`.
        path: PathBuf,
        /// The whole line that was refused.
        line: String,
        /// The controllers that were refused, each with the kernel's answer.
        refusals: Vec<Refusal>,
    },
    /// systemd did not do what it was asked to.
    #[error("{call} failed: {reason}")]
    Bus {
        /// What was tried, as the subject of a sentence: "D-Bus call StartUnit(kubepods.slice)".
        call: String,
        /// systemd's answer, or that there was none in time.
        reason: String,
    },
    /// The group holds processes that must not be disturbed.
    #[error("gave up on {path}: {reason}", path = path.display())]
    Inhabited {
        /// The directory of the group.
        path: PathBuf,
        /// What is known of the processes.
        reason: String,
    },
    /// Another run holds the lock.
    #[error("another run of kubepods-repair has held {} for {seconds} s", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long this run has waited.
        seconds: u64,
    },
    /// The step belongs to another version of cgroups. No rule plans such a step.
    #[error("this host's cgroup version has no such step: {step}")]
    Misplaced {
        /// The step, in words.
        step: String,
    },
}

impl RepairError {
    /// The kernel's answer, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Change { errno, .. } => Some(*errno),
            Self::Read(error) => Some(error.errno),
            Self::Refused { refusals, .. } => refusals.first().map(|refusal| refusal.errno),
            Self::Locked { .. } => Some(Errno::EWOULDBLOCK),
            Self::Bus { .. } | Self::Inhabited { .. } | Self::Misplaced { .. } => None,
        }
    }
}

/// What was tried, as it follows "cannot".
fn attempt(operation: &str, path: &Path, data: &str) -> String {
    let path = path.display();
    match operation {
        WRITE_TO => format!("write {data:?} to {path}"),
        MOUNT => format!("mount {data} on {path}"),
        RENAME if !data.is_empty() => format!("rename {path} to {data}"),
        _ => format!("{operation} {path}"),
    }
}

/// The controllers and the kernel's answers: `cpu (EINVAL: Invalid argument)`.
fn answers(refusals: &[Refusal]) -> String {
    let answer = |refusal: &Refusal| format!("{} ({})", refusal.controller, refusal.errno);
    let answers: Vec<String> = refusals.iter().map(answer).collect();
    answers.join(", ")
}

/// What came of a step that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was changed: this is a dry run.
    Would,
    /// The change was made; with details where there are any.
    Done(Option<String>),
    /// There was nothing left to change when the step's turn came.
    Nothing,
    /// The step was not tried: an earlier step that it depends on failed, or there was no time left
    /// for housekeeping.
    Skipped,
}

impl Effect {
    /// [`Self::Done`] with these details, or [`Self::Nothing`] if there are none.
    pub(crate) fn listing(details: &[String]) -> Self {
        if details.is_empty() {
            return Self::Nothing;
        }
        Self::Done(Some(details.join(", ")))
    }
}

/// Writes all of `data` to an existing file in one write(2): the kernel's files accept or refuse it
/// as a whole.
pub(crate) fn write_file(path: &Path, data: &str) -> Result<(), RepairError> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let written = open(path, flags, Mode::empty()).and_then(|file| {
        loop {
            match write(&file, data.as_bytes()) {
                Err(Errno::EINTR) => {}
                answer => return answer,
            }
        }
    });
    match written {
        Ok(length) if length == data.len() => Ok(()),
        Ok(_) => Err(change(WRITE_TO, path, data)(Errno::EIO)),
        Err(errno) => Err(change(WRITE_TO, path, data)(errno)),
    }
}

/// The kernel's answer in an error of the standard library.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(crate) fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The error for a group that holds processes which must not be disturbed.
fn inhabited(path: &Path, reason: impl Into<String>) -> RepairError {
    let (path, reason) = (path.to_owned(), reason.into());
    RepairError::Inhabited { path, reason }
}

pub(crate) fn change(
    operation: &'static str,
    path: &Path,
    data: &str,
) -> impl FnOnce(Errno) -> RepairError {
    let (path, data) = (path.to_owned(), data.to_owned());
    move |errno| RepairError::Change {
        operation,
        path,
        data,
        errno,
    }
}
