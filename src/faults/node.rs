//! What else makes the kubelet end early after a power cut, or after a change of the machine:
//! reported, never changed.
//!
//! Rests on kubernetes v1.29 to v1.36: `pkg/kubelet/cm/container_manager_linux.go`
//! (`NewContainerManager`, `setupKernelTunables`), `cmd/kubelet/app/server.go`
//! (`getReservedCPUs`), `pkg/kubelet/cm/cpumanager/cpu_manager.go` (`NewManager`), and on MicroK8s'
//! wrapper `run-kubelite-with-args`.

use std::path::{Path, PathBuf};

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::node::Inotify;
use crate::host::partitions::Cpus;
use crate::host::sandbox::SYSCTLS;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::{MICROK8S, Version};
use crate::root::Filling;

pub(super) const FAULTS: &[&Fault] = &[
    &FILE_EMPTIED,
    &INOTIFY_USED_UP,
    &KERNEL_DEFAULTS_DIFFER,
    &KERNEL_LOG_MISSING,
    &KERNEL_PARAMETERS_READ_ONLY,
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
    signs: "The file exists, and has a size of 0 bytes or begins with 64 NUL bytes.",
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

pub(crate) static INOTIFY_USED_UP: Fault = Fault {
    name: "inotify-used-up",
    message_id: "d301b130bde9453db34bc5e12c63f640",
    title: "inotify has nothing left for the kubelet",
    meaning: "The kubelet's cAdvisor asks the kernel to tell it of new cgroups. Where other \
              programs of root's have used up all inotify instances or watches, the kubelet ends \
              with \"Failed to start cAdvisor\".",
    signs: "The kernel refuses root one more inotify instance (EMFILE) or watch (ENOSPC).",
    remedy: "kubepods-repair changes no kernel parameter.",
    by_hand: "Raise the limit: sysctl -w fs.inotify.max_user_instances=1024 \
              fs.inotify.max_user_watches=1048576, and put both into a file in /etc/sysctl.d. Who \
              uses them: find /proc/[0-9]*/fd -lname anon_inode:inotify | cut -d/ -f3 | sort | \
              uniq -c | sort -n",
    does: "reports the limit and the command that raises it",
    threads: &["canonical/microk8s#2477"],
    nature: Nature::Fault,
};

pub(crate) static KERNEL_LOG_MISSING: Fault = Fault {
    name: "kernel-log-missing",
    message_id: "53be545dd21c416ca08bdf04d5288ec4",
    title: "This container has no /dev/kmsg",
    meaning: "The kubelet reads the kernel's log to hear of processes that ran out of memory, and \
              ends without: \"failed to create kubelet: open /dev/kmsg\".",
    signs: "This is a container, and /dev/kmsg does not exist.",
    remedy: "kubepods-repair makes no devices.",
    by_hand: "Let the container's manager pass the device in, or link it to /dev/console at every \
              boot: echo 'L /dev/kmsg - - - - /dev/console' >/etc/tmpfiles.d/kmsg.conf; \
              systemd-tmpfiles --create",
    does: "reports the command that makes it",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static KERNEL_PARAMETERS_READ_ONLY: Fault = Fault {
    name: "kernel-parameters-read-only",
    message_id: "c539200aa92845459bec95d2e4e54b97",
    title: "The kubelet cannot set kernel parameters",
    meaning: "The kubelet sets six kernel parameters at its start. In a container /proc/sys is \
              usually read-only, so that it ends where one of them is not yet as it wants.",
    signs: "The mount that holds /proc/sys is read-only, and a parameter differs from what the \
            kubelet wants.",
    remedy: "kubepods-repair sets none of them.",
    by_hand: "Set them on the machine outside, with sysctl -w and a file in its /etc/sysctl.d. \
              keys are counted apart for each user namespace.",
    does: "reports the parameters and the command that sets them outside",
    threads: &["canonical/microk8s#1242"],
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
    findings.extend(kernel_parameters(settings, host));
    findings.extend(kernel_log(settings, host));
    findings.extend(inotify(host));
    findings
}

fn emptied(settings: &Settings, host: &Host) -> Vec<Finding> {
    let all = settings.emptied.iter().chain(&host.node.emptied);
    let finding = |(file, filling): &(PathBuf, Filling)| {
        let impact = Impact::fatal(if file.ends_with(MICROK8S.kubelet_args) {
            "the kubelet runs with its built-in defaults: it looks for another container runtime \
             and another root directory, and ends where swap is on"
        } else {
            "kubelite ends without it, and the kubelet with kubelite"
        });
        let what = match filling {
            Filling::Zeros => "nothing but NUL bytes",
            Filling::Nothing | Filling::Something => "nothing (0 bytes)",
        };
        let evidence = format!("it holds {what}, as a power cut may leave it");
        let location = Location::File(file.clone());
        FILE_EMPTIED.finding(impact, location, evidence, Remedy::tell(restore(file)))
    };
    all.map(finding).collect()
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
    let evidence = format!("the machine swaps (to: {})", swaps.join(", "));
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

/// Each parameter that is not as the kubelet wants it, with what it is and what it has to be.
fn differing(host: &Host) -> Vec<(String, &str, &str)> {
    let mut differing = Vec::new();
    for (file, now) in &host.node.sysctls {
        let wanted = SYSCTLS.iter().find(|(known, _)| known == file);
        let wanted = wanted.filter(|(_, wanted)| !now.is_empty() && now != wanted);
        if let Some((_, wanted)) = wanted {
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            differing.push((name, now.as_str(), *wanted));
        }
    }
    differing
}

fn kernel_parameters(settings: &Settings, host: &Host) -> Option<Finding> {
    let differing = differing(host);
    if differing.is_empty() {
        return None;
    }
    let is = |(name, now, wanted): &_| format!("{name} is {now} and has to be {wanted}");
    let evidence: Vec<String> = differing.iter().map(is).collect();
    let set = |(name, _, wanted): &_| format!("{name}={wanted}");
    let lines: Vec<String> = differing.iter().map(set).collect();
    let (evidence, lines) = (evidence.join(", "), lines.join(" "));
    let command = format!(
        "sysctl -w {lines}; to make it stay: printf '%s\\n' {lines} > \
         /etc/sysctl.d/90-kubelet.conf"
    );
    let location = Location::File(PathBuf::from("/proc/sys"));
    if settings.protect_kernel_defaults.value {
        let impact = Impact::fatal(
            "the kubelet is told not to set them (--protect-kernel-defaults), and does not start \
             (\"invalid kernel flag\")",
        );
        let remedy = Remedy::tell(command);
        return Some(KERNEL_DEFAULTS_DIFFER.finding(impact, location, evidence, remedy));
    }
    if is_in_user_namespace(settings) {
        return None;
    }
    let impact = Impact::fatal("the kubelet sets them at its start, and ends where it cannot");
    let evidence = format!("/proc/sys is read-only; {evidence}");
    let remedy = Remedy::tell(format!("on the machine outside: {command}"));
    Some(KERNEL_PARAMETERS_READ_ONLY.finding(impact, location, evidence, remedy))
}

/// With this gate the kubelet only logs what a user namespace keeps from it.
fn is_in_user_namespace(settings: &Settings) -> bool {
    let gate = settings.feature_gates.get("KubeletInUserNamespace");
    gate.is_some_and(|gate| gate.value)
}

fn kernel_log(settings: &Settings, host: &Host) -> Option<Finding> {
    if !host.node.lacks_kernel_log || is_in_user_namespace(settings) {
        return None;
    }
    let how = match host.boot.container {
        Some(Manager::Lxc) => {
            "add lxc.mount.entry = /dev/kmsg dev/kmsg none bind,optional,create=file to its \
             configuration"
        }
        Some(Manager::Lxd) => {
            "lxc config device add NAME kmsg unix-char source=/dev/kmsg path=/dev/kmsg (Incus: \
             incus for lxc)"
        }
        Some(Manager::Docker | Manager::Podman) => "start it with --device /dev/kmsg",
        Some(Manager::Nspawn) => "start it with --bind=/dev/kmsg",
        Some(Manager::Wsl | Manager::Other(_)) | None => "let its manager pass it in",
    };
    let remedy = Remedy::tell(format!(
        "{how}; or in the container: echo 'L /dev/kmsg - - - - /dev/console' \
         >/etc/tmpfiles.d/kmsg.conf; systemd-tmpfiles --create"
    ));
    let impact = Impact::fatal("the kubelet ends (\"failed to create kubelet: open /dev/kmsg\")");
    let location = Location::File(PathBuf::from("/dev/kmsg"));
    let evidence = "this container has no such device";
    Some(KERNEL_LOG_MISSING.finding(impact, location, evidence, remedy))
}

fn inotify(host: &Host) -> Option<Finding> {
    let (used_up, limit) = host.node.inotify.as_ref()?;
    let (what, enough) = match used_up {
        Inotify::Instances => ("instances", 1024),
        Inotify::Watches => ("watches", 1_048_576),
    };
    let limit = if limit.is_empty() { "its limit" } else { limit };
    let parameter = used_up.parameter();
    let evidence = format!("all of root's inotify {what} are in use, up to the limit of {limit}");
    let remedy = Remedy::tell(format!(
        "sysctl -w {parameter}={enough}; to make it stay: echo {parameter}={enough} > \
         /etc/sysctl.d/90-inotify.conf"
    ));
    let impact = Impact::fatal("the kubelet ends (\"Failed to start cAdvisor\")");
    let file = format!("/proc/sys/{}", parameter.replace('.', "/"));
    let location = Location::File(PathBuf::from(file));
    Some(INOTIFY_USED_UP.finding(impact, location, evidence, remedy))
}
