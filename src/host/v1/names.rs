//! What the hierarchies of version 1 are called, and who uses which.

/// systemd's own hierarchy, which has a name and no controller.
pub const SYSTEMD_HIERARCHY: &str = "name=systemd";

/// What libcontainer makes groups in (`subsystems` in runc's `libcontainer/cgroups/fs`), so far as
/// it is mounted.
pub const USED: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    SYSTEMD_HIERARCHY,
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// Where the kubelet looks whether a group exists (`Validate` in kubernetes'
/// `pkg/kubelet/cm/cgroup_v1_manager_linux.go`), so far as it is mounted.
pub const CHECKED: [&str; 7] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "hugetlb",
    "memory",
    SYSTEMD_HIERARCHY,
    "pids",
];
