//! The kubelet's cgroup driver against containerd's: they have to be the same, or no pod starts.

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::Remedy;
use crate::diagnosis::{Finding, Severity};
use crate::kubelet::Settings;

pub(super) fn diagnose(settings: &Settings) -> Option<Finding> {
    let containerd = settings.containerd.as_ref().filter(|containerd| containerd.driver != settings.driver.value)?;
    let (kubelet, origin) = (settings.driver.value, &settings.driver.origin);
    let evidence = format!("containerd is told {}, and the kubelet {kubelet} ({origin})", containerd.driver);
    let effect = "the kubelet starts and no pod does: each names the group of a container in a way the other refuses";
    let how = format!(
        "set SystemdCgroup in args/containerd-template.toml to what fits {kubelet}, or change the kubelet's driver"
    );
    let place = containerd.path.clone();
    Some(Finding::new(Fault::DriverMismatch, Severity::Degraded, place, evidence, effect, Remedy::Tell(how)))
}
