//! Slices, asked for as the kubelet's libcontainer asks for them (`systemd/v2.go`, `Apply`).

use std::path::Path;

use crate::cgroup::{CgroupPath, Controllers};
use crate::repair::RepairError;
use crate::repair::bus::{Properties, Systemd};
use crate::root::Root;

/// All that there could ever be: those that are off now may be switched on later.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Bytes (`UNIT_NAME_MAX` in systemd's `src/basic/unit-name.h`, less its NUL).
const LONGEST_UNIT_NAME: usize = 255;

/// systemd's own default, said aloud.
const USUAL_WEIGHT: u64 = 100;

/// A slice that systemd knows already is told what is new, until the next boot, and started if it does not run. To be told
/// anything makes systemd apply all that it believes to be in place.
pub(super) fn ask_for(root: &Root, slice: &CgroupPath, keeping: &Controllers) -> Result<(), RepairError> {
    let systemd = Systemd::connect()?;
    // It comes from settings, and so is text.
    let name = &slice.name().to_string_lossy();
    let cpus = bits(&root.read(Path::new(POSSIBLE_CPUS))?);
    let mut unit = identity(slice);
    unit.extend(resources(keeping, &cpus));
    let job = match systemd.start_transient(name, unit)? {
        Some(job) => job,
        None => {
            systemd.set_until_reboot(name, resources(keeping, &cpus))?;
            systemd.start(name)?
        }
    };
    systemd.wait_for(&job, name)?;
    require_active(&systemd, name)
}

/// Starts a slice that has a unit file of its own, and sets nothing on it.
pub(super) fn start(slice: &CgroupPath) -> Result<(), RepairError> {
    let systemd = Systemd::connect()?;
    let name = &slice.name().to_string_lossy();
    let job = systemd.start(name)?;
    systemd.wait_for(&job, name)?;
    require_active(&systemd, name)
}

fn require_active(systemd: &Systemd, name: &str) -> Result<(), RepairError> {
    let state = systemd.state(name)?;
    if state == "active" {
        return Ok(());
    }
    let reason = format!("the unit is {state} all the same");
    Err(RepairError::Bus { call: format!("The start of {name}"), reason })
}

/// Makes systemd forget a slice that nothing lives in. A group may have a name that no unit can have.
pub(super) fn let_go(systemd: &Systemd, slice: &CgroupPath) -> Result<(), RepairError> {
    let Some(unit) = unit_name(slice) else { return Ok(()) };
    match systemd.stop_alone(unit)? {
        Some(job) => systemd.wait_for(&job, unit),
        None => Ok(()),
    }
}

/// `None` where systemd refuses the name (`unit_name_is_valid` in `src/basic/unit-name.c`).
fn unit_name(slice: &CgroupPath) -> Option<&str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    slice.name().to_str().filter(|name| name.len() <= LONGEST_UNIT_NAME && name.chars().all(is_allowed))
}

fn identity(slice: &CgroupPath) -> Properties {
    let parent = slice.parent().filter(|parent| !parent.is_root());
    let wants = vec![parent.map_or("-.slice".to_owned(), |parent| parent.name().to_string_lossy().into_owned())];
    vec![
        ("Description", format!("libcontainer container {}", slice.name().display()).into()),
        ("Wants", wants.into()),
        ("DefaultDependencies", false.into()),
    ]
}

fn resources(keeping: &Controllers, cpus: &[u8]) -> Properties {
    let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
    let mut properties: Properties = accounting.map(|key| (key, true.into())).into();
    if keeping.contains("cpuset") {
        properties.push(("AllowedCPUs", cpus.to_vec().into()));
    }
    if keeping.contains("cpu") {
        properties.push(("CPUWeight", USUAL_WEIGHT.into()));
    }
    properties
}

/// `0-3,8` as systemd wants it on the bus: one bit for each CPU, the lowest first.
fn bits(list: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for range in list.trim_end().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for cpu in usize::from(first)..=usize::from(last) {
            bits.resize(bits.len().max(cpu / 8 + 1), 0);
            if let Some(byte) = bits.get_mut(cpu / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_unit_is_asked_for() {
        use std::os::unix::ffi::OsStrExt;

        let slice = |name: &[u8]| CgroupPath::root().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(unit_name(&slice(b"kubepods-pod1_2.slice")), Some("kubepods-pod1_2.slice"));
        for name in [b"kubepods-pod\xff.slice".as_slice(), b"kubepods-pod 1.slice", "kubepods-podé.slice".as_bytes()] {
            assert_eq!(unit_name(&slice(name)), None);
        }
    }

    #[test]
    fn cpus_as_bits() {
        assert_eq!(bits("0\n"), [0b1]);
        assert_eq!(bits("0-3,8\n"), [0b1111, 0b1]);
        assert_eq!(bits("0-15"), [0xff, 0xff]);
    }
}
