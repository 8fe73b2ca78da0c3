//! One repair at a time.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::repair::{RepairError, change, errno};

const PATH: &str = "/run/kubepods-repair.lock";
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Held until it is dropped; the kernel lets go of it when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits at most five seconds for other runs to end.
    ///
    /// # Errors
    /// `EWOULDBLOCK` when another run still holds it, or what the kernel answers when the file cannot be opened.
    pub fn take() -> Result<Self, RepairError> {
        let path = Path::new(PATH);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path).map_err(errno).map_err(change("open", path, ""))?;
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Self { _file: held }),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if start.elapsed() < PATIENCE => file = back,
                Err((_, answer)) => return Err(change("lock", path, "")(answer)),
            }
            std::thread::sleep(PAUSE);
        }
    }
}
