//! Detects whether this host is a container, and its manager, by the traces that managers leave
//! (systemd's "Container Interface", and `detect_container` in its `src/basic/virt.c`).

use std::fmt;
use std::path::Path;

use crate::host::kernel::Kernel;
use crate::root::Root;
use crate::root::keep::{all, text};

/// The program that manages the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// LXC without LXD or Incus.
    Lxc,
    /// LXD or Incus, which use LXC.
    Lxd,
    /// Docker, or a compatible program.
    Docker,
    /// Podman.
    Podman,
    /// systemd-nspawn.
    Nspawn,
    /// The Windows Subsystem for Linux: a virtual machine with a container for each distribution.
    Wsl,
    /// Another manager, by the name that it gives itself.
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

/// The files in which the manager, or systemd, records the manager's name.
const NOTES: [&str; 2] = ["/run/systemd/container", "/run/host/container-manager"];

/// Files that only these managers create.
const SIGNS: [(&str, Manager); 2] = [
    ("/run/.containerenv", Manager::Podman),
    ("/.dockerenv", Manager::Docker),
];

/// The directories that LXD and Incus provide in their containers.
const DOORS: [&str; 2] = ["/dev/lxd", "/dev/incus"];

/// The manager of this container; `None` if this is no container, or nothing shows that it is one.
pub fn observe(root: &Root, kernel: &Kernel) -> Option<Manager> {
    if kernel.release.to_ascii_lowercase().contains("microsoft") {
        return Some(Manager::Wsl);
    }
    let there = |path: &str| root.exists(Path::new(path)).unwrap_or(false);
    let note = |path: &&str| root.keeping(&all).read(Path::new(path)).ok();
    let noted = NOTES.iter().find_map(note);
    let noted = noted.or_else(|| environment_of_init(root));
    let manager = match noted.as_deref().unwrap_or_default().trim_end() {
        "" => {
            let (_, manager) = SIGNS.into_iter().find(|(path, _)| there(path))?;
            manager
        }
        "lxc" if DOORS.iter().any(|path| there(path)) => Manager::Lxd,
        "lxc" => Manager::Lxc,
        "docker" => Manager::Docker,
        "podman" => Manager::Podman,
        "systemd-nspawn" => Manager::Nspawn,
        "wsl" => Manager::Wsl,
        name => Manager::Other(name.to_owned()),
    };
    Some(manager)
}

/// The value of `container=` in the environment of process 1, which only root can read.
fn environment_of_init(root: &Root) -> Option<String> {
    let keep = text(keep);
    let path = Path::new("/proc/1/environ");
    let environment = root.keeping(&keep).read_value(path).ok()??;
    noted_in(&environment).map(str::to_owned)
}

fn noted_in(environment: &str) -> Option<&str> {
    let mut variables = environment.split('\0');
    variables.find_map(|variable| variable.strip_prefix(VARIABLE))
}

/// The only variable of process 1 that is read.
const VARIABLE: &str = "container=";

/// What a capture keeps of that environment.
fn keep(environment: &str) -> String {
    let manager = noted_in(environment);
    manager.map_or_else(String::new, |name| format!("{VARIABLE}{name}"))
}
