//! The file system as it is examined: this machine's `/`, or a captured copy of another's.
//!
//! A captured tree is opened once and everything in it is resolved inside it (`openat2` with
//! `RESOLVE_IN_ROOT`), so that its absolute symbolic links lead into the copy and never out to this
//! machine.

pub mod keep;
pub mod record;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keep::Keep;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag};
use nix::fcntl::{open, openat, openat2, readlink, readlinkat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access, geteuid};
pub use record::Room;
use record::{ERRNO_FILE, Found, ROOM_FILE, Record};

/// No file of the kernel's is read further than this: a busy node's mountinfo is some megabytes.
const LARGEST_OF_KERNEL: u64 = 16 << 20;

/// Nor any other: what is read there are settings and state, some kilobytes long, and a parser
/// takes forty times the file.
const LARGEST_ON_DISK: u64 = 2 << 20;

/// What a file of one value never fills.
const LARGEST_VALUE: usize = 4096;

/// So many files are left open at most. The end of the process closes them all, in no call of its
/// own.
const MAX_LEFT_OPEN: usize = 128;

/// What the kernel answers where nothing is, or nothing any longer: `ENODEV` for a file of a cgroup
/// that was removed in between, `ESRCH` for one of a task that ended.
const ABSENT: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ENODEV, Errno::ESRCH];

/// What stands in a captured tree's list of errnos for root's instances and watches of inotify.
const INOTIFY: &str = "/inotify";

/// What is in a file, as far as a power cut can spoil it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// It has a size of 0 bytes.
    Nothing,
    /// There are only NUL bytes at its beginning.
    Zeros,
    /// Anything else.
    Something,
}

impl Filling {
    /// The filling of a file that begins with `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            Self::Nothing
        } else if bytes.iter().all(|byte| *byte == 0) {
            Self::Zeros
        } else {
            Self::Something
        }
    }
}

/// A read of the host that failed: what was tried, where, and the kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {path}: {errno}", path = path.display())]
pub struct ReadError {
    /// `read`, `list`, `open` …
    pub operation: &'static str,
    /// As the host names it, without the captured tree's own place.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The tree under examination.
#[derive(Debug, Default)]
pub struct Root {
    /// The captured tree; `None` for this machine.
    captured: Option<OwnedFd>,
    /// What a captured tree answers instead of what is in it.
    errnos: BTreeMap<PathBuf, Errno>,
    /// What the file systems of a captured tree have room for.
    rooms: BTreeMap<PathBuf, Room>,
    record: Option<RefCell<Record>>,
    /// Files that were read, see [`MAX_LEFT_OPEN`].
    left_open: ManuallyDrop<RefCell<Vec<OwnedFd>>>,
}

impl Root {
    /// This machine.
    pub fn live() -> Self {
        Self::default()
    }

    /// A captured tree. Needs Linux 5.6 (`openat2`).
    ///
    /// # Errors
    /// When `dir` cannot be opened or its list of errnos not be read.
    pub fn captured(dir: &Path) -> Result<Self, ReadError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let tree = retry(|| open(dir, flags, Mode::empty())).map_err(failed("open", dir))?;
        let mut root = Self {
            captured: Some(tree),
            ..Self::default()
        };
        let list = root.read_if_there(Path::new(ERRNO_FILE))?;
        root.errnos = record::parse_errnos(&list.unwrap_or_default());
        let list = root.read_if_there(Path::new(ROOM_FILE))?;
        root.rooms = record::parse_rooms(&list.unwrap_or_default());
        Ok(root)
    }

    /// The same, and from now on all that is read is also kept.
    #[must_use]
    pub fn recording(self) -> Self {
        Self {
            record: Some(RefCell::default()),
            ..self
        }
    }

    /// All that was read, where it is kept.
    pub fn record(&self) -> Option<Record> {
        self.record.as_ref().map(|record| record.borrow().clone())
    }

    /// Notes the kernel's answer about `path`, where a record is kept.
    fn note<T>(&self, path: &Path, answer: &Result<T, Errno>, found: impl FnOnce(&T) -> Found) {
        let Some(record) = &self.record else { return };
        match answer {
            Ok(value) => record.borrow_mut().add(path, found(value)),
            Err(errno) => record.borrow_mut().add_failure(path, *errno),
        }
    }

    /// A reader of files of which a capture keeps what `keep` leaves of them. Any file but the
    /// kernel's own has to be read in this way, or a capture holds nothing of it.
    pub fn keeping<'a>(&'a self, keep: Keep<'a>) -> Reader<'a> {
        Reader { root: self, keep }
    }

    /// As [`Reader::read`], for one of the kernel's own files.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, path: &Path) -> Result<String, ReadError> {
        self.keeping(keep::usual(path)).read(path)
    }

    /// As [`Reader::read_if_there`], for one of the kernel's own files.
    ///
    /// # Errors
    /// As there.
    pub fn read_if_there(&self, path: &Path) -> Result<Option<String>, ReadError> {
        self.keeping(keep::usual(path)).read_if_there(path)
    }

    /// As [`Reader::read_value`], for one of the kernel's own files.
    ///
    /// # Errors
    /// As there.
    pub fn read_value(&self, path: &Path) -> Result<Option<String>, ReadError> {
        self.keeping(keep::usual(path)).read_value(path)
    }

    fn read_whole(&self, path: &Path) -> Result<Vec<u8>, Errno> {
        let mut file = File::from(self.open(path, OFlag::O_RDONLY)?);
        let mut bytes = Vec::with_capacity(LARGEST_VALUE);
        let is_of_kernel = path.starts_with("/proc") || path.starts_with("/sys");
        let largest = if is_of_kernel {
            LARGEST_OF_KERNEL
        } else {
            LARGEST_ON_DISK
        };
        let read = (&mut file).take(largest + 1).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        // A pipe without a writer looks like an empty file.
        if bytes.is_empty() && !file.metadata().is_ok_and(|file| file.is_file()) {
            return Err(Errno::EOPNOTSUPP);
        }
        if bytes.len() as u64 > largest {
            return Err(Errno::EFBIG);
        }
        self.leave_open(file.into());
        Ok(bytes)
    }

    /// Saves the call that closes it.
    fn leave_open(&self, file: OwnedFd) {
        let mut left_open = self.left_open.borrow_mut();
        if left_open.len() < MAX_LEFT_OPEN {
            left_open.push(file);
        }
    }

    /// The names of the directories in `path`, sorted; `None` where `path` is not there.
    ///
    /// # Errors
    /// Any other answer of the kernel.
    pub fn directories(&self, path: &Path) -> Result<Option<Vec<OsString>>, ReadError> {
        let Some(entries) = absent_is_none(self.entries(path))? else {
            return Ok(None);
        };
        let directories = entries
            .into_iter()
            .filter(|(_, is_directory)| *is_directory);
        Ok(Some(directories.map(|(name, _)| name).collect()))
    }

    /// All names in `path`, sorted; `None` where `path` is not there.
    ///
    /// # Errors
    /// Any other answer of the kernel.
    pub fn names(&self, path: &Path) -> Result<Option<Vec<OsString>>, ReadError> {
        let Some(entries) = absent_is_none(self.entries(path))? else {
            return Ok(None);
        };
        for (name, _) in entries.iter().filter(|(_, is_directory)| !is_directory) {
            self.note(&path.join(name), &Ok(()), |()| Found::Name);
        }
        Ok(Some(entries.into_iter().map(|(name, _)| name).collect()))
    }

    /// The processes in `/proc`, by the names of their directories.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn pids(&self) -> Result<Vec<String>, ReadError> {
        let mut pids = Vec::new();
        for name in self.directories(Path::new("/proc"))?.unwrap_or_default() {
            if let Ok(name) = name.into_string()
                && name.starts_with(|first: char| first.is_ascii_digit())
            {
                pids.push(name);
            }
        }
        Ok(pids)
    }

    /// Every file below `folder`, in the order of Go's `filepath.Walk`: by name, a folder in its
    /// place.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn files_below(&self, folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut files = Vec::new();
        let mut to_visit = vec![(folder.to_owned(), true)];
        while let Some((path, is_folder)) = to_visit.pop() {
            if !is_folder {
                self.note(&path, &Ok(()), |()| Found::Name);
                files.push(path);
                continue;
            }
            for (name, is_folder) in self.entries(&path)?.into_iter().rev() {
                to_visit.push((path.join(name), is_folder));
            }
        }
        Ok(files)
    }

    /// Where the symbolic link at `path` points; `None` where there is nothing.
    ///
    /// # Errors
    /// Any other answer of the kernel (`EINVAL`: not a link).
    pub fn link(&self, path: &Path) -> Result<Option<OsString>, ReadError> {
        let target = match (&self.captured, self.errnos.get(path)) {
            (_, Some(errno)) => Err(*errno),
            (Some(tree), None) => readlinkat(tree.as_fd(), inside(path)),
            (None, None) => readlink(path),
        };
        // What is no link is read as what it is, or not at all.
        if target != Err(Errno::EINVAL) {
            self.note(path, &target, |target| Found::Link(target.clone()));
        }
        absent_is_none(target.map_err(failed("read link", path)))
    }

    /// Whether something is at `path`.
    ///
    /// # Errors
    /// When the kernel does not let us know.
    pub fn exists(&self, path: &Path) -> Result<bool, ReadError> {
        let answer = if self.captured.is_some() {
            self.open(path, OFlag::O_PATH).map(drop)
        } else {
            retry(|| access(path, AccessFlags::F_OK))
        };
        self.note(path, &answer, |()| Found::Name);
        Ok(absent_is_none(answer.map_err(failed("look for", path)))?.is_some())
    }

    /// What the file at `path` is filled with, as far as a power cut can spoil it; `None` where
    /// there is none, or something other than a file. A capture keeps that much of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn filling(&self, path: &Path) -> Result<Option<Filling>, ReadError> {
        let answer = self.open(path, OFlag::O_RDONLY).and_then(filling_of);
        self.note(path, &answer, |filling| {
            Found::File(match filling {
                Filling::Nothing => Vec::new(),
                Filling::Zeros => vec![0],
                Filling::Something => format!("{}\n", keep::BLANK).into_bytes(),
            })
        });
        match answer {
            Err(Errno::EISDIR | Errno::EOPNOTSUPP) => Ok(None),
            answer => absent_is_none(answer.map_err(failed("read", path))),
        }
    }

    /// What the file system at `path` has room for; `None` where there is none, or a capture does
    /// not say it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn room(&self, path: &Path) -> Result<Option<Room>, ReadError> {
        let answer = if self.captured.is_some() {
            self.rooms.get(path).copied().ok_or(Errno::ENOENT)
        } else {
            retry(|| statvfs(path)).map(|room| Room {
                bytes: room.blocks_free().saturating_mul(room.fragment_size()),
                inodes: (room.files() > 0).then(|| room.files_free()),
            })
        };
        if let (Some(record), Ok(room)) = (&self.record, &answer) {
            record.borrow_mut().add_room(path, *room);
        }
        absent_is_none(answer.map_err(failed("look for room in", path)))
    }

    /// Asks the kernel for one inotify(7) watch on `folder`, which is given back at once. There is
    /// no other way to know whether one is left for root.
    ///
    /// # Errors
    /// `EMFILE` where all of root's instances are in use, `ENOSPC` where all of its watches are.
    pub fn inotify(&self, folder: &Path) -> Result<(), Errno> {
        let answer = if self.captured.is_some() {
            self.errnos
                .get(Path::new(INOTIFY))
                .map_or(Ok(()), |errno| Err(*errno))
        } else if geteuid().is_root() {
            let watched = |inotify: Inotify| inotify.add_watch(folder, AddWatchFlags::IN_CREATE);
            Inotify::init(InitFlags::IN_CLOEXEC)
                .and_then(watched)
                .map(drop)
        } else {
            Ok(())
        };
        let answer = answer.or_else(|errno| match errno {
            Errno::EMFILE | Errno::ENOSPC => Err(errno),
            _ => Ok(()),
        });
        if let (Some(record), Err(errno)) = (&self.record, &answer) {
            record.borrow_mut().add_failure(Path::new(INOTIFY), *errno);
        }
        answer
    }

    /// Names, and whether each is a directory, sorted.
    fn entries(&self, path: &Path) -> Result<Vec<(OsString, bool)>, ReadError> {
        let answer = self.list(path);
        self.note(path, &answer, |_| Found::Directory);
        for (name, is_directory) in answer.iter().flatten() {
            if *is_directory {
                self.note(&path.join(name), &Ok(()), |()| Found::Directory);
            }
        }
        answer.map_err(failed("list", path))
    }

    fn list(&self, path: &Path) -> Result<Vec<(OsString, bool)>, Errno> {
        let dir = Dir::from_fd(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            // A file system that tells no type (none of the kernel's own) is taken at the name's
            // word.
            let is_directory = entry
                .file_type()
                .is_none_or(|kind| kind == nix::dir::Type::Directory);
            if name != "." && name != ".." {
                names.push((name.to_owned(), is_directory));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let mut flags = flags | OFlag::O_CLOEXEC;
        // openat2 refuses with O_PATH what openat ignores.
        if !flags.contains(OFlag::O_PATH) {
            flags |= OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        }
        if let Some(errno) = self.errnos.get(path) {
            return Err(*errno);
        }
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let open = || match &self.captured {
            None => openat(AT_FDCWD, path, flags, Mode::empty()),
            Some(tree) => openat2(tree.as_fd(), inside(path), how),
        };
        let answer = retry(open);
        if !matches!(answer, Err(Errno::EMFILE)) || self.left_open.borrow().is_empty() {
            return answer;
        }
        self.left_open.borrow_mut().clear();
        retry(open)
    }
}

/// A reader of files, each of which says what a capture keeps of it.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    root: &'a Root,
    keep: Keep<'a>,
}

impl Reader<'_> {
    /// The whole file as text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Whatever the kernel answers; `EFBIG` for a file of the kernel's over 16 MiB, or another over
    /// 2 MiB.
    pub fn read(&self, path: &Path) -> Result<String, ReadError> {
        self.read_bytes(path).map(text_of)
    }

    /// As [`Self::read`], with `None` for a file that does not exist, or does not any longer.
    ///
    /// # Errors
    /// Any other answer of the kernel.
    pub fn read_if_there(&self, path: &Path) -> Result<Option<String>, ReadError> {
        absent_is_none(self.read(path))
    }

    /// As [`Self::read_if_there`], for a file of cgroupfs or procfs that holds one value: the
    /// kernel gives it whole at the first read (`seq_file` with a single record), so that no second
    /// one has to look for its end.
    ///
    /// # Errors
    /// As [`Self::read_if_there`].
    pub fn read_value(&self, path: &Path) -> Result<Option<String>, ReadError> {
        if self.root.captured.is_some() || self.root.record.is_some() {
            return self.read_if_there(path);
        }
        let mut value = vec![0; LARGEST_VALUE];
        let file = self.root.open(path, OFlag::O_RDONLY);
        let length = file.and_then(|file| {
            let length = retry(|| nix::unistd::read(&file, &mut value));
            self.root.leave_open(file);
            length
        });
        match absent_is_none(length.map_err(failed("read", path)))? {
            None => Ok(None),
            Some(length) if length < LARGEST_VALUE => {
                value.truncate(length);
                Ok(Some(text_of(value)))
            }
            Some(_) => self.read_if_there(path),
        }
    }

    /// The whole file as it is.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let answer = self.root.read_whole(path);
        self.root
            .note(path, &answer, |bytes| Found::File((self.keep)(bytes)));
        answer.map_err(failed("read", path))
    }
}

/// Reads no more than the beginning.
fn filling_of(file: OwnedFd) -> Result<Filling, Errno> {
    let mut bytes = [0; 64];
    let length = retry(|| nix::unistd::read(&file, &mut bytes))?;
    if length == 0 && !File::from(file).metadata().is_ok_and(|file| file.is_file()) {
        // A pipe without a writer looks like an empty file.
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(Filling::of(bytes.get(..length).unwrap_or_default()))
}

/// Calls again what a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn inside(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> ReadError {
    let path = path.to_owned();
    move |errno| ReadError {
        operation,
        path,
        errno,
    }
}

fn absent_is_none<T>(answer: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if ABSENT.contains(&error.errno) => Ok(None),
        Err(error) => Err(error),
    }
}
