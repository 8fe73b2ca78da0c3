//! Groups that the kubelet demands or makes itself: there or not.
//!
//! Rests on libcontainer's `fs2/create.go`, which dies of a kubepods that is threaded or cannot
//! pass controllers on, and on `Documentation/admin-guide/cgroup-v2.rst`, "Threads" and "No
//! Internal Process Constraint".

use crate::cgroup::CgroupPath;
use crate::faults::controllers::CONTROLLER_NOT_ENABLED;
use crate::faults::threaded::THREADED;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step, slices};
use crate::host::group::Kind;
use crate::kubelet::Settings;

pub(super) const FAULTS: &[&Fault] = &[
    &CGROUP_ROOT_MISSING,
    &QOS_GROUP_MISSING,
    &RESERVED_GROUP_MISSING,
    &ROOT_MISSING,
];

pub(crate) static CGROUP_ROOT_MISSING: Fault = Fault {
    name: "cgroup-root-missing",
    message_id: "0811cd54190e41e79194fff9332c4ac9",
    title: "The configured cgroup root does not exist",
    meaning: "The kubelet was told to keep its pods below a cgroup of its own (--cgroup-root). It \
              demands that this cgroup exists with all controllers, and never makes it. Cgroups \
              live in memory: one that was made by hand is gone after every boot.",
    signs: "The kubelet's settings name a cgroup root other than /, and it is not there.",
    remedy: "kubepods-repair makes the cgroup, switches the needed controllers on along the way \
             and anchors them in kubepods below it.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Or take --cgroup-root out of \
              the kubelet's arguments.",
    threads: &[],
    does: "makes it, with the controllers on the way",
    nature: Nature::Fault,
};

pub(crate) static QOS_GROUP_MISSING: Fault = Fault {
    name: "qos-group-missing",
    message_id: "ef86a21150da4ce8adb1892aec9eedff",
    title: "The group of a QoS class is missing",
    meaning: "kubepods holds a group for burstable and one for best-effort pods. One is not there; \
              the kubelet makes it at its start.",
    signs: "kubepods exists, and burstable or besteffort below it does not.",
    remedy: "kubepods-repair makes it.",
    by_hand: "Nothing: the kubelet makes it, unless another finding says what keeps it from doing \
              so.",
    threads: &[],
    does: "makes it",
    nature: Nature::HealedByKubelet,
};

pub(crate) static RESERVED_GROUP_MISSING: Fault = Fault {
    name: "reserved-group-missing",
    message_id: "c28a8d68d1204d2998071f2854893432",
    title: "A reserved cgroup does not exist",
    meaning: "The kubelet was told to enforce the reservation for system or Kubernetes daemons on \
              a cgroup (--system-reserved-cgroup, --kube-reserved-cgroup). It demands that this \
              cgroup exists and never makes it, and that something is reserved (\"cgroup is not \
              configured properly\").",
    signs: "enforce-node-allocatable holds system-reserved or kube-reserved, from 1.32 on also \
            with -compressible behind it, and the group named for it is not there; or nothing is \
            given with --system-reserved or --kube-reserved.",
    remedy: "kubepods-repair makes the cgroup and switches the needed controllers on along the \
             way. It reserves nothing.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Or take the enforcement out \
              of the kubelet's arguments. Where nothing is reserved: add, for example, \
              --kube-reserved=cpu=100m,memory=256Mi to /var/snap/microk8s/current/args/kubelet.",
    threads: &[],
    does: "makes it, with the controllers on the way",
    nature: Nature::Fault,
};

pub(crate) static ROOT_MISSING: Fault = Fault {
    name: "root-missing",
    message_id: "e1889b013666499dbfb187fb559886e3",
    title: "kubepods does not exist",
    meaning: "The root cgroup of all pods is not there. After a boot this is as it should be: \
              cgroups live in memory, and the kubelet makes this one at its start. Its message \
              \"root container [kubepods] doesn't exist\" means something else: it was made, and \
              lacks a controller.",
    signs: "There is no directory kubepods below the kubelet's cgroup root.",
    remedy: "kubepods-repair makes it, with the QoS groups, and anchors its controllers.",
    by_hand: "Nothing: making the directory yourself does not help a kubelet that dies.",
    threads: &["canonical/microk8s#4378"],
    does: "makes kubepods and the QoS groups",
    nature: Nature::HealedByKubelet,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let layout = case.layout;
    let mut findings: Vec<Finding> = cgroup_root_missing(case).into_iter().collect();
    // kubepods and the QoS groups the kubelet makes before it looks for reserved groups.
    let reserved = layout.reserved.iter().filter(|path| !layout.is_own(path));
    findings.extend(reserved.filter_map(|path| reserved_missing(case, path)));
    if case.by_systemd() {
        return findings;
    }
    if case.group(&layout.kubepods).is_none() {
        findings.push(root_missing(case));
    } else {
        findings.extend(layout.qos.iter().filter_map(|path| qos_missing(case, path)));
    }
    findings
}

/// The steps that make a group which the kubelet demands, from the top down, each passing the
/// needed controllers on; `None` where it is there, or not made now, or its slice is masked (that
/// is a finding of its own).
fn make_demanded(case: &Case, path: &CgroupPath) -> Option<Vec<Step>> {
    if case.group(path).is_some() || case.leaves_slices() {
        return None;
    }
    let mut steps = Vec::new();
    for above in path.ancestors() {
        if case.group(&above).is_none() {
            steps.extend(make(case, &above));
            steps.extend(case.pass_on(&above));
        }
    }
    steps.push(make(case, path)?);
    Some(steps)
}

/// `None` for a masked slice, which nothing can start.
fn make(case: &Case, path: &CgroupPath) -> Option<Step> {
    if case.by_systemd() {
        slices::start(case, path)
    } else {
        Some(Step::Make(path.clone()))
    }
}

fn cgroup_root_missing(case: &Case) -> Option<Finding> {
    let path = &case.layout.cgroup_root;
    let mut steps = make_demanded(case, path)?;
    steps.extend(case.pass_on(path));
    let impact = Impact::fatal(
        "the kubelet demands it and never makes it, and cgroups made by hand are gone after every \
         boot",
    );
    let evidence = "the cgroup that --cgroup-root names does not exist".to_owned();
    let evidence = evidence + &renamed(path);
    Some(CGROUP_ROOT_MISSING.finding(impact, case.at(path), evidence, Remedy::Steps(steps)))
}

fn reserved_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let steps = make_demanded(case, path)?;
    let impact = Impact::fatal("the kubelet demands it and never makes it");
    let evidence = "the reserved cgroup that the kubelet has to enforce does not exist".to_owned();
    let evidence = evidence + &renamed(path);
    Some(RESERVED_GROUP_MISSING.finding(impact, case.at(path), evidence, Remedy::Steps(steps)))
}

/// What the systemd driver makes of a name that is a unit's already: one more suffix. Empty for any
/// other name.
fn renamed(path: &CgroupPath) -> String {
    let name = path.name().to_string_lossy();
    let given = name.strip_suffix(".slice").unwrap_or_default();
    let is_unit = [".service", ".slice", ".scope"]
        .iter()
        .any(|suffix| given.ends_with(suffix));
    if is_unit {
        format!("; with the systemd driver the kubelet takes the name {given} for the slice {name}")
    } else {
        String::new()
    }
}

/// A reserved group that is there and that the kubelet refuses: its parent passes controllers on
/// that it has not got.
pub(super) fn unfit_reserved(case: &Case) -> Vec<Finding> {
    // Those of services are judged in `services`.
    let reserved = case.layout.reserved.iter();
    let reserved = reserved.filter(|path| path.unit().is_none());
    reserved.filter_map(|path| unfit(case, path)).collect()
}

fn unfit(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let group = case.group(path)?;
    let parent = case.group(&path.parent()?)?;
    let passed_on = case.needed.and(&parent.subtree_control);
    let lacking = passed_on.minus(&group.controllers);
    if lacking.is_empty() {
        return None;
    }
    let mut evidence = format!("this reserved cgroup lacks {lacking}");
    let (fault, file) = if group.kind == Kind::Threaded {
        evidence += ", because its type is \"threaded\"";
        (&THREADED, "cgroup.type")
    } else {
        (&CONTROLLER_NOT_ENABLED, "cgroup.controllers")
    };
    let effect = "the kubelet refuses the reserved group for missing controllers and does not \
                  start";
    let remedy = Remedy::tell(format!(
        "stop what runs in {dir} and remove it (rmdir {dir}); kubepods-repair then makes it again",
        dir = case.directory(path).display()
    ));
    let finding = fault.finding(
        Impact::fatal(effect),
        case.at_file(path, file),
        evidence,
        remedy,
    );
    Some(finding.about(lacking))
}

/// Reservations that are enforced and cannot be: nothing is reserved, or the group is the root of
/// all groups, which takes no limit (`enforceExistingCgroup` in `node_container_manager_linux.go`).
pub(super) fn unenforceable(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reservation in settings.reservations() {
        if !reservation.is_enforced {
            continue;
        }
        let (key, group) = (reservation.key, reservation.group);
        if reservation.resources.is_empty() {
            let impact =
                Impact::fatal("the kubelet does not start (\"cgroup is not configured properly\")");
            let location = Location::Setting(settings.enforced.origin.clone());
            let evidence = format!("{key} is enforced, and nothing is reserved with --{key}");
            let remedy = Remedy::tell(format!(
                "reserve something, as with --{key}=cpu=100m,memory=256Mi, or take {key} out of \
                 --enforce-node-allocatable"
            ));
            findings.push(RESERVED_GROUP_MISSING.finding(impact, location, evidence, remedy));
        }
        if group.value.as_ref().is_some_and(CgroupPath::is_root) {
            let impact =
                Impact::fatal("the kubelet does not start: the root cgroup takes no limits");
            let location = Location::Setting(group.origin.clone());
            let evidence =
                format!("--{key}-cgroup names the root of all cgroups, and {key} is enforced");
            let remedy = Remedy::tell(format!(
                "name a cgroup of its own, as with --{key}-cgroup=/{key}.slice"
            ));
            findings.push(RESERVED_GROUP_MISSING.finding(impact, location, evidence, remedy));
        }
    }
    findings
}

fn root_missing(case: &Case) -> Finding {
    let kubepods = &case.layout.kubepods;
    let mut steps = vec![Step::Make(kubepods.clone())];
    steps.extend(case.pass_on(kubepods));
    steps.extend(case.make_qos_groups());
    let evidence = "the root of all pods does not exist, as after every boot";
    let effect = "the kubelet makes it itself at its start, unless the kernel refuses it a \
                  controller";
    ROOT_MISSING.finding(
        Impact::notice(effect),
        case.at(kubepods),
        evidence,
        Remedy::Steps(steps),
    )
}

fn qos_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() || !case.may_make_qos_groups() {
        return None;
    }
    let evidence = "the group of this QoS class does not exist";
    let impact = Impact::notice("the kubelet makes it itself at its start");
    let steps = Remedy::step(Step::MakeQosGroup(path.clone()));
    Some(QOS_GROUP_MISSING.finding(impact, case.at(path), evidence, steps))
}
