//! The result of a run: the finished value from which every form of the report is made, with the
//! outcome, the exit status and the verdict.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cli::{Exit, Options};
use crate::faults::settings::SETTINGS_UNREADABLE;
use crate::faults::{Finding, Nature, Occasion, Remedy, Severity};
use crate::host::Host;
use crate::host::v1::Hierarchy;
use crate::kubelet::layout;
use crate::kubelet::microk8s::{MICROK8S, Version};
use crate::kubelet::{Configured, Driver, ErrorKind, Settings, SettingsError};
use crate::outcome::Outcome;
use crate::plan::Taken;
use crate::repair::step::Step;
use crate::restraint::{DISABLED, GUARDED};
use crate::state::{Notes, Shutdown};

/// The verdict if nothing fatal is found. It does not claim that the kubelet starts, because the
/// kubelet can fail for reasons that are not examined.
const READY: &str = "cgroups are ready for the kubelet";

/// One run, from its options to its verdict.
#[derive(Clone, Debug)]
pub struct Report {
    /// `--dry-run`: nothing may be changed.
    pub dry_run: bool,
    /// What called the program, which decides what it may do.
    pub occasion: Occasion,
    /// MicroK8s, if it is active.
    pub active: Option<Active>,
    /// Why MicroK8s is not active, if it is not.
    pub inactive: Option<String>,
    /// What it means for the kubelet that its settings cannot be used, if they cannot.
    pub unusable: Option<ErrorKind>,
    /// Why no kubelet is about to start although MicroK8s is active, and so nothing is changed.
    pub disabled: Option<String>,
    /// Whether kubelite is enabled but not running. Only looked up in a run by hand.
    pub idle: bool,
    /// The kubelet's settings, if they are known.
    pub settings: Option<Settings>,
    /// The host before any repair, if it has been examined.
    pub host: Option<Host>,
    /// The host after the repair, if something was repaired.
    pub host_after: Option<Host>,
    /// What the first look found.
    pub findings: Vec<Finding>,
    /// What was done, or what a dry run would do.
    pub steps: Vec<Taken>,
    /// What the last look found; the same as the first if nothing was done.
    pub remaining: Vec<Finding>,
    /// Why the host could not be examined, if it could not.
    pub unknown: Option<String>,
    /// What earlier runs have recorded, if it was read.
    pub notes: Option<Notes>,
    /// How many runs have changed something since the boot, including this one; `None` if that is
    /// not known.
    pub repairs: Option<u64>,
    /// What could not be recorded for later runs, one sentence each. This changes neither the
    /// outcome nor the exit status.
    pub unnoted: Vec<String>,
    /// Why files that the command line asks for could not be written, one sentence each.
    pub unwritten: Vec<String>,
}

/// The active revision of MicroK8s.
#[derive(Clone, Debug)]
pub struct Active {
    /// The snap's revision.
    pub revision: String,
    /// The version of its kubelet, if the snap says it.
    pub version: Option<Version>,
    /// Where its settings come from.
    pub args_file: PathBuf,
}

impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}", self.revision)?;
        if let Some(version) = self.version {
            write!(f, ", kubelet {version}")?;
        }
        Ok(())
    }
}

impl Report {
    /// A run that has not examined anything yet.
    pub fn new(options: &Options) -> Self {
        Self {
            dry_run: options.dry_run,
            occasion: options.occasion,
            active: None,
            inactive: None,
            unusable: None,
            disabled: None,
            idle: false,
            settings: None,
            host: None,
            host_after: None,
            findings: Vec::new(),
            steps: Vec::new(),
            remaining: Vec::new(),
            unknown: None,
            notes: None,
            repairs: None,
            unnoted: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// Records what is known about the kubelet.
    pub fn configured(&mut self, configured: &Configured) {
        match configured {
            Configured::Inactive(reason) => self.inactive = Some(reason.clone()),
            Configured::Active {
                revision,
                version,
                args_file,
                settings,
            } => {
                self.unusable = settings.as_ref().as_ref().err().map(SettingsError::kind);
                self.active = Some(Active {
                    revision: revision.clone(),
                    version: *version,
                    args_file: args_file.clone(),
                });
            }
        }
    }

    /// With the host as it was seen.
    #[must_use]
    pub fn examined(mut self, settings: &Settings, host: Host, notes: Notes) -> Self {
        self.settings = Some(settings.clone());
        self.host = Some(host);
        self.noted(notes)
    }

    /// With what earlier runs have noted.
    #[must_use]
    pub fn noted(mut self, notes: Notes) -> Self {
        self.repairs = notes.repairs;
        self.notes = Some(notes);
        self
    }

    /// With the findings of the first look.
    #[must_use]
    pub fn found(mut self, findings: Vec<Finding>) -> Self {
        self.remaining.clone_from(&findings);
        self.findings = findings;
        self
    }

    /// The same, for a run that could not read or do something that the verdict depends on.
    #[must_use]
    pub fn unknown(mut self, reason: String) -> Self {
        self.unknown = Some(reason);
        self
    }

    /// The mount point of cgroup v2; `/` if there is none or the host was not examined.
    pub fn mount(&self) -> &Path {
        self.host.as_ref().map_or(Path::new("/"), Host::mount)
    }

    /// Whether nothing is changed because no kubelet is about to start.
    pub fn is_left_alone(&self) -> bool {
        self.inactive.is_some() || self.disabled.is_some()
    }

    /// How the previous boot ended; `None` if no record was read.
    pub fn previous_shutdown(&self) -> Option<Shutdown> {
        self.notes.as_ref().map(Notes::previous_shutdown)
    }

    /// The outcome of the run, from its findings and steps.
    pub fn outcome(&self) -> Outcome {
        if self.unknown.is_some() {
            return Outcome::Unknown;
        }
        let is_broken = self.is_beyond_repair();
        // A dry run also reports whether a disabled kubelite would start.
        let is_left_alone = self.disabled.is_some() && !(self.dry_run && is_broken);
        if self.inactive.is_some() || is_left_alone {
            Outcome::Inactive
        } else if is_broken {
            Outcome::Broken
        } else if self.steps.is_empty() {
            Outcome::Healthy
        } else if self.dry_run {
            Outcome::WouldRepair
        } else if self.remaining.iter().any(Finding::is_fatal) || self.is_unfinished() {
            Outcome::Broken
        } else {
            Outcome::Repaired
        }
    }

    fn is_beyond_repair(&self) -> bool {
        self.remaining.iter().any(Finding::is_beyond_repair)
    }

    /// Whether the first look found something fatal.
    pub fn was_fatal(&self) -> bool {
        self.findings.iter().any(Finding::is_fatal)
    }

    /// The same finding as the last look has it; `None` if it is gone.
    pub fn remains(&self, finding: &Finding) -> Option<&Finding> {
        let mut remaining = self.remaining.iter();
        remaining.find(|remaining| remaining.is_same_as(finding))
    }

    /// `uname -r`; empty if the host was not examined.
    pub fn kernel(&self) -> &str {
        let host = self.host.as_ref();
        host.map_or("", |host| &host.kernel.release)
    }

    /// The snap's revision, if MicroK8s is active.
    pub fn revision(&self) -> Option<&str> {
        Some(&self.active.as_ref()?.revision)
    }

    /// The version of its kubelet, if it is known.
    pub fn kubelet(&self) -> Option<String> {
        Some(self.active.as_ref()?.version?.to_string())
    }

    /// The exit status; always 0 at boot.
    pub fn exit(&self) -> Exit {
        if self.occasion == Occasion::Boot {
            return Exit::Fine;
        }
        if !self.unwritten.is_empty() {
            return Exit::Broken;
        }
        match self.outcome() {
            Outcome::Healthy | Outcome::Repaired | Outcome::Inactive => Exit::Fine,
            Outcome::WouldRepair => Exit::Pending,
            Outcome::Broken | Outcome::Unknown => Exit::Broken,
        }
    }

    /// The verdict: the first thing that a reader wants to know.
    pub fn verdict(&self) -> Verdict<'_> {
        if let Some(reason) = &self.unknown {
            return Verdict::new(format!("this host could not be examined: {reason}"));
        }
        if let (Some(reason), false) = (&self.inactive, self.dry_run) {
            let sentence = format!("MicroK8s is not active ({reason}); there is nothing to do");
            return Verdict::new(sentence);
        }
        if let Some(reason) = &self.disabled {
            let unchanged = format!("{reason}; nothing is changed until it is started");
            if !self.dry_run {
                return Verdict::new(unchanged);
            }
            let then = self.when_started();
            return then.after(&format!("{unchanged}, and "));
        }
        let judgement = self.judgement();
        match &self.inactive {
            None => judgement,
            Some(reason) => judgement.after(&format!(
                "MicroK8s is not active ({reason}); apart from that, "
            )),
        }
    }

    /// What would happen if a disabled kubelite were started.
    fn when_started(&self) -> Verdict<'_> {
        match self.remaining.iter().find(|finding| finding.is_fatal()) {
            None => Verdict::new("nothing found here would then prevent it from starting"),
            Some(_) if self.is_beyond_repair() => self.judgement(),
            Some(finding) => Verdict::about("its pre-start would then fix this", finding),
        }
    }

    fn judgement(&self) -> Verdict<'_> {
        let (curable, beyond): (Vec<&Finding>, Vec<&Finding>) = self
            .remaining
            .iter()
            .filter(|finding| finding.is_fatal())
            .partition(|finding| !finding.is_beyond_repair());
        let waits = |finding: &&&Finding| matches!(finding.remedy, Remedy::Waits(_));
        let own = beyond.iter().find(|finding| !waits(finding));
        let would_act = self.dry_run && !self.steps.is_empty();
        if let Some(finding) = own.or(beyond.first()) {
            // The settings are not known either where a file or a disk is to blame.
            let is_of_settings = finding.fault == &SETTINGS_UNREADABLE;
            return match self.unusable.filter(|_| is_of_settings) {
                Some(ErrorKind::Unknown) => Verdict {
                    sentence: "it is not known whether the kubelet will start: its configuration \
                               cannot be determined"
                        .to_owned(),
                    finding: Some(finding),
                },
                Some(ErrorKind::Refused) => Verdict {
                    sentence: "the kubelet will not start: its configuration is invalid".to_owned(),
                    finding: Some(finding),
                },
                None => Verdict::about("the kubelet will not start", finding),
            };
        }
        if let Some(finding) = curable.first() {
            let verdict = Verdict::about("the kubelet will not start", finding);
            return verdict.fixable(would_act);
        }
        if !self.dry_run && self.is_unfinished() {
            return Verdict::new(
                "it is not certain that the kubelet will start: not every step succeeded",
            );
        }
        let is_degraded = |finding: &&Finding| finding.severity() == Severity::Degraded;
        if let Some(finding) = self.remaining.iter().find(is_degraded) {
            let is_ours = would_act && !finding.steps().is_empty();
            let verdict = Verdict::about(format!("{READY}, but pods will suffer"), finding);
            return verdict.fixable(is_ours);
        }
        let is_healed = |finding: &Finding| finding.fault.nature == Nature::HealedByKubelet;
        if would_act && self.findings.iter().any(is_healed) {
            return Verdict::new(format!("{READY}, which creates what is missing itself"));
        }
        Verdict::new(READY)
    }

    /// Whether a finding remains that kubepods-repair can fix. Housekeeping that ran out of time
    /// does not count, because the kubelet does it as well; a step that failed does.
    fn is_unfinished(&self) -> bool {
        let has_failed = |finding: &Finding| {
            let mut failed = self.steps.iter().filter(|taken| taken.result.is_err());
            failed.any(|taken| taken.faults.contains(&finding.fault))
        };
        self.remaining.iter().any(|finding| {
            let steps = finding.steps();
            let matters = !steps.iter().all(Step::is_housekeeping);
            matters || !steps.is_empty() && has_failed(finding)
        })
    }

    /// The healthy tree in one sentence, without a full stop.
    pub fn healthy(&self) -> Option<String> {
        let layout = self.settings.as_ref()?.layout();
        let host = self.host.as_ref()?;
        let kubepods = &layout.kubepods;
        let state = if let Some(v1) = &host.v1 {
            let names: Vec<String> = v1.mounted.iter().map(Hierarchy::name).collect();
            format!("{kubepods} is in every hierarchy ({})", names.join(" "))
        } else {
            let tree = host.tree.as_ref()?;
            let held = match layout.driver {
                Driver::Systemd => "kept by systemd",
                Driver::Cgroupfs => "anchored",
            };
            let (kubepods, needed) = (kubepods.under(&tree.mount), layout::needed(&tree.offered()));
            format!("{} has {needed}, {held}", kubepods.display())
        };
        Some(format!("{state}; {READY}"))
    }

    /// What to do next, and the command for it: where to look if a run by hand found nothing to
    /// repair, or how to start a service that is disabled or that systemd no longer restarts.
    pub fn next(&self) -> Option<(&'static str, String)> {
        if self.occasion != Occasion::ByHand {
            return None;
        }
        match self.outcome() {
            Outcome::Healthy if self.idle => {
                let command = format!("snap start {}", MICROK8S.kubelet_service);
                Some(("kubelite is enabled and does not run; to start it", command))
            }
            Outcome::Healthy => {
                let command = "journalctl -u 'snap.microk8s.daemon-*'".to_owned();
                Some(("If kubelite still fails, read its journal", command))
            }
            Outcome::Inactive => {
                let reason = self.disabled.as_ref()?;
                let start = "microk8s start".to_owned();
                if reason == GUARDED {
                    let command = format!("{start} --disable-low-memory-guard");
                    return Some(("To start MicroK8s nevertheless", command));
                }
                let is_disabled = reason.starts_with(DISABLED);
                is_disabled.then_some(("To enable and start MicroK8s", start))
            }
            Outcome::Repaired if self.was_fatal() => {
                let (unit, service) = (MICROK8S.kubelet_unit, MICROK8S.kubelet_service);
                let command = format!("systemctl reset-failed {unit} && snap start {service}");
                Some(("If kubelite has stopped restarting, start it", command))
            }
            _ => None,
        }
    }
}

/// The result of a run in one sentence, and the finding that decides it.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// The sentence, which begins with a small letter and has no full stop.
    pub sentence: String,
    /// The finding that it is about, if it is about one.
    pub finding: Option<&'a Finding>,
}

impl<'a> Verdict<'a> {
    fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            finding: None,
        }
    }

    fn about(sentence: impl fmt::Display, finding: &'a Finding) -> Self {
        Self {
            sentence: format!("{sentence}: {}", finding.fault.clause()),
            finding: Some(finding),
        }
    }

    fn after(mut self, words: &str) -> Self {
        self.sentence.insert_str(0, words);
        self
    }

    fn fixable(mut self, is_fixable: bool) -> Self {
        if is_fixable {
            self.sentence += "; kubepods-repair can fix this";
        }
        self
    }
}

/// The sentence with the fault and its place, for readers who see nothing else.
impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        match self.finding {
            Some(finding) => write!(f, " ({} at {})", finding.fault.name, finding.location),
            None => Ok(()),
        }
    }
}
