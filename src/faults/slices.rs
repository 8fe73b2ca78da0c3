//! The slices of the systemd driver: whether they exist, whether systemd manages them, and whether
//! systemd keeps their controllers.
//!
//! An anchor has no effect here, since systemd rewrites the `cgroup.subtree_control` of its slices
//! as it does the root's. systemd keeps a controller only if a unit asks for it: a slice with
//! `AllowedCPUs=` makes it keep cpuset in the groups above, one with `CPUWeight=` makes it keep cpu
//! (`cgroup_context_get_mask`). Before 1.32 the kubelet sets only the second itself. systemd does
//! not know hugetlb and never disables it; libcontainer enables it in `cgroup.subtree_control`
//! itself, with the systemd driver too.
//!
//! Before the pre-start of the kubelet, this program leaves slices alone. Early in the boot no
//! system bus is up, and units wait for this program while it would wait for systemd. A slice that
//! is asked for later loses nothing, because its contents are created with it. Early in the boot
//! only the root's controllers are enabled, before a pinned task can make the kernel refuse them.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::finding::shell_word;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step};
use crate::host::partitions::Cpus;
use crate::host::units::{self, SliceUnit, UnitFile};
use crate::kubelet::microk8s::MICROK8S;
use crate::kubelet::microk8s::Version;

pub(super) const FAULTS: &[&Fault] = &[
    &SLICE_CONTROLLER_DROPPED,
    &SLICE_FAILED,
    &SLICE_FOREIGN,
    &SLICE_MASKED,
    &SLICE_MISSING,
    &SLICE_UNOWNED,
];

pub(crate) static SLICE_CONTROLLER_DROPPED: Fault = Fault {
    name: "slice-controller-dropped",
    message_id: "9e1d7cd8578040af8e4af56dfb703db1",
    title: "systemd does not keep the controllers of a slice",
    meaning: "With the systemd cgroup driver, kubepods is a slice. In this slice and above it, \
              systemd disables every controller that none of its units asks for. This slice asks \
              for too few controllers, or systemd has already disabled one.",
    signs: "AllowedCPUs= (which makes systemd keep cpuset) or CPUWeight= (which makes it keep cpu) \
            is set neither in the slice's unit file nor in a drop-in. Or \
            kubepods.slice/cgroup.subtree_control lacks a controller that the kubelet needs.",
    remedy: "kubepods-repair sets AllowedCPUs= and CPUWeight= on the slice until the next boot, \
             unless they are set already, and enables the missing controllers.",
    by_hand: "systemctl set-property --runtime kubepods.slice AllowedCPUs=0-N CPUWeight=100, where \
              N is the number of the last CPU. Do the same for kubepods-burstable.slice and \
              kubepods-besteffort.slice.",
    threads: &["kubernetes/kubernetes#122955", "coreos/go-systemd#443"],
    does: "sets the properties that make systemd keep the controller",
    nature: Nature::Fault,
};

pub(crate) static SLICE_FAILED: Fault = Fault {
    name: "slice-failed",
    message_id: "5b296a0e6645447d8870e6c9dbc2f2e2",
    title: "systemd does not create a slice of the kubelet",
    meaning: "kubepods-repair asked systemd for a slice of the kubelet, and systemd refused or did \
              not answer. The kubelet asks for the same slice when it starts.",
    signs: "systemd's answer over D-Bus, or no answer within three seconds. kubepods-repair asks \
            systemd only if the cgroups show that something is wrong.",
    remedy: "kubepods-repair reports systemd's answer and does not ask again in the same run.",
    by_hand: "systemctl status kubepods.slice shows whether the files of the slice contain \
              something that systemd does not accept. systemctl status dbus.service shows whether \
              the bus is running. Correct this, then run kubepods-repair again.",
    threads: &["kubernetes/kubernetes#43856"],
    does: "reports systemd's answer",
    nature: Nature::Fault,
};

pub(crate) static SLICE_FOREIGN: Fault = Fault {
    name: "slice-foreign",
    message_id: "c1c78b02a0954170b473e082f32bf08a",
    title: "A unit file for a slice of the kubelet is installed",
    meaning: "Because a unit file with the name of this slice is installed, systemd refuses the \
              transient unit that the kubelet asks for. The kubelet ignores this and never starts \
              the slice. On cgroup v2 the kubelet does not start unless something else starts the \
              slice.",
    signs: "A file with the slice's name in one of systemd's unit directories other than \
            /run/systemd/transient.",
    remedy: "kubepods-repair does not change the file. If kubepods.slice lacks a controller, it \
             asks systemd for the slices of the QoS classes, and systemd then starts \
             kubepods.slice as well. Where this is not possible, it reports what to put into the \
             file.",
    by_hand: "Put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] into the file, run \
              systemctl daemon-reload, and start the slice with systemctl start. Or remove the \
              file. Drop-ins do no harm: kubepods-repair respects them.",
    threads: &[],
    does: "starts the slice together with those inside it, or reports what to put into its file",
    nature: Nature::Fault,
};

pub(crate) static SLICE_MASKED: Fault = Fault {
    name: "slice-masked",
    message_id: "fa01699a444c4131b4c07d28b2952f9c",
    title: "A slice of the kubelet is masked",
    meaning: "systemd never starts a masked unit, so a kubelet with the systemd cgroup driver does \
              not start (\"Unit kubepods.slice is masked\").",
    signs: "The slice's unit file is empty, or a link to /dev/null.",
    remedy: "kubepods-repair does not unmask it: it may have been masked on purpose.",
    by_hand: "systemctl unmask kubepods.slice. If the link was made by hand, remove it and run \
              systemctl daemon-reload.",
    threads: &[],
    does: "reports the command that unmasks it",
    nature: Nature::Fault,
};

pub(crate) static SLICE_MISSING: Fault = Fault {
    name: "slice-missing",
    message_id: "426934c3927d48cdaf6e53f8343971d3",
    title: "A slice of the kubelet does not exist",
    meaning: "With the systemd cgroup driver, kubepods and the cgroups of the QoS classes are \
              slices, which do not exist after a boot. A kubelet before 1.32 asks systemd for them \
              without AllowedCPUs=. systemd then disables cpuset, and the first start of the \
              kubelet after a boot fails. The second start works. Later kubelets set AllowedCPUs= \
              and start at once.",
    signs: "kubepods.slice, or the slice of a QoS class in it, does not exist.",
    remedy: "kubepods-repair asks systemd for the slices as the kubelet would, but also sets \
             AllowedCPUs= and CPUWeight=, so that systemd keeps the controllers.",
    by_hand: "Start the kubelet a second time: snap restart microk8s.daemon-kubelite.",
    threads: &["kubernetes/kubernetes#122955"],
    does: "asks systemd to create the slice and to keep its controllers",
    nature: Nature::HealedByKubelet,
};

pub(crate) static SLICE_UNOWNED: Fault = Fault {
    name: "slice-unowned",
    message_id: "cbb4a998f0b849f89e0df96a939c6bd4",
    title: "systemd does not manage a slice of the kubelet",
    meaning: "The cgroup of the slice exists, but systemd was never asked for the slice: the \
              cgroup was created by hand, or it appeared together with a scope inside it. It \
              passes the kubelet's check, but systemd later disables its controllers. If it is the \
              slice of a QoS class, the kubelet does not start, because it cannot set limits on a \
              unit that systemd does not know.",
    signs: "The cgroup exists, but there is no unit file with its name.",
    remedy: "kubepods-repair asks systemd for the slice. systemd then takes over the cgroup with \
             everything in it.",
    by_hand: "If the cgroup is empty, remove it with rmdir and restart kubelite.",
    threads: &[],
    does: "asks systemd to create the slice and take over the cgroup",
    nature: Nature::HealedByKubelet,
};

/// The first kubelet that sets `AllowedCPUs=`, so that its slices keep cpuset.
const KEEPS_CPUSET: Version = Version(1, 32);

/// The controllers that systemd keeps only if a slice asks for them, each with the property that
/// asks for it.
const TO_BE_ASKED_FOR: [(&str, &str); 2] = [("cpu", "CPUWeight"), ("cpuset", "AllowedCPUs")];

/// The evidence of a slice that systemd does not know.
pub(super) const UNOWNED: &str = "The cgroup exists, but systemd has no unit file for it: it was \
                                  created by hand, or together with a scope inside it";

/// The impact of such a slice of a QoS class.
pub(super) const DIES_OF_LIMITS: &str = "The kubelet does not start, because it cannot set limits \
                                         on a unit that systemd does not know";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    if case.leaves_slices() {
        return Vec::new();
    }
    let judged = |(path, unit)| judge(case, path, unit);
    case.tree.slices.iter().filter_map(judged).collect()
}

fn judge(case: &Case, path: &CgroupPath, unit: &SliceUnit) -> Option<Finding> {
    let group = case.group(path);
    if let Some(words) = units::refusal(&case.learned.unmade, path) {
        let has_all = group.map(|group| case.wanted().minus(&group.controllers).is_empty());
        return Some(failed(case.at(path), path, words, has_all == Some(true)));
    }
    let is_own = case.layout.is_own(path);
    match (&unit.file, group) {
        (UnitFile::Empty(file), _) => Some(masked(case.at(path), path, file)),
        (UnitFile::Installed(file), _) => foreign(case, path, file).or_else(|| dropped(case, path)),
        (file, None) if is_own => missing(case, path, file),
        (UnitFile::None, Some(_)) if is_own => Some(unowned(case, path)),
        (UnitFile::Transient, Some(_)) if is_own => dropped(case, path),
        (UnitFile::None | UnitFile::Transient, _) => None,
    }
}

/// Whether no unit file is installed for the slice, so that this program may ask systemd for it and
/// set properties on it.
pub fn may_be_asked_for(unit: &SliceUnit) -> bool {
    matches!(unit.file, UnitFile::None | UnitFile::Transient)
}

/// The step that creates a slice which the kubelet requires. A slice with an installed unit file is
/// started, and no property is set on it. `None` for a masked one.
pub(super) fn start(case: &Case, slice: &CgroupPath) -> Option<Step> {
    match case.tree.slices.get(slice).map(|unit| &unit.file) {
        None | Some(UnitFile::None | UnitFile::Transient) => Some(ask_for(case, slice)),
        Some(UnitFile::Installed(_)) => Some(Step::StartSlice(slice.clone())),
        Some(UnitFile::Empty(_)) => None,
    }
}

/// The step that asks for a slice, with the properties that its files do not set already.
fn ask_for(case: &Case, slice: &CgroupPath) -> Step {
    Step::AskForSlice {
        slice: slice.clone(),
        keeping: keeping(case, slice),
    }
}

fn keeping(case: &Case, slice: &CgroupPath) -> Controllers {
    let unit = case.tree.slices.get(slice);
    let mut keeping = Controllers::default();
    for (controller, property) in TO_BE_ASKED_FOR {
        let is_kept = unit.is_some_and(|unit| unit.sets.contains(property));
        let free_cpus = unit.and_then(|unit| unit.free_cpus.as_ref());
        let has_none = controller == "cpuset" && free_cpus.is_some_and(Cpus::is_empty);
        if !is_kept && !has_none && case.wanted().contains(controller) {
            keeping.insert(controller);
        }
    }
    keeping
}

/// The steps that ask systemd for all slices of the kubelet. They also enable the controllers in
/// kubepods that systemd does not know.
pub(super) fn ask_for_all(case: &Case) -> Vec<Step> {
    if !case.by_systemd() || case.leaves_slices() {
        return Vec::new();
    }
    let kubepods = &case.layout.kubepods;
    let mut steps = Vec::new();
    for slice in case.layout.own() {
        let is_wanted = slice == kubepods || case.may_make_qos_groups();
        if is_wanted && is_ours(case, slice) {
            steps.push(ask_for(case, slice));
        }
    }
    let will_be_there = case.group(kubepods).is_some() || is_ours(case, kubepods);
    if will_be_there {
        steps.extend(case.pass_on(kubepods));
    }
    steps
}

fn is_ours(case: &Case, slice: &CgroupPath) -> bool {
    case.tree.slices.get(slice).is_some_and(may_be_asked_for)
}

/// Whether the kubelet loses cpuset by asking for its slices. This happens to a kubelet before 1.32
/// if it is the first to ask since the boot: systemd rewrites the root's controllers between
/// libcontainer's write and the kubelet's check.
pub(super) fn kubelet_dies_of_asking(case: &Case) -> bool {
    let unit = case.tree.slices.get(&case.layout.kubepods);
    let is_new = unit.is_some_and(|unit| unit.file == UnitFile::None);
    let version = case.host.version;
    let keeps_cpuset = version.is_some_and(|version| version >= KEEPS_CPUSET);
    is_new && !keeps_cpuset && case.lacking(&CgroupPath::root()).contains("cpuset")
}

fn impact_of_asking(case: &Case, path: &CgroupPath) -> Impact {
    if *path == case.layout.kubepods && kubelet_dies_of_asking(case) {
        Impact::fatal(
            "This kubelet asks systemd for the slice without AllowedCPUs=. systemd then disables \
             cpuset before the kubelet checks for it, and the kubelet does not start",
        )
    } else {
        Impact::notice(
            "The kubelet asks systemd for it when it starts, but systemd may disable its \
             controllers later",
        )
    }
}

fn missing(case: &Case, path: &CgroupPath, file: &UnitFile) -> Option<Finding> {
    let kubepods = &case.layout.kubepods;
    let comes_with_kubepods = case.group(kubepods).is_none() && is_ours(case, kubepods);
    if path != kubepods && (comes_with_kubepods || !case.may_make_qos_groups()) {
        return None;
    }
    let evidence = if *file == UnitFile::Transient {
        "The slice does not exist, although systemd still has its transient unit file"
    } else {
        "The slice does not exist, which is normal after a boot"
    };
    let (impact, remedy) = (impact_of_asking(case, path), steps(case, path));
    Some(SLICE_MISSING.finding(impact, case.at(path), evidence, remedy))
}

fn unowned(case: &Case, path: &CgroupPath) -> Finding {
    let impact = if *path == case.layout.kubepods {
        impact_of_asking(case, path)
    } else {
        Impact::fatal(DIES_OF_LIMITS)
    };
    SLICE_UNOWNED.finding(impact, case.at(path), UNOWNED, steps(case, path))
}

fn dropped(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let is_kubepods = *path == case.layout.kubepods;
    let lacking = case.lacking(path).minus(&case.withheld);
    let unkept = keeping(case, path);
    let (evidence, remedy, controllers) = if is_kubepods && !lacking.is_empty() {
        let evidence = format!("Not enabled for child cgroups: {lacking}");
        (evidence, steps(case, path), lacking)
    } else if is_ours(case, path) && !unkept.is_empty() {
        let evidence = format!("No property of the slice makes systemd keep {unkept}");
        (evidence, Remedy::step(ask_for(case, path)), unkept)
    } else {
        return None;
    };
    let impact = Impact::notice(
        "systemd disables such controllers for the pods below at a daemon-reload or when units \
         start, unless it has already done so",
    );
    let finding = SLICE_CONTROLLER_DROPPED.finding(impact, case.at(path), evidence, remedy);
    Some(finding.about(controllers))
}

/// What repairs a slice: kubepods is repaired with all slices below it, any other one alone.
fn steps(case: &Case, path: &CgroupPath) -> Remedy {
    Remedy::Steps(if *path == case.layout.kubepods {
        ask_for_all(case)
    } else {
        vec![ask_for(case, path)]
    })
}

/// A slice with an installed unit file. No properties are set on it, but systemd starts it together
/// with the first slice inside it that is asked for. A cgroup root or reserved group is not judged
/// here: it is started, and gets its controllers from the group above.
fn foreign(case: &Case, path: &CgroupPath, file: &Path) -> Option<Finding> {
    if !case.layout.is_own(path) {
        return None;
    }
    let has = case.group(path).map(|group| group.controllers.clone());
    let lacking = case.wanted().minus(&has.unwrap_or_default());
    if lacking.is_empty() {
        return None;
    }
    let file = file.display();
    let evidence = format!("The unit file {file} is installed, and the slice lacks {lacking}");
    let is_kubepods = *path == case.layout.kubepods;
    let impact = if is_kubepods {
        Impact::fatal(
            "The kubelet never starts such a slice and fails with \"root container [kubepods] \
             doesn't exist\"",
        )
    } else {
        Impact::degraded(
            "The kubelet does not change such a slice, so the pods below do not get all their \
             limits",
        )
    };
    let inside = if is_kubepods {
        ask_for_all(case)
    } else {
        Vec::new()
    };
    let remedy = if inside.is_empty() {
        let words = format!(
            "Put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] into {file}, then \
             start the slice"
        );
        let start = systemctl("start", path);
        Remedy::run(words, ["systemctl daemon-reload", start.as_str()])
    } else {
        Remedy::Steps(inside)
    };
    let finding = SLICE_FOREIGN.finding(impact, case.at(path), evidence, remedy);
    Some(finding.about(lacking))
}

/// A command of `systemctl` for a slice.
pub(super) fn systemctl(verb: &str, slice: &CgroupPath) -> String {
    format!("systemctl {verb} {}", shell_word(slice.name().display()))
}

pub(super) fn masked(location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let file = file.display();
    let evidence = format!("{file} masks the slice");
    let impact =
        Impact::fatal("systemd never starts a masked unit, so the kubelet does not start either");
    let words = format!("Unmask the slice (or remove {file}), then restart kubelite");
    let unmask = systemctl("unmask", path);
    let commands = [
        unmask,
        "systemctl daemon-reload".to_owned(),
        MICROK8S.restart(),
    ];
    let remedy = Remedy::run(words, commands);
    SLICE_MASKED.finding(impact, location, evidence, remedy)
}

pub(super) fn failed(location: Location, path: &CgroupPath, words: &str, is_fit: bool) -> Finding {
    let impact = if is_fit {
        Impact::degraded("The kubelet asks systemd for the same slice and gets the same answer")
    } else {
        Impact::fatal(
            "The kubelet asks systemd for the same slice, gets the same answer and does not start",
        )
    };
    let evidence = format!("systemd did not create the slice: {words}");
    let status = systemctl("status", path);
    let remedy = Remedy::run(
        "Find out whether systemd rejects the files of the slice, and whether the bus is running",
        [status.as_str(), "systemctl status dbus.service"],
    );
    SLICE_FAILED.finding(impact, location, evidence, remedy)
}
