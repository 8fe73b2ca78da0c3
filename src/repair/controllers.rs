//! Enables controllers, and never leaves the tree worse than it was.
//!
//! The kernel accepts or refuses a line of several controllers as a whole. They are tried one by
//! one only if the group itself holds no process: in a group with a process, `+cpu` alone succeeds
//! and makes the group threaded, after which no domain controller can be enabled there
//! (`cgroup_subtree_control_write` and `cgroup_enable_threaded` in `kernel/cgroup/cgroup.c`).

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::{Refusal, Tree};
use crate::repair::{Effect, RepairError, write_file};
use crate::root::Root;

const CPUSET: &str = "cpuset";
const TRANSIENT_TRIES: usize = 3;
const TRANSIENT_PAUSE: Duration = Duration::from_millis(10);

/// Enables all of `wanted` in the group's `cgroup.subtree_control`, or none.
pub(super) fn enable(
    root: &Root,
    tree: &Tree,
    group: &CgroupPath,
    wanted: &Controllers,
) -> Result<Effect, RepairError> {
    let path = tree.file(group, "cgroup.subtree_control");
    let missing = wanted.minus(&Controllers::parse(&root.read(&path)?));
    if missing.is_empty() {
        return Ok(Effect::Nothing);
    }
    let line = signed('+', missing.iter());
    let errno = match write_patiently(&path, &line) {
        Ok(()) => return Ok(Effect::Done(None)),
        Err(RepairError::Change { errno, .. }) => errno,
        Err(error) => return Err(error),
    };
    let refusals: Vec<Refusal> = if is_free_of_processes(root, tree, group)? {
        who_refuses(&path, group, &missing)
    } else {
        let all = missing.iter().map(|name| refusal(group, name, errno));
        all.collect()
    };
    if refusals.is_empty() {
        return Ok(Effect::Done(None));
    }
    Err(RepairError::Refused {
        path,
        line,
        refusals,
    })
}

/// Retries a write that gives EINVAL. Before kernel 6.1 a task in the middle of a fork causes it,
/// and some io_uring threads exist only briefly: only an answer that lasts is a refusal.
fn write_patiently(path: &Path, line: &str) -> Result<(), RepairError> {
    for _ in 0..TRANSIENT_TRIES {
        match write_file(path, line) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => {
                std::thread::sleep(TRANSIENT_PAUSE);
            }
            answer => return answer,
        }
    }
    write_file(path, line)
}

/// Tries the controllers one by one. If the kernel refuses any of them, those that it enabled are
/// disabled again. cpuset is tried last, and only if the others do not explain the refusal: before
/// kernel 6.2 every `+cpuset` resets the CPU affinity that `CPUAffinity=` or sched_setaffinity(2)
/// gave to the tasks below (`cpuset_attach`), and a crash-looping service may run this at each
/// start.
fn who_refuses(path: &Path, group: &CgroupPath, missing: &Controllers) -> Vec<Refusal> {
    let mut taken = Vec::new();
    let mut refusals = Vec::new();
    let others = missing.iter().filter(|name| *name != CPUSET);
    for name in others.chain(missing.iter().filter(|name| *name == CPUSET)) {
        if name == CPUSET && !refusals.is_empty() {
            break;
        }
        match write_file(path, &signed('+', [name].into_iter())) {
            Ok(()) => taken.push(name),
            Err(RepairError::Change { errno, .. }) => refusals.push(refusal(group, name, errno)),
            Err(_) => refusals.push(refusal(group, name, Errno::EIO)),
        }
    }
    if !refusals.is_empty() {
        // EBUSY means that systemd or another process now uses the controller. It stays enabled
        // then, which does no harm.
        for name in taken {
            let _ = write_file(path, &signed('-', [name].into_iter()));
        }
    }
    refusals
}

fn is_free_of_processes(root: &Root, tree: &Tree, group: &CgroupPath) -> Result<bool, RepairError> {
    let is_real_root = group.is_root() && !root.exists(&tree.file(group, "cgroup.type"))?;
    let processes = || root.read(&tree.file(group, "cgroup.procs"));
    Ok(is_real_root || processes().is_ok_and(|list| list.is_empty()))
}

fn refusal(group: &CgroupPath, controller: &str, errno: Errno) -> Refusal {
    Refusal {
        group: group.clone(),
        controller: controller.to_owned(),
        errno,
    }
}

fn signed<'a>(sign: char, names: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = names.map(|name| format!("{sign}{name}")).collect();
    words.join(" ")
}
