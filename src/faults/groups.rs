//! Groups that the kubelet requires or creates itself, and that do not exist.
//!
//! Rests on libcontainer's `fs2/create.go`, which fails if kubepods is threaded or cannot pass
//! controllers on, and on `Documentation/admin-guide/cgroup-v2.rst`, "Threads" and "No
//! Internal Process Constraint".

use crate::cgroup::CgroupPath;
use crate::faults::controllers::CONTROLLER_NOT_ENABLED;
use crate::faults::finding::shell_word;
use crate::faults::threaded::THREADED;
use crate::faults::{Case, Fault, Finding, Impact, Location, Nature, Remedy, Step, slices};
use crate::host::group::Kind;
use crate::kubelet::Settings;
use crate::kubelet::microk8s::MICROK8S;

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
    meaning: "The kubelet is configured to keep its pods below a cgroup of its own \
              (--cgroup-root). It requires this cgroup to exist with all the controllers that it \
              needs, and it never creates the cgroup itself. Cgroups live in memory, so a cgroup \
              that was created by hand is gone after every boot.",
    signs: "The kubelet's settings name a cgroup root other than /, and this cgroup does not \
            exist.",
    remedy: "kubepods-repair creates the cgroup, enables the needed controllers from the root of \
             the cgroup tree down to it, and anchors them in kubepods below it.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Otherwise remove \
              --cgroup-root from the kubelet's arguments.",
    threads: &[],
    does: "creates it and enables the controllers above it",
    nature: Nature::Fault,
};

pub(crate) static QOS_GROUP_MISSING: Fault = Fault {
    name: "qos-group-missing",
    message_id: "ef86a21150da4ce8adb1892aec9eedff",
    title: "The cgroup of a QoS class does not exist",
    meaning: "kubepods contains one cgroup for burstable pods and one for best-effort pods. One of \
              them does not exist. The kubelet creates it when it starts.",
    signs: "kubepods exists, but burstable or besteffort below it does not.",
    remedy: "kubepods-repair creates it.",
    by_hand: "Nothing. The kubelet creates it, unless another finding says what prevents this.",
    threads: &[],
    does: "creates it",
    nature: Nature::HealedByKubelet,
};

pub(crate) static RESERVED_GROUP_MISSING: Fault = Fault {
    name: "reserved-group-missing",
    message_id: "c28a8d68d1204d2998071f2854893432",
    title: "A configured reservation cannot be enforced",
    meaning: "The kubelet is configured to enforce the reservation for system or Kubernetes \
              daemons on a cgroup (--system-reserved-cgroup, --kube-reserved-cgroup). It requires \
              this cgroup to exist and never creates it. The cgroup cannot be the root cgroup, \
              which takes no limits. The kubelet also requires that something is reserved: \
              otherwise it exits with \"cgroup is not configured properly\".",
    signs: "enforce-node-allocatable contains system-reserved or kube-reserved (from 1.32 on also \
            with the suffix -compressible), and the cgroup that is configured for it does not \
            exist or is the root cgroup. Or nothing is reserved with --system-reserved or \
            --kube-reserved.",
    remedy: "kubepods-repair creates the cgroup and enables the needed controllers above it. It \
             does not reserve anything.",
    by_hand: "Nothing, as long as kubepods-repair runs at every boot. Otherwise remove the \
              enforcement from the kubelet's arguments. If nothing is reserved, add for example \
              --kube-reserved=cpu=100m,memory=256Mi to /var/snap/microk8s/current/args/kubelet \
              and restart kubelite.",
    threads: &[],
    does: "creates the cgroup and enables the controllers above it; reports what else to change",
    nature: Nature::Fault,
};

pub(crate) static ROOT_MISSING: Fault = Fault {
    name: "root-missing",
    message_id: "e1889b013666499dbfb187fb559886e3",
    title: "kubepods does not exist",
    meaning: "kubepods is the cgroup that contains all pods. After a boot it normally does not \
              exist: cgroups live in memory, and the kubelet creates this one when it starts. The \
              kubelet's message \"root container [kubepods] doesn't exist\" means something else: \
              kubepods was created, but it lacks a controller.",
    signs: "There is no directory kubepods below the kubelet's cgroup root.",
    remedy: "kubepods-repair creates kubepods and the cgroups of the QoS classes, and anchors \
             their controllers.",
    by_hand: "Nothing. If the kubelet does not start, creating the directory by hand does not \
              help.",
    threads: &["canonical/microk8s#4378"],
    does: "creates kubepods and the QoS cgroups",
    nature: Nature::HealedByKubelet,
};

/// The evidence of a missing kubepods.
pub(super) const NORMAL: &str = "kubepods does not exist, which is normal after a boot";

/// The impact of a missing group of the kubelet's own.
pub(super) const CREATED: &str = "The kubelet creates it when it starts";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let layout = case.layout;
    let mut findings: Vec<Finding> = cgroup_root_missing(case).into_iter().collect();
    // The kubelet creates kubepods and the QoS groups before it looks for reserved groups.
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

/// The steps that create a group which the kubelet requires, from the top down, each with the
/// needed controllers enabled. `None` if it exists, if it is not created now, or if its slice is
/// masked (that is a finding of its own).
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

/// The step that creates one group; `None` for a masked slice, which nothing can start.
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
        "The kubelet requires it and never creates it. Cgroups that were created by hand are gone \
         after every boot",
    );
    let evidence = "The configured cgroup root (--cgroup-root) does not exist".to_owned();
    let evidence = evidence + &renamed(path);
    Some(CGROUP_ROOT_MISSING.finding(impact, case.at(path), evidence, Remedy::Steps(steps)))
}

fn reserved_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let steps = make_demanded(case, path)?;
    let impact = Impact::fatal("The kubelet requires it and never creates it");
    let evidence = "The cgroup of an enforced reservation does not exist".to_owned();
    let evidence = evidence + &renamed(path);
    Some(RESERVED_GROUP_MISSING.finding(impact, case.at(path), evidence, Remedy::Steps(steps)))
}

/// A sentence about a configured name that already ends like a unit's: the systemd driver appends
/// one more suffix. Empty for any other name.
fn renamed(path: &CgroupPath) -> String {
    let name = path.name().to_string_lossy();
    let given = name.strip_suffix(".slice").unwrap_or_default();
    let is_unit = [".service", ".slice", ".scope"]
        .iter()
        .any(|suffix| given.ends_with(suffix));
    if is_unit {
        format!(
            ". With the systemd driver, the kubelet turns the configured name {given} into the \
             slice {name}"
        )
    } else {
        String::new()
    }
}

/// Reserved groups that exist and that the kubelet refuses: their parent enables controllers that
/// they lack.
pub(super) fn unfit_reserved(case: &Case) -> Vec<Finding> {
    // The groups of services are judged in `services`.
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
    let mut evidence = format!("This reserved cgroup lacks {lacking}");
    let (fault, file) = if group.kind == Kind::Threaded {
        evidence += ", because its type is \"threaded\"";
        (&THREADED, "cgroup.type")
    } else {
        (&CONTROLLER_NOT_ENABLED, "cgroup.controllers")
    };
    let impact = Impact::fatal("The kubelet does not start while a controller is missing there");
    let remove = format!("rmdir {}", shell_word(case.directory(path).display()));
    let remedy = Remedy::run(
        "Stop the processes in this cgroup, remove it and restart kubelite. kubepods-repair then \
         creates it again",
        [remove, MICROK8S.restart()],
    );
    let finding = fault.finding(impact, case.at_file(path, file), evidence, remedy);
    Some(finding.about(lacking))
}

/// Reservations that are configured to be enforced and cannot be: nothing is reserved, or the group
/// is the root cgroup, which takes no limits (`enforceExistingCgroup` in
/// `node_container_manager_linux.go`).
pub(super) fn unenforceable(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reservation in settings.reservations() {
        if !reservation.is_enforced {
            continue;
        }
        let (key, group) = (reservation.key, reservation.group);
        if reservation.resources.is_empty() {
            let impact =
                Impact::fatal("The kubelet exits with \"cgroup is not configured properly\"");
            let location = Location::Setting(settings.enforced.origin.clone());
            let evidence = format!("{key} is enforced, but nothing is reserved with --{key}");
            let words = format!(
                "Reserve something, for example --{key}=cpu=100m,memory=256Mi, or remove {key} \
                 from --enforce-node-allocatable. Then restart kubelite"
            );
            let remedy = Remedy::run(words, [MICROK8S.restart()]);
            findings.push(RESERVED_GROUP_MISSING.finding(impact, location, evidence, remedy));
        }
        if group.value.as_ref().is_some_and(CgroupPath::is_root) {
            let impact = Impact::fatal(
                "The kubelet does not start, because the root cgroup takes no limits",
            );
            let location = Location::Setting(group.origin.clone());
            let evidence =
                format!("{key} is enforced, but --{key}-cgroup is set to the root cgroup");
            let words = format!(
                "Set --{key}-cgroup to another cgroup, for example /{key}.slice, then restart \
                 kubelite"
            );
            let remedy = Remedy::run(words, [MICROK8S.restart()]);
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
    let (location, remedy) = (case.at(kubepods), Remedy::Steps(steps));
    ROOT_MISSING.finding(Impact::notice(CREATED), location, NORMAL, remedy)
}

fn qos_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() || !case.may_make_qos_groups() {
        return None;
    }
    let evidence = "The cgroup of this QoS class does not exist";
    let impact = Impact::notice(CREATED);
    let steps = Remedy::step(Step::MakeQosGroup(path.clone()));
    Some(QOS_GROUP_MISSING.finding(impact, case.at(path), evidence, steps))
}
