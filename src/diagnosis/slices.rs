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
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::{Case, Finding, Impact, Location};
use crate::host::units::{self, Fragment, SliceUnit};
use crate::kubelet::microk8s::Version;

/// The first kubelet that sets `AllowedCPUs=`, so that its slices keep cpuset.
const KEEPS_CPUSET: Version = Version(1, 32);

/// The controllers that systemd keeps only where a slice asks for it.
const TO_BE_ASKED_FOR: [&str; 2] = ["cpu", "cpuset"];

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
    case.tree
        .slices
        .iter()
        .filter_map(|(path, unit)| judge(case, path, unit))
        .collect()
}

fn judge(case: &Case, path: &CgroupPath, unit: &SliceUnit) -> Option<Finding> {
    if let Some(words) = units::refusal(&case.tree.unmade, path) {
        let is_fit = case
            .group(path)
            .is_some_and(|group| case.wanted().minus(&group.controllers).is_empty());
        return Some(failed(case.at(path), path, words, is_fit));
    }
    let is_own = case.layout.is_own(path);
    match (&unit.fragment, case.group(path)) {
        (Fragment::Masked(file), _) => Some(masked(case.at(path), path, file)),
        (Fragment::Foreign(file), _) => foreign(case, path, file).or_else(|| dropped(case, path)),
        (fragment, None) if is_own => missing(case, path, fragment),
        (Fragment::None, Some(_)) if is_own => Some(unowned(case, path)),
        (Fragment::Transient, Some(_)) if is_own => dropped(case, path),
        _ => None,
    }
}

/// The step that brings a slice up that the kubelet demands: one with a unit file of its own is
/// started and told nothing; `None` for a masked one.
pub(super) fn start(case: &Case, slice: &CgroupPath) -> Option<Step> {
    match case.tree.slices.get(slice).map(|unit| &unit.fragment) {
        None | Some(Fragment::None | Fragment::Transient) => Some(ask_for(case, slice)),
        Some(Fragment::Foreign(_)) => Some(Step::StartSlice(slice.clone())),
        Some(Fragment::Masked(_)) => None,
    }
}

/// Asks for a slice that keeps whatever its files do not make it keep already.
pub(super) fn ask_for(case: &Case, slice: &CgroupPath) -> Step {
    Step::AskForSlice {
        slice: slice.clone(),
        keeping: keeping(case, slice),
    }
}

fn keeping(case: &Case, slice: &CgroupPath) -> Controllers {
    let unit = case.tree.slices.get(slice);
    let keeps = unit.map(|unit| unit.keeps.clone()).unwrap_or_default();
    let no_cpus_left = unit.is_some_and(|unit| unit.no_cpus_left);
    let possible = TO_BE_ASKED_FOR
        .into_iter()
        .filter(|name| !(no_cpus_left && *name == "cpuset"));
    possible
        .collect::<Controllers>()
        .and(&case.wanted())
        .minus(&keeps)
}

/// All of the kubelet's own slices, and from kubepods down what systemd does not know.
pub(super) fn ask_for_all(case: &Case) -> Vec<Step> {
    if !case.by_systemd() || case.leaves_slices() {
        return Vec::new();
    }
    let kubepods = &case.layout.kubepods;
    let will_be_there = case.group(kubepods).is_some() || may_be_asked_for(case, kubepods);
    let pass_on = Step::Enable {
        group: kubepods.clone(),
        controllers: case.wanted(),
    };
    let wanted = case
        .layout
        .own()
        .filter(|slice| *slice == kubepods || case.may_make_qos_groups());
    let slices = wanted
        .filter(|slice| may_be_asked_for(case, slice))
        .map(|slice| ask_for(case, slice));
    slices
        .chain((will_be_there && !case.wanted().is_empty()).then_some(pass_on))
        .collect()
}

fn may_be_asked_for(case: &Case, slice: &CgroupPath) -> bool {
    case.tree
        .slices
        .get(slice)
        .is_some_and(|unit| unit.fragment.may_be_asked_for())
}

/// A kubelet before 1.32 that asks for slices nobody has asked for since the boot loses cpuset in
/// doing so: systemd rewrites the root's controllers between libcontainer's write and the kubelet's
/// look.
pub(super) fn kubelet_dies_of_asking(case: &Case) -> bool {
    let unit = case.tree.slices.get(&case.layout.kubepods);
    let new_to_systemd = unit.is_some_and(|unit| unit.fragment == Fragment::None);
    let keeps_cpuset = case
        .host
        .version
        .is_some_and(|version| version >= KEEPS_CPUSET);
    new_to_systemd && !keeps_cpuset && case.lacking(&CgroupPath::root()).contains("cpuset")
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

fn missing(case: &Case, path: &CgroupPath, fragment: &Fragment) -> Option<Finding> {
    let is_kubepods = *path == case.layout.kubepods;
    let comes_with_kubepods = !is_kubepods
        && case.group(&case.layout.kubepods).is_none()
        && may_be_asked_for(case, &case.layout.kubepods);
    if comes_with_kubepods || !is_kubepods && !case.may_make_qos_groups() {
        return None;
    }
    let evidence = match fragment {
        Fragment::Transient => {
            "the slice does not exist, though systemd still has its transient unit file"
        }
        _ => "the slice does not exist, as after every boot",
    };
    let (impact, remedy) = (impact_of_asking(case, path), steps(case, path));
    Some(Finding::new(
        Fault::SliceMissing,
        impact,
        case.at(path),
        evidence.to_owned(),
        remedy,
    ))
}

fn unowned(case: &Case, path: &CgroupPath) -> Finding {
    let is_kubepods = *path == case.layout.kubepods;
    let impact = if is_kubepods {
        impact_of_asking(case, path)
    } else {
        Impact::fatal(DIES_OF_LIMITS)
    };
    Finding::new(
        Fault::SliceUnowned,
        impact,
        case.at(path),
        UNOWNED.to_owned(),
        steps(case, path),
    )
}

fn dropped(case: &Case, path: &CgroupPath) -> Option<Finding> {
    let keeping = if may_be_asked_for(case, path) {
        keeping(case, path)
    } else {
        Controllers::default()
    };
    let is_kubepods = *path == case.layout.kubepods;
    let lacking = if is_kubepods {
        case.lacking(path).minus(&case.withheld)
    } else {
        Controllers::default()
    };
    let evidence = match (lacking.is_empty(), keeping.is_empty()) {
        (true, true) => return None,
        (false, _) => format!("not passed on: {lacking}"),
        (true, false) => format!("nothing makes systemd keep {keeping}"),
    };
    let impact = Impact::notice(
        "systemd takes such a controller away from the pods below, or has already, when it next \
         looks at its units",
    );
    let remedy = if lacking.is_empty() {
        Remedy::Steps(vec![ask_for(case, path)])
    } else {
        steps(case, path)
    };
    let mut finding = Finding::new(
        Fault::SliceControllerDropped,
        impact,
        case.at(path),
        evidence,
        remedy,
    );
    finding.controllers = if lacking.is_empty() { keeping } else { lacking };
    Some(finding)
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
/// slice inside that is asked for.
fn foreign(case: &Case, path: &CgroupPath, file: &Path) -> Option<Finding> {
    if !case.layout.is_own(path) {
        // What the kubelet demands is started, and gets its controllers from the group above.
        return None;
    }
    let lacking = case.group(path).map_or(case.wanted(), |group| {
        case.wanted().minus(&group.controllers)
    });
    if lacking.is_empty() {
        return None;
    }
    let evidence = format!(
        "its unit file is {}, and the slice lacks {lacking}",
        file.display()
    );
    let inside = if *path == case.layout.kubepods {
        ask_for_all(case)
    } else {
        Vec::new()
    };
    let how = Remedy::Tell(format!(
        "put CPUWeight=100 and AllowedCPUs= with all CPUs under [Slice] there, then systemctl \
         daemon-reload and systemctl start {}; or remove the file",
        path.name().display()
    ));
    let (impact, remedy) = if !inside.is_empty() {
        let impact = "the kubelet takes the slice as it is and never starts it, and says that \
                      kubepods doesn't exist";
        (Impact::fatal(impact), Remedy::Steps(inside))
    } else {
        (
            Impact::degraded(
                "the kubelet takes the slice as it is, and pods below cannot get all their limits",
            ),
            how,
        )
    };
    let mut finding = Finding::new(Fault::SliceForeign, impact, case.at(path), evidence, remedy);
    finding.controllers = lacking;
    Some(finding)
}

pub(super) fn masked(location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let evidence = format!("{} masks it", file.display());
    let impact = Impact::fatal("systemd never starts a masked unit, and the kubelet dies of it");
    let how = Remedy::Tell(format!(
        "systemctl unmask {}, or remove the file and systemctl daemon-reload",
        path.name().display()
    ));
    Finding::new(Fault::SliceMasked, impact, location, evidence, how)
}

pub(super) fn failed(location: Location, path: &CgroupPath, words: &str, is_fit: bool) -> Finding {
    let sentence =
        "the kubelet asks systemd for the same slice at its start, and gets the same answer";
    let impact = if is_fit {
        Impact::degraded(sentence)
    } else {
        Impact::fatal(sentence)
    };
    let how = format!(
        "look at systemctl status {} and at systemctl status dbus.service",
        path.name().display()
    );
    Finding::new(
        Fault::SliceFailed,
        impact,
        location,
        words.to_owned(),
        Remedy::Tell(how),
    )
}
