//! For a person at a terminal.

use std::fmt::Display;

use super::lines::{self, Row};
use crate::faults::{Finding, Nature, Severity};
use crate::outcome::Outcome;
use crate::repair::Effect;
use crate::verdict::Report;

/// The whole report; one line when there is nothing to say.
pub fn render(report: &Report, colour: bool) -> String {
    if report.outcome() == Outcome::Healthy
        && let (Some(line), Some(notes)) = (report.healthy(), notes(report))
    {
        let elsewhere = report.elsewhere().map(|line| line + "\n");
        return format!("healthy: {line}\n{notes}{}", elsewhere.unwrap_or_default());
    }
    let is_left_alone = report.inactive.is_some() || report.disabled.is_some();
    if is_left_alone && !report.dry_run || report.unknown.is_some() && report.host.is_none() {
        return format!("{}\n", lines::printable(&report.verdict()));
    }
    let text = String::new();
    let mut out = Out { text, colour };
    out.host(report);
    out.settings(report);
    out.findings(report);
    out.steps(report);
    out.heading(&format!("Verdict: {}.", report.verdict()));
    if let Some(afterwards) = report.afterwards() {
        out.line(&afterwards);
    }
    out.text
}

/// What was only noticed, a line each; `None` if there is more to say.
fn notes(report: &Report) -> Option<String> {
    let mut notes = String::new();
    for finding in &report.findings {
        if finding.severity() != Severity::Notice || finding.fault.nature != Nature::Note {
            return None;
        }
        let (name, evidence) = (finding.fault.name, &finding.evidence);
        let remedy = lines::remedy(finding, report);
        let line = format!("note: {name}: {evidence}; {remedy}.");
        notes += &(lines::printable(&line) + "\n");
    }
    Some(notes)
}

struct Out {
    text: String,
    colour: bool,
}

impl Out {
    /// A line, with control characters in it escaped: they come from names on the host.
    fn line(&mut self, line: &str) {
        self.text += &lines::printable(line);
        self.text.push('\n');
    }

    /// A line after a blank one.
    fn heading(&mut self, line: &str) {
        self.text.push('\n');
        self.line(line);
    }

    fn rows(&mut self, rows: &[Row]) {
        let width = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or(0);
        let names = width(|row| row.name.len());
        let values = width(|row| row.value.chars().count());
        for row in rows {
            let (name, value) = (row.name, &row.value);
            let line = format!("  {name:names$}  {value:values$}  {}", row.origin);
            self.line(line.trim_end());
        }
    }

    fn host(&mut self, report: &Report) {
        let Some(host) = &report.host else { return };
        self.line("Host");
        let mut rows = Vec::new();
        let mut row = |name, value: &dyn Display| rows.push(Row::new(name, value.to_string()));
        row("kernel", &host.kernel.release);
        row("cgroups", &lines::mode(host));
        if let Some(manager) = &host.boot.container {
            row("container", manager);
        }
        if let Some(tree) = &host.tree {
            row("controllers", &tree.offered());
        } else {
            for mount in &host.mounts {
                row("mounted", &mount.point.display());
            }
        }
        if let Some(active) = &report.active {
            row("MicroK8s", active);
        } else if let Some(reason) = &report.inactive {
            row("MicroK8s", &format!("not active: {reason}"));
        }
        if let Some(reason) = &report.disabled {
            row("kubelite", &reason.trim_start_matches("kubelite is "));
        }
        let marker = report.notes.marker.as_ref();
        if let Some(before) = marker.and_then(|marker| marker.kernel_before.as_ref()) {
            row("kernel before", before);
        }
        row("previous shutdown", &report.notes.previous_shutdown());
        self.rows(&rows);
    }

    fn settings(&mut self, report: &Report) {
        if let Some(settings) = &report.settings {
            self.heading("The kubelet's settings");
            self.rows(&lines::settings(settings));
        }
    }

    fn findings(&mut self, report: &Report) {
        let mut all: Vec<&Finding> = report.findings.iter().collect();
        for finding in &report.remaining {
            let mut first = report.findings.iter();
            if !first.any(|first| first.is_same_as(finding)) {
                all.push(finding);
            }
        }
        all.sort_by_key(|finding| finding.rank());
        if !all.is_empty() {
            self.heading("Findings");
        }
        for finding in all {
            self.finding(report.remains(finding).unwrap_or(finding), report);
        }
    }

    fn finding(&mut self, finding: &Finding, report: &Report) {
        let (on, off) = self.paint(finding.severity());
        let severity = finding.severity().to_string();
        // Written past `line`, which would escape the colour.
        self.text += &format!("  {on}{severity:8}{off}");
        self.line(&format!("  {}  {}", finding.fault.name, finding.location));
        let (impact, fix) = (finding.impact.sentence(), lines::remedy(finding, report));
        self.line(&format!("            Found: {}.", finding.evidence));
        self.line(&format!("            Impact: {impact}."));
        self.line(&format!("            Fix: {fix}."));
    }

    fn steps(&mut self, report: &Report) {
        let steps = report.steps.iter();
        let steps = steps.filter(|taken| taken.result != Ok(Effect::Nothing));
        for (index, taken) in steps.enumerate() {
            if index == 0 {
                self.heading("Steps");
            }
            let step = lines::step(taken, report.mount());
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
