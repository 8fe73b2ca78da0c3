//! The kubelet's groups in the hierarchies of cgroup v1.

use crate::cgroup::CgroupPath;
use crate::faults::finding::count;
use crate::faults::groups::{
    CGROUP_ROOT_MISSING, CREATED, NORMAL, QOS_GROUP_MISSING, RESERVED_GROUP_MISSING, ROOT_MISSING,
};
use crate::faults::leftovers::Leftover;
use crate::faults::v1::case::V1Case;
use crate::faults::v1::slices;
use crate::faults::{
    Fault, Finding, Impact, Location, Nature, Remedy, Severity, Step, container, driver, freezer,
    leftovers, limits, stale_pods,
};
use crate::host::group::{NO_MEMORY_LIMIT, Setting};
use crate::host::v1::{Hierarchy, MEMORY_LIMIT, V1Group};

pub(in crate::faults) const FAULTS: &[&Fault] = &[&CPUSET_EMPTY, &HIERARCHY_INCOMPLETE];

pub(crate) static CPUSET_EMPTY: Fault = Fault {
    name: "cpuset-empty",
    message_id: "41b689fd5de0472183514e2dab19458f",
    title: "A cpuset has no CPUs or no memory nodes",
    meaning: "On cgroup v1, a new cgroup in the cpuset hierarchy has no CPUs and no memory nodes. \
              No process can be put into it (\"no space left on device\") until both are set. The \
              kubelet's library libcontainer sets them when it creates a pod's cgroup; other tools \
              do not.",
    signs: "cpuset.cpus or cpuset.mems of kubepods, of a QoS cgroup or of a cgroup above them is \
            empty.",
    remedy: "kubepods-repair copies both from the parent cgroup where they are empty, from the top \
             down.",
    by_hand: "cat /sys/fs/cgroup/cpuset/cpuset.cpus > /sys/fs/cgroup/cpuset/kubepods/cpuset.cpus. \
              Do the same with cpuset.mems, then with the cgroups below.",
    threads: &[],
    does: "copies the CPUs and memory nodes of the parent cgroup",
    nature: Nature::Fault,
};

pub(crate) static HIERARCHY_INCOMPLETE: Fault = Fault {
    name: "hierarchy-incomplete",
    message_id: "9e7e51807bea4274a9d32b13b2a0fed0",
    title: "A cgroup is missing in some hierarchies",
    meaning: "On cgroup v1, a cgroup is a directory in each of a dozen hierarchies. The kubelet \
              requires it in those of cpu, cpuacct, cpuset, memory, pids, hugetlb and systemd, and \
              libcontainer creates it in all hierarchies that are mounted. At least one of these \
              directories is missing. When the kubelet starts, it creates those of its own \
              cgroups. \
              It never creates a configured cgroup root or reserved cgroup. In systemd's own \
              hierarchy it also never creates a slice that systemd believes to exist.",
    signs: "The directory is missing below the mount point of at least one hierarchy and exists \
            below another one.",
    remedy: "kubepods-repair creates the cgroup in every hierarchy where it is missing, and fills \
             its cpuset.",
    by_hand: "Create the directory that the finding names, with mkdir.",
    threads: &["kubernetes/kubernetes#84854", "kubernetes-sigs/kind#2323"],
    does: "creates the cgroup in every hierarchy where it is missing",
    nature: Nature::HealedByKubelet,
};

/// What each file contains until it is written. For a memory limit this means no limit, which
/// cgroup v1 shows as its largest number. The kubelet never writes these files, except those of
/// pids and memory on kubepods.
const KERNEL_DEFAULTS: [(&str, &str); 9] = [
    ("cpu.cfs_quota_us", "-1"),
    ("cpu.idle", "0"),
    (MEMORY_LIMIT, "-1"),
    ("pids.max", "max"),
    ("memory.soft_limit_in_bytes", "-1"),
    ("memory.memsw.limit_in_bytes", "-1"),
    ("memory.kmem.limit_in_bytes", "-1"),
    ("memory.kmem.tcp.limit_in_bytes", "-1"),
    ("memory.oom_control", "oom_kill_disable 0"),
];

pub(super) fn diagnose(case: &V1Case) -> Vec<Finding> {
    let (v1, layout) = (case.v1, case.layout);
    let mut findings = Vec::new();
    for hierarchy in v1.mounted.iter().filter(|hierarchy| !hierarchy.writable) {
        findings.push(container::read_only(case.host, &hierarchy.point));
    }
    if !layout.cgroup_root.is_root() {
        findings.extend(missing(case, &layout.cgroup_root, &CGROUP_ROOT_MISSING));
    }
    // The kubelet creates kubepods and the QoS groups before it looks for reserved groups.
    for path in layout.reserved.iter().filter(|path| !layout.is_own(path)) {
        findings.extend(missing(case, path, &RESERVED_GROUP_MISSING));
    }
    findings.extend(short_of_memory(case));
    findings.extend(slices::diagnose(case));
    findings.extend(missing(case, &layout.kubepods, &ROOT_MISSING));
    if !v1.lack(&layout.kubepods) && v1.has_cpu_shares() {
        for path in &layout.qos {
            findings.extend(missing(case, path, &QOS_GROUP_MISSING));
        }
    }
    for hierarchy in &v1.mounted {
        let groups = hierarchy.groups.iter();
        findings.extend(groups.filter_map(|(path, group)| empty_cpuset(hierarchy, path, group)));
    }
    for hierarchy in &v1.mounted {
        for path in layout.own() {
            if let Some(group) = hierarchy.groups.get(path) {
                findings.extend(frozen(hierarchy, path, group));
                findings.extend(left_over(case, hierarchy, path, group));
            }
        }
    }
    let location = Location::Everywhere(layout.kubepods.clone());
    let (pods, terms) = (&v1.pods, case.terms);
    findings.extend(stale_pods::diagnose(pods, terms, location));
    if let Some(other) = &v1.other {
        let location = Location::Everywhere(other.kubepods.clone());
        findings.push(driver::judge_other(other, location, layout.driver, terms));
    }
    findings
}

/// A group that does not exist in all hierarchies. `nowhere` is the fault if it exists in none.
fn missing(case: &V1Case, path: &CgroupPath, nowhere: &'static Fault) -> Option<Finding> {
    let lacking: Vec<&Hierarchy> = case.without(path).collect();
    let first = lacking.first()?;
    if slices::is_left_alone(case, path) {
        return None;
    }
    let is_nowhere = case.v1.lack(path);
    let (fault, location, evidence) = if is_nowhere {
        let is_normal = *path == case.layout.kubepods && !slices::is_believed_in(case, path);
        let evidence = if is_normal {
            NORMAL
        } else {
            "This cgroup does not exist in any hierarchy"
        };
        let location = Location::Everywhere(path.clone());
        (nowhere, location, evidence.to_owned())
    } else {
        let location = Location::Cgroup(first.point.clone(), path.clone());
        let names: Vec<String> = lacking.iter().map(|hierarchy| hierarchy.name()).collect();
        let hierarchies = count(names.len(), "hierarchy", "hierarchies");
        let names = names.join(" ");
        let evidence = format!("This cgroup is missing in {hierarchies}: {names}");
        (&HIERARCHY_INCOMPLETE, location, evidence)
    };
    let is_checked = lacking.iter().any(|hierarchy| hierarchy.is_checked());
    let impact = match (case.layout.is_own(path), is_checked) {
        (true, _) if slices::is_believed_in(case, path) => Impact::fatal(slices::NEVER_MADE_AGAIN),
        (true, _) => Impact::notice(CREATED),
        (false, true) => Impact::fatal("The kubelet requires it and never creates it"),
        (false, false) => Impact::notice(
            "The kubelet does not check these hierarchies. It creates the cgroup there with the \
             first pod",
        ),
    };
    let mut to_make = path.ancestors();
    to_make.retain(|above| case.v1.without(above).next().is_some());
    to_make.push(path.clone());
    if *path == case.layout.kubepods && is_nowhere && case.v1.has_cpu_shares() {
        to_make.extend(case.layout.qos.iter().cloned());
    }
    let steps = to_make.into_iter().flat_map(|path| make(case, path));
    let remedy = Remedy::Steps(steps.collect());
    Some(fault.finding(impact, location, evidence, remedy))
}

/// The steps that create a group. In the cpuset hierarchy it has neither CPUs nor memory nodes at
/// first.
fn make(case: &V1Case, path: CgroupPath) -> Vec<Step> {
    let mut steps: Vec<Step> = slices::ask_for(case, &path).into_iter().collect();
    steps.push(Step::Make(path.clone()));
    let cpuset = case.v1.of("cpuset");
    if cpuset.is_some_and(|cpuset| !cpuset.groups.contains_key(&path)) {
        steps.push(Step::FillCpuset(path));
    }
    steps
}

/// The kernel charges the memory of a new group to its parent.
fn short_of_memory(case: &V1Case) -> Vec<Finding> {
    let Some(memory) = case.v1.of("memory") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (path, group) in &memory.groups {
        let wanted = case.layout.own().chain(&case.layout.reserved);
        let to_make =
            wanted.filter(|other| path.is_above(other) && !memory.groups.contains_key(*other));
        let Some(limit) = &group.memory else { continue };
        let Some(severity) = limits::short_of_memory(limit, to_make.count(), 0) else {
            continue;
        };
        let is_own = case.layout.is_own(path);
        if !is_own && severity != Severity::Fatal {
            continue;
        }
        let location = Location::CgroupFile(memory.point.clone(), path.clone(), MEMORY_LIMIT);
        let remedy = if is_own {
            Remedy::Steps(vec![Step::LiftLimit {
                group: path.clone(),
                file: MEMORY_LIMIT,
            }])
        } else {
            limits::not_ours(&location, "-1")
        };
        findings.push(limits::no_memory(location, severity, limit, remedy));
    }
    findings
}

fn empty_cpuset(hierarchy: &Hierarchy, path: &CgroupPath, group: &V1Group) -> Option<Finding> {
    let empty = group.cpuset.as_ref()?.empty_files();
    let file = empty.first()?;
    if path.is_root() {
        return None;
    }
    let location = Location::CgroupFile(hierarchy.point.clone(), path.clone(), file);
    let are = if empty.len() == 1 { "is" } else { "are" };
    let evidence = format!("{} {are} empty", empty.join(" and "));
    let effect = "No process can be put into this cgroup or one below it (ENOSPC) until the \
                  kubelet sets its CPUs and memory nodes for the first pod";
    let remedy = Remedy::step(Step::FillCpuset(path.clone()));
    Some(CPUSET_EMPTY.finding(Impact::notice(effect), location, evidence, remedy))
}

fn frozen(hierarchy: &Hierarchy, path: &CgroupPath, group: &V1Group) -> Option<Finding> {
    let location = Location::CgroupFile(hierarchy.point.clone(), path.clone(), "freezer.state");
    let finding = || freezer::is_frozen(path, location, group.populated, "THAWED");
    group.frozen.then(finding)
}

fn left_over(
    case: &V1Case,
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    group: &V1Group,
) -> Option<Finding> {
    let mut left: Vec<Leftover> = group.settings.iter().filter_map(is_unusual).collect();
    let above = path.parent().and_then(|above| hierarchy.groups.get(&above));
    let above = above.and_then(|above| above.cpuset.as_ref());
    // By default its CPUs and memory nodes are those of the group above.
    let pairs = group.cpuset.as_ref().zip(above);
    for (setting, above) in pairs.into_iter().flat_map(|(own, above)| own.zip(above)) {
        let default = above.value.as_str();
        if setting.value != default && !setting.value.is_empty() && !default.is_empty() {
            left.push(Leftover { setting, default });
        }
    }
    leftovers::finding(case.layout, path, &hierarchy.point, &left)
}

fn is_unusual(setting: &Setting) -> Option<Leftover<'_>> {
    let mut defaults = KERNEL_DEFAULTS.into_iter();
    let (_, usual) = defaults.find(|(file, _)| *file == setting.file)?;
    let bytes = setting.value.parse::<u64>();
    if setting.value == usual || bytes.is_ok_and(|bytes| bytes >= NO_MEMORY_LIMIT) {
        return None;
    }
    let (_, default) = usual.rsplit_once(' ').unwrap_or(("", usual));
    Some(Leftover { setting, default })
}
