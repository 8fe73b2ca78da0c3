//! What a run came to: the finished value that every form of the report is made from, with its
//! outcome, its exit status and its verdict.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cli::{Exit, Options};
use crate::faults::{Finding, Occasion, Remedy};
use crate::host::Host;
use crate::host::v1::Hierarchy;
use crate::kubelet::layout;
use crate::kubelet::microk8s::{MICROK8S, Version};
use crate::kubelet::{Configured, Driver, ErrorKind, Settings, SettingsError};
use crate::outcome::Outcome;
use crate::plan::Taken;
use crate::repair::step::Step;
use crate::state::{Notes, Shutdown};

/// What can be said of the kubelet where nothing fatal is found: it may still die of what is not
/// examined here.
const READY: &str = "cgroups are ready for the kubelet";

/// One run, from its options to its verdict.
#[derive(Clone, Debug)]
pub struct Report {
    /// Nothing was to be changed.
    pub dry_run: bool,
    /// Who called.
    pub occasion: Occasion,
    /// MicroK8s, where it is active.
    pub active: Option<Active>,
    /// Why nobody cares for this host, where MicroK8s is not active.
    pub inactive: Option<String>,
    /// What it means for the kubelet's start that its settings cannot be used, where they cannot.
    pub unusable: Option<ErrorKind>,
    /// Why no kubelet is about to start although MicroK8s is active, and so nothing is changed.
    pub disabled: Option<String>,
    /// What the kubelet goes by, once it is known.
    pub settings: Option<Settings>,
    /// What the host has, once it has been looked at.
    pub host: Option<Host>,
    /// The first look.
    pub findings: Vec<Finding>,
    /// What was done, or would be.
    pub steps: Vec<Taken>,
    /// The last look; the same as the first where nothing was done.
    pub remaining: Vec<Finding>,
    /// Why no judgement was possible.
    pub unknown: Option<String>,
    /// What earlier runs have noted.
    pub notes: Notes,
    /// How many runs have changed something since the boot, this one included; `None` when that is
    /// not known.
    pub repairs: Option<u64>,
    /// What could not be noted for later runs, a sentence each. The tree is none the worse for it.
    pub unnoted: Vec<String>,
    /// Why a file that was asked for on the command line could not be written, a sentence each.
    pub unwritten: Vec<String>,
}

/// The active revision of MicroK8s.
#[derive(Clone, Debug)]
pub struct Active {
    /// The snap's revision.
    pub revision: String,
    /// Its kubelet's version, where the snap says it.
    pub version: Option<Version>,
    /// Where its settings come from.
    pub args_file: PathBuf,
}

impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}", self.revision)?;
        self.version
            .map_or(Ok(()), |version| write!(f, ", kubelet {version}"))
    }
}

impl Report {
    /// An empty one.
    pub fn new(options: &Options) -> Self {
        Self {
            dry_run: options.dry_run,
            occasion: options.occasion,
            active: None,
            inactive: None,
            unusable: None,
            disabled: None,
            settings: None,
            host: None,
            findings: Vec::new(),
            steps: Vec::new(),
            remaining: Vec::new(),
            unknown: None,
            notes: Notes::default(),
            repairs: None,
            unnoted: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// With what was found of a kubelet.
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
    pub fn examined(self, settings: &Settings, host: Host, notes: Notes) -> Self {
        Self {
            settings: Some(settings.clone()),
            repairs: notes.repairs,
            notes,
            host: Some(host),
            ..self
        }
    }

    /// With the findings of the first look.
    #[must_use]
    pub fn found(self, findings: Vec<Finding>) -> Self {
        Self {
            remaining: findings.clone(),
            findings,
            ..self
        }
    }

    /// When something that a judgement rests on could not be read or done.
    #[must_use]
    pub fn unknown(self, reason: String) -> Self {
        Self {
            unknown: Some(reason),
            ..self
        }
    }

    /// Where the hierarchy is mounted that was judged.
    pub fn mount(&self) -> &Path {
        self.host.as_ref().map_or(Path::new("/"), Host::mount)
    }

    /// How the boot before this one ended; `None` where the host was not looked at.
    pub fn previous_shutdown(&self) -> Option<Shutdown> {
        self.host.as_ref().map(|_| self.notes.previous_shutdown())
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        if self.unknown.is_some() {
            return Outcome::Unknown;
        }
        let is_broken = self.remaining.iter().any(Finding::is_beyond_repair);
        match (&self.inactive, &self.disabled) {
            (Some(_), _) => return Outcome::Inactive,
            // A dry run says what the start of a disabled kubelite would come to.
            (None, Some(_)) if !(self.dry_run && is_broken) => return Outcome::Inactive,
            _ if is_broken => return Outcome::Broken,
            _ => {}
        }
        match (self.steps.is_empty(), self.dry_run) {
            (true, _) => Outcome::Healthy,
            (false, true) => Outcome::WouldRepair,
            (false, false)
                if self.remaining.iter().any(Finding::is_fatal) || self.is_unfinished() =>
            {
                Outcome::Broken
            }
            (false, false) => Outcome::Repaired,
        }
    }

    /// The exit status that goes with it.
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

    /// The verdict in one sentence, without a full stop.
    pub fn verdict(&self) -> String {
        if let Some(reason) = &self.unknown {
            return format!("this host could not be judged: {reason}");
        }
        if let (Some(reason), false) = (&self.inactive, self.dry_run) {
            return format!("MicroK8s is not active ({reason}), so there is nothing to do");
        }
        if let Some(reason) = &self.disabled {
            let when_started = if self.dry_run {
                format!(", and {}", self.when_started())
            } else {
                String::new()
            };
            return format!("{reason}; nothing is changed until it is started{when_started}");
        }
        match &self.inactive {
            Some(reason) => {
                format!(
                    "MicroK8s is not active ({reason}), so nothing is done; otherwise: {}",
                    self.judgement()
                )
            }
            None => self.judgement(),
        }
    }

    /// What the start of a kubelite that is disabled would come to.
    fn when_started(&self) -> String {
        match self.remaining.iter().find(|finding| finding.is_fatal()) {
            None => "nothing that was found would keep the kubelet from starting then".to_owned(),
            Some(_) if self.remaining.iter().any(Finding::is_beyond_repair) => self.judgement(),
            Some(finding) => format!("its pre-start would then repair {}", at(finding)),
        }
    }

    fn judgement(&self) -> String {
        let fatal = self.remaining.iter().filter(|finding| finding.is_fatal());
        let (curable, beyond): (Vec<&Finding>, Vec<&Finding>) =
            fatal.partition(|finding| !finding.is_beyond_repair());
        let first = beyond
            .iter()
            .find(|finding| !matches!(finding.remedy, Remedy::Waits(_)))
            .or(beyond.first());
        match (first, curable.first()) {
            (Some(finding), _) if self.unusable == Some(ErrorKind::Unknown) => {
                format!(
                    "whether the kubelet would start cannot be known: {}",
                    at(finding)
                )
            }
            (Some(finding), _) => format!("the kubelet would not start: {}", at(finding)),
            (None, Some(finding)) if self.dry_run => {
                format!(
                    "the kubelet would not start as it is ({}); after these steps \
                         {READY}",
                    at(finding)
                )
            }
            (None, Some(finding)) => format!("the kubelet would not start: {}", at(finding)),
            (None, None) if !self.dry_run && self.is_unfinished() => {
                "whether the kubelet starts is not certain: not everything that was planned could \
                 be done, see the steps"
                    .to_owned()
            }
            (None, None) => READY.to_owned(),
        }
    }

    /// Whether something still waits for a step of ours. Housekeeping that ran out of time is left
    /// to the kubelet; what failed is not.
    fn is_unfinished(&self) -> bool {
        let has_failed = |finding: &Finding| {
            let failed =
                |taken: &Taken| taken.result.is_err() && taken.faults.contains(&finding.fault);
            self.steps.iter().any(failed)
        };
        self.remaining.iter().any(|finding| {
            let steps = finding.steps();
            let matters = !steps.iter().all(Step::is_housekeeping);
            matters || !steps.is_empty() && has_failed(finding)
        })
    }

    /// The healthy tree in one line.
    pub fn healthy(&self) -> Option<String> {
        let layout = self.settings.as_ref()?.layout();
        if let Some(v1) = &self.host.as_ref()?.v1 {
            let names: Vec<String> = v1.mounted.iter().map(Hierarchy::name).collect();
            let (kubepods, names) = (layout.kubepods, names.join(" "));
            return Some(format!(
                "{kubepods} is in every hierarchy ({names}); {READY}"
            ));
        }
        let tree = self.host.as_ref()?.tree.as_ref()?;
        let held = if layout.driver == Driver::Systemd {
            "kept by systemd"
        } else {
            "anchored"
        };
        let (kubepods, needed) = (
            layout.kubepods.under(&tree.mount),
            layout::needed(&tree.offered()),
        );
        Some(format!(
            "{} has {needed}, {held}; {READY}",
            kubepods.display()
        ))
    }

    /// Where an administrator looks next, where cgroups are not what keeps the kubelet from
    /// starting.
    pub fn elsewhere(&self) -> Option<String> {
        let is_ready = self.outcome() == Outcome::Healthy && self.occasion == Occasion::ByHand;
        let line = "If kubelite fails all the same: journalctl -u 'snap.microk8s.daemon-*'";
        is_ready.then(|| line.to_owned())
    }

    /// What to type after a repair by hand, when the service had given up.
    pub fn afterwards(&self) -> Option<String> {
        let was_fatal = self.findings.iter().any(Finding::is_fatal);
        let healed = self.outcome() == Outcome::Repaired && self.occasion == Occasion::ByHand;
        (was_fatal && healed).then(|| {
            format!(
                "if kubelite has given up: systemctl reset-failed {} && snap start {}",
                MICROK8S.kubelet_unit, MICROK8S.kubelet_service
            )
        })
    }
}

fn at(finding: &Finding) -> String {
    format!("{} at {}", finding.fault.name, finding.location)
}
