//! The kubelet's cgroup driver: containerd has to use the same, or no pod starts; and what the other one left behind.

use std::path::PathBuf;

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Finding, Occasion, Severity, Terms};
use crate::host::OtherTree;
use crate::kubelet::{Driver, Settings};

/// The tree of the driver that the kubelet used before. Its groups are nobody's any more, and what lives in them is beyond
/// the reach of this kubelet.
pub(super) fn left_behind(other: &OtherTree, place: PathBuf, now: Driver, terms: Terms) -> Finding {
    let finding = |severity, evidence: &str, effect, remedy| {
        let evidence = format!("{evidence}, and the kubelet's driver is {now}");
        Finding::new(Fault::DriverChanged, severity, place.clone(), evidence, effect, remedy)
    };
    if other.populated {
        let how = "drain the node and stop its containers (microk8s stop ends them all), or reboot it".to_owned();
        let effect = "the kubelet starts and does not see these processes: pods may run twice, and beyond their limits";
        let evidence = "processes live in the tree of the other driver";
        return finding(Severity::Degraded, evidence, effect, Remedy::Tell(how));
    }
    let remedy = match terms.occasion == Occasion::PreStart && !other.kubelet_runs {
        true => Remedy::Steps(vec![Step::RemoveTree(other.kubepods.clone())]),
        false => Remedy::Tell("nothing to do: the next start of the kubelet's service removes it".to_owned()),
    };
    let effect = "nothing: no kubelet looks there";
    finding(Severity::Notice, "the empty tree of the other driver is there", effect, remedy)
}

pub(super) fn diagnose(settings: &Settings) -> Option<Finding> {
    let containerd = settings.containerd.as_ref().filter(|containerd| containerd.driver != settings.driver.value)?;
    let (kubelet, origin) = (settings.driver.value, &settings.driver.origin);
    let unless = "; a containerd 2, where somebody has put one in, tells a kubelet from 1.31 on what counts";
    let unless = if containerd.is_second { "" } else { unless };
    let evidence = format!("containerd is told {}, and the kubelet {kubelet} ({origin}){unless}", containerd.driver);
    let effect = "the kubelet starts and no pod does: each names the group of a container in a way the other refuses";
    let how = format!(
        "set SystemdCgroup in args/containerd-template.toml to what fits {kubelet}, or change the kubelet's driver"
    );
    let place = containerd.path.clone();
    Some(Finding::new(Fault::DriverMismatch, Severity::Degraded, place, evidence, effect, Remedy::Tell(how)))
}
