//! Tasks for whose sake the kernel refuses a controller (`kernel/sched/core.c`,
//! `kernel/cgroup/cpuset.c`).

use crate::cgroup::{CgroupPath, Controllers};
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Occasion};
use crate::host::tasks::{Policy, Task};
use crate::host::{Blockers, RestartStamp};
use crate::kubelet::microk8s::MICROK8S;
use nix::errno::Errno;

/// Of more tasks than this only the number is told.
const NAMED: usize = 5;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let Some(blockers) = &case.tree.blockers else {
        return Vec::new();
    };
    let realtime = realtime(case, blockers);
    let alone = realtime.as_ref().is_none_or(|finding| !finding.is_fatal());
    [pinned(case, blockers, alone), realtime]
        .into_iter()
        .flatten()
        .collect()
}

/// The topmost group on the way to kubepods where `controller` is not passed on.
fn first_without(case: &Case, controller: &str) -> Option<CgroupPath> {
    let above = case.layout.kubepods.ancestors();
    above
        .into_iter()
        .find(|path| case.lacking(path).contains(controller))
}

fn pinned(case: &Case, blockers: &Blockers, alone: bool) -> Option<Finding> {
    let place = first_without(case, "cpuset")?;
    let tasks = below(blockers, &place, |task| task.pinned);
    let remedy = match restart(case, blockers, &tasks, alone) {
        Ok(step) => Remedy::Steps(vec![step]),
        Err(why_not) => Remedy::Tell(by_hand(&tasks, &why_not)),
    };
    let impact = Impact::fatal(
        "the kernel refuses +cpuset (EINVAL) while a task that must not change its CPUs lives \
         outside the root cgroup, and the kubelet then says that kubepods doesn't exist",
    );
    let blocked = Blocked {
        controller: "cpuset",
        group: &place,
        tasks: &tasks,
    };
    finding(
        case,
        Fault::PinnedTaskBlocksCpuset,
        impact,
        &blocked,
        remedy,
    )
}

/// The restart that would remove the tasks, or why there is none.
fn restart(case: &Case, blockers: &Blockers, tasks: &[&Task], alone: bool) -> Result<Step, String> {
    let unit = MICROK8S.restartable_unit;
    if tasks.iter().any(|task| task.unit() != Some(unit)) {
        Err("it belongs to no unit that may be restarted for this".to_owned())
    } else if !alone {
        Err(format!(
            "{unit} was not restarted, since a real-time task blocks cpu as well"
        ))
    } else if blockers
        .stamp
        .as_ref()
        .is_some_and(|stamp| stamp.is_older_than(tasks))
    {
        Err(format!(
            "{unit} was restarted once since the boot and is not again"
        ))
    } else if case.terms.no_restart {
        Err(format!("without --no-restart {unit} would be restarted"))
    } else if case.terms.occasion != Occasion::PreStart {
        Err(format!(
            "systemctl restart {} cures it, for its pre-start restarts {unit}",
            MICROK8S.kubelet_unit
        ))
    } else {
        let stamp = tasks.iter().map(|task| RestartStamp::line(task)).collect();
        Ok(Step::Restart {
            unit: unit.to_owned(),
            stamp,
        })
    }
}

fn by_hand(tasks: &[&Task], why_not: &str) -> String {
    let units = quoted(&units(tasks));
    let now = match tasks.iter().all(|task| task.unit().is_some()) {
        true => format!("systemctl stop {units}; kubepods-repair; systemctl start {units}"),
        false => format!("end what runs in {units}, run kubepods-repair, start it again"),
    };
    format!(
        "{why_not}; by hand: {now}. For good: let it start after kubepods-repair.service, or keep \
         it from io_uring (for k8s-dqlite: UV_USE_IO_URING=0 in args/k8s-dqlite-env), or use a \
         kernel from 6.3 or 6.1.110 on"
    )
}

/// A shell would eat the backslash of an escaped unit name.
fn quoted(names: &str) -> String {
    match names.contains('\\') {
        true => names
            .split(' ')
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(" "),
        false => names.to_owned(),
    }
}

fn realtime(case: &Case, blockers: &Blockers) -> Option<Finding> {
    let place = first_without(case, "cpu")?;
    let refused = case
        .tree
        .refusals
        .iter()
        .any(|refusal| refusal.controller == "cpu" && refusal.errno == Errno::EINVAL);
    let impact = match (refused, blockers.rt_group_sched) {
        (true, _) | (false, Some(true)) => Impact::fatal(
            "this kernel (CONFIG_RT_GROUP_SCHED) refuses +cpu (EINVAL) while a real-time task \
             lives outside the root cgroup, and the kubelet then says that kubepods doesn't \
             exist",
        ),
        (false, None) => Impact::notice(
            "if this kernel has CONFIG_RT_GROUP_SCHED, which its configuration does not tell, it \
             refuses +cpu (EINVAL) and the kubelet dies",
        ),
        (false, Some(false)) => return None,
    };
    // Deadline tasks are refused up to 6.1 and pass in 6.12; the releases between were not read.
    let deadline_passes = case.host.kernel.is_at_least(6, 12);
    let tasks = below(blockers, &place, |task| {
        task.realtime && !(deadline_passes && task.policy == Policy::Deadline)
    });
    let units = units(&tasks);
    let how = format!(
        "if {units} only prefers real time, put RestrictRealtime=yes into a drop-in for it and \
         restart it; rtkit can be removed where nobody needs it; a kernel without \
         CONFIG_RT_GROUP_SCHED (or, from 6.16 on, rt_group_sched=0 on its command line) does not \
         refuse; once cpu is on, every real-time unit that starts later fails"
    );
    let blocked = Blocked {
        controller: "cpu",
        group: &place,
        tasks: &tasks,
    };
    finding(
        case,
        Fault::RealtimeTaskBlocksCpu,
        impact,
        &blocked,
        Remedy::Tell(how),
    )
}

/// A write at `place` moves only the tasks below it into new groups.
fn below<'a>(
    blockers: &'a Blockers,
    place: &CgroupPath,
    is_meant: impl Fn(&Task) -> bool,
) -> Vec<&'a Task> {
    blockers
        .tasks
        .iter()
        .filter(|task| is_meant(task) && place.is_above(&task.cgroup))
        .collect()
}

/// A controller, the group that does not pass it on, and the tasks that keep it from doing so.
struct Blocked<'a> {
    controller: &'static str,
    group: &'a CgroupPath,
    tasks: &'a [&'a Task],
}

fn finding(
    case: &Case,
    fault: Fault,
    impact: Impact,
    blocked: &Blocked,
    remedy: Remedy,
) -> Option<Finding> {
    let Blocked {
        controller,
        group,
        tasks,
    } = *blocked;
    if tasks.is_empty() {
        return None;
    }
    let mut named: Vec<String> = tasks
        .iter()
        .take(NAMED)
        .map(|task| describe(task))
        .collect();
    if tasks.len() > NAMED {
        named.push(format!("and {} more", tasks.len() - NAMED));
    }
    let errno = case
        .tree
        .refusals
        .iter()
        .find(|refusal| refusal.controller == controller)
        .map(|refusal| refusal.errno);
    let evidence = format!(
        "not passed on: {controller}; blocked by {}",
        named.join("; ")
    );
    let location = case.at_file(group, "cgroup.subtree_control");
    let mut finding = Finding::new(fault, impact, location, evidence, remedy);
    finding.controllers = [controller].into_iter().collect::<Controllers>();
    finding.errno = errno;
    Some(finding)
}

fn describe(task: &Task) -> String {
    let of = if task.tid == task.pid {
        String::new()
    } else {
        format!(" of process {}", task.pid)
    };
    let nature = match task.policy {
        Policy::Fifo => format!("SCHED_FIFO priority {}", task.priority),
        Policy::RoundRobin => format!("SCHED_RR priority {}", task.priority),
        Policy::Deadline => "SCHED_DEADLINE".to_owned(),
        Policy::Other if task.realtime => "with a real-time priority lent to it".to_owned(),
        Policy::Other => "pinned to its CPUs".to_owned(),
    };
    format!(
        "task {} ({}){of}, {nature}, in {}",
        task.tid,
        task.comm,
        home(task)
    )
}

/// Its unit, or else its group.
fn home(task: &Task) -> String {
    task.unit()
        .map_or_else(|| task.cgroup.to_string(), str::to_owned)
}

fn units(tasks: &[&Task]) -> String {
    let mut units: Vec<String> = tasks.iter().map(|task| home(task)).collect();
    units.sort_unstable();
    units.dedup();
    units.truncate(NAMED);
    units.join(" ")
}
