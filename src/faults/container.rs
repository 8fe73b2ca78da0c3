//! What to ask of a container's manager, by the name of its own key.

use std::path::Path;

use crate::cgroup::Controllers;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::Host;
use crate::host::container::Manager;

pub(super) const FAULTS: &[&Fault] = &[&NESTED_ROOT_BUSY, &READ_ONLY_CGROUPFS];

pub(crate) static NESTED_ROOT_BUSY: Fault = Fault {
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
    does: "reports what the container's init has to do",
    nature: Nature::Fault,
};

pub(crate) static READ_ONLY_CGROUPFS: Fault = Fault {
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
    does: "reports the container manager's setting to change",
    nature: Nature::Fault,
};

pub(super) fn read_only(host: &Host, mount: &Path) -> Finding {
    let impact = Impact::fatal("the kubelet can neither make a group nor set a limit");
    let location = Location::Mount(mount.to_owned());
    let evidence = "the cgroup file system is mounted read-only";
    let remedy = Remedy::tell(make_writable(host.boot.container.as_ref(), mount));
    READ_ONLY_CGROUPFS.finding(impact, location, evidence, remedy)
}

/// How to pass these controllers on to the container.
pub(super) fn pass_on(manager: Option<&Manager>, which: &Controllers) -> String {
    let how = match manager {
        Some(Manager::Lxc) => {
            "give the unit that starts the container Delegate=yes (systemd-run -p Delegate=yes \
             lxc-start …)"
        }
        Some(Manager::Lxd) => {
            "see that the cgroup.subtree_control of each group above lxc.payload.NAME has it"
        }
        Some(Manager::Docker | Manager::Podman) => {
            "rootless, put Delegate=cpu cpuset io memory pids into a drop-in for user@.service; \
             else see that the cgroup.subtree_control of each group above the container's has it"
        }
        Some(Manager::Nspawn) => {
            "give the unit of systemd-nspawn Delegate=yes (--property=Delegate=yes for a scope)"
        }
        Some(Manager::Wsl | Manager::Other(_)) | None => "let the container's manager delegate it",
    };
    format!("on the machine outside, pass {which} on to this container: {how}")
}

/// How to have the cgroup tree mounted writable in the container.
pub(super) fn make_writable(manager: Option<&Manager>, mount: &Path) -> String {
    let how = match manager {
        Some(Manager::Lxc) => {
            "set lxc.mount.auto = cgroup:rw in the container's configuration and restart it"
        }
        Some(Manager::Lxd) => {
            "lxc config set NAME security.nesting true; if it is so already, add \
             lxc.mount.auto=cgroup:rw to its raw.lxc (lxc config edit NAME); then lxc restart \
             NAME (Incus: incus for lxc)"
        }
        Some(Manager::Docker) => "start the container with --privileged and --cgroupns=private",
        Some(Manager::Podman) => "start the container with --systemd=always, or with --privileged",
        Some(Manager::Nspawn) => {
            "start systemd-nspawn without SYSTEMD_NSPAWN_USE_CGNS=0, and with Delegate=yes in its \
             unit (--property=Delegate=yes for a scope)"
        }
        Some(Manager::Wsl | Manager::Other(_)) => {
            "let whatever mounts it in this container mount it writable"
        }
        None => {
            return format!(
                "in a container, let its manager mount cgroups writable; on a host: mount -o \
                 remount,rw {}",
                mount.display()
            );
        }
    };
    how.to_owned()
}

/// How to get the processes out of the apparent root.
pub(super) fn vacate(manager: Option<&Manager>) -> String {
    let init = "start the container with systemd as its init, which leaves the root cgroup at once";
    let how = match manager {
        Some(Manager::Lxc) => format!("{init} (no lxc.init.cmd, no lxc-execute)"),
        Some(Manager::Lxd) => init.to_owned(),
        Some(Manager::Docker | Manager::Podman) => {
            "let the entrypoint first make a cgroup below the root and move every process there \
             (mkdir /sys/fs/cgroup/init; xargs -rn1 </sys/fs/cgroup/cgroup.procs \
             >/sys/fs/cgroup/init/cgroup.procs)"
                .to_owned()
        }
        Some(Manager::Nspawn) => format!("{init} (systemd-nspawn --boot)"),
        Some(Manager::Wsl | Manager::Other(_)) | None => {
            "let its init move all processes into a group below the root at start (as systemd \
             does)"
                .to_owned()
        }
    };
    format!("this is a container: {how}, then run kubepods-repair again")
}
