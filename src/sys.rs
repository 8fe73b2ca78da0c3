//! The one module with `unsafe`: a deadline that holds whatever the rest of the program waits for.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::alarm;

/// Seconds for the whole run, everything counted: systemd gives a service 90 s to start, its ExecStartPre included.
pub const DEADLINE: u32 = 45;

/// Seconds where others wait: kubepods-repair.service has 10 s.
pub const DEADLINE_AT_BOOT: u32 = 9;

const MESSAGE: &[u8] = b"<3>kubepods-repair took too long, gave up and changed nothing more.\n";

/// Of [`MESSAGE`], the priority that the journal's stream understands and nobody else.
const PRIORITY: usize = 3;

static TO_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Ends the process with status 1 once the deadline has passed.
#[expect(unsafe_code, reason = "a signal handler can be set in no other way")]
pub fn arm_deadline(seconds: u32, to_journal: bool) {
    TO_JOURNAL.store(to_journal, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(give_up), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls nothing but write(2) and _exit(2), both of which signal-safety(7) allows.
    // It cannot fail for SIGALRM; if it did, the default action would end the process all the same.
    let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
    alarm::set(seconds);
}

extern "C" fn give_up(_: libc::c_int) {
    let skip = if TO_JOURNAL.load(Ordering::Relaxed) { 0 } else { PRIORITY };
    #[expect(unsafe_code, reason = "nothing of the standard library may be called in a signal handler")]
    // SAFETY: PRIORITY lies within MESSAGE, which is a static; _exit does not return.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().add(skip).cast(), MESSAGE.len() - skip);
        libc::_exit(1);
    }
}
