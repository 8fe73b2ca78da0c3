//! From settings and host to findings: what is wrong by the kubelet's own rules. Pure: no I/O, no
//! clock.
//!
//! A severity is not a property of a fault but the outcome of what the kubelet would do next: what
//! it heals itself is a notice, what its pods suffer from is degraded, what it dies of is fatal.

mod absent;
mod blockers;
mod boot;
pub mod catalogue;
mod checkpoints;
mod claims;
mod confinement;
mod container;
mod controllers;
mod driver;
mod finding;
mod groups;
mod hygiene;
mod limits;
pub mod remedy;
pub mod restraint;
mod services;
mod slices;
mod v1;
mod v1_mounts;
mod v1_slices;

use std::path::PathBuf;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::group::{Group, Kind};
use crate::host::pods::Pods;
use crate::host::{Host, Tree};
use crate::kubelet::layout::{self, Layout};
use crate::kubelet::{Driver, ErrorKind, Settings, SettingsError};
use catalogue::Fault;
pub use finding::{Finding, Impact, Location, Severity};
use remedy::{Remedy, Step};

/// When this program runs, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// An administrator called it; a kubelet may be running.
    ByHand,
    /// systemd is about to start the kubelet; none is running.
    PreStart,
    /// systemd is about to start k8s-dqlite.
    Early,
    /// The machine has just booted.
    Boot,
}

impl Occasion {
    /// As the report names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by-hand",
            Self::PreStart => "pre-start",
            Self::Early => "early",
            Self::Boot => "boot",
        }
    }
}

/// Everything a rule may look at.
struct Case<'a> {
    host: &'a Host,
    tree: &'a Tree,
    layout: &'a Layout,
    /// What the kubelet will look for in kubepods.
    needed: Controllers,
    /// Of those, what is left to the kubelet's own start.
    withheld: Controllers,
    terms: Terms,
}

impl<'a> Case<'a> {
    fn group(&self, path: &CgroupPath) -> Option<&'a Group> {
        self.tree.group(path)
    }

    fn directory(&self, path: &CgroupPath) -> PathBuf {
        path.under(&self.tree.mount)
    }

    fn at(&self, path: &CgroupPath) -> Location {
        Location::Cgroup(self.tree.mount.clone(), path.clone())
    }

    fn at_file(&self, path: &CgroupPath, file: &'static str) -> Location {
        Location::CgroupFile(self.tree.mount.clone(), path.clone(), file)
    }

    /// kubepods and the QoS groups, those that exist.
    fn own_groups(&self) -> impl Iterator<Item = &'a Group> {
        let tree = self.tree;
        self.layout.own().filter_map(move |path| tree.group(path))
    }

    /// What this group does not pass on and should; everything, when it does not exist yet.
    fn lacking(&self, path: &CgroupPath) -> Controllers {
        self.group(path).map_or(self.needed.clone(), |group| {
            self.needed.minus(&group.subtree_control)
        })
    }

    /// What may be switched on now of what the kubelet needs.
    fn wanted(&self) -> Controllers {
        self.needed.minus(&self.withheld)
    }

    /// Whether the kubelet cannot set the weight of a QoS group: the root offers no cpu controller,
    /// or the kernel was built without CONFIG_FAIR_GROUP_SCHED and its cpu controller has no
    /// `cpu.weight`.
    ///
    /// A missing QoS group is then *created* with the error only logged, but one that exists is
    /// *updated*, and the error is fatal (`qos_container_manager_linux.go`, `Start`).
    fn is_weightless(&self) -> bool {
        !self.tree.offered().contains("cpu") || !self.tree.has_cpu_weight
    }

    /// Whether QoS groups may be made before the kubelet's start: only where it can update them.
    fn may_make_qos_groups(&self) -> bool {
        !self.is_weightless() && !self.withheld.contains("cpu")
    }

    /// systemd makes the groups, not the kubelet.
    fn by_systemd(&self) -> bool {
        self.layout.driver == Driver::Systemd
    }

    /// Slices are not asked for now.
    fn leaves_slices(&self) -> bool {
        self.by_systemd() && self.terms.precedes_pre_start()
    }

    /// The step that makes a group that the kubelet demands; `None` for a masked slice, which
    /// nothing can start.
    fn make(&self, path: &CgroupPath) -> Option<Step> {
        if self.by_systemd() {
            slices::start(self, path)
        } else {
            Some(Step::Make(path.clone()))
        }
    }
}

/// What the judgement may count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who called.
    pub occasion: Occasion,
    /// `--no-restart`
    pub no_restart: bool,
}

impl Terms {
    /// Whether `cpu` is left to the kubelet's own start: on a kernel with CONFIG_RT_GROUP_SCHED it
    /// makes every real-time unit fail that starts later. Where that option is not known, only who
    /// asks for a repair by hand gets it.
    pub fn leaves_cpu(&self, rt_group_sched: impl FnOnce() -> Option<bool>) -> bool {
        match self.occasion {
            Occasion::PreStart => false,
            Occasion::ByHand => rt_group_sched() == Some(true),
            Occasion::Early | Occasion::Boot => rt_group_sched() != Some(false),
        }
    }

    /// The kubelet's own pre-start is still to come.
    fn precedes_pre_start(&self) -> bool {
        matches!(self.occasion, Occasion::Early | Occasion::Boot)
    }

    /// Stale pod groups may go and pod groups be made anew: no kubelet runs that could be about to
    /// use them.
    fn may_remove(&self, pods: &Pods) -> bool {
        self.occasion == Occasion::PreStart && !pods.kubelet_runs
    }
}

/// All findings, the worst first.
pub fn diagnose(settings: &Settings, host: &Host, terms: Terms) -> Vec<Finding> {
    let mut findings = match (&host.tree, &host.v1) {
        (Some(tree), _) => judge_tree(settings, host, tree, terms),
        (None, Some(v1)) => v1::diagnose(settings, host, v1, terms),
        (None, None) => vec![v1_mounts::nothing(host)],
    };
    findings.extend(driver::diagnose(settings));
    if settings.cgroups_per_qos.value {
        findings.extend(groups::unenforceable(settings));
    }
    findings.extend(checkpoints::diagnose(settings, host, terms));
    findings.extend(confinement::diagnose(settings, host));
    findings.extend(boot::diagnose(host, terms));
    findings.sort_by_key(Finding::rank);
    findings
}

fn judge_tree(settings: &Settings, host: &Host, tree: &Tree, terms: Terms) -> Vec<Finding> {
    let layout = &settings.layout();
    let withheld: Controllers = tree.leave_cpu.then_some("cpu").into_iter().collect();
    let offered = layout::needed(&tree.offered());
    // Early in the boot there is nothing to say about what kubelite's own start will see to.
    let needed = if terms.precedes_pre_start() {
        offered.minus(&withheld)
    } else {
        offered
    };
    let case = Case {
        host,
        tree,
        layout,
        needed,
        withheld,
        terms,
    };
    let mut findings = if tree.writable {
        judge(&case)
    } else {
        vec![read_only(host, tree.mount.clone())]
    };
    services::leave_alone(&mut findings, layout);
    hold_back(&mut findings);
    // Of these the kubelet dies when all its own groups exist, so that nothing has to wait for
    // them.
    findings.extend(groups::unfit_reserved(&case));
    if settings.cgroups_per_qos.value {
        findings
    } else {
        vec![qos_disabled(settings, &findings)]
    }
}

fn judge(case: &Case) -> Vec<Finding> {
    let mut findings = services::diagnose(case);
    findings.extend(blockers::diagnose(case));
    findings.extend(limits::diagnose(case));
    findings.extend(absent::diagnose(case));
    findings.extend(controllers::diagnose(case));
    findings.extend(claims::diagnose(case));
    findings.extend(groups::diagnose(case));
    findings.extend(slices::diagnose(case));
    if let Some(other) = &case.tree.other {
        findings.push(driver::left_behind(
            other,
            case.at(&other.kubepods),
            case.layout.driver,
            case.terms,
        ));
    }
    findings.extend(hygiene::diagnose(case));
    findings
}

/// While the kubelet cannot start anyway, nothing is built: a half-made tree would only hide the
/// reason. What only takes away (strays, limits, stale groups, a frozen state) is done all the
/// same.
fn hold_back(findings: &mut [Finding]) {
    let Some(first) = findings.iter().find(|finding| finding.is_beyond_repair()) else {
        return;
    };
    let blocker = first.fault;
    for finding in findings.iter_mut() {
        let Remedy::Steps(steps) = &finding.remedy else {
            continue;
        };
        if steps.iter().any(Step::builds) {
            finding.remedy = Remedy::Waits(blocker);
            if finding.fault.is_healed_by_kubelet() && !finding.is_fatal() {
                let sentence = format!(
                    "the kubelet sees to it itself once {} is cured",
                    blocker.name()
                );
                finding.impact = Impact::notice(sentence);
            }
        }
    }
}

fn read_only(host: &Host, mount: PathBuf) -> Finding {
    let remedy = Remedy::Tell(container::write(host.boot.container.as_ref(), &mount));
    let impact = Impact::fatal("the kubelet can neither make a group nor set a limit");
    let evidence = "the cgroup file system is mounted read-only".to_owned();
    Finding::new(
        Fault::ReadOnlyCgroupfs,
        impact,
        Location::Mount(mount),
        evidence,
        remedy,
    )
}

fn qos_disabled(settings: &Settings, hypothetical: &[Finding]) -> Finding {
    let location = Location::Setting(settings.cgroups_per_qos.origin.clone());
    let evidence =
        "cgroups-per-qos is false: the kubelet makes no kubepods, and nothing here needs repair"
            .to_owned();
    if settings.enforces_without_qos() {
        let how = "beside --cgroups-per-qos=false give --enforce-node-allocatable= (empty), or \
                   remove the workaround";
        let impact =
            "the kubelet refuses to start: without QoS groups it cannot enforce node allocatable";
        let remedy = Remedy::Tell(how.to_owned());
        return Finding::new(
            Fault::QosDisabled,
            Impact::fatal(impact),
            location,
            evidence,
            remedy,
        );
    }
    let how = match hypothetical
        .iter()
        .find(|finding| finding.is_beyond_repair())
    {
        None => "this host can run without the workaround: delete --cgroups-per-qos=false and \
                 --enforce-node-allocatable= from the args file and restart MicroK8s; this kills \
                 and recreates every running pod"
            .to_owned(),
        Some(finding) => {
            format!(
                "leave it for now: without it the kubelet would not start because of \
                     {}",
                finding.fault.name()
            )
        }
    };
    let impact = Impact::notice("pods run without the limits of their QoS class");
    Finding::new(
        Fault::QosDisabled,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    )
}

/// The one finding of a host whose kubelet settings are not known: nothing that depends on them is
/// touched.
pub fn settings_unreadable(error: &SettingsError) -> Finding {
    let effect = match error.kind() {
        ErrorKind::Refused => "the kubelet does not start with these settings",
        ErrorKind::Unknown => {
            "which cgroups the kubelet wants cannot be known, and a guess could do harm"
        }
    };
    let remedy = Remedy::Tell(correct(error));
    let location = Location::File(error.path());
    Finding::new(
        Fault::SettingsUnreadable,
        Impact::fatal(effect),
        location,
        error.to_string(),
        remedy,
    )
}

/// What makes the settings known.
fn correct(error: &SettingsError) -> String {
    let how = match error {
        _ if error
            .failed_read()
            .is_some_and(|read| matches!(read.errno, Errno::EACCES | Errno::EPERM)) =>
        {
            "run kubepods-repair as root"
        }
        SettingsError::RuntimeUnknown { endpoint, .. } => {
            return format!(
                "set --cgroup-driver in the kubelet's args file to the driver that the runtime at \
                 {endpoint} uses (cgroupfs or systemd); nothing has been changed"
            );
        }
        SettingsError::VersionUnknown { containerd, .. } => {
            return format!(
                "nothing to do if the snap is only not mounted yet: the kubelet's pre-start looks \
                 again. Setting --cgroup-driver={containerd} in the kubelet's args file makes it \
                 independent of the version"
            );
        }
        _ => "correct the named line or file; nothing has been changed",
    };
    how.to_owned()
}

/// Whether controllers can be switched on in this group's `cgroup.subtree_control`: the kernel lets
/// only the real root and groups without processes pass on all of them.
fn can_pass_on(group: &Group) -> bool {
    match group.kind {
        Kind::Root => true,
        Kind::Domain => group.processes.is_empty(),
        Kind::DomainThreaded | Kind::DomainInvalid | Kind::Threaded => false,
    }
}

/// Processes as evidence: `812 (sleep), 813 (bash) and 3 more`.
fn name_processes(processes: &[crate::host::group::Process]) -> String {
    let named: Vec<String> = processes
        .iter()
        .take(crate::host::group::NAMED)
        .map(|process| match process.comm.as_str() {
            "" => process.pid.to_string(),
            comm => format!("{} ({comm})", process.pid),
        })
        .collect();
    match processes.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// `1 process`, `2 processes`.
fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}
