//! kubepods-repair: a check and repair of the cgroup tree that MicroK8s' kubelet needs, in the
//! spirit of fsck.
//!
//! Settings and host become findings, findings a plan, the plan a repair; then everything is looked
//! at again, and the second look gives the verdict.

#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod cgroup;
pub mod cli;
pub mod diagnosis;
pub mod host;
pub mod kubelet;
pub mod plan;
pub mod repair;
pub mod report;
pub mod root;
pub mod sys;

use std::time::{Duration, Instant};

use cli::{Exit, Options};
use diagnosis::remedy::Step;
use diagnosis::restraint::restraint;
use diagnosis::{Finding, Occasion, Terms};
use host::boot::{self, Marker};
use host::units::Unmade;
use host::{Host, Refusal, Snap, kernel, service};
use kubelet::microk8s::Version;
use kubelet::{Configured, Settings};
use nix::errno::Errno;
use repair::lock::Lock;
use repair::{Effect, RepairError, Taken};
use report::Report;
use root::{ReadError, Root};

/// While systemd realises units it may take away what was just switched on; so often the tree is
/// looked at again.
const ROUNDS: usize = 8;

/// So long after its start a run still removes what only takes up room; the rest is left to the
/// kubelet. Less than half of `sys::DEADLINE`.
const HOUSEKEEPING: Duration = Duration::from_secs(20);

/// Looks at the host, repairs it unless this is a dry run, and says what was found and done.
pub fn run(options: &Options) -> Report {
    let report = Report::new(options);
    let root = match &options.root {
        None => Root::live(),
        Some(dir) => match Root::captured(dir) {
            Ok(root) => root,
            Err(error) => return report.unknown(error.to_string()),
        },
    };
    let root = if options.capture.is_some() {
        root.recording()
    } else {
        root
    };
    let mut report = examine(&root, options, report);
    if let (Some(file), Some(record)) = (&options.capture, root.record()) {
        let written = repair::capture::write(file, &record, &options.args());
        report.capture_error = written.err().map(|error| error.to_string());
    }
    report
}

fn examine(root: &Root, options: &Options, mut report: Report) -> Report {
    sys::doing("reading the kubelet's settings");
    let configured = kubelet::read(root);
    report.configured(&configured);
    let snap = report
        .active
        .as_ref()
        .map(|active| (active.revision.clone(), active.version));
    if options.occasion == Occasion::Boot && !options.dry_run {
        sys::doing("writing the boot marker");
        let failed = note_boot(root, &snap).err();
        report.unnoted.extend(
            failed.map(|error| format!("The next boot will not know how this one ended: {error}.")),
        );
    }
    if let Some((revision, version)) = &snap {
        if let Some(error) = remember(root, revision, *version, options).err() {
            report.unnoted.push(format!(
                "The next boot will not know the kubelet's version: {error}."
            ));
        }
        report.disabled = match service::observe(root, revision) {
            Ok(service) => restraint(service, options.occasion),
            Err(error) => return report.unknown(error.to_string()),
        };
        if report.disabled.is_some() && !options.dry_run {
            return report;
        }
    }
    let settings = match configured {
        Configured::Inactive(_) if !options.dry_run => return report,
        Configured::Inactive(_) => Settings::default(),
        Configured::Active { settings, .. } => match *settings {
            Ok(settings) => settings,
            Err(error) => return report.found(vec![diagnosis::settings_unreadable(&error)]),
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

/// Notes that this boot ends through one of systemd's shutdown targets.
///
/// # Errors
/// When the marker cannot be written; the next boot will then take this one's end for unclean.
pub fn shutdown() -> Result<Exit, RepairError> {
    let root = Root::live();
    sys::doing("writing the boot marker");
    repair::marker::end(&boot::observe(&root, &kernel::observe(&root))).map(|()| Exit::Fine)
}

fn note_boot(root: &Root, snap: &Snap) -> Result<(), RepairError> {
    let kernel = kernel::observe(root);
    let now = boot::observe(root, &kernel);
    let (revision, version) = snap.clone().unzip();
    let marker = Marker::at_boot(
        now.last_marker.as_ref(),
        &now,
        &kernel.release,
        revision,
        version.flatten(),
    );
    repair::marker::write(&marker)
}

/// Where the snap is mounted for certain, and where the marker is written.
fn remember(
    root: &Root,
    revision: &str,
    version: Option<Version>,
    options: &Options,
) -> Result<(), RepairError> {
    match (options.occasion, version) {
        (Occasion::PreStart | Occasion::Boot, Some(version)) if !options.dry_run => {
            repair::marker::remember(root, revision, version)
        }
        _ => Ok(()),
    }
}

/// What stays the same from the first look to the last.
struct Run<'a> {
    root: &'a Root,
    settings: Settings,
    snap: Snap,
    options: &'a Options,
}

impl Run<'_> {
    fn examine(&self, report: Report) -> Result<Report, ReadError> {
        let (host, findings) = self.look(Vec::new(), &[])?;
        let mut report = report.examined(&self.settings, host).found(findings);
        let planned = plan::plan(&report.findings);
        if planned.is_empty() || report.inactive.is_some() || report.disabled.is_some() {
            return Ok(report);
        }
        if self.options.dry_run {
            report.steps = planned.into_iter().map(would).collect();
            return Ok(report);
        }
        self.mend(report)
    }

    /// Repairs and looks again, until nothing is left to do or nothing more can be done. A unit is
    /// restarted between two repairs, with nothing locked: its own pre-start repairs, too.
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
            let restarts = self.mend_tree(&mut report, until)?;
            drop(lock);
            let restarted: Vec<_> = restarts.into_iter().map(repair::restart).collect();
            // What failed now fails again, and the service's next start comes in seconds.
            let in_vain = restarted.iter().all(|taken| taken.result.is_err());
            report.steps.extend(restarted);
            if in_vain {
                break;
            }
        }
        Ok(report)
    }

    /// The restarts without which no more can be done.
    fn mend_tree(
        &self,
        report: &mut Report,
        until: Instant,
    ) -> Result<Vec<plan::Planned>, ReadError> {
        let mut refusals = Vec::new();
        let mut in_vain = Vec::new();
        for _ in 0..ROUNDS {
            let (host, findings) = self.look(refusals, &report.steps)?;
            report.remaining = findings;
            let (restarts, planned): (Vec<_>, Vec<_>) = plan::plan(&report.remaining)
                .into_iter()
                .partition(|planned| matches!(planned.step, Step::Restart { .. }));
            if !restarts.is_empty() || planned.is_empty() || planned == in_vain {
                return Ok(restarts);
            }
            let taken = repair::apply(self.root, &host, planned.clone(), until);
            refusals = lasting_refusals(&taken);
            let is_stuck = refusals.is_empty() && taken.iter().all(|taken| is_final(&taken.result));
            in_vain = if is_stuck { planned } else { Vec::new() };
            if !report.steps.iter().any(Taken::is_done) && taken.iter().any(Taken::is_done) {
                self.count(report);
            }
            report.steps.extend(taken);
        }
        Ok(Vec::new())
    }

    fn count(&self, report: &mut Report) {
        match repair::tally::add(self.root) {
            Ok(repairs) => report.repairs = Some(repairs),
            Err(error) => report
                .unnoted
                .push(format!("This repair is not counted: {error}.")),
        }
    }

    /// Looks, knowing what the kernel refused in the last round, and what came of all steps so far.
    fn look(
        &self,
        refusals: Vec<Refusal>,
        steps: &[Taken],
    ) -> Result<(Host, Vec<Finding>), ReadError> {
        let terms = Terms {
            occasion: self.options.occasion,
            no_restart: self.options.no_restart,
        };
        sys::doing("examining the host");
        let mut host = host::observe(self.root, &self.settings, &self.snap)?;
        let refused = !refusals.is_empty();
        if let Some(tree) = &mut host.tree {
            tree.refusals = refusals;
            tree.unmade = unmade(steps);
            let may_matter = tree.lacks("cpu", &self.settings.layout());
            tree.leave_cpu =
                may_matter && terms.leaves_cpu(|| host.kernel.has_rt_group_sched(self.root));
        }
        if let Some(v1) = &mut host.v1 {
            v1.unmade = unmade(steps);
        }
        let findings = diagnosis::diagnose(&self.settings, &host, terms);
        // What is left to the kubelet's own start may be refused to it then.
        let leaves_cpu = terms.occasion == Occasion::ByHand
            && host.tree.as_ref().is_some_and(|tree| tree.leave_cpu);
        let foretell = (self.options.dry_run || leaves_cpu)
            && findings
                .iter()
                .any(|finding| !finding.controllers.is_empty());
        if !(refused || foretell) {
            return Ok((host, findings));
        }
        sys::doing("looking for the tasks that block a controller");
        let blockers = host::observe_blockers(self.root, &host.kernel)?;
        if let Some(tree) = &mut host.tree {
            tree.blockers = Some(blockers);
        }
        let findings = diagnosis::diagnose(&self.settings, &host, terms);
        Ok((host, findings))
    }
}

/// A controller that is not there (ENOENT) was taken away by systemd a moment ago: that is tried
/// again.
fn lasting_refusals(taken: &[Taken]) -> Vec<Refusal> {
    let refused = taken.iter().filter_map(|taken| match &taken.result {
        Err(RepairError::Refused { refusals, .. }) => Some(refusals),
        _ => None,
    });
    refused
        .flatten()
        .filter(|refusal| refusal.errno != Errno::ENOENT)
        .cloned()
        .collect()
}

/// A slice that systemd did not make is asked for once in a run.
fn unmade(steps: &[Taken]) -> Vec<Unmade> {
    let failed = steps
        .iter()
        .filter_map(|taken| match (&taken.step, &taken.result) {
            (Step::AskForSlice { slice, .. }, Err(error)) => {
                Some((slice.clone(), error.to_string()))
            }
            _ => None,
        });
    failed.collect()
}

/// Trying again would come to the same.
fn is_final(result: &Result<Effect, RepairError>) -> bool {
    matches!(
        result,
        Ok(Effect::Nothing | Effect::Skipped) | Err(RepairError::Change { .. })
    )
}

fn would(planned: plan::Planned) -> Taken {
    Taken {
        step: planned.step,
        faults: planned.faults,
        result: Ok(Effect::Would),
    }
}
