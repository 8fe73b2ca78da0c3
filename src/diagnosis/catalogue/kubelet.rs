//! The kubelet's own side: its settings, its state files, and what it agreed with containerd.

use super::Entry;

pub(super) static CHECKPOINT_DAMAGED: Entry = Entry {
    name: "checkpoint-damaged",
    message_id: "d0701bf477f04afe914eb674e54954fc",
    title: "A state file of the kubelet is damaged",
    meaning: "The kubelet keeps what it has assigned to containers in small files below its root \
              directory (cpu_manager_state, memory_manager_state and others). One is empty, cut \
              short or filled with NUL bytes, as a power cut may leave it, and the kubelet dies of \
              it at every start (\"could not restore state from checkpoint\").",
    signs: "The file is there and is not whole JSON.",
    remedy: "Before the kubelet's start, and while no container runs, kubepods-repair renames the \
             file to NAME.damaged-BOOT-ID; the kubelet then begins a new one. It deletes \
             nothing.",
    by_hand: "Stop the node's containers, delete or rename the file that is named, start kubelite.",
    threads: &[
        "kubernetes/kubernetes#84783",
        "kubernetes/kubernetes#135711",
    ],
};

pub(super) static CHECKPOINT_DIFFERS: Entry = Entry {
    name: "checkpoint-differs",
    message_id: "ad2da61f6ef04c4c833a090caa016d2d",
    title: "A state file of the kubelet belongs to another policy",
    meaning: "The kubelet was told to use another CPU or memory manager policy than the one its \
              state file was written under, and refuses to start.",
    signs: "The policy in cpu_manager_state or memory_manager_state is not the one in the \
            kubelet's settings.",
    remedy: "kubepods-repair leaves it alone: it records what running containers were given.",
    by_hand: "Drain the node, stop its containers and delete the file, or put the old policy back.",
    threads: &[],
};

pub(super) static DRIVER_CHANGED: Entry = Entry {
    name: "driver-changed",
    message_id: "58ab17f519cb4e2893289f516416c98c",
    title: "The tree of the other cgroup driver is left",
    meaning: "The kubelet keeps its pods in kubepods (cgroupfs) or in kubepods.slice (systemd), \
              and was told to use the other driver than before. Pods in the old tree are beyond \
              the reach of this kubelet; an empty old tree disturbs nobody.",
    signs: "A kubepods of the driver that the kubelet does not use is there.",
    remedy: "kubepods-repair removes the old tree before the kubelet's start if no process lives \
             anywhere in it and no kubelet runs. Otherwise it leaves it alone.",
    by_hand: "Drain the node and stop its containers (microk8s stop ends them all), or reboot: \
              cgroups live in memory.",
    threads: &[],
};

pub(super) static DRIVER_MISMATCH: Entry = Entry {
    name: "driver-mismatch",
    message_id: "c986d1a589b54267837dc231b199cd7a",
    title: "The kubelet and containerd use different cgroup drivers",
    meaning: "One makes its cgroups itself (cgroupfs), the other through systemd. The kubelet \
              starts, and every pod fails, since the runtime refuses the name that the kubelet \
              gives a container's group.",
    signs: "The kubelet's cgroupDriver and SystemdCgroup in containerd's configuration do not say \
            the same.",
    remedy: "kubepods-repair leaves both alone.",
    by_hand: "Make SystemdCgroup in /var/snap/microk8s/current/args/containerd-template.toml and \
              the kubelet's --cgroup-driver say the same, then restart MicroK8s.",
    threads: &[],
};

pub(super) static QOS_DISABLED: Entry = Entry {
    name: "qos-disabled",
    message_id: "4aca5a0f507f4e9aaa56e4b250a58f1c",
    title: "The kubelet runs with cgroups-per-qos=false",
    meaning: "This is the common workaround for a kubelet that does not find kubepods. It makes \
              the node start, and gives up the isolation of pods by QoS class and the reservations \
              of the node.",
    signs: "--cgroups-per-qos=false, or cgroupsPerQOS: false, in the kubelet's settings.",
    remedy: "kubepods-repair does nothing. It says whether the host is fit to run without the \
             workaround.",
    by_hand: "Where it is: delete --cgroups-per-qos=false and --enforce-node-allocatable= from \
              /var/snap/microk8s/current/args/kubelet and restart MicroK8s. Every running pod is \
              then killed and started anew.",
    threads: &["canonical/microk8s#4378", "canonical/microk8s#4361"],
};

pub(super) static SERVICE_CONFINED: Entry = Entry {
    name: "service-confined",
    message_id: "759ce468629a4f819bbf571a4c47d915",
    title: "kubelite's unit keeps from the kubelet what it needs",
    meaning: "A drop-in for kubelite, or for all services, shuts the kubelet in: the cgroup tree \
              or /proc/sys is read-only to it, /dev/kmsg is missing, or it cannot write to its \
              root directory. The kubelet dies of each, while every other program, this one \
              included, finds the host in order.",
    signs: "ProtectControlGroups=, ProtectKernelTunables= (where a sysctl that the kubelet sets \
            differs from what it wants), PrivateDevices=, ProtectKernelLogs=, \
            ProtectSystem=strict, ReadOnlyPaths= or InaccessiblePaths= in the unit file of \
            kubelite or in a drop-in of it, of snap.microk8s.daemon- or of service.",
    remedy: "kubepods-repair edits no units. It names the file and the line.",
    by_hand: "Take the line out of the file that is named (or undo it in a drop-in of kubelite's \
              own whose name sorts later), then: systemctl daemon-reload; systemctl restart \
              snap.microk8s.daemon-kubelite.service",
    threads: &[],
};

pub(super) static SETTINGS_UNREADABLE: Entry = Entry {
    name: "settings-unreadable",
    message_id: "0200e4dffd7b4c8792f3cbd47ca38741",
    title: "The kubelet's settings cannot be known",
    meaning: "A file that says how the kubelet is configured cannot be read, or holds what the \
              kubelet of this version refuses: then it does not start. Or what the settings come \
              to depends on what only the running service, another container runtime or the \
              kubelet's version could say. Which cgroups it wants cannot be known then.",
    signs: "Reading or parsing the args file, a KubeletConfiguration or containerd's configuration \
            fails, or a value breaks the kubelet's own rules; the finding shows file and line, and \
            the kubelet's words.",
    remedy: "Nothing is guessed and nothing is changed.",
    by_hand: "Correct the named line or file; an ordinary user may have to run kubepods-repair as \
              root. A file of NUL bytes after a power cut has to come from a backup or from \
              /snap/microk8s/current/default-args. Where the kubelet asks another runtime than \
              MicroK8s' own containerd for its cgroup driver, set --cgroup-driver to what that \
              runtime uses.",
    threads: &[],
};
