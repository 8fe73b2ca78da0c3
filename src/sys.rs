//! The deadline of a run, which ends the program wherever it hangs and says what it was doing, and
//! the width of a terminal. The only module with `unsafe` code.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::alarm;

/// Seconds for the whole run. systemd gives a service 90 s to start, including its ExecStartPre.
pub const DEADLINE: u32 = 45;

/// Seconds for a run that others wait for. It is well below the 30 s that systemd gives
/// kubepods-repair.service and the 20 s of kubepods-repair-shutdown.service, so that this program
/// always reports what it was waiting for before systemd stops it.
pub const DEADLINE_AT_BOOT: u32 = 9;

const END: &str = "; no further changes were made\n";

/// Text for the signal handler. Never freed, so that the handler may read it whenever it runs.
type Words = Cow<'static, str>;

static STATUS: AtomicU8 = AtomicU8::new(1);
static BEGINNING: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());
static ACTIVITY: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());

/// Ends the process with this status once the deadline has passed.
#[expect(unsafe_code, reason = "a signal handler can be set in no other way")]
pub fn arm_deadline(seconds: u32, to_journal: bool, status: u8) {
    STATUS.store(status, Ordering::Release);
    let priority = if to_journal { "<3>" } else { "" };
    keep(
        &BEGINNING,
        format!("{priority}kubepods-repair: timed out after {seconds} s while ").into(),
    );
    doing("starting");
    let action = SigAction::new(
        SigHandler::Handler(give_up),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler calls nothing but write(2) and _exit(2), both of which signal-safety(7)
    // allows, and reads texts that are never freed. sigaction(2) cannot fail for SIGALRM; if it
    // did, the default action would end the process anyway.
    let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
    alarm::set(seconds);
}

/// Records what the program does from now on, for the message of the deadline: a participle, as in
/// "waiting for …". A run calls this a few dozen times, so it leaks little memory.
pub fn doing(activity: impl Into<Words>) {
    keep(&ACTIVITY, activity.into());
}

fn keep(place: &AtomicPtr<Words>, words: Words) {
    place.store(Box::leak(Box::new(words)), Ordering::Release);
}

/// How wide this terminal is; `None` where it is none or does not know.
pub fn columns(terminal: &impl AsFd) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let descriptor = terminal.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "nothing else asks a terminal for its size")]
    // SAFETY: the kernel writes one `winsize` to the pointer, which is that of one, and the
    // descriptor is open for as long as `terminal` is borrowed (ioctl_tty(2)).
    let answer = unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

extern "C" fn give_up(_: libc::c_int) {
    write_kept(&BEGINNING);
    write_kept(&ACTIVITY);
    write_text(END);
    #[expect(
        unsafe_code,
        reason = "nothing of the standard library may be called in a signal handler"
    )]
    // SAFETY: _exit does not return.
    unsafe {
        libc::_exit(STATUS.load(Ordering::Acquire).into());
    }
}

fn write_kept(place: &AtomicPtr<Words>) {
    #[expect(
        unsafe_code,
        reason = "the text was stored as a pointer, which a signal handler can read without a lock"
    )]
    // SAFETY: it is null or was leaked by `keep`, whose store is released before this load acquires
    // it.
    if let Some(words) = unsafe { place.load(Ordering::Acquire).as_ref() } {
        write_text(words);
    }
}

fn write_text(text: &str) {
    #[expect(
        unsafe_code,
        reason = "nothing of the standard library may be called in a signal handler"
    )]
    // SAFETY: the pointer and the length are those of one string.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
    }
}
