//! Native journal entries: one for each change, one for each fault that remains, and one for the
//! run.
//!
//! journald often cannot tell the unit of a process that ends soon after it has logged. The field
//! `OBJECT_SYSTEMD_UNIT`, which root may send, makes `journalctl -u` show the entry anyway
//! (systemd.journal-fields(7)). Alerts can match on the field names, which are plain.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing_subscriber::layer::SubscriberExt;

use super::lines;
use crate::faults::{Finding, Remedy, Severity};
use crate::kubelet::microk8s::MICROK8S;
use crate::outcome::Outcome;
use crate::plan::Taken;
use crate::repair::Effect;
use crate::repair::step::Step;
use crate::verdict::Report;

/// Whether `stream` is the one that systemd connected to the journal: `JOURNAL_STREAM` is its
/// device and inode (systemd.exec(5)).
pub fn is_stream_of(stream: &impl AsFd) -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino).as_str())
}

/// Sends the report to the journal's socket, or, without one, to standard error with a priority
/// before each line, which the journal's stream understands.
pub fn send(report: &Report) {
    let entries = entries(report);
    let Ok(layer) = tracing_journald::layer() else {
        let mut stderr = io::stderr().lock();
        for entry in &entries {
            let (priority, message) = (entry.level as u8, lines::printable(&entry.message));
            // If standard error cannot be written to, nothing is left to report that to.
            let _ = writeln!(stderr, "<{priority}>{message}");
        }
        return;
    };
    let layer = layer
        .with_field_prefix(None)
        .with_syslog_identifier("kubepods-repair".to_owned())
        .with_priority_mappings(tracing_journald::PriorityMappings {
            info: tracing_journald::Priority::Informational,
            ..tracing_journald::PriorityMappings::new()
        });
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        for entry in &entries {
            entry.emit(report);
        }
    });
}

/// syslog(3)'s numbers.
#[derive(Clone, Copy, Default)]
enum Level {
    Error = 3,
    Warning = 4,
    #[default]
    Info = 6,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Fatal => Self::Error,
            Severity::Degraded => Self::Warning,
            Severity::Notice => Self::Info,
        }
    }
}

/// The fields that differ between the entries of one run; one that is `None` is not sent.
#[derive(Default)]
struct JournalEntry {
    level: Level,
    message: String,
    message_id: &'static str,
    fault: Option<&'static str>,
    severity: Option<String>,
    cgroup_path: Option<String>,
    controller: Option<String>,
    errno: Option<i32>,
    outcome: &'static str,
}

fn entries(report: &Report) -> Vec<JournalEntry> {
    let changes = report.steps.iter();
    let changes = changes.filter_map(|taken| change(report, taken));
    let mut entries: Vec<JournalEntry> = changes.collect();
    for finding in &report.remaining {
        // A step that failed has an entry of its own.
        if report.dry_run || !matches!(finding.remedy, Remedy::Steps(_)) {
            entries.push(remaining(report, finding));
        }
    }
    entries.push(summary(report));
    entries
}

fn change(report: &Report, taken: &Taken) -> Option<JournalEntry> {
    let mount = report.mount();
    let fault = taken.faults.first()?;
    let (level, outcome, errno) = match &taken.result {
        Ok(Effect::Nothing | Effect::Would | Effect::Skipped) => return None,
        Ok(Effect::Done(_)) => (Level::Info, "done", None),
        Err(error) => (Level::Warning, "failed", error.errno()),
    };
    let mut message = lines::step(taken, mount);
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Some(JournalEntry {
        level,
        message: format!("{message} ({}).", fault.name),
        message_id: fault.message_id,
        fault: Some(fault.name),
        cgroup_path: Some(taken.step.place(mount)),
        controller: match &taken.step {
            Step::Enable { controllers, .. } => Some(controllers.to_string()),
            _ => None,
        },
        errno: errno.map(|errno| errno as i32),
        outcome,
        ..JournalEntry::default()
    })
}

fn remaining(report: &Report, finding: &Finding) -> JournalEntry {
    let (location, evidence) = (&finding.location, &finding.evidence);
    let (name, impact) = (finding.fault.name, finding.impact.sentence());
    let fix = lines::remedy(finding, report);
    let severity = finding.severity();
    let directory = location.directory();
    let directory = directory.map(|path| path.display().to_string());
    JournalEntry {
        level: Level::from(severity),
        message: format!("{name}: {location}: {evidence}. Impact: {impact}. Fix: {fix}."),
        message_id: finding.fault.message_id,
        fault: Some(name),
        severity: Some(severity.to_string()),
        cgroup_path: Some(directory.unwrap_or(location.to_string())),
        controller: Some(finding.controllers.to_string()).filter(|list| !list.is_empty()),
        errno: finding.errno.map(|errno| errno as i32),
        outcome: "remains",
    }
}

fn summary(report: &Report) -> JournalEntry {
    let outcome = report.outcome();
    let mut message = report.verdict().to_string();
    if outcome == Outcome::Repaired {
        message = format!("{}, {message}", changes(report));
    } else if outcome == Outcome::Healthy && report.findings.is_empty() {
        message = report.healthy().unwrap_or(message);
    }
    let level = match outcome {
        Outcome::Broken | Outcome::Unknown => Level::Error,
        Outcome::Repaired if report.was_fatal() => Level::Warning,
        Outcome::Repaired | Outcome::WouldRepair => Level::Info,
        Outcome::Healthy | Outcome::Inactive => Level::Info,
    };
    JournalEntry {
        level,
        message: format!("{}: {message}.", outcome.name()),
        message_id: outcome.words().message_id,
        outcome: outcome.name(),
        ..JournalEntry::default()
    }
}

fn changes(report: &Report) -> String {
    match report.steps.iter().filter(|taken| taken.is_done()).count() {
        1 => "after 1 change".to_owned(),
        number => format!("after {number} changes"),
    }
}

impl JournalEntry {
    fn emit(&self, report: &Report) {
        /// The level of an event is part of its call site, so there is one for each.
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    tracing::Level::$level,
                    message = lines::printable(&self.message),
                    message_id = self.message_id,
                    object_systemd_unit = MICROK8S.kubelet_unit,
                    fault = self.fault,
                    severity = self.severity,
                    cgroup_path = self.cgroup_path.as_deref().map(lines::printable),
                    controller = self.controller,
                    errno = self.errno,
                    outcome = self.outcome,
                    previous_shutdown = report.previous_shutdown().map(|end| end.to_string()),
                    dry_run = report.dry_run,
                    occasion = report.occasion.as_str(),
                )
            };
        }
        match self.level {
            Level::Error => event!(ERROR),
            Level::Warning => event!(WARN),
            Level::Info => event!(INFO),
        }
    }
}
