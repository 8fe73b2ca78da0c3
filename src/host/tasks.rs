//! The tasks that make the kernel refuse a controller.
//!
//! `cpu_cgroup_can_attach` refuses real-time tasks on kernels with CONFIG_RT_GROUP_SCHED,
//! `cpuset_can_attach` those with PF_NO_SETAFFINITY (`include/linux/sched.h`): in either case one
//! such task anywhere below the group fails the write to its `cgroup.subtree_control` with EINVAL.
//! They are told by priority and by flag, never by name. What counts is the effective priority, so
//! a task that only holds a lock which a real-time task waits for is refused, too.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::host::kernel;
use crate::root::{ReadError, Root};

/// `PF_NO_SETAFFINITY`, the same bit from 3.10 to this day.
const PF_NO_SETAFFINITY: u64 = 0x0400_0000;

/// `PF_EXITING`: a task that is on its way out is not asked any more (`cgroup_migrate_add_task`).
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
    /// Any of the others: real-time only while a lock is waited for.
    Other,
}

/// A task outside the root cgroup that can be the reason for an EINVAL.
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
    /// When it was started, in clock ticks since the boot: together with [`Self::tid`] it is
    /// unmistakable.
    pub started: u64,
    /// Whether the kernel nails it to its CPUs.
    pub pinned: bool,
    /// The group of version 2 that it is in.
    pub cgroup: CgroupPath,
}

impl Task {
    /// The unit of this machine's own manager that it belongs to: a service or scope below nothing
    /// but slices. What lives under another manager (a user's, a container's) has a second unit
    /// below the first, and is none of ours.
    pub fn unit(&self) -> Option<&str> {
        let is_unit = |part: &str| part.ends_with(".service") || part.ends_with(".scope");
        let parts = self.cgroup.components();
        let parts = parts.map(|part| part.to_str().unwrap_or_default());
        let mut parts = parts.skip_while(|part| part.ends_with(".slice"));
        let unit = parts.next().filter(|part| is_unit(part))?;
        (!parts.any(is_unit)).then_some(unit)
    }
}

/// The names that a kubelet runs under.
const KUBELETS: [&str; 2] = ["kubelite", "kubelet"];

/// Every task outside the root cgroup that is real-time or pinned.
///
/// # Errors
/// When `/proc` or a task in it cannot be read; tasks that end while they are read are passed over.
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

/// Whether a kubelet runs.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn kubelet_runs(root: &Root) -> Result<bool, ReadError> {
    let name = |pid: &String| kernel::value(root, &format!("/proc/{pid}/comm"));
    let pids = root.pids()?;
    Ok(pids.iter().any(|pid| KUBELETS.contains(&&*name(pid))))
}

/// `None` for one that is neither real-time nor pinned, lives in the root cgroup, or has ended.
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

/// The path in the unified hierarchy: the line `0::/path`. A deleted group's processes are `
/// (deleted)`.
fn unified_path(text: &str) -> Option<CgroupPath> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    CgroupPath::parse(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// proc_pid_stat(5): the name stands in parentheses and may hold any character, so the last one
/// ends it. Of the rest: field 9 flags, 18 effective priority (real-time below 0), 22 start, 40
/// real-time priority, 41 policy.
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
    fn a_name_may_hold_anything() {
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
    fn only_a_unit_of_the_own_manager_is_one() {
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
