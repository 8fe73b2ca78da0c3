//! Tasks that make the kernel refuse a controller (`kernel/sched/core.c`,
//! `kernel/cgroup/cpuset.c`).

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::finding::{joined, shell_word};
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Occasion, Remedy, Step};
use crate::host::Blockers;
use crate::host::tasks::{Policy, Task};
use crate::kubelet::microk8s::MICROK8S;
use crate::state::RestartStamp;

pub(super) const FAULTS: &[&Fault] = &[&PINNED_TASK_BLOCKS_CPUSET, &REALTIME_TASK_BLOCKS_CPU];

pub(crate) static PINNED_TASK_BLOCKS_CPUSET: Fault = Fault {
    name: "pinned-task-blocks-cpuset",
    message_id: "a1fdfcb037664cd280da24de7024487d",
    title: "A pinned thread blocks the cpuset controller",
    meaning: "A thread that must not change its CPUs (flag PF_NO_SETAFFINITY) is outside the root \
              cgroup. As long as it exists, the kernel refuses to enable cpuset (EINVAL, Invalid \
              argument), and without cpuset the kubelet does not start. On kernels before 6.3 \
              (6.1 kernels: before 6.1.110) the io_uring threads of k8s-dqlite are such threads. \
              This is why a node can run for months and then fail to start after a power cut.",
    signs: "cpuset is not enabled on the way to kubepods, and a task outside the root cgroup has \
            the bit 0x04000000 set in the ninth field of its /proc/PID/task/TID/stat. The name of \
            the task does not matter. An io_uring thread is called iou-sqp-PID.",
    remedy: "Before the kubelet starts, kubepods-repair restarts k8s-dqlite if nothing else \
             blocks a controller, but only once per boot. Before k8s-dqlite starts again, its \
             pre-start enables cpuset and anchors it in kubepods. After that its threads do no \
             harm. kubepods-repair restarts no other unit.",
    by_hand: "Restart kubelite: snap restart microk8s.daemon-kubelite. If another service is \
              reported, or k8s-dqlite was restarted before, stop the service, run kubepods-repair, \
              and start the service again. A scope (a login, a virtual machine, a container) \
              cannot be started again: end it with the program that started it. To prevent the \
              fault, start the service after kubepods-repair.service, or keep it from using \
              io_uring (for k8s-dqlite: UV_USE_IO_URING=0 in \
              /var/snap/microk8s/current/args/k8s-dqlite-env), or use a kernel without such \
              threads: 6.3 or later, or 6.1.110 or a later 6.1.",
    threads: &[
        "canonical/microk8s#4378",
        "canonical/microk8s#4361",
        "k3s-io/k3s#6318",
        "kubernetes/kubernetes#113322",
        "containers/crun#1563",
    ],
    does: "restarts k8s-dqlite once per boot, before the kubelet starts; otherwise reports the \
           thread",
    nature: Nature::Fault,
};

pub(crate) static REALTIME_TASK_BLOCKS_CPU: Fault = Fault {
    name: "realtime-task-blocks-cpu",
    message_id: "fe383c58d1f4408b8271b8f7b0658d65",
    title: "A real-time task blocks the cpu controller",
    meaning: "This kernel has CONFIG_RT_GROUP_SCHED, and a real-time task is outside the root \
              cgroup. As long as it exists, the kernel refuses to enable cpu (EINVAL, Invalid \
              argument), and without cpu the kubelet does not start. The usual tasks are \
              multipathd and rtkit-daemon.",
    signs: "cpu is not enabled on the way to kubepods, and a task outside the root cgroup has a \
            real-time policy (FIFO or RR, field 41 of its stat file). kubepods-repair reads \
            whether the kernel has the option from /proc/config.gz, /boot/config-RELEASE or \
            /usr/lib/modules/RELEASE/config.",
    remedy: "kubepods-repair reports the task and its unit. It never restarts the unit, because \
             once cpu is enabled, no task outside the root cgroup can become real-time, and the \
             unit would fail to start.",
    by_hand: "If the program works without real-time scheduling, as multipathd does, put \
              RestrictRealtime=yes under [Service] in a drop-in for its service (systemctl edit \
              UNIT), and restart the service. If you do not need rtkit, remove it. Or boot a \
              kernel without the option. From kernel 6.16 on, rt_group_sched=0 on the kernel \
              command line has the same effect. Then restart kubelite: snap restart \
              microk8s.daemon-kubelite. Units that require real-time scheduling fail to start \
              while cpu is enabled.",
    threads: &[
        "canonical/microk8s#3895",
        "flatcar/Flatcar#1395",
        "rancher/rke2#5923",
    ],
    does: "reports the task, because its unit could not start again",
    nature: Nature::Fault,
};

/// At most so many tasks are named; the others are only counted.
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

/// A controller, the group that does not enable it for its children, and the tasks that block it.
struct Blocked<'a> {
    controller: &'static str,
    group: CgroupPath,
    tasks: Vec<&'a Task>,
}

impl<'a> Blocked<'a> {
    /// Looks at the topmost group on the way to kubepods where `controller` is not enabled: a
    /// write there moves only the tasks below it into new groups.
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

    fn location(&self, case: &Case) -> Location {
        case.at_file(&self.group, "cgroup.subtree_control")
    }

    /// The finding with the controller and, where the kernel has refused it, its answer.
    fn complete(&self, case: &Case, mut finding: Finding) -> Finding {
        let mut refusals = case.learned.refusals.iter();
        let refusal = refusals.find(|refusal| refusal.controller == self.controller);
        finding.errno = refusal.map(|refusal| refusal.errno);
        finding.about(Controllers::parse(self.controller))
    }

    /// The tasks by name, as the subject of a sentence.
    fn subject(&self) -> String {
        let listed = self.tasks.iter().take(MAX_LISTED);
        let mut named: Vec<String> = listed.map(|task| describe(task)).collect();
        if self.tasks.len() > MAX_LISTED {
            named.push(format!("{} more", self.tasks.len() - MAX_LISTED));
        }
        let subject = joined(&named);
        let (first, rest) = subject.split_at(1);
        first.to_uppercase() + rest
    }

    /// `one` or `many`, depending on the number of tasks.
    fn verb(&self, one: &'static str, many: &'static str) -> &'static str {
        if self.tasks.len() == 1 { one } else { many }
    }

    /// The units of the tasks, or where a task has none its group; without duplicates.
    fn homes(&self) -> Vec<String> {
        let mut homes: Vec<String> = self.tasks.iter().map(|task| home(task)).collect();
        homes.sort_unstable();
        homes.dedup();
        homes
    }

    /// The same for a sentence.
    fn named_homes(&self) -> String {
        let mut homes = self.homes();
        let more = homes.len().saturating_sub(MAX_LISTED);
        homes.truncate(MAX_LISTED);
        if more > 0 {
            homes.push(format!("{more} more"));
        }
        joined(&homes)
    }

    /// What a scope is, if a task is in one: a sentence with a space after it.
    fn scopes(&self) -> &'static str {
        let mut tasks = self.tasks.iter();
        if tasks.any(|task| task.unit().is_some() && task.service().is_none()) {
            "A scope is a login, a virtual machine or a container: end it with the program that \
             started it. "
        } else {
            ""
        }
    }

    /// The services of the tasks as words of a shell; `None` where a task is not in one.
    fn services(&self) -> Option<String> {
        let words: Vec<String> = self.homes().iter().map(shell_word).collect();
        let mut tasks = self.tasks.iter();
        let all_are = tasks.all(|task| task.service().is_some());
        all_are.then(|| words.join(" "))
    }
}

fn pinned(case: &Case, blockers: &Blockers, is_alone: bool) -> Option<Finding> {
    let blocked = Blocked::find(case, blockers, "cpuset", |task| task.pinned)?;
    let evidence = format!(
        "{} {} CPUs, so the kernel refuses to enable cpuset (EINVAL)",
        blocked.subject(),
        blocked.verb("is pinned to its", "are pinned to their"),
    );
    let impact = Impact::fatal(
        "Without cpuset the kubelet fails with \"root container [kubepods] doesn't exist\"",
    );
    let remedy = unpin(case, &blocked, is_alone);
    let location = blocked.location(case);
    let finding = PINNED_TASK_BLOCKS_CPUSET.finding(impact, location, evidence, remedy);
    Some(blocked.complete(case, finding))
}

/// The restart that ends the tasks, or what the administrator has to do instead.
fn unpin(case: &Case, blocked: &Blocked, is_alone: bool) -> Remedy {
    let tasks = &blocked.tasks;
    let unit = MICROK8S.restartable_unit;
    let is_new = |stamp: &RestartStamp| stamp.is_older_than(tasks);
    let was_restarted = case.learned.restarted.as_ref().is_some_and(is_new);
    if tasks.iter().any(|task| task.unit() != Some(unit)) {
        stop_and_start(blocked, "")
    } else if !is_alone {
        Remedy::run(
            "kubepods-repair does not restart k8s-dqlite while a real-time task blocks cpu as \
             well. Fix realtime-task-blocks-cpu first, then restart kubelite",
            [MICROK8S.restart()],
        )
    } else if was_restarted {
        stop_and_start(
            blocked,
            "kubepods-repair restarts k8s-dqlite only once per boot, and has done so. ",
        )
    } else if case.terms.no_restart {
        stop_and_start(
            blocked,
            "With --no-restart, kubepods-repair does not restart k8s-dqlite. ",
        )
    } else if case.terms.occasion != Occasion::PreStart {
        Remedy::run(
            "Restart kubelite. Its pre-start restarts k8s-dqlite and enables cpuset",
            [MICROK8S.restart()],
        )
    } else {
        Remedy::step(Step::Restart {
            unit: unit.to_owned(),
            stamp: RestartStamp::lines(tasks),
        })
    }
}

fn stop_and_start(blocked: &Blocked, reason: &str) -> Remedy {
    let is_alone = blocked.homes().len() == 1;
    let again = if is_alone { "it" } else { "them" };
    let homes = blocked.named_homes();
    match blocked.services() {
        Some(units) => Remedy::run(
            format!(
                "{reason}Stop {homes}, let kubepods-repair enable cpuset, then start {again} again"
            ),
            [
                format!("systemctl stop {units}"),
                "kubepods-repair".to_owned(),
                format!("systemctl start {units}"),
            ],
        ),
        None => Remedy::tell(format!(
            "{reason}{}End the pinned tasks in {homes}, then run kubepods-repair again",
            blocked.scopes()
        )),
    }
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
    let evidence = format!(
        "{} {} outside the root cgroup",
        blocked.subject(),
        blocked.verb("is a real-time task", "are real-time tasks"),
    );
    let homes = blocked.named_homes();
    let units = blocked.services();
    let words = if units.is_some() {
        format!(
            "If {homes} can do without real-time scheduling, put RestrictRealtime=yes into a \
             drop-in for it and restart it. Otherwise stop it. Then restart kubelite"
        )
    } else {
        let scopes = blocked.scopes();
        format!("{scopes}End the real-time tasks in {homes}, then restart kubelite")
    };
    let (impact, remedy) = if is_refused || blockers.rt_group_sched == Some(true) {
        let impact = Impact::fatal(
            "This kernel (CONFIG_RT_GROUP_SCHED) therefore refuses to enable cpu (EINVAL), and \
             without cpu the kubelet fails with \"root container [kubepods] doesn't exist\"",
        );
        let restart = units.map(|units| format!("systemctl restart {units}"));
        let commands = restart.into_iter().chain([MICROK8S.restart()]);
        (impact, Remedy::run(words, commands))
    } else if blockers.rt_group_sched.is_none() {
        let impact = Impact::notice(
            "If this kernel has CONFIG_RT_GROUP_SCHED, it refuses to enable cpu (EINVAL) and the \
             kubelet does not start. kubepods-repair cannot read the kernel's configuration",
        );
        (impact, Remedy::tell(words))
    } else {
        return None;
    };
    let location = blocked.location(case);
    let finding = REALTIME_TASK_BLOCKS_CPU.finding(impact, location, evidence, remedy);
    Some(blocked.complete(case, finding))
}

/// `thread iou-sqp-7 (TID 8, PID 7, in a.service)`
fn describe(task: &Task) -> String {
    let Task { tid, pid, comm, .. } = task;
    let subject = if tid == pid {
        format!("process {comm} (PID {pid}")
    } else {
        format!("thread {comm} (TID {tid}, PID {pid}")
    };
    let policy = match task.policy {
        Policy::Fifo => format!(", SCHED_FIFO priority {}", task.priority),
        Policy::RoundRobin => format!(", SCHED_RR priority {}", task.priority),
        Policy::Deadline => ", SCHED_DEADLINE".to_owned(),
        Policy::Other if task.realtime => ", boosted to a real-time priority".to_owned(),
        Policy::Other => String::new(),
    };
    format!("{subject}{policy}, in {})", home(task))
}

/// Its unit, or else its group.
fn home(task: &Task) -> String {
    let unit = task.unit().map(str::to_owned);
    unit.unwrap_or_else(|| task.cgroup.to_string())
}
