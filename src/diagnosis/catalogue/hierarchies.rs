//! Version 1: hierarchies, their mounts, and a group as a directory in each of them.

use super::Entry;

pub(super) static CONTROLLER_ON_V1: Entry = Entry {
    name: "controller-on-v1",
    message_id: "5b70251d37c04871af46f6260cde0076",
    title: "A controller is bound to a version 1 hierarchy",
    meaning: "This host uses cgroup version 2, and some program has mounted a controller that pods \
              need as version 1. A controller can be in one place only, so version 2 no longer has \
              it: the kubelet starts without it and cannot enforce the limits that need it.",
    signs: "cpu, cpuset, memory or pids is not a word of the root's cgroup.controllers, and a file \
            system of type cgroup in /proc/self/mountinfo has it, or /proc/cgroups counts it to a \
            hierarchy.",
    remedy: "kubepods-repair unmounts nothing. It names the mount and, where any are known, the \
             processes that use it.",
    by_hand: "Stop the program that mounted it, then umount the mount point. The controller goes \
              back to version 2 once no group is left in the hierarchy; after that run \
              kubepods-repair.",
    threads: &["kubernetes/kubernetes#125943"],
};

pub(super) static CPUSET_EMPTY: Entry = Entry {
    name: "cpuset-empty",
    message_id: "41b689fd5de0472183514e2dab19458f",
    title: "A cpuset has no CPUs or no memory nodes",
    meaning: "On version 1 a new group of the cpuset hierarchy begins without CPUs and memory \
              nodes, and no process can be put into it (\"no space left on device\") before both \
              are filled. The kubelet's libcontainer does so when it makes a pod's group; other \
              tools do not.",
    signs: "cpuset.cpus or cpuset.mems of kubepods, a QoS group or a group above is empty.",
    remedy: "kubepods-repair copies both from the parent, top down, where they are empty.",
    by_hand: "cat /sys/fs/cgroup/cpuset/cpuset.cpus > /sys/fs/cgroup/cpuset/kubepods/cpuset.cpus, \
              the same with cpuset.mems, and so on downwards.",
    threads: &[],
};

pub(super) static HIERARCHY_INCOMPLETE: Entry = Entry {
    name: "hierarchy-incomplete",
    message_id: "9e7e51807bea4274a9d32b13b2a0fed0",
    title: "A group is in some hierarchies and not in all",
    meaning: "On version 1 a group is a directory in each of a dozen hierarchies. The kubelet \
              demands it in those of cpu, cpuacct, cpuset, memory, pids, hugetlb and systemd, and \
              libcontainer makes it in all that are mounted. One is not there: the kubelet makes \
              its own groups again at its start, but never a cgroup root or a reserved group that \
              it was told of, nor in systemd's own hierarchy a slice that systemd believes to be \
              there.",
    signs: "The directory is missing below the mount point of at least one hierarchy, and is there \
            below another.",
    remedy: "kubepods-repair makes it wherever it is missing, and fills its cpuset.",
    by_hand: "mkdir the directory that is named.",
    threads: &["kubernetes/kubernetes#84854", "kubernetes-sigs/kind#2323"],
};

pub(super) static HIERARCHY_NOT_MOUNTED: Entry = Entry {
    name: "hierarchy-not-mounted",
    message_id: "9984dd07790144af97c798a9af149633",
    title: "A hierarchy is not mounted",
    meaning: "On version 1 the kubelet does not start unless cpu, cpuacct, cpuset and memory are \
              mounted (\"Following Cgroup subsystem not mounted\"). Without devices no container \
              starts; without pids the limit on processes does not hold. Where neither version is \
              seen on /sys/fs/cgroup, since nothing is mounted there, something else was mounted \
              over it, or a container got none, it takes the host for version 1 and ends.",
    signs: "No mount of type cgroup in /proc/self/mountinfo has the controller. Other hierarchies \
            count only where their empty mount point shows that they were mounted once. Or: no \
            cgroup file system is seen on /sys/fs/cgroup or below.",
    remedy: "kubepods-repair mounts it where systemd would have, with the same controllers \
             together, if an empty directory is there and neither version 2 nor the kernel's \
             command line claims the controller. It never remounts anything to make a directory. \
             Where neither version is seen, it mounts nothing and tells what is in the way.",
    by_hand: "mount -t cgroup -o cpuset cgroup /sys/fs/cgroup/cpuset, or what the finding shows. A \
              reboot mounts all that systemd knows. In a container its manager has to: \
              lxc.mount.auto = cgroup:rw for LXC.",
    threads: &[],
};

pub(super) static MOUNT_SHADOWED: Entry = Entry {
    name: "mount-shadowed",
    message_id: "ff7d5c8edbee412b9efd82ddd4e928af",
    title: "A second mount of a controller misleads the kubelet",
    meaning: "Of several mounts of one controller the kubelet takes the one with the shortest \
              path, and libcontainer the one below /sys/fs/cgroup. Where the first shows another \
              group of the hierarchy, is covered by a further mount or cannot be written, the \
              kubelet makes kubepods in one place, looks for it in the other, and dies. Container \
              tools that share their mounts with the host leave such mounts behind.",
    signs: "The controller has several lines in /proc/self/mountinfo, and the shortest mount point \
            does not show the root of the hierarchy.",
    remedy: "kubepods-repair unmounts nothing and names the mount.",
    by_hand: "Find out who mounted it, and umount it.",
    threads: &["kubernetes/kubernetes#91023", "kubernetes/kubernetes#95488"],
};

pub(super) static V1_REFUSED: Entry = Entry {
    name: "v1-refused",
    message_id: "60f0ac0fe35644e0a9ca4dadd9a2e0b6",
    title: "This kubelet refuses cgroup version 1",
    meaning: "From 1.35 on the kubelet ends at once on a host that is not on version 2 (\"kubelet \
              is configured to not run on a host using cgroup v1\"), unless failCgroupV1 is \
              false.",
    signs: "/sys/fs/cgroup is no cgroup2 file system, and the kubelet is 1.35 or newer and not \
            told otherwise, or is told to refuse.",
    remedy: "kubepods-repair cannot help: the version is chosen at boot.",
    by_hand: "Boot with version 2: take systemd.unified_cgroup_hierarchy=0 out of the kernel's \
              command line. Until then add --fail-cgroupv1=false to \
              /var/snap/microk8s/current/args/kubelet and restart MicroK8s.",
    threads: &[],
};
