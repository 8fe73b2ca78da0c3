//! The names of the version 1 hierarchies that libcontainer and the kubelet use.

/// systemd's own hierarchy, which has a name and no controller.
pub const SYSTEMD_HIERARCHY: &str = "name=systemd";

/// The hierarchies in which libcontainer creates groups if they are mounted (`subsystems` in runc's
/// `libcontainer/cgroups/fs`).
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

/// The hierarchies in which the kubelet checks whether a group exists, if they are mounted
/// (`Validate` in kubernetes' `pkg/kubelet/cm/cgroup_v1_manager_linux.go`).
pub const CHECKED: [&str; 7] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "hugetlb",
    "memory",
    SYSTEMD_HIERARCHY,
    "pids",
];
