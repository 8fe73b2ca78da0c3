//! What to ask of a container's manager, by the name of its own key.

use std::path::Path;

use crate::cgroup::Controllers;
use crate::host::container::Manager;

/// It does not pass these controllers on.
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
        _ => "let the container's manager delegate it",
    };
    format!("on the machine outside, pass {which} on to this container: {how}")
}

/// It mounts the tree read-only.
pub(super) fn write(manager: Option<&Manager>, mount: &Path) -> String {
    match manager {
        Some(Manager::Lxc) => {
            "set lxc.mount.auto = cgroup:rw in the container's configuration and restart \
             it"
            .to_owned()
        }
        Some(Manager::Lxd) => {
            "lxc config set NAME security.nesting true; if it is so already, add \
                               lxc.mount.auto=cgroup:rw to its raw.lxc (lxc config edit NAME); \
                               then lxc restart NAME (Incus: incus for lxc)"
                .to_owned()
        }
        Some(Manager::Docker) => "start the container with --privileged and \
                                  --cgroupns=private"
            .to_owned(),
        Some(Manager::Podman) => "start the container with --systemd=always, or with \
                                  --privileged"
            .to_owned(),
        Some(Manager::Nspawn) => {
            "start systemd-nspawn without SYSTEMD_NSPAWN_USE_CGNS=0, and with Delegate=yes in its \
             unit (--property=Delegate=yes for a scope)"
                .to_owned()
        }
        Some(Manager::Wsl | Manager::Other(_)) => {
            "let whatever mounts it in this container mount it writable".to_owned()
        }
        None => format!(
            "in a container, let its manager mount cgroups writable; on a host: mount -o \
             remount,rw {}",
            mount.display()
        ),
    }
}

/// Processes sit in the apparent root.
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
        _ => "let its init move all processes into a group below the root at start (as systemd \
              does)"
            .to_owned(),
    };
    format!("this is a container: {how}, then run kubepods-repair again")
}
