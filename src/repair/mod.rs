//! The only room that writes to the machine. It never decides what to do, only how.

mod bus;
pub mod capture;
mod checkpoints;
mod controllers;
mod groups;
pub mod lock;
pub mod marker;
mod processes;
mod replace;
mod slices;
pub mod tally;
pub mod textfile;
mod units;
mod v1;

use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::write;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::Step;
use crate::host::{Host, Refusal, Tree};
use crate::plan::Planned;
use crate::repair::processes::Refuge;
use crate::root::{ReadError, Root};
use crate::sys;

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
}

fn with(data: &str) -> String {
    if data.is_empty() {
        String::new()
    } else {
        format!(" ({data:?})")
    }
}

fn answers(refusals: &[Refusal]) -> String {
    let answers: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("{} gives {}", refusal.controller, refusal.errno))
        .collect();
    answers.join(", ")
}

/// A step and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was to be done.
    pub step: Step,
    /// Why.
    pub faults: Vec<Fault>,
    /// What came of it.
    pub result: Result<Effect, RepairError>,
}

impl Taken {
    /// Whether it has changed something.
    pub fn is_done(&self) -> bool {
        matches!(self.result, Ok(Effect::Done(_)))
    }
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

/// Takes the steps in order. After one that builds has failed, no other that builds is tried.
/// Housekeeping ends at `until`.
pub fn apply(root: &Root, host: &Host, plan: Vec<Planned>, until: Instant) -> Vec<Taken> {
    let mut failed = false;
    let steps = plan.len();
    let mount = host
        .tree
        .as_ref()
        .map_or(Path::new("/"), |tree| tree.mount.as_path());
    let mut taken = Vec::with_capacity(steps);
    for Planned { step, faults } in plan {
        let words = step.words(mount);
        sys::doing(format!(
            "taking step {} of {steps} ({} {})",
            taken.len() + 1,
            words.plain,
            words.object
        ));
        let is_late = step.is_housekeeping() && Instant::now() >= until;
        let result = match (&host.tree, &host.v1) {
            _ if is_late || failed && step.builds() => Ok(Effect::Skipped),
            (Some(tree), _) => take(root, tree, &step, until),
            (None, Some(v1)) => v1::take(root, v1, &step, until),
            (None, None) => take_without_tree(&step),
        };
        failed |= result.is_err() && step.builds();
        taken.push(Taken {
            step,
            faults,
            result,
        });
    }
    taken
}

/// Restarts the unit. The lock must not be held: the unit's own pre-start wants it.
pub fn restart(Planned { step, faults }: Planned) -> Taken {
    Taken {
        result: take_without_tree(&step),
        step,
        faults,
    }
}

fn take(root: &Root, tree: &Tree, step: &Step, until: Instant) -> Result<Effect, RepairError> {
    let directory = |group: &CgroupPath| group.under(&tree.mount);
    match step {
        Step::LiftLimit { group, file } => {
            write_file(&tree.file(group, file), "max").map(|()| Effect::Done(None))
        }
        Step::RemovePods(pods) => groups::remove_pods(root, tree, pods, until),
        Step::RemoveTree(group) => groups::remove_tree(root, tree, group),
        Step::RemoveQosGroup(group) => groups::remove_qos_group(root, tree, group),
        Step::MoveProcesses { from, to, frozen } => processes::move_out(
            root,
            &directory(from),
            &Refuge {
                tree,
                group: to,
                frozen: *frozen,
            },
        ),
        Step::MakeAnew(group) => groups::make_anew(root, tree, group),
        Step::Make(group) => groups::make(&directory(group)),
        Step::MakeQosGroup(group) => groups::make_qos_group(root, tree, group),
        Step::StartSlice(slice) => slices::start(slice).map(|()| Effect::Done(None)),
        Step::AskForSlice { slice, keeping } => {
            slices::ask_for(root, &tree.mount, slice, keeping)?;
            // Where somebody has removed the directory, systemd still believes it to be there.
            groups::make(&directory(slice)).map(|_| Effect::Done(None))
        }
        Step::Enable { group, controllers } => controllers::enable(root, tree, group, controllers),
        Step::Thaw(group) => groups::thaw(root, tree, group),
        Step::RemoveStraysGroup(group) => {
            groups::remove_with_all_below(root, &directory(group)).map(|()| Effect::Done(None))
        }
        Step::Mount { .. } | Step::FillCpuset(_) | Step::Restart { .. } | Step::SetAside { .. } => {
            take_without_tree(step)
        }
    }
}

fn take_without_tree(step: &Step) -> Result<Effect, RepairError> {
    match step {
        Step::Restart { unit, stamp } => units::restart(unit, stamp),
        Step::SetAside { file, boot_id } => checkpoints::set_aside(file, boot_id),
        _ => Ok(Effect::Skipped),
    }
}

/// One write of all of `data` into a file that has to be there; kernel files take it whole or
/// refuse it whole.
fn write_file(path: &Path, data: &str) -> Result<(), RepairError> {
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
fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn change(operation: &'static str, path: &Path, data: &str) -> impl FnOnce(Errno) -> RepairError {
    let (path, data) = (path.to_owned(), data.to_owned());
    move |errno| RepairError::Change {
        operation,
        path,
        data,
        errno,
    }
}
