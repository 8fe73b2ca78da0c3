//! Settings that cannot be used, and the workaround `--cgroups-per-qos=false`.

use nix::errno::Errno;

use crate::faults::{Fault, Finding, Impact, Location, Nature, Remedy};
use crate::kubelet::{ErrorKind, Settings, SettingsError};

pub(super) const FAULTS: &[&Fault] = &[&QOS_DISABLED, &SETTINGS_UNREADABLE];

pub(crate) static SETTINGS_UNREADABLE: Fault = Fault {
    name: "settings-unreadable",
    message_id: "0200e4dffd7b4c8792f3cbd47ca38741",
    title: "The kubelet's settings cannot be known",
    meaning: "A file that says how the kubelet is configured cannot be read, or holds what the \
              kubelet of this version refuses: then it does not start. Or what the settings come \
              to depends on what only the running service, another container runtime or the \
              kubelet's version could say. Which cgroups it wants cannot be known then.",
    signs: "Reading or parsing the args file, a KubeletConfiguration or containerd's configuration \
            fails, or a value breaks the kubelet's own rules; the finding shows file and line, and \
            the kubelet's words.",
    remedy: "Nothing is guessed and nothing is changed.",
    by_hand: "Correct the named line or file; an ordinary user may have to run kubepods-repair as \
              root. A file of NUL bytes after a power cut has to come from a backup or from \
              /snap/microk8s/current/default-args. Where the kubelet asks another runtime than \
              MicroK8s' own containerd for its cgroup driver, set --cgroup-driver to what that \
              runtime uses.",
    threads: &[],
    does: "changes nothing and reports the file and the line",
    nature: Nature::Fault,
};

pub(crate) static QOS_DISABLED: Fault = Fault {
    name: "qos-disabled",
    message_id: "4aca5a0f507f4e9aaa56e4b250a58f1c",
    title: "The kubelet runs with cgroups-per-qos=false",
    meaning: "This is the common workaround for a kubelet that does not find kubepods. It makes \
              the node start, and gives up the isolation of pods by QoS class and the reservations \
              of the node.",
    signs: "--cgroups-per-qos=false, or cgroupsPerQOS: false, in the kubelet's settings.",
    remedy: "kubepods-repair does nothing. It says whether the host is fit to run without the \
             workaround.",
    by_hand: "Where it is: delete --cgroups-per-qos=false and --enforce-node-allocatable= from \
              /var/snap/microk8s/current/args/kubelet and restart MicroK8s. Every running pod is \
              then killed and started anew.",
    threads: &["canonical/microk8s#4378", "canonical/microk8s#4361"],
    does: "reports whether the workaround can be removed",
    nature: Nature::Fault,
};

pub(super) fn qos_disabled(settings: &Settings, hypothetical: &[Finding]) -> Finding {
    let location = Location::Setting(settings.cgroups_per_qos.origin.clone());
    let evidence =
        "cgroups-per-qos is false: the kubelet makes no kubepods, and nothing here needs repair";
    if settings.enforces_without_qos() {
        let effect = "the kubelet refuses to start: without QoS groups it cannot enforce node \
                      allocatable";
        let how = "beside --cgroups-per-qos=false give --enforce-node-allocatable= (empty), or \
                   remove the workaround";
        return QOS_DISABLED.finding(Impact::fatal(effect), location, evidence, Remedy::tell(how));
    }
    let blocker = hypothetical
        .iter()
        .find(|finding| finding.is_beyond_repair());
    let remedy = Remedy::tell(match blocker {
        None => "this host can run without the workaround: delete --cgroups-per-qos=false and \
                 --enforce-node-allocatable= from the args file and restart MicroK8s; this kills \
                 and recreates every running pod"
            .to_owned(),
        Some(Finding { fault, .. }) => format!(
            "leave it for now: without it the kubelet would not start because of {}",
            fault.name
        ),
    });
    let impact = Impact::notice("pods run without the limits of their QoS class");
    QOS_DISABLED.finding(impact, location, evidence, remedy)
}

/// The one finding of a host whose kubelet settings are not known: nothing that depends on them is
/// touched.
pub fn unreadable(error: &SettingsError) -> Finding {
    let impact = Impact::fatal(match error.kind() {
        ErrorKind::Refused => "the kubelet does not start with these settings",
        ErrorKind::Unknown => {
            "which cgroups the kubelet wants cannot be known, and a guess could do harm"
        }
    });
    let location = Location::File(error.path());
    let remedy = Remedy::tell(how_to_make_known(error));
    SETTINGS_UNREADABLE.finding(impact, location, error.to_string(), remedy)
}

fn how_to_make_known(error: &SettingsError) -> String {
    if let Some(read) = error.failed_read()
        && matches!(read.errno, Errno::EACCES | Errno::EPERM)
    {
        return "run kubepods-repair as root".to_owned();
    }
    match error {
        SettingsError::RuntimeUnknown { endpoint, .. } => format!(
            "set --cgroup-driver in the kubelet's args file to the driver that the runtime at \
             {endpoint} uses (cgroupfs or systemd); nothing has been changed"
        ),
        SettingsError::VersionUnknown { containerd, .. } => format!(
            "nothing to do if the snap is only not mounted yet: the kubelet's pre-start looks \
             again. Setting --cgroup-driver={containerd} in the kubelet's args file makes it \
             independent of the version"
        ),
        _ => "correct the named line or file; nothing has been changed".to_owned(),
    }
}
