//! Tasks for whose sake the kernel refuses a controller (`kernel/sched/core.c`,
//! `kernel/cgroup/cpuset.c`).

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Case, Fault, Finding, Impact, Nature, Occasion, Remedy, Step};
use crate::host::Blockers;
use crate::host::tasks::{Policy, Task};
use crate::kubelet::microk8s::MICROK8S;
use crate::state::RestartStamp;

pub(super) const FAULTS: &[&Fault] = &[&PINNED_TASK_BLOCKS_CPUSET, &REALTIME_TASK_BLOCKS_CPU];

pub(crate) static PINNED_TASK_BLOCKS_CPUSET: Fault = Fault {
    name: "pinned-task-blocks-cpuset",
    message_id: "a1fdfcb037664cd280da24de7024487d",
    title: "A pinned task makes the kernel refuse the cpuset controller",
    meaning: "A task that must not change its CPUs (PF_NO_SETAFFINITY) lives outside the root \
              cgroup, and until it is gone the kernel answers \"invalid argument\" to +cpuset. On \
              kernels before 6.3 and 6.1.110 the io_uring threads of k8s-dqlite are such tasks, \
              which is why a node may start well for months and never again after one power cut.",
    signs: "cpuset is not passed on to kubepods, and a task outside the root cgroup has the bit \
            0x04000000 in the ninth field of its /proc/PID/task/TID/stat. Names play no part; the \
            thread of an io_uring is called iou-sqp-PID.",
    remedy: "Before the kubelet's start, kubepods-repair restarts k8s-dqlite once a boot if \
             nothing else blocks the controller: its own pre-start anchors the controller in \
             between, and then the task disturbs nobody. Anything else it leaves alone.",
    by_hand: "Stop the unit that is named, run kubepods-repair, start the unit again. For good: \
              let it start after kubepods-repair.service; or keep it from io_uring (for \
              k8s-dqlite: UV_USE_IO_URING=0 in /var/snap/microk8s/current/args/k8s-dqlite-env); or \
              use a kernel from 6.3 or 6.1.110 on.",
    threads: &[
        "canonical/microk8s#4378",
        "canonical/microk8s#4361",
        "k3s-io/k3s#6318",
        "kubernetes/kubernetes#113322",
        "containers/crun#1563",
    ],
    does: "restarts k8s-dqlite, once a boot and only before the kubelet's start; otherwise reports \
           the task",
    nature: Nature::Fault,
};

pub(crate) static REALTIME_TASK_BLOCKS_CPU: Fault = Fault {
    name: "realtime-task-blocks-cpu",
    message_id: "fe383c58d1f4408b8271b8f7b0658d65",
    title: "A real-time task makes the kernel refuse the cpu controller",
    meaning: "This kernel has CONFIG_RT_GROUP_SCHED, and a real-time task lives outside the root \
              cgroup: until it is gone the kernel answers \"invalid argument\" to +cpu, and the \
              kubelet dies. multipathd and rtkit-daemon are the usual ones.",
    signs: "cpu is not passed on to kubepods, and a task outside the root cgroup has a real-time \
            policy (FIFO, RR; field 41 of its stat file). Whether the kernel has the option is \
            read from /proc/config.gz or /boot/config-RELEASE.",
    remedy: "kubepods-repair names the task and its unit. It never restarts such a unit, since it \
             would fail: once cpu is on, no task outside the root cgroup can become real-time.",
    by_hand: "Put RestrictRealtime=yes into a drop-in for a program that only prefers real time \
              (multipathd does) and restart it, remove rtkit where nobody needs it, or boot a \
              kernel without the option or, from 6.16 on, with rt_group_sched=0. Then run \
              kubepods-repair.",
    threads: &[
        "canonical/microk8s#3895",
        "flatcar/Flatcar#1395",
        "rancher/rke2#5923",
    ],
    does: "reports the task: its service could not start again",
    nature: Nature::Fault,
};

/// Of more tasks than this only the number is said.
const MAX_LISTED: usize = 5;

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let Some(blockers) = &case.learned.blockers else {
        return Vec::new();
    };
    let realtime = realtime(case, blockers);
    let is_alone = realtime.as_ref().is_none_or(|finding| !finding.is_fatal());
    let pinned = pinned(case, blockers, is_alone);
    pinned.into_iter().chain(realtime).collect()
}

/// A controller, the group that does not pass it on, and the tasks that keep it from doing so.
struct Blocked<'a> {
    controller: &'static str,
    group: CgroupPath,
    tasks: Vec<&'a Task>,
}

impl<'a> Blocked<'a> {
    /// At the topmost group on the way to kubepods that does not pass `controller` on: a write
    /// there moves only the tasks below it into new groups.
    fn find(
        case: &Case,
        blockers: &'a Blockers,
        controller: &'static str,
        blocks: impl Fn(&Task) -> bool,
    ) -> Option<Self> {
        let way = case.layout.kubepods.ancestors();
        let lacks = |path: &CgroupPath| case.lacking(path).contains(controller);
        let group = way.into_iter().find(lacks)?;
        let is_meant = |task: &&Task| blocks(task) && group.is_above(&task.cgroup);
        let tasks: Vec<&Task> = blockers.tasks.iter().filter(is_meant).collect();
        (!tasks.is_empty()).then_some(Self {
            controller,
            group,
            tasks,
        })
    }

    fn finding(
        &self,
        case: &Case,
        fault: &'static Fault,
        impact: Impact,
        remedy: Remedy,
    ) -> Finding {
        let Self { controller, .. } = self;
        let listed = self.tasks.iter().take(MAX_LISTED);
        let mut named: Vec<String> = listed.map(|task| describe(task)).collect();
        if self.tasks.len() > MAX_LISTED {
            named.push(format!("and {} more", self.tasks.len() - MAX_LISTED));
        }
        let evidence = format!(
            "not passed on: {controller}; blocked by {}",
            named.join("; ")
        );
        let location = case.at_file(&self.group, "cgroup.subtree_control");
        let mut refusals = case.learned.refusals.iter();
        let refusal = refusals.find(|refusal| refusal.controller == *controller);
        let mut finding = fault.finding(impact, location, evidence, remedy);
        finding.errno = refusal.map(|refusal| refusal.errno);
        finding.about(Controllers::parse(controller))
    }

    fn units(&self) -> String {
        let mut units: Vec<String> = self.tasks.iter().map(|task| home(task)).collect();
        units.sort_unstable();
        units.dedup();
        units.truncate(MAX_LISTED);
        units.join(" ")
    }
}

fn pinned(case: &Case, blockers: &Blockers, is_alone: bool) -> Option<Finding> {
    let blocked = Blocked::find(case, blockers, "cpuset", |task| task.pinned)?;
    let remedy = match restart(case, &blocked.tasks, is_alone) {
        Ok(step) => Remedy::step(step),
        Err(why_not) => Remedy::tell(by_hand(&blocked, &why_not)),
    };
    let effect = "the kernel refuses +cpuset (EINVAL) while a task that must not change its CPUs \
                  lives outside the root cgroup, and the kubelet then says that kubepods doesn't \
                  exist";
    Some(blocked.finding(
        case,
        &PINNED_TASK_BLOCKS_CPUSET,
        Impact::fatal(effect),
        remedy,
    ))
}

/// The restart that would remove the tasks, or why there is none.
fn restart(case: &Case, tasks: &[&Task], is_alone: bool) -> Result<Step, String> {
    let unit = MICROK8S.restartable_unit;
    let is_new = |stamp: &RestartStamp| stamp.is_older_than(tasks);
    let was_restarted = case.learned.restarted.as_ref().is_some_and(is_new);
    if tasks.iter().any(|task| task.unit() != Some(unit)) {
        Err("it belongs to no unit that may be restarted for this".to_owned())
    } else if !is_alone {
        Err(format!(
            "{unit} was not restarted, since a real-time task blocks cpu as well"
        ))
    } else if was_restarted {
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
        Ok(Step::Restart {
            unit: unit.to_owned(),
            stamp: RestartStamp::lines(tasks),
        })
    }
}

fn by_hand(blocked: &Blocked, why_not: &str) -> String {
    let units = quoted(&blocked.units());
    let now = if blocked.tasks.iter().all(|task| task.unit().is_some()) {
        format!("systemctl stop {units}; kubepods-repair; systemctl start {units}")
    } else {
        format!("end what runs in {units}, run kubepods-repair, start it again")
    };
    format!(
        "{why_not}; by hand: {now}. For good: let it start after kubepods-repair.service, or keep \
         it from io_uring (for k8s-dqlite: UV_USE_IO_URING=0 in args/k8s-dqlite-env), or use a \
         kernel from 6.3 or 6.1.110 on"
    )
}

/// A shell would eat the backslash of an escaped unit name.
fn quoted(names: &str) -> String {
    if !names.contains('\\') {
        return names.to_owned();
    }
    let names: Vec<String> = names.split(' ').map(|name| format!("'{name}'")).collect();
    names.join(" ")
}

fn realtime(case: &Case, blockers: &Blockers) -> Option<Finding> {
    // Deadline tasks are refused up to 6.1 and pass in 6.12; the releases between were not read.
    let deadline_passes = case.host.kernel.is_at_least(6, 12);
    let blocked = Blocked::find(case, blockers, "cpu", |task| {
        task.realtime && !(deadline_passes && task.policy == Policy::Deadline)
    })?;
    let mut refusals = case.learned.refusals.iter();
    let is_refused =
        refusals.any(|refusal| refusal.controller == "cpu" && refusal.errno == Errno::EINVAL);
    let impact = if is_refused || blockers.rt_group_sched == Some(true) {
        Impact::fatal(
            "this kernel (CONFIG_RT_GROUP_SCHED) refuses +cpu (EINVAL) while a real-time task \
             lives outside the root cgroup, and the kubelet then says that kubepods doesn't exist",
        )
    } else if blockers.rt_group_sched.is_none() {
        Impact::notice(
            "if this kernel has CONFIG_RT_GROUP_SCHED, which its configuration does not tell, it \
             refuses +cpu (EINVAL) and the kubelet dies",
        )
    } else {
        return None;
    };
    let remedy = Remedy::tell(format!(
        "if {} only prefers real time, put RestrictRealtime=yes into a drop-in for it and restart \
         it; rtkit can be removed where nobody needs it; a kernel without CONFIG_RT_GROUP_SCHED \
         (or, from 6.16 on, rt_group_sched=0 on its command line) does not refuse; once cpu is \
         on, every real-time unit that starts later fails",
        blocked.units()
    ));
    Some(blocked.finding(case, &REALTIME_TASK_BLOCKS_CPU, impact, remedy))
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
    let (tid, comm, home) = (task.tid, &task.comm, home(task));
    format!("task {tid} ({comm}){of}, {nature}, in {home}")
}

/// Its unit, or else its group.
fn home(task: &Task) -> String {
    let unit = task.unit().map(str::to_owned);
    unit.unwrap_or_else(|| task.cgroup.to_string())
}
