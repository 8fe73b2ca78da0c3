//! The slices of the systemd driver: there, systemd's own, and such that systemd keeps their
//! controllers.
//!
//! An anchor holds nothing here, since systemd rewrites the `cgroup.subtree_control` of its slices
//! as it does the root's. What holds is systemd's own wish: a slice with `AllowedCPUs=` makes it
//! keep cpuset above, one with `CPUWeight=` cpu (`cgroup_context_get_mask`), and the kubelet sets
//! only the second itself, before 1.32. hugetlb is unknown to systemd: it never takes it away, and
//! libcontainer writes it into `cgroup.subtree_control` itself, with the systemd driver too.
//!
//! Before the kubelet's own pre-start slices are left alone. Early in the boot no system bus is up,
//! units wait for this program while it would wait for systemd, and a slice asked for later loses
//! nothing: what it holds is made anew with it. Only the root's controllers are switched on then,
//! before a pinned task can make the kernel refuse them.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step};
use crate::host::partitions::Cpus;
use crate::host::units::{self, SliceUnit, UnitFile};
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
    title: "Nothing makes systemd keep the controllers of a slice",
    meaning: "With the systemd cgroup driver kubepods is a slice, and systemd switches off in it, \
              and above it, what none of its units asks for. This slice asks for too little, or a \
              controller is gone from it already.",
    signs: "Neither the slice's unit file nor a drop-in sets AllowedCPUs=, which makes systemd \
            keep cpuset, or CPUWeight=, which makes it keep cpu; or \
            kubepods.slice/cgroup.subtree_control lacks a word that the kubelet needs.",
    remedy: "kubepods-repair sets both properties on the slice until the next boot, where nobody \
             has set them, and switches on what is gone.",
    by_hand: "systemctl set-property --runtime kubepods.slice AllowedCPUs=0-N CPUWeight=100, with \
              N the last CPU; the same for kubepods-burstable.slice and \
              kubepods-besteffort.slice.",
    threads: &["kubernetes/kubernetes#122955", "coreos/go-systemd#443"],
    does: "sets the properties that make systemd keep the controller",
    nature: Nature::Fault,
};

pub(crate) static SLICE_FAILED: Fault = Fault {
    name: "slice-failed",
    message_id: "5b296a0e6645447d8870e6c9dbc2f2e2",
    title: "systemd does not make a slice",
    meaning: "systemd was asked for a slice of the kubelet and refused it, or did not answer. The \
              kubelet asks for the same slice at its start.",
    signs: "systemd's answer over D-Bus, or that there was none within three seconds. It is only \
            asked when the cgroups show that something is wrong.",
    remedy: "kubepods-repair tells systemd's answer, and asks no second time in one run.",
    by_hand: "systemctl status kubepods.slice tells whether its files hold what systemd does not \
              accept; systemctl status dbus.service whether the bus is up. Then run \
              kubepods-repair again.",
    threads: &["kubernetes/kubernetes#43856"],
    does: "reports systemd's answer",
    nature: Nature::Fault,
};

pub(crate) static SLICE_FOREIGN: Fault = Fault {
    name: "slice-foreign",
    message_id: "c1c78b02a0954170b473e082f32bf08a",
    title: "A slice of the kubelet has somebody else's unit file",
    meaning: "A unit file of this name is installed, so that systemd refuses the transient unit \
              that the kubelet asks for. The kubelet takes no notice and never starts the slice, \
              and on version 2 dies if nobody else does.",
    signs: "A file of the slice's name in one of systemd's folders other than \
            /run/systemd/transient.",
    remedy: "kubepods-repair leaves the file alone. Where kubepods.slice is not fit, it asks for \
             the slices of the QoS classes in it, with which systemd starts it; of those it tells \
             what to put into the file.",
    by_hand: "Put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] into it, systemctl \
              daemon-reload, and systemctl start the slice; or take the file away. Drop-ins are \
              welcome: they are respected.",
    threads: &[],
    does: "starts the slice with those inside it; otherwise reports what to put into its file",
    nature: Nature::Fault,
};

pub(crate) static SLICE_MASKED: Fault = Fault {
    name: "slice-masked",
    message_id: "fa01699a444c4131b4c07d28b2952f9c",
    title: "A slice of the kubelet is masked",
    meaning: "A masked unit is started for nobody, and the kubelet with the systemd cgroup driver \
              dies of it.",
    signs: "The slice's unit file is empty, or a link to /dev/null.",
    remedy: "kubepods-repair leaves it alone: somebody has masked it.",
    by_hand: "systemctl unmask kubepods.slice; for a link made by hand, remove it and run \
              systemctl daemon-reload.",
    threads: &[],
    does: "reports the command that unmasks it",
    nature: Nature::Fault,
};

pub(crate) static SLICE_MISSING: Fault = Fault {
    name: "slice-missing",
    message_id: "426934c3927d48cdaf6e53f8343971d3",
    title: "A slice of the kubelet does not exist",
    meaning: "With the systemd cgroup driver kubepods and the QoS groups are slices, which are \
              gone after every boot. A kubelet before 1.32 asks systemd for them in a way that \
              makes it lose cpuset, and dies at its first start after a boot; the second start \
              works. Later kubelets ask for their CPUs as well and survive.",
    signs: "There is no kubepods.slice, or no slice of a QoS class in it.",
    remedy: "kubepods-repair asks systemd for them as the kubelet would, with AllowedCPUs= and \
             CPUWeight= besides, so that systemd itself keeps the controllers.",
    by_hand: "Start the kubelet a second time.",
    threads: &["kubernetes/kubernetes#122955"],
    does: "asks systemd for the slice, and to keep its controllers",
    nature: Nature::HealedByKubelet,
};

pub(crate) static SLICE_UNOWNED: Fault = Fault {
    name: "slice-unowned",
    message_id: "cbb4a998f0b849f89e0df96a939c6bd4",
    title: "systemd was never asked for a slice of the kubelet",
    meaning: "The group is there and systemd was never asked for it: a directory made by hand, or \
              a slice that came up with a scope in it. It passes the kubelet's look, and systemd \
              takes its controllers away later; of the slice of a QoS class the kubelet dies, \
              since it cannot have systemd limit what systemd does not know.",
    signs: "The directory is there, and no unit file of its name.",
    remedy: "kubepods-repair asks systemd for the slice, which takes the group over with all that \
             is in it.",
    by_hand: "If the group is empty, rmdir it and start the kubelet.",
    threads: &[],
    does: "asks systemd for the slice, which then takes the group over",
    nature: Nature::HealedByKubelet,
};

/// The first kubelet that sets `AllowedCPUs=`, so that its slices keep cpuset.
const KEEPS_CPUSET: Version = Version(1, 32);

/// The controllers that systemd keeps only where a slice asks for it, and the property that does.
const TO_BE_ASKED_FOR: [(&str, &str); 2] = [("cpu", "CPUWeight"), ("cpuset", "AllowedCPUs")];

/// The evidence of a slice that systemd does not know.
pub(super) const UNOWNED: &str = "the group is there and systemd has no unit file of it: it was \
                                  made by hand, or came with a scope in it";

/// What the kubelet makes of such a slice of a QoS class.
pub(super) const DIES_OF_LIMITS: &str = "the kubelet takes it as it is, and dies of setting limits \
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

/// Whether the slice is nobody's own, so that it may be asked for and told what to keep.
pub fn may_be_asked_for(unit: &SliceUnit) -> bool {
    matches!(unit.file, UnitFile::None | UnitFile::Transient)
}

/// The step that brings a slice up that the kubelet demands: one with a unit file of its own is
/// started and told nothing; `None` for a masked one.
pub(super) fn start(case: &Case, slice: &CgroupPath) -> Option<Step> {
    match case.tree.slices.get(slice).map(|unit| &unit.file) {
        None | Some(UnitFile::None | UnitFile::Transient) => Some(ask_for(case, slice)),
        Some(UnitFile::Installed(_)) => Some(Step::StartSlice(slice.clone())),
        Some(UnitFile::Empty(_)) => None,
    }
}

/// Asks for a slice that keeps whatever its files do not make it keep already.
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

/// All of the kubelet's own slices, and from kubepods down what systemd does not know.
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

/// A kubelet before 1.32 that asks for slices nobody has asked for since the boot loses cpuset in
/// doing so: systemd rewrites the root's controllers between libcontainer's write and the kubelet's
/// look.
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
            "this kubelet asks systemd for it without AllowedCPUs=, so that systemd takes cpuset \
             away again before the kubelet looks",
        )
    } else {
        Impact::notice(
            "the kubelet asks systemd for it at its start, but systemd may take its controllers \
             away again",
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
        "the slice does not exist, though systemd still has its transient unit file"
    } else {
        "the slice does not exist, as after every boot"
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
    let (what, remedy, controllers) = if is_kubepods && !lacking.is_empty() {
        ("not passed on:", steps(case, path), lacking)
    } else if is_ours(case, path) && !unkept.is_empty() {
        let remedy = Remedy::step(ask_for(case, path));
        ("nothing makes systemd keep", remedy, unkept)
    } else {
        return None;
    };
    let evidence = format!("{what} {controllers}");
    let impact = Impact::notice(
        "systemd takes such a controller away from the pods below, or has already, when it next \
         looks at its units",
    );
    let finding = SLICE_CONTROLLER_DROPPED.finding(impact, case.at(path), evidence, remedy);
    Some(finding.about(controllers))
}

/// What cures a slice: kubepods with all below it, any other alone.
fn steps(case: &Case, path: &CgroupPath) -> Remedy {
    Remedy::Steps(if *path == case.layout.kubepods {
        ask_for_all(case)
    } else {
        vec![ask_for(case, path)]
    })
}

/// A slice with a unit file of its own gets no properties; but systemd starts it with the first
/// slice inside that is asked for. One that the kubelet only demands is started, and gets its
/// controllers from the group above.
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
    let evidence = format!("its unit file is {file}, and the slice lacks {lacking}");
    let mut inside = Vec::new();
    if *path == case.layout.kubepods {
        inside = ask_for_all(case);
    }
    let (impact, remedy) = if inside.is_empty() {
        let impact = Impact::degraded(
            "the kubelet takes the slice as it is, and pods below cannot get all their limits",
        );
        let remedy = Remedy::tell(format!(
            "put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] there, then systemctl \
             daemon-reload and systemctl start {}; or remove the file",
            path.name().display()
        ));
        (impact, remedy)
    } else {
        let impact = Impact::fatal(
            "the kubelet takes the slice as it is and never starts it, and says that kubepods \
             doesn't exist",
        );
        (impact, Remedy::Steps(inside))
    };
    let finding = SLICE_FOREIGN.finding(impact, case.at(path), evidence, remedy);
    Some(finding.about(lacking))
}

pub(super) fn masked(location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let evidence = format!("{} masks it", file.display());
    let impact = Impact::fatal("systemd never starts a masked unit, and the kubelet dies of it");
    let remedy = Remedy::tell(format!(
        "systemctl unmask {}, or remove the file and systemctl daemon-reload",
        path.name().display()
    ));
    SLICE_MASKED.finding(impact, location, evidence, remedy)
}

pub(super) fn failed(location: Location, path: &CgroupPath, words: &str, is_fit: bool) -> Finding {
    let severity = if is_fit {
        Impact::degraded
    } else {
        Impact::fatal
    };
    let impact = severity(
        "the kubelet asks systemd for the same slice at its start, and gets the same answer",
    );
    let remedy = Remedy::tell(format!(
        "look at systemctl status {} and at systemctl status dbus.service",
        path.name().display()
    ));
    SLICE_FAILED.finding(impact, location, words, remedy)
}
