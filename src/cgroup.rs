//! A cgroup's path, and a set of controllers: all other modules name cgroups in these two types.
//!
//! Rests on the kernel's `Documentation/admin-guide/cgroup-v2.rst`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The types of systemd's units that have processes of their own (systemd.unit(5)).
const UNIT_TYPES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// A cgroup's path below the root of its hierarchy: `/`, `/kubepods`, `/kubepods/burstable`.
///
/// Always begins with `/`, never ends with one (but for the root), has no empty, `.` or `..`
/// component. The kernel takes any bytes but `/`, NUL and newline as a name, so a path need not be
/// UTF-8 (`cgroup_mkdir` in `kernel/cgroup/cgroup.c`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(OsString);

impl CgroupPath {
    /// The root of the hierarchy.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Reads a path as the kubelet does (`ParseCgroupfsToCgroupName`): a leading `/` may be
    /// missing, empty components count for nothing. `None` where `.` or `..` would have to be
    /// resolved, or where the kernel would refuse the name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut path = Self::root();
        for component in text.split('/').filter(|part| !part.is_empty()) {
            if matches!(component, "." | "..") || component.contains(['\0', '\n']) {
                return None;
            }
            path = path.join(component);
        }
        Some(path)
    }

    /// The group `component` inside this one.
    #[must_use]
    pub fn join(&self, component: impl AsRef<OsStr>) -> Self {
        let above = unless_slash(&self.0);
        Self(concat(&[above, OsStr::new("/"), component.as_ref()]))
    }

    /// The group that holds this one; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let last_slash = self.0.as_bytes().iter().rposition(|byte| *byte == b'/')?;
        match self.0.as_bytes().get(..last_slash)? {
            [] => Some(Self::root()),
            parent => Some(Self(OsStr::from_bytes(parent).to_owned())),
        }
    }

    /// All groups above this one, the root first.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut above: Vec<Self> = std::iter::successors(self.parent(), Self::parent).collect();
        above.reverse();
        above
    }

    /// How many levels below the root.
    pub fn depth(&self) -> usize {
        self.ancestors().len()
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &OsStr {
        self.components().last().unwrap_or_default()
    }

    /// The names on the way down from the root, which has none itself.
    pub fn components(&self) -> impl Iterator<Item = &OsStr> {
        self.0
            .as_bytes()
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .map(OsStr::from_bytes)
    }

    /// The systemd unit, other than a slice, whose own group this is or lies below: systemd alone
    /// makes and fills such a group.
    pub fn unit(&self) -> Option<&str> {
        // A unit's name is ASCII.
        let mut names = self.components().filter_map(|name| name.to_str());
        names.find(|name| UNIT_TYPES.iter().any(|suffix| name.ends_with(suffix)))
    }

    /// Whether this is the root of the hierarchy.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Whether `other` lies below this group (a group does not lie below itself).
    pub fn is_above(&self, other: &Self) -> bool {
        let rest = other.0.as_bytes().strip_prefix(self.0.as_bytes());
        let is_below = rest.is_some_and(|rest| rest.starts_with(b"/"));
        self != other && (self.is_root() || is_below)
    }

    /// The directory of this group under the hierarchy's mount point.
    pub fn under(&self, mount: &Path) -> PathBuf {
        if self.is_root() {
            return mount.to_owned();
        }
        concat(&[unless_slash(mount.as_os_str()), &self.0]).into()
    }

    /// The path as the kernel writes it, beginning with `/`.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// Nothing in place of `/`, so that a path can follow that begins with a slash.
fn unless_slash(path: &OsStr) -> &OsStr {
    if path == "/" { OsStr::new("") } else { path }
}

/// In one allocation of the right size, since a node can have thousands of groups.
fn concat(parts: &[&OsStr]) -> OsString {
    let mut whole = OsString::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        whole.push(part);
    }
    whole
}

/// For people: bytes that are not UTF-8 become U+FFFD.
impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A set of controller names, as `cgroup.controllers` and `cgroup.subtree_control` list them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Controllers(BTreeSet<String>);

impl Controllers {
    /// The words of a `cgroup.controllers` or `cgroup.subtree_control` file (which may be empty).
    pub fn parse(text: &str) -> Self {
        text.split_whitespace().collect()
    }

    /// Whether the set holds `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of this set that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    /// Those in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Adds one.
    pub fn insert(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The names in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'a> FromIterator<&'a str> for Controllers {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap_or_else(CgroupPath::root)
    }

    #[test]
    fn paths_are_read_as_the_kubelet_reads_them() {
        assert_eq!(path("a//b/").to_string(), "/a/b");
        assert_eq!(path("").to_string(), "/");
        assert_eq!(CgroupPath::parse("/a/../b"), None);
        assert_eq!(CgroupPath::parse("/a\nb"), None);
    }

    #[test]
    fn ancestors_and_depth() {
        assert_eq!(path("/a/b").ancestors(), [path("/"), path("/a")]);
        assert_eq!(path("/a/b").depth(), 2);
        assert!(path("/a").is_above(&path("/a/b")));
        assert!(!path("/a").is_above(&path("/ab")));
        assert!(!path("/a").is_above(&path("/a")));
        assert!(path("/").is_above(&path("/a")));
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let odd = OsStr::from_bytes(b"pod\xff");
        let group = path("/a").join(odd);
        assert_eq!(group.name(), odd);
        assert_eq!(group.parent(), Some(path("/a")));
        assert!(path("/a").is_above(&group));
        assert_eq!(
            group.under(Path::new("/sys")).as_os_str().as_bytes(),
            b"/sys/a/pod\xff"
        );
        assert_eq!(group.to_string(), "/a/pod\u{fffd}");
        assert_ne!(group, path("/a/pod\u{fffd}"));
        assert_eq!(path("/").under(Path::new("/sys")), Path::new("/sys"));
    }

    #[test]
    fn an_empty_subtree_control_is_an_empty_set() {
        assert!(Controllers::parse("").is_empty());
        assert_eq!(Controllers::parse("pids cpu\n").to_string(), "cpu pids");
    }
}
