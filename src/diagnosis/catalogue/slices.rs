//! Slices: the groups of the systemd cgroup driver.

use super::Entry;

pub(super) static SLICE_CONTROLLER_DROPPED: Entry = Entry {
    name: "slice-controller-dropped",
    message_id: "9e1d7cd8578040af8e4af56dfb703db1",
    title: "Nothing makes systemd keep the controllers of a slice",
    meaning: "With the systemd cgroup driver kubepods is a slice, and systemd switches off in it, \
              and above it, what none of its units asks for. This slice asks for too little, or a \
              controller is gone from it already.",
    signs: "Neither the slice's unit file nor a drop-in sets AllowedCPUs=, which makes systemd \
            keep cpuset, or CPUWeight=, which makes it keep cpu; or \
            kubepods.slice/cgroup.subtree_control lacks a word that the kubelet needs.",
    remedy: "kubepods-repair sets both properties on the slice until the next boot, where nobody \
             has set them, and switches on what is gone.",
    by_hand: "systemctl set-property --runtime kubepods.slice AllowedCPUs=0-N CPUWeight=100, with \
              N the last CPU; the same for kubepods-burstable.slice and \
              kubepods-besteffort.slice.",
    threads: &["kubernetes/kubernetes#122955", "coreos/go-systemd#443"],
};

pub(super) static SLICE_FAILED: Entry = Entry {
    name: "slice-failed",
    message_id: "5b296a0e6645447d8870e6c9dbc2f2e2",
    title: "systemd does not make a slice",
    meaning: "systemd was asked for a slice of the kubelet and refused it, or did not answer. The \
              kubelet asks for the same slice at its start.",
    signs: "systemd's answer over D-Bus, or that there was none within three seconds. It is only \
            asked when the cgroups show that something is wrong.",
    remedy: "kubepods-repair tells systemd's answer, and asks no second time in one run.",
    by_hand: "systemctl status kubepods.slice tells whether its files hold what systemd does not \
              accept; systemctl status dbus.service whether the bus is up. Then run \
              kubepods-repair again.",
    threads: &["kubernetes/kubernetes#43856"],
};

pub(super) static SLICE_FOREIGN: Entry = Entry {
    name: "slice-foreign",
    message_id: "c1c78b02a0954170b473e082f32bf08a",
    title: "A slice of the kubelet has somebody else's unit file",
    meaning: "A unit file of this name is installed, so that systemd refuses the transient unit \
              that the kubelet asks for. The kubelet takes no notice and never starts the slice, \
              and on version 2 dies if nobody else does.",
    signs: "A file of the slice's name in one of systemd's folders other than \
            /run/systemd/transient.",
    remedy: "kubepods-repair leaves the file alone. Where kubepods.slice is not fit, it asks for \
             the slices of the QoS classes in it, with which systemd starts it; of those it tells \
             what to put into the file.",
    by_hand: "Put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] into it, systemctl \
              daemon-reload, and systemctl start the slice; or take the file away. Drop-ins are \
              welcome: they are respected.",
    threads: &[],
};

pub(super) static SLICE_MASKED: Entry = Entry {
    name: "slice-masked",
    message_id: "fa01699a444c4131b4c07d28b2952f9c",
    title: "A slice of the kubelet is masked",
    meaning: "A masked unit is started for nobody, and the kubelet with the systemd cgroup driver \
              dies of it.",
    signs: "The slice's unit file is empty, or a link to /dev/null.",
    remedy: "kubepods-repair leaves it alone: somebody has masked it.",
    by_hand: "systemctl unmask kubepods.slice; for a link made by hand, remove it and run \
              systemctl daemon-reload.",
    threads: &[],
};

pub(super) static SLICE_MISSING: Entry = Entry {
    name: "slice-missing",
    message_id: "426934c3927d48cdaf6e53f8343971d3",
    title: "A slice of the kubelet does not exist",
    meaning: "With the systemd cgroup driver kubepods and the QoS groups are slices, which are \
              gone after every boot. A kubelet before 1.32 asks systemd for them in a way that \
              makes it lose cpuset, and dies at its first start after a boot; the second start \
              works. Later kubelets ask for their CPUs as well and survive.",
    signs: "There is no kubepods.slice, or no slice of a QoS class in it.",
    remedy: "kubepods-repair asks systemd for them as the kubelet would, with AllowedCPUs= and \
             CPUWeight= besides, so that systemd itself keeps the controllers.",
    by_hand: "Start the kubelet a second time.",
    threads: &["kubernetes/kubernetes#122955"],
};

pub(super) static SLICE_UNOWNED: Entry = Entry {
    name: "slice-unowned",
    message_id: "cbb4a998f0b849f89e0df96a939c6bd4",
    title: "systemd was never asked for a slice of the kubelet",
    meaning: "The group is there and systemd was never asked for it: a directory made by hand, or \
              a slice that came up with a scope in it. It passes the kubelet's look, and systemd \
              takes its controllers away later; of the slice of a QoS class the kubelet dies, \
              since it cannot have systemd limit what systemd does not know.",
    signs: "The directory is there, and no unit file of its name.",
    remedy: "kubepods-repair asks systemd for the slice, which takes the group over with all that \
             is in it.",
    by_hand: "If the group is empty, rmdir it and start the kubelet.",
    threads: &[],
};
