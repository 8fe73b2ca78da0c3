//! From settings and host to findings: what is wrong by the kubelet's own rules. Pure: no I/O, no clock.
//!
//! A severity is not a property of a fault but the outcome of what the kubelet would do next: what it heals itself is a
//! notice, what its pods suffer from is degraded, what it dies of is fatal.

mod absent;
mod blockers;
mod boot;
pub mod catalogue;
mod checkpoints;
mod claims;
mod container;
mod controllers;
mod driver;
mod groups;
mod hygiene;
mod limits;
pub mod remedy;
mod slices;
mod v1;
mod v1_mounts;
mod v1_slices;

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::group::{Group, Kind};
use crate::host::pods::Pods;
use crate::host::{Host, Tree};
use crate::kubelet::config::ConfigError;
use crate::kubelet::containerd::ContainerdError;
use crate::kubelet::layout::{self, Layout};
use crate::kubelet::{Driver, Settings, SettingsError};
use catalogue::Fault;
use remedy::{Remedy, Step};

/// What the kubelet makes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It heals this itself, or nothing suffers.
    Notice,
    /// It starts, and pods suffer.
    Degraded,
    /// It would not start.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Notice => "notice",
            Self::Degraded => "degraded",
            Self::Fatal => "fatal",
        })
    }
}

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

/// One thing that is not as the kubelet needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name in the catalogue.
    pub fault: Fault,
    /// What the kubelet makes of it.
    pub severity: Severity,
    /// The file or directory that shows it.
    pub place: PathBuf,
    /// What stands there, without a full stop.
    pub evidence: String,
    /// Why it matters to the kubelet, without a full stop.
    pub effect: String,
    /// What is done about it, or must be.
    pub remedy: Remedy,
    /// The controllers it is about, if it is about any.
    pub controllers: Controllers,
    /// The kernel's answer, where it is the evidence.
    pub errno: Option<Errno>,
}

impl Finding {
    fn new(fault: Fault, severity: Severity, place: PathBuf, evidence: String, effect: &str, remedy: Remedy) -> Self {
        let effect = effect.to_owned();
        Self { fault, severity, place, evidence, effect, remedy, controllers: Controllers::default(), errno: None }
    }

    /// The worst first, and a cause before what waits for its cure.
    pub fn rank(&self) -> (std::cmp::Reverse<Severity>, bool) {
        (std::cmp::Reverse(self.severity), matches!(self.remedy, Remedy::Waits(_)))
    }

    /// Whether the kubelet dies of this and no step of ours cures it.
    pub fn is_beyond_repair(&self) -> bool {
        self.severity == Severity::Fatal && matches!(self.remedy, Remedy::Tell(_))
    }
}

/// Everything a rule may look at.
struct Case<'a> {
    host: &'a Host,
    tree: &'a Tree,
    layout: &'a Layout,
    needed: Controllers,
    terms: Terms,
}

impl<'a> Case<'a> {
    fn group(&self, path: &CgroupPath) -> Option<&'a Group> {
        self.tree.group(path)
    }

    fn directory(&self, path: &CgroupPath) -> PathBuf {
        path.under(&self.tree.mount)
    }

    fn file(&self, path: &CgroupPath, name: &str) -> PathBuf {
        self.tree.file(path, name)
    }

    /// kubepods and the QoS groups, those that exist.
    fn own_groups(&self) -> impl Iterator<Item = &'a Group> {
        let tree = self.tree;
        self.layout.own().filter_map(move |path| tree.group(path))
    }

    /// What this group does not pass on and should; everything, when it does not exist yet.
    fn lacking(&self, path: &CgroupPath) -> Controllers {
        self.group(path).map_or(self.needed.clone(), |group| self.needed.minus(&group.subtree_control))
    }

    /// systemd makes the groups, not the kubelet.
    fn by_systemd(&self) -> bool {
        self.layout.driver == Driver::Systemd
    }

    /// Slices are not asked for now.
    fn leaves_slices(&self) -> bool {
        self.by_systemd() && self.terms.precedes_pre_start()
    }

    /// The step that makes a group of the kubelet's or one that it demands.
    fn make(&self, path: &CgroupPath) -> Step {
        match self.by_systemd() {
            true => slices::ask_for(self, path),
            false => Step::Make(path.clone()),
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
    /// Before the kubelet's own start nobody may make real-time units fail for its sake, as `cpu` does on a kernel with
    /// CONFIG_RT_GROUP_SCHED.
    pub fn leaves_cpu(&self) -> bool {
        self.precedes_pre_start()
    }

    /// The kubelet's own pre-start is still to come.
    fn precedes_pre_start(&self) -> bool {
        matches!(self.occasion, Occasion::Early | Occasion::Boot)
    }

    /// Stale pod groups may go and pod groups be made anew: no kubelet runs that could be about to use them.
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
    findings.extend(checkpoints::diagnose(settings, host, terms));
    findings.extend(boot::diagnose(host, terms));
    findings.sort_by_key(Finding::rank);
    findings
}

fn judge_tree(settings: &Settings, host: &Host, tree: &Tree, terms: Terms) -> Vec<Finding> {
    let layout = &settings.layout();
    let left_to_kubelet: Controllers = tree.leave_cpu.then_some("cpu").into_iter().collect();
    let needed = layout::needed(&tree.offered()).minus(&left_to_kubelet);
    let case = Case { host, tree, layout, needed, terms };
    let mut findings = match tree.writable {
        true => judge(&case),
        false => vec![read_only(host, tree.mount.clone())],
    };
    hold_back(&mut findings);
    match settings.cgroups_per_qos.value {
        true => findings,
        false => vec![qos_disabled(settings, &findings)],
    }
}

fn judge(case: &Case) -> Vec<Finding> {
    let mut findings = blockers::diagnose(case);
    findings.extend(limits::diagnose(case));
    findings.extend(absent::diagnose(case));
    findings.extend(controllers::diagnose(case));
    findings.extend(claims::diagnose(case));
    findings.extend(groups::diagnose(case));
    findings.extend(slices::diagnose(case));
    let other = case.tree.other.as_ref();
    findings.extend(
        other.map(|other| driver::left_behind(other, case.directory(&other.kubepods), case.layout.driver, case.terms)),
    );
    findings.extend(hygiene::diagnose(case));
    findings
}

/// While the kubelet cannot start anyway, nothing is built: a half-made tree would only hide the reason. What only takes
/// away (strays, limits, stale groups, a frozen state) is done all the same.
fn hold_back(findings: &mut [Finding]) {
    let Some(first) = findings.iter().find(|finding| finding.is_beyond_repair()) else { return };
    let blocker = first.fault;
    for finding in findings.iter_mut() {
        if let Remedy::Steps(steps) = &finding.remedy
            && steps.iter().any(Step::builds)
        {
            finding.remedy = Remedy::Waits(blocker);
            if finding.fault.is_fatal_where_refused() && !blocker.precedes_groups() {
                finding.severity = Severity::Fatal;
            }
        }
    }
}

fn read_only(host: &Host, mount: PathBuf) -> Finding {
    let remedy = Remedy::Tell(container::write(host.boot.container.as_ref(), &mount));
    Finding::new(
        Fault::ReadOnlyCgroupfs,
        Severity::Fatal,
        mount,
        "the cgroup file system is mounted read-only".to_owned(),
        "the kubelet can neither make a group nor set a limit",
        remedy,
    )
}

fn qos_disabled(settings: &Settings, hypothetical: &[Finding]) -> Finding {
    let place = PathBuf::from(settings.cgroups_per_qos.origin.to_string());
    let evidence =
        "cgroups-per-qos is false, so that the kubelet makes no kubepods and nothing here needs repair".to_owned();
    if settings.enforces_without_qos() {
        let how = "beside --cgroups-per-qos=false give --enforce-node-allocatable= (empty), or take the workaround out";
        let effect = "the kubelet refuses to start: without QoS groups it cannot enforce node allocatable";
        return Finding::new(
            Fault::QosDisabled,
            Severity::Fatal,
            place,
            evidence,
            effect,
            Remedy::Tell(how.to_owned()),
        );
    }
    let effect = "pods run without the limits of their QoS class";
    let remedy = match hypothetical.iter().find(|finding| finding.is_beyond_repair()) {
        None => "this host is fit to run without the workaround: delete --cgroups-per-qos=false and \
                 --enforce-node-allocatable= from the args file and restart MicroK8s; every running pod is then killed \
                 and started anew"
            .to_owned(),
        Some(finding) => {
            format!("leave it for now: without it the kubelet would not start because of {}", finding.fault.name())
        }
    };
    Finding::new(Fault::QosDisabled, Severity::Notice, place, evidence, effect, Remedy::Tell(remedy))
}

/// The one finding of a host whose kubelet settings are not known: nothing that depends on them is touched.
pub fn settings_unreadable(error: &SettingsError) -> Finding {
    let place = match error {
        SettingsError::Read(error)
        | SettingsError::Config(ConfigError::Read(error))
        | SettingsError::Containerd(ContainerdError::Read(error)) => error.path.clone(),
        SettingsError::Config(ConfigError::Invalid { path, .. })
        | SettingsError::Containerd(ContainerdError::Invalid { path, .. }) => path.clone(),
        SettingsError::Args { path, .. } | SettingsError::NotText { path } => path.clone(),
    };
    Finding::new(
        Fault::SettingsUnreadable,
        Severity::Fatal,
        place,
        error.to_string(),
        "which cgroups the kubelet wants cannot be known, and a guess could do harm",
        Remedy::Tell("put the named line or file right; nothing has been touched".to_owned()),
    )
}

/// Whether controllers can be switched on in this group's `cgroup.subtree_control`: the kernel lets only the real root
/// and groups without processes pass on all of them.
fn can_pass_on(group: &Group) -> bool {
    match group.kind {
        Kind::Root => true,
        Kind::Domain => group.processes.is_empty(),
        Kind::DomainThreaded | Kind::DomainInvalid | Kind::Threaded => false,
    }
}

/// A finding whose place is a group's directory.
fn of_group(
    case: &Case,
    fault: Fault,
    severity: Severity,
    path: &CgroupPath,
    evidence: String,
    effect: &str,
    remedy: Remedy,
) -> Finding {
    Finding::new(fault, severity, case.directory(path), evidence, effect, remedy)
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
