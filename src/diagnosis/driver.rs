//! The kubelet's cgroup driver: containerd has to use the same, or no pod starts; and what the
//! other one left behind.

use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Finding, Impact, Location, Occasion, Terms};
use crate::host::OtherTree;
use crate::kubelet::{Driver, Settings};

/// The tree of the driver that the kubelet used before. Its groups are nobody's any more, and what
/// lives in them is beyond the reach of this kubelet.
pub(super) fn left_behind(
    other: &OtherTree,
    location: Location,
    now: Driver,
    terms: Terms,
) -> Finding {
    let finding = |impact, evidence: &str, remedy| {
        let evidence = format!("{evidence}, and the kubelet's driver is {now}");
        Finding::new(
            Fault::DriverChanged,
            impact,
            location.clone(),
            evidence,
            remedy,
        )
    };
    if other.populated {
        let how =
            "drain the node and stop its containers (microk8s stop ends them all), or reboot it"
                .to_owned();
        let impact = Impact::degraded(
            "the kubelet starts and does not see these processes: pods may run twice, and beyond \
             their limits",
        );
        return finding(
            impact,
            "processes live in the tree of the other driver",
            Remedy::Tell(how),
        );
    }
    let remedy = if terms.occasion == Occasion::PreStart && !other.kubelet_runs {
        Remedy::Steps(vec![Step::RemoveTree(other.kubepods.clone())])
    } else {
        Remedy::Tell("nothing to do: the next start of the kubelet's service removes it".to_owned())
    };
    finding(
        Impact::notice("no kubelet looks there"),
        "the empty tree of the other driver is there",
        remedy,
    )
}

pub(super) fn diagnose(settings: &Settings) -> Option<Finding> {
    let containerd = settings
        .containerd
        .as_ref()
        .filter(|containerd| containerd.driver != settings.driver.value)?;
    let (kubelet, origin) = (settings.driver.value, &settings.driver.origin);
    let unless =
        "; a containerd 2, where somebody has put one in, tells a kubelet from 1.31 on what counts";
    let unless = if containerd.is_second { "" } else { unless };
    let evidence = format!(
        "containerd is told {}, and the kubelet {kubelet} ({origin}){unless}",
        containerd.driver
    );
    let impact = Impact::degraded(
        "the kubelet starts and no pod does: each names the group of a container in a way the \
         other refuses",
    );
    let how = format!(
        "set SystemdCgroup in args/containerd-template.toml to what fits {kubelet}, or change the \
         kubelet's driver"
    );
    let location = Location::File(containerd.path.clone());
    Some(Finding::new(
        Fault::DriverMismatch,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    ))
}
