//! Signals: Ctrl-C must not skip the cleaning up.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP only make [`interrupted`] true; a second one ends the process at once. Must be
/// called before other threads are started. Children get an empty signal mask from `std::process`.
pub fn watch_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before use, all signal numbers are valid, and both pointers are valid
    // or null as the calls allow.
    let set = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) {
            0 => set,
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            let mut signal = 0;
            // SAFETY: the set was initialised above and the signals in it are blocked in every thread; `signal` is a
            // valid place for the answer.
            if unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {
                return;
            }
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("xtask: interrupted, cleaning up (again to stop at once)");
        }
    })?;
    Ok(())
}

/// Was one of the signals sent?
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
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
