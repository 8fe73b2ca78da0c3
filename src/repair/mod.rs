//! The only room that writes to the machine. It never decides what to do, only how.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "this room writes")
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

/// Why a step came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The kernel refused a change: what was tried, where, with what data, and its answer.
    #[error("cannot {operation} {path}{}: {errno}", with(data), path = path.display())]
    Change {
        /// `write to`, `make`, `remove` …
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What was written; empty where nothing is.
        data: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// What has to be known before the change could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Controllers were refused, and those that were not have been switched off again.
    #[error("cannot write {line:?} to {path}: {}; nothing of it was left switched \
             on", answers(refusals), path = path.display())]
    Refused {
        /// The `cgroup.subtree_control`.
        path: PathBuf,
        /// The whole line that was refused.
        line: String,
        /// Which controllers, and why.
        refusals: Vec<Refusal>,
    },
    /// systemd did not do what it was asked.
    #[error("{call} of systemd over D-Bus: {reason}")]
    Bus {
        /// The method and its argument.
        call: String,
        /// The answer, or that there was none in time.
        reason: String,
    },
    /// Somebody lives where nobody may.
    #[error("left {path} as it is: {reason}", path = path.display())]
    Inhabited {
        /// The group.
        path: PathBuf,
        /// Who, or since when.
        reason: String,
    },
    /// The step belongs to another version of cgroups. No rule plans such a step.
    #[error("this host has no cgroup tree to {step}")]
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
            Self::Bus { .. } | Self::Inhabited { .. } | Self::Misplaced { .. } => None,
        }
    }
}

fn with(data: &str) -> String {
    if data.is_empty() {
        String::new()
    } else {
        format!(" ({data:?})")
    }
}

fn answers(refusals: &[Refusal]) -> String {
    let answer = |refusal: &Refusal| format!("{} gives {}", refusal.controller, refusal.errno);
    let answers: Vec<String> = refusals.iter().map(answer).collect();
    answers.join(", ")
}

/// What a step that did not fail has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: this is a dry run.
    Would,
    /// It is done; with details where there are any.
    Done(Option<String>),
    /// Nothing was left to do when its turn came.
    Nothing,
    /// It was not tried: a step before it failed that it builds on, or the time for housekeeping
    /// was over.
    Skipped,
}

impl Effect {
    /// Done, with these details; nothing where there are none.
    pub(crate) fn listing(details: &[String]) -> Self {
        if details.is_empty() {
            return Self::Nothing;
        }
        Self::Done(Some(details.join(", ")))
    }
}

/// One write of all of `data` into a file that has to be there; kernel files take it whole or
/// refuse it whole.
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
        Ok(_) => Err(change("write to", path, data)(Errno::EIO)),
        Err(errno) => Err(change("write to", path, data)(errno)),
    }
}

/// The kernel's answer in an error of the standard library.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(crate) fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A group is left as it is, since somebody lives in it.
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
