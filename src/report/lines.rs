//! The words for steps, findings and the host, which all forms of the report share.

use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::faults::Finding;
use crate::faults::Remedy;
use crate::host::Host;
use crate::host::mounts::Mode;
use crate::kubelet::{Settings, Sourced};
use crate::plan::Taken;
use crate::repair::Effect;
use crate::repair::step::StepWords;
use crate::verdict::Report;

/// A step in words: `made …`, `would make …`, `could not make …`.
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
        Ok(Effect::Skipped) => format!("did not {plain} {object} after the failure before"),
        Err(error) => format!("could not {plain} {object}: {error}"),
    }
}

/// What was done about a finding, would be, or is left to the reader.
pub(super) fn remedy(finding: &Finding, report: &Report) -> String {
    let remains = || {
        report
            .remaining
            .iter()
            .any(|remaining| remaining.is_same_as(finding))
    };
    match &finding.remedy {
        Remedy::Steps(_) if report.inactive.is_some() => {
            "nothing is done: see the verdict".to_owned()
        }
        Remedy::Steps(_) if report.disabled.is_some() => {
            "kubelite's pre-start would repair it".to_owned()
        }
        Remedy::Steps(_) if report.dry_run => "kubepods-repair would repair it".to_owned(),
        _ if !remains() => "repaired".to_owned(),
        Remedy::Steps(_) => "not repaired, see the steps".to_owned(),
        Remedy::Tell(how) => how.clone(),
        Remedy::Waits(fault) => format!("blocked by {}", fault.name),
    }
}

/// The settings with their origins and what was overruled: name, value, origin.
pub(super) fn settings(settings: &Settings) -> Vec<(&'static str, String, String)> {
    let group =
        |path: &Option<CgroupPath>| path.as_ref().map_or("none".to_owned(), ToString::to_string);
    let list = |words: &Vec<String>| {
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(",")
        }
    };
    let mut rows = vec![
        setting(
            "cgroups-per-qos",
            &settings.cgroups_per_qos,
            bool::to_string,
        ),
        setting("cgroup-driver", &settings.driver, ToString::to_string),
        setting("cgroup-root", &settings.cgroup_root, ToString::to_string),
        setting("enforce-node-allocatable", &settings.enforced, list),
        setting("kube-reserved-cgroup", &settings.kube_reserved, group),
        setting("system-reserved-cgroup", &settings.system_reserved, group),
        setting("root-dir", &settings.root_dir, |path| {
            path.display().to_string()
        }),
    ];
    if settings.fail_cgroup_v1.value.is_some() {
        let told = |value: &Option<bool>| value.unwrap_or_default().to_string();
        rows.push(setting("fail-cgroupv1", &settings.fail_cgroup_v1, told));
    }
    rows
}

fn setting<T>(
    name: &'static str,
    setting: &Sourced<T>,
    show: impl Fn(&T) -> String,
) -> (&'static str, String, String) {
    let before = std::iter::successors(setting.overruled.as_deref(), |before| {
        before.overruled.as_deref()
    });
    let overruled: String = before
        .map(|before| format!(", over {} of {}", show(&before.value), before.origin))
        .collect();
    (
        name,
        show(&setting.value),
        format!("{}{overruled}", setting.origin),
    )
}

/// The layout of the hierarchies, in a word.
pub(super) fn mode(host: &Host) -> &'static str {
    match host.mode {
        Mode::Unified(_) => "v2",
        Mode::Hybrid => "hybrid",
        Mode::Legacy => "v1",
        Mode::Unmounted => "none",
    }
}

/// What lies to the reader of a terminal: control characters, and those that have no width or turn
/// the direction of writing. A process or a cgroup may have them in its name.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{2069}').contains(&c)
        || c == '\u{feff}'
}

/// With escapes for all that is deceptive.
pub(super) fn printable(text: &str) -> String {
    if !text.chars().any(is_deceptive) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            if is_deceptive(c) {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// Breaks a paragraph into lines of at most 80 characters.
pub(super) fn fill(paragraph: &str) -> String {
    crate::cli::fill(paragraph, 80)
}
