//! Which cgroup hierarchies are mounted, and where: `/proc/self/mountinfo`, proc(5).
//!
//! The kubelet decides by `statfs("/sys/fs/cgroup")`; of several mounts on one point the last one is what is seen.

use std::path::{Path, PathBuf};

/// Where the kubelet looks for cgroups, whatever else is mounted.
pub const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// The mount point.
    pub point: PathBuf,
    /// `cgroup2`, or `cgroup` for version 1.
    pub version: Version,
    /// Whether it can be written: false when the mount or the file system is read-only.
    pub writable: bool,
    /// The file system's options: for version 1 they name the controllers.
    pub options: Vec<String>,
}

/// The kind of a cgroup file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
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

/// The cgroup mounts in `mountinfo`, in its order.
pub fn parse(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// The layout that these mounts make. `mountinfo` again, since a tmpfs over cgroup2 hides it.
pub fn mode(mountinfo: &str, mounts: &[CgroupMount]) -> Mode {
    let top = Path::new(CGROUP_MOUNT);
    let seen = mountinfo.lines().filter_map(fields).rfind(|fields| fields.point == top);
    let unified = mounts.iter().rfind(|mount| mount.point == top && mount.version == Version::V2);
    if let (Some(Fields { kind: "cgroup2", .. }), Some(mount)) = (seen, unified) {
        return Mode::Unified(mount.clone());
    }
    let has = |version| mounts.iter().any(|mount| mount.version == version && mount.point.starts_with(top));
    match (has(Version::V1), has(Version::V2)) {
        (true, true) => Mode::Hybrid,
        (true, false) => Mode::Legacy,
        (false, _) => Mode::Unmounted,
    }
}

struct Fields<'a> {
    point: PathBuf,
    mount_options: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// `36 35 98:0 /root /point options optional… - type source options`
fn fields(line: &str) -> Option<Fields<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (point, mount_options) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, _source, options) = (filesystem.next()?, filesystem.next()?, filesystem.next()?);
    Some(Fields { point: PathBuf::from(unescape(point)), mount_options, kind, options })
}

fn parse_line(line: &str) -> Option<CgroupMount> {
    let fields = fields(line)?;
    let version = match fields.kind {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(CgroupMount {
        point: fields.point,
        version,
        writable: !read_only(fields.mount_options) && !read_only(fields.options),
        options: fields.options.split(',').filter(|option| *option != "rw").map(str::to_owned).collect(),
    })
}

/// The kernel writes blanks, newlines and backslashes of a mount point as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(after)) => {
                plain.push(char::from(code));
                rest = after;
            }
            _ => {
                plain.push('\\');
                rest = after;
            }
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
        let hybrid = format!("{legacy}33 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        assert_eq!(mode_of(&hybrid), Mode::Hybrid);
    }

    #[test]
    fn read_only_by_mount_or_by_file_system() {
        for line in [UNIFIED.replacen("rw,nosuid", "ro,nosuid", 1), UNIFIED.replace("rw,nsdelegate", "ro")] {
            assert!(parse(&line).iter().all(|mount| !mount.writable), "{line}");
        }
    }

    #[test]
    fn escaped_mount_points() {
        assert_eq!(unescape("/a\\040b\\134"), "/a b\\");
        assert_eq!(unescape("/a\\0"), "/a\\0");
        assert_eq!(unescape("/a\\9é9"), "/a\\9é9");
    }
}
