//! Processes where none are allowed: in kubepods or a QoS group.
//!
//! Rests on libcontainer's `fs2/create.go`, which fails if kubepods cannot pass controllers on, and
//! on `Documentation/admin-guide/cgroup-v2.rst`, "No Internal Process Constraint".

use crate::cgroup::CgroupPath;
use crate::faults::finding::count;
use crate::faults::{Case, Fault, Finding, Impact, Nature, Remedy, Step, limits};
use crate::host::group::{Group, MAX_NAMED, Process, members_file};

pub(super) const FAULTS: &[&Fault] = &[&STRAY_PROCESSES];

pub(crate) static STRAY_PROCESSES: Fault = Fault {
    name: "stray-processes",
    message_id: "af7195e9bd4543dfb68cd62f81fb0b68",
    title: "Processes are in a cgroup where none are allowed",
    meaning: "A cgroup that enables controllers for its child cgroups must not hold processes \
              itself. With processes directly in kubepods, the kubelet does not start (\"it is in \
              an invalid state\"). With processes directly in a QoS cgroup, its pods do not get \
              their limits.",
    signs: "cgroup.procs of kubepods, of a QoS cgroup or of a cgroup above them lists processes. \
            The finding names them.",
    remedy: "kubepods-repair moves the processes, unharmed, to the cgroup kubepods-strays beside \
             kubepods, and removes that cgroup once it is empty. It does not move processes out of \
             a cgroup that is not the kubelet's own.",
    by_hand: "Find out what put the processes there, otherwise it will happen again. To move a \
              process: mkdir /sys/fs/cgroup/elsewhere, then echo PID > \
              /sys/fs/cgroup/elsewhere/cgroup.procs. Never enable controllers one at a time while \
              processes are in the cgroup: this makes the cgroup threaded.",
    threads: &[],
    does: "moves them, unharmed, to kubepods-strays beside kubepods",
    nature: Nature::Fault,
};

/// The group for frozen strays, in the one for strays.
const FROZEN_STRAYS: &str = "frozen";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let judged = |group| judge(case, group);
    case.own_groups().filter_map(judged).collect()
}

fn judge(case: &Case, group: &Group) -> Option<Finding> {
    if group.processes.is_empty() {
        return None;
    }
    let frozen = is_frozen(case, group).then_some(" (frozen)");
    let evidence = holds(&group.processes, frozen.unwrap_or_default());
    let impact = if group.path == case.layout.kubepods {
        Impact::fatal(
            "A cgroup that holds processes cannot enable controllers for its child cgroups, so the \
             kubelet does not start",
        )
    } else {
        Impact::degraded(
            "A cgroup that holds processes cannot enable controllers for its child cgroups, so the \
             pods below do not get their limits",
        )
    };
    let remedy = stuck(case, group).unwrap_or_else(|| Remedy::step(move_out(case, group)));
    let location = case.at_file(&group.path, members_file(group.kind));
    Some(STRAY_PROCESSES.finding(impact, location, evidence, remedy))
}

/// The group for strays, once it is no longer needed.
pub(super) fn empty_group(case: &Case) -> Option<Finding> {
    let group = case.group(&case.layout.strays)?;
    if group.populated {
        return None;
    }
    let evidence = "The cgroup to which stray processes were moved is empty";
    let impact = Impact::notice("It is no longer needed");
    let remedy = Remedy::step(Step::RemoveStraysGroup(group.path.clone()));
    Some(STRAY_PROCESSES.finding(impact, case.at(&group.path), evidence, remedy))
}

/// Frozen processes go to a frozen group: being moved must not make them run again.
pub(super) fn move_out(case: &Case, group: &Group) -> Step {
    Step::MoveProcesses {
        from: group.path.clone(),
        to: refuge(case, group),
        frozen: is_frozen(case, group),
    }
}

/// Where the processes of this group go.
fn refuge(case: &Case, group: &Group) -> CgroupPath {
    let strays = &case.layout.strays;
    if is_frozen(case, group) {
        strays.join(FROZEN_STRAYS)
    } else {
        strays.clone()
    }
}

/// Whether the group or one above it is frozen.
fn is_frozen(case: &Case, group: &Group) -> bool {
    let way = group.path.ancestors();
    let mut above = way.iter().filter_map(|path| case.group(path));
    group.frozen || above.any(|above| above.frozen)
}

/// Why its processes cannot be moved out. A process without a number in this PID namespace cannot
/// be moved from within it: the kernel takes a 0 for the process that writes it.
pub(super) fn stuck(case: &Case, group: &Group) -> Option<Remedy> {
    if group.processes.iter().any(|process| process.pid == 0) {
        return Some(Remedy::tell(
            "Move the processes out of this cgroup from the host: one of them belongs to another \
             PID namespace (listed as 0)",
        ));
    }
    let refuge = refuge(case, group);
    if group.processes.is_empty() || !limits::leave_no_room_for(case, &refuge) {
        return None;
    }
    Some(Remedy::tell(format!(
        "Resolve limits-exhausted first: there is no room for {}, to which the processes would be \
         moved",
        case.directory(&refuge).display()
    )))
}

/// `This cgroup holds 2 processes (frozen): 812 (sleep), 813 (bash)`, with ` (frozen)` as the
/// `nature`.
pub(super) fn holds(processes: &[Process], nature: &str) -> String {
    let held = count(processes.len(), "process", "processes");
    let names = name_processes(processes);
    format!("This cgroup holds {held}{nature}: {names}")
}

/// `812 (sleep), 813 (bash) and 3 more`
pub(super) fn name_processes(processes: &[Process]) -> String {
    let name = |process: &Process| match process.comm.as_str() {
        "" => process.pid.to_string(),
        comm => format!("{} ({comm})", process.pid),
    };
    let named: Vec<String> = processes.iter().take(MAX_NAMED).map(name).collect();
    let named = named.join(", ");
    match processes.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
