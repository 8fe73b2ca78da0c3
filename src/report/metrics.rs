//! For a fleet: metrics in Prometheus' text format, for node_exporter's textfile collector. Names
//! and labels are for ever: alerts go by them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::lines;
use crate::outcome::Outcome;
use crate::state::Shutdown;
use crate::verdict::Report;

/// When a run ended, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Since the Unix epoch.
    pub ended: Duration,
    /// From start to end.
    pub took: Duration,
}

/// The whole file.
pub fn render(report: &Report, timing: Timing) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        if samples.is_empty() {
            return;
        }
        let name = format!("kubepods_repair_{name}");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let ended = "When the last run ended.";
    family(
        "last_run_timestamp_seconds",
        "gauge",
        ended,
        &single(timing.ended.as_secs_f64().floor()),
    );
    let took = "How long the last run took.";
    family(
        "last_run_duration_seconds",
        "gauge",
        took,
        &single(timing.took.as_secs_f64()),
    );
    let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), outcome == report.outcome()));
    family(
        "last_run_outcome",
        "gauge",
        "How the last run ended: 1 for the outcome it had.",
        &one_of("outcome", &outcomes),
    );
    let is_dry = single(f64::from(u8::from(report.dry_run)));
    family(
        "last_run_dry",
        "gauge",
        "Whether the last run only looked and changed nothing.",
        &is_dry,
    );
    let found = "Faults found and not repaired by the last run, by what the kubelet makes of them.";
    family("findings", "gauge", found, &findings(report));
    if let Some(repairs) = report.repairs {
        let help = "Runs that changed something since the boot; the first after each boot is no \
                    sign of harm.";
        let repairs = f64::from(u32::try_from(repairs).unwrap_or(u32::MAX));
        family("repairs_total", "counter", help, &single(repairs));
    }
    if let Some(previous) = report.previous_shutdown() {
        let ends = [Shutdown::Clean, Shutdown::Unclean, Shutdown::Unknown];
        let names = ends.map(|end| (end.to_string(), end == previous));
        let ends: Vec<_> = names
            .iter()
            .map(|(name, is)| (name.as_str(), *is))
            .collect();
        family(
            "previous_shutdown",
            "gauge",
            "How the boot before this one ended.",
            &one_of("end", &ends),
        );
    }
    family(
        "info",
        "gauge",
        "What the last run met; always 1.",
        &[(info(report), 1.0)],
    );
    out
}

fn single(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

/// A sample for each state, so that none ever vanishes: 1 for the present one, else 0.
fn one_of(label: &str, states: &[(&str, bool)]) -> Vec<(String, f64)> {
    states
        .iter()
        .map(|(name, is)| (labels(&[(label, name)]), f64::from(u8::from(*is))))
        .collect()
}

/// Only of what was found: zeros of all others would be a hundred samples a host.
fn findings(report: &Report) -> Vec<(String, f64)> {
    let mut numbers = BTreeMap::new();
    for finding in &report.remaining {
        let severity = finding.severity().to_string();
        let series = labels(&[("fault", finding.fault.name), ("severity", &severity)]);
        *numbers.entry(series).or_insert(0.0) += 1.0;
    }
    numbers.into_iter().collect()
}

fn info(report: &Report) -> String {
    let kubelet = report
        .active
        .as_ref()
        .and_then(|active| active.version)
        .map(|version| version.to_string());
    let driver = report
        .settings
        .as_ref()
        .map(|settings| settings.driver.value.to_string());
    labels(&[
        ("version", env!("CARGO_PKG_VERSION")),
        (
            "kernel",
            report.host.as_ref().map_or("", |host| &host.kernel.release),
        ),
        ("cgroups", report.host.as_ref().map_or("", lines::mode)),
        ("driver", &driver.unwrap_or_default()),
        (
            "revision",
            report.active.as_ref().map_or("", |active| &active.revision),
        ),
        ("kubelet", &kubelet.unwrap_or_default()),
    ])
}

/// `{name="value",…}`, with the three characters escaped that the format escapes.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(
            labels(&[("a", "x\"y\\z\n"), ("b", "")]),
            r#"{a="x\"y\\z\n",b=""}"#
        );
    }
}
