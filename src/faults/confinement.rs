//! Settings of kubelite's unit that keep from the kubelet what this program can use, since only its
//! ExecStartPre is exempt (`+`).
//!
//! Rests on systemd's `src/core/namespace.c`: of the paths that cover a file the longest decides,
//! and the more restrictive of two that are equal; below an inaccessible one nothing is restored.
//! What the kubelet then dies of was seen with units that run one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy};
use crate::host::Host;
use crate::host::mounts::CGROUP_MOUNT;
use crate::host::sandbox::{self, Assignment, SYSCTLS};
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&SERVICE_CONFINED];

pub(crate) static SERVICE_CONFINED: Fault = Fault {
    name: "service-confined",
    message_id: "759ce468629a4f819bbf571a4c47d915",
    title: "kubelite's unit keeps from the kubelet what it needs",
    meaning: "A drop-in for kubelite, or for all services, shuts the kubelet in: the cgroup tree \
              or /proc/sys is read-only to it, /dev/kmsg is missing, or it cannot write to its \
              root directory. The kubelet dies of each, while every other program, this one \
              included, finds the host in order.",
    signs: "ProtectControlGroups=, ProtectKernelTunables= (where a sysctl that the kubelet sets \
            differs from what it wants), PrivateDevices=, ProtectKernelLogs=, \
            ProtectSystem=strict, ReadOnlyPaths= or InaccessiblePaths= in the unit file of \
            kubelite or in a drop-in of it, of snap.microk8s.daemon- or of service.",
    remedy: "kubepods-repair edits no units. It names the file and the line.",
    by_hand: "Take the line out of the file that is named (or undo it in a drop-in of kubelite's \
              own whose name sorts later), then: systemctl daemon-reload; systemctl restart \
              snap.microk8s.daemon-kubelite.service",
    threads: &[],
    does: "reports the drop-in and the line to remove",
    nature: Nature::Fault,
};

/// One finding for each file that has to be changed.
pub(super) fn diagnose(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut harms: Vec<Harm> = Vec::new();
    harms.extend(of_cgroups(settings, host));
    harms.extend(of_kernel_log(host));
    harms.extend(of_sysctls(host));
    harms.extend(of_root_dir(settings, host));
    let mut files: BTreeMap<&Path, Vec<Harm>> = BTreeMap::new();
    for harm in harms {
        files.entry(&harm.0.file).or_default().push(harm);
    }
    let files = files.into_iter();
    files.map(|(file, harms)| finding(file, &harms)).collect()
}

fn finding(file: &Path, harms: &[Harm]) -> Finding {
    let mut lines: Vec<String> = Vec::new();
    for (Assignment { key, value, .. }, _) in harms {
        let line = format!("{key}={value}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let lines = lines.join(", ");
    let effects: Vec<&str> = harms.iter().map(|(_, effect)| effect.as_str()).collect();
    let impact = Impact::fatal(effects.join("; "));
    let evidence = format!("it sets {lines}, which holds for the kubelet and not for this program");
    let remedy = Remedy::tell(format!(
        "remove {lines} from {}, then: systemctl daemon-reload; systemctl restart {}",
        file.display(),
        MICROK8S.kubelet_unit
    ));
    SERVICE_CONFINED.finding(impact, Location::File(file.to_owned()), evidence, remedy)
}

/// What the mounts of a service allow, the most restrictive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    None,
    Read,
    Write,
}

/// What decides over `path` and does not let it be written; `None` where nothing does.
fn denies<'a>(host: &'a Host, path: &Path) -> Option<(&'a Assignment, Access)> {
    let entries = host.sandbox.assignments.iter().flat_map(entries);
    let covering = entries.filter(|entry| path.starts_with(&entry.path));
    let covering: Vec<Entry> = covering.collect();
    let mut inaccessible = covering.iter().filter(|entry| entry.access == Access::None);
    let rank = |entry: &&Entry| (entry.path.components().count(), Reverse(entry.access));
    let entry = inaccessible
        .next()
        .or_else(|| covering.iter().max_by_key(rank))?;
    let assignment = entry.assignment.filter(|_| entry.access != Access::Write)?;
    Some((assignment, entry.access))
}

/// What a path below another one is open to; without an assignment it is as it was.
struct Entry<'a> {
    path: PathBuf,
    access: Access,
    assignment: Option<&'a Assignment>,
}

/// The paths that an assignment is about, and those that it leaves as they are.
fn entries(assignment: &Assignment) -> Vec<Entry<'_>> {
    let value = &*assignment.value;
    let entry = |path: &str, access| Entry {
        path: PathBuf::from(path),
        access,
        assignment: Some(assignment),
    };
    let left_alone = |path: &str| Entry {
        assignment: None,
        ..entry(path, Access::Write)
    };
    let each = |access| paths(value).map(|path| entry(path, access)).collect();
    match assignment.key {
        "InaccessiblePaths" => each(Access::None),
        "ReadOnlyPaths" => each(Access::Read),
        "ReadWritePaths" => each(Access::Write),
        "ProtectControlGroups" if is_read_only(value) => vec![entry(CGROUP_MOUNT, Access::Read)],
        "ProtectKernelTunables" if is_yes(value) => vec![
            entry("/proc/sys", Access::Read),
            entry("/sys", Access::Read),
            left_alone(CGROUP_MOUNT),
        ],
        "ProtectSystem" if value == "strict" => vec![
            left_alone("/dev"),
            left_alone("/proc"),
            left_alone("/sys"),
            entry("/", Access::Read),
        ],
        _ => Vec::new(),
    }
}

/// A `-` in front (it may be missing) and a `+` (below the service's own root) are no part of a
/// path; nor are quotes.
fn paths(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split_whitespace();
    let unquoted = words.map(|word| word.trim_matches(['"', '\'']));
    unquoted.map(|path| path.trim_start_matches(['-', '+']))
}

fn is_yes(value: &str) -> bool {
    sandbox::boolean(value) == Some(true)
}

/// From systemd 257 on there is more than yes and no: `strict` also gives the service a cgroup
/// namespace of its own.
fn is_read_only(value: &str) -> bool {
    is_yes(value) || value == "strict"
}

/// A line of the unit, and what it does to the kubelet.
type Harm<'a> = (&'a Assignment, String);

fn of_cgroups<'a>(settings: &Settings, host: &'a Host) -> Option<Harm<'a>> {
    if !settings.cgroups_per_qos.value {
        return None;
    }
    if let Some(private) = assigned(host, "ProtectControlGroups", |value| value == "private") {
        let effect = "the kubelet finds itself in the root of a cgroup namespace of its own, where \
                      no group can be passed controllers while it holds processes";
        return Some((private, effect.to_owned()));
    }
    let kubepods = settings.layout().kubepods;
    let mut points = host.mount_points().into_iter();
    let (assignment, access) = points.find_map(|point| denies(host, &kubepods.under(point)))?;
    let effect = if access == Access::None {
        "to the kubelet the cgroup file system is not there"
    } else {
        "to the kubelet the cgroup file system is read-only: it can neither make a group nor set a \
         limit"
    };
    Some((assignment, effect.to_owned()))
}

fn of_kernel_log(host: &Host) -> Vec<Harm<'_>> {
    let (own_dev, inaccessible) = (
        "it is not in the service's own /dev",
        "it is made inaccessible",
    );
    let denied = denies(host, Path::new("/dev/kmsg"));
    let denied = denied.filter(|(_, access)| *access == Access::None);
    let lines = [
        (assigned(host, "PrivateDevices", is_yes), own_dev),
        (assigned(host, "ProtectKernelLogs", is_yes), inaccessible),
        (denied.map(|(line, _)| line), inaccessible),
    ];
    let mut harms = Vec::new();
    for (line, how) in lines {
        let effect = format!(
            "the kubelet cannot open /dev/kmsg ({how}), and ends with \"failed to create kubelet\""
        );
        harms.extend(line.map(|line| (line, effect)));
    }
    harms
}

/// The kubelet sets what differs, unless it is told to leave it (`protectKernelDefaults`), and then
/// dies of the difference all the same.
fn of_sysctls(host: &Host) -> Option<Harm<'_>> {
    let differs = |file: &str, wanted: &str| {
        let mut known = host.sandbox.sysctls.iter();
        let now = known.find(|(known, _)| *known == file);
        now.is_some_and(|(_, now)| !now.is_empty() && now != wanted)
    };
    let mut line = None;
    let mut names: Vec<String> = Vec::new();
    for (file, wanted) in SYSCTLS {
        let Some((denying, access)) = denies(host, Path::new(file)) else {
            continue;
        };
        if access == Access::None || differs(file, wanted) {
            line = line.or(Some(denying));
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            names.push(format!("{name}={wanted}"));
        }
    }
    let effect = "to the kubelet /proc/sys is read-only, and it dies of what it cannot set";
    Some((line?, format!("{effect}: {}", names.join(" "))))
}

fn of_root_dir<'a>(settings: &Settings, host: &'a Host) -> Option<Harm<'a>> {
    let root_dir = &settings.root_dir.value;
    let (assignment, _) = denies(host, root_dir)?;
    let root_dir = root_dir.display();
    let effect = format!("the kubelet cannot write to its root directory {root_dir}");
    Some((assignment, effect))
}

/// The line that counts for `key`, if its value is meant.
fn assigned<'a>(
    host: &'a Host,
    key: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Option<&'a Assignment> {
    let mut assignments = host.sandbox.assignments.iter();
    assignments.find(|assignment| assignment.key == key && is_meant(&assignment.value))
}
