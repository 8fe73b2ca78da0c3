//! The file system as it is examined: this machine's `/`, or a captured copy of another's.
//!
//! A captured tree is opened once and everything in it is resolved inside it (`openat2` with `RESOLVE_IN_ROOT`), so that
//! its absolute symbolic links lead into the copy and never out to this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2, readlink, readlinkat};
use nix::sys::stat::Mode;

/// What is read whole is never larger than this; the kubelet's and the kernel's own files are far smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// In a captured tree: the errno that each file gave that could not be read, a line each: `ENODEV /sys/fs/cgroup/x`.
const ERRNO_FILE: &str = ".errnos";

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
#[derive(Debug)]
pub struct Root {
    captured: Option<Captured>,
}

#[derive(Debug)]
struct Captured {
    dir: OwnedFd,
    errnos: BTreeMap<PathBuf, Errno>,
}

impl Root {
    /// This machine.
    pub fn live() -> Self {
        Self { captured: None }
    }

    /// A captured tree. Needs Linux 5.6 (`openat2`).
    ///
    /// # Errors
    /// When `dir` cannot be opened or its list of errnos not be read.
    pub fn captured(dir: &Path) -> Result<Self, ReadError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(dir, flags, Mode::empty()).map_err(failed("open", dir))?;
        let mut root = Self { captured: Some(Captured { dir: fd, errnos: BTreeMap::new() }) };
        let list = root.read_if_there(Path::new(ERRNO_FILE))?.unwrap_or_default();
        if let Some(captured) = &mut root.captured {
            captured.errnos = parse_errnos(&list);
        }
        Ok(root)
    }

    /// Whether this is the running machine.
    pub fn is_live(&self) -> bool {
        self.captured.is_none()
    }

    /// The whole file as text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Whatever the kernel answers; `EFBIG` for a file over 16 MiB.
    pub fn read(&self, path: &Path) -> Result<String, ReadError> {
        let bytes = self.read_bytes(path)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// As [`Self::read`], with `None` for a file that is not there (nor was, a moment later: `ENODEV` of a cgroup that
    /// was removed in between).
    ///
    /// # Errors
    /// Any other answer of the kernel.
    pub fn read_if_there(&self, path: &Path) -> Result<Option<String>, ReadError> {
        absent_is_none(self.read(path))
    }

    /// The whole file as it is.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let mut file = File::from(self.open(path, OFlag::O_RDONLY).map_err(failed("read", path))?);
        let mut bytes = Vec::with_capacity(512);
        let read = (&mut file).take(LARGEST_FILE + 1).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .map_err(failed("read", path))?;
        // A pipe without a writer looks like an empty file.
        if bytes.is_empty() && !file.metadata().is_ok_and(|file| file.is_file()) {
            return Err(failed("read", path)(Errno::EOPNOTSUPP));
        }
        match bytes.len() as u64 > LARGEST_FILE {
            true => Err(failed("read", path)(Errno::EFBIG)),
            false => Ok(bytes),
        }
    }

    /// The names of the directories in `path`, sorted; `None` where `path` is not there.
    ///
    /// # Errors
    /// Any other answer of the kernel.
    pub fn directories(&self, path: &Path) -> Result<Option<Vec<String>>, ReadError> {
        let entries = absent_is_none(self.entries(path).map_err(failed("list", path)))?;
        let only_directories = |entries: Vec<(String, bool)>| {
            entries.into_iter().filter(|(_, is_directory)| *is_directory).map(|(name, _)| name).collect()
        };
        Ok(entries.map(only_directories))
    }

    /// Every file below `folder`, in the order of Go's `filepath.Walk`: by name, a folder in its place.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn files_below(&self, folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut files = Vec::new();
        let mut to_visit = vec![(folder.to_owned(), true)];
        while let Some((path, is_folder)) = to_visit.pop() {
            if !is_folder {
                files.push(path);
                continue;
            }
            let entries = self.entries(&path).map_err(failed("list", &path))?;
            to_visit.extend(entries.iter().rev().map(|(name, is_folder)| (path.join(name), *is_folder)));
        }
        Ok(files)
    }

    /// Where the symbolic link at `path` points; `None` where there is nothing.
    ///
    /// # Errors
    /// Any other answer of the kernel (`EINVAL`: not a link).
    pub fn link(&self, path: &Path) -> Result<Option<OsString>, ReadError> {
        let target = match &self.captured {
            None => readlink(path),
            Some(captured) => readlinkat(captured.dir.as_fd(), inside(path)),
        };
        absent_is_none(target.map_err(failed("read link", path)))
    }

    /// Whether something is at `path`.
    ///
    /// # Errors
    /// When the kernel does not let us know.
    pub fn exists(&self, path: &Path) -> Result<bool, ReadError> {
        let opened = self.open(path, OFlag::O_PATH).map_err(failed("look for", path));
        Ok(absent_is_none(opened)?.is_some())
    }

    /// Names, and whether each is a directory, sorted.
    fn entries(&self, path: &Path) -> Result<Vec<(String, bool)>, Errno> {
        let mut dir = Dir::from_fd(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            // A file system that tells no type (none of the kernel's own) is taken at the name's word.
            let is_directory = entry.file_type().is_none_or(|kind| kind == nix::dir::Type::Directory);
            if name != "." && name != ".." {
                names.push((name.into_owned(), is_directory));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        // openat2 refuses with O_PATH what openat ignores.
        let flags = match flags.contains(OFlag::O_PATH) {
            true => flags | OFlag::O_CLOEXEC,
            false => flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK,
        };
        let Some(captured) = &self.captured else {
            return retry(|| nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()));
        };
        if let Some(errno) = captured.errnos.get(path) {
            return Err(*errno);
        }
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        retry(|| openat2(captured.dir.as_fd(), inside(path), how))
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(call: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
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
    move |errno| ReadError { operation, path, errno }
}

fn absent_is_none<T>(answer: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_errnos(list: &str) -> BTreeMap<PathBuf, Errno> {
    let mut errnos = BTreeMap::new();
    for line in list.lines() {
        let Some((name, path)) = line.split_once(' ') else { continue };
        let errno = match name {
            "EACCES" => Errno::EACCES,
            "EIO" => Errno::EIO,
            "ENODEV" => Errno::ENODEV,
            "EOPNOTSUPP" => Errno::EOPNOTSUPP,
            "EPERM" => Errno::EPERM,
            _ => Errno::EINVAL,
        };
        errnos.insert(PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes())), errno);
    }
    errnos
}
