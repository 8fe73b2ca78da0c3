//! What surrounds the tree: the kernel, a container around it, and how this boot began.

use super::Entry;

pub(super) static CONTROLLER_ABSENT: Entry = Entry {
    name: "controller-absent",
    message_id: "ea4d6d5bb5b340cfb7a2cec88b2cb7e7",
    title: "The kernel offers no such controller",
    meaning: "A controller that pods want is not among those that the root of the cgroup tree \
              offers: the kernel was built or started without it, it is bound to a version 1 \
              mount, or the container this runs in was not given it. The kubelet starts all the \
              same and cannot enforce the limits that need it. So it is with a cpu controller that \
              was built without its CPU limits.",
    signs: "kubepods has no cpu.max, or cpu, cpuset, memory or pids is not a word of the root's \
            cgroup.controllers. Why: cgroup_disable= on the kernel's command line, its line of \
            /proc/cgroups (from 6.12 on cpuset and memory may be missing there and yet be built \
            in), the kernel's configuration, or a container around it.",
    remedy: "Nothing can be done while this kernel runs; the finding says where the controller \
             went, as far as it can be seen, and which file of this host's boot loader brings it \
             back.",
    by_hand: "On a Raspberry Pi add cgroup_enable=memory cgroup_memory=1 to the one line of \
              /boot/firmware/cmdline.txt (older: /boot/cmdline.txt): its own firmware puts \
              cgroup_disable=memory before it. Elsewhere take cgroup_disable= out of what GRUB \
              (/etc/default/grub, /etc/default/grub.d), U-Boot (/etc/default/u-boot, \
              /boot/extlinux/extlinux.conf) or systemd-boot (/etc/kernel/cmdline) give the kernel; \
              under WSL, out of kernelCommandLine= in .wslconfig. Then reboot. In a container, let \
              its manager pass the controller on.",
    threads: &[
        "canonical/microk8s#1691",
        "canonical/microk8s#3693",
        "canonical/microk8s#4301",
    ],
};

pub(super) static NESTED_ROOT_BUSY: Entry = Entry {
    name: "nested-root-busy",
    message_id: "3f418e3cd632467780e24406916342bb",
    title: "Processes sit in the root cgroup of this container",
    meaning: "What looks like the root of the cgroup tree is an ordinary group of the machine \
              outside, and no ordinary group that holds processes can pass controllers on. The \
              kubelet then says that kubepods doesn't exist.",
    signs: "The root of the tree has a cgroup.type, as only a group in a container's namespace \
            does, and its cgroup.procs is not empty.",
    remedy: "kubepods-repair leaves them: they are not the kubelet's.",
    by_hand: "The container's init has to move all processes into a group below at its start, as \
              systemd does: boot the container with systemd as its init, or let the entrypoint of \
              a Docker or Podman container do it.",
    threads: &["k3d-io/k3d#582", "k3s-io/k3s#4085", "k3s-io/k3s#4873"],
};

pub(super) static READ_ONLY_CGROUPFS: Entry = Entry {
    name: "read-only-cgroupfs",
    message_id: "a5fef19fcf3344d1bc77aea5a6f4b9c5",
    title: "The cgroup file system is read-only",
    meaning: "Neither the kubelet nor kubepods-repair can change anything in it. This is so in \
              containers whose manager does not give the cgroup tree away.",
    signs: "The mount of the cgroup file system carries the option ro.",
    remedy: "kubepods-repair never remounts anything.",
    by_hand: "Let the container's manager mount it writable. LXC: lxc.mount.auto = cgroup:rw; LXD \
              and Incus: security.nesting; Docker: --privileged and --cgroupns=private; Podman: \
              --systemd=always; systemd-nspawn: Delegate=yes in its unit. On a host: mount -o \
              remount,rw /sys/fs/cgroup.",
    threads: &["k3d-io/k3d#582", "k3s-io/k3s#4873"],
};

pub(super) static UNCLEAN_SHUTDOWN: Entry = Entry {
    name: "unclean-shutdown",
    message_id: "cecb7424099d447c97e9f36467c48d81",
    title: "The boot before this one did not end cleanly",
    meaning: "No shutdown target was reached: the power went, or the machine crashed or was reset. \
              The cgroup tree begins anew at every boot, so it cannot be damaged; files can be, \
              and services may come up in another order than before.",
    signs: "The note in /var/lib/kubepods-repair/boot is of another boot and was never marked as \
            ended.",
    remedy: "Nothing depends on this note. What the power cut left behind is found and told on its \
             own.",
    by_hand: "Nothing.",
    threads: &["canonical/microk8s#4378"],
};

pub(super) static UPGRADED_SINCE_BOOT: Entry = Entry {
    name: "upgraded-since-boot",
    message_id: "d44b62fe9c7143c7ac22be63dcf2e553",
    title: "MicroK8s was refreshed since this boot",
    meaning: "The active revision is not the one that this boot began with. What the revision \
              before had made in the cgroup tree may still be there.",
    signs: "The revision noted at boot is not the one that /var/snap/microk8s/current points to.",
    remedy: "Nothing depends on this note.",
    by_hand: "Reboot when convenient.",
    threads: &[],
};
