//! One run: look, diagnose, plan, repair, and look again, until nothing is left to do or nothing
//! more can be done. What it learns on the way it keeps beside the facts.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cli::{Exit, Options};
use crate::faults::{self, Finding, Learned, Occasion, Step, Terms, state_files};
use crate::host::{self, Host, Refusal, Snap, kernel, service};
use crate::kubelet::{self, Configured, Settings};
use crate::plan::{Planned, Taken, plan};
use crate::repair::{Effect, RepairError, capture};
use crate::restraint::restraint;
use crate::root::{ReadError, Root};
use crate::state::{self, Lock, Notes, RestartStamp};
use crate::sys;
use crate::verdict::Report;

/// While systemd realises units it may take away what was just switched on; so often the tree is
/// looked at again.
const ROUNDS: usize = 8;

/// So long after its start a run still removes what only takes up room; the rest is left to the
/// kubelet. Less than half of `sys::DEADLINE`.
const HOUSEKEEPING: Duration = Duration::from_secs(20);

/// Looks at the host, repairs it unless this is a dry run, and says what was found and done.
pub fn run(options: &Options) -> Report {
    let report = Report::new(options);
    let captured = options.root.as_deref().map(Root::captured);
    let root = match captured.unwrap_or_else(|| Ok(Root::live())) {
        Ok(root) => root,
        Err(error) => return report.unknown(error.to_string()),
    };
    let Some(file) = &options.capture else {
        return examine(&root, options, report);
    };
    let root = root.recording();
    let mut report = examine(&root, options, report);
    if let Some(record) = root.record()
        && let Err(error) = capture::write(file, &record, &options.args())
    {
        let unwritten = format!("nothing was captured: {error}");
        report.unwritten.push(unwritten);
    }
    report
}

/// Notes that this boot ends through one of systemd's shutdown targets. It never keeps a shutdown
/// waiting, and never fails one.
///
/// # Errors
/// When the marker cannot be written; the next boot will then take this one's end for unclean.
pub fn shutdown() -> Result<Exit, RepairError> {
    let root = Root::live();
    sys::doing("writing the boot marker");
    let boot = host::boot::observe(&root, &kernel::observe(&root));
    state::end_boot(&Notes::read(&root, &boot)).map(|()| Exit::Fine)
}

fn examine(root: &Root, options: &Options, mut report: Report) -> Report {
    sys::doing("reading the kubelet's settings");
    let configured = kubelet::read(root);
    report.configured(&configured);
    let active = report.active.as_ref();
    let snap = active.map(|active| (active.revision.clone(), active.version));
    report.unnoted = note(root, options, &snap);
    if let Some((revision, _)) = &snap {
        report.disabled = match service::observe(root, revision) {
            Ok(service) => {
                report.idle =
                    options.occasion == Occasion::ByHand && service::is_idle(root, service);
                restraint(service, options.occasion)
            }
            Err(error) => return report.unknown(error.to_string()),
        };
    }
    let is_left_alone = report.inactive.is_some() || report.disabled.is_some();
    if is_left_alone && !options.dry_run {
        return unexamined(root, options, report, Vec::new());
    }
    let settings = match configured {
        Configured::Inactive(_) => Settings::default(),
        Configured::Active { settings, .. } => match *settings {
            Ok(settings) => settings,
            Err(error) => {
                let finding = faults::settings::unreadable(&error);
                return unexamined(root, options, report, vec![finding]);
            }
        },
    };
    let run = Run {
        root,
        settings,
        snap,
        options,
    };
    match run.examine(report.clone()) {
        Ok(report) => report,
        Err(error) => report.unknown(error.to_string()),
    }
}

/// The report on a host that is not looked at. How the boot before this one ended is said once a
/// boot, and that is when it begins.
fn unexamined(
    root: &Root,
    options: &Options,
    report: Report,
    mut findings: Vec<Finding>,
) -> Report {
    if options.occasion != Occasion::Boot {
        return report.found(findings);
    }
    let boot = host::boot::observe(root, &kernel::observe(root));
    let notes = Notes::read(root, &boot);
    findings.extend(faults::boot::unclean(&notes, options.occasion));
    report.noted(notes).found(findings)
}

/// What later runs want to know of this one; what could not be noted, a sentence each.
fn note(root: &Root, options: &Options, snap: &Snap) -> Vec<String> {
    let mut unnoted = Vec::new();
    if options.dry_run {
        return unnoted;
    }
    if options.occasion == Occasion::Boot
        && let Err(error) = note_boot(root, snap)
    {
        unnoted.push(format!(
            "The next boot will not know how this one ended: {error}."
        ));
    }
    // Where the snap is mounted for certain, and where the marker is written.
    if let (Occasion::PreStart | Occasion::Boot, Some((revision, Some(version)))) =
        (options.occasion, snap)
        && let Err(error) = state::remember(root, revision, *version)
    {
        unnoted.push(format!(
            "The next boot will not know the kubelet's version: {error}."
        ));
    }
    unnoted
}

fn note_boot(root: &Root, snap: &Snap) -> Result<(), RepairError> {
    sys::doing("writing the boot marker");
    let kernel = kernel::observe(root);
    let boot = host::boot::observe(root, &kernel);
    let revision = snap.as_ref().map(|(revision, _)| revision.clone());
    state::begin_boot(&Notes::read(root, &boot), &boot, &kernel.release, revision)
}

/// What stays the same from the first look to the last.
struct Run<'a> {
    root: &'a Root,
    settings: Settings,
    snap: Snap,
    options: &'a Options,
}

/// One look: the facts, and what they come to.
struct Look {
    host: Host,
    notes: Notes,
    findings: Vec<Finding>,
}

impl Run<'_> {
    fn examine(&self, report: Report) -> Result<Report, ReadError> {
        let Look {
            host,
            notes,
            findings,
        } = self.look(Learned::default())?;
        let mut report = report.examined(&self.settings, host, notes).found(findings);
        let planned = plan(&report.findings);
        if planned.is_empty() || report.inactive.is_some() || report.disabled.is_some() {
            return Ok(report);
        }
        if self.options.dry_run {
            let would = |planned: Planned| planned.with(Ok(Effect::Would));
            report.steps = planned.into_iter().map(would).collect();
            return Ok(report);
        }
        self.mend(report)
    }

    /// Repairs and looks again. A unit is restarted between two repairs, with nothing locked: its
    /// own pre-start repairs, too.
    fn mend(&self, mut report: Report) -> Result<Report, ReadError> {
        let until = Instant::now() + HOUSEKEEPING;
        // Before a restart, and after it.
        for _ in 0..2 {
            let lock = match Lock::take() {
                Ok(lock) => lock,
                Err(error) => {
                    return Ok(report.unknown(format!("{error}; nothing has been changed since")));
                }
            };
            let Some((host, restarts)) = self.mend_tree(&mut report, until)? else {
                break;
            };
            drop(lock);
            let restarted = self.take(&host, restarts, until);
            // What failed now fails again, and the service's next start comes in seconds.
            let in_vain = restarted.iter().all(|taken| taken.result.is_err());
            report.steps.extend(restarted);
            if in_vain {
                break;
            }
        }
        Ok(report)
    }

    /// The restarts without which no more can be done, and the host that they were planned for.
    fn mend_tree(
        &self,
        report: &mut Report,
        until: Instant,
    ) -> Result<Option<(Host, Vec<Planned>)>, ReadError> {
        let mut refusals = Vec::new();
        let mut in_vain = Vec::new();
        for _ in 0..ROUNDS {
            let unmade = unmade(&report.steps);
            let learned = Learned {
                refusals,
                unmade,
                ..Learned::default()
            };
            let Look { host, findings, .. } = self.look(learned)?;
            report.remaining = findings;
            let is_restart = |planned: &Planned| matches!(planned.step, Step::Restart { .. });
            let (restarts, planned): (Vec<_>, Vec<_>) =
                plan(&report.remaining).into_iter().partition(is_restart);
            if !restarts.is_empty() {
                return Ok(Some((host, restarts)));
            }
            if planned.is_empty() || planned == in_vain {
                report.host_after = Some(host);
                return Ok(None);
            }
            let taken = self.take(&host, planned.clone(), until);
            refusals = lasting_refusals(&taken);
            let is_stuck = refusals.is_empty() && taken.iter().all(Taken::is_final);
            in_vain = if is_stuck { planned } else { Vec::new() };
            let is_first = !report.steps.iter().any(Taken::is_done);
            if is_first && taken.iter().any(Taken::is_done) {
                self.count(report);
            }
            report.steps.extend(taken);
        }
        Ok(None)
    }

    /// Takes the steps in order. After one that builds has failed, no other that builds is tried.
    fn take(&self, host: &Host, plan: Vec<Planned>, until: Instant) -> Vec<Taken> {
        let mut has_failed = false;
        let steps = plan.len();
        let mut taken = Vec::with_capacity(steps);
        for planned in plan {
            let step = &planned.step;
            let words = step.words(host.mount());
            let number = taken.len() + 1;
            sys::doing(format!(
                "taking step {number} of {steps} ({} {})",
                words.plain, words.object
            ));
            let is_late = step.is_housekeeping() && Instant::now() >= until;
            let result = if is_late || has_failed && step.builds() {
                Ok(Effect::Skipped)
            } else {
                step.take(self.root, host, until)
            };
            has_failed |= result.is_err() && step.builds();
            taken.push(planned.with(result));
        }
        taken
    }

    fn count(&self, report: &mut Report) {
        match state::count_repair(self.root) {
            Ok(repairs) => report.repairs = Some(repairs),
            Err(error) => report
                .unnoted
                .push(format!("This repair is not counted: {error}.")),
        }
    }

    /// Looks at the host, and more closely where a finding asks for it.
    fn look(&self, mut learned: Learned) -> Result<Look, ReadError> {
        sys::doing("examining the host");
        let host = host::observe(self.root, &self.settings, &self.snap)?;
        let notes = Notes::read(self.root, &host.boot);
        let terms = self.terms(&host);
        if state_files::asks_for_containers(&self.settings, &host) {
            learned.containers_run = host::containers_run(self.root, &self.settings, &host)?;
        }
        let diagnose =
            |learned: &Learned| faults::diagnose(&self.settings, &host, &notes, terms, learned);
        let mut findings = diagnose(&learned);
        // What is left to the kubelet's own start may be refused to it then.
        let is_left = terms.occasion == Occasion::ByHand && terms.leave_cpu;
        let is_foretold = self.options.dry_run || is_left;
        let names_controllers = |finding: &Finding| !finding.controllers.is_empty();
        let lacks = || findings.iter().any(names_controllers);
        if !learned.refusals.is_empty() || is_foretold && lacks() {
            sys::doing("looking for the tasks that block a controller");
            learned.blockers = Some(host::observe_blockers(self.root, &host.kernel)?);
            let unit = kubelet::microk8s::MICROK8S.restartable_unit;
            learned.restarted = RestartStamp::read(self.root, unit)?;
            findings = diagnose(&learned);
        }
        Ok(Look {
            host,
            notes,
            findings,
        })
    }

    fn terms(&self, host: &Host) -> Terms {
        let occasion = self.options.occasion;
        let layout = self.settings.layout();
        let tree = host.tree.as_ref();
        let may_matter = tree.is_some_and(|tree| tree.lacks("cpu", &layout));
        // Reading the kernel's configuration is expensive.
        let leave_cpu = may_matter
            && occasion != Occasion::PreStart
            && Terms::leaves_cpu(occasion, host.kernel.has_rt_group_sched(self.root));
        Terms {
            occasion,
            no_restart: self.options.no_restart,
            leave_cpu,
        }
    }
}

/// A controller that is not there (ENOENT) was taken away by systemd a moment ago: that is tried
/// again.
fn lasting_refusals(taken: &[Taken]) -> Vec<Refusal> {
    let mut lasting = Vec::new();
    for taken in taken {
        if let Err(RepairError::Refused { refusals, .. }) = &taken.result {
            let lasts = |refusal: &&Refusal| refusal.errno != Errno::ENOENT;
            lasting.extend(refusals.iter().filter(lasts).cloned());
        }
    }
    lasting
}

/// A slice that systemd did not make is asked for once in a run.
fn unmade(steps: &[Taken]) -> Vec<host::units::Unmade> {
    let mut unmade = Vec::new();
    for taken in steps {
        if let (Step::AskForSlice { slice, .. }, Err(error)) = (&taken.step, &taken.result) {
            unmade.push((slice.clone(), error.to_string()));
        }
    }
    unmade
}
