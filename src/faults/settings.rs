//! Settings that are invalid or not known, and the workaround `--cgroups-per-qos=false`.

use nix::errno::Errno;

use crate::faults::node::{self, restore};
use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy};
use crate::faults::{confinement, disk};
use crate::host::Host;
use crate::kubelet::microk8s::MICROK8S;
use crate::kubelet::{ErrorKind, Settings, SettingsError};
use crate::root::ReadError;

pub(super) const FAULTS: &[&Fault] = &[&QOS_DISABLED, &SETTINGS_UNREADABLE];

pub(crate) static SETTINGS_UNREADABLE: Fault = Fault {
    name: "settings-unreadable",
    message_id: "0200e4dffd7b4c8792f3cbd47ca38741",
    title: "The kubelet's settings are invalid or not known",
    meaning: "kubepods-repair reads the kubelet's settings to learn which cgroups the kubelet \
              needs. Either a file does not exist, or contains a setting that this version of the \
              kubelet refuses, so that the kubelet does not start. Or kubepods-repair cannot find \
              out the value of a setting: it cannot read the file, or the value depends on the \
              environment of the service, on another container runtime, or on a version of the \
              kubelet that is not known.",
    signs: "The args file, a KubeletConfiguration file or containerd's configuration cannot be \
            read or parsed, or a value breaks the kubelet's own rules. The finding names the file \
            and the line and says what is wrong. Where the kubelet itself refuses the setting, it \
            quotes the kubelet's error.",
    remedy: "kubepods-repair changes nothing, since a guess could do harm.",
    by_hand: "Correct the line that the finding names, then run snap restart \
              microk8s.daemon-kubelite. If the file cannot be read, run kubepods-repair as root. \
              If a power cut filled the file with NUL bytes, restore it from a backup or from \
              /snap/microk8s/current/default-args. If the kubelet uses a container runtime other \
              than MicroK8s' own containerd, set --cgroup-driver to the driver of that runtime.",
    threads: &[],
    does: "changes nothing and reports the file and the line",
    nature: Nature::Fault,
};

pub(crate) static QOS_DISABLED: Fault = Fault {
    name: "qos-disabled",
    message_id: "4aca5a0f507f4e9aaa56e4b250a58f1c",
    title: "The kubelet runs with cgroups-per-qos=false",
    meaning: "With this setting the kubelet creates no kubepods cgroup. It is the common \
              workaround for a kubelet that reports that kubepods doesn't exist. The node starts, \
              but pods are no longer isolated by QoS class, and the reservations of the node are \
              not enforced. The kubelet accepts the setting only if --enforce-node-allocatable is \
              empty.",
    signs: "The kubelet's settings contain --cgroups-per-qos=false, or cgroupsPerQOS: false.",
    remedy: "kubepods-repair does nothing. It reports whether the node could run without the \
             workaround.",
    by_hand: "Once the report says that the node can run without the workaround, remove \
              --cgroups-per-qos=false and --enforce-node-allocatable= from \
              /var/snap/microk8s/current/args/kubelet, then run snap restart \
              microk8s.daemon-kubelite. The kubelet then kills and recreates every running pod.",
    threads: &["canonical/microk8s#4378", "canonical/microk8s#4361"],
    does: "reports whether the workaround can be removed",
    nature: Nature::Fault,
};

/// `hypothetical` is what would be wrong with the tree without the workaround, when kubelite is
/// restarted.
pub(super) fn qos_disabled(settings: &Settings, host: &Host, hypothetical: &[Finding]) -> Finding {
    let location = Location::Setting(settings.cgroups_per_qos.origin.clone());
    if settings.enforces_without_qos() {
        let evidence = "cgroups-per-qos is false, but enforce-node-allocatable is not empty";
        let effect = "The kubelet does not start, since it cannot enforce node allocatable without \
                      QoS cgroups";
        let how = "Add --enforce-node-allocatable= (with an empty value) to \
                   /var/snap/microk8s/current/args/kubelet, or remove --cgroups-per-qos=false, \
                   then restart kubelite";
        let remedy = Remedy::run(how, [MICROK8S.restart()]);
        return QOS_DISABLED.finding(Impact::fatal(effect), location, evidence, remedy);
    }
    let evidence = "cgroups-per-qos is false, so the kubelet creates no kubepods cgroup and there \
                    is nothing to repair";
    let confined = confinement::from_cgroups(settings, host);
    let blocker = hypothetical
        .iter()
        .chain(&confined)
        .find(|finding| finding.is_beyond_repair());
    let remedy = if let Some(Finding { fault, .. }) = blocker {
        let fault = fault.name;
        Remedy::tell(format!(
            "Keep the workaround for now. Without it the kubelet does not start because of {fault}"
        ))
    } else {
        let how = "This node can run without the workaround. Remove --cgroups-per-qos=false and \
                   --enforce-node-allocatable= from /var/snap/microk8s/current/args/kubelet, \
                   then restart kubelite, which kills and recreates every running pod";
        Remedy::run(how, [MICROK8S.restart()])
    };
    let impact = Impact::notice("Pods run without the limits of their QoS class");
    QOS_DISABLED.finding(impact, location, evidence, remedy)
}

/// The one finding of a host whose kubelet settings are not known: nothing that depends on them is
/// touched.
pub fn unreadable(error: &SettingsError) -> Finding {
    if let SettingsError::ArgsEmptied {
        path,
        filling,
        is_worker,
    } = error
    {
        return node::emptied_args(path, *filling, *is_worker);
    }
    let impact = Impact::fatal(match error.kind() {
        ErrorKind::Refused if is_absent(error) => "The kubelet does not start without this file",
        ErrorKind::Refused => "The kubelet does not start because of this error",
        ErrorKind::Unknown => {
            "kubepods-repair cannot tell which cgroups the kubelet needs, so it changes nothing"
        }
    });
    let location = Location::File(error.path());
    SETTINGS_UNREADABLE.finding(impact, location, error.evidence(), correct(error))
}

fn is_absent(error: &SettingsError) -> bool {
    error.failed_read().is_some() || matches!(error, SettingsError::ArgsMissing { .. })
}

fn correct(error: &SettingsError) -> Remedy {
    let path = error.path();
    let file = path.display();
    match error {
        SettingsError::Read { error, .. } => unread(error),
        SettingsError::NotText { path, .. } => restore(path, false),
        SettingsError::ArgsEmptied {
            path, is_worker, ..
        } => restore(path, *is_worker),
        SettingsError::ArgsMissing { path, is_worker } if path.ends_with(MICROK8S.kubelet_args) => {
            restore(path, *is_worker)
        }
        SettingsError::ArgsMissing { .. } => {
            let how = format!(
                "Create {file}, or correct --{} in /var/snap/microk8s/current/{}, then restart \
                 kubelite",
                MICROK8S.kubelet_args_flag, MICROK8S.kubelite_args
            );
            Remedy::run(how, [MICROK8S.restart()])
        }
        SettingsError::RuntimeUnknown { endpoint, .. } => {
            let how = format!(
                "Set --cgroup-driver in {file} to the driver that the runtime at {endpoint} uses \
                 (cgroupfs or systemd), then restart kubelite"
            );
            Remedy::run(how, [MICROK8S.restart()])
        }
        SettingsError::VersionUnknown { containerd, .. } => {
            let how = format!(
                "If the snap is not mounted yet, do nothing: kubepods-repair looks again \
                 before the kubelet starts. Otherwise set --cgroup-driver={containerd} in \
                 /var/snap/microk8s/current/args/kubelet, then restart kubelite"
            );
            Remedy::run(how, [MICROK8S.restart()])
        }
        SettingsError::Invalid { .. } if path.ends_with(MICROK8S.containerd_args[0]) => {
            let how = format!(
                "MicroK8s rewrites {file} from containerd-template.toml whenever containerd \
                 starts. If the template is wrong, correct it, then restart containerd and kubelite"
            );
            Remedy::run(how, [MICROK8S.restart_with_containerd()])
        }
        SettingsError::Invalid { place, kind, .. } => {
            let (services, command) = if path.ends_with(MICROK8S.containerd_args[1]) {
                (
                    "containerd and kubelite",
                    MICROK8S.restart_with_containerd(),
                )
            } else {
                ("kubelite", MICROK8S.restart())
            };
            let place = place.as_ref();
            let place =
                place.map_or_else(|| file.to_string(), |place| format!("{place} of {file}"));
            let how = match kind {
                ErrorKind::Refused => format!("Correct {place}, then restart {services}"),
                ErrorKind::Unknown => {
                    format!("If {place} is wrong, correct it, then restart {services}")
                }
            };
            Remedy::run(how, [command])
        }
    }
}

fn unread(error: &ReadError) -> Remedy {
    let file = error.path.display();
    let how = match error.errno {
        Errno::EACCES | Errno::EPERM => return Remedy::tell("Run kubepods-repair as root"),
        Errno::EIO => {
            let how = "Read what the kernel logged, and check the disk and its file system";
            return Remedy::run(how, [disk::KERNEL_LOG]);
        }
        Errno::ENOENT => format!(
            "Create {file}, or remove the setting that names it from \
             /var/snap/microk8s/current/args/kubelet, then restart kubelite"
        ),
        _ => format!("Replace {file} with a readable file, then restart kubelite"),
    };
    Remedy::run(how, [MICROK8S.restart()])
}
