//! The words for steps, findings and the host that all forms of the report share.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::CgroupPath;
use crate::faults::{Advice, Finding, Remedy};
use crate::host::Host;
use crate::host::mounts::Mode;
use crate::kubelet::microk8s::MICROK8S;
use crate::kubelet::{Settings, Sourced};
use crate::plan::Taken;
use crate::repair::Effect;
use crate::repair::step::StepWords;
use crate::verdict::Report;

/// A step in words: `created …`, `would create …`, `could not create …`.
pub(super) fn step(taken: &Taken, mount: &Path) -> String {
    let StepWords {
        done,
        plain,
        object,
    } = taken.step.words(mount);
    match &taken.result {
        Ok(Effect::Would) => format!("would {plain} {object}"),
        Ok(Effect::Done(None)) => format!("{done} {object}"),
        Ok(Effect::Done(Some(details))) => format!("{done} {object}: {details}"),
        Ok(Effect::Nothing) => format!("did not have to {plain} {object}"),
        Ok(Effect::Skipped) if taken.step.is_housekeeping() => {
            format!("had no time left to {plain} {object}")
        }
        Ok(Effect::Skipped) => format!("did not {plain} {object}, because an earlier step failed"),
        Err(error) => format!("could not {plain} {object}: {error}"),
    }
}

/// What was done about a finding, would be done, or has to be done by the reader.
pub(super) fn remedy(finding: &Finding, report: &Report) -> String {
    let words = match &finding.remedy {
        Remedy::Steps(_) if report.inactive.is_some() => "none while MicroK8s is not active",
        Remedy::Steps(_) if report.disabled.is_some() => "automatic at kubelite's next start",
        Remedy::Steps(_) if report.dry_run => "kubepods-repair repairs it",
        _ if report.remains(finding).is_none() => "repaired",
        Remedy::Steps(_) => "not repaired; see the steps",
        Remedy::Tell(advice) if advice.commands.is_empty() => &advice.words,
        Remedy::Tell(Advice { words, commands }) => {
            return format!("{words}: {}", commands.join("; "));
        }
        Remedy::Waits(fault) => return format!("blocked by {}", fault.name),
    };
    words.to_owned()
}

/// A line of a table.
#[derive(Serialize)]
pub(super) struct Row {
    pub name: &'static str,
    pub value: String,
    /// Where the value comes from, and which values it overrides.
    pub origin: String,
}

impl Row {
    pub(super) fn new(name: &'static str, value: String) -> Self {
        let origin = String::new();
        Self {
            name,
            value,
            origin,
        }
    }
}

/// Whether a setting has the value that MicroK8s gives it by default.
pub(super) fn is_usual(row: &Row) -> bool {
    row.name == "root-dir" && row.value == format!("{}/var/lib/kubelet", MICROK8S.common)
}

/// The settings that decide about cgroups.
pub(super) fn settings(settings: &Settings) -> Vec<Row> {
    let none = || "none".to_owned();
    let group = |path: &Option<CgroupPath>| path.as_ref().map_or_else(none, ToString::to_string);
    let list = |words: &Vec<String>| match &words[..] {
        [] => none(),
        words => words.join(","),
    };
    let folder = |path: &PathBuf| path.display().to_string();
    let per_qos = &settings.cgroups_per_qos;
    let mut rows = vec![
        setting("cgroups-per-qos", per_qos, bool::to_string),
        setting("cgroup-driver", &settings.driver, ToString::to_string),
        setting("cgroup-root", &settings.cgroup_root, ToString::to_string),
        setting("enforce-node-allocatable", &settings.enforced, list),
        setting("kube-reserved-cgroup", &settings.kube_reserved, group),
        setting("system-reserved-cgroup", &settings.system_reserved, group),
        setting("root-dir", &settings.root_dir, folder),
    ];
    if settings.fail_cgroup_v1.value.is_some() {
        let show = |value: &Option<bool>| value.unwrap_or_default().to_string();
        rows.push(setting("fail-cgroupv1", &settings.fail_cgroup_v1, show));
    }
    rows
}

fn setting<T>(name: &'static str, setting: &Sourced<T>, show: impl Fn(&T) -> String) -> Row {
    let mut origin = setting.origin.to_string();
    let mut overruled = &setting.overruled;
    while let Some(before) = overruled {
        origin += &format!(", over {} of {}", show(&before.value), before.origin);
        overruled = &before.overruled;
    }
    let row = Row::new(name, show(&setting.value));
    Row { origin, ..row }
}

/// One word for the layout of the hierarchies.
pub(super) fn mode(host: &Host) -> &'static str {
    match host.mode {
        Mode::Unified(_) => "v2",
        Mode::Hybrid => "hybrid",
        Mode::Legacy => "v1",
        Mode::Unmounted => "none",
    }
}

/// Characters that can deceive the reader of a terminal: control characters, and those without a
/// width or that change the direction of writing. Processes and cgroups can have them in their
/// names.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{2069}').contains(&c)
        || c == '\u{feff}'
}

/// `text` with escapes for all characters that [`is_deceptive`] names.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Breaks a paragraph into lines of at most 80 characters.
pub(super) fn fill(paragraph: &str) -> String {
    crate::cli::fill(paragraph, 80)
}
