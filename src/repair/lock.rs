//! One repair at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::repair::{RepairError, change, errno};
use crate::sys;

const PATH: &str = "/run/kubepods-repair.lock";
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Held until its file is closed, which the kernel does when the process ends in whatever way.
/// (nix' `Flock` unlocks, and panics where that fails.)
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most five seconds for other runs to end.
    ///
    /// # Errors
    /// `EWOULDBLOCK` when another run still holds it, or what the kernel answers when the file
    /// cannot be opened.
    pub fn take() -> Result<Self, RepairError> {
        let path = Path::new(PATH);
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        let file = options
            .open(path)
            .map_err(errno)
            .map_err(change("open", path, ""))?;
        sys::doing("waiting for another run's lock");
        let start = Instant::now();
        loop {
            let answer = match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => Errno::EWOULDBLOCK,
                Err(TryLockError::Error(error)) => errno(error),
            };
            if !matches!(answer, Errno::EWOULDBLOCK | Errno::EINTR) || start.elapsed() >= PATIENCE {
                return Err(change("lock", path, "")(answer));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
