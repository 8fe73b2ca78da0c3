//! CPUs that belong to somebody else's cpuset partition.
//!
//! A partition (`cpuset.cpus.partition` is `root` or `isolated`) has its CPUs for itself: when a
//! sibling's `cpuset.cpus` names one of them, the kernel makes the partition invalid
//! (`Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files"; `validate_change` in
//! `kernel/cgroup/cpuset.c`). From 6.7 on `cpuset.cpus.exclusive` claims them for partitions
//! further down.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::cgroup::CgroupPath;
use crate::root::keep::all;
use crate::root::{ReadError, Root};

/// All that there could ever be: those that are off now may be switched on later.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// A set of CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(BTreeSet<u16>);

impl Cpus {
    /// Reads a list such as `0-3,8`; what is no number in it counts for nothing.
    pub fn parse(list: &str) -> Self {
        let mut numbers = BTreeSet::new();
        for range in list.trim_end().split(',') {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(begin), Ok(end)) = (low.parse::<u16>(), high.parse::<u16>()) {
                numbers.extend(begin..=end);
            }
        }
        Self(numbers)
    }

    /// Takes away all of `others`.
    pub fn remove(&mut self, others: &Self) {
        self.0.retain(|cpu| !others.0.contains(cpu));
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn minus(&self, others: &Self) -> Self {
        Self(self.0.difference(&others.0).copied().collect())
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }

    /// Reads a list as the kubelet does (`cpuset.Parse` in `k8s.io/utils`); `None` for what it
    /// refuses.
    pub fn parse_strictly(list: &str) -> Option<Self> {
        let mut numbers = BTreeSet::new();
        for range in list.split(',').filter(|_| !list.is_empty()) {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (low.parse::<u16>().ok()?, high.parse::<u16>().ok()?);
            if low > high {
                return None;
            }
            numbers.extend(low..=high);
        }
        Some(Self(numbers))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As systemd wants them on the bus: one bit for each CPU, the lowest first.
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

/// As the kernel writes a list: `0-3,8`.
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

/// All CPUs that this machine could ever have; `None` where nothing says which.
///
/// # Errors
/// When the list is there and cannot be read.
pub fn possible_cpus(root: &Root) -> Result<Option<Cpus>, ReadError> {
    Ok(root
        .read_value(Path::new(POSSIBLE_CPUS))?
        .map(|list| Cpus::parse(&list)))
}

/// The CPUs that a slice may have: all but those that a group beside it, or beside a group above
/// it, has in a partition of its own. An invalid partition counts, too: it becomes valid again once
/// nothing is in its way. `None` where nothing says which CPUs there are.
///
/// # Errors
/// When a list that is there cannot be read.
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
                free.remove(&claimed(root, &sibling.under(mount))?);
            }
        }
    }
    Ok(Some(free))
}

/// What a group has for itself; nothing where it has no cpuset controller.
fn claimed(root: &Root, group: &Path) -> Result<Cpus, ReadError> {
    let read = |file: &str| root.keeping(&all).read_value(&group.join(file));
    let mut claimed = Cpus::parse(&read("cpuset.cpus.exclusive")?.unwrap_or_default());
    let is_partition = |state: String| state.starts_with("root") || state.starts_with("isolated");
    if read("cpuset.cpus.partition")?.is_some_and(is_partition) {
        claimed
            .0
            .extend(Cpus::parse(&read("cpuset.cpus")?.unwrap_or_default()).0);
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
    fn cpus_taken_away() {
        let without = |all: &str, others: &str| {
            let mut cpus = Cpus::parse(all);
            cpus.remove(&Cpus::parse(others));
            cpus
        };
        assert_eq!(without("0-7", "2-3,7\n"), Cpus::parse("0-1,4-6"));
        assert_eq!(without("0-3", ""), Cpus::parse("0-3"));
        assert!(without("0-3", "0-63").is_empty());
    }

    #[test]
    fn partitions_beside_the_slice_and_beside_those_above() {
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
            // The slice's own, and what lies beside no group on the way to it.
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
