//! What a single setting consists of: its value and the place that it comes from. A report has to
//! name that place, and what it overrules.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kubelet's own default.
    Default,
    /// An args file, and the line in it counted from 1.
    Args(PathBuf, usize),
    /// A configuration file, and the key in it.
    Config(PathBuf, &'static str),
    /// containerd's configuration file: containerd reports the driver to the kubelet.
    Containerd(PathBuf),
}

impl Origin {
    /// The file that holds the value; `None` for a default.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Default => None,
            Self::Args(file, _) | Self::Config(file, _) | Self::Containerd(file) => Some(file),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Args(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Config(file, key) => write!(f, "{}, {key}", file.display()),
            Self::Containerd(file) => write!(f, "{}, SystemdCgroup", file.display()),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value that counts.
    pub value: T,
    /// The place that sets it.
    pub origin: Origin,
    /// The value that an earlier place sets, where it is another one.
    pub overruled: Option<Box<Self>>,
}

impl<T: PartialEq> Sourced<T> {
    pub(super) fn new(value: T, origin: Origin) -> Self {
        Self {
            value,
            origin,
            overruled: None,
        }
    }

    pub(super) fn default(value: T) -> Self {
        Self::new(value, Origin::Default)
    }

    /// Puts a value in place of the present one, and remembers that one where it is overruled.
    pub(super) fn set(&mut self, value: T, origin: Origin) {
        let before = std::mem::replace(self, Self::new(value, origin));
        self.overruled = if before.origin == Origin::Default || before.value == self.value {
            before.overruled
        } else {
            Some(Box::new(before))
        };
    }
}

/// The cgroup driver: what makes the kubelet's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kubelet itself, through libcontainer.
    Cgroupfs,
    /// systemd, as slices.
    Systemd,
}

impl Driver {
    /// The driver of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "cgroupfs" => Some(Self::Cgroupfs),
            "systemd" => Some(Self::Systemd),
            _ => None,
        }
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Cgroupfs => Self::Systemd,
            Self::Systemd => Self::Cgroupfs,
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        })
    }
}

/// The end of the error for a setting that names another driver.
pub(super) const NO_DRIVER: &str = "is neither cgroupfs nor systemd";

/// The end of the error for a setting with a path such as `/a/../b`.
pub(super) const NO_CGROUP: &str = "is not a cgroup path that kubepods-repair can use as written";
