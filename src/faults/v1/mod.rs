//! Version 1 and hybrid hosts, where a group is a directory in each of a dozen hierarchies. A wing
//! of its own: docs/architecture.md says when and how it can be taken down.
//!
//! Rests on kubernetes' `pkg/kubelet/cm/container_manager_linux.go` (`validateSystemRequirements`)
//! and `cgroup_v1_manager_linux.go` (`Validate`), on runc's `libcontainer/cgroups/fs` (`cpuset.go`:
//! an empty cpuset is filled from the parent) and on the kernel's
//! `Documentation/admin-guide/cgroup-v1/`.

mod case;
pub mod groups;
pub mod mounts;
mod slices;

use std::path::PathBuf;

use crate::faults::finding::hold_back;
use crate::faults::{
    Fault, Finding, Impact, Learned, Location, Nature, Remedy, Terms, absent, services,
    settings as kubelet_settings, stale_pods,
};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::mounts::{CGROUP_MOUNT, point_of};
use crate::host::v1::Hierarchies;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::Version;
use case::V1Case;

pub(super) const FAULTS: &[&Fault] = &[&KERNEL_MEMORY_REFUSED, &V1_REFUSED];

pub(crate) static V1_REFUSED: Fault = Fault {
    name: "v1-refused",
    message_id: "60f0ac0fe35644e0a9ca4dadd9a2e0b6",
    title: "This kubelet refuses cgroup version 1",
    meaning: "From 1.35 on the kubelet ends at once on a host that is not on version 2 (\"kubelet \
              is configured to not run on a host using cgroup v1\"), unless failCgroupV1 is \
              false.",
    signs: "/sys/fs/cgroup is no cgroup2 file system, and the kubelet is 1.35 or newer and not \
            told otherwise, or is told to refuse.",
    remedy: "kubepods-repair cannot help: the version is chosen at boot.",
    by_hand: "Boot with version 2: take systemd.unified_cgroup_hierarchy=0 out of the kernel's \
              command line. Until then add --fail-cgroupv1=false to \
              /var/snap/microk8s/current/args/kubelet and restart MicroK8s.",
    threads: &[],
    does: "reports the way to version 2",
    nature: Nature::Fault,
};

pub(crate) static KERNEL_MEMORY_REFUSED: Fault = Fault {
    name: "kernel-memory-refused",
    message_id: "a37370edb2114dc1bde383d65415ea2b",
    title: "The kernel no longer limits kernel memory, and this runc insists",
    meaning: "From Linux 5.16 on, memory.kmem.limit_in_bytes takes no value. The runc of MicroK8s \
              up to 1.21 writes it for each container with a memory limit, and such containers do \
              not start (\"operation not supported\").",
    signs: "MicroK8s is 1.21 or older, the kernel is 5.16 or newer, and memory is a hierarchy of \
            version 1.",
    remedy: "kubepods-repair cannot help: the program that insists is part of the snap.",
    by_hand: "Refresh MicroK8s to 1.22 or newer (snap refresh microk8s --channel=…), or boot a \
              kernel older than 5.16.",
    does: "reports it",
    threads: &["canonical/microk8s#3028", "canonical/microk8s#3777"],
    nature: Nature::Fault,
};

/// The first MicroK8s whose runc does without.
const KNOWS_NO_KERNEL_MEMORY: Version = Version(1, 22);

fn kernel_memory(host: &Host) -> Option<Finding> {
    let version = host
        .version
        .filter(|version| *version < KNOWS_NO_KERNEL_MEMORY)?;
    let mount = point_of(&host.mounts, "memory").filter(|_| host.kernel.is_at_least(5, 16))?;
    let impact = Impact::degraded("containers with a memory limit do not start");
    let evidence = format!(
        "Linux {} refuses memory.kmem.limit_in_bytes, which the runc of MicroK8s {version} writes",
        host.kernel.release
    );
    let remedy = Remedy::tell("snap refresh microk8s to 1.22 or newer, or boot an older kernel");
    Some(KERNEL_MEMORY_REFUSED.finding(impact, Location::Mount(mount), evidence, remedy))
}

pub(super) fn diagnose(
    settings: &Settings,
    host: &Host,
    v1: &Hierarchies,
    terms: Terms,
    learned: &Learned,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = refused(settings, host).into_iter().collect();
    findings.extend(mounts::unmounted(host, v1));
    let layout = &settings.layout();
    let stale = stale_pods::stale(&v1.pods);
    let case = V1Case {
        host,
        v1,
        layout,
        terms,
        learned,
        stale,
    };
    let mut of_groups = mounts::shadowed(v1);
    of_groups.extend(mounts::without_quota(v1));
    of_groups.extend(groups::diagnose(&case));
    services::leave_alone(&mut of_groups, layout);
    if !settings.cgroups_per_qos.value {
        findings.retain(Finding::is_fatal);
        of_groups.extend(findings.clone());
        findings.push(kubelet_settings::qos_disabled(settings, &of_groups));
        return findings;
    }
    findings.extend(of_groups);
    findings.extend(kernel_memory(host));
    hold_back(&mut findings);
    findings
}

fn refused(settings: &Settings, host: &Host) -> Option<Finding> {
    if settings.refuses_v1(host.version) != Some(true) {
        return None;
    }
    let (evidence, location) = if settings.fail_cgroup_v1.value.is_some() {
        (
            "fail-cgroupv1 is true, and this host is not on version 2".to_owned(),
            Location::Setting(settings.fail_cgroup_v1.origin.clone()),
        )
    } else {
        let version = host.version.map(|version| format!(" {version}"));
        let evidence = format!(
            "kubelet{} refuses version 1 unless fail-cgroupv1 is false, and it is not set",
            version.unwrap_or_default()
        );
        (evidence, Location::Mount(PathBuf::from(CGROUP_MOUNT)))
    };
    let effect = "the kubelet says that it is configured to not run on a host using cgroup v1, and \
                  ends";
    let how = match &host.boot.container {
        // Its own init mounts version 1 wherever the kernel has it (microsoft/WSL#6662).
        Some(Manager::Wsl) => absent::outside(
            host,
            "add cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 to",
        ),
        Some(_) => absent::outside(host, "add systemd.unified_cgroup_hierarchy=1 to"),
        None => "take systemd.unified_cgroup_hierarchy=0 (or false) out of the kernel's command \
                 line, or put systemd.unified_cgroup_hierarchy=1 there"
            .to_owned(),
    };
    let remedy = Remedy::tell(format!(
        "boot with version 2: {how}; until then: --fail-cgroupv1=false in the kubelet's args \
         file, or failCgroupV1: false in its configuration file"
    ));
    Some(V1_REFUSED.finding(Impact::fatal(effect), location, evidence, remedy))
}
