//! The only `unsafe` of this crate: what runs between fork and exec, one ioctl, and the time-stamp counter.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use tokio::io::{Interest, unix::AsyncFd};

/// One bind mount of a jail. Paths are complete before the fork: nothing may allocate after it.
#[derive(Debug)]
pub struct Bind {
    /// On the host.
    pub source: CString,
    /// On the host, below the new root.
    pub target: CString,
    /// Mounted read-only.
    pub read_only: bool,
}

/// The walls around one monitor process; see [`enter_on_exec`].
#[derive(Debug)]
pub struct Jail {
    /// The new root file system, mounted read-only.
    pub root: CString,
    /// What is mounted into it.
    pub binds: Vec<Bind>,
    /// The unprivileged user and group id of this machine alone.
    pub uid: u32,
    /// Descriptors that survive exec under their own numbers; every other one is close-on-exec.
    pub keep: Vec<RawFd>,
}

/// Makes `command` enter the jail between fork and exec: own session, own mount, network, IPC and UTS namespaces, root
/// switched, no privileges, no way to gain any.
pub fn enter_on_exec(command: &mut Command, jail: Jail) {
    // SAFETY: the closure runs in the forked child of a possibly multi-threaded process, so it may only do what is
    // async-signal-safe: it makes raw system calls on memory that was complete before the fork, and allocates nothing
    // (`io::Error::last_os_error` stores an integer).
    unsafe {
        command.pre_exec(move || enter(&jail));
    }
}

fn enter(jail: &Jail) -> io::Result<()> {
    // SAFETY: plain system calls; every pointer is a NUL-terminated string owned by `jail` or a literal.
    unsafe {
        check(libc::setsid())?;
        check(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS))?;
        let none = std::ptr::null();
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        bind(&jail.root, &jail.root, false)?;
        for mount in &jail.binds {
            bind(&mount.source, &mount.target, mount.read_only)?;
        }
        remount_read_only(&jail.root)?;
        check(libc::chdir(jail.root.as_ptr()))?;
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32)?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        check(libc::chdir(c"/".as_ptr()))?;
        for &fd in &jail.keep {
            check(libc::fcntl(fd, libc::F_SETFD, 0))?;
        }
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(jail.uid, jail.uid, jail.uid))?;
        check(libc::setresuid(jail.uid, jail.uid, jail.uid))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    Ok(())
}

/// # Safety
/// Only between fork and exec or before any thread depends on the mount namespace.
unsafe fn bind(source: &CString, target: &CString, read_only: bool) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    unsafe {
        let none = std::ptr::null();
        check(libc::mount(source.as_ptr(), target.as_ptr(), none, libc::MS_BIND, none.cast()))?;
        if read_only {
            remount_read_only(target)?;
        }
    }
    Ok(())
}

/// # Safety
/// As [`bind`].
unsafe fn remount_read_only(target: &CString) -> io::Result<()> {
    let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_NOSUID;
    let none = std::ptr::null();
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libc::mount(none, target.as_ptr(), none, flags, none.cast()) })
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A run of pages: the kernel's `struct page_region`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Address past the last.
    pub end: u64,
    /// Categories that matched; not used.
    categories: u64,
}

/// The kernel's `struct pm_scan_arg` (Linux 6.7, `include/uapi/linux/fs.h`).
#[repr(C)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;

/// Anonymous (present or swapped) pages of `start..end` in the process whose `/proc/<pid>/pagemap` is given: in a private
/// file mapping these are the pages that were written. Fills `regions` and returns how many it filled and where the walk
/// stopped. `ENOTTY` before Linux 6.7.
pub fn scan_written(pagemap: &File, start: u64, end: u64, regions: &mut [Region]) -> io::Result<(usize, u64)> {
    let mut arguments = ScanArguments {
        size: size_of::<ScanArguments>() as u64,
        flags: 0,
        start,
        end,
        walk_end: 0,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: PAGE_IS_FILE,
        category_mask: PAGE_IS_FILE,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_PRESENT,
    };
    // SAFETY: the argument has the kernel's layout and its true size; `vec` points at `vec_len` writable regions that
    // live across the call; the kernel writes nothing else.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
    check(filled)?;
    Ok((filled as usize, arguments.walk_end))
}

/// The time-stamp counter now.
#[cfg(target_arch = "x86_64")]
pub fn time_stamp_counter() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Reaps the child `pid` if it is one of ours and has ended; anything else is left alone.
pub fn reap(pid: u32) {
    // SAFETY: WNOHANG never blocks; a null status pointer is allowed.
    unsafe {
        libc::waitpid(pid as i32, std::ptr::null_mut(), libc::WNOHANG);
    }
}

/// Registers a descriptor with the async runtime, for readability.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` keeps its descriptor open, and always the same one, until the `AsyncFd` that owns it is dropped.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// For tests only: a private writable mapping of a file.
#[cfg(test)]
pub mod tests_support {
    use std::{fs::File, os::fd::AsRawFd};

    /// Maps the first `bytes` of `file` privately, for the rest of the test process.
    pub fn private_map(file: &File, bytes: usize) -> &'static mut [u8] {
        // SAFETY: a fresh private mapping that is never unmapped and that nobody else names.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let address = libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            assert_ne!(address, libc::MAP_FAILED);
            std::slice::from_raw_parts_mut(address.cast(), bytes)
        }
    }
}
