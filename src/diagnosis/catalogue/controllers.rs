//! Controllers: passed on to kubepods, kept there, and refused by the kernel.

use super::Entry;

pub(super) static CONTROLLER_NOT_ANCHORED: Entry = Entry {
    name: "controller-not-anchored",
    message_id: "33f219e2b6c847faa1a40f3526931441",
    title: "Nothing keeps systemd from taking a controller away",
    meaning: "systemd owns the root of the cgroup tree and switches off what none of its units \
              asks for, at every daemon-reload and at some starts of units. It cannot while the \
              controller is also switched on in kubepods: the kernel answers that it is busy. This \
              anchor is missing. The kubelet that runs notices nothing; the next one may not \
              start.",
    signs: "A controller that the kubelet needs is not among the words of \
            kubepods/cgroup.subtree_control.",
    remedy: "kubepods-repair switches the controller on in kubepods/cgroup.subtree_control.",
    by_hand: "echo \"+cpuset +cpu +memory +hugetlb +pids\" > \
              /sys/fs/cgroup/kubepods/cgroup.subtree_control, with the words that \
              kubepods/cgroup.controllers offers.",
    threads: &["kubernetes/kubernetes#122955", "systemd/systemd#38547"],
};

pub(super) static CONTROLLER_NOT_ENABLED: Entry = Entry {
    name: "controller-not-enabled",
    message_id: "20ef5ead0b3e4798b45b66c04ec5c05c",
    title: "A controller is not passed on to kubepods",
    meaning: "The kubelet demands of kubepods every one of cpu, cpuset, hugetlb, memory and pids \
              that the root of the cgroup tree offers. It switches them on itself and ignores \
              every error in doing so; what is missing then makes it die of \"root container \
              [kubepods] doesn't exist\". So this is harmless as long as the kernel lets the \
              controller be switched on, and fatal as soon as it refuses.",
    signs: "On the way from the root of the tree to kubepods a cgroup.subtree_control lacks one of \
            these words. Where the kernel refused a write, its answer (EINVAL, EBUSY, EOPNOTSUPP) \
            is told with it.",
    remedy: "kubepods-repair switches on all that is needed in one write, from the root down, and \
             anchors it. Where the kernel refuses, it undoes the attempt and tells who is in the \
             way.",
    by_hand: "Look which words are missing: cat /sys/fs/cgroup/cgroup.controllers \
              /sys/fs/cgroup/cgroup.subtree_control. Then write one of them, such as echo +cpuset \
              > /sys/fs/cgroup/cgroup.subtree_control: if that fails, the other finding beside \
              this one says why.",
    threads: &[
        "kubernetes/kubernetes#122955",
        "coreos/go-systemd#443",
        "canonical/microk8s#4378",
    ],
};

pub(super) static PINNED_TASK_BLOCKS_CPUSET: Entry = Entry {
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
};

pub(super) static REALTIME_TASK_BLOCKS_CPU: Entry = Entry {
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
};
