//! The report for programs. `schema` is raised when a field changes its meaning or is removed. New
//! fields can be added at any time. docs/report.schema.json describes every field.

use std::path::Path;

use serde::Serialize;

use super::lines::{self, Row};
use crate::faults::{Finding, Remedy};
use crate::host::Host;
use crate::plan::Taken;
use crate::repair::Effect;
use crate::verdict::Report;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    dry_run: bool,
    occasion: &'static str,
    outcome: &'static str,
    exit: u8,
    verdict: String,
    repairs_since_boot: Option<u64>,
    microk8s: MicroK8s<'a>,
    host: Option<HostView<'a>>,
    settings: Vec<Row>,
    findings: Vec<FindingView<'a>>,
    steps: Vec<StepView>,
    remaining: Vec<FindingView<'a>>,
}

#[derive(Serialize)]
struct MicroK8s<'a> {
    active: bool,
    reason: Option<&'a str>,
    revision: Option<&'a str>,
    kubelet: Option<String>,
    args_file: Option<String>,
}

#[derive(Serialize)]
struct HostView<'a> {
    kernel: &'a str,
    previous_shutdown: String,
    container: Option<String>,
    cgroups: &'static str,
    mounts: Vec<String>,
    controllers: Vec<String>,
}

#[derive(Serialize)]
struct FindingView<'a> {
    fault: &'static str,
    severity: String,
    place: String,
    evidence: &'a str,
    effect: &'a str,
    remedy: String,
    commands: &'a [String],
    repairable: bool,
    controllers: Vec<&'a str>,
    errno: Option<String>,
}

#[derive(Serialize)]
struct StepView {
    text: String,
    result: &'static str,
    faults: Vec<&'static str>,
}

/// The whole report, indented, with a final newline.
pub fn render(report: &Report) -> String {
    let active = report.active.as_ref();
    let settings = report.settings.as_ref().map(lines::settings);
    let steps = report.steps.iter().map(|taken| step(taken, report.mount()));
    let document = Document {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        dry_run: report.dry_run,
        occasion: report.occasion.as_str(),
        outcome: report.outcome().name(),
        exit: report.exit() as u8,
        verdict: report.verdict().to_string(),
        repairs_since_boot: report.repairs,
        microk8s: MicroK8s {
            active: active.is_some(),
            reason: report.inactive.as_deref().or(report.disabled.as_deref()),
            revision: report.revision(),
            kubelet: report.kubelet(),
            args_file: active.map(|active| shown(&active.args_file)),
        },
        host: report.host.as_ref().map(|host| host_view(report, host)),
        settings: settings.unwrap_or_default(),
        findings: findings(report, &report.findings),
        steps: steps.collect(),
        remaining: findings(report, &report.remaining),
    };
    // Every value can be represented in JSON, so this cannot fail.
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    escaped(&text) + "\n"
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn host_view<'a>(report: &Report, host: &'a Host) -> HostView<'a> {
    let mounts = host.mounts.iter().map(|mount| shown(&mount.point));
    let mut controllers = Vec::new();
    if let Some(tree) = &host.tree {
        controllers.extend(tree.offered().iter().map(str::to_owned));
    }
    HostView {
        kernel: &host.kernel.release,
        previous_shutdown: report.previous_shutdown().unwrap_or_default().to_string(),
        container: host.boot.container.as_ref().map(ToString::to_string),
        cgroups: lines::mode(host),
        mounts: mounts.collect(),
        controllers,
    }
}

fn findings<'a>(report: &Report, findings: &'a [Finding]) -> Vec<FindingView<'a>> {
    let views = findings.iter().map(|one| finding(report, one));
    views.collect()
}

/// Escapes the characters that can deceive the reader of a terminal. JSON itself allows them.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && lines::is_deceptive(c) {
            escaped += &format!("\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn finding<'a>(report: &Report, finding: &'a Finding) -> FindingView<'a> {
    FindingView {
        fault: finding.fault.name,
        severity: finding.severity().to_string(),
        place: finding.location.to_string(),
        evidence: &finding.evidence,
        effect: finding.impact.sentence(),
        remedy: lines::remedy(finding, report),
        commands: finding.commands(),
        repairable: matches!(finding.remedy, Remedy::Steps(_)),
        controllers: finding.controllers.iter().collect(),
        errno: finding.errno.map(|errno| format!("{errno:?}")),
    }
}

fn step(taken: &Taken, mount: &Path) -> StepView {
    let result = match &taken.result {
        Ok(Effect::Would) => "would",
        Ok(Effect::Done(_)) => "done",
        Ok(Effect::Nothing) => "nothing",
        Ok(Effect::Skipped) => "skipped",
        Err(_) => "failed",
    };
    StepView {
        text: lines::step(taken, mount),
        result,
        faults: taken.faults.iter().map(|fault| fault.name).collect(),
    }
}
