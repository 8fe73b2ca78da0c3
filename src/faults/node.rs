//! What else makes the kubelet end early after a power cut, or after a change of the machine:
//! reported, never changed.
//!
//! Rests on kubernetes v1.29 to v1.36: `pkg/kubelet/cm/container_manager_linux.go`
//! (`NewContainerManager`, `setupKernelTunables`), `cmd/kubelet/app/server.go`
//! (`getReservedCPUs`), `pkg/kubelet/cm/cpumanager/cpu_manager.go` (`NewManager`), and on MicroK8s'
//! wrapper `run-kubelite-with-args`.

use std::path::Path;

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy};
use crate::host::Host;
use crate::host::partitions::Cpus;
use crate::host::sandbox::SYSCTLS;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::{MICROK8S, Version};

pub(super) const FAULTS: &[&Fault] = &[
    &FILE_EMPTIED,
    &KERNEL_DEFAULTS_DIFFER,
    &KUBELET_TOO_OLD,
    &RESERVED_CPUS_OFFLINE,
    &STATIC_POLICY_RESERVES_NOTHING,
    &SWAP_ON,
];

pub(crate) static FILE_EMPTIED: Fault = Fault {
    name: "file-emptied",
    message_id: "701367caeb1b45aabafbed5e41bb0f31",
    title: "A file of MicroK8s is empty",
    meaning: "MicroK8s rewrites its files without syncing them, so that a power cut can leave one \
              with nothing in it. With an empty args/kubelet the kubelet runs with its built-in \
              defaults: another container runtime, another root directory, and it refuses a \
              machine with swap. Without its certificates, credentials or other arguments \
              kubelite ends, and the kubelet with it.",
    signs: "The file exists and has a size of 0 bytes.",
    remedy: "kubepods-repair never edits MicroK8s' files.",
    by_hand: "For a file in args/: copy its default from /snap/microk8s/current/default-args/, \
              make your own changes again, and snap restart microk8s. For a certificate: microk8s \
              refresh-certs --cert server.crt, or --cert ca.crt for the CA and everything that is \
              signed with it; other nodes then have to join again.",
    does: "reports the file and the command that restores it",
    threads: &[
        "canonical/microk8s#4089",
        "canonical/microk8s#3912",
        "canonical/microk8s#4296",
    ],
    nature: Nature::Fault,
};

pub(crate) static KERNEL_DEFAULTS_DIFFER: Fault = Fault {
    name: "kernel-defaults-differ",
    message_id: "e91b7682133647c3b94fb99a83b74f12",
    title: "Kernel parameters are not what a protective kubelet demands",
    meaning: "With --protect-kernel-defaults the kubelet sets no kernel parameter itself, and does \
              not start where one of six differs from what it wants: \"invalid kernel flag\".",
    signs: "A file below /proc/sys holds another value than the kubelet wants.",
    remedy: "kubepods-repair reports the parameters and the command that sets them.",
    by_hand: "Set them with sysctl -w, and put them into a file in /etc/sysctl.d so that they are \
              there after the next boot; or take --protect-kernel-defaults out of the kubelet's \
              arguments.",
    does: "reports the parameters and the command that sets them",
    threads: &["canonical/microk8s#4177", "canonical/microk8s#3091"],
    nature: Nature::Fault,
};

pub(crate) static KUBELET_TOO_OLD: Fault = Fault {
    name: "kubelet-too-old",
    message_id: "3c4dcb364d5a435da1adb5279059362b",
    title: "The kubelet does not know version 2 of cgroups",
    meaning: "Kubelets before 1.19 look for the hierarchies of version 1, and end where there are \
              none.",
    signs: "The snap's version is older than 1.19, and version 2 is mounted on /sys/fs/cgroup.",
    remedy: "kubepods-repair repairs nothing for such a kubelet.",
    by_hand: "Refresh MicroK8s to a supported channel (snap refresh microk8s --channel=…), or \
              boot with systemd.unified_cgroup_hierarchy=0.",
    does: "reports it",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static RESERVED_CPUS_OFFLINE: Fault = Fault {
    name: "reserved-cpus-offline",
    message_id: "b554ecd74f7845a58310638e256afd6b",
    title: "Reserved CPUs are offline",
    meaning: "The kubelet was told to reserve CPUs (--reserved-cpus) that are not online, and does \
              not start: \"not a subset of online-cpus\".",
    signs: "A CPU of --reserved-cpus is not in /sys/devices/system/cpu/online.",
    remedy: "kubepods-repair reports the CPUs.",
    by_hand: "Bring the CPUs online (echo 1 > /sys/devices/system/cpu/cpuN/online), or correct \
              --reserved-cpus.",
    does: "reports the CPUs",
    threads: &["kubernetes/kubernetes#124066"],
    nature: Nature::Fault,
};

pub(crate) static STATIC_POLICY_RESERVES_NOTHING: Fault = Fault {
    name: "static-policy-reserves-nothing",
    message_id: "8855707530914676ae2ac10365771794",
    title: "The CPU manager's static policy has no CPU for the system",
    meaning: "With --cpu-manager-policy=static the kubelet demands that some CPU is reserved, and \
              ends without.",
    signs: "Neither --reserved-cpus nor cpu= in --kube-reserved or --system-reserved is given, or \
            what they reserve is nothing.",
    remedy: "kubepods-repair never edits MicroK8s' files.",
    by_hand: "Add cpu=… to --kube-reserved or --system-reserved in the kubelet's args file.",
    does: "reports the setting to add",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static SWAP_ON: Fault = Fault {
    name: "swap-on",
    message_id: "8fbaa77467cf428bb4880a5230b3556b",
    title: "Swap is on, and the kubelet refuses it",
    meaning: "Unless it is told --fail-swap-on=false, as MicroK8s does by default, the kubelet \
              does not start on a machine that swaps.",
    signs: "/proc/swaps lists something, and fail-swap-on is true.",
    remedy: "kubepods-repair switches nothing off.",
    by_hand: "Put --fail-swap-on=false into the kubelet's args file, or swapoff -a and take the \
              swap out of /etc/fstab.",
    does: "reports the setting to add",
    threads: &[],
    nature: Nature::Fault,
};

/// The first kubelet that knows version 2.
const KNOWS_V2: Version = Version(1, 19);

pub(super) fn diagnose(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut findings = emptied(settings, host);
    findings.extend(too_old(host));
    findings.extend(swap(settings, host));
    findings.extend(reserved_offline(settings, host));
    findings.extend(reserves_nothing(settings));
    findings.extend(kernel_defaults(host));
    findings
}

fn emptied(settings: &Settings, host: &Host) -> Vec<Finding> {
    let kubelets = settings.empty_args_file.iter().map(|file| {
        let impact = Impact::fatal(
            "the kubelet runs with its built-in defaults: it looks for another container runtime \
             and another root directory, and ends where swap is on",
        );
        (file, impact)
    });
    let others = host.node.empty_files.iter().map(|file| {
        let impact = Impact::fatal("kubelite ends without it, and the kubelet with kubelite");
        (file, impact)
    });
    let all = kubelets.chain(others);
    all.map(|(file, impact)| {
        let location = Location::File(file.clone());
        let evidence = "it holds nothing (0 bytes), as a power cut may leave it";
        FILE_EMPTIED.finding(impact, location, evidence, Remedy::Tell(restore(file)))
    })
    .collect()
}

fn restore(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().display();
    let is_in = |folder: &str| file.parent().is_some_and(|parent| parent.ends_with(folder));
    let path = file.display();
    if is_in("args") {
        format!(
            "cp {}/current/default-args/{name} {path}, make your own changes to it again, then: \
             snap restart microk8s",
            MICROK8S.snap
        )
    } else if is_in("certs") && name.to_string() != "ca.crt" {
        "microk8s refresh-certs --cert server.crt".to_owned()
    } else {
        "microk8s refresh-certs --cert ca.crt (other nodes have to join again)".to_owned()
    }
}

fn too_old(host: &Host) -> Option<Finding> {
    let tree = host.tree.as_ref()?;
    let version = host.version.filter(|version| *version < KNOWS_V2)?;
    let impact = Impact::fatal("the kubelet finds none of version 1's hierarchies, and ends");
    let evidence = format!("this is version 2 of cgroups, and kubelet {version} does not know it");
    let remedy = Remedy::tell(
        "snap refresh microk8s to a supported channel, or boot with \
         systemd.unified_cgroup_hierarchy=0",
    );
    let location = Location::Mount(tree.mount.clone());
    Some(KUBELET_TOO_OLD.finding(impact, location, evidence, remedy))
}

fn swap(settings: &Settings, host: &Host) -> Option<Finding> {
    let swaps = &host.node.swaps;
    if swaps.is_empty() {
        return None;
    }
    let impact =
        Impact::fatal("the kubelet does not start (\"running with swap on is not supported\")");
    let evidence = format!("the machine swaps to {}", swaps.join(" "));
    let location = Location::Setting(settings.fail_swap_on.origin.clone());
    let remedy = Remedy::tell(
        "put --fail-swap-on=false into the kubelet's args file, or swapoff -a and take the swap \
         out of /etc/fstab",
    );
    Some(SWAP_ON.finding(impact, location, evidence, remedy))
}

fn reserved_offline(settings: &Settings, host: &Host) -> Option<Finding> {
    let reserved = Cpus::parse(settings.reserved_cpus.value.as_ref()?);
    let online = host.node.online_cpus.as_ref()?;
    let offline = reserved.minus(online);
    if offline.is_empty() {
        return None;
    }
    let impact = Impact::fatal("the kubelet does not start (\"not a subset of online-cpus\")");
    let evidence = format!("CPU {offline} is reserved, and only {online} are online");
    let location = Location::Setting(settings.reserved_cpus.origin.clone());
    let remedy = Remedy::tell(
        "bring it online (echo 1 > /sys/devices/system/cpu/cpuN/online), or correct \
         --reserved-cpus",
    );
    Some(RESERVED_CPUS_OFFLINE.finding(impact, location, evidence, remedy))
}

fn reserves_nothing(settings: &Settings) -> Option<Finding> {
    let policy = &settings.cpu_manager_policy;
    if policy.value != "static" || settings.reserved_cpus.value.is_some() {
        return None;
    }
    let reservations = [&settings.kube_reservation, &settings.system_reservation];
    let amounts: Vec<_> = reservations
        .iter()
        .filter_map(|cpus| cpus.get("cpu"))
        .collect();
    // `0`, `0m`, `0.0`: nothing is reserved.
    let is_some = |text: &str| text.contains(|c: char| ('1'..='9').contains(&c));
    if amounts.iter().any(|amount| is_some(&amount.value)) {
        return None;
    }
    let words = if amounts.is_empty() {
        "unable to determine reserved CPU resources for static policy"
    } else {
        "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
    };
    let impact = Impact::fatal(format!("the kubelet does not start (\"{words}\")"));
    let evidence = "the CPU manager's policy is static, and no CPU is reserved";
    let location = Location::Setting(policy.origin.clone());
    let remedy =
        Remedy::tell("reserve some, as with --kube-reserved=cpu=500m in the kubelet's args file");
    Some(STATIC_POLICY_RESERVES_NOTHING.finding(impact, location, evidence, remedy))
}

fn kernel_defaults(host: &Host) -> Option<Finding> {
    let mut differ = Vec::new();
    let mut wanted_ones = Vec::new();
    for (file, now) in &host.node.sysctls {
        let wanted = SYSCTLS.iter().find(|(known, _)| known == file);
        let Some((_, wanted)) = wanted.filter(|(_, wanted)| !now.is_empty() && now != wanted)
        else {
            continue;
        };
        let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
        differ.push(format!("{name} is {now} and has to be {wanted}"));
        wanted_ones.push(format!("{name}={wanted}"));
    }
    let first = host.node.sysctls.first()?;
    if differ.is_empty() {
        return None;
    }
    let impact = Impact::fatal(
        "the kubelet is told not to set them (--protect-kernel-defaults), and does not start \
         (\"invalid kernel flag\")",
    );
    let lines = wanted_ones.join(" ");
    let remedy = Remedy::tell(format!(
        "sysctl -w {lines}; to make it stay: printf '%s\\n' {lines} > \
         /etc/sysctl.d/90-kubelet.conf"
    ));
    let folder = Path::new(first.0)
        .ancestors()
        .find(|folder| folder.ends_with("sys"))?;
    let location = Location::File(folder.to_owned());
    Some(KERNEL_DEFAULTS_DIFFER.finding(impact, location, differ.join(", "), remedy))
}
