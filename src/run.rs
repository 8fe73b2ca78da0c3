//! One run: look, diagnose, plan, repair, and look again, until there is nothing left to do or
//! nothing more can be done. What a run learns on the way is kept beside the facts.

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

/// How often the tree is examined at most. systemd can disable a controller again while it realises
/// units, so one repair is not always enough.
const ROUNDS: usize = 8;

/// The time that a run spends on removing what only takes up space. The kubelet removes the rest.
/// Less than half of `sys::DEADLINE`.
const HOUSEKEEPING: Duration = Duration::from_secs(20);

/// Examines the host, repairs it unless this is a dry run, and reports what was found and done.
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

/// Records that this boot ends through one of systemd's shutdown targets. It never delays a
/// shutdown and never makes one fail.
///
/// # Errors
/// If the marker cannot be written. The next boot then reports an unclean shutdown.
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
            Err(error) => return unread(root, options, report, &error),
        };
    }
    if report.is_left_alone() && !options.dry_run {
        return unexamined(root, options, report, Vec::new());
    }
    let settings = match configured {
        Configured::Inactive(_) => Settings::default(),
        Configured::Active { settings, .. } => match *settings {
            Ok(settings) => settings,
            Err(error) => {
                let failed = error.failed_read();
                let disk = failed.and_then(|read| failed_disk(root, read));
                let finding = disk.unwrap_or_else(|| faults::settings::unreadable(&error));
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
        Err(error) => unread(root, options, report, &error),
    }
}

/// The report on a host of which something could not be read.
fn unread(root: &Root, options: &Options, report: Report, error: &ReadError) -> Report {
    match failed_disk(root, error) {
        Some(finding) => unexamined(root, options, report, vec![finding]),
        None => report.unknown(error.to_string()),
    }
}

/// Why a read failed, if that is due to the whole file system with MicroK8s' data.
fn failed_disk(root: &Root, error: &ReadError) -> Option<Finding> {
    if error.errno != Errno::EIO {
        return None;
    }
    host::disk::observe_after_failure(root).and_then(|disk| faults::disk::failed(&disk))
}

/// The report on a host that is not examined. If the boot begins, it also says how the previous
/// boot ended.
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

/// Records what later runs need to know. Returns a sentence for each thing that could not be
/// recorded.
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
    // On these occasions the snap is certain to be mounted, or the marker is written anyway.
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

/// The facts of one look, and the findings.
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
        if planned.is_empty() || report.is_left_alone() {
            return Ok(report);
        }
        if self.options.dry_run {
            let would = |planned: Planned| planned.with(Ok(Effect::Would));
            report.steps = planned.into_iter().map(would).collect();
            return Ok(report);
        }
        self.mend(report)
    }

    /// Repairs and looks again. A unit is restarted between two repairs, without the lock, because
    /// its own pre-start repairs as well.
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
            let (host, restarts) = match self.mend_tree(&mut report, until) {
                Ok(Some(restart)) => restart,
                Ok(None) => break,
                // What has been done is reported in any case.
                Err(error) if report.steps.iter().any(Taken::is_done) => {
                    let reason = format!("{error}; what was changed before that is listed");
                    return Ok(report.unknown(reason));
                }
                Err(error) => return Err(error),
            };
            drop(lock);
            let restarted = self.take(&host, restarts, until);
            // A restart that failed would fail again, and the service starts again in seconds.
            let in_vain = restarted.iter().all(|taken| taken.result.is_err());
            report.steps.extend(restarted);
            if in_vain {
                break;
            }
        }
        Ok(report)
    }

    /// The restarts that have to come before any other repair, and the host they were planned for.
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

    /// Takes the steps in order. After a step that builds has failed, no other such step is tried.
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

    /// Examines the host, and looks more closely if a finding requires it.
    fn look(&self, mut learned: Learned) -> Result<Look, ReadError> {
        sys::doing("examining the host");
        let host = host::observe(self.root, &self.settings, &self.snap)?;
        let notes = Notes::read(self.root, &host.boot);
        let terms = self.terms(&host);
        if state_files::asks_for_containers(&self.settings, &host, terms) {
            learned.containers_run = host::containers_run(self.root, &self.settings, &host)?;
        }
        let diagnose =
            |learned: &Learned| faults::diagnose(&self.settings, &host, &notes, terms, learned);
        let mut findings = diagnose(&learned);
        // The kernel may refuse the kubelet a controller that is left to its own start, or that it
        // would need without the workaround `--cgroups-per-qos=false`.
        let is_used = self.settings.cgroups_per_qos.value;
        let is_left = terms.occasion == Occasion::ByHand && terms.leave_cpu;
        let is_foretold = self.options.dry_run || is_left || !is_used;
        let names_controllers = |finding: &Finding| !finding.controllers.is_empty();
        let lacks = || findings.iter().any(names_controllers) || !is_used && self.would_lack(&host);
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

    /// Whether the kubelet would need a controller that a task can block.
    fn would_lack(&self, host: &Host) -> bool {
        let layout = self.settings.layout();
        let tree = host.tree.as_ref();
        tree.is_some_and(|tree| tree.lacks("cpu", &layout) || tree.lacks("cpuset", &layout))
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

/// The refusals that are not temporary. With ENOENT, systemd has disabled the controller in
/// between, and the write is tried again.
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

/// The slices that systemd did not create. A run asks for a slice only once.
fn unmade(steps: &[Taken]) -> Vec<host::units::Unmade> {
    let mut unmade = Vec::new();
    for taken in steps {
        if let (Step::AskForSlice { slice, .. }, Err(error)) = (&taken.step, &taken.result) {
            unmade.push((slice.clone(), error.to_string()));
        }
    }
    unmade
}
