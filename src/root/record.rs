//! The record of what a run has read, from which the same run can be repeated on another machine
//! (`--capture`, `--root`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The list of errnos in a captured tree, with a line for each path that could not be read: `ENODEV
/// /sys/fs/cgroup/x`.
pub const ERRNO_FILE: &str = ".errnos";

/// The list of free space in a captured tree, with a line for each path that was examined: free
/// bytes, free inodes (`-` if the file system has no fixed number of inodes), and the path.
pub const ROOM_FILE: &str = ".room";

/// The free space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The number of bytes that root can still write.
    pub bytes: u64,
    /// The number of files that can still be created; `None` if the file system has no fixed number
    /// of inodes.
    pub inodes: Option<u64>,
}

/// Something that was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// Anything else whose name alone was read.
    Name,
    /// A file with the part of its content that is kept.
    File(Vec<u8>),
    /// A symbolic link, with its target.
    Link(OsString),
}

/// Everything that was read. Paths that do not exist are not in it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    found: BTreeMap<PathBuf, Found>,
    errnos: BTreeMap<PathBuf, Errno>,
    rooms: BTreeMap<PathBuf, Room>,
}

impl Record {
    /// Adds what was found. Content or a directory replaces a mere name, but not the reverse.
    pub(super) fn add(&mut self, path: &Path, found: Found) {
        let says_more = match (&found, self.found.get(path)) {
            (Found::File(_) | Found::Link(_), _) | (_, None) => true,
            (Found::Directory, Some(known)) => *known == Found::Name,
            (Found::Name, Some(_)) => false,
        };
        if says_more {
            self.found.insert(path.to_owned(), found);
        }
    }

    /// Adds a path that could not be read. A path that does not exist is not recorded.
    pub(super) fn add_failure(&mut self, path: &Path, errno: Errno) {
        if errno != Errno::ENOENT {
            self.errnos.insert(path.to_owned(), errno);
        }
    }

    /// Adds the free space on the file system at `path`.
    pub(super) fn add_room(&mut self, path: &Path, room: Room) {
        self.rooms.insert(path.to_owned(), room);
    }

    /// Everything that was found, with each directory before its content, and each path with the
    /// recorded links resolved; then the lists of errnos and of free space.
    pub fn entries(&self) -> Vec<(PathBuf, Found)> {
        let mut entries = Vec::new();
        for (path, found) in &self.found {
            entries.push((self.without_links(path), found.clone()));
        }
        let mut errnos = String::new();
        for (path, errno) in &self.errnos {
            errnos += &format!("{errno:?} {}\n", path.display());
        }
        let list = Found::File(errnos.into_bytes());
        entries.push((Path::new("/").join(ERRNO_FILE), list));
        let mut rooms = String::new();
        for (path, Room { bytes, inodes }) in &self.rooms {
            let inodes = inodes.map_or("-".to_owned(), |count| count.to_string());
            rooms += &format!("{bytes} {inodes} {}\n", path.display());
        }
        let list = Found::File(rooms.into_bytes());
        entries.push((Path::new("/").join(ROOM_FILE), list));
        entries
    }

    /// `path` with each recorded link above it resolved.
    fn without_links(&self, path: &Path) -> PathBuf {
        let Some((above, name)) = path.parent().zip(path.file_name()) else {
            return path.to_owned();
        };
        let mut above = self.without_links(above);
        if let Some(Found::Link(target)) = self.found.get(&above) {
            above.pop();
            above.push(target);
        }
        above.join(name)
    }
}

/// Reads a list of errnos; an unknown name counts as EINVAL.
pub(super) fn parse_errnos(list: &str) -> BTreeMap<PathBuf, Errno> {
    let mut errnos = BTreeMap::new();
    for (name, path) in list.lines().filter_map(|line| line.split_once(' ')) {
        let mut known = (1..256).map(Errno::from_raw);
        let errno = known.find(|errno| format!("{errno:?}") == name);
        errnos.insert(PathBuf::from(path), errno.unwrap_or(Errno::EINVAL));
    }
    errnos
}

/// Reads a list of free space; a line without a number of bytes is skipped.
pub(super) fn parse_rooms(list: &str) -> BTreeMap<PathBuf, Room> {
    let mut rooms = BTreeMap::new();
    for line in list.lines() {
        let mut words = line.splitn(3, ' ');
        let bytes = words.next().and_then(|word| word.parse().ok());
        let inodes = words.next().and_then(|word| word.parse().ok());
        if let (Some(bytes), Some(path)) = (bytes, words.next()) {
            rooms.insert(PathBuf::from(path), Room { bytes, inodes });
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_and_content_replaces_names() {
        let mut record = Record::default();
        record.add(Path::new("/snap/current"), Found::Link("12".into()));
        record.add(Path::new("/snap/current/meta"), Found::File(b"x".to_vec()));
        record.add(Path::new("/snap/current/meta"), Found::Name);
        record.add_failure(Path::new("/none"), Errno::ENOENT);
        record.add_failure(Path::new("/secret"), Errno::EACCES);
        let entries = record.entries();
        assert_eq!(
            entries[1],
            ("/snap/12/meta".into(), Found::File(b"x".to_vec()))
        );
        assert_eq!(
            entries[2],
            ("/.errnos".into(), Found::File(b"EACCES /secret\n".to_vec()))
        );
        let room = Room {
            bytes: 4096,
            inodes: None,
        };
        record.add_room(Path::new("/a b"), room);
        assert_eq!(
            record.entries().pop(),
            Some(("/.room".into(), Found::File(b"4096 - /a b\n".to_vec())))
        );
        assert_eq!(
            parse_rooms("4096 - /a b\nx 1 /c\n")[Path::new("/a b")],
            room
        );
        assert_eq!(
            parse_errnos("EACCES /secret\nENODEV /a b\n").get(Path::new("/a b")),
            Some(&Errno::ENODEV)
        );
    }
}
