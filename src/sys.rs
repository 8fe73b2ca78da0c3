//! The deadline of a run, which ends the program wherever it hangs and says what it was doing. The
//! only module with `unsafe` code.

use std::borrow::Cow;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

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

static BEGINNING: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());
static ACTIVITY: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());

/// Ends the process with status 1 once the deadline has passed.
#[expect(unsafe_code, reason = "a signal handler can be set in no other way")]
pub fn arm_deadline(seconds: u32, to_journal: bool) {
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
        libc::_exit(1);
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
