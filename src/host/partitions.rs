//! Sets of CPUs, and the CPUs in the cpuset partitions of other groups.
//!
//! A partition (`cpuset.cpus.partition` is `root` or `isolated`) has exclusive use of its CPUs: if
//! `cpuset.cpus` of a sibling contains one of them, the kernel makes the partition invalid
//! (`Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files"; `validate_change` in
//! `kernel/cgroup/cpuset.c`). From 6.7 on `cpuset.cpus.exclusive` reserves CPUs for partitions
//! further down.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// The CPUs that this machine can ever have, including those that are offline now.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// A set of CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(BTreeSet<u16>);

impl Cpus {
    /// Reads a list such as `0-3,8`, and skips words that are not numbers.
    pub fn parse(list: &str) -> Self {
        let ranges = list.trim_end().split(',').filter_map(bounds);
        Self(ranges.flat_map(|(low, high)| low..=high).collect())
    }

    /// The CPUs that are not in `others`.
    #[must_use]
    pub fn minus(&self, others: &Self) -> Self {
        Self(self.0.difference(&others.0).copied().collect())
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }

    /// Reads a list as the kubelet does (`cpuset.Parse` in `k8s.io/utils`); `None` if it would
    /// refuse the list.
    pub fn parse_strictly(list: &str) -> Option<Self> {
        let mut numbers = BTreeSet::new();
        for range in list.split(',').filter(|_| !list.is_empty()) {
            let (low, high) = bounds(range).filter(|(low, high)| low <= high)?;
            numbers.extend(low..=high);
        }
        Some(Self(numbers))
    }

    /// The number of CPUs in the set.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set as systemd expects it over D-Bus: one bit for each CPU, the lowest first.
    pub fn bits(&self) -> Vec<u8> {
        let mut bits = Vec::new();
        for cpu in self.0.iter().copied().map(usize::from) {
            bits.resize(bits.len().max(cpu / 8 + 1), 0);
            if let Some(byte) = bits.get_mut(cpu / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        bits
    }
}

/// The bounds of a range such as `3-8`, or of a single number.
fn bounds(range: &str) -> Option<(u16, u16)> {
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// The list as the kernel writes it: `0-3,8`.
impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// All CPUs that this machine can ever have; `None` if the kernel does not list them.
///
/// # Errors
/// When the list exists but cannot be read.
pub fn possible_cpus(root: &Root) -> Result<Option<Cpus>, ReadError> {
    let list = root.read_value(Path::new(POSSIBLE_CPUS))?;
    Ok(list.map(|list| Cpus::parse(&list)))
}

/// The CPUs that a slice may use: all but those in the partitions of its siblings, and of the
/// siblings of the groups above it. An invalid partition counts as well, because it becomes valid
/// again once no other group uses its CPUs. `None` if the kernel does not list the CPUs.
///
/// # Errors
/// When an existing list cannot be read.
pub fn free_cpus(root: &Root, mount: &Path, slice: &CgroupPath) -> Result<Option<Cpus>, ReadError> {
    let Some(mut free) = possible_cpus(root)? else {
        return Ok(None);
    };
    let mut way = slice.ancestors();
    way.push(slice.clone());
    for (above, own) in way.iter().zip(way.iter().skip(1)) {
        for name in root.directories(&above.under(mount))?.unwrap_or_default() {
            let sibling = above.join(name);
            if sibling != *own {
                free = free.minus(&claimed(root, &sibling.under(mount))?);
            }
        }
    }
    Ok(Some(free))
}

/// The CPUs that a group uses exclusively; none if it has no cpuset controller.
fn claimed(root: &Root, group: &Path) -> Result<Cpus, ReadError> {
    let read = |file: &str| root.keeping(&all).read_value(&group.join(file));
    let mut claimed = Cpus::parse(&read("cpuset.cpus.exclusive")?.unwrap_or_default());
    let is_partition = |state: String| state.starts_with("root") || state.starts_with("isolated");
    if read("cpuset.cpus.partition")?.is_some_and(is_partition) {
        claimed.extend(&Cpus::parse(&read("cpuset.cpus")?.unwrap_or_default()));
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn cpus_as_bits() {
        assert_eq!(Cpus::parse("0\n").bits(), [0b1]);
        assert_eq!(Cpus::parse("0-3,8\n").bits(), [0b1111, 0b1]);
        assert_eq!(Cpus::parse("0-15").bits(), [0xff, 0xff]);
        assert!(Cpus::parse("\n").is_empty());
        assert!(Cpus::parse("3-1,x,-").bits().is_empty());
        for list in ["", "0", "0-3", "0-3,8", "1,3,5-6"] {
            let cpus = Cpus::parse_strictly(list).unwrap();
            assert_eq!(cpus.to_string(), list);
        }
        for list in ["3-1", "x", "0,", "-", "1.3", " 1"] {
            assert_eq!(Cpus::parse_strictly(list), None, "{list}");
        }
    }

    #[test]
    fn cpus_without_others() {
        let without = |all: &str, others: &str| Cpus::parse(all).minus(&Cpus::parse(others));
        assert_eq!(without("0-7", "2-3,7\n"), Cpus::parse("0-1,4-6"));
        assert_eq!(without("0-3", ""), Cpus::parse("0-3"));
        assert!(without("0-3", "0-63").is_empty());
    }

    #[test]
    fn the_partitions_of_siblings_at_every_level_are_left_out() {
        let folder =
            std::env::temp_dir().join(format!("kubepods-repair-partitions-{}", std::process::id()));
        let file = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("sys/devices/system/cpu/possible", "0-15\n");
        for (group, partition, cpus) in [
            ("valid", "root\n", "1\n"),
            (
                "invalid",
                "isolated invalid (Cpu list in cpuset.cpus not exclusive)\n",
                "2-3\n",
            ),
            ("member", "member\n", "4\n"),
            // A group above the slice, and groups that are siblings of none of these.
            ("foo.slice", "root\n", "0-15\n"),
            ("valid/below", "root\n", "5\n"),
            ("foo.slice/beside", "root\n", "6\n"),
        ] {
            file(&format!("cg/{group}/cpuset.cpus.partition"), partition);
            file(&format!("cg/{group}/cpuset.cpus"), cpus);
        }
        file("cg/far/cpuset.cpus.exclusive", "8-9\n");
        file("cg/foo.slice/foo-kubepods.slice/cgroup.controllers", "");
        let root = Root::captured(&folder).unwrap();
        let slice = CgroupPath::parse("/foo.slice/foo-kubepods.slice").unwrap();
        let free = free_cpus(&root, Path::new("/cg"), &slice);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(free, Ok(Some(Cpus::parse("0,4-5,7,10-15"))));
    }
}
