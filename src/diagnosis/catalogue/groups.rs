//! The kubelet's groups: there or not, of the right type, and with room.

use super::Entry;

pub(super) static CGROUP_ROOT_MISSING: Entry = Entry {
    name: "cgroup-root-missing",
    message_id: "0811cd54190e41e79194fff9332c4ac9",
    title: "The configured cgroup root does not exist",
    meaning: "The kubelet was told to keep its pods below a cgroup of its own (--cgroup-root). It \
              demands that this cgroup exists with all controllers, and never makes it. Cgroups \
              live in memory: one that was made by hand is gone after every boot.",
    signs: "The kubelet's settings name a cgroup root other than /, and it is not there.",
    remedy: "kubepods-repair makes the cgroup, switches the needed controllers on along the way \
             and anchors them in kubepods below it.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Or take --cgroup-root out of \
              the kubelet's arguments.",
    threads: &[],
};

pub(super) static FROZEN: Entry = Entry {
    name: "frozen",
    message_id: "374546112c404479b0de43ce6b493296",
    title: "A group of the kubelet is frozen",
    meaning: "Everything in a frozen cgroup stands still, so every pod started below it does \
              nothing, and the kubelet never looks at the switch.",
    signs: "cgroup.freeze of kubepods or a QoS group says 1; on version 1 its \
            freezer.self_freezing does.",
    remedy: "kubepods-repair thaws the group if no process lives in it or below. Otherwise \
             somebody may have meant to stop those processes, and it leaves them.",
    by_hand: "echo 0 > /sys/fs/cgroup/kubepods/cgroup.freeze, or the same file of the group that \
              is named; on version 1 echo THAWED > its freezer.state.",
    threads: &[],
};

pub(super) static LEFTOVER_LIMITS: Entry = Entry {
    name: "leftover-limits",
    message_id: "8f889dd1b393477abbfe3ef762714ebf",
    title: "A limit that the kubelet never resets",
    meaning: "A resource limit is set on kubepods or a QoS group that the kubelet neither sets nor \
              takes back. All pods below share it: they are slow, are killed, or cannot start a \
              process, and no log says why. Of cpu.idle in the group of best effort the kubelet \
              itself dies, since the kernel then refuses the weight it sets; of cpu.idle in \
              kubepods it only fails to set limits there.",
    signs: "cpu.max, cpu.idle, memory.high, memory.swap.max, cpuset.mems, cpuset.cpus.partition \
            and the like of these groups differ from what a new group has; on version 1 \
            cpu.cfs_quota_us, cpu.idle, pids.max, the limits of memory, memory.oom_control, or a \
            cpuset narrower than the one above.",
    remedy: "kubepods-repair leaves it alone, since somebody may have meant it, and prints the \
             command that resets it.",
    by_hand: "If nobody meant it, type the command that the finding shows. A reboot takes it away, \
              too.",
    threads: &[],
};

pub(super) static LIMITS_EXHAUSTED: Entry = Entry {
    name: "limits-exhausted",
    message_id: "922c4c7da2344ab59a16ed23268464e3",
    title: "No more cgroups may be made here",
    meaning: "cgroup.max.descendants or cgroup.max.depth leaves no room for what the kubelet or \
              its pods have to make: mkdir answers \"resource temporarily unavailable\", and will \
              for ever. Or memory.max leaves no room for the kernel's own counters of a new group: \
              mkdir answers \"cannot allocate memory\", and the kubelet dies before it would set \
              this limit anew.",
    signs: "One of the first two files of kubepods, a QoS group or a group above holds a number \
            that the groups already there, and those still to come, reach; or memory.max (on \
            version 1 memory.limit_in_bytes) of kubepods or a group above is next to nothing, and \
            a group has to be made below.",
    remedy: "kubepods-repair sets the limit back to max on kubepods and the QoS groups; memory.max \
             of kubepods is the kubelet's own setting, which it writes at each start. On any other \
             group somebody has to want it.",
    by_hand: "echo max > the file that the finding names.",
    threads: &[],
};

pub(super) static QOS_GROUP_MISSING: Entry = Entry {
    name: "qos-group-missing",
    message_id: "ef86a21150da4ce8adb1892aec9eedff",
    title: "The group of a QoS class is missing",
    meaning: "kubepods holds a group for burstable and one for best-effort pods. One is not there; \
              the kubelet makes it at its start.",
    signs: "kubepods exists, and burstable or besteffort below it does not.",
    remedy: "kubepods-repair makes it.",
    by_hand: "Nothing: the kubelet makes it, unless another finding says what keeps it from doing \
              so.",
    threads: &[],
};

pub(super) static RESERVED_GROUP_MISSING: Entry = Entry {
    name: "reserved-group-missing",
    message_id: "c28a8d68d1204d2998071f2854893432",
    title: "A reserved cgroup does not exist",
    meaning: "The kubelet was told to enforce the reservation for system or Kubernetes daemons on \
              a cgroup (--system-reserved-cgroup, --kube-reserved-cgroup). It demands that this \
              cgroup exists and never makes it, and that something is reserved (\"cgroup is not \
              configured properly\").",
    signs: "enforce-node-allocatable holds system-reserved or kube-reserved, from 1.32 on also \
            with -compressible behind it, and the group named for it is not there; or nothing is \
            given with --system-reserved or --kube-reserved.",
    remedy: "kubepods-repair makes the cgroup and switches the needed controllers on along the \
             way. It reserves nothing.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Or take the enforcement out \
              of the kubelet's arguments. Where nothing is reserved: add, for example, \
              --kube-reserved=cpu=100m,memory=256Mi to /var/snap/microk8s/current/args/kubelet.",
    threads: &[],
};

pub(super) static ROOT_MISSING: Entry = Entry {
    name: "root-missing",
    message_id: "e1889b013666499dbfb187fb559886e3",
    title: "kubepods does not exist",
    meaning: "The root cgroup of all pods is not there. After a boot this is as it should be: \
              cgroups live in memory, and the kubelet makes this one at its start. Its message \
              \"root container [kubepods] doesn't exist\" means something else: it was made, and \
              lacks a controller.",
    signs: "There is no directory kubepods below the kubelet's cgroup root.",
    remedy: "kubepods-repair makes it, with the QoS groups, and anchors its controllers.",
    by_hand: "Nothing: making the directory yourself does not help a kubelet that dies.",
    threads: &["canonical/microk8s#4378"],
};

pub(super) static SERVICE_GROUP: Entry = Entry {
    name: "service-group",
    message_id: "9f9da7fa60db483fbeabdef9c1d65d94",
    title: "A configured cgroup belongs to a systemd service",
    meaning: "The kubelet's cgroup root, or a reserved cgroup, is the group of a systemd service \
              or lies below one. The kubelet demands that it exists with all controllers. Only the \
              service itself can provide that: if anything else makes the group and enables \
              controllers in it, the service can no longer start (219/CGROUP).",
    signs: "--cgroup-root, --kube-reserved-cgroup or --system-reserved-cgroup names a path with a \
            .service or .scope in it, and the group does not exist, lacks a controller, or holds \
            the service's own processes.",
    remedy: "kubepods-repair neither makes such a group nor enables controllers in it.",
    by_hand: "Name a cgroup that no service owns. Or, with systemd 254 or later, put Delegate=yes \
              and DelegateSubgroup=main under [Service] in a drop-in for the service: its \
              processes then live in a subgroup, and its own group can pass controllers on.",
    threads: &["systemd/systemd#14662"],
};

pub(super) static STALE_POD_GROUPS: Entry = Entry {
    name: "stale-pod-groups",
    message_id: "0c06dd8f03174b9dbf39ed93bcd5789e",
    title: "Groups of pods that are no more",
    meaning: "Pod groups without a process anywhere below them, whose pods have no directory under \
              the kubelet's root directory any more. The kubelet clears them away one by one while \
              it should start pods.",
    signs: "A group named after a pod below kubepods is empty, and the kubelet's pods/ holds no \
            directory of this pod.",
    remedy: "kubepods-repair removes them when it runs before the kubelet's start. By hand it \
             leaves them: a running kubelet makes a pod's group before its directory.",
    by_hand: "Nothing: the next start of kubelite's service removes them.",
    threads: &[],
};

pub(super) static STRAY_PROCESSES: Entry = Entry {
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
};

pub(super) static THREADED: Entry = Entry {
    name: "threaded",
    message_id: "c1bd7395736248ec8c9f981f1bd6837f",
    title: "A group has become threaded",
    meaning: "A threaded cgroup can have no memory limit, and the kernel never makes it an \
              ordinary one again. The kubelet dies of it (\"it is in threaded mode\", \"it is in \
              an invalid state\"). Switching controllers on one at a time beside a process does \
              this.",
    signs: "cgroup.type of kubepods or a QoS group does not say domain.",
    remedy: "kubepods-repair removes the group and makes it anew if nothing lives in it or below.",
    by_hand: "Stop the pods below it, then run kubepods-repair again. A group that only has a \
              threaded one below becomes ordinary by itself when that one is removed.",
    threads: &[],
};
