//! The groups themselves: there or not, of the right type, and with nobody where nobody may be.
//!
//! Rests on libcontainer's `fs2/create.go`, which dies of a kubepods that is threaded or cannot pass controllers on, and on
//! `Documentation/admin-guide/cgroup-v2.rst`, "Threads" and "No Internal Process Constraint".

use std::path::PathBuf;

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Severity, count, limits, name_processes, of_group, slices};
use crate::host::group::{Group, Kind, members_file};

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cgroup_root_missing(case).into_iter().collect();
    findings.extend(case.layout.reserved.iter().filter_map(|path| reserved_missing(case, path)));
    match case.group(&case.layout.kubepods) {
        _ if case.by_systemd() => {}
        None => findings.push(root_missing(case)),
        Some(_) => findings.extend(case.layout.qos.iter().filter_map(|path| qos_missing(case, path))),
    }
    findings.extend(case.own_groups().filter_map(|group| strays(case, group)));
    findings.extend(case.own_groups().filter_map(|group| threaded(case, group)));
    findings
}

/// The groups of `path` and above that are missing, made top down, each passing the needed controllers on.
fn make_way_to(case: &Case, path: &CgroupPath) -> Vec<Step> {
    let missing = path.ancestors().into_iter().filter(|above| case.group(above).is_none());
    missing.flat_map(|above| std::iter::once(case.make(&above)).chain(pass_on(case, &above))).collect()
}

/// `None` on a host that offers nothing the kubelet asks for.
fn pass_on(case: &Case, path: &CgroupPath) -> Option<Step> {
    let controllers = case.needed.clone();
    (!controllers.is_empty()).then(|| Step::Enable { group: path.clone(), controllers })
}

fn cgroup_root_missing(case: &Case) -> Option<Finding> {
    let path = &case.layout.cgroup_root;
    if case.group(path).is_some() || case.leaves_slices() {
        return None;
    }
    let mut steps = make_way_to(case, path);
    steps.push(case.make(path));
    steps.extend(pass_on(case, path));
    let evidence = "the cgroup that --cgroup-root names is not there".to_owned();
    let effect = "the kubelet demands it and never makes it, and cgroups made by hand are gone after every boot";
    Some(of_group(case, Fault::CgroupRootMissing, Severity::Fatal, path, evidence, effect, Remedy::Steps(steps)))
}

fn reserved_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() || case.leaves_slices() {
        return None;
    }
    let mut steps = make_way_to(case, path);
    steps.push(case.make(path));
    let evidence = "the reserved cgroup that the kubelet is to enforce is not there".to_owned();
    let effect = "the kubelet demands it and never makes it";
    Some(of_group(case, Fault::ReservedGroupMissing, Severity::Fatal, path, evidence, effect, Remedy::Steps(steps)))
}

fn root_missing(case: &Case) -> Finding {
    let kubepods = &case.layout.kubepods;
    let mut steps = vec![Step::Make(kubepods.clone())];
    steps.extend(pass_on(case, kubepods));
    steps.extend(case.layout.qos.iter().cloned().map(Step::Make));
    let evidence = "the root of all pods is not there, as after every boot".to_owned();
    let effect = "the kubelet makes it itself at its start, unless the kernel refuses it a controller";
    of_group(case, Fault::RootMissing, Severity::Notice, kubepods, evidence, effect, Remedy::Steps(steps))
}

fn qos_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() {
        return None;
    }
    let evidence = "the group of this QoS class is not there".to_owned();
    let effect = "the kubelet makes it itself at its start";
    let steps = vec![Step::Make(path.clone())];
    Some(of_group(case, Fault::QosGroupMissing, Severity::Notice, path, evidence, effect, Remedy::Steps(steps)))
}

fn move_out(case: &Case, group: &Group) -> Step {
    Step::MoveProcesses { from: group.path.clone(), to: case.layout.strays.clone() }
}

fn strays(case: &Case, group: &Group) -> Option<Finding> {
    if group.processes.is_empty() {
        return None;
    }
    let holds = count(group.processes.len(), "process", "processes");
    let evidence = format!("holds {holds}: {}", name_processes(&group.processes));
    let (severity, effect) = match group.path == case.layout.kubepods {
        true => (Severity::Fatal, "the kubelet dies of it: a group that holds processes cannot pass controllers on"),
        false => (
            Severity::Degraded,
            "pods below cannot get their limits: a group that holds processes cannot pass controllers on",
        ),
    };
    let remedy = stuck(case, group).unwrap_or_else(|| Remedy::Steps(vec![move_out(case, group)]));
    let file = case.file(&group.path, members_file(group.kind));
    Some(Finding::new(Fault::StrayProcesses, severity, file, evidence, effect, remedy))
}

/// Why its processes cannot be moved out. Who has no number in this pid namespace cannot be moved from it: to the kernel a 0
/// is whoever writes it.
fn stuck(case: &Case, group: &Group) -> Option<Remedy> {
    let how = if group.processes.iter().any(|process| process.pid == 0) {
        "a process of another pid namespace (listed as 0) is among them; move them out from the host".to_owned()
    } else if !group.processes.is_empty() && limits::leave_no_room_for(case, &case.layout.strays) {
        let to = case.directory(&case.layout.strays);
        format!("there is no room for {}, where they would go: cure limits-exhausted first", to.display())
    } else {
        return None;
    };
    Some(Remedy::Tell(how))
}

fn threaded(case: &Case, group: &Group) -> Option<Finding> {
    let kubepods = &case.layout.kubepods;
    let parent_is_sound = |path: &CgroupPath| case.group(path).is_none_or(|parent| parent.kind == Kind::Domain);
    let severity = match group.kind {
        Kind::Threaded => Severity::Fatal,
        Kind::DomainThreaded if group.path == *kubepods => Severity::Fatal,
        Kind::DomainThreaded => Severity::Degraded,
        // Its parent's fault, and cured with it.
        Kind::DomainInvalid if group.path != *kubepods && !parent_is_sound(kubepods) => return None,
        Kind::DomainInvalid => Severity::Fatal,
        Kind::Domain | Kind::Root => return None,
    };
    let evidence = format!("its type is \"{}\"", group.kind.as_str());
    let effect =
        "the kubelet dies of it (\"it is in an invalid state\", \"threaded mode\"): no memory limit is possible here";
    let file: PathBuf = case.file(&group.path, "cgroup.type");
    Some(Finding::new(Fault::Threaded, severity, file, evidence, effect, cure_threaded(case, group)))
}

fn cure_threaded(case: &Case, group: &Group) -> Remedy {
    let family: Vec<&Group> =
        case.own_groups().filter(|own| own.path == group.path || group.path.is_above(&own.path)).collect();
    if let Some(remedy) = family.iter().find_map(|own| stuck(case, own)) {
        return remedy;
    }
    let mut steps: Vec<Step> =
        family.iter().filter(|own| !own.processes.is_empty()).map(|own| move_out(case, own)).collect();
    if group.populated && steps.is_empty() {
        return Remedy::Tell(
            "processes live in groups below it: stop those pods first, then run kubepods-repair again".to_owned(),
        );
    }
    let outermost = family.iter().find(|own| own.kind == Kind::Threaded);
    let Some(outermost) = outermost else {
        // `domain threaded` goes back to `domain` by itself when what made it so is gone.
        return match steps.is_empty() {
            true => Remedy::Tell(format!(
                "a group below it is threaded: find it with grep -rl threaded {} --include=cgroup.type, and remove it",
                case.directory(&group.path).display()
            )),
            false => Remedy::Steps(steps),
        };
    };
    if has_pods_below(case, outermost) && !case.terms.may_remove(&case.tree.pods) {
        return Remedy::Tell(format!(
            "pod groups lie below it, which only a start of the service may remove: systemctl restart {}",
            crate::kubelet::microk8s::MICROK8S.kubelet_unit
        ));
    }
    steps.push(Step::MakeAnew(outermost.path.clone()));
    if outermost.path == case.layout.kubepods {
        steps.extend(pass_on(case, &outermost.path));
        match case.by_systemd() {
            true => steps.extend(slices::ask_for_all(case)),
            false => steps.extend(case.layout.qos.iter().cloned().map(Step::Make)),
        }
    }
    Remedy::Steps(steps)
}

fn has_pods_below(case: &Case, group: &Group) -> bool {
    let below = case.own_groups().filter(|own| own.path == group.path || group.path.is_above(&own.path));
    below.into_iter().any(|own| own.children.iter().any(|child| !case.layout.is_own(&own.path.join(child))))
}
