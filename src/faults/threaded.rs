//! Groups of the kubelet's own that are threaded: no memory limit is possible in them.
//!
//! Rests on `Documentation/admin-guide/cgroup-v2.rst`, "Threads", and on libcontainer's
//! `fs2/create.go`, which dies of a kubepods that is threaded.

use crate::faults::{Case, Fault, Finding, Impact, Nature, Remedy, Step, slices, strays};
use crate::host::group::{Group, Kind};
use crate::kubelet::microk8s::MICROK8S;

pub(super) const FAULTS: &[&Fault] = &[&THREADED];

pub(crate) static THREADED: Fault = Fault {
    name: "threaded",
    message_id: "c1bd7395736248ec8c9f981f1bd6837f",
    title: "A group has become threaded",
    meaning: "A threaded cgroup can have no memory limit, and the kernel never makes it an \
              ordinary one again. The kubelet dies of it (\"it is in threaded mode\", \"it is in \
              an invalid state\"). Switching controllers on one at a time beside a process does \
              this.",
    signs: "cgroup.type of kubepods or a QoS group does not say domain.",
    remedy: "kubepods-repair removes the group and makes it anew if nothing lives in it or below.",
    by_hand: "Stop the pods below it, then run kubepods-repair again. A group that only has a \
              threaded one below becomes ordinary by itself when that one is removed.",
    threads: &[],
    does: "makes the group anew if nothing lives in it",
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
    let fatal = Impact::fatal(
        "the kubelet dies of it (\"it is in an invalid state\", \"threaded mode\"): no memory \
         limit is possible here",
    );
    let impact = match group.kind {
        Kind::Domain | Kind::Root => return None,
        Kind::Threaded => fatal,
        Kind::DomainThreaded if is_kubepods => fatal,
        Kind::DomainThreaded if is_created => Impact::fatal(
            "the kubelet creates a QoS group that lacks a controller, and dies of its type \
             (\"domain threaded mode\"); one that has them all it only updates",
        ),
        Kind::DomainThreaded => Impact::degraded("no pod below can have a memory limit"),
        // Its parent's fault, and cured with it.
        Kind::DomainInvalid if !is_kubepods && !is_sound(case.group(kubepods)) => return None,
        Kind::DomainInvalid => fatal,
    };
    let evidence = format!("its type is \"{}\"", group.kind.as_str());
    let location = case.at_file(&group.path, "cgroup.type");
    let mut remedy = cure(case, group);
    // With all controllers it is no fatal fault any more.
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

/// Of the kubelet's own groups this one and those below it.
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
            "processes live in groups below it: stop those pods first, then run kubepods-repair \
             again",
        );
    }
    let Some(outermost) = family.iter().find(|own| own.kind == Kind::Threaded) else {
        // `domain threaded` goes back to `domain` by itself when what made it so is gone.
        if !steps.is_empty() {
            return Remedy::Steps(steps);
        }
        return Remedy::tell(format!(
            "a group further below is threaded: find it with grep -rl threaded {} \
             --include=cgroup.type, and remove it",
            case.directory(&group.path).display()
        ));
    };
    if has_pods_below(case, outermost) && !case.terms.may_remove(&case.tree.pods) {
        return Remedy::tell(format!(
            "pod groups lie below it, which only a start of the service may remove: systemctl \
             restart {}",
            MICROK8S.kubelet_unit
        ));
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

/// A threaded group that is not the kubelet's keeps the one above it threaded until it is gone.
fn foreign_below(case: &Case, own: &Group) -> Option<Remedy> {
    let mut below = own.threaded_children.iter().map(|name| own.path.join(name));
    let path = below.find(|path| !case.layout.is_own(path))?;
    Some(Remedy::tell(format!(
        "{0} is threaded: end what runs in it and remove it (rmdir {0})",
        case.directory(&path).display()
    )))
}

fn has_pods_below(case: &Case, group: &Group) -> bool {
    let holds_others = |own: &Group| {
        let mut below = own.children.iter().map(|name| own.path.join(name));
        below.any(|path| !case.layout.is_own(&path))
    };
    family(case, group).into_iter().any(holds_others)
}
