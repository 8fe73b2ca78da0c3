//! Slices of the systemd driver on version 1, where systemd has a hierarchy of its own.
//!
//! Rests on libcontainer's `systemd/v1.go` (`Apply`, `joinCgroups`): it asks systemd for a slice,
//! takes it that one which systemd knows is there, and makes its group in every hierarchy but
//! systemd's own. So what is missing there, the kubelet misses for ever (`Validate` looks there,
//! too); whatever is missing elsewhere it makes itself. No controller can be lost.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::diagnosis::catalogue::Fault;
use crate::diagnosis::remedy::{Remedy, Step};
use crate::diagnosis::v1::Case;
use crate::diagnosis::{Finding, Impact, Location, slices};
use crate::host::units::{self, Fragment, SliceUnit};
use crate::host::v1::NAMED;

/// What becomes of a slice that systemd believes in and that is not there.
pub(super) const NEVER_MADE_AGAIN: &str = "systemd believes it to be there and does not make it \
                                           again, and the kubelet leaves this hierarchy to \
                                           systemd";

pub(super) fn diagnose(case: &Case) -> Vec<Finding> {
    if case.terms.precedes_pre_start() {
        return Vec::new();
    }
    case.v1
        .slices
        .iter()
        .filter_map(|(path, unit)| judge(case, path, unit))
        .collect()
}

fn judge(case: &Case, path: &CgroupPath, unit: &SliceUnit) -> Option<Finding> {
    let location = Location::Cgroup(case.v1.of(NAMED)?.point.clone(), path.clone());
    let is_there = case.v1.named_has(path);
    if let Some(words) = units::refusal(&case.v1.unmade, path) {
        return Some(slices::failed(location, path, words, is_there));
    }
    match (&unit.fragment, is_there) {
        (Fragment::Masked(file), _) => Some(slices::masked(location, path, file)),
        (Fragment::Foreign(file), false) => Some(foreign(case, location, path, file)),
        (Fragment::None, true) if case.layout.is_own(path) => Some(unowned(case, location, path)),
        _ => None,
    }
}

/// What the kubelet makes itself it also limits, and to be told of a limit makes systemd set the
/// group up.
fn foreign(case: &Case, location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let impact = if case.layout.is_own(path) {
        Impact::notice("systemd sets it up as soon as the kubelet sets a limit of it")
    } else {
        Impact::fatal(
            "the kubelet demands it and never starts a slice that has a unit file of its own",
        )
    };
    let evidence = format!("its unit file is {}, and it is not started", file.display());
    let how = format!("systemctl start {}, at every boot", path.name().display());
    Finding::new(
        Fault::SliceForeign,
        impact,
        location,
        evidence,
        Remedy::Tell(how),
    )
}

fn unowned(case: &Case, location: Location, path: &CgroupPath) -> Finding {
    let impact = if *path == case.layout.kubepods {
        Impact::degraded("the kubelet takes it as it is, and cannot set the limits of all pods")
    } else {
        Impact::fatal(slices::DIES_OF_LIMITS)
    };
    let steps = vec![step(path)];
    Finding::new(
        Fault::SliceUnowned,
        impact,
        location,
        slices::UNOWNED.to_owned(),
        Remedy::Steps(steps),
    )
}

/// The files of a slice that is not in systemd's own hierarchy.
fn lacking<'a>(case: &'a Case, path: &CgroupPath) -> Option<&'a SliceUnit> {
    case.v1
        .slices
        .get(path)
        .filter(|_| !case.v1.named_has(path))
}

/// Whether nothing is made of a group in any hierarchy now: units wait for this program early in
/// the boot, and what is somebody's own, masked, or was asked for in vain is told of alone.
pub(super) fn is_left_alone(case: &Case, path: &CgroupPath) -> bool {
    let Some(unit) = lacking(case, path) else {
        return false;
    };
    let is_unmade = units::refusal(&case.v1.unmade, path).is_some();
    case.terms.precedes_pre_start() || is_unmade || !unit.fragment.may_be_asked_for()
}

/// Whether systemd has the transient unit of a slice that is not in its hierarchy.
pub(super) fn is_believed_in(case: &Case, path: &CgroupPath) -> bool {
    *path == case.layout.kubepods
        && lacking(case, path).is_some_and(|unit| unit.fragment == Fragment::Transient)
}

/// Only systemd can make what is missing in its own hierarchy.
pub(super) fn ask_for(case: &Case, path: &CgroupPath) -> Option<Step> {
    lacking(case, path)?
        .fragment
        .may_be_asked_for()
        .then(|| step(path))
}

fn step(path: &CgroupPath) -> Step {
    Step::AskForSlice {
        slice: path.clone(),
        keeping: Controllers::default(),
    }
}
