//! Finds the tasks that make the kernel refuse a controller.
//!
//! `cpu_cgroup_can_attach` refuses real-time tasks on kernels with CONFIG_RT_GROUP_SCHED, and
//! `cpuset_can_attach` refuses tasks with PF_NO_SETAFFINITY (`include/linux/sched.h`). One such
//! task anywhere below a group makes the write to its `cgroup.subtree_control` fail with EINVAL.
//! The tasks are recognised by priority and flag, never by name. The effective priority counts, so
//! a task that holds a lock for which a real-time task waits is refused, too.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::host::kernel;
use crate::root::{ReadError, Root};

/// `PF_NO_SETAFFINITY`, the same bit since 3.10.
const PF_NO_SETAFFINITY: u64 = 0x0400_0000;

/// `PF_EXITING`: the kernel does not check a task that is exiting (`cgroup_migrate_add_task`).
const PF_EXITING: u64 = 0x4;

/// How a task is scheduled (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_FIFO`
    Fifo,
    /// `SCHED_RR`
    RoundRobin,
    /// `SCHED_DEADLINE`
    Deadline,
    /// Any other policy: real-time only while a real-time task waits for a lock that it holds.
    Other,
}

/// A task outside the root cgroup that can cause EINVAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its process: `/proc/PID`.
    pub pid: i32,
    /// Its own id, as in `/proc/PID/task/TID`.
    pub tid: i32,
    /// Its name; a thread may have another one than its process.
    pub comm: String,
    /// Its scheduling policy.
    pub policy: Policy,
    /// Its real-time priority, 1 to 99; 0 for the others.
    pub priority: u32,
    /// Whether the scheduler treats it as real-time now.
    pub realtime: bool,
    /// When it was started, in clock ticks since the boot. Together with [`Self::tid`] this
    /// identifies the task in this boot.
    pub started: u64,
    /// Whether the kernel forbids to change its CPU affinity.
    pub pinned: bool,
    /// Its group on version 2.
    pub cgroup: CgroupPath,
}

impl Task {
    /// The unit of the system manager that it belongs to: a service or scope with only slices above
    /// it. A task of another manager (a user's, a container's) has a second unit below the first;
    /// the result is `None` then.
    pub fn unit(&self) -> Option<&str> {
        let is_unit = |part: &str| part.ends_with(".service") || part.ends_with(".scope");
        let parts = self.cgroup.components();
        let parts = parts.map(|part| part.to_str().unwrap_or_default());
        let mut parts = parts.skip_while(|part| part.ends_with(".slice"));
        let unit = parts.next().filter(|part| is_unit(part))?;
        (!parts.any(is_unit)).then_some(unit)
    }

    /// The same if it is a service. A scope (a login, a virtual machine, a container) is gone once
    /// it is stopped: systemd cannot start it (systemd.scope(5)).
    pub fn service(&self) -> Option<&str> {
        self.unit().filter(|unit| unit.ends_with(".service"))
    }
}

/// The names of processes that are a kubelet.
const KUBELETS: [&str; 2] = ["kubelite", "kubelet"];

/// Every task outside the root cgroup that is real-time or pinned.
///
/// # Errors
/// When `/proc` or a task in it cannot be read. Tasks that end meanwhile are skipped.
pub fn observe(root: &Root) -> Result<Vec<Task>, ReadError> {
    let mut found = Vec::new();
    for pid in root.pids()? {
        let tasks = format!("/proc/{pid}/task");
        for tid in root.directories(Path::new(&tasks))?.unwrap_or_default() {
            found.extend(read_task(root, &pid, &Path::new(&tasks).join(tid))?);
        }
    }
    Ok(found)
}

/// Whether a kubelet is running.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn kubelet_runs(root: &Root) -> Result<bool, ReadError> {
    let name = |pid: &String| kernel::value(root, &format!("/proc/{pid}/comm"));
    let pids = root.pids()?;
    Ok(pids.iter().any(|pid| KUBELETS.contains(&&*name(pid))))
}

/// Reads a task; `None` if it is neither real-time nor pinned, is in the root cgroup, or has ended.
fn read_task(root: &Root, pid: &str, dir: &Path) -> Result<Option<Task>, ReadError> {
    let stat = root.read_value(&dir.join("stat"))?.unwrap_or_default();
    let task = parse_stat(&stat).filter(|task| task.pinned || task.realtime);
    let (Some(task), Ok(pid)) = (task, pid.parse()) else {
        return Ok(None);
    };
    let groups = root.read_if_there(&dir.join("cgroup"))?;
    let cgroup = unified_path(&groups.unwrap_or_default());
    let cgroup = cgroup.filter(|cgroup| !cgroup.is_root());
    Ok(cgroup.map(|cgroup| Task {
        pid,
        cgroup,
        ..task
    }))
}

/// The path in the unified hierarchy: the line `0::/path`, which ends with ` (deleted)` if the
/// group was deleted.
fn unified_path(text: &str) -> Option<CgroupPath> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    CgroupPath::parse(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// Reads a line as in proc_pid_stat(5). The name is in parentheses and may contain any character,
/// so the last closing parenthesis ends it. Fields: 9 flags, 18 effective priority (real-time if
/// below 0), 22 start time, 40 real-time priority, 41 policy.
fn parse_stat(text: &str) -> Option<Task> {
    let (tid, rest) = text.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3);
    let flags: u64 = field(9)?.parse().ok()?;
    let effective: i64 = field(18)?.parse().ok()?;
    let stays = flags & PF_EXITING == 0;
    Some(Task {
        pid: 0,
        tid: tid.parse().ok()?,
        comm: comm.to_owned(),
        policy: match field(41)? {
            "1" => Policy::Fifo,
            "2" => Policy::RoundRobin,
            "6" => Policy::Deadline,
            _ => Policy::Other,
        },
        priority: field(40)?.parse().ok()?,
        realtime: stays && effective < 0,
        started: field(22)?.parse().ok()?,
        pinned: stays && flags & PF_NO_SETAFFINITY != 0,
        cgroup: CgroupPath::root(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(comm: &str, flags: u64, effective: i64, priority: u32, policy: u32) -> String {
        let between = |fields: usize| "0 ".repeat(fields);
        let (before, after) = (between(8), between(21));
        format!(
            "7 ({comm}) S 1 7 7 0 -1 {flags} {before}{effective} {after}{priority} {policy} 0 0 0 \
             0 0\n"
        )
    }

    #[test]
    fn a_name_may_contain_any_character() {
        let task = parse_stat(&stat("a) R 1 (b", 0x0400_0040, 20, 0, 0));
        assert!(task.is_some_and(|task| task.comm == "a) R 1 (b" && task.pinned && !task.realtime));
        assert_eq!(parse_stat("7 (x"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn policy_and_effective_priority() {
        let read = |flags, effective, priority, policy| {
            let task = parse_stat(&stat("x", flags, effective, priority, policy))?;
            Some((task.policy, task.priority, task.realtime))
        };
        assert_eq!(
            read(0x40, -100, 99, 2),
            Some((Policy::RoundRobin, 99, true))
        );
        assert_eq!(read(0x40, -101, 0, 6), Some((Policy::Deadline, 0, true)));
        assert_eq!(
            read(0x40, -51, 0, 0),
            Some((Policy::Other, 0, true)),
            "boosted"
        );
        assert_eq!(read(0x40, 20, 0, 0), Some((Policy::Other, 0, false)));
        assert_eq!(
            read(0x44, -100, 99, 2),
            Some((Policy::RoundRobin, 99, false)),
            "exiting"
        );
    }

    #[test]
    fn only_units_of_the_system_manager_count() {
        let unit_of = |path: &str| {
            let task = parse_stat(&stat("x", 0, 20, 0, 0))?;
            let task = Task {
                cgroup: CgroupPath::parse(path)?,
                ..task
            };
            task.unit().map(str::to_owned)
        };
        let dqlite = "/snap.x.slice/snap.microk8s.daemon-k8s-dqlite.service";
        assert_eq!(
            unit_of(dqlite).as_deref(),
            Some("snap.microk8s.daemon-k8s-dqlite.service")
        );
        assert_eq!(
            unit_of("/user.slice/user-0.slice/session-1\\x2db.scope").as_deref(),
            Some("session-1\\x2db.scope")
        );
        assert_eq!(
            unit_of("/user.slice/user-0.slice/user@0.service/app.slice/a.service"),
            None
        );
        assert_eq!(unit_of("/custom"), None);
        assert_eq!(
            unit_of("/system.slice/a.service/sub/b").as_deref(),
            Some("a.service")
        );
        assert_eq!(
            unit_of("/lxc.payload.node/system.slice/snap.microk8s.daemon-k8s-dqlite.service"),
            None
        );
        assert_eq!(
            unit_of(
                "/machine.slice/node.scope/system.slice/snap.microk8s.daemon-k8s-dqlite.service"
            ),
            None
        );
    }
}
