//! Slices of the systemd driver on cgroup v1, where systemd has a hierarchy of its own.
//!
//! Rests on libcontainer's `systemd/v1.go` (`Apply`, `joinCgroups`): it asks systemd for a slice,
//! assumes that a slice which systemd knows exists, and creates its group in every hierarchy but
//! systemd's own. So a group that is missing in systemd's hierarchy stays missing, and the
//! kubelet's check fails (`Validate` looks there, too). In the other hierarchies the kubelet
//! creates missing groups itself. No controller can be lost.

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::faults::slices::{
    DIES_OF_LIMITS, SLICE_FOREIGN, SLICE_UNOWNED, UNOWNED, failed, masked, may_be_asked_for,
    systemctl,
};
use crate::faults::v1::case::V1Case;
use crate::faults::{Finding, Impact, Location, Remedy, Step};
use crate::host::units::{self, SliceUnit, UnitFile};
use crate::host::v1::names::SYSTEMD_HIERARCHY;

/// The impact of a slice that does not exist although systemd believes that it does.
pub(super) const NEVER_MADE_AGAIN: &str = "systemd believes that the slice exists and does not \
                                           create it again. The kubelet leaves this hierarchy to \
                                           systemd and does not start";

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

/// A slice with an installed unit file that is not started. The kubelet sets limits on its own
/// slices, and systemd creates the group of a slice when a limit is set on it.
fn foreign(case: &V1Case, location: Location, path: &CgroupPath, file: &Path) -> Finding {
    let impact = if case.layout.is_own(path) {
        Impact::notice("systemd creates the slice as soon as the kubelet sets a limit on it")
    } else {
        Impact::fatal("The kubelet requires this slice and never starts one with such a file")
    };
    let file = file.display();
    let evidence = format!("The unit file {file} is installed, but the slice is not started");
    let start = systemctl("start", path);
    let remedy = Remedy::run(
        "Start the slice, and have it started at every boot",
        [start],
    );
    SLICE_FOREIGN.finding(impact, location, evidence, remedy)
}

fn unowned(case: &V1Case, location: Location, path: &CgroupPath) -> Finding {
    let impact = if *path == case.layout.kubepods {
        Impact::degraded("The kubelet starts, but cannot set the limits on all pods together")
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

/// Whether a group is created in no hierarchy now. Early in the boot units wait for this program. A
/// slice that has an installed unit file, is masked, or was refused has a finding of its own.
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

/// The step that asks systemd for a slice: only systemd can create it in its own hierarchy.
pub(super) fn ask_for(case: &V1Case, path: &CgroupPath) -> Option<Step> {
    may_be_asked_for(lacking(case, path)?).then(|| step(path))
}

fn step(path: &CgroupPath) -> Step {
    Step::AskForSlice {
        slice: path.clone(),
        keeping: Controllers::default(),
    }
}
