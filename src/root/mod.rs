//! The file system under examination: this machine's `/`, or the captured copy of another
//! machine's.
//!
//! A captured tree is opened once, and every path is resolved inside it (`openat2` with
//! `RESOLVE_IN_ROOT`), so that its absolute symbolic links lead into the copy and never to files of
//! this machine.

pub mod keep;
pub mod record;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keep::Keep;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag};
use nix::fcntl::{open, openat, openat2, readlink, readlinkat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access, geteuid};
pub use record::Room;
use record::{ERRNO_FILE, Found, ROOM_FILE, Record};

/// The largest file in `/proc` or `/sys` that is read, in bytes: the mountinfo of a busy node can
/// have several megabytes.
const LARGEST_OF_KERNEL: u64 = 16 << 20;

/// The largest other file that is read, in bytes. Settings and state files have some kilobytes, and
/// a parser needs forty times the size of the file.
const LARGEST_ON_DISK: u64 = 2 << 20;

/// The size of the buffer for a file with one value, which never fills it.
const LARGEST_VALUE: usize = 4096;

/// The largest number of files that are left open. The kernel closes them when the process ends,
/// which saves a call for each.
const MAX_LEFT_OPEN: u64 = 128;

/// The errors that mean that something does not exist, or no longer exists: `ENODEV` for a file of
/// a cgroup that was removed in between, `ESRCH` for a file of a task that ended.
const ABSENT: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ENODEV, Errno::ESRCH];

/// The name in a captured tree's list of errnos that stands for root's inotify instances and
/// watches.
const INOTIFY: &str = "/inotify";

/// The content of a file, as far as it shows damage from a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// It has a size of 0 bytes.
    Nothing,
    /// It begins with NUL bytes only.
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

/// A failed attempt to read something of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {path}: {errno}", path = path.display())]
pub struct ReadError {
    /// `read`, `list`, `open` …
    pub operation: &'static str,
    /// The path on the examined host, without the location of a captured tree.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The tree under examination.
#[derive(Debug, Default)]
pub struct Root {
    /// The captured tree; `None` for this machine.
    captured: Option<OwnedFd>,
    /// The errors that a captured tree gives for some paths, instead of their content.
    errnos: BTreeMap<PathBuf, Errno>,
    /// The free space on the file systems of a captured tree.
    rooms: BTreeMap<PathBuf, Room>,
    record: Option<RefCell<Record>>,
    /// How many more files may be left open, see [`MAX_LEFT_OPEN`].
    may_leave_open: Cell<u64>,
}

impl Root {
    /// This machine.
    pub fn live() -> Self {
        // A service with a low limit needs its descriptors for the repair.
        let limit = getrlimit(Resource::RLIMIT_NOFILE);
        let may_leave_open = limit.map_or(0, |(soft, _)| MAX_LEFT_OPEN.min(soft / 4));
        Self {
            may_leave_open: Cell::new(may_leave_open),
            ..Self::default()
        }
    }

    /// A captured tree. Needs Linux 5.6 (`openat2`).
    ///
    /// # Errors
    /// When `dir` cannot be opened, or its lists of errnos or free space cannot be read.
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

    /// The same root, which from now on also records everything that is read.
    #[must_use]
    pub fn recording(self) -> Self {
        Self {
            record: Some(RefCell::default()),
            ..self
        }
    }

    /// Everything that was read, if it is being recorded.
    pub fn record(&self) -> Option<Record> {
        self.record.as_ref().map(|record| record.borrow().clone())
    }

    /// Adds the kernel's answer about `path` to the record, if there is one.
    fn note<T>(&self, path: &Path, answer: &Result<T, Errno>, found: impl FnOnce(&T) -> Found) {
        let Some(record) = &self.record else { return };
        match answer {
            Ok(value) => record.borrow_mut().add(path, found(value)),
            Err(errno) => record.borrow_mut().add_failure(path, *errno),
        }
    }

    /// A reader for files of which a capture keeps what `keep` returns. Every file that is not the
    /// kernel's own has to be read in this way; otherwise a capture keeps none of its content.
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
        // On disk, what does not fill the buffer is the whole file. The kernel's own files may come
        // in pieces of any size.
        if !is_of_kernel {
            bytes.resize(LARGEST_VALUE, 0);
            let length = retry(|| nix::unistd::read(&file, &mut bytes))?;
            bytes.truncate(length);
        }
        if is_of_kernel || bytes.len() == LARGEST_VALUE {
            let read = (&mut file).take(largest + 1).read_to_end(&mut bytes);
            read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        }
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

    /// Leaves a file open that is not read again.
    fn leave_open(&self, file: OwnedFd) {
        if let Some(left) = self.may_leave_open.get().checked_sub(1) {
            self.may_leave_open.set(left);
            mem::forget(file);
        }
    }

    /// The names of the directories in `path`, sorted; `None` if `path` does not exist.
    ///
    /// # Errors
    /// Any other error of the kernel.
    pub fn directories(&self, path: &Path) -> Result<Option<Vec<OsString>>, ReadError> {
        let Some(entries) = absent_is_none(self.entries(path))? else {
            return Ok(None);
        };
        let directories = entries
            .into_iter()
            .filter(|(_, is_directory)| *is_directory);
        Ok(Some(directories.map(|(name, _)| name).collect()))
    }

    /// All names in `path`, sorted; `None` if `path` does not exist.
    ///
    /// # Errors
    /// Any other error of the kernel.
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
        // A /proc that does not exist has to be an error: without its list of processes nothing is
        // known about them.
        for (name, is_directory) in self.entries(Path::new("/proc"))? {
            if let Ok(name) = name.into_string()
                && is_directory
                && name.starts_with(|first: char| first.is_ascii_digit())
            {
                pids.push(name);
            }
        }
        Ok(pids)
    }

    /// Every file below `folder`, in the order of Go's `filepath.Walk`: sorted by name, with the
    /// content of a folder in its place.
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

    /// Where the symbolic link at `path` points; `None` if `path` does not exist.
    ///
    /// # Errors
    /// Any other error of the kernel (`EINVAL`: not a link).
    pub fn link(&self, path: &Path) -> Result<Option<OsString>, ReadError> {
        let target = match (&self.captured, self.errnos.get(path)) {
            (_, Some(errno)) => Err(*errno),
            (Some(tree), None) => readlinkat(tree.as_fd(), inside(path)),
            (None, None) => readlink(path),
        };
        // If it is not a link, whoever reads it afterwards records what it is.
        if target != Err(Errno::EINVAL) {
            self.note(path, &target, |target| Found::Link(target.clone()));
        }
        absent_is_none(target.map_err(failed("follow", path)))
    }

    /// Whether something is at `path`.
    ///
    /// # Errors
    /// When the kernel does not allow to find out.
    pub fn exists(&self, path: &Path) -> Result<bool, ReadError> {
        let answer = if self.captured.is_some() {
            self.open(path, OFlag::O_PATH).map(drop)
        } else {
            retry(|| access(path, AccessFlags::F_OK))
        };
        self.note(path, &answer, |()| Found::Name);
        Ok(absent_is_none(answer.map_err(failed("access", path)))?.is_some())
    }

    /// What the file at `path` contains, as far as it shows damage from a power cut; `None` if
    /// there is no regular file at `path`. A capture keeps no more of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn filling(&self, path: &Path) -> Result<Option<Filling>, ReadError> {
        let file = self.open(path, OFlag::O_RDONLY);
        let answer = file.and_then(|file| self.filling_of(file));
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

    /// What the file contains, judged by its first bytes.
    fn filling_of(&self, file: OwnedFd) -> Result<Filling, Errno> {
        let mut bytes = [0; 64];
        let length = retry(|| nix::unistd::read(&file, &mut bytes))?;
        let file = File::from(file);
        if length == 0 && !file.metadata().is_ok_and(|file| file.is_file()) {
            // A pipe without a writer looks like an empty file.
            return Err(Errno::EOPNOTSUPP);
        }
        self.leave_open(file.into());
        Ok(Filling::of(bytes.get(..length).unwrap_or_default()))
    }

    /// The free space on the file system at `path`; `None` if `path` does not exist, or a capture
    /// does not have it.
    ///
    /// # Errors
    /// When statvfs(3) fails.
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
        absent_is_none(answer.map_err(failed("get the free space of", path)))
    }

    /// Asks the kernel for one inotify(7) watch on `folder`, and removes it at once. There is no
    /// other way to know whether root has one left.
    ///
    /// # Errors
    /// `EMFILE` if all of root's instances are in use, `ENOSPC` if all of its watches are.
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

    /// The names in `path`, sorted, each with whether it is a directory.
    fn entries(&self, path: &Path) -> Result<Vec<(OsString, bool)>, ReadError> {
        let answer = self.list(path);
        self.note(path, &answer, |_| Found::Directory);
        for (name, is_directory) in answer.iter().flatten() {
            if *is_directory && self.record.is_some() {
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
            // If the file system does not report types, every name counts as a directory. The
            // kernel's own file systems do report them.
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
        retry(|| match &self.captured {
            None => openat(AT_FDCWD, path, flags, Mode::empty()),
            Some(tree) => openat2(tree.as_fd(), inside(path), how),
        })
    }
}

/// Reads files, and records of each what a capture is to keep of it.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    root: &'a Root,
    keep: Keep<'a>,
}

impl Reader<'_> {
    /// The whole file as text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Any error of the kernel; `EFBIG` for a file in `/proc` or `/sys` over 16 MiB, or any other
    /// over 2 MiB.
    pub fn read(&self, path: &Path) -> Result<String, ReadError> {
        self.read_bytes(path).map(text_of)
    }

    /// As [`Self::read`]; `None` if the file does not exist, or no longer exists.
    ///
    /// # Errors
    /// Any other error of the kernel.
    pub fn read_if_there(&self, path: &Path) -> Result<Option<String>, ReadError> {
        absent_is_none(self.read(path))
    }

    /// As [`Self::read_if_there`], for a file of cgroupfs or procfs that holds one value. The first
    /// read(2) returns the whole value (`seq_file` with a single record), so a second one that
    /// looks for the end of the file is not needed.
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

    /// The whole file as bytes.
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

/// Repeats a call that a signal has interrupted.
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
