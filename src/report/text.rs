//! For a person at a terminal.

use std::fmt::Write;

use super::lines;
use crate::faults::{Finding, Nature, Severity};
use crate::outcome::Outcome;
use crate::repair::Effect;
use crate::verdict::Report;

/// The whole report; one line when there is nothing to say.
pub fn render(report: &Report, colour: bool) -> String {
    if report.outcome() == Outcome::Healthy
        && report.inactive.is_none()
        && let (Some(line), Some(notes)) = (report.healthy(), notes(report))
    {
        let elsewhere = report.elsewhere().map(|line| line + "\n");
        return format!("healthy: {line}\n{notes}{}", elsewhere.unwrap_or_default());
    }
    let is_left_alone = report.inactive.is_some() || report.disabled.is_some();
    if is_left_alone && !report.dry_run || report.unknown.is_some() && report.host.is_none() {
        return format!("{}\n", lines::printable(&report.verdict()));
    }
    let mut out = Out {
        text: String::new(),
        colour,
    };
    out.host(report);
    out.settings(report);
    out.findings(report);
    out.steps(report);
    out.line(&format!("\nVerdict: {}.", report.verdict()));
    if let Some(afterwards) = report.afterwards() {
        out.line(&afterwards);
    }
    out.text
}

/// What was only noticed, a line each; `None` if there is more to say.
fn notes(report: &Report) -> Option<String> {
    let is_note = |finding: &Finding| {
        finding.severity() == Severity::Notice && finding.fault.nature == Nature::Note
    };
    if !report.findings.iter().all(is_note) {
        return None;
    }
    let note = |finding: &Finding| {
        let line = format!(
            "note: {}: {}; {}.",
            finding.fault.name,
            finding.evidence,
            lines::remedy(finding, report)
        );
        lines::printable(&line) + "\n"
    };
    Some(report.findings.iter().map(note).collect())
}

struct Out {
    text: String,
    colour: bool,
}

impl Out {
    /// A newline before it makes a blank line; one within it is somebody else's, and escaped.
    fn line(&mut self, line: &str) {
        let text = line
            .strip_prefix('\n')
            .inspect(|_| self.text.push('\n'))
            .unwrap_or(line);
        self.text.push_str(&lines::printable(text));
        self.text.push('\n');
    }

    fn rows(&mut self, rows: &[(&str, String, String)]) {
        let width = |column: fn(&(&str, String, String)) -> usize| {
            rows.iter().map(column).max().unwrap_or(0)
        };
        let (names, values) = (width(|row| row.0.len()), width(|row| row.1.chars().count()));
        for (name, value, origin) in rows {
            let line = format!("  {name:names$}  {value:values$}  {origin}");
            self.line(line.trim_end());
        }
    }

    fn host(&mut self, report: &Report) {
        let Some(host) = &report.host else { return };
        self.line("Host");
        let none = String::new;
        let mut rows = vec![
            ("kernel", host.kernel.release.clone(), none()),
            ("cgroups", lines::mode(host).to_owned(), none()),
        ];
        if let Some(manager) = &host.boot.container {
            rows.push(("container", manager.to_string(), none()));
        }
        match &host.tree {
            Some(tree) => rows.push(("controllers", tree.offered().to_string(), none())),
            None => rows.extend(
                host.mounts
                    .iter()
                    .map(|mount| ("mounted", mount.point.display().to_string(), none())),
            ),
        }
        match (&report.active, &report.inactive) {
            (Some(active), _) => rows.push(("MicroK8s", active.to_string(), none())),
            (None, Some(reason)) => {
                rows.push(("MicroK8s", format!("not active: {reason}"), none()));
            }
            (None, None) => {}
        }
        if let Some(reason) = &report.disabled {
            rows.push((
                "kubelite",
                reason.trim_start_matches("kubelite is ").to_owned(),
                none(),
            ));
        }
        let marker = report.notes.marker.as_ref();
        if let Some(before) = marker.and_then(|marker| marker.kernel_before.clone()) {
            rows.push(("kernel before", before, none()));
        }
        rows.push((
            "previous shutdown",
            report.notes.previous_shutdown().to_string(),
            none(),
        ));
        self.rows(&rows);
    }

    fn settings(&mut self, report: &Report) {
        let Some(settings) = &report.settings else {
            return;
        };
        self.line("\nThe kubelet's settings");
        self.rows(&lines::settings(settings));
    }

    fn findings(&mut self, report: &Report) {
        let is_new = |finding: &&Finding| {
            !report
                .findings
                .iter()
                .any(|first| first.is_same_as(finding))
        };
        let later = report.remaining.iter().filter(is_new);
        let mut all: Vec<&Finding> = report.findings.iter().chain(later).collect();
        all.sort_by_key(|finding| finding.rank());
        if !all.is_empty() {
            self.line("\nFindings");
        }
        for finding in all {
            let remains = report
                .remaining
                .iter()
                .find(|remaining| remaining.is_same_as(finding));
            self.finding(remains.unwrap_or(finding), report);
        }
    }

    fn finding(&mut self, finding: &Finding, report: &Report) {
        let (on, off) = self.paint(finding.severity());
        // Written past `line`, which would escape the colour.
        let _ = write!(self.text, "  {on}{:8}{off}", finding.severity().to_string());
        self.line(&format!("  {}  {}", finding.fault.name, finding.location));
        self.line(&format!("            Found: {}.", finding.evidence));
        self.line(&format!(
            "            Impact: {}.",
            finding.impact.sentence()
        ));
        self.line(&format!(
            "            Fix: {}.",
            lines::remedy(finding, report)
        ));
    }

    fn steps(&mut self, report: &Report) {
        let mount = report.mount();
        let steps: Vec<String> = report
            .steps
            .iter()
            .filter(|taken| taken.result != Ok(Effect::Nothing))
            .map(|taken| lines::step(taken, mount))
            .collect();
        if !steps.is_empty() {
            self.line("\nSteps");
        }
        for (index, step) in steps.iter().enumerate() {
            self.line(&format!("  {}. {step}", index + 1));
        }
    }

    fn paint(&self, severity: Severity) -> (&'static str, &'static str) {
        match (self.colour, severity) {
            (false, _) => ("", ""),
            (true, Severity::Fatal) => ("\x1b[1;31m", "\x1b[0m"),
            (true, Severity::Degraded) => ("\x1b[33m", "\x1b[0m"),
            (true, Severity::Notice) => ("\x1b[36m", "\x1b[0m"),
        }
    }
}
