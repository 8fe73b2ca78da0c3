//! What the administrator has to change in the container manager, in the terms of each manager.

use std::path::Path;

use crate::cgroup::Controllers;
use crate::faults::finding::shell_word;
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::Host;
use crate::host::container::Manager;
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&NESTED_ROOT_BUSY, &READ_ONLY_CGROUPFS];

pub(crate) static NESTED_ROOT_BUSY: Fault = Fault {
    name: "nested-root-busy",
    message_id: "3f418e3cd632467780e24406916342bb",
    title: "Processes are in the root cgroup of this container",
    meaning: "The root of the cgroup tree in a container is an ordinary cgroup of the host. Such a \
              cgroup cannot enable controllers for its children while it holds processes. The \
              kubelet then fails with \"root container [kubepods] doesn't exist\".",
    signs: "The root of the tree has a file cgroup.type, which the real root does not have, and \
            its cgroup.procs is not empty.",
    remedy: "kubepods-repair does not move these processes, since they do not belong to the \
             kubelet.",
    by_hand: "The container's init has to move all processes into a child cgroup when it starts, \
              as systemd does. Boot the container with systemd as its init, or do it in the \
              entrypoint of a Docker or Podman container.",
    threads: &["k3d-io/k3d#582", "k3s-io/k3s#4085", "k3s-io/k3s#4873"],
    does: "reports what the container's init has to do",
    nature: Nature::Fault,
};

pub(crate) static READ_ONLY_CGROUPFS: Fault = Fault {
    name: "read-only-cgroupfs",
    message_id: "a5fef19fcf3344d1bc77aea5a6f4b9c5",
    title: "The cgroup file system is read-only",
    meaning: "Neither the kubelet nor kubepods-repair can create cgroups or set limits. This \
              happens in containers whose manager mounts the cgroup file system read-only.",
    signs: "The mount of the cgroup file system has the option ro.",
    remedy: "kubepods-repair reports what to change in the container manager. It never remounts \
             anything.",
    by_hand: "Configure the container manager to mount the cgroup file system writable. LXC: \
              lxc.mount.auto = cgroup:rw. LXD and Incus: security.nesting=true. Docker: \
              --privileged and --cgroupns=private. Podman: --systemd=always. systemd-nspawn: \
              Delegate=yes in its unit. Outside containers: mount -o remount,rw /sys/fs/cgroup",
    threads: &["k3d-io/k3d#582", "k3s-io/k3s#4873"],
    does: "reports the container manager's setting to change",
    nature: Nature::Fault,
};

pub(super) fn read_only(host: &Host, mount: &Path) -> Finding {
    let impact = Impact::fatal("The kubelet can neither create cgroups nor set limits");
    let location = Location::Mount(mount.to_owned());
    let evidence = "The cgroup file system is mounted read-only";
    let remedy = if let Some(manager) = &host.boot.container {
        Remedy::tell(make_writable(Some(manager), mount))
    } else {
        Remedy::run(
            "In a container, configure the container manager to mount it writable. Otherwise \
             remount it and restart kubelite",
            [
                format!("mount -o remount,rw {}", shell_word(mount.display())),
                MICROK8S.restart(),
            ],
        )
    };
    READ_ONLY_CGROUPFS.finding(impact, location, evidence, remedy)
}

/// How to delegate these controllers to the container.
pub(super) fn pass_on(manager: Option<&Manager>, which: &Controllers) -> String {
    let how = match manager {
        Some(Manager::Lxc) => "set Delegate=yes for the unit that starts the container \
                               (systemd-run -p Delegate=yes lxc-start -n NAME)"
            .to_owned(),
        Some(Manager::Lxd) => format!(
            "enable {which} in the cgroup.subtree_control of each cgroup above lxc.payload.NAME"
        ),
        Some(Manager::Docker | Manager::Podman) => format!(
            "if the container is rootless, add Delegate=cpu cpuset io memory pids to a drop-in for \
             user@.service, otherwise enable {which} in the cgroup.subtree_control of each cgroup \
             above the container's"
        ),
        Some(Manager::Nspawn) => "set Delegate=yes for the unit of systemd-nspawn (for a scope: \
                                  --property=Delegate=yes)"
            .to_owned(),
        Some(Manager::Wsl | Manager::Other(_)) | None => {
            return format!(
                "On the host, configure the container manager to delegate {which} to this container"
            );
        }
    };
    format!("On the host, delegate {which} to this container: {how}")
}

/// How to have the cgroup file system mounted writable in the container.
pub(super) fn make_writable(manager: Option<&Manager>, mount: &Path) -> String {
    let how = match manager {
        Some(Manager::Lxc) => {
            "Set lxc.mount.auto = cgroup:rw in the container's configuration, then restart the \
             container"
        }
        Some(Manager::Lxd) => {
            "On the host, run lxc config set NAME security.nesting true and lxc restart NAME (with \
             Incus: incus instead of lxc). If that is set already, add lxc.mount.auto=cgroup:rw to \
             raw.lxc of the container (lxc config edit NAME)"
        }
        Some(Manager::Docker) => "Start the container with --privileged and --cgroupns=private",
        Some(Manager::Podman) => "Start the container with --systemd=always or --privileged",
        Some(Manager::Nspawn) => {
            "Start systemd-nspawn without SYSTEMD_NSPAWN_USE_CGNS=0, and set Delegate=yes for its \
             unit (for a scope: --property=Delegate=yes)"
        }
        Some(Manager::Wsl | Manager::Other(_)) => {
            "Configure the container manager to mount the cgroup file system writable"
        }
        None => {
            return format!(
                "In a container, configure the container manager to mount the cgroup file system \
                 writable. Otherwise run mount -o remount,rw {}",
                mount.display()
            );
        }
    };
    how.to_owned()
}

/// How to get the processes out of the container's root cgroup.
pub(super) fn vacate(manager: Option<&Manager>) -> String {
    let init = "Start the container with systemd as its init, which moves all processes out of the \
                root cgroup";
    let how = match manager {
        Some(Manager::Lxc) => format!("{init} (without lxc.init.cmd, and not with lxc-execute)"),
        Some(Manager::Lxd) => init.to_owned(),
        Some(Manager::Docker | Manager::Podman) => {
            "Change the entrypoint of the container: it has to create a cgroup first and move \
             every process into it (mkdir /sys/fs/cgroup/init; xargs -rn1 \
             </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs)"
                .to_owned()
        }
        Some(Manager::Nspawn) => format!("{init} (systemd-nspawn --boot)"),
        Some(Manager::Wsl | Manager::Other(_)) | None => {
            "Configure the container's init to move all processes into a child cgroup when it \
             starts, as systemd does"
                .to_owned()
        }
    };
    format!("{how}. Then run kubepods-repair again")
}
