//! The groups themselves: there or not, of the right type, and with nobody where nobody may be.
//!
//! Rests on libcontainer's `fs2/create.go`, which dies of a kubepods that is threaded or cannot
//! pass controllers on, and on `Documentation/admin-guide/cgroup-v2.rst`, "Threads" and "No
//! Internal Process Constraint".

use crate::cgroup::CgroupPath;
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Location, count, limits, name_processes, slices};
use crate::host::group::{Group, Kind, members_file};
use crate::kubelet::{Origin, Reservation, Settings};

/// The group for frozen strays, in the one for strays.
const FROZEN: &str = "frozen";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    let root = demanded(case, Fault::CgroupRootMissing, &case.layout.cgroup_root);
    let reserved = |path| demanded(case, Fault::ReservedGroupMissing, path);
    let mut findings: Vec<Finding> = root.into_iter().collect();
    // kubepods and the QoS groups the kubelet makes before it looks for reserved groups.
    findings.extend(
        case.layout
            .reserved
            .iter()
            .filter(|path| !case.layout.is_own(path))
            .filter_map(reserved),
    );
    match case.group(&case.layout.kubepods) {
        _ if case.by_systemd() => {}
        None => findings.push(root_missing(case)),
        Some(_) => findings.extend(
            case.layout
                .qos
                .iter()
                .filter_map(|path| qos_missing(case, path)),
        ),
    }
    findings.extend(case.own_groups().filter_map(|group| strays(case, group)));
    findings.extend(case.own_groups().filter_map(|group| threaded(case, group)));
    findings
}

/// The groups of `path` and above that are missing, made top down, each passing the needed
/// controllers on.
fn make_way_to(case: &Case, path: &CgroupPath) -> Vec<Step> {
    let missing = path
        .ancestors()
        .into_iter()
        .filter(|above| case.group(above).is_none());
    missing
        .flat_map(|above| case.make(&above).into_iter().chain(pass_on(case, &above)))
        .collect()
}

/// `None` on a host that offers nothing the kubelet asks for.
fn pass_on(case: &Case, path: &CgroupPath) -> Option<Step> {
    let controllers = case.wanted();
    (!controllers.is_empty()).then(|| Step::Enable {
        group: path.clone(),
        controllers,
    })
}

/// `None` where the slice is masked: that is a finding of its own.
fn demanded(case: &Case, fault: Fault, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() || case.leaves_slices() {
        return None;
    }
    let mut steps = make_way_to(case, path);
    steps.push(case.make(path)?);
    let (evidence, sentence) = if fault == Fault::CgroupRootMissing {
        steps.extend(pass_on(case, path));
        (
            "the cgroup that --cgroup-root names does not exist",
            "the kubelet demands it and never makes it, and cgroups made by hand are gone after \
             every boot",
        )
    } else {
        (
            "the reserved cgroup that the kubelet has to enforce does not exist",
            "the kubelet demands it and never makes it",
        )
    };
    let impact = Impact::fatal(sentence);
    Some(Finding::new(
        fault,
        impact,
        case.at(path),
        evidence.to_owned(),
        Remedy::Steps(steps),
    ))
}

/// A reserved group that is there and that the kubelet refuses: its parent passes controllers on
/// that it has not got.
pub(super) fn unfit_reserved(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Those of services are judged in `services`.
    for path in case
        .layout
        .reserved
        .iter()
        .filter(|path| path.unit().is_none())
    {
        let parent = path.parent().and_then(|parent| case.group(&parent));
        let (Some(group), Some(parent)) = (case.group(path), parent) else {
            continue;
        };
        let lacking = case
            .needed
            .and(&parent.subtree_control)
            .minus(&group.controllers);
        if lacking.is_empty() {
            continue;
        }
        let is_threaded = group.kind == Kind::Threaded;
        let (fault, file) = if is_threaded {
            (Fault::Threaded, "cgroup.type")
        } else {
            (Fault::ControllerNotEnabled, "cgroup.controllers")
        };
        let because = if is_threaded {
            ", because its type is \"threaded\""
        } else {
            ""
        };
        let evidence = format!("this reserved cgroup lacks {lacking}{because}");
        let impact = Impact::fatal(
            "the kubelet refuses the reserved group for missing controllers and does not start",
        );
        let how = format!(
            "stop what runs in {dir} and remove it (rmdir {dir}); kubepods-repair then makes it \
             again",
            dir = case.directory(path).display()
        );
        let mut finding = Finding::new(
            fault,
            impact,
            case.at_file(path, file),
            evidence,
            Remedy::Tell(how),
        );
        finding.controllers = lacking;
        findings.push(finding);
    }
    findings
}

/// Reservations that are enforced and cannot be: nothing is reserved, or the group is the root of
/// all groups, which takes no limit (`enforceExistingCgroup` in `node_container_manager_linux.go`).
pub(super) fn unenforceable(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Reservation {
        key,
        group,
        resources,
        ..
    } in settings
        .reservations()
        .into_iter()
        .filter(|it| it.is_enforced)
    {
        let finding = |origin: &Origin, evidence: String, sentence: &'static str, how: String| {
            let location = Location::Setting(origin.clone());
            Finding::new(
                Fault::ReservedGroupMissing,
                Impact::fatal(sentence),
                location,
                evidence,
                Remedy::Tell(how),
            )
        };
        if resources.is_empty() {
            findings.push(finding(
                &settings.enforced.origin,
                format!("{key} is enforced, and nothing is reserved with --{key}"),
                "the kubelet does not start (\"cgroup is not configured properly\")",
                format!(
                    "reserve something, as with --{key}=cpu=100m,memory=256Mi, or take {key} out \
                     of --enforce-node-allocatable"
                ),
            ));
        }
        if group.value.as_ref().is_some_and(CgroupPath::is_root) {
            findings.push(finding(
                &group.origin,
                format!("--{key}-cgroup names the root of all cgroups, and {key} is enforced"),
                "the kubelet does not start: the root cgroup takes no limits",
                format!("name a cgroup of its own, as with --{key}-cgroup=/{key}.slice"),
            ));
        }
    }
    findings
}

fn root_missing(case: &Case) -> Finding {
    let kubepods = &case.layout.kubepods;
    let mut steps = vec![Step::Make(kubepods.clone())];
    steps.extend(pass_on(case, kubepods));
    steps.extend(make_qos_groups(case));
    let evidence = "the root of all pods does not exist, as after every boot".to_owned();
    let impact = Impact::notice(
        "the kubelet makes it itself at its start, unless the kernel refuses it a controller",
    );
    Finding::new(
        Fault::RootMissing,
        impact,
        case.at(kubepods),
        evidence,
        Remedy::Steps(steps),
    )
}

fn make_qos_groups(case: &Case) -> Vec<Step> {
    if !case.may_make_qos_groups() {
        return Vec::new();
    }
    case.layout
        .qos
        .iter()
        .cloned()
        .map(Step::MakeQosGroup)
        .collect()
}

fn qos_missing(case: &Case, path: &CgroupPath) -> Option<Finding> {
    if case.group(path).is_some() || !case.may_make_qos_groups() {
        return None;
    }
    let evidence = "the group of this QoS class does not exist".to_owned();
    let impact = Impact::notice("the kubelet makes it itself at its start");
    let steps = vec![Step::MakeQosGroup(path.clone())];
    Some(Finding::new(
        Fault::QosGroupMissing,
        impact,
        case.at(path),
        evidence,
        Remedy::Steps(steps),
    ))
}

/// Frozen processes go to a frozen group: to be moved must not be what sets them going again.
fn move_out(case: &Case, group: &Group) -> Step {
    Step::MoveProcesses {
        from: group.path.clone(),
        to: refuge(case, group),
        frozen: is_frozen(case, group),
    }
}

/// Where the processes of this group go.
fn refuge(case: &Case, group: &Group) -> CgroupPath {
    let strays = &case.layout.strays;
    if is_frozen(case, group) {
        strays.join(FROZEN)
    } else {
        strays.clone()
    }
}

/// Whether the group or one above it is frozen.
fn is_frozen(case: &Case, group: &Group) -> bool {
    let above = group.path.ancestors();
    group.frozen
        || above
            .iter()
            .filter_map(|path| case.group(path))
            .any(|above| above.frozen)
}

fn strays(case: &Case, group: &Group) -> Option<Finding> {
    if group.processes.is_empty() {
        return None;
    }
    let holds = count(group.processes.len(), "process", "processes");
    let frozen = if is_frozen(case, group) {
        " (frozen)"
    } else {
        ""
    };
    let evidence = format!(
        "holds {holds}{frozen}: {}",
        name_processes(&group.processes)
    );
    let impact = if group.path == case.layout.kubepods {
        Impact::fatal(
            "the kubelet dies of it: a group that holds processes cannot pass controllers on",
        )
    } else {
        Impact::degraded(
            "pods below cannot get their limits: a group that holds processes cannot pass \
             controllers on",
        )
    };
    let remedy = stuck(case, group).unwrap_or_else(|| Remedy::Steps(vec![move_out(case, group)]));
    let location = case.at_file(&group.path, members_file(group.kind));
    Some(Finding::new(
        Fault::StrayProcesses,
        impact,
        location,
        evidence,
        remedy,
    ))
}

/// Why its processes cannot be moved out. Who has no number in this pid namespace cannot be moved
/// from it: to the kernel a 0 is whoever writes it.
fn stuck(case: &Case, group: &Group) -> Option<Remedy> {
    let how = if group.processes.iter().any(|process| process.pid == 0) {
        "a process of another pid namespace (listed as 0) is among them; move them out from the \
         host"
            .to_owned()
    } else if !group.processes.is_empty() && limits::leave_no_room_for(case, &refuge(case, group)) {
        let to = case.directory(&refuge(case, group));
        format!(
            "there is no room for {}, where they would go: cure limits-exhausted first",
            to.display()
        )
    } else {
        return None;
    };
    Some(Remedy::Tell(how))
}

fn threaded(case: &Case, group: &Group) -> Option<Finding> {
    let kubepods = &case.layout.kubepods;
    let parent_is_sound = |path: &CgroupPath| {
        case.group(path)
            .is_none_or(|parent| parent.kind == Kind::Domain)
    };
    let fatal = Impact::fatal(
        "the kubelet dies of it (\"it is in an invalid state\", \"threaded mode\"): no memory \
         limit is possible here",
    );
    let is_created = !case.wanted().minus(&group.controllers).is_empty();
    let impact = match group.kind {
        Kind::Threaded => fatal,
        Kind::DomainThreaded if group.path == *kubepods => fatal,
        Kind::DomainThreaded if is_created => Impact::fatal(
            "the kubelet creates a QoS group that lacks a controller, and dies of its type \
             (\"domain threaded mode\"); one that has them all it only updates",
        ),
        Kind::DomainThreaded => Impact::degraded("no pod below can have a memory limit"),
        // Its parent's fault, and cured with it.
        Kind::DomainInvalid if group.path != *kubepods && !parent_is_sound(kubepods) => {
            return None;
        }
        Kind::DomainInvalid => fatal,
        Kind::Domain | Kind::Root => return None,
    };
    let evidence = format!("its type is \"{}\"", group.kind.as_str());
    let location = case.at_file(&group.path, "cgroup.type");
    let remedy = match (cure_threaded(case, group), pass_on(case, kubepods)) {
        (Remedy::Steps(steps), _) => Remedy::Steps(steps),
        // With all controllers it is no fatal fault any more.
        (Remedy::Tell(_), Some(step))
            if is_created && group.path != *kubepods && group.kind == Kind::DomainThreaded =>
        {
            Remedy::Steps(vec![step])
        }
        (remedy, _) => remedy,
    };
    Some(Finding::new(
        Fault::Threaded,
        impact,
        location,
        evidence,
        remedy,
    ))
}

fn cure_threaded(case: &Case, group: &Group) -> Remedy {
    let family: Vec<&Group> = case
        .own_groups()
        .filter(|own| own.path == group.path || group.path.is_above(&own.path))
        .collect();
    if let Some(remedy) = family.iter().find_map(|own| stuck(case, own)) {
        return remedy;
    }
    if let Some(remedy) = family.iter().find_map(|own| threaded_below(case, own)) {
        return remedy;
    }
    let mut steps: Vec<Step> = family
        .iter()
        .filter(|own| !own.processes.is_empty())
        .map(|own| move_out(case, own))
        .collect();
    if group.populated && steps.is_empty() {
        return Remedy::Tell(
            "processes live in groups below it: stop those pods first, then run kubepods-repair \
             again"
                .to_owned(),
        );
    }
    let outermost = family.iter().find(|own| own.kind == Kind::Threaded);
    let Some(outermost) = outermost else {
        // `domain threaded` goes back to `domain` by itself when what made it so is gone.
        if !steps.is_empty() {
            return Remedy::Steps(steps);
        }
        return Remedy::Tell(format!(
            "a group further below is threaded: find it with grep -rl threaded {} \
             --include=cgroup.type, and remove it",
            case.directory(&group.path).display()
        ));
    };
    if has_pods_below(case, outermost) && !case.terms.may_remove(&case.tree.pods) {
        return Remedy::Tell(format!(
            "pod groups lie below it, which only a start of the service may remove: systemctl \
             restart {}",
            crate::kubelet::microk8s::MICROK8S.kubelet_unit
        ));
    }
    steps.push(Step::MakeAnew(outermost.path.clone()));
    if outermost.path == case.layout.kubepods {
        steps.extend(pass_on(case, &outermost.path));
        steps.extend(if case.by_systemd() {
            slices::ask_for_all(case)
        } else {
            make_qos_groups(case)
        });
    }
    Remedy::Steps(steps)
}

/// A threaded group that is not the kubelet's keeps the one above it threaded until it is gone.
fn threaded_below(case: &Case, own: &Group) -> Option<Remedy> {
    let below = own.threaded_children.iter().map(|name| own.path.join(name));
    let path = below.into_iter().find(|path| !case.layout.is_own(path))?;
    let directory = case.directory(&path);
    let how = format!(
        "{0} is threaded: end what runs in it and remove it (rmdir {0})",
        directory.display()
    );
    Some(Remedy::Tell(how))
}

fn has_pods_below(case: &Case, group: &Group) -> bool {
    let below = case
        .own_groups()
        .filter(|own| own.path == group.path || group.path.is_above(&own.path));
    below.into_iter().any(|own| {
        own.children
            .iter()
            .any(|child| !case.layout.is_own(&own.path.join(child)))
    })
}
