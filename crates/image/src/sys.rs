//! The one place with `unsafe`: a process in namespaces of its own, from `clone3` to `execve`.
//!
//! The child is a copy of one thread of a many-threaded process, so until `execve` it may only make system calls: no
//! allocation, no locks. Everything it needs is therefore prepared in a [`Plan`] before, as C strings. Changes of uid and
//! gid go past the C library, which believes that the parent's other threads are still there and waits for them (seen: for
//! ever).
//!
//! ```text
//! parent                                   child, pid 1 of its namespace
//!  clone3(NEWNS|NEWPID|NEWIPC|NEWUTS|NEWCGROUP)
//!                                           every Step of the plan (mounts), pivot_root
//!                                           unshare(NEWUSER|NEWNS)
//!                            <- "mapped?"
//!  writes uid_map, gid_map
//!            "go" ->                        become uid 0 of the user namespace, die with the parent, execve
//! ```

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::pipe::{PipeFlags, pipe_with};

/// One thing the child does as the host's root, in its own mount namespace, before it gives that up.
#[derive(Debug)]
pub(crate) enum Step {
    /// `mkdir`; an existing directory is fine.
    Directory(CString),
    /// An empty file as a mount point; an existing one is fine.
    Empty(CString),
    /// `mount` with all its arguments; absent strings are null.
    Mount {
        source: Option<CString>,
        target: CString,
        kind: Option<CString>,
        flags: libc::c_ulong,
        data: Option<CString>,
    },
    /// A character device, mode 0666.
    Device { path: CString, major: u32, minor: u32 },
    /// A symlink.
    Link { target: CString, path: CString },
    /// `chdir`: relative paths of later steps start here.
    Enter(CString),
    /// `setns` to a network namespace.
    Network(OwnedFd),
    /// Makes the directory the root and lets go of the old one.
    Pivot(CString),
}

impl Step {
    /// In words, for errors.
    fn describe(&self) -> String {
        match self {
            Step::Directory(path) | Step::Empty(path) => format!("create {}", path.to_string_lossy()),
            Step::Mount { target, kind, .. } => {
                let kind = kind.as_ref().map_or("bind".into(), |kind| kind.to_string_lossy());
                format!("mount ({kind}) {}", target.to_string_lossy())
            }
            Step::Device { path, .. } => format!("make the device {}", path.to_string_lossy()),
            Step::Link { path, .. } => format!("link {}", path.to_string_lossy()),
            Step::Enter(path) => format!("change to {}", path.to_string_lossy()),
            Step::Network(_) => "enter the network namespace".to_owned(),
            Step::Pivot(path) => format!("pivot_root to {}", path.to_string_lossy()),
        }
    }
}

/// A process to be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The program, as seen from the new root.
    pub program: CString,
    /// Its arguments, its name first.
    pub argv: Vec<CString>,
    /// `NAME=value`.
    pub envp: Vec<CString>,
    /// Host id of the user namespace's uid and gid 0.
    pub first_id: u32,
    /// How many ids are mapped.
    pub ids: u32,
}

/// A started process. Killing it kills everything in its pid namespace.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Its standard output and error.
    pub output: File,
}

const AFTER_STEPS: usize = usize::MAX - 1;
const RECORD_BYTES: usize = 12;

/// Starts the planned process. It dies when the calling *thread* ends, so the caller must stay with it.
pub(crate) fn spawn(plan: &Plan) -> Result<Process, String> {
    let null = File::open("/dev/null").map_err(|error| format!("open /dev/null: {error}"))?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("make a pipe: {error}"));
    let (output, child_output) = pipe()?;
    let (report, child_report) = pipe()?;
    let (child_go, go) = pipe()?;

    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    let networks = plan.steps.iter().filter_map(|step| match step {
        Step::Network(namespace) => Some(namespace.as_raw_fd()),
        _ => None,
    });
    let ours = [null.as_raw_fd(), child_output.as_raw_fd(), child_report.as_raw_fd(), child_go.as_raw_fd()];
    let mut keep: Vec<RawFd> = networks.chain(ours).collect();
    keep.sort_unstable();
    let child = Child {
        keep: &keep,
        plan,
        argv: &argv,
        envp: &envp,
        null: null.as_raw_fd(),
        output: child_output.as_raw_fd(),
        report: child_report.as_raw_fd(),
        go: child_go.as_raw_fd(),
    };

    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    args.flags = (namespaces | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of memory and continues here, where it only calls
    // `Child::run`, which makes system calls on memory prepared above and never returns. `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => return Err(format!("make namespaces: {}", io::Error::last_os_error())),
        // SAFETY: this is the child of the clone above; every pointer in `child` is valid in its copy of memory.
        0 => unsafe { child.run() },
        _ => {}
    }
    // SAFETY: the kernel stored a fresh descriptor here that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop((child_output, child_report, child_go, null));
    let started = accompany(plan, pid, File::from(report), File::from(go));
    if let Err(error) = started {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        let _ = wait(&pidfd);
        return Err(error);
    }
    Ok(Process { pidfd, output: File::from(output) })
}

/// The parent's side of the start, up to the child's `execve`.
fn accompany(plan: &Plan, pid: libc::c_long, mut report: File, mut go: File) -> Result<(), String> {
    let mut record = [0; RECORD_BYTES];
    read_report(plan, &mut report, &mut record)?.then_some(()).ok_or("the sandbox ended before it began")?;
    for (file, what) in [("uid_map", "uids"), ("gid_map", "gids")] {
        let map = format!("0 {} {}\n", plan.first_id, plan.ids);
        std::fs::write(format!("/proc/{pid}/{file}"), map)
            .map_err(|error| format!("map {what} of the sandbox: {error}"))?;
    }
    go.write_all(&[1]).map_err(|error| format!("start the sandbox: {error}"))?;
    // End of file: the report pipe closed at execve.
    match read_report(plan, &mut report, &mut record)? {
        false => Ok(()),
        true => Err("the sandbox broke its protocol".to_owned()),
    }
}

/// True: the child came this far. False: it closed the pipe. Otherwise what failed in it.
fn read_report(plan: &Plan, report: &mut File, record: &mut [u8; RECORD_BYTES]) -> Result<bool, String> {
    match report.read_exact(record) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(format!("read the sandbox's report: {error}")),
    }
    let index =
        usize::from_le_bytes([record[0], record[1], record[2], record[3], record[4], record[5], record[6], record[7]]);
    let errno = i32::from_le_bytes([record[8], record[9], record[10], record[11]]);
    if errno == 0 {
        return Ok(true);
    }
    let what = match plan.steps.get(index) {
        Some(step) => step.describe(),
        None if index == AFTER_STEPS => "enter the user namespace".to_owned(),
        None => format!("run {}", plan.program.to_string_lossy()),
    };
    Err(format!("{what}: {}", io::Error::from_raw_os_error(errno)))
}

/// Waits for the end of the process, and so of everything in its pid namespace. `Ok(None)`: it died by a signal.
pub(crate) fn wait(pidfd: &OwnedFd) -> io::Result<Option<i32>> {
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(status.exit_status()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the child works with: only plain numbers and pointers to memory that was filled before the clone.
struct Child<'a> {
    plan: &'a Plan,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    null: RawFd,
    output: RawFd,
    report: RawFd,
    go: RawFd,
    /// The descriptors it needs, ascending. Copies of all others would hold the parent's locks and hide its death.
    keep: &'a [RawFd],
}

impl Child<'_> {
    /// # Safety
    /// Only in the process that `clone3` just made; everything here is async-signal-safe.
    unsafe fn run(&self) -> ! {
        // SAFETY: system calls on descriptors and strings that the parent prepared; see the module.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            self.close_others();
            libc::setsid();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::umask(0o022);
            for (index, step) in self.plan.steps.iter().enumerate() {
                if !perform(step) {
                    self.fail(index);
                }
            }
            if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) != 0 {
                self.fail(AFTER_STEPS);
            }
            self.tell(0, 0);
            let mut word = 0_u8;
            if libc::read(self.go, (&raw mut word).cast(), 1) != 1 {
                libc::_exit(127);
            }
            // The change of credentials clears the death signal: it is set again.
            let became_root = libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) == 0
                && libc::syscall(libc::SYS_setresgid, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0;
            if !became_root {
                self.fail(AFTER_STEPS);
            }
            // A parent that died before PDEATHSIG was set has closed its end of the pipe.
            let mut hangup = libc::pollfd { fd: self.go, events: 0, revents: 0 };
            if libc::poll(&raw mut hangup, 1, 0) != 0 {
                libc::_exit(127);
            }
            libc::dup2(self.null, 0);
            libc::dup2(self.output, 1);
            libc::dup2(self.output, 2);
            libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            libc::execve(self.plan.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            self.fail(usize::MAX)
        }
    }

    /// Closes what was inherited and is not needed.
    ///
    /// # Safety
    /// As [`Child::run`].
    unsafe fn close_others(&self) {
        let mut from = 3;
        for &fd in self.keep {
            // SAFETY: descriptors of this process alone; nobody here uses those in the gaps.
            unsafe {
                if fd > from {
                    libc::syscall(libc::SYS_close_range, from as u32, fd as u32 - 1, 0_u32);
                }
            }
            from = from.max(fd + 1);
        }
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close_range, from as u32, u32::MAX, 0_u32) };
    }

    /// Reports the errno of the call that just failed and ends the child.
    unsafe fn fail(&self, index: usize) -> ! {
        // SAFETY: reads this thread's errno, writes to a pipe, exits without running destructors.
        unsafe {
            self.tell(index, *libc::__errno_location());
            libc::_exit(127)
        }
    }

    unsafe fn tell(&self, index: usize, errno: i32) {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&(index as u64).to_le_bytes());
        record[8..].copy_from_slice(&errno.to_le_bytes());
        // SAFETY: writes 12 bytes of a local array; a pipe takes so few at once.
        unsafe { libc::write(self.report, record.as_ptr().cast(), RECORD_BYTES) };
    }
}

/// Performs one step; false with errno set when it failed.
///
/// # Safety
/// Only in the child, see [`Child::run`]; every string is a valid C string.
unsafe fn perform(step: &Step) -> bool {
    let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: plain system calls with valid C strings; `errno` is this thread's own.
    unsafe {
        match step {
            Step::Directory(path) => {
                libc::mkdir(path.as_ptr(), 0o755) == 0 || *libc::__errno_location() == libc::EEXIST
            }
            Step::Empty(path) => {
                let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
                fd >= 0 && libc::close(fd) == 0
            }
            Step::Mount { source, target, kind, flags, data } => {
                libc::mount(text(source), target.as_ptr(), text(kind), *flags, text(data).cast()) == 0
            }
            Step::Device { path, major, minor } => {
                libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(*major, *minor)) == 0
                    && libc::chmod(path.as_ptr(), 0o666) == 0
            }
            Step::Link { target, path } => libc::symlink(target.as_ptr(), path.as_ptr()) == 0,
            Step::Enter(path) => libc::chdir(path.as_ptr()) == 0,
            Step::Network(namespace) => libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) == 0,
            Step::Pivot(path) => pivot(path),
        }
    }
}

/// # Safety
/// As [`perform`].
unsafe fn pivot(root: &CStr) -> bool {
    let here = c".".as_ptr();
    // SAFETY: as in `perform`. `pivot_root(".", ".")` stacks the old root over the new one, where it is then detached.
    unsafe {
        libc::chdir(root.as_ptr()) == 0
            && libc::syscall(libc::SYS_pivot_root, here, here) == 0
            && libc::umount2(here, libc::MNT_DETACH) == 0
            && libc::chdir(c"/".as_ptr()) == 0
    }
}
