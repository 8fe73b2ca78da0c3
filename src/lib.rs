//! kubepods-repair: a check and repair of the cgroup tree that MicroK8s' kubelet needs, in the spirit of fsck.
//!
//! Settings and host become findings, findings a plan, the plan a repair; then everything is looked at again, and the
//! second look gives the verdict.

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cgroup;
pub mod cli;
pub mod diagnosis;
pub mod host;
pub mod kubelet;
pub mod plan;
pub mod repair;
pub mod report;
pub mod sys;

use cli::Options;
use diagnosis::Finding;
use diagnosis::remedy::Remedy;
use host::root::{ReadError, Root};
use host::{Host, Refusal};
use kubelet::{Configured, Settings};
use nix::errno::Errno;
use repair::lock::Lock;
use repair::{Effect, RepairError, Taken};
use report::Report;

/// While systemd realises units it may take away what was just switched on; so often the tree is looked at again.
const ROUNDS: usize = 8;

/// Looks at the host, repairs it unless this is a dry run, and says what was found and done.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new(options);
    let root = match &options.root {
        None => Root::live(),
        Some(dir) => match Root::captured(dir) {
            Ok(root) => root,
            Err(error) => return report.unknown(error.to_string()),
        },
    };
    let configured = kubelet::read(&root);
    report.configured(&configured);
    let settings = match configured {
        Configured::Inactive(_) if !options.dry_run => return report,
        Configured::Inactive(_) => Settings::default(),
        Configured::Active { settings, .. } => match *settings {
            Ok(settings) => settings,
            Err(error) => return report.found(vec![diagnosis::settings_unreadable(&error)]),
        },
    };
    match examine(&root, &settings, options, report.clone()) {
        Ok(report) => report,
        Err(error) => report.unknown(error.to_string()),
    }
}

fn examine(root: &Root, settings: &Settings, options: &Options, report: Report) -> Result<Report, ReadError> {
    let (host, findings) = look(root, settings, options, Vec::new())?;
    let mut report = report.examined(settings, host).found(findings);
    let planned = plan::plan(&report.findings);
    if planned.is_empty() || report.inactive.is_some() {
        return Ok(report);
    }
    if options.dry_run {
        report.steps = planned.into_iter().map(would).collect();
        return Ok(report);
    }
    let lock = match Lock::take() {
        Ok(lock) => lock,
        Err(error) => return Ok(report.unknown(format!("{error}; nothing has been changed"))),
    };
    report = mend(root, settings, options, report)?;
    drop(lock);
    Ok(report)
}

/// Repairs and looks again, until nothing is left to do or nothing more can be done.
fn mend(root: &Root, settings: &Settings, options: &Options, mut report: Report) -> Result<Report, ReadError> {
    let mut refusals = Vec::new();
    for _ in 0..ROUNDS {
        let (host, findings) = look(root, settings, options, refusals.clone())?;
        report = report.remaining(findings);
        let planned = plan::plan(&report.remaining);
        let Some(tree) = host.tree.as_ref().filter(|_| !planned.is_empty()) else { break };
        let taken = repair::apply(root, tree, planned);
        refusals = lasting_refusals(&taken);
        report.steps.extend(taken);
    }
    Ok(report)
}

fn look(
    root: &Root,
    settings: &Settings,
    options: &Options,
    refusals: Vec<Refusal>,
) -> Result<(Host, Vec<Finding>), ReadError> {
    let mut host = host::observe(root, settings)?;
    let refused = !refusals.is_empty();
    if let Some(tree) = &mut host.tree {
        tree.refusals = refusals;
    }
    let findings = diagnosis::diagnose(settings, &host, options.occasion);
    let foretell = options.dry_run && findings.iter().any(|finding| !finding.controllers.is_empty());
    if !(refused || foretell) {
        return Ok((host, findings));
    }
    let blockers = host::observe_blockers(root, &host.kernel)?;
    if let Some(tree) = &mut host.tree {
        tree.blockers = Some(blockers);
    }
    let findings = diagnosis::diagnose(settings, &host, options.occasion);
    Ok((host, findings))
}

/// A controller that is not there (ENOENT) was taken away by systemd a moment ago: that is tried again.
fn lasting_refusals(taken: &[Taken]) -> Vec<Refusal> {
    let refused = taken.iter().filter_map(|taken| match &taken.result {
        Err(RepairError::Refused { refusals, .. }) => Some(refusals),
        _ => None,
    });
    refused.flatten().filter(|refusal| refusal.errno != Errno::ENOENT).cloned().collect()
}

fn would(planned: plan::Planned) -> Taken {
    Taken { step: planned.step, faults: planned.faults, result: Ok(Effect::Would) }
}

/// Whether anything in `findings` still waits for a step of ours.
fn is_unfinished(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| matches!(finding.remedy, Remedy::Steps(_)))
}
