//! Finds the mounted cgroup hierarchies in `/proc/self/mountinfo` (proc(5)).
//!
//! The kubelet decides by `statfs("/sys/fs/cgroup")`. Of several mounts on one point only the last
//! one is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::kubelet::microk8s::MICROK8S;
use crate::root::keep::{BLANK, text};
use crate::root::{ReadError, Root};

/// Where the kubelet looks for cgroups, whatever else is mounted.
pub const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

/// The directory of the kernel parameters.
pub const SYSCTLS: &str = "/proc/sys";

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Its mount point, without the kernel's escapes.
    pub point: PathBuf,
    /// `cgroup2`, or `cgroup` for version 1.
    pub version: CgroupVersion,
    /// Whether it can be written to: false if the mount or the file system is read-only.
    pub writable: bool,
    /// The file system's options, which name the controllers on version 1.
    pub options: Vec<String>,
    /// The group that is visible at the mount point: `/`, or another one in a container or with a
    /// bind mount.
    pub root: String,
    /// The mount point of a mount that covers it and hides its files from every process.
    pub covered_by: Option<PathBuf>,
}

/// The version of a cgroup file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// `cgroup`
    V1,
    /// `cgroup2`
    V2,
}

/// How this host lays out its hierarchies, as the kubelet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// cgroup2 on `/sys/fs/cgroup`.
    Unified(CgroupMount),
    /// Version 1 hierarchies, and cgroup2 beside them for systemd's own use.
    Hybrid,
    /// Version 1 hierarchies only.
    Legacy,
    /// No cgroup hierarchy under `/sys/fs/cgroup`.
    Unmounted,
}

/// Reads a `mountinfo`.
///
/// # Errors
/// When it cannot be read.
pub fn read(root: &Root, path: &Path) -> Result<String, ReadError> {
    root.keeping(&text(keep)).read(path)
}

/// The cgroup mounts in `mountinfo`, in its order.
pub fn parse(mountinfo: &str) -> Vec<CgroupMount> {
    let all: Vec<Fields> = mountinfo.lines().filter_map(fields).collect();
    let stack = Stack::new(&all);
    let mounts = all.iter().filter_map(|mount| cgroup_mount(mount, &stack));
    mounts.collect()
}

/// The mounts of a version 1 controller, in their order.
pub fn mounts_of<'a>(
    mounts: &'a [CgroupMount],
    name: &'a str,
) -> impl Iterator<Item = &'a CgroupMount> {
    mounts.iter().filter(move |mount| {
        let mut options = mount.options.iter();
        mount.version == CgroupVersion::V1 && options.any(|option| option == name)
    })
}

/// Where a version 1 controller is mounted first.
pub fn point_of(mounts: &[CgroupMount], name: &str) -> Option<PathBuf> {
    let mount = mounts_of(mounts, name).next();
    mount.map(|mount| mount.point.clone())
}

/// The layout of these mounts. `mountinfo` also shows a tmpfs that hides a cgroup2 mount.
pub fn mode(mountinfo: &str, mounts: &[CgroupMount]) -> Mode {
    let top = Path::new(CGROUP_MOUNT);
    let mut all = mountinfo.lines().filter_map(fields);
    let seen = all.rfind(|mount| mount.point == top);
    let is_v2 = |mount: &&CgroupMount| mount.point == top && mount.version == CgroupVersion::V2;
    if seen.is_some_and(|mount| mount.kind == "cgroup2")
        && let Some(mount) = mounts.iter().rfind(is_v2)
    {
        return Mode::Unified(mount.clone());
    }
    let has = |version| {
        let mut below = mounts.iter().filter(|mount| mount.point.starts_with(top));
        below.any(|mount| mount.version == version)
    };
    match (has(CgroupVersion::V1), has(CgroupVersion::V2)) {
        (true, true) => Mode::Hybrid,
        (true, false) => Mode::Legacy,
        (false, _) => Mode::Unmounted,
    }
}

/// The file system that holds a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Where it is mounted.
    pub point: PathBuf,
    /// `ext4`, `xfs` …
    pub kind: String,
    /// Major and minor number of its device, as the kernel writes them: `8:1`.
    pub device: String,
    /// Whether the mount or the file system refuses writes.
    pub read_only: bool,
}

/// Options that show that a file system refuses writes. From 6.14 on ext4 still shows `rw` after an
/// error (`_ext4_show_options` in `fs/ext4/super.c`).
const REFUSES_WRITES: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// The file system that holds `path`; `None` if no mount contains it.
pub fn file_system(mountinfo: &str, path: &Path) -> Option<FileSystem> {
    let all = mountinfo.lines().filter_map(fields);
    let holding = all.filter(|mount| path.starts_with(&mount.point));
    let mount = holding.max_by_key(|mount| mount.point.components().count())?;
    let options = [mount.mount_options, mount.options];
    let mut options = options.iter().flat_map(|options| options.split(','));
    Some(FileSystem {
        kind: mount.kind.to_owned(),
        device: mount.device.to_owned(),
        read_only: options.any(|option| REFUSES_WRITES.contains(&option)),
        point: mount.point,
    })
}

/// What a capture keeps of a `mountinfo`: the cgroup mounts, and the other mounts that they are
/// mounted on or that may cover them, without source and options.
fn keep(mountinfo: &str) -> String {
    let all: Vec<Fields> = mountinfo.lines().filter_map(fields).collect();
    let by_id: BTreeMap<&str, &Fields> = all.iter().map(|mount| (mount.id, mount)).collect();
    let of_cgroups = all.iter().filter(|mount| mount.version().is_some());
    let mut points = [CGROUP_MOUNT, MICROK8S.common, SYSCTLS]
        .map(Path::new)
        .to_vec();
    let mut below = BTreeSet::new();
    for mount in of_cgroups {
        points.push(&mount.point);
        let mut id = mount.parent;
        while let Some(parent) = by_id.get(id).filter(|_| below.insert(id)) {
            id = parent.parent;
        }
    }
    let mut kept = String::new();
    for mount in &all {
        let covers = points.iter().any(|point| point.starts_with(&mount.point));
        if mount.version().is_some() || covers || below.contains(mount.id) {
            kept.push_str(&mount.keep(covers));
        }
    }
    kept
}

/// The fields of a line of `mountinfo`. Only the mount point is also given without escapes.
struct Fields<'a> {
    id: &'a str,
    parent: &'a str,
    device: &'a str,
    root: &'a str,
    escaped_point: &'a str,
    point: PathBuf,
    mount_options: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// `36 35 98:0 /root /point options optional… - type source options`
fn fields(line: &str) -> Option<Fields<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let (id, parent, device, root) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let (escaped_point, mount_options) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, _source, options) = (filesystem.next()?, filesystem.next()?, filesystem.next()?);
    Some(Fields {
        id,
        parent,
        device,
        root,
        escaped_point,
        point: PathBuf::from(unescape(escaped_point)),
        mount_options,
        kind,
        options,
    })
}

impl Fields<'_> {
    fn version(&self) -> Option<CgroupVersion> {
        match self.kind {
            "cgroup" => Some(CgroupVersion::V1),
            "cgroup2" => Some(CgroupVersion::V2),
            _ => None,
        }
    }

    /// The fields of this line that the program uses. If the mount covers no other one, its mount
    /// point is masked. The line itself remains, because other mounts refer to it.
    fn keep(&self, covers: bool) -> String {
        let is_cgroup = self.version().is_some();
        let is_seen = covers || is_cgroup;
        let point = if is_seen {
            self.escaped_point
        } else {
            "/BLANKED"
        };
        // After `fuse.` comes a name that a user may have chosen.
        let kind = self.kind.split('.').next().unwrap_or_default();
        let root = if is_cgroup { self.root } else { "/" };
        let device = if is_seen { self.device } else { "0:0" };
        let options = self.options.split(',');
        let kept = if is_cgroup {
            options.map(keep_option).collect::<Vec<_>>().join(",")
        } else {
            let refuses = |option: &&str| REFUSES_WRITES.contains(option);
            options.clone().find(refuses).unwrap_or("rw").to_owned()
        };
        let (id, parent, mount_options) = (self.id, self.parent, self.mount_options);
        format!("{id} {parent} {device} {root} {point} {mount_options} - {kind} none {kept}\n")
    }
}

/// Keeps an option. Of those with a value, only `name=` is used.
fn keep_option(option: &str) -> String {
    match option.split_once('=') {
        Some((name, _)) if name != "name" => format!("{name}={BLANK}"),
        _ => option.to_owned(),
    }
}

fn cgroup_mount<'a>(mount: &'a Fields<'a>, stack: &Stack<'a>) -> Option<CgroupMount> {
    let version = mount.version()?;
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let options = mount.options.split(',').filter(|option| *option != "rw");
    Some(CgroupMount {
        point: mount.point.clone(),
        version,
        writable: !read_only(mount.mount_options) && !read_only(mount.options),
        options: options.map(str::to_owned).collect(),
        root: unescape(mount.root),
        covered_by: stack.cover(mount),
    })
}

/// All mounts, by their ids, and by their parent and mount point.
struct Stack<'a> {
    by_id: BTreeMap<&'a str, &'a Fields<'a>>,
    by_place: BTreeMap<(&'a str, &'a Path), &'a Fields<'a>>,
}

/// The depth to which nested mounts, and the folders of a mount point, are followed.
const DEEPEST: usize = 64;

impl<'a> Stack<'a> {
    fn new(all: &'a [Fields<'a>]) -> Self {
        let place = |mount: &'a Fields<'a>| (mount.parent, mount.point.as_path());
        Self {
            by_id: all.iter().map(|mount| (mount.id, mount)).collect(),
            by_place: all.iter().map(|mount| (place(mount), mount)).collect(),
        }
    }

    /// The mount point of another mount that covers this one: it is mounted over this point or a
    /// folder above it.
    fn cover(&self, mount: &'a Fields<'a>) -> Option<PathBuf> {
        let parent = |mount: &&'a Fields| {
            let parent = self.by_id.get(mount.parent).copied();
            parent.filter(|parent| parent.id != mount.id)
        };
        let below = std::iter::successors(Some(mount), parent).take(DEEPEST);
        let below: Vec<&str> = below.map(|mount| mount.id).collect();
        for folder in mount.point.ancestors().take(DEEPEST) {
            let mut over = below
                .iter()
                .filter_map(|id| self.by_place.get(&(*id, folder)));
            if let Some(other) = over.find(|other| !below.contains(&other.id)) {
                return Some(other.point.clone());
            }
        }
        None
    }
}

/// Undoes the kernel's escapes: it writes blanks, newlines and backslashes in a mount point as
/// three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let (digits, behind) = after.split_at_checked(3).unwrap_or_default();
        if let Ok(code) = u8::from_str_radix(digits, 8) {
            plain.push(char::from(code));
            rest = behind;
        } else {
            plain.push('\\');
            rest = after;
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_topmost_mount_decides() {
        let mode_of = |text: &str| mode(text, &parse(text));
        assert!(matches!(mode_of(UNIFIED), Mode::Unified(mount) if mount.writable));
        let hidden = format!("{UNIFIED}31 30 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs ro\n");
        assert_eq!(mode_of(&hidden), Mode::Unmounted);
        let legacy = "31 30 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      32 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        assert_eq!(mode_of(legacy), Mode::Legacy);
        let hybrid =
            format!("{legacy}33 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        assert_eq!(mode_of(&hybrid), Mode::Hybrid);
    }

    #[test]
    fn a_covered_mount() {
        let tree = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    21 20 0:20 / /sys rw - sysfs sysfs rw\n\
                    31 21 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    32 31 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
        let covers = |more: &str| {
            let mounts = parse(&format!("{tree}{more}"));
            mounts
                .iter()
                .map(|mount| mount.covered_by.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(covers(""), [None]);
        assert_eq!(covers("40 20 0:40 / /mnt rw - tmpfs tmpfs rw\n"), [None]);
        assert_eq!(
            covers("40 31 0:40 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"),
            [Some("/sys/fs/cgroup".into())]
        );
        let twice = covers("40 32 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
        assert_eq!(twice, [Some("/sys/fs/cgroup/cpuset".into()), None]);
    }

    #[test]
    fn read_only_by_mount_or_by_file_system() {
        for line in [
            UNIFIED.replacen("rw,nosuid", "ro,nosuid", 1),
            UNIFIED.replace("rw,nsdelegate", "ro"),
        ] {
            assert!(parse(&line).iter().all(|mount| !mount.writable), "{line}");
        }
    }

    #[test]
    fn the_file_system_of_a_path() {
        let tree = "20 1 8:1 / / rw - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    21 20 8:2 / /var rw - ext4 /dev/sda2 rw,emergency_ro\n\
                    22 20 8:3 / /variable rw - xfs /dev/sda3 rw\n";
        let at = |path: &str| file_system(tree, Path::new(path)).unwrap();
        assert_eq!(
            (at("/var/snap").device.as_str(), at("/var/snap").read_only),
            ("8:2", true)
        );
        assert_eq!(
            (at("/varied").device.as_str(), at("/varied").read_only),
            ("8:1", false)
        );
        let over = format!("{tree}23 21 8:4 / /var ro - ext4 /dev/sda4 rw\n");
        assert_eq!(file_system(&over, Path::new("/var")).unwrap().device, "8:4");
        assert_eq!(file_system("", Path::new("/var")), None);
    }

    #[test]
    fn a_capture_keeps_cgroups_and_what_may_cover_them() {
        let text = "20 1 8:1 /S / rw - ext4 /dev/S rw,S\n21 20 0:20 / /sys rw - sysfs S rw\n22 20 \
                    0:20 / /home/S rw - fuse.S S rw\n23 20 0:21 / /home/T rw - tmpfs S rw\n31 21 \
                    0:27 / /sys/fs/cgroup ro shared:1 - tmpfs S rw\n32 31 0:28 /a\\040b \
                    /sys/fs/cgroup/cpuset rw - cgroup S rw,cpuset,release_agent=/S,name=a\n33 22 \
                    0:29 / /opt/c rw - cgroup2 S rw\n";
        let kept = "20 1 8:1 / / rw - ext4 none rw\n21 20 0:20 / /sys rw - sysfs none rw\n\
                    22 20 0:0 / /BLANKED rw - fuse none rw\n31 21 0:27 / /sys/fs/cgroup ro - tmpfs \
                    none rw\n32 31 0:28 /a\\040b /sys/fs/cgroup/cpuset rw - cgroup none \
                    rw,cpuset,release_agent=BLANKED,name=a\n33 22 0:29 / /opt/c rw - cgroup2 none \
                    rw\n";
        assert_eq!(keep(text), kept);
        assert_eq!(keep(kept), kept);
        assert_eq!(parse(kept), parse(&text.replace("=/S", "=BLANKED")));
    }

    #[test]
    fn escaped_mount_points() {
        assert_eq!(unescape("/a\\040b\\134"), "/a b\\");
        assert_eq!(unescape("/a\\0"), "/a\\0");
        assert_eq!(unescape("/a\\9é9"), "/a\\9é9");
    }
}
