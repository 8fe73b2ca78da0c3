//! What kind of container this is, if it is one: by the signs its manager leaves
//! (systemd's "Container Interface", and `detect_container` in its `src/basic/virt.c`).

use std::fmt;
use std::path::Path;

use crate::host::kernel::Kernel;
use crate::root::Root;
use crate::root::keep::{all, text};

/// Who made the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// LXC by itself.
    Lxc,
    /// LXD or Incus, which use LXC.
    Lxd,
    /// Docker, or what behaves like it.
    Docker,
    /// Podman.
    Podman,
    /// systemd-nspawn.
    Nspawn,
    /// The Windows Subsystem for Linux: a virtual machine, and a container in it for each
    /// distribution.
    Wsl,
    /// Another one, by its own name.
    Other(String),
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lxc => "LXC",
            Self::Lxd => "LXD or Incus",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Nspawn => "systemd-nspawn",
            Self::Wsl => "WSL",
            Self::Other(name) => name,
        })
    }
}

/// Where a manager, or systemd after it, notes its name.
const NOTES: [&str; 2] = ["/run/systemd/container", "/run/host/container-manager"];

/// Files that only these managers make.
const SIGNS: [(&str, Manager); 2] = [
    ("/run/.containerenv", Manager::Podman),
    ("/.dockerenv", Manager::Docker),
];

/// LXD's and Incus' doors into their containers.
const DOORS: [&str; 2] = ["/dev/lxd", "/dev/incus"];

/// The manager of this container; `None` on a host, and where nothing tells.
pub fn observe(root: &Root, kernel: &Kernel) -> Option<Manager> {
    if kernel.release.to_ascii_lowercase().contains("microsoft") {
        return Some(Manager::Wsl);
    }
    let there = |path: &str| root.exists(Path::new(path)).unwrap_or(false);
    let noted = NOTES
        .iter()
        .find_map(|path| root.keeping(&all).read(Path::new(path)).ok())
        .or_else(|| environment_of_init(root));
    match noted.as_deref().map(str::trim_end) {
        None | Some("") => SIGNS
            .into_iter()
            .find(|(path, _)| there(path))
            .map(|(_, manager)| manager),
        Some("lxc") if DOORS.iter().any(|path| there(path)) => Some(Manager::Lxd),
        Some("lxc") => Some(Manager::Lxc),
        Some("docker") => Some(Manager::Docker),
        Some("podman") => Some(Manager::Podman),
        Some("systemd-nspawn") => Some(Manager::Nspawn),
        Some("wsl") => Some(Manager::Wsl),
        Some(name) => Some(Manager::Other(name.to_owned())),
    }
}

/// `container=` of process 1, which only root may see.
fn environment_of_init(root: &Root) -> Option<String> {
    let keep = text(|environment| variable(environment).unwrap_or_default().to_owned());
    let environment = root
        .keeping(&keep)
        .read_value(Path::new("/proc/1/environ"))
        .ok()??;
    variable(&environment)?
        .strip_prefix(VARIABLE)
        .map(str::to_owned)
}

/// Of the environment of process 1, all that is read, and that a capture keeps.
const VARIABLE: &str = "container=";

fn variable(environment: &str) -> Option<&str> {
    environment
        .split('\0')
        .find(|variable| variable.starts_with(VARIABLE))
}
