//! The system calls that have no safe wrapper. All `unsafe` of this crate is here.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::io::{Interest, unix::AsyncFd};

/// `RNDADDENTROPY` of `linux/random.h`: mix bytes in and credit them.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
/// `RNDRESEEDCRNG` of `linux/random.h`: make the generator take the new entropy now, not within five minutes.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// What [`fork`] returned in.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's pid.
    Parent(Pid),
}

/// Forks a process that has exactly one thread; any other is refused, because a lock held by a thread that the child does
/// not have would stay held for ever.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("fork: the process has several threads"));
    }
    // SAFETY: the process has one thread, so the child's memory is consistent and it may run any code.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("fork: no pid")),
    }
}

/// Has tokio watch a file for something to read.
pub fn watch_readable(file: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(file, Interest::READABLE)
}

/// Has tokio watch a file.
pub fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open for as long as it lives, which is inside the AsyncFd, and its number never changes.
    Ok(unsafe { AsyncFd::register_with_interest(file, interest)? })
}

/// New mount, IPC and PID namespaces (the last for children only). The UTS namespace stays the guest's: one `sethostname`
/// then names the guest and its container at once, with no way for the two to differ after a restore.
pub fn unshare_for_container() -> io::Result<()> {
    // SAFETY: the file descriptor table is not unshared, the one thing this call may do wrong.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWPID)? };
    Ok(())
}

/// Mixes 32 bytes into the kernel's random number generator, credits them and reseeds the generator at once. `random` is
/// `/dev/urandom`; needs CAP_SYS_ADMIN.
pub fn add_entropy(random: BorrowedFd<'_>, entropy: &[u8; 32]) -> io::Result<()> {
    /// `struct rand_pool_info`.
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: libc::c_int,
        bytes: libc::c_int,
        data: [u8; 32],
    }
    let info = PoolInfo { entropy_bits: 256, bytes: 32, data: *entropy };
    // SAFETY: the kernel reads the two integers and then `bytes` bytes, which is exactly the structure.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &info) })?;
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _, 0) })
}

/// Brings the loopback interface up; the kernel then gives it 127.0.0.1 and ::1 itself. `socket` is any IPv4 socket.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all zeroes is a valid ifreq: an empty name and integers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
