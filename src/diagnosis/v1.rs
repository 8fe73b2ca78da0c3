//! Version 1 and hybrid hosts: a group is a directory in each of a dozen hierarchies.
//!
//! Rests on kubernetes' `pkg/kubelet/cm/container_manager_linux.go` (`validateSystemRequirements`)
//! and `cgroup_v1_manager_linux.go` (`Validate`), on runc's `libcontainer/cgroups/fs` (`cpuset.go`:
//! an empty cpuset is filled from the parent) and on the kernel's
//! `Documentation/admin-guide/cgroup-v1/`.

use std::path::PathBuf;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{NO_LIMIT, Remedy, Step};
use crate::diagnosis::{Finding, Impact, Location, Severity, Terms};
use crate::diagnosis::{
    absent, driver, hold_back, hygiene, limits, qos_disabled, read_only, services, v1_mounts,
    v1_slices,
};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::v1::{Group, Hierarchies, Hierarchy, MEMORY_LIMIT};
use crate::kubelet::layout::Layout;
use crate::kubelet::{Driver, Settings};

/// Everything a rule may look at.
pub(super) struct Case<'a> {
    host: &'a Host,
    pub(super) v1: &'a Hierarchies,
    pub(super) layout: &'a Layout,
    pub(super) terms: Terms,
}

impl Case<'_> {
    /// The hierarchies in which a group should be and is not.
    fn without<'a>(&'a self, path: &'a CgroupPath) -> impl Iterator<Item = &'a Hierarchy> {
        let may_lack = |hierarchy: &Hierarchy| {
            self.layout.driver == Driver::Systemd
                && TRIMMED
                    .iter()
                    .any(|name| hierarchy.controllers.contains(name))
        };
        self.v1
            .without(path)
            .filter(move |hierarchy| !may_lack(hierarchy))
    }
}

/// Of its slices systemd removes again what is empty there (`cg_trim_v1_controllers`), whoever made
/// it. The kubelet does not look there, and its libcontainer makes with each pod what it needs.
const TRIMMED: [&str; 2] = ["blkio", "devices"];

pub(super) fn diagnose(
    settings: &Settings,
    host: &Host,
    v1: &Hierarchies,
    terms: Terms,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = refused(settings, host).into_iter().collect();
    findings.extend(v1_mounts::unmounted(host, v1));
    if !settings.cgroups_per_qos.value {
        findings.retain(Finding::is_fatal);
    }
    let mut of_groups = v1_mounts::shadowed(v1);
    of_groups.extend(v1_mounts::without_quota(v1));
    let layout = &settings.layout();
    of_groups.extend(groups(&Case {
        host,
        v1,
        layout,
        terms,
    }));
    services::leave_alone(&mut of_groups, layout);
    if !settings.cgroups_per_qos.value {
        of_groups.extend(findings.clone());
        findings.push(qos_disabled(settings, &of_groups));
        return findings;
    }
    findings.extend(of_groups);
    hold_back(&mut findings);
    findings
}

fn refused(settings: &Settings, host: &Host) -> Option<Finding> {
    if settings.refuses_v1(host.version) != Some(true) {
        return None;
    }
    let version = host
        .version
        .map_or(String::new(), |version| format!(" {version}"));
    let (evidence, location) = match settings.fail_cgroup_v1.value {
        Some(_) => (
            "fail-cgroupv1 is true, and this host is not on version 2".to_owned(),
            Location::Setting(settings.fail_cgroup_v1.origin.clone()),
        ),
        None => (
            format!(
                "kubelet{version} refuses version 1 unless fail-cgroupv1 is false, and it is not \
                 set"
            ),
            Location::Mount(PathBuf::from(crate::host::mounts::CGROUP_MOUNT)),
        ),
    };
    let impact = Impact::fatal(
        "the kubelet says that it is configured to not run on a host using cgroup v1, and ends",
    );
    let how = match &host.boot.container {
        // Its own init mounts version 1 wherever the kernel has it (microsoft/WSL#6662).
        Some(Manager::Wsl) => absent::outside(
            host,
            "add cgroup_no_v1=all \
                                                     systemd.unified_cgroup_hierarchy=1 to",
        ),
        Some(_) => absent::outside(host, "add systemd.unified_cgroup_hierarchy=1 to"),
        None => "take systemd.unified_cgroup_hierarchy=0 (or false) out of the kernel's command \
                 line, or put systemd.unified_cgroup_hierarchy=1 there"
            .to_owned(),
    };
    let how = format!(
        "boot with version 2: {how}; until then: --fail-cgroupv1=false in the kubelet's args file"
    );
    Some(Finding::new(
        Fault::V1Refused,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    ))
}

fn groups(case: &Case) -> Vec<Finding> {
    let Case {
        host,
        v1,
        layout,
        terms,
    } = case;
    let read_only_ones = v1.mounted.iter().filter(|hierarchy| !hierarchy.writable);
    let mut findings: Vec<Finding> = read_only_ones
        .map(|hierarchy| read_only(host, hierarchy.point.clone()))
        .collect();
    if !layout.cgroup_root.is_root() {
        findings.extend(missing(case, &layout.cgroup_root, Fault::CgroupRootMissing));
    }
    // kubepods and the QoS groups the kubelet makes before it looks for reserved groups.
    let reserved = layout.reserved.iter().filter(|path| !layout.is_own(path));
    findings.extend(reserved.filter_map(|path| missing(case, path, Fault::ReservedGroupMissing)));
    findings.extend(short_of_memory(case));
    findings.extend(v1_slices::diagnose(case));
    findings.extend(missing(case, &layout.kubepods, Fault::RootMissing));
    if !v1.lack(&layout.kubepods) && v1.has_cpu_shares() {
        findings.extend(
            layout
                .qos
                .iter()
                .filter_map(|path| missing(case, path, Fault::QosGroupMissing)),
        );
    }
    findings.extend(
        v1.mounted
            .iter()
            .flat_map(|hierarchy| &hierarchy.groups)
            .filter_map(empty_cpuset(case)),
    );
    for (hierarchy, path) in own_groups(case) {
        let Some(group) = hierarchy.groups.get(path) else {
            continue;
        };
        findings.extend(frozen(hierarchy, path, group));
        findings.extend(hygiene::leftovers(
            layout,
            path,
            &hierarchy.point,
            group.leftovers.iter(),
        ));
    }
    findings.extend(hygiene::stale_pods(
        &v1.pods,
        *terms,
        Location::Everywhere(layout.kubepods.clone()),
    ));
    if let Some(other) = &v1.other {
        let location = Location::Everywhere(other.kubepods.clone());
        findings.push(driver::left_behind(other, location, layout.driver, *terms));
    }
    findings
}

fn own_groups<'a>(case: &'a Case) -> impl Iterator<Item = (&'a Hierarchy, &'a CgroupPath)> {
    let hierarchies = case.v1.mounted.iter();
    hierarchies.flat_map(|hierarchy| case.layout.own().map(move |path| (hierarchy, path)))
}

/// A group that is not in all hierarchies: `nowhere` is the fault's name when it is in none of
/// them.
fn missing(case: &Case, path: &CgroupPath, nowhere: Fault) -> Option<Finding> {
    let lacking: Vec<&Hierarchy> = case.without(path).collect();
    let first = lacking.first()?;
    if v1_slices::is_left_alone(case, path) {
        return None;
    }
    let is_nowhere = case.v1.lack(path);
    let names: Vec<String> = lacking.iter().map(|hierarchy| hierarchy.name()).collect();
    let (fault, location, evidence) = if is_nowhere {
        let evidence = "it is in none of the hierarchies".to_owned();
        (nowhere, Location::Everywhere(path.clone()), evidence)
    } else {
        let location = Location::Cgroup(first.point.clone(), path.clone());
        (
            Fault::HierarchyIncomplete,
            location,
            format!("it is not in {}", names.join(" ")),
        )
    };
    let is_checked = lacking.iter().any(|hierarchy| hierarchy.is_checked());
    let impact = match (case.layout.is_own(path), is_checked) {
        (true, _) if v1_slices::is_believed_in(case, path) => {
            Impact::fatal(v1_slices::NEVER_MADE_AGAIN)
        }
        (true, _) => Impact::notice("the kubelet makes it itself at its start"),
        (false, true) => Impact::fatal("the kubelet demands it and never makes it"),
        (false, false) => {
            Impact::notice("the kubelet does not look there, and makes it with the first pod")
        }
    };
    let way = path
        .ancestors()
        .into_iter()
        .filter(|above| case.v1.without(above).next().is_some());
    let makes_all = *path == case.layout.kubepods && is_nowhere && case.v1.has_cpu_shares();
    let below = if makes_all {
        case.layout.qos.clone()
    } else {
        Vec::new()
    };
    let steps = way
        .chain([path.clone()])
        .chain(below)
        .flat_map(|path| make(case, path))
        .collect();
    Some(Finding::new(
        fault,
        impact,
        location,
        evidence,
        Remedy::Steps(steps),
    ))
}

/// What is made in the hierarchy of cpuset has neither CPUs nor memory at first.
fn make(case: &Case, path: CgroupPath) -> Vec<Step> {
    let is_in_cpuset = case
        .v1
        .of("cpuset")
        .is_none_or(|cpuset| cpuset.groups.contains_key(&path));
    let fill = (!is_in_cpuset).then(|| Step::FillCpuset(path.clone()));
    v1_slices::ask_for(case, &path)
        .into_iter()
        .chain([Step::Make(path)])
        .chain(fill)
        .collect()
}

/// The kernel charges what a new group takes to the group that it is made in.
fn short_of_memory(case: &Case) -> Vec<Finding> {
    let Some(memory) = case.v1.of("memory") else {
        return Vec::new();
    };
    let wanted = || case.layout.own().chain(&case.layout.reserved);
    let judge = |(path, group): (&CgroupPath, &Group)| {
        let is_to_make =
            |other: &&CgroupPath| path.is_above(other) && !memory.groups.contains_key(*other);
        let (limit, is_own) = (group.memory.as_ref()?, case.layout.is_own(path));
        let severity = limits::short_of_memory(limit, wanted().filter(is_to_make).count(), 0);
        let severity = severity.filter(|severity| is_own || *severity == Severity::Fatal)?;
        let location = Location::CgroupFile(memory.point.clone(), path.clone(), MEMORY_LIMIT);
        let remedy = if is_own {
            Remedy::Steps(vec![Step::LiftLimit {
                group: path.clone(),
                file: MEMORY_LIMIT,
            }])
        } else {
            limits::not_ours(&location, NO_LIMIT)
        };
        Some(limits::no_memory(location, severity, limit, remedy))
    };
    memory.groups.iter().filter_map(judge).collect()
}

fn empty_cpuset<'a>(case: &'a Case) -> impl Fn((&'a CgroupPath, &'a Group)) -> Option<Finding> {
    move |(path, group)| {
        let empty = group
            .cpuset
            .as_ref()
            .filter(|_| !path.is_root())?
            .empty_files();
        let file = empty.first()?;
        let location =
            Location::CgroupFile(case.v1.of("cpuset")?.point.clone(), path.clone(), file);
        let evidence = format!("{} of {path}: empty", empty.join(" and "));
        let impact = Impact::notice(
            "no process can live in it or below (ENOSPC) until the kubelet's libcontainer fills it \
             for the first pod",
        );
        let steps = vec![Step::FillCpuset(path.clone())];
        Some(Finding::new(
            Fault::CpusetEmpty,
            impact,
            location,
            evidence,
            Remedy::Steps(steps),
        ))
    }
}

fn frozen(hierarchy: &Hierarchy, path: &CgroupPath, group: &Group) -> Option<Finding> {
    if !group.frozen {
        return None;
    }
    let location = Location::CgroupFile(hierarchy.point.clone(), path.clone(), "freezer.state");
    Some(hygiene::is_frozen(
        path,
        location,
        group.populated,
        "THAWED",
    ))
}
