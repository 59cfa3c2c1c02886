//! Signals: Ctrl-C must not skip the cleaning up.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static CLEANING: AtomicBool = AtomicBool::new(false);
const NOTE: &[u8] = b"xtask: interrupted, cleaning up (again to stop at once)\n";

/// From now on SIGINT, SIGTERM and SIGHUP only make [`interrupted`] true; a second one ends the process at once. Handlers
/// and not a blocked mask: children inherit a mask, and would never hear a SIGTERM.
pub fn watch_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the structure is valid when zeroed (no flags, no restorer) and its mask is initialised by sigemptyset;
        // the handler has the signature that goes without SA_SIGINFO and calls async-signal-safe functions only.
        let outcome = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigemptyset(&raw mut action.sa_mask);
            action.sa_flags = libc::SA_RESTART;
            action.sa_sigaction = on_signal as *const () as usize;
            libc::sigaction(signal, &raw const action, ptr::null_mut())
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: write and _exit are async-signal-safe (signal-safety(7)); the buffer is static and as long as is said.
    unsafe {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            libc::_exit(130);
        }
        libc::write(2, NOTE.as_ptr().cast(), NOTE.len());
    }
}

/// Was one of the signals sent, so that work must end? No longer true once the cleaning up has begun.
pub fn interrupted() -> bool {
    was_interrupted() && !CLEANING.load(Ordering::SeqCst)
}

/// Was one of the signals sent?
pub fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// From now on only a second signal ends what is going on.
pub fn begin_cleaning() {
    CLEANING.store(true, Ordering::SeqCst);
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes no pointers; the pid is one process, neither a group nor everyone.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Are we root?
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The signals that xtask sends.
pub use libc::{SIGKILL, SIGTERM};
