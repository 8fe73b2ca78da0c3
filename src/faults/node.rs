//! Other reasons why the kubelet exits early after a power cut or a change of the machine. They are
//! reported, never repaired.
//!
//! Rests on kubernetes v1.29 to v1.36: `pkg/kubelet/cm/container_manager_linux.go`
//! (`NewContainerManager`, `setupKernelTunables`), `cmd/kubelet/app/server.go`
//! (`getReservedCPUs`), `pkg/kubelet/cm/cpumanager/cpu_manager.go` (`NewManager`), and on MicroK8s'
//! wrapper `run-kubelite-with-args`.

use std::path::{Path, PathBuf};

use crate::faults::fault::{Fault, Nature};
use crate::faults::finding::{Finding, Impact, Location, Remedy, shell_word};
use crate::host::Host;
use crate::host::container::Manager;
use crate::host::node::Inotify;
use crate::host::partitions::Cpus;
use crate::host::sandbox::SYSCTLS;
use crate::kubelet::microk8s::{MICROK8S, Version};
use crate::kubelet::{Origin, Settings};
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
    title: "A MicroK8s file has lost its contents",
    meaning: "MicroK8s rewrites its files without syncing them, so a power cut can leave a file \
              empty. With an empty args/kubelet the kubelet runs with its built-in defaults: it \
              looks for another container runtime, uses another root directory, and does not start \
              if swap is on. Without its certificates, credentials or the arguments of its other \
              parts kubelite exits, and the kubelet with it. An empty args/kubelite does harm only \
              on a worker.",
    signs: "The file exists, but its size is 0 bytes or it begins with 64 NUL bytes.",
    remedy: "kubepods-repair reports the file and the commands that restore it. It never edits \
             MicroK8s' files.",
    by_hand: "For a file in args/: copy its default from /snap/microk8s/current/default-args/, \
              repeat your own changes in it, and run snap restart microk8s.daemon-kubelite. For \
              certs/server.crt: run microk8s refresh-certs --cert server.crt. For certs/ca.crt and \
              for credentials: run microk8s refresh-certs --cert ca.crt, which also replaces every \
              certificate that the CA has signed; other nodes then have to join the cluster again. \
              For certs/serviceaccount.key: copy it from another control plane node, or delete it \
              and run microk8s refresh-certs --cert ca.crt. On a worker, for certs, credentials \
              and args/kubelet: leave the cluster with microk8s leave, and join it again.",
    does: "reports the file and the commands that restore it",
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
    title: "Kernel parameters differ from what the kubelet requires",
    meaning: "With --protect-kernel-defaults the kubelet does not set kernel parameters. It \
              compares six of them with the values that it requires, and does not start if one \
              differs (\"invalid kernel flag\").",
    signs: "--protect-kernel-defaults is set, and a file in /proc/sys contains another value than \
            the kubelet requires.",
    remedy: "kubepods-repair reports the parameters and the commands that set them.",
    by_hand: "Set the parameters with sysctl -w, and write them to a file in /etc/sysctl.d so that \
              the next boot sets them, too. Or remove --protect-kernel-defaults from \
              /var/snap/microk8s/current/args/kubelet. Then run snap restart \
              microk8s.daemon-kubelite.",
    does: "reports the parameters and the commands that set them",
    threads: &["canonical/microk8s#4177", "canonical/microk8s#3091"],
    nature: Nature::Fault,
};

pub(crate) static INOTIFY_USED_UP: Fault = Fault {
    name: "inotify-used-up",
    message_id: "d301b130bde9453db34bc5e12c63f640",
    title: "All inotify instances or watches are in use",
    meaning: "The kubelet's cAdvisor uses inotify to learn of new cgroups. If other programs that \
              run as root have used up all inotify instances or watches, the kubelet exits with \
              \"Failed to start cAdvisor\".",
    signs: "The kernel refuses root one more inotify instance (EMFILE) or watch (ENOSPC).",
    remedy: "kubepods-repair reports the limit and the commands that raise it. It changes no \
             kernel parameter.",
    by_hand: "Raise the limits: sysctl -w fs.inotify.max_user_instances=1024 \
              fs.inotify.max_user_watches=1048576. Write both to a file in /etc/sysctl.d so that \
              the next boot sets them, too. To count the inotify instances of each process: find \
              /proc/[0-9]*/fd -lname anon_inode:inotify | cut -d/ -f3 | sort | uniq -c | sort -n",
    does: "reports the limit and the commands that raise it",
    threads: &["canonical/microk8s#2477"],
    nature: Nature::Fault,
};

pub(crate) static KERNEL_LOG_MISSING: Fault = Fault {
    name: "kernel-log-missing",
    message_id: "53be545dd21c416ca08bdf04d5288ec4",
    title: "This container has no /dev/kmsg",
    meaning: "The kubelet reads the kernel log from /dev/kmsg to learn which processes the kernel \
              has killed for lack of memory. Without this device the kubelet exits (\"failed to \
              create kubelet: open /dev/kmsg\").",
    signs: "The system runs in a container, and /dev/kmsg does not exist.",
    remedy: "kubepods-repair reports how to make the device available. It creates no devices.",
    by_hand: "Configure the container manager to pass the device in. Or link it to /dev/console \
              at every boot: echo 'L /dev/kmsg - - - - /dev/console' > /etc/tmpfiles.d/kmsg.conf; \
              systemd-tmpfiles --create",
    does: "reports the commands that make it available",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static KERNEL_PARAMETERS_READ_ONLY: Fault = Fault {
    name: "kernel-parameters-read-only",
    message_id: "c539200aa92845459bec95d2e4e54b97",
    title: "The kubelet cannot set kernel parameters",
    meaning: "The kubelet sets six kernel parameters when it starts. In a container /proc/sys is \
              usually read-only. There the kubelet exits if one of the parameters differs from \
              what it requires.",
    signs: "The mount that holds /proc/sys is read-only, and a parameter differs from what the \
            kubelet requires.",
    remedy: "kubepods-repair reports the parameters and the commands that set them. It sets none \
             of them.",
    by_hand: "On the host of the container, set the parameters with sysctl -w, and write them to a \
              file in the host's /etc/sysctl.d. The kernel counts keys (kernel.keys.*) separately \
              for each user namespace.",
    does: "reports the parameters and the commands that set them on the host",
    threads: &["canonical/microk8s#1242"],
    nature: Nature::Fault,
};

pub(crate) static KUBELET_TOO_OLD: Fault = Fault {
    name: "kubelet-too-old",
    message_id: "3c4dcb364d5a435da1adb5279059362b",
    title: "The kubelet is too old for cgroup v2",
    meaning: "Kubelets before 1.19 only know cgroup v1. They look for its hierarchies and exit if \
              there are none.",
    signs: "The snap's version is older than 1.19, and cgroup v2 is mounted on /sys/fs/cgroup.",
    remedy: "kubepods-repair repairs nothing for such a kubelet.",
    by_hand: "Refresh MicroK8s to a supported channel: snap refresh microk8s --channel=CHANNEL. Or \
              boot with systemd.unified_cgroup_hierarchy=0 on the kernel command line, which makes \
              systemd before version 258 use cgroup v1.",
    does: "reports the kubelet's version",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static RESERVED_CPUS_OFFLINE: Fault = Fault {
    name: "reserved-cpus-offline",
    message_id: "b554ecd74f7845a58310638e256afd6b",
    title: "Reserved CPUs are offline",
    meaning: "The setting --reserved-cpus names CPUs that are not online. The kubelet then does \
              not start (\"not a subset of online-cpus\").",
    signs: "A CPU of --reserved-cpus is not in /sys/devices/system/cpu/online.",
    remedy: "kubepods-repair reports the CPUs.",
    by_hand: "Bring the CPUs online with chcpu -e LIST, or correct --reserved-cpus. Then run snap \
              restart microk8s.daemon-kubelite.",
    does: "reports the CPUs and the command that brings them online",
    threads: &["kubernetes/kubernetes#124066"],
    nature: Nature::Fault,
};

pub(crate) static STATIC_POLICY_RESERVES_NOTHING: Fault = Fault {
    name: "static-policy-reserves-nothing",
    message_id: "8855707530914676ae2ac10365771794",
    title: "The static CPU manager policy has no reserved CPU",
    meaning: "With --cpu-manager-policy=static the kubelet requires that some CPU is reserved for \
              the system. It does not start if none is.",
    signs: "Neither --reserved-cpus nor cpu= in --kube-reserved or --system-reserved is set, or \
            the reserved amounts are all 0.",
    remedy: "kubepods-repair reports the setting to add. It never edits MicroK8s' files.",
    by_hand: "Add --kube-reserved=cpu=500m, or another amount, to \
              /var/snap/microk8s/current/args/kubelet. Then run snap restart \
              microk8s.daemon-kubelite.",
    does: "reports the setting to add",
    threads: &[],
    nature: Nature::Fault,
};

pub(crate) static SWAP_ON: Fault = Fault {
    name: "swap-on",
    message_id: "8fbaa77467cf428bb4880a5230b3556b",
    title: "Swap is on, but the kubelet does not allow it",
    meaning: "By default the kubelet does not start on a machine with active swap. MicroK8s' \
              default arguments allow swap with --fail-swap-on=false, and this setting is missing \
              here or has been changed.",
    signs: "/proc/swaps lists a swap device or file, and fail-swap-on is true.",
    remedy: "kubepods-repair reports the setting to add. It does not turn swap off.",
    by_hand: "Add --fail-swap-on=false to /var/snap/microk8s/current/args/kubelet. Or turn swap \
              off with swapoff -a, and remove it from /etc/fstab so that it stays off. Then run \
              snap restart microk8s.daemon-kubelite.",
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
    let is_worker = host.node.is_worker;
    let of_args = settings.emptied.iter().map(|(file, filling)| {
        if !file.ends_with(MICROK8S.kubelite_args) {
            return emptied_args(file, *filling, is_worker);
        }
        // The wrapper's sed adds a worker's --start-control-plane=false only to a first line, which
        // a file of 0 bytes does not have.
        let impact = if is_worker && *filling == Filling::Nothing {
            Impact::fatal(
                "kubelite then starts a control plane as well, which a worker does not have, and \
                 exits",
            )
        } else {
            Impact::notice("The same arguments are built into kubelite, so it starts")
        };
        lost(file, *filling, impact, is_worker)
    });
    let others = host.node.emptied.iter().map(|(file, filling)| {
        let impact = Impact::fatal("kubelite exits without this file, and the kubelet with it");
        lost(file, *filling, impact, is_worker)
    });
    of_args.chain(others).collect()
}

/// The file with the kubelet's arguments has lost its contents.
pub(super) fn emptied_args(file: &Path, filling: Filling, is_worker: bool) -> Finding {
    let effect = "The kubelet then runs with its built-in defaults: it looks for another container \
                  runtime, uses another root directory, and does not start if swap is on";
    lost(file, filling, Impact::fatal(effect), is_worker)
}

fn lost(file: &Path, filling: Filling, impact: Impact, is_worker: bool) -> Finding {
    let what = match filling {
        Filling::Zeros => "filled with NUL bytes",
        Filling::Nothing | Filling::Something => "empty (0 bytes)",
    };
    let evidence = format!("The file is {what}, as a power cut can leave it");
    let location = Location::File(file.to_owned());
    FILE_EMPTIED.finding(impact, location, evidence, restore(file, is_worker))
}

/// How to get the contents of one of MicroK8s' files back. A worker's certificates, credentials and
/// the kubelet's arguments come from the cluster (MicroK8s' `join.py`).
pub(super) fn restore(file: &Path, is_worker: bool) -> Remedy {
    let name = file.file_name().unwrap_or_default().display().to_string();
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    let data = Path::new(MICROK8S.current).parent();
    let is_of_microk8s = data.is_some_and(|data| file.starts_with(data));
    let path = shell_word(file.display());
    let restart = MICROK8S.restart();
    let new_ca = "microk8s refresh-certs --cert ca.crt".to_owned();
    let folder = folder.to_str().filter(|_| is_of_microk8s);
    let is_kubelets = file.ends_with(MICROK8S.kubelet_args);
    if is_worker && (is_kubelets || matches!(folder, Some("certs" | "credentials"))) {
        return Remedy::run(
            "Run microk8s add-node on a control plane node. Leave the cluster here, then run the \
             join command that it prints, with --worker",
            ["microk8s leave"],
        );
    }
    match folder {
        Some("args") => {
            let default = format!(
                "cp --backup {}/current/default-args/{} {path}",
                MICROK8S.snap,
                shell_word(&name)
            );
            let (services, restart) = if name == "containerd" {
                (
                    "containerd and kubelite",
                    MICROK8S.restart_with_containerd(),
                )
            } else {
                ("kubelite", restart)
            };
            let words = format!(
                "Restore the default file, repeat your own changes in it, and restart {services}"
            );
            Remedy::run(words, [default, restart])
        }
        Some("certs") if name == "server.crt" => Remedy::run(
            "Create a new server certificate",
            ["microk8s refresh-certs --cert server.crt"],
        ),
        Some("certs") if name == "serviceaccount.key" => Remedy::run(
            "In a cluster, copy the key from another control plane node and restart kubelite. \
             Otherwise create a new key",
            [format!("rm {path}"), new_ca, restart],
        ),
        Some("certs" | "credentials") => Remedy::run(
            "Create a new CA and all its certificates. Other nodes then have to join the cluster \
             again",
            [new_ca, restart],
        ),
        _ => Remedy::run(
            format!(
                "Restore {} from a backup, then restart kubelite",
                file.display()
            ),
            [restart],
        ),
    }
}

fn too_old(host: &Host) -> Option<Finding> {
    let tree = host.tree.as_ref()?;
    let version = host.version.filter(|version| *version < KNOWS_V2)?;
    let impact = Impact::fatal("The kubelet finds no cgroup v1 hierarchies and exits");
    let evidence = format!("The node uses cgroup v2, but kubelet {version} only knows cgroup v1");
    let remedy = Remedy::run(
        "Refresh MicroK8s to a newer channel. The first command lists the channels; put one of \
         them in place of CHANNEL",
        [
            "snap info microk8s",
            "snap refresh microk8s --channel=CHANNEL",
        ],
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
        Impact::fatal("The kubelet does not start (\"running with swap on is not supported\")");
    let kinds = swaps.join(", ");
    let evidence = format!("Swap is on ({kinds}), but the kubelet's setting fail-swap-on is true");
    let origin = &settings.fail_swap_on.origin;
    let location = Location::Setting(origin.clone());
    let words = format!(
        "Set --fail-swap-on=false (MicroK8s' default) in {}, then restart kubelite",
        args_file(origin)
    );
    let remedy = Remedy::run(words, [MICROK8S.restart()]);
    Some(SWAP_ON.finding(impact, location, evidence, remedy))
}

fn reserved_offline(settings: &Settings, host: &Host) -> Option<Finding> {
    let reserved = Cpus::parse(settings.reserved_cpus.value.as_ref()?);
    let online = host.node.online_cpus.as_ref()?;
    let offline = reserved.minus(online);
    if offline.is_empty() {
        return None;
    }
    let impact = Impact::fatal("The kubelet does not start (\"not a subset of online-cpus\")");
    let evidence = format!("Reserved CPUs are offline: {offline} (online: {online})");
    let location = Location::Setting(settings.reserved_cpus.origin.clone());
    let remedy = Remedy::run(
        "Bring the CPUs online and restart kubelite. If the machine does not have these CPUs, \
         correct --reserved-cpus instead",
        [format!("chcpu -e {offline}"), MICROK8S.restart()],
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
    let impact = Impact::fatal(format!("The kubelet does not start (\"{words}\")"));
    let evidence = "The CPU manager policy is static, but no CPU is reserved";
    let location = Location::Setting(policy.origin.clone());
    let words = format!(
        "Add --kube-reserved=cpu=500m, or another amount, to {}, then restart kubelite",
        args_file(&policy.origin)
    );
    let remedy = Remedy::run(words, [MICROK8S.restart()]);
    Some(STATIC_POLICY_RESERVES_NOTHING.finding(impact, location, evidence, remedy))
}

/// The args file that holds a setting, or else the one that MicroK8s usually reads.
fn args_file(origin: &Origin) -> String {
    let usual = MICROK8S.usual_args_file();
    let file = match origin {
        Origin::Args(file, _) => file,
        Origin::Default | Origin::Config(..) | Origin::Containerd(_) => &usual,
    };
    file.display().to_string()
}

/// Each parameter that differs from what the kubelet requires, with its value and the required one.
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
    let is = |(name, now, wanted): &_| format!("{name} is {now} but must be {wanted}");
    let evidence: Vec<String> = differing.iter().map(is).collect();
    let set = |(name, _, wanted): &_| format!("{name}={wanted}");
    let lines: Vec<String> = differing.iter().map(set).collect();
    let (evidence, lines) = (evidence.join(", "), lines.join(" "));
    let mut commands = vec![
        format!("sysctl -w {lines}"),
        format!("printf '%s\\n' {lines} >> /etc/sysctl.d/90-kubelet.conf"),
    ];
    let location = Location::File(PathBuf::from("/proc/sys"));
    if settings.protect_kernel_defaults.value {
        let impact = Impact::fatal(
            "With --protect-kernel-defaults the kubelet does not set them itself, and does not \
             start (\"invalid kernel flag\")",
        );
        let words = "Set them now and for the next boot, then restart kubelite";
        commands.push(MICROK8S.restart());
        let remedy = Remedy::run(words, commands);
        return Some(KERNEL_DEFAULTS_DIFFER.finding(impact, location, evidence, remedy));
    }
    if is_in_user_namespace(settings) {
        return None;
    }
    let impact =
        Impact::fatal("The kubelet sets such parameters when it starts, and exits if it cannot");
    let evidence = format!("/proc/sys is read-only, and {evidence}");
    let words = "Run these commands on the host of this container, then restart the container";
    let remedy = Remedy::run(words, commands);
    Some(KERNEL_PARAMETERS_READ_ONLY.finding(impact, location, evidence, remedy))
}

/// With this gate the kubelet only logs what it cannot do in a user namespace.
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
            "Add lxc.mount.entry = /dev/kmsg dev/kmsg none bind,optional,create=file to the \
             container's configuration"
        }
        Some(Manager::Lxd) => {
            "On the host, run lxc config device add NAME kmsg unix-char source=/dev/kmsg \
             path=/dev/kmsg (with Incus: incus instead of lxc)"
        }
        Some(Manager::Docker | Manager::Podman) => "Start the container with --device /dev/kmsg",
        Some(Manager::Nspawn) => "Start the container with --bind=/dev/kmsg",
        Some(Manager::Wsl | Manager::Other(_)) | None => {
            "Configure the container manager to pass /dev/kmsg in"
        }
    };
    let remedy = Remedy::run(
        format!("{how}. Or link it to /dev/console inside the container"),
        [
            "echo 'L /dev/kmsg - - - - /dev/console' > /etc/tmpfiles.d/kmsg.conf".to_owned(),
            "systemd-tmpfiles --create".to_owned(),
            MICROK8S.restart(),
        ],
    );
    let impact = Impact::fatal("The kubelet exits (\"failed to create kubelet: open /dev/kmsg\")");
    let location = Location::File(PathBuf::from("/dev/kmsg"));
    let evidence = "This container does not have the device";
    Some(KERNEL_LOG_MISSING.finding(impact, location, evidence, remedy))
}

fn inotify(host: &Host) -> Option<Finding> {
    let (used_up, limit) = host.node.inotify.as_ref()?;
    let (what, enough) = match used_up {
        Inotify::Instances => ("instances", 1024_u32),
        Inotify::Watches => ("watches", 1_048_576),
    };
    // The present limit may be higher than what is usually enough.
    let enough = limit
        .parse::<u32>()
        .map_or(enough, |limit| enough.max(limit.saturating_mul(2)));
    let limit = if limit.is_empty() { "not known" } else { limit };
    let parameter = used_up.parameter();
    let evidence = format!("All of root's inotify {what} are in use (the limit is {limit})");
    let remedy = Remedy::run(
        "Raise the limit now and for the next boot, then restart kubelite",
        [
            format!("sysctl -w {parameter}={enough}"),
            format!("echo {parameter}={enough} >> /etc/sysctl.d/90-inotify.conf"),
            MICROK8S.restart(),
        ],
    );
    let impact = Impact::fatal("The kubelet exits (\"Failed to start cAdvisor\")");
    let file = format!("/proc/sys/{}", parameter.replace('.', "/"));
    let location = Location::File(PathBuf::from(file));
    Some(INOTIFY_USED_UP.finding(impact, location, evidence, remedy))
}
