//! This boot, how the one before it ended, and what has changed between them.
//!
//! The marker is this program's own: `--boot` writes "running" at the start of every boot,
//! `--shutdown` writes "clean" when one of systemd's shutdown targets is really under way. Nothing
//! is ever decided by it.

use std::fmt;
use std::path::Path;

use crate::host::container::{self, Manager};
use crate::host::kernel::{self, Kernel};
use crate::kubelet::microk8s::Version;
use crate::root::Root;
use crate::root::keep::text;

/// Where the marker lies; made by `StateDirectory=` of kubepods-repair.service.
pub const MARKER: &str = "/var/lib/kubepods-repair/boot";

/// How many runs have changed something since the boot: a number in a line of its own, gone with
/// the boot.
pub const REPAIRS: &str = "/run/kubepods-repair.repairs";

const FIRST_LINE: &str = "kubepods-repair-boot 1";
const LARGEST_MARKER: usize = 4096;

/// How the boot before this one ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// Through one of systemd's shutdown targets.
    Clean,
    /// It just stopped: power loss, crash, reset.
    Unclean,
    /// Nobody noted it.
    #[default]
    Unknown,
}

impl Shutdown {
    fn parse(text: &str) -> Self {
        match text {
            "clean" => Self::Clean,
            "unclean" => Self::Unclean,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Unclean => "unclean",
            Self::Unknown => "unknown",
        })
    }
}

/// What was noted at the start of a boot, and at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// `/proc/sys/kernel/random/boot_id` of that boot.
    pub boot_id: String,
    /// Whether it ended through a shutdown target.
    pub ended: bool,
    /// How the boot before that one ended.
    pub previous: Shutdown,
    /// The kernel it ran.
    pub kernel: String,
    /// The kernel of the boot before that one, if another.
    pub kernel_before: Option<String>,
    /// The active revision of MicroK8s at its start.
    pub revision: Option<String>,
    /// Its kubelet's version.
    pub version: Option<String>,
}

impl Marker {
    /// `None` for what this version did not write whole: then nothing is known.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("\nend\n")?.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut marker = Self::default();
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "boot-id" => marker.boot_id = value.to_owned(),
                "ended" => marker.ended = value == "cleanly",
                "previous" => marker.previous = Shutdown::parse(value),
                "kernel" => marker.kernel = value.to_owned(),
                "kernel-before" => marker.kernel_before = Some(value.to_owned()),
                "revision" => marker.revision = Some(value.to_owned()),
                "version" => marker.version = Some(value.to_owned()),
                _ => return None,
            }
        }
        (!marker.boot_id.is_empty()).then_some(marker)
    }

    /// As it is written.
    pub fn render(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nboot-id {}\n", self.boot_id);
        text.push_str(if self.ended {
            "ended cleanly\n"
        } else {
            "ended not-yet\n"
        });
        text.push_str(&format!(
            "previous {}\nkernel {}\n",
            self.previous, self.kernel
        ));
        let optional = [
            ("kernel-before", &self.kernel_before),
            ("revision", &self.revision),
            ("version", &self.version),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                text.push_str(&format!("{key} {value}\n"));
            }
        }
        text + "end\n"
    }

    /// The marker of the boot that begins now. A container shares its host's boot id, so nothing is
    /// known in one.
    pub fn at_boot(
        before: Option<&Self>,
        now: &Boot,
        kernel: &str,
        revision: Option<String>,
        version: Option<Version>,
    ) -> Self {
        if let Some(same) = before.filter(|before| before.boot_id == now.id) {
            return Self {
                ended: false,
                ..same.clone()
            };
        }
        Self {
            boot_id: now.id.clone(),
            ended: false,
            previous: match before {
                Some(before) if now.container.is_none() && before.ended => Shutdown::Clean,
                Some(_) if now.container.is_none() => Shutdown::Unclean,
                _ => Shutdown::Unknown,
            },
            kernel: kernel.to_owned(),
            kernel_before: before
                .map(|before| before.kernel.clone())
                .filter(|before| before != kernel),
            revision,
            version: version.map(|version| version.to_string()),
        }
    }
}

/// What is known of this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id for it; empty where it cannot be read.
    pub id: String,
    /// Who made the container that this is, if it is one.
    pub container: Option<Manager>,
    /// What was noted at its start; `None` when that was not this boot, or cannot be read.
    pub marker: Option<Marker>,
    /// What lies there, of whichever boot.
    pub last_marker: Option<Marker>,
    /// How many runs have changed something since this boot; `None` when that cannot be read.
    pub repairs: Option<u64>,
}

impl Boot {
    /// How the boot before this one ended.
    pub fn previous_shutdown(&self) -> Shutdown {
        self.marker
            .as_ref()
            .map(|marker| marker.previous)
            .unwrap_or_default()
    }
}

/// Reads the marker; whatever is wrong with it, nothing is known and nothing fails.
pub fn observe(root: &Root, running: &Kernel) -> Boot {
    let known = |text: &str| {
        Some(text)
            .filter(|text| text.len() <= LARGEST_MARKER)
            .and_then(Marker::parse)
    };
    let keep = text(|text| {
        known(text)
            .map(|marker| marker.render())
            .unwrap_or_default()
    });
    let id = kernel::value(root, "/proc/sys/kernel/random/boot_id");
    let last_marker = root
        .keeping(&keep)
        .read(Path::new(MARKER))
        .ok()
        .and_then(|text| known(&text));
    let marker = last_marker
        .clone()
        .filter(|marker| !id.is_empty() && marker.boot_id == id);
    Boot {
        id,
        container: container::observe(root, running),
        marker,
        last_marker,
        repairs: repairs(root),
    }
}

/// What [`REPAIRS`] says: none without it, and nothing is known where it is not a number.
pub fn repairs(root: &Root) -> Option<u64> {
    let number = |text: &str| text.strip_suffix('\n')?.parse::<u64>().ok();
    let keep = text(|text| {
        number(text)
            .map(|number| format!("{number}\n"))
            .unwrap_or_default()
    });
    let Some(text) = root.keeping(&keep).read_if_there(Path::new(REPAIRS)).ok()? else {
        return Some(0);
    };
    number(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(id: &str) -> Boot {
        Boot {
            id: id.to_owned(),
            ..Boot::default()
        }
    }

    fn next(before: Option<&Marker>, id: &str) -> Marker {
        Marker::at_boot(
            before,
            &boot(id),
            "6.1",
            Some("7".to_owned()),
            Some(Version(1, 29)),
        )
    }

    #[test]
    fn a_boot_knows_how_the_last_one_ended() {
        let first = next(None, "a");
        assert_eq!(first.previous, Shutdown::Unknown);
        assert_eq!(next(Some(&first), "b").previous, Shutdown::Unclean);
        let ended = Marker {
            ended: true,
            ..first
        };
        let second = next(Some(&ended), "b");
        assert_eq!(second.previous, Shutdown::Clean);
        assert_eq!(
            next(Some(&second), "b").previous,
            Shutdown::Clean,
            "the service ran twice in one boot"
        );
        let in_container = Boot {
            container: Some(Manager::Lxc),
            ..boot("b")
        };
        assert_eq!(
            Marker::at_boot(Some(&ended), &in_container, "6.1", None, None).previous,
            Shutdown::Unknown
        );
    }

    #[test]
    fn a_marker_is_read_whole_or_not_at_all() {
        let marker = Marker {
            kernel_before: Some("5.10 x".to_owned()),
            ..next(None, "a")
        };
        let text = marker.render();
        assert_eq!(Marker::parse(&text), Some(marker));
        for length in 0..text.len() {
            assert_eq!(Marker::parse(&text[..length]), None, "cut to {length}");
        }
        for wrong in [
            text.replace("boot 1", "boot 2"),
            text.replace("kernel ", "colour "),
            "\0".repeat(200),
        ] {
            assert_eq!(Marker::parse(&wrong), None, "{wrong:?}");
        }
    }
}
