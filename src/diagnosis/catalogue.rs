//! Every fault this program knows: its name, its id in the journal, and its words.
//!
//! The journal's catalog (`systemd/catalog/`) is made from this table.

/// A fault, by what stands wrong. The names are for ever: alerts and scripts go by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table below says of each what it means")]
pub enum Fault {
    CgroupRootMissing,
    CheckpointDamaged,
    CheckpointDiffers,
    ControllerAbsent,
    ControllerNotAnchored,
    ControllerNotEnabled,
    DriverMismatch,
    Frozen,
    LeftoverLimits,
    LimitsExhausted,
    NestedRootBusy,
    PinnedTaskBlocksCpuset,
    QosDisabled,
    QosGroupMissing,
    ReadOnlyCgroupfs,
    RealtimeTaskBlocksCpu,
    ReservedGroupMissing,
    RootMissing,
    SettingsUnreadable,
    StalePodGroups,
    StrayProcesses,
    Threaded,
    UncleanShutdown,
    UpgradedSinceBoot,
}

/// What the catalogue says of one fault.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub fault: Fault,
    /// Its name, in kebab case.
    pub name: &'static str,
    /// Its `MESSAGE_ID` in the journal.
    pub message_id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it means and why the kubelet cares.
    pub meaning: &'static str,
    /// What this program does about it, and what is left to the administrator.
    pub remedy: &'static str,
}

impl Fault {
    /// Its name, in kebab case.
    pub fn name(self) -> &'static str {
        self.entry().map_or("unknown", |entry| entry.name)
    }

    /// Its `MESSAGE_ID`.
    pub fn message_id(self) -> &'static str {
        self.entry().map_or("", |entry| entry.message_id)
    }

    /// Whether the kubelet heals this itself as long as nothing stands in its way, and dies of it otherwise.
    pub(super) fn is_fatal_where_refused(self) -> bool {
        matches!(self, Self::RootMissing | Self::QosGroupMissing | Self::ControllerNotEnabled)
    }

    fn entry(self) -> Option<&'static Entry> {
        CATALOGUE.iter().find(|entry| entry.fault == self)
    }
}

/// All faults, by name.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        fault: Fault::CgroupRootMissing,
        name: "cgroup-root-missing",
        message_id: "0811cd54190e41e79194fff9332c4ac9",
        title: "The configured cgroup root does not exist",
        meaning: "The kubelet was told to keep its pods below a cgroup of its own (--cgroup-root). It demands that this \
                  cgroup exists with all controllers, and never makes it. Cgroups live in memory: one that was made by \
                  hand is gone after every boot.",
        remedy: "kubepods-repair makes the cgroup, switches the needed controllers on along the way and anchors them in \
                 kubepods below it.",
    },
    Entry {
        fault: Fault::CheckpointDamaged,
        name: "checkpoint-damaged",
        message_id: "d0701bf477f04afe914eb674e54954fc",
        title: "A state file of the kubelet is damaged",
        meaning: "The kubelet keeps what it has assigned to containers in small files below its root directory \
                  (cpu_manager_state, memory_manager_state and others). One is empty, cut short or filled with NUL bytes, \
                  as a power cut may leave it, and the kubelet dies of it at every start.",
        remedy: "Before the kubelet's start, and while no container runs, kubepods-repair renames the file to \
                 NAME.damaged-BOOT-ID; the kubelet then begins a new one. It deletes nothing.",
    },
    Entry {
        fault: Fault::CheckpointDiffers,
        name: "checkpoint-differs",
        message_id: "ad2da61f6ef04c4c833a090caa016d2d",
        title: "A state file of the kubelet belongs to another policy",
        meaning: "The kubelet was told to use another CPU or memory manager policy than the one its state file was written \
                  under, and refuses to start.",
        remedy: "kubepods-repair leaves it alone. Drain the node, stop its containers and delete the file, or put the old \
                 policy back.",
    },
    Entry {
        fault: Fault::ControllerAbsent,
        name: "controller-absent",
        message_id: "ea4d6d5bb5b340cfb7a2cec88b2cb7e7",
        title: "The kernel offers no such controller",
        meaning: "A controller that pods want is not among those that the root of the cgroup tree offers: the kernel was \
                  built or started without it, it is bound to a version 1 mount, or the container this runs in was not \
                  given it. The kubelet starts all the same and cannot enforce the limits that need it.",
        remedy: "Nothing can be done while this kernel runs. On a Raspberry Pi the memory controller is switched on in \
                 /boot/firmware/cmdline.txt (older: /boot/cmdline.txt); elsewhere look at cgroup_disable= on the kernel's \
                 command line.",
    },
    Entry {
        fault: Fault::ControllerNotAnchored,
        name: "controller-not-anchored",
        message_id: "33f219e2b6c847faa1a40f3526931441",
        title: "Nothing keeps systemd from taking a controller away",
        meaning: "systemd owns the root of the cgroup tree and switches off what none of its units asks for, at every \
                  daemon-reload. It cannot while the controller is also switched on in kubepods: the kernel answers that \
                  it is busy. This anchor is missing.",
        remedy: "kubepods-repair switches the controller on in kubepods/cgroup.subtree_control.",
    },
    Entry {
        fault: Fault::ControllerNotEnabled,
        name: "controller-not-enabled",
        message_id: "20ef5ead0b3e4798b45b66c04ec5c05c",
        title: "A controller is not passed on to kubepods",
        meaning: "The kubelet demands of kubepods every one of cpu, cpuset, hugetlb, memory and pids that the root of the \
                  cgroup tree offers. It switches them on itself and ignores every error in doing so; what is missing \
                  then makes it die of \"root container [kubepods] doesn't exist\".",
        remedy: "kubepods-repair switches on all that is needed in one write, from the root down, and anchors it. Where \
                 the kernel refuses, it undoes the attempt and tells who is in the way.",
    },
    Entry {
        fault: Fault::DriverMismatch,
        name: "driver-mismatch",
        message_id: "c986d1a589b54267837dc231b199cd7a",
        title: "The kubelet and containerd use different cgroup drivers",
        meaning: "One makes its cgroups itself (cgroupfs), the other through systemd. The kubelet starts, and every pod fails, \
                  since the runtime refuses the name that the kubelet gives a container's group.",
        remedy: "kubepods-repair leaves both alone: make SystemdCgroup in containerd's template and the kubelet's \
                 --cgroup-driver say the same.",
    },
    Entry {
        fault: Fault::Frozen,
        name: "frozen",
        message_id: "374546112c404479b0de43ce6b493296",
        title: "A group of the kubelet is frozen",
        meaning: "Everything in a frozen cgroup stands still, so every pod started below it does nothing, and the kubelet \
                  never looks at the switch.",
        remedy: "kubepods-repair thaws the group if no process lives in it or below. Otherwise somebody may have meant to \
                 stop those processes: write 0 to its cgroup.freeze by hand.",
    },
    Entry {
        fault: Fault::LeftoverLimits,
        name: "leftover-limits",
        message_id: "8f889dd1b393477abbfe3ef762714ebf",
        title: "A limit that the kubelet never resets",
        meaning: "A resource limit is set on kubepods or a QoS group that the kubelet neither sets nor takes back. All \
                  pods below share it.",
        remedy: "kubepods-repair leaves it alone, since somebody may have meant it, and prints the command that resets it.",
    },
    Entry {
        fault: Fault::LimitsExhausted,
        name: "limits-exhausted",
        message_id: "922c4c7da2344ab59a16ed23268464e3",
        title: "No more cgroups may be made here",
        meaning: "cgroup.max.descendants or cgroup.max.depth leaves no room for what the kubelet or its pods have to make: \
                  mkdir answers \"resource temporarily unavailable\", and will for ever.",
        remedy: "kubepods-repair sets the limit back to max on kubepods and the QoS groups. On any other group somebody has \
                 to want it.",
    },
    Entry {
        fault: Fault::NestedRootBusy,
        name: "nested-root-busy",
        message_id: "3f418e3cd632467780e24406916342bb",
        title: "Processes sit in the root cgroup of this container",
        meaning: "What looks like the root of the cgroup tree is an ordinary group of the machine outside, and no ordinary \
                  group that holds processes can pass controllers on. The kubelet then says that kubepods doesn't exist.",
        remedy: "The container's init has to move all processes into a group below at its start, as systemd does.",
    },
    Entry {
        fault: Fault::PinnedTaskBlocksCpuset,
        name: "pinned-task-blocks-cpuset",
        message_id: "a1fdfcb037664cd280da24de7024487d",
        title: "A pinned task makes the kernel refuse the cpuset controller",
        meaning: "A task that must not change its CPUs (PF_NO_SETAFFINITY) lives outside the root cgroup, and until it is \
                  gone the kernel answers \"invalid argument\" to +cpuset. On kernels before 6.3 and 6.1.110 the \
                  io_uring threads of k8s-dqlite are such tasks, which is why a node may start well for months and never \
                  again after one power cut.",
        remedy: "Before the kubelet's start, kubepods-repair restarts k8s-dqlite or etcd once a boot if nobody else is in \
                 the way: their own pre-start anchors the controller in between, and then the task disturbs nobody. \
                 Anything else it leaves alone: stop the unit that is named, run kubepods-repair, start it again.",
    },
    Entry {
        fault: Fault::QosDisabled,
        name: "qos-disabled",
        message_id: "4aca5a0f507f4e9aaa56e4b250a58f1c",
        title: "The kubelet runs with cgroups-per-qos=false",
        meaning: "This is the common workaround for a kubelet that does not find kubepods. It makes the node start, and \
                  gives up the isolation of pods by QoS class.",
        remedy: "kubepods-repair does nothing. Where the host is fit to run without the workaround, it says so: delete \
                 --cgroups-per-qos=false and --enforce-node-allocatable= from the kubelet's arguments and restart MicroK8s. \
                 Every running pod is then killed and started anew.",
    },
    Entry {
        fault: Fault::QosGroupMissing,
        name: "qos-group-missing",
        message_id: "ef86a21150da4ce8adb1892aec9eedff",
        title: "The group of a QoS class is missing",
        meaning: "kubepods holds a group for burstable and one for best-effort pods. One is not there; the kubelet makes it \
                  at its start.",
        remedy: "kubepods-repair makes it.",
    },
    Entry {
        fault: Fault::ReadOnlyCgroupfs,
        name: "read-only-cgroupfs",
        message_id: "a5fef19fcf3344d1bc77aea5a6f4b9c5",
        title: "The cgroup file system is read-only",
        meaning: "Neither the kubelet nor kubepods-repair can change anything in it. This is so in containers whose manager \
                  does not give the cgroup tree away.",
        remedy: "Let the container manager mount it writable.",
    },
    Entry {
        fault: Fault::RealtimeTaskBlocksCpu,
        name: "realtime-task-blocks-cpu",
        message_id: "fe383c58d1f4408b8271b8f7b0658d65",
        title: "A real-time task makes the kernel refuse the cpu controller",
        meaning: "This kernel has CONFIG_RT_GROUP_SCHED, and a real-time task lives outside the root cgroup: until it is \
                  gone the kernel answers \"invalid argument\" to +cpu. multipathd and rtkit-daemon are the usual ones.",
        remedy: "kubepods-repair never restarts such a unit, since it would fail: once cpu is on, no task outside the root \
                 cgroup can become real-time. Put RestrictRealtime=yes into a drop-in for a program that only prefers real \
                 time, remove rtkit where nobody needs it, or boot a kernel without the option.",
    },
    Entry {
        fault: Fault::ReservedGroupMissing,
        name: "reserved-group-missing",
        message_id: "c28a8d68d1204d2998071f2854893432",
        title: "A reserved cgroup does not exist",
        meaning: "The kubelet was told to enforce the reservation for system or Kubernetes daemons on a cgroup \
                  (--system-reserved-cgroup, --kube-reserved-cgroup). It demands that this cgroup exists, and never makes \
                  it.",
        remedy: "kubepods-repair makes the cgroup and switches the needed controllers on along the way.",
    },
    Entry {
        fault: Fault::RootMissing,
        name: "root-missing",
        message_id: "e1889b013666499dbfb187fb559886e3",
        title: "kubepods does not exist",
        meaning: "The root cgroup of all pods is not there. After a boot this is as it should be: cgroups live in memory, \
                  and the kubelet makes this one at its start.",
        remedy: "kubepods-repair makes it, with the QoS groups, and anchors its controllers.",
    },
    Entry {
        fault: Fault::SettingsUnreadable,
        name: "settings-unreadable",
        message_id: "0200e4dffd7b4c8792f3cbd47ca38741",
        title: "The kubelet's settings cannot be known",
        meaning: "A file that says how the kubelet is configured cannot be read, or holds what the kubelet refuses or what \
                  only the running service could resolve.",
        remedy: "Nothing is guessed and nothing is touched: put the named line or file right.",
    },
    Entry {
        fault: Fault::StalePodGroups,
        name: "stale-pod-groups",
        message_id: "0c06dd8f03174b9dbf39ed93bcd5789e",
        title: "Groups of pods that are no more",
        meaning: "Pod groups without a process anywhere below them, whose pods have no directory under the kubelet's root \
                  directory any more.",
        remedy: "kubepods-repair removes them when it runs before the kubelet's start. By hand it leaves them: a running \
                 kubelet makes a pod's group before its directory.",
    },
    Entry {
        fault: Fault::StrayProcesses,
        name: "stray-processes",
        message_id: "af7195e9bd4543dfb68cd62f81fb0b68",
        title: "Processes sit where only groups may be",
        meaning: "A cgroup that passes controllers on may hold no process of its own. Processes directly in kubepods make \
                  the kubelet die (\"it is in an invalid state\"); in a QoS group they keep limits from its pods.",
        remedy: "kubepods-repair moves them, unharmed, to the group kubepods-strays beside kubepods, which it removes once \
                 it is empty. It moves nobody out of a group that is not the kubelet's own.",
    },
    Entry {
        fault: Fault::Threaded,
        name: "threaded",
        message_id: "c1bd7395736248ec8c9f981f1bd6837f",
        title: "A group has become threaded",
        meaning: "A threaded cgroup can have no memory limit, and the kernel never makes it an ordinary one again. The \
                  kubelet dies of it (\"it is in threaded mode\").",
        remedy: "kubepods-repair removes the group and makes it anew if nothing lives in it or below.",
    },
    Entry {
        fault: Fault::UncleanShutdown,
        name: "unclean-shutdown",
        message_id: "cecb7424099d447c97e9f36467c48d81",
        title: "The boot before this one did not end cleanly",
        meaning: "No shutdown target was reached: the power went, or the machine crashed or was reset. The cgroup tree \
                  begins anew at every boot, so it cannot be damaged; files can be, and services may come up in another \
                  order than before.",
        remedy: "Nothing depends on this note. What the power cut left behind is found and told on its own.",
    },
    Entry {
        fault: Fault::UpgradedSinceBoot,
        name: "upgraded-since-boot",
        message_id: "d44b62fe9c7143c7ac22be63dcf2e553",
        title: "MicroK8s was refreshed since this boot",
        meaning: "The active revision is not the one that this boot began with. What the revision before had made in the \
                  cgroup tree may still be there.",
        remedy: "Reboot when convenient.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_by_name() {
        let names: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert!(names.is_sorted_by(|one, next| one < next));
        assert!(CATALOGUE.iter().all(|entry| entry.fault.name() == entry.name));
    }
}
