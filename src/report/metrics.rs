//! Metrics in Prometheus' text format, for node_exporter's textfile collector. Names and labels
//! never change, because alerts rely on them.

use std::collections::BTreeMap;
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

/// The content of the textfile.
pub fn render(report: &Report, timing: Timing) -> String {
    let mut file = File::default();
    let ended = timing.ended.as_secs_f64().floor();
    let help = "Unix time at which the last run ended.";
    file.gauge("last_run_timestamp_seconds", help, single(ended));
    let help = "Duration of the last run.";
    let took = single(timing.took.as_secs_f64());
    file.gauge("last_run_duration_seconds", help, took);
    let present = report.outcome();
    let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), outcome == present));
    let help = "Outcome of the last run: 1 for this outcome, 0 for the others.";
    file.gauge("last_run_outcome", help, one_of("outcome", outcomes));
    let help = "1 if the last run was a dry run, which changes nothing.";
    file.gauge("last_run_dry", help, single(report.dry_run.into()));
    let help = "Faults that the last run found and did not repair, by fault and severity.";
    file.gauge("findings", help, findings(report));
    if let Some(repairs) = report.repairs {
        let help = "Runs that repaired something since the boot. One after each boot is normal.";
        let repairs = f64::from(u32::try_from(repairs).unwrap_or(u32::MAX));
        file.family("repairs_total", "counter", help, single(repairs));
    }
    if let Some(previous) = report.previous_shutdown() {
        let ends = [Shutdown::Clean, Shutdown::Unclean, Shutdown::Unknown];
        let ends = ends.map(|end| (end.to_string(), end == previous));
        let help = "How the previous boot ended: 1 for this end, 0 for the others.";
        file.gauge("previous_shutdown", help, one_of("end", ends));
    }
    let help = "Versions and settings that the last run found, as labels. Always 1.";
    file.gauge("info", help, vec![(info(report), 1.0)]);
    file.text
}

#[derive(Default)]
struct File {
    text: String,
}

/// Labels as they are written, and a value.
type Sample = (String, f64);

impl File {
    fn gauge(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        self.family(name, "gauge", help, samples);
    }

    /// A metric with its samples; nothing where there is none.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let name = format!("kubepods_repair_{name}");
        self.text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            self.text += &format!("{name}{labels} {value}\n");
        }
    }
}

fn single(value: f64) -> Vec<Sample> {
    vec![(String::new(), value)]
}

/// A sample for each state, so that none ever vanishes: 1 for the present one, else 0.
fn one_of<const N: usize>(label: &str, states: [(impl AsRef<str>, bool); N]) -> Vec<Sample> {
    let sample = |(name, is): (_, bool)| (labels(&[(label, AsRef::as_ref(&name))]), is.into());
    states.into_iter().map(sample).collect()
}

/// Only of what was found: zeros of all others would be a hundred samples a host.
fn findings(report: &Report) -> Vec<Sample> {
    let mut numbers = BTreeMap::new();
    for finding in &report.remaining {
        let severity = finding.severity().to_string();
        let series = labels(&[("fault", finding.fault.name), ("severity", &severity)]);
        *numbers.entry(series).or_insert(0.0) += 1.0;
    }
    numbers.into_iter().collect()
}

fn info(report: &Report) -> String {
    let settings = report.settings.as_ref();
    let driver = settings.map(|settings| settings.driver.value.to_string());
    labels(&[
        ("version", env!("CARGO_PKG_VERSION")),
        ("kernel", report.kernel()),
        ("cgroups", report.host.as_ref().map_or("", lines::mode)),
        ("driver", &driver.unwrap_or_default()),
        ("revision", report.revision().unwrap_or_default()),
        ("kubelet", &report.kubelet().unwrap_or_default()),
    ])
}

/// `{name="value",…}`, with the three characters escaped that the format escapes.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut labels = Vec::new();
    for (name, value) in pairs {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        labels.push(format!("{name}=\"{}\"", value.replace('\n', "\\n")));
    }
    format!("{{{}}}", labels.join(","))
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
