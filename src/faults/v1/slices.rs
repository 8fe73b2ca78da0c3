//! Slices of the systemd driver on version 1, where systemd has a hierarchy of its own.
//!
//! Rests on libcontainer's `systemd/v1.go` (`Apply`, `joinCgroups`): it asks systemd for a slice,
//! takes it that one which systemd knows is there, and makes its group in every hierarchy but
//! systemd's own. So what is missing there, the kubelet misses for ever (`Validate` looks there,
//! too); whatever is missing elsewhere it makes itself. No controller can be lost.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::slices::{
    DIES_OF_LIMITS, SLICE_FOREIGN, SLICE_UNOWNED, UNOWNED, failed, masked, may_be_asked_for,
};
use crate::faults::v1::case::V1Case;
use crate::faults::{Finding, Impact, Location, Remedy, Step};
use crate::host::units::{self, SliceUnit, UnitFile};
use crate::host::v1::names::SYSTEMD_HIERARCHY;

/// What becomes of a slice that systemd believes in and that is not there.
pub(super) const NEVER_MADE_AGAIN: &str = "systemd believes it to be there and does not make it \
                                           again, and the kubelet leaves this hierarchy to \
                                           systemd";

pub(super) fn diagnose(case: &V1Case) -> Vec<Finding> {
    if case.terms.occasion.precedes_pre_start() {
        return Vec::new();
    }
    let judged = |(path, unit)| judge(case, path, unit);
    case.v1.slices.iter().filter_map(judged).collect()
}

fn judge(case: &V1Case, path: &CgroupPath, unit: &SliceUnit) -> Option<Finding> {
    let hierarchy = case.v1.of(SYSTEMD_HIERARCHY)?;
    let location = Location::Cgroup(hierarchy.point.clone(), path.clone());
    let is_there = case.v1.named_has(path);
    if let Some(words) = units::refusal(&case.learned.unmade, path) {
        return Some(failed(location, path, words, is_there));
    }
    match (&unit.file, is_there) {
        (UnitFile::Empty(file), _) => Some(masked(location, path, file)),
        (UnitFile::Installed(file), false) => Some(foreign(case, location, path, file)),
        (UnitFile::None, true) if case.layout.is_own(path) => Some(unowned(case, location, path)),
        (UnitFile::None | UnitFile::Transient | UnitFile::Installed(_), _) => None,
    }
}

/// What the kubelet makes itself it also limits, and to be told of a limit makes systemd set the
/// group up.
fn foreign(case: &V1Case, location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let impact = if case.layout.is_own(path) {
        Impact::notice("systemd sets it up as soon as the kubelet sets a limit of it")
    } else {
        Impact::fatal(
            "the kubelet demands it and never starts a slice that has a unit file of its own",
        )
    };
    let evidence = format!("its unit file is {}, and it is not started", file.display());
    let slice = path.name().display();
    let remedy = Remedy::tell(format!("systemctl start {slice}, at every boot"));
    SLICE_FOREIGN.finding(impact, location, evidence, remedy)
}

fn unowned(case: &V1Case, location: Location, path: &CgroupPath) -> Finding {
    let impact = if *path == case.layout.kubepods {
        Impact::degraded("the kubelet takes it as it is, and cannot set the limits of all pods")
    } else {
        Impact::fatal(DIES_OF_LIMITS)
    };
    let remedy = Remedy::step(step(path));
    SLICE_UNOWNED.finding(impact, location, UNOWNED, remedy)
}

/// The files of a slice that is not in systemd's own hierarchy.
fn lacking<'a>(case: &'a V1Case, path: &CgroupPath) -> Option<&'a SliceUnit> {
    if case.v1.named_has(path) {
        return None;
    }
    case.v1.slices.get(path)
}

/// Whether nothing is made of a group in any hierarchy now: units wait for this program early in
/// the boot, and what is somebody's own, masked, or was asked for in vain has a finding of its own.
pub(super) fn is_left_alone(case: &V1Case, path: &CgroupPath) -> bool {
    let is_left_alone = |unit: &SliceUnit| {
        case.terms.occasion.precedes_pre_start()
            || units::refusal(&case.learned.unmade, path).is_some()
            || !may_be_asked_for(unit)
    };
    lacking(case, path).is_some_and(is_left_alone)
}

/// Whether systemd has the transient unit of a slice that is not in its hierarchy.
pub(super) fn is_believed_in(case: &V1Case, path: &CgroupPath) -> bool {
    let is_transient = |unit: &SliceUnit| unit.file == UnitFile::Transient;
    *path == case.layout.kubepods && lacking(case, path).is_some_and(is_transient)
}

/// Only systemd can make what is missing in its own hierarchy.
pub(super) fn ask_for(case: &V1Case, path: &CgroupPath) -> Option<Step> {
    may_be_asked_for(lacking(case, path)?).then(|| step(path))
}

fn step(path: &CgroupPath) -> Step {
    Step::AskForSlice {
        slice: path.clone(),
        keeping: Controllers::default(),
    }
}
