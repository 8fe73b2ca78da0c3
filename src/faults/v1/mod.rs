//! Hosts with cgroup v1 or a hybrid setup, where a group is a directory in each of a dozen
//! hierarchies. This module can be removed as a whole: docs/architecture.md says when and how.
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
    settings as kubelet_settings,
};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::mounts::{CGROUP_MOUNT, point_of};
use crate::host::v1::Hierarchies;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;
use crate::kubelet::microk8s::Version;
use case::V1Case;

pub(super) const FAULTS: &[&Fault] = &[&KERNEL_MEMORY_REFUSED, &V1_REFUSED];

pub(crate) static V1_REFUSED: Fault = Fault {
    name: "v1-refused",
    message_id: "60f0ac0fe35644e0a9ca4dadd9a2e0b6",
    title: "This kubelet refuses cgroup v1",
    meaning: "From 1.35 on, the kubelet exits at once on a host that does not use cgroup v2 \
              (\"kubelet is configured to not run on a host using cgroup v1\"), unless \
              failCgroupV1 is false.",
    signs: "/sys/fs/cgroup is not a cgroup2 file system. Either the kubelet is 1.35 or newer and \
            failCgroupV1 is not set, or failCgroupV1 is true.",
    remedy: "kubepods-repair cannot help: the cgroup version is chosen at boot.",
    by_hand: "Boot with cgroup v2: remove systemd.unified_cgroup_hierarchy=0 from the kernel's \
              command line and reboot. Until then, add --fail-cgroupv1=false to \
              /var/snap/microk8s/current/args/kubelet and restart kubelite.",
    threads: &[],
    does: "reports how to boot with cgroup v2",
    nature: Nature::Fault,
};

pub(crate) static KERNEL_MEMORY_REFUSED: Fault = Fault {
    name: "kernel-memory-refused",
    message_id: "a37370edb2114dc1bde383d65415ea2b",
    title: "The kernel refuses the kernel memory limits of this runc",
    meaning: "From Linux 5.16 on, memory.kmem.limit_in_bytes accepts no value. The runc of \
              MicroK8s 1.21 and older writes this file for each container with a memory limit, so \
              such containers do not start (\"operation not supported\").",
    signs: "MicroK8s is 1.21 or older, the kernel is 5.16 or newer, and the memory controller is \
            mounted as cgroup v1.",
    remedy: "kubepods-repair cannot help: runc is part of the snap.",
    by_hand: "Refresh MicroK8s to 1.22 or newer (snap refresh microk8s --channel=1.22/stable), \
              or boot a kernel older than 5.16.",
    does: "reports it",
    threads: &["canonical/microk8s#3028", "canonical/microk8s#3777"],
    nature: Nature::Fault,
};

/// The first MicroK8s whose runc does not write kernel memory limits.
const KNOWS_NO_KERNEL_MEMORY: Version = Version(1, 22);

fn kernel_memory(host: &Host) -> Option<Finding> {
    let version = host
        .version
        .filter(|version| *version < KNOWS_NO_KERNEL_MEMORY)?;
    let mount = point_of(&host.mounts, "memory").filter(|_| host.kernel.is_at_least(5, 16))?;
    let impact = Impact::degraded("Containers with a memory limit do not start");
    let evidence = format!(
        "Linux {} accepts no value in memory.kmem.limit_in_bytes, but the runc of MicroK8s \
         {version} writes one",
        host.kernel.release
    );
    let remedy = Remedy::run(
        "Boot a kernel older than 5.16, or refresh MicroK8s to 1.22 or newer",
        ["snap refresh microk8s --channel=1.22/stable"],
    );
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
    let case = V1Case {
        host,
        v1,
        layout,
        terms,
        learned,
    };
    let mut of_groups = mounts::shadowed(v1);
    of_groups.extend(mounts::without_quota(v1));
    of_groups.extend(groups::diagnose(&case));
    services::leave_alone(&mut of_groups, layout);
    if !settings.cgroups_per_qos.value {
        findings.retain(Finding::is_fatal);
        of_groups.extend(findings.clone());
        findings.push(kubelet_settings::qos_disabled(settings, host, &of_groups));
        return findings;
    }
    findings.extend(of_groups);
    findings.extend(kernel_memory(host));
    hold_back(&mut findings);
    findings
}

/// Works with a file whose last line is not terminated, too: kubelite skips empty lines.
const ALLOW_V1: &str =
    r"printf '\n--fail-cgroupv1=false\n' >>/var/snap/microk8s/current/args/kubelet";

fn refused(settings: &Settings, host: &Host) -> Option<Finding> {
    if settings.refuses_v1(host.version) != Some(true) {
        return None;
    }
    let (evidence, location) = if settings.fail_cgroup_v1.value.is_some() {
        (
            "fail-cgroupv1 is true, and this host does not use cgroup v2".to_owned(),
            Location::Setting(settings.fail_cgroup_v1.origin.clone()),
        )
    } else {
        let version = host.version.map(|version| format!(" {version}"));
        let evidence = format!(
            "This host does not use cgroup v2, and kubelet{} refuses cgroup v1 unless \
             fail-cgroupv1 is set to false",
            version.unwrap_or_default()
        );
        (evidence, Location::Mount(PathBuf::from(CGROUP_MOUNT)))
    };
    let effect = "The kubelet exits with \"kubelet is configured to not run on a host using cgroup \
                  v1\"";
    let how = match &host.boot.container {
        // The init of WSL mounts cgroup v1 wherever the kernel has it (microsoft/WSL#6662).
        Some(Manager::Wsl) => absent::outside(
            host,
            "add cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 to",
        ),
        Some(_) => absent::outside(host, "add systemd.unified_cgroup_hierarchy=1 to"),
        None => "remove systemd.unified_cgroup_hierarchy=0 (or false) from the kernel's command \
                 line, or add systemd.unified_cgroup_hierarchy=1"
            .to_owned(),
    };
    let words = format!(
        "Boot with cgroup v2: {how}. Until then, set --fail-cgroupv1=false (in a configuration \
         file: failCgroupV1: false) and restart kubelite"
    );
    let remedy = Remedy::run(words, [ALLOW_V1.to_owned(), MICROK8S.restart()]);
    Some(V1_REFUSED.finding(Impact::fatal(effect), location, evidence, remedy))
}
