//! The kubelet's own groups that are threaded: they cannot have a memory limit.
//!
//! Rests on `Documentation/admin-guide/cgroup-v2.rst`, "Threads", and on libcontainer's
//! `fs2/create.go`, which returns an error for a kubepods that is threaded.

use crate::faults::finding::shell_word;
use crate::faults::{Case, Fault, Finding, Impact, Nature, Remedy, Step, slices, strays};
use crate::host::group::{Group, Kind};
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&THREADED];

pub(crate) static THREADED: Fault = Fault {
    name: "threaded",
    message_id: "c1bd7395736248ec8c9f981f1bd6837f",
    title: "A cgroup is in threaded mode",
    meaning: "A cgroup of type threaded or \"domain threaded\" cannot have a memory limit. The \
              kubelet fails with \"it is in threaded mode\" or \"it is in an invalid state\". The \
              kernel never turns a threaded cgroup back into an ordinary one (type domain). A \
              cgroup also becomes \"domain threaded\" when controllers are enabled in it one at a \
              time while it contains a process.",
    signs: "cgroup.type of kubepods or a QoS cgroup contains something other than domain.",
    remedy: "If no process is in the cgroup or below it, kubepods-repair removes it and creates \
             it again.",
    by_hand: "Stop the pods below the cgroup, then run kubepods-repair again. If the cgroup \
              itself is not threaded, but one below it is, remove that one: the cgroup above then \
              becomes an ordinary one by itself.",
    threads: &[],
    does: "removes the cgroup and creates it again, if no process is in it",
    nature: Nature::Fault,
};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let judged = |group| judge(case, group);
    case.own_groups().filter_map(judged).collect()
}

fn judge(case: &Case, group: &Group) -> Option<Finding> {
    let kubepods = &case.layout.kubepods;
    let is_kubepods = group.path == *kubepods;
    let is_created = !case.wanted().minus(&group.controllers).is_empty();
    let fatal = |message: &str| {
        Impact::fatal(format!(
            "A cgroup of this type cannot have a memory limit, so the kubelet fails with \
             \"{message}\""
        ))
    };
    let impact = match group.kind {
        Kind::Domain | Kind::Root => return None,
        Kind::Threaded => fatal("it is in threaded mode"),
        Kind::DomainThreaded if is_kubepods => fatal("it is in domain threaded mode"),
        Kind::DomainThreaded if is_created => Impact::fatal(
            "The cgroup also lacks a controller, so the kubelet creates it again and fails with \
             \"it is in domain threaded mode\"",
        ),
        Kind::DomainThreaded => Impact::degraded("Pods in this cgroup cannot have memory limits"),
        // Its parent's fault, and repaired with it.
        Kind::DomainInvalid if !is_kubepods && !is_sound(case.group(kubepods)) => return None,
        Kind::DomainInvalid => fatal("it is in an invalid state"),
    };
    let evidence = format!("The type of this cgroup is \"{}\"", group.kind.as_str());
    let location = case.at_file(&group.path, "cgroup.type");
    let mut remedy = cure(case, group);
    // Once it has all controllers, the kubelet starts.
    if is_created
        && !is_kubepods
        && group.kind == Kind::DomainThreaded
        && matches!(remedy, Remedy::Tell(_))
        && let Some(step) = case.pass_on(kubepods)
    {
        remedy = Remedy::step(step);
    }
    Some(THREADED.finding(impact, location, evidence, remedy))
}

fn is_sound(group: Option<&Group>) -> bool {
    group.is_none_or(|group| group.kind == Kind::Domain)
}

/// This group and those of the kubelet's own groups that are below it.
fn family<'a>(case: &Case<'a>, group: &Group) -> Vec<&'a Group> {
    let is_family = |own: &&Group| own.path == group.path || group.path.is_above(&own.path);
    case.own_groups().filter(is_family).collect()
}

fn cure(case: &Case, group: &Group) -> Remedy {
    let family = family(case, group);
    let stuck = family.iter().find_map(|own| strays::stuck(case, own));
    let foreign = || family.iter().find_map(|own| foreign_below(case, own));
    if let Some(remedy) = stuck.or_else(foreign) {
        return remedy;
    }
    let lived_in = family.iter().filter(|own| !own.processes.is_empty());
    let mut steps: Vec<Step> = lived_in.map(|own| strays::move_out(case, own)).collect();
    if group.populated && steps.is_empty() {
        return Remedy::tell(
            "Processes run in cgroups below this one. Stop those pods, then run kubepods-repair \
             again",
        );
    }
    let Some(outermost) = family.iter().find(|own| own.kind == Kind::Threaded) else {
        // `domain threaded` goes back to `domain` by itself when what made it so is gone.
        if !steps.is_empty() {
            return Remedy::Steps(steps);
        }
        let directory = shell_word(case.directory(&group.path).display());
        return Remedy::run(
            "A cgroup below this one is threaded. Find it and remove it",
            [format!(
                "grep -rlx threaded --include=cgroup.type {directory}"
            )],
        );
    };
    if has_pods_below(case, outermost) && !case.terms.may_remove(&case.tree.pods) {
        return Remedy::run(
            "Restart kubelite. Its pre-start removes the pod cgroups below and creates this cgroup \
             again",
            [MICROK8S.restart()],
        );
    }
    steps.push(Step::MakeAnew(outermost.path.clone()));
    if outermost.path == case.layout.kubepods {
        steps.extend(case.pass_on(&outermost.path));
        steps.extend(if case.by_systemd() {
            slices::ask_for_all(case)
        } else {
            case.make_qos_groups()
        });
    }
    Remedy::Steps(steps)
}

/// A threaded group that is not the kubelet's keeps the one above it threaded until it is removed.
fn foreign_below(case: &Case, own: &Group) -> Option<Remedy> {
    let mut below = own.threaded_children.iter().map(|name| own.path.join(name));
    let path = below.find(|path| !case.layout.is_own(path))?;
    let directory = case.directory(&path);
    let directory = directory.display();
    Some(Remedy::run(
        format!("{directory} is threaded. Stop the processes in it, then remove it"),
        [format!("rmdir {}", shell_word(&directory))],
    ))
}

fn has_pods_below(case: &Case, group: &Group) -> bool {
    let holds_others = |own: &Group| {
        let mut below = own.children.iter().map(|name| own.path.join(name));
        below.any(|path| !case.layout.is_own(&path))
    };
    family(case, group).into_iter().any(holds_others)
}
