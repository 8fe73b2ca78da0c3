//! The program's own files: the lock, the boot marker, the record of a restart, the number of
//! repairs, and the kubelet's version. Their paths and formats, and how they are read and written.
//! Apart from these, only `repair/` writes files.
//!
//! The boot marker: `--boot` writes at the start of every boot that it has not ended yet;
//! `--shutdown` writes that it ended cleanly, if one of systemd's shutdown targets is being
//! reached. No repair depends on it.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "this module writes the program's own files"
    )
)]

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::host::boot::Boot;
use crate::host::tasks::Task;
use crate::kubelet::microk8s::Version;
use crate::kubelet::remembered;
use crate::repair::replace::replace;
use crate::repair::{RepairError, change, errno};
use crate::root::keep::{self, BLANK};
use crate::root::{ReadError, Root};
use crate::sys;

/// The boot marker. `StateDirectory=` of kubepods-repair.service creates its directory, which may
/// be missing when the program runs by hand.
pub const MARKER: &str = "/var/lib/kubepods-repair/boot";

/// The file that counts the runs which changed something since the boot: one line with a number.
const REPAIRS: &str = "/run/kubepods-repair.repairs";

const LOCK: &str = "/run/kubepods-repair.lock";
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

const FIRST_LINE: &str = "kubepods-repair-boot 1";
const LARGEST_MARKER: usize = 4096;

/// What earlier runs have recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The marker of this boot or an earlier one; `None` if it is missing or incomplete.
    pub last_marker: Option<Marker>,
    /// The same marker, if it is of this boot.
    pub marker: Option<Marker>,
    /// How many runs have changed something since the boot; `None` if that cannot be read.
    pub repairs: Option<u64>,
}

impl Notes {
    /// Reads all of them. One that cannot be read counts as unknown, and is no error.
    pub fn read(root: &Root, boot: &Boot) -> Self {
        let last_marker = read_marker(root);
        let is_of_this_boot = |marker: &Marker| !boot.id.is_empty() && marker.boot_id == boot.id;
        Self {
            marker: last_marker.clone().filter(is_of_this_boot),
            last_marker,
            repairs: repairs(root),
        }
    }

    /// How the boot before this one ended.
    pub fn previous_shutdown(&self) -> Shutdown {
        let marker = self.marker.as_ref();
        marker.map_or(Shutdown::Unknown, |marker| marker.previous)
    }
}

/// How the boot before this one ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// Through one of systemd's shutdown targets.
    Clean,
    /// Without a shutdown: power loss, crash, reset.
    Unclean,
    /// It was not recorded.
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

/// What was recorded at the start of a boot, and at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// `/proc/sys/kernel/random/boot_id` of that boot.
    pub boot_id: String,
    /// Whether it ended through a shutdown target.
    pub ended: bool,
    /// How the boot before that one ended.
    pub previous: Shutdown,
    /// The release of its kernel.
    pub kernel: String,
    /// The kernel of the boot before that one, if it was a different one.
    pub kernel_before: Option<String>,
    /// The active revision of MicroK8s at its start.
    pub revision: Option<String>,
}

impl Marker {
    /// Reads a marker; `None` if it is incomplete or in an unknown format.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("\nend\n")?.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut marker = Self::default();
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "boot-id" => value.clone_into(&mut marker.boot_id),
                "ended" => marker.ended = value == "cleanly",
                "previous" => marker.previous = Shutdown::parse(value),
                "kernel" => value.clone_into(&mut marker.kernel),
                "kernel-before" => marker.kernel_before = Some(value.to_owned()),
                "revision" => marker.revision = Some(value.to_owned()),
                // Written by 0.1.0.
                "version" => {}
                _ => return None,
            }
        }
        (!marker.boot_id.is_empty()).then_some(marker)
    }

    /// The content of the file.
    pub fn render(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nboot-id {}\n", self.boot_id);
        let ended = if self.ended { "cleanly" } else { "not-yet" };
        text += &format!("ended {ended}\n");
        text += &format!("previous {}\nkernel {}\n", self.previous, self.kernel);
        let optional = [
            ("kernel-before", &self.kernel_before),
            ("revision", &self.revision),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                text += &format!("{key} {value}\n");
            }
        }
        text + "end\n"
    }

    /// The marker of the boot that begins now. In a container it is not known how the boot before
    /// ended, because a container shares the boot id of its host.
    pub fn at_boot(
        before: Option<&Self>,
        now: &Boot,
        kernel: &str,
        revision: Option<String>,
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
        }
    }
}

fn read_marker(root: &Root) -> Option<Marker> {
    let known = |text: &str| {
        let is_small = text.len() <= LARGEST_MARKER;
        Marker::parse(text).filter(|_| is_small)
    };
    let keep = keep::text(|text| known(text).map_or(String::new(), |marker| marker.render()));
    known(&root.keeping(&keep).read(Path::new(MARKER)).ok()?)
}

/// Records that a boot has begun. A power cut leaves either the old marker or the new one.
///
/// # Errors
/// When the state directory cannot be written to; the old marker is kept then.
pub fn begin_boot(
    notes: &Notes,
    boot: &Boot,
    kernel: &str,
    revision: Option<String>,
) -> Result<(), RepairError> {
    let before = notes.last_marker.as_ref();
    write_marker(&Marker::at_boot(before, boot, kernel, revision))
}

/// Records that this boot ends through a shutdown target. Does nothing if there is no marker of
/// this boot.
///
/// # Errors
/// As [`begin_boot`].
pub fn end_boot(notes: &Notes) -> Result<(), RepairError> {
    let Some(mut marker) = notes.marker.clone() else {
        return Ok(());
    };
    marker.ended = true;
    write_marker(&marker)
}

fn write_marker(marker: &Marker) -> Result<(), RepairError> {
    put(Path::new(MARKER), &marker.render())
}

/// Records the kubelet's version for the boot service, which runs before the snap is mounted. The
/// file is written only if the version has changed.
///
/// # Errors
/// As [`begin_boot`].
pub fn remember(root: &Root, revision: &str, version: Version) -> Result<(), RepairError> {
    let place = Path::new(remembered::PLACE);
    let text = remembered::render(revision, version);
    if root.read(place).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    put(place, &text)
}

/// Writes `text` to `place` in the state directory.
fn put(place: &Path, text: &str) -> Result<(), RepairError> {
    if let Some(folder) = place.parent() {
        let made = fs::create_dir_all(folder).map_err(errno);
        made.map_err(change("create", folder, ""))?;
    }
    replace(place, &place.with_extension("new"), text)
}

/// The number in [`REPAIRS`]: 0 if there is no such file, `None` if it holds no number.
fn repairs(root: &Root) -> Option<u64> {
    let number = |text: &str| text.strip_suffix('\n')?.parse::<u64>().ok();
    let keep =
        keep::text(|text| number(text).map_or(String::new(), |number| format!("{number}\n")));
    match root.keeping(&keep).read_if_there(Path::new(REPAIRS)).ok()? {
        Some(text) => number(&text),
        None => Some(0),
    }
}

/// Counts one run that has changed something, and returns how many there were. The lock must be
/// held.
///
/// # Errors
/// When the number cannot be written. If it cannot be read, counting starts again at 1.
pub fn count_repair(root: &Root) -> Result<u64, RepairError> {
    let number = repairs(root).unwrap_or(0).saturating_add(1);
    let new = Path::new("/run/kubepods-repair.repairs.new");
    replace(Path::new(REPAIRS), new, &format!("{number}\n")).map(|()| number)
}

/// The record that a unit was asked to restart because of these tasks. While one of them still
/// exists, the restart has not happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartStamp {
    /// A line for each task: its id and its start time.
    pub tasks: String,
}

impl RestartStamp {
    /// The lines of these tasks.
    pub fn lines(tasks: &[&Task]) -> String {
        tasks.iter().map(|task| Self::line(task)).collect()
    }

    fn line(task: &Task) -> String {
        format!("{} {}\n", task.tid, task.started)
    }

    /// Whether none of these tasks existed when the record was written: they are new, so the unit
    /// was restarted.
    pub fn is_older_than(&self, tasks: &[&Task]) -> bool {
        let is_noted = |task: &&Task| self.tasks.contains(&Self::line(task));
        !self.tasks.is_empty() && !tasks.iter().any(is_noted)
    }

    /// The record for this unit since the boot.
    ///
    /// # Errors
    /// When there is a record that cannot be read.
    pub fn read(root: &Root, unit: &str) -> Result<Option<Self>, ReadError> {
        let keep = keep::text(keep_stamp);
        let tasks = root.keeping(&keep).read_if_there(&restart_stamp(unit))?;
        Ok(tasks.map(|tasks| Self { tasks }))
    }

    /// Writes the record before the restart is requested, so that it is never requested twice. If
    /// the program ends in between, the recorded tasks still exist, and the record does not count.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(unit: &str, stamp: &str) -> Result<(), RepairError> {
        let path = restart_stamp(unit);
        let opened = private_file().truncate(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(stamp.as_bytes()));
        let written = written.map_err(errno);
        written.map_err(change("write", &path, stamp))
    }
}

/// How a file in `/run` that belongs to root alone is opened: it is created if it is missing, and a
/// symbolic link is not followed.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    options
}

/// The path of a unit's record. `/run` is empty after the next boot.
fn restart_stamp(unit: &str) -> PathBuf {
    PathBuf::from(format!("/run/kubepods-repair.restarted.{unit}"))
}

/// What a capture keeps of a record: the lines in the format that this program writes.
fn keep_stamp(tasks: &str) -> String {
    let is_digit_or_blank = |byte: u8| byte.is_ascii_digit() || byte == b' ';
    let is_line = |line: &str| line.bytes().all(is_digit_or_blank);
    let lines = tasks.lines();
    let kept = lines.map(|line| if is_line(line) { line } else { BLANK });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Allows one repair at a time. The lock is held until its file is closed, which the kernel does
/// whenever and however the process ends. (nix' `Flock` unlocks, and panics if that fails.)
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most five seconds for other runs to end.
    ///
    /// # Errors
    /// When another run still holds the lock, or the file cannot be opened or locked.
    pub fn take() -> Result<Self, RepairError> {
        let path = Path::new(LOCK);
        let opened = private_file().open(path).map_err(errno);
        let file = opened.map_err(change("open", path, ""))?;
        sys::doing("waiting for another run to release the lock");
        let start = Instant::now();
        loop {
            let answer = match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => Errno::EWOULDBLOCK,
                Err(TryLockError::Error(error)) => errno(error),
            };
            let may_pass = matches!(answer, Errno::EWOULDBLOCK | Errno::EINTR);
            if !may_pass {
                return Err(change("lock", path, "")(answer));
            }
            if start.elapsed() >= LOCK_TIMEOUT {
                return Err(RepairError::Locked {
                    path: path.to_owned(),
                    seconds: LOCK_TIMEOUT.as_secs(),
                });
            }
            std::thread::sleep(LOCK_POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::container::Manager;

    fn boot(id: &str) -> Boot {
        Boot {
            id: id.to_owned(),
            container: None,
        }
    }

    fn next(before: Option<&Marker>, id: &str) -> Marker {
        Marker::at_boot(before, &boot(id), "6.1", Some("7".to_owned()))
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
            Marker::at_boot(Some(&ended), &in_container, "6.1", None).previous,
            Shutdown::Unknown
        );
    }

    #[test]
    fn an_incomplete_marker_is_ignored() {
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
