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

/// `container=` of process 1, whose environment only root may see.
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
