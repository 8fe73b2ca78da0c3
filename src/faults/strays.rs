//! Processes where none may be: in kubepods or a QoS group.
//!
//! Rests on libcontainer's `fs2/create.go`, which dies of a kubepods that cannot pass controllers
//! on, and on `Documentation/admin-guide/cgroup-v2.rst`, "No Internal Process Constraint".

use crate::cgroup::CgroupPath;
use crate::faults::finding::count;
use crate::faults::{Case, Fault, Finding, Impact, Nature, Remedy, Step, limits};
use crate::host::group::{Group, MAX_NAMED, Process, members_file};

pub(super) const FAULTS: &[&Fault] = &[&STRAY_PROCESSES];

pub(crate) static STRAY_PROCESSES: Fault = Fault {
    name: "stray-processes",
    message_id: "af7195e9bd4543dfb68cd62f81fb0b68",
    title: "Processes sit where only groups may be",
    meaning: "A cgroup that passes controllers on may hold no process of its own. Processes \
              directly in kubepods make the kubelet die (\"it is in an invalid state\"); in a QoS \
              group they keep limits from its pods.",
    signs: "cgroup.procs of kubepods, of a QoS group or of a group above them lists processes; the \
            finding names them.",
    remedy: "kubepods-repair moves them, unharmed, to the group kubepods-strays beside kubepods, \
             which it removes once it is empty. It moves nobody out of a group that is not the \
             kubelet's own.",
    by_hand: "Find out who put them there, or it will happen again. To move one: mkdir \
              /sys/fs/cgroup/elsewhere, then echo PID > /sys/fs/cgroup/elsewhere/cgroup.procs. \
              Never switch controllers on one at a time while they sit there: that makes the group \
              threaded.",
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
            "the kubelet dies of it: a group that holds processes cannot pass controllers on",
        )
    } else {
        Impact::degraded(
            "pods below cannot get their limits: a group that holds processes cannot pass \
             controllers on",
        )
    };
    let remedy = stuck(case, group).unwrap_or_else(|| Remedy::step(move_out(case, group)));
    let location = case.at_file(&group.path, members_file(group.kind));
    Some(STRAY_PROCESSES.finding(impact, location, evidence, remedy))
}

/// The group for strays, once nothing needs it any more.
pub(super) fn empty_group(case: &Case) -> Option<Finding> {
    let group = case.group(&case.layout.strays)?;
    if group.populated {
        return None;
    }
    let evidence = "the group that strays were moved to is empty";
    let impact = Impact::notice("no process needs it any more");
    let remedy = Remedy::step(Step::RemoveStraysGroup(group.path.clone()));
    Some(STRAY_PROCESSES.finding(impact, case.at(&group.path), evidence, remedy))
}

/// Frozen processes go to a frozen group: to be moved must not be what sets them going again.
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

/// Why its processes cannot be moved out. Who has no number in this pid namespace cannot be moved
/// from it: to the kernel a 0 is whoever writes it.
pub(super) fn stuck(case: &Case, group: &Group) -> Option<Remedy> {
    if group.processes.iter().any(|process| process.pid == 0) {
        return Some(Remedy::tell(
            "a process of another pid namespace (listed as 0) is among them; move them out from \
             the host",
        ));
    }
    let refuge = refuge(case, group);
    if group.processes.is_empty() || !limits::leave_no_room_for(case, &refuge) {
        return None;
    }
    Some(Remedy::tell(format!(
        "there is no room for {}, where they would go: cure limits-exhausted first",
        case.directory(&refuge).display()
    )))
}

/// `holds 2 processes (frozen): 812 (sleep), 813 (bash)`, with ` (frozen)` as the `nature`.
pub(super) fn holds(processes: &[Process], nature: &str) -> String {
    let holds = count(processes.len(), "process", "processes");
    format!("holds {holds}{nature}: {}", name_processes(processes))
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
