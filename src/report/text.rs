//! The report for a person at a terminal, who asks whether the kubelet will start and what to do if
//! not. So the verdict comes first, then each finding with its fix, the picture, the steps, and at
//! the end the notices.

use std::fmt::Display;

use super::lines::{self, Row};
pub use super::page::View;
use super::page::{Page, Paint};
use super::picture;
use crate::faults::{Advice, Fault, Finding, Nature, Occasion, Remedy, Severity, joined};
use crate::kubelet::Settings;
use crate::outcome::Outcome;
use crate::plan::Taken;
use crate::repair::Effect;
use crate::verdict::Report;

/// The whole report; a few lines if the host is healthy.
pub fn render(report: &Report, view: View) -> String {
    let mut text = Text {
        page: Page::new(view),
        report,
        shown: shown(report),
    };
    text.verdict();
    if report.is_left_alone() && !report.dry_run
        || report.unknown.is_some() && report.host.is_none()
    {
        text.next();
        return text.page.text;
    }
    let (blocks, brief) = text.findings();
    for finding in blocks {
        text.finding(finding);
    }
    text.waiting(&brief);
    text.picture();
    text.steps();
    text.noticed(&brief);
    text.next();
    text.node();
    text.page.text
}

/// All findings of the first and the last look, each in its last state: the worst first, and fatal
/// ones that are left to the reader before those that this program repairs.
fn shown(report: &Report) -> Vec<&Finding> {
    let mut all: Vec<&Finding> = report.findings.iter().collect();
    for finding in &report.remaining {
        if !all.iter().any(|first| first.is_same_as(finding)) {
            all.push(finding);
        }
    }
    all.sort_by_key(|finding| {
        let is_ours = finding.is_fatal() && !finding.is_beyond_repair();
        (finding.rank(), is_ours)
    });
    let last = all.into_iter();
    last.map(|finding| report.remains(finding).unwrap_or(finding))
        .collect()
}

struct Text<'a> {
    page: Page,
    report: &'a Report,
    shown: Vec<&'a Finding>,
}

impl<'a> Text<'a> {
    /// The first line.
    fn verdict(&mut self) {
        let report = self.report;
        let outcome = report.outcome();
        let is_listed = !self.shown.is_empty();
        let verdict = report.verdict();
        let sentence = if is_listed {
            verdict.sentence
        } else {
            verdict.to_string()
        };
        let is_fine = outcome == Outcome::Healthy && self.has_only_notices();
        let sentence = match outcome {
            Outcome::Healthy if is_fine => format!("healthy: {sentence}."),
            Outcome::Repaired => format!("repaired: {sentence}."),
            _ => capitalized(&sentence) + ".",
        };
        let (mark, paint) = match outcome {
            Outcome::Healthy if !is_fine => ("! ", Paint::Yellow),
            Outcome::Healthy | Outcome::Repaired => ("✓ ", Paint::Green),
            Outcome::Broken | Outcome::Unknown => ("✗ ", Paint::Red),
            Outcome::WouldRepair if report.was_fatal() => ("✗ ", Paint::Red),
            Outcome::WouldRepair => ("✓ ", Paint::Green),
            Outcome::Inactive => ("- ", Paint::Cyan),
        };
        let mark = if self.page.view.glyphs { mark } else { "" };
        self.page.painted_paragraph(mark, Some(paint), &sentence);
    }

    /// The findings that get a block of their own, and those that are listed in brief.
    fn findings(&self) -> (Vec<&'a Finding>, Vec<&'a Finding>) {
        let is_brief = |finding: &&Finding| {
            finding.severity() == Severity::Notice || matches!(finding.remedy, Remedy::Waits(_))
        };
        let all = self.shown.iter().copied();
        if self.page.view.verbose {
            return (all.collect(), Vec::new());
        }
        let (brief, blocks) = all.partition(is_brief);
        (blocks, brief)
    }

    /// ```text
    /// fatal: root-missing at /sys/fs/cgroup/kubepods
    ///   What was found. What it means for the kubelet.
    ///   Fix: What to do:
    ///     a command
    ///   More: kubepods-repair --explain root-missing
    /// ```
    fn finding(&mut self, finding: &Finding) {
        let page = &mut self.page;
        let remains = self.report.remains(finding).is_some();
        let severity = finding.severity();
        let (head, paint) = if remains {
            (severity.to_string(), severity.into())
        } else {
            (format!("repaired, was {severity}"), Paint::Green)
        };
        let name = finding.fault.name;
        let place = format!("at {}", finding.location);
        page.gap();
        let head = format!("{head}: {name}");
        let painted = page.painted(&head, paint);
        if head.chars().count() + 1 + place.chars().count() <= page.view.width {
            page.line(&format!("{painted} {}", lines::printable(&place)));
        } else {
            page.line(&painted);
            page.paragraph("  ", &place);
        }
        let (evidence, impact) = (&finding.evidence, finding.impact.sentence());
        page.paragraph("  ", &format!("{evidence}. {impact}."));
        let fix = self.fix(finding);
        self.advice("  ", "Fix: ", &fix);
        let more = format!("More: kubepods-repair --explain {name}");
        self.page.paragraph("  ", &more);
    }

    /// What was done about a finding, would be done, or has to be done by the reader.
    fn fix(&self, finding: &Finding) -> Advice {
        match &finding.remedy {
            Remedy::Tell(advice) => advice.clone(),
            Remedy::Waits(_) => lines::remedy(finding, self.report).into(),
            Remedy::Steps(_) => self.fix_by_steps(finding),
        }
    }

    fn fix_by_steps(&self, finding: &Finding) -> Advice {
        let report = self.report;
        let numbers = self.numbers(finding.fault, |_| true);
        if report.is_left_alone() {
            capitalized(&lines::remedy(finding, report)).into()
        } else if report.remains(finding).is_none() {
            format!("Done in {numbers}").into()
        } else if !report.dry_run {
            let failed = self.numbers(finding.fault, |taken| taken.result.is_err());
            if failed.is_empty() {
                "Not done: see the steps below".into()
            } else {
                format!("Failed in {failed} below").into()
            }
        } else if report.occasion == Occasion::ByHand {
            Advice {
                words: format!("Run kubepods-repair as root, which takes {numbers} below"),
                commands: vec!["kubepods-repair".to_owned()],
            }
        } else {
            format!("Automatic, in {numbers} below").into()
        }
    }

    /// The steps of a fault by their numbers in the list: `step 1`, `steps 1 and 3 to 6`.
    fn numbers(&self, fault: &Fault, is_meant: impl Fn(&Taken) -> bool) -> String {
        let mut numbers = Vec::new();
        for (index, taken) in self.steps_taken().enumerate() {
            let is_its_own = taken.faults.iter().any(|known| **known == *fault);
            if is_its_own && is_meant(taken) {
                numbers.push(index + 1);
            }
        }
        match numbers.as_slice() {
            [] => String::new(),
            [only] => format!("step {only}"),
            _ => format!("steps {}", joined(&ranges(&numbers))),
        }
    }

    fn advice(&mut self, indent: &str, label: &str, advice: &Advice) {
        let colon = if advice.commands.is_empty() { "." } else { ":" };
        let text = format!("{label}{}{colon}", advice.words);
        self.page.paragraph(indent, &text);
        for command in &advice.commands {
            self.page.command(indent.len() + 2, command);
        }
    }

    /// The findings that wait until another fault is fixed.
    fn waiting(&mut self, brief: &[&Finding]) {
        let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
        for finding in brief {
            let Remedy::Waits(cause) = finding.remedy else {
                continue;
            };
            let name = finding.fault.name;
            match causes.iter_mut().find(|(known, _)| *known == cause.name) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name),
                None => causes.push((cause.name, vec![name])),
            }
        }
        for (cause, names) in causes {
            self.page.gap();
            let names = names.join(", ");
            let text = format!("Blocked by {cause}, and repaired once it is fixed: {names}.");
            self.page.paragraph("", &text);
        }
    }

    fn picture(&mut self) {
        let report = self.report;
        let host = report.host_after.as_ref().or(report.host.as_ref());
        let (Some(host), Some(settings)) = (host, &report.settings) else {
            return;
        };
        let is_healthy = report.outcome() == Outcome::Healthy;
        let is_wanted = settings.cgroups_per_qos.value && !(is_healthy && self.has_only_notices());
        if is_wanted || self.page.view.verbose {
            picture::draw(&mut self.page, host, &settings.layout(), &report.remaining);
        }
    }

    fn has_only_notices(&self) -> bool {
        let is_notice = |finding: &&Finding| finding.severity() == Severity::Notice;
        self.shown.iter().all(is_notice)
    }

    fn steps_taken(&self) -> impl Iterator<Item = &'a Taken> + use<'a> {
        let steps = self.report.steps.iter();
        steps.filter(|taken| taken.result != Ok(Effect::Nothing))
    }

    fn steps(&mut self) {
        for (index, taken) in self.steps_taken().enumerate() {
            if index == 0 {
                self.heading(if self.report.dry_run {
                    "Would do:"
                } else {
                    "Steps:"
                });
            }
            let step = if taken.result == Ok(Effect::Would) {
                let words = taken.step.words(self.report.mount());
                format!("{} {}", words.plain, words.object)
            } else {
                lines::step(taken, self.report.mount())
            };
            self.page.paragraph(&format!("{:>3}. ", index + 1), &step);
        }
    }

    /// The notices, one paragraph each, with every place to which its words apply. Advice is only
    /// shown if the reader has to act.
    fn noticed(&mut self, brief: &[&Finding]) {
        let mut notices: Vec<Notice> = Vec::new();
        for finding in brief {
            if matches!(finding.remedy, Remedy::Waits(_)) {
                continue;
            }
            let mut text = format!("{}.", finding.evidence);
            if finding.fault.nature == Nature::Fault {
                text += &format!(" {}.", finding.impact.sentence());
            }
            let place = finding.location.to_string();
            let is_same =
                |notice: &&mut Notice| notice.finding.fault == finding.fault && notice.text == text;
            match notices.iter_mut().find(is_same) {
                Some(notice) => notice.places.push(place),
                None => notices.push(Notice {
                    finding,
                    text,
                    places: vec![place],
                }),
            }
        }
        for (index, notice) in notices.iter().enumerate() {
            if index == 0 {
                self.heading("Noticed:");
            }
            let Notice { finding, text, .. } = notice;
            let (name, places) = (finding.fault.name, joined(&notice.places));
            let text = format!("{name} at {places}: {text}");
            self.page.paragraph("  ", &text);
            if let Remedy::Tell(advice) = &finding.remedy
                && !advice.words.is_empty()
            {
                self.advice("    ", "", advice);
            }
        }
    }

    fn next(&mut self) {
        if let Some((words, command)) = self.report.next() {
            let is_brief = self.report.outcome() == Outcome::Healthy && self.shown.is_empty();
            if !is_brief || self.page.view.verbose {
                self.page.gap();
            }
            self.page.paragraph("", &format!("{words}:"));
            self.page.command(2, &command);
        }
    }

    /// The node and its settings, in one line each unless the reader asks for everything.
    fn node(&mut self) {
        let report = self.report;
        if self.page.view.verbose {
            self.all_of_host();
            if let Some(settings) = &report.settings {
                self.heading("The kubelet's settings:");
                self.rows(&lines::settings(settings));
            }
            return;
        }
        let Some(host) = &report.host else { return };
        if report.outcome() == Outcome::Healthy && self.has_only_notices() {
            return;
        }
        let mut words = vec![
            format!("kernel {}", host.kernel.release),
            format!("cgroup {}", lines::mode(host)),
        ];
        if let Some(manager) = &host.boot.container {
            words.push(format!("{manager} container"));
        }
        if let Some(active) = &report.active {
            words.push(format!("MicroK8s {active}"));
        }
        words.push(format!(
            "previous shutdown {}",
            report.previous_shutdown().unwrap_or_default()
        ));
        self.page.gap();
        self.page
            .paragraph("", &format!("Node: {}.", words.join(", ")));
        if let Some(settings) = &report.settings {
            self.page.paragraph("", &changed(settings));
        }
    }

    fn all_of_host(&mut self) {
        let report = self.report;
        let Some(host) = &report.host else { return };
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
        let notes = report.notes.as_ref();
        let marker = notes.and_then(|notes| notes.marker.as_ref());
        if let Some(before) = marker.and_then(|marker| marker.kernel_before.as_ref()) {
            row("kernel before", before);
        }
        row(
            "previous shutdown",
            &report.previous_shutdown().unwrap_or_default(),
        );
        self.heading("Node:");
        self.rows(&rows);
    }

    fn heading(&mut self, heading: &str) {
        self.page.gap();
        self.page.line(heading);
    }

    fn rows(&mut self, rows: &[Row]) {
        let names = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in rows {
            let mut value = row.value.clone();
            if !row.origin.is_empty() {
                value += &format!(" ({})", row.origin);
            }
            self.page
                .paragraph(&format!("  {:names$}  ", row.name), &value);
        }
    }
}

/// The settings that differ from the defaults.
fn changed(settings: &Settings) -> String {
    let mut changed = Vec::new();
    for row in lines::settings(settings) {
        if row.origin != "default" && !lines::is_usual(&row) {
            changed.push(format!("{}={} ({})", row.name, row.value, row.origin));
        }
    }
    if changed.is_empty() {
        "The kubelet's settings for cgroups are the defaults (-v lists them).".to_owned()
    } else {
        let changed = changed.join("; ");
        format!("Settings: {changed}. All others are defaults (-v lists them).")
    }
}

/// A notice, and every place to which its words apply.
struct Notice<'a> {
    finding: &'a Finding,
    text: String,
    places: Vec<String>,
}

/// Ascending numbers, of which three or more in a row become `1 to 3`.
fn ranges(numbers: &[usize]) -> Vec<String> {
    let mut ranges = Vec::new();
    for row in numbers.chunk_by(|one, next| one + 1 == *next) {
        match row {
            [first, _, .., last] => ranges.push(format!("{first} to {last}")),
            _ => ranges.extend(row.iter().map(ToString::to_string)),
        }
    }
    ranges
}

/// Begins with a capital letter, unless the first word is the name of a program or a path.
fn capitalized(sentence: &str) -> String {
    let word = sentence.split(' ').next().unwrap_or_default();
    let is_plain = word.chars().all(|c| c.is_ascii_lowercase()) && word != "kubelite";
    match sentence.get(..1) {
        Some(first) if is_plain => {
            let rest = sentence.get(1..).unwrap_or_default();
            first.to_ascii_uppercase() + rest
        }
        _ => sentence.to_owned(),
    }
}
