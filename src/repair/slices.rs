//! Asks systemd for slices as the kubelet's libcontainer does (`systemd/v2.go`, `Apply`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::host::partitions::{Cpus, free_cpus};
use crate::host::units::SliceUnit;
use crate::repair::RepairError;
use crate::repair::bus::{Job, Properties, Systemd};
use crate::root::Root;

/// Bytes (`UNIT_NAME_MAX` in systemd's `src/basic/unit-name.h`, less its NUL).
const LONGEST_UNIT_NAME: usize = 255;

/// systemd's own default, set explicitly.
const DEFAULT_CPU_WEIGHT: u64 = 100;

/// A connection to systemd if the kubelet's groups are its slices.
pub(super) fn systemd_for(
    slices: &BTreeMap<CgroupPath, SliceUnit>,
) -> Result<Option<Systemd>, RepairError> {
    (!slices.is_empty()).then(Systemd::connect).transpose()
}

/// Asks systemd for a new slice. If systemd already has the slice, its properties are set until the
/// next boot and it is started if it is not running: setting any property makes systemd apply
/// everything that it assumes to be in place.
///
/// `mount` is the mount point of version 2; on version 1 no controller has to be kept.
pub(super) fn ask_for(
    root: &Root,
    mount: &Path,
    slice: &CgroupPath,
    keeping: &Controllers,
) -> Result<(), RepairError> {
    let systemd = Systemd::connect()?;
    // The name comes from settings, so it is valid UTF-8.
    let name = &slice.name().to_string_lossy();
    let mut cpus = Cpus::default();
    if keeping.contains("cpuset") {
        cpus = free_cpus(root, mount, slice)?.unwrap_or_default();
    }
    let mut unit = identity(slice);
    unit.extend(resources(keeping, &cpus));
    let job = if let Some(job) = systemd.start_transient(name, unit)? {
        job
    } else {
        systemd.set_until_reboot(name, resources(keeping, &cpus))?;
        systemd.start(name)?
    };
    require_active(&systemd, &job, name)
}

/// Starts a slice that has a unit file of its own, and sets nothing on it.
pub(super) fn start(slice: &CgroupPath) -> Result<(), RepairError> {
    let systemd = Systemd::connect()?;
    let name = &slice.name().to_string_lossy();
    let job = systemd.start(name)?;
    require_active(&systemd, &job, name)
}

/// Waits for the job that starts the unit.
fn require_active(systemd: &Systemd, job: &Job, name: &str) -> Result<(), RepairError> {
    systemd.wait_for(job, name)?;
    let state = systemd.state(name)?;
    if state == "active" {
        return Ok(());
    }
    let call = format!("starting {name}");
    let reason = format!("the unit is {state}");
    Err(RepairError::Bus { call, reason })
}

/// Stops an empty slice, so that systemd no longer has it. Does nothing if the group's name is not
/// valid for a unit.
pub(super) fn let_go(systemd: &Systemd, slice: &CgroupPath) -> Result<(), RepairError> {
    let Some(unit) = unit_name(slice) else {
        return Ok(());
    };
    match systemd.stop_alone(unit)? {
        Some(job) => systemd.wait_for(&job, unit),
        None => Ok(()),
    }
}

/// `None` if systemd would refuse the name (`unit_name_is_valid` in `src/basic/unit-name.c`).
fn unit_name(slice: &CgroupPath) -> Option<&str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let name = slice.name().to_str()?;
    (name.len() <= LONGEST_UNIT_NAME && name.chars().all(is_allowed)).then_some(name)
}

fn identity(slice: &CgroupPath) -> Properties {
    let parent = slice.parent().filter(|parent| !parent.is_root());
    let wants = vec![parent.map_or("-.slice".to_owned(), |parent| {
        parent.name().to_string_lossy().into_owned()
    })];
    let description = format!("libcontainer container {}", slice.name().display());
    vec![
        ("Description", description.into()),
        ("Wants", wants.into()),
        ("DefaultDependencies", false.into()),
    ]
}

fn resources(keeping: &Controllers, cpus: &Cpus) -> Properties {
    let accounting = [
        "MemoryAccounting",
        "CPUAccounting",
        "IOAccounting",
        "TasksAccounting",
    ];
    let mut properties: Properties = accounting.map(|key| (key, true.into())).into();
    // An empty list would allow all CPUs, including those of other partitions.
    if keeping.contains("cpuset") && !cpus.is_empty() {
        properties.push(("AllowedCPUs", cpus.bits().into()));
    }
    if keeping.contains("cpu") {
        properties.push(("CPUWeight", DEFAULT_CPU_WEIGHT.into()));
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_unit_can_have_are_skipped() {
        use std::os::unix::ffi::OsStrExt;

        let slice = |name: &[u8]| CgroupPath::root().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(
            unit_name(&slice(b"kubepods-pod1_2.slice")),
            Some("kubepods-pod1_2.slice")
        );
        for name in [
            b"kubepods-pod\xff.slice".as_slice(),
            b"kubepods-pod 1.slice",
            "kubepods-podé.slice".as_bytes(),
        ] {
            assert_eq!(unit_name(&slice(name)), None);
        }
    }
}
