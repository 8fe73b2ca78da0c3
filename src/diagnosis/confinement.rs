//! Settings of kubelite's unit that keep from the kubelet what this program can use, since only its
//! ExecStartPre is exempt (`+`).
//!
//! Rests on systemd's `src/core/namespace.c`: of the paths that cover a file the longest decides,
//! and the more restrictive of two that are equal; below an inaccessible one nothing is restored.
//! What the kubelet then dies of was seen with units that run one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::Remedy;
use crate::diagnosis::{Finding, Impact, Location};
use crate::host::Host;
use crate::host::mounts::CGROUP_MOUNT;
use crate::host::sandbox::{self, Assignment, SYSCTLS};
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;

/// One finding for each file that has to be changed.
pub(super) fn diagnose(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut harms: Vec<(&Assignment, String)> = Vec::new();
    harms.extend(of_cgroups(settings, host));
    harms.extend(of_kernel_log(host));
    harms.extend(of_sysctls(host));
    harms.extend(of_root_dir(settings, host));
    let mut files: BTreeMap<&Path, Vec<(&Assignment, String)>> = BTreeMap::new();
    for (assignment, effect) in harms {
        files
            .entry(&assignment.file)
            .or_default()
            .push((assignment, effect));
    }
    files
        .into_iter()
        .map(|(file, harms)| finding(file, &harms))
        .collect()
}

fn finding(file: &Path, harms: &[(&Assignment, String)]) -> Finding {
    let mut lines: Vec<String> = Vec::new();
    for (Assignment { key, value, .. }, _) in harms {
        let line = format!("{key}={value}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let lines = lines.join(", ");
    let effects: Vec<&str> = harms.iter().map(|(_, effect)| effect.as_str()).collect();
    let unit = MICROK8S.kubelet_unit;
    let evidence = format!("it sets {lines}, which holds for the kubelet and not for this program");
    let how = format!(
        "remove {lines} from {}, then: systemctl daemon-reload; systemctl restart {unit}",
        file.display()
    );
    let impact = Impact::fatal(effects.join("; "));
    Finding::new(
        Fault::ServiceConfined,
        impact,
        Location::File(file.to_owned()),
        evidence,
        Remedy::Tell(how),
    )
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
    let covering: Vec<_> = entries
        .filter(|(covers, ..)| path.starts_with(covers))
        .collect();
    let inaccessible = covering
        .iter()
        .find(|(_, access, _)| *access == Access::None);
    let longest = |(covers, access, _): &&(PathBuf, Access, _)| {
        (covers.components().count(), std::cmp::Reverse(*access))
    };
    let (_, access, assignment) = inaccessible.or_else(|| covering.iter().max_by_key(longest))?;
    Some((assignment.as_ref().copied()?, *access)).filter(|(_, access)| *access != Access::Write)
}

/// The paths that an assignment is about; those that it leaves as they are have no assignment.
fn entries(assignment: &Assignment) -> Vec<(PathBuf, Access, Option<&Assignment>)> {
    let each = |access| {
        paths(&assignment.value)
            .map(|path| (path, access, Some(assignment)))
            .collect()
    };
    match assignment.key {
        "InaccessiblePaths" => each(Access::None),
        "ReadOnlyPaths" => each(Access::Read),
        "ReadWritePaths" => each(Access::Write),
        "ProtectControlGroups" if is_read_only(&assignment.value) => {
            vec![(PathBuf::from(CGROUP_MOUNT), Access::Read, Some(assignment))]
        }
        "ProtectKernelTunables" if is_yes(&assignment.value) => {
            let read_only = ["/proc/sys", "/sys"]
                .map(|path| (PathBuf::from(path), Access::Read, Some(assignment)));
            read_only
                .into_iter()
                .chain([(PathBuf::from(CGROUP_MOUNT), Access::Write, None)])
                .collect()
        }
        "ProtectSystem" if assignment.value == "strict" => {
            let left_alone =
                ["/dev", "/proc", "/sys"].map(|path| (PathBuf::from(path), Access::Write, None));
            let all = (PathBuf::from("/"), Access::Read, Some(assignment));
            left_alone.into_iter().chain([all]).collect()
        }
        _ => Vec::new(),
    }
}

/// A `-` in front (it may be missing) and a `+` (below the service's own root) are no part of a
/// path; nor are quotes.
fn paths(value: &str) -> impl Iterator<Item = PathBuf> {
    let words = value
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'']));
    words.map(|word| PathBuf::from(word.trim_start_matches(['-', '+'])))
}

fn is_yes(value: &str) -> bool {
    sandbox::boolean(value) == Some(true)
}

/// From systemd 257 on there is more than yes and no: `strict` also gives the service a cgroup
/// namespace of its own.
fn is_read_only(value: &str) -> bool {
    is_yes(value) || value == "strict"
}

fn of_cgroups<'a>(settings: &Settings, host: &'a Host) -> Option<(&'a Assignment, String)> {
    if !settings.cgroups_per_qos.value {
        return None;
    }
    if let Some(private) = assigned(host, "ProtectControlGroups", |value| value == "private") {
        let effect = "the kubelet finds itself in the root of a cgroup namespace of its own, where \
                      no group can be passed controllers while it holds processes";
        return Some((private, effect.to_owned()));
    }
    let kubepods = settings.layout().kubepods;
    let mut points = match (&host.tree, &host.v1) {
        (Some(tree), _) => vec![tree.mount.as_path()],
        (None, Some(v1)) => v1
            .mounted
            .iter()
            .map(|hierarchy| hierarchy.point.as_path())
            .collect(),
        (None, None) => Vec::new(),
    }
    .into_iter();
    let (assignment, access) = points.find_map(|point| denies(host, &kubepods.under(point)))?;
    let effect = match access {
        Access::None => "to the kubelet the cgroup file system is not there",
        _ => {
            "to the kubelet the cgroup file system is read-only: it can neither make a group nor \
             set a limit"
        }
    };
    Some((assignment, effect.to_owned()))
}

fn of_kernel_log(host: &Host) -> Vec<(&Assignment, String)> {
    let of_devices = assigned(host, "PrivateDevices", is_yes)
        .map(|line| (line, "it is not in the service's own /dev"));
    let of_logs =
        assigned(host, "ProtectKernelLogs", is_yes).map(|line| (line, "it is made inaccessible"));
    let of_paths =
        denies(host, Path::new("/dev/kmsg")).filter(|(_, access)| *access == Access::None);
    let of_paths = of_paths.map(|(line, _)| (line, "it is made inaccessible"));
    let all = [of_devices, of_logs, of_paths].into_iter().flatten();
    let effect = |how| {
        format!(
            "the kubelet cannot open /dev/kmsg ({how}), and ends with \"failed to create kubelet\""
        )
    };
    all.map(|(line, how)| (line, effect(how))).collect()
}

/// The kubelet sets what differs, unless it is told to leave it (`protectKernelDefaults`), and then
/// dies of the difference all the same.
fn of_sysctls(host: &Host) -> Option<(&Assignment, String)> {
    let differs = |file: &str, wanted: &str| {
        let now = host
            .sandbox
            .sysctls
            .iter()
            .find(|(known, _)| *known == file)
            .map(|(_, now)| now.as_str());
        now.is_some_and(|now| !now.is_empty() && now != wanted)
    };
    let mut line = None;
    let mut names: Vec<String> = Vec::new();
    for (file, wanted) in SYSCTLS {
        let Some((denying, access)) = denies(host, Path::new(file)) else {
            continue;
        };
        if access == Access::None || differs(file, wanted) {
            line = line.or(Some(denying));
            names.push(format!(
                "{}={wanted}",
                file.trim_start_matches("/proc/sys/").replace('/', ".")
            ));
        }
    }
    let effect = "to the kubelet /proc/sys is read-only, and it dies of what it cannot set";
    Some((line?, format!("{effect}: {}", names.join(" "))))
}

fn of_root_dir<'a>(settings: &Settings, host: &'a Host) -> Option<(&'a Assignment, String)> {
    let root_dir = &settings.root_dir.value;
    let (assignment, _) = denies(host, root_dir)?;
    Some((
        assignment,
        format!(
            "the kubelet cannot write to its root directory {}",
            root_dir.display()
        ),
    ))
}

/// The line that counts for `key`, if its value is meant.
fn assigned<'a>(
    host: &'a Host,
    key: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Option<&'a Assignment> {
    host.sandbox
        .assignments
        .iter()
        .find(|assignment| assignment.key == key && is_meant(&assignment.value))
}
