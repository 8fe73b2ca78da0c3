//! Settings of kubelite's unit that confine the kubelet. They do not confine this program, since
//! its ExecStartPre has the prefix `+`.
//!
//! Rests on systemd's `src/core/namespace.c`: of the paths that cover a file the longest decides,
//! and the more restrictive of two that are equal; below an inaccessible one nothing is restored.
//! The kubelet's errors were observed with units that run one.

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
    title: "kubelite's unit denies the kubelet access that it needs",
    meaning: "The unit file of kubelite or a drop-in confines the kubelet: the cgroup file system \
              or /proc/sys is read-only for it, /dev/kmsg is missing, or it cannot write to its \
              root directory. Any of these makes the kubelet exit. Other programs, among them \
              kubepods-repair, are not confined and see a healthy host.",
    signs: "kubelite's unit file or a drop-in sets ProtectControlGroups=, PrivateDevices=, \
            ProtectKernelLogs=, ProtectSystem=strict, ReadOnlyPaths= or InaccessiblePaths= in such \
            a way. ProtectKernelTunables= counts if a kernel parameter differs from what the \
            kubelet sets. The drop-in can be for kubelite, for all units that begin with \
            snap.microk8s.daemon-, or for all services.",
    remedy: "kubepods-repair reports the file and the line. It edits no units.",
    by_hand: "Remove the line from the file. Or override it in a drop-in of kubelite whose name \
              sorts later. Then run systemctl daemon-reload and systemctl restart \
              snap.microk8s.daemon-kubelite.service.",
    threads: &[],
    does: "reports the file and the line to remove",
    nature: Nature::Fault,
};

/// One finding for each file that has to be changed.
pub(super) fn diagnose(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut harms: Vec<Harm> = Vec::new();
    if settings.cgroups_per_qos.value {
        harms.extend(of_cgroups(settings, host));
    }
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

/// What keeps the kubelet from its cgroups if it is set to use them.
pub(super) fn from_cgroups(settings: &Settings, host: &Host) -> Option<Finding> {
    let harm = of_cgroups(settings, host)?;
    Some(finding(&harm.0.file, std::slice::from_ref(&harm)))
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
    let mut effects: Vec<&str> = Vec::new();
    for (_, effect) in harms {
        if !effects.contains(&effect.as_str()) {
            effects.push(effect);
        }
    }
    let impact = Impact::fatal(effects.join(". "));
    let evidence =
        format!("This file sets {lines}, which confines the kubelet but not kubepods-repair");
    let remedy = Remedy::run(
        format!(
            "Remove {lines} from {}, then restart kubelite",
            file.display()
        ),
        [
            "systemctl daemon-reload".to_owned(),
            format!("systemctl restart {}", MICROK8S.kubelet_unit),
        ],
    );
    SERVICE_CONFINED.finding(impact, Location::File(file.to_owned()), evidence, remedy)
}

/// What the mounts of a service allow, the most restrictive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    None,
    Read,
    Write,
}

/// The assignment that decides about `path` if it denies writes, and what it allows.
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

/// The access that a path allows; without an assignment the unit does not change it.
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

/// The paths in a value, without quotes and without the prefixes `-` (the path may be missing) and
/// `+` (it is below the service's own root).
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
    if let Some(private) = assigned(host, "ProtectControlGroups", |value| value == "private") {
        let effect = "The kubelet runs in the root of its own cgroup namespace. A cgroup that \
                      holds processes there cannot enable controllers for its children";
        return Some((private, effect.to_owned()));
    }
    let kubepods = settings.layout().kubepods;
    let mut points = host.mount_points().into_iter();
    let (assignment, access) = points.find_map(|point| denies(host, &kubepods.under(point)))?;
    let effect = if access == Access::None {
        "The kubelet cannot access the cgroup file system"
    } else {
        "The cgroup file system is read-only for the kubelet, so it can neither create cgroups nor \
         set limits"
    };
    Some((assignment, effect.to_owned()))
}

fn of_kernel_log(host: &Host) -> Vec<Harm<'_>> {
    let denied = denies(host, Path::new("/dev/kmsg"));
    let denied = denied.filter(|(_, access)| *access == Access::None);
    let lines = [
        assigned(host, "PrivateDevices", is_yes),
        assigned(host, "ProtectKernelLogs", is_yes),
        denied.map(|(line, _)| line),
    ];
    let effect = "The kubelet cannot open /dev/kmsg and exits (\"failed to create kubelet\")";
    let harm = |line| (line, effect.to_owned());
    lines.into_iter().flatten().map(harm).collect()
}

/// The kubelet sets the parameters that differ. With `protectKernelDefaults` it does not set them,
/// and the difference itself makes it exit.
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
    let names = names.join(" ");
    let effect = format!(
        "/proc/sys is read-only for the kubelet, which exits because it cannot set {names}"
    );
    Some((line?, effect))
}

fn of_root_dir<'a>(settings: &Settings, host: &'a Host) -> Option<Harm<'a>> {
    let root_dir = &settings.root_dir.value;
    let (assignment, _) = denies(host, root_dir)?;
    let root_dir = root_dir.display();
    let effect = format!("The kubelet cannot write to its root directory {root_dir}");
    Some((assignment, effect))
}

/// The line that counts for `key`, if `is_meant` accepts its value.
fn assigned<'a>(
    host: &'a Host,
    key: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Option<&'a Assignment> {
    let mut assignments = host.sandbox.assignments.iter();
    assignments.find(|assignment| assignment.key == key && is_meant(&assignment.value))
}
