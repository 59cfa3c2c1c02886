//! From a bare kernel with an initramfs to a place where the agent can work.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
};

use rustix::{
    mount::{MountFlags, mount, mount_move},
    net::{AddressFamily, SocketType, socket},
    process::{Resource, Rlimit, chdir, chroot, setrlimit},
    system::{finit_module, sethostname},
};

use crate::{container::ROOT_DISK_MOUNT, log, sys};

/// The application's cgroup, under the name it has on AWS (spec 14).
pub const APPLICATION_CGROUP: &str = "/sys/fs/cgroup/system.slice/app";
/// Controllers a container with all capabilities may hand on (spec 14).
const CONTROLLERS: &str = "+cpuset +cpu +io +memory +hugetlb +pids";
/// The kernel modules to load, one absolute path a line, in this order.
const MODULE_LIST: &str = "/lib/modules/order";
/// Open files of the agent: one per dialed connection, and some.
const OPEN_FILES: u64 = 65_536;

/// A step of booting failed; the machine is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct BootError {
    /// What was being done.
    pub step: String,
    /// The system's answer.
    pub source: io::Error,
}

fn step<T>(step: impl Into<String>, result: Result<T, impl Into<io::Error>>) -> Result<T, BootError> {
    result.map_err(|source| BootError { step: step.into(), source: source.into() })
}

/// Prepares the machine. Runs once, before anything else, on the initramfs.
pub fn boot() -> Result<(), BootError> {
    attach("proc", "/proc", "")?;
    attach("devtmpfs", "/dev", "mode=0755")?;
    log::open();
    load_modules()?;
    switch_root()?;
    attach("sysfs", "/sys", "")?;
    attach("tmpfs", "/run", "mode=0755,size=4m")?;
    make_cgroups();
    step("set the out-of-memory score", fs::write("/proc/self/oom_score_adj", "-1000"))?;
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    step("raise the limit of open files", setrlimit(Resource::Nofile, limit))?;
    step("set the host name", sethostname(b"localhost"))?;
    let any = step("make a socket", socket(AddressFamily::INET, SocketType::DGRAM, None))?;
    step("bring loopback up", sys::loopback_up(any.as_fd()))
}

fn attach(kind: &str, target: &str, options: &str) -> Result<(), BootError> {
    let name = format!("mount {kind} at {target}");
    step(&name, fs::create_dir_all(target))?;
    let options = step(&name, std::ffi::CString::new(options).map_err(io::Error::other))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    if kind != "devtmpfs" {
        flags |= MountFlags::NODEV;
    }
    match mount(kind, target, kind, flags, options.as_c_str()) {
        Err(rustix::io::Errno::BUSY) => Ok(()), // the kernel mounted it itself (CONFIG_DEVTMPFS_MOUNT)
        other => step(&name, other),
    }
}

/// Loads the listed modules. One that is there already is fine; one that fails is logged: what really needs it says so later.
fn load_modules() -> Result<(), BootError> {
    let list = match fs::read_to_string(MODULE_LIST) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return step(format!("read {MODULE_LIST}"), Err(error)),
    };
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let loaded = File::open(path).and_then(|file| match finit_module(&file, c"", 0) {
            Err(rustix::io::Errno::EXIST) => Ok(()),
            other => Ok(other?),
        });
        if let Err(error) = loaded {
            log::error(format_args!("cannot load {path}: {error}"));
        }
    }
    Ok(())
}

/// Moves from the initramfs to a file system of our own. The initramfs can never be left by `pivot_root`, which is how a
/// container gets a root without a way back; from a tmpfs on top of it that works. The agent's own file stays reachable
/// through `/proc/self/exe`.
fn switch_root() -> Result<(), BootError> {
    const NEW: &str = "/new-root";
    step("make the new root", fs::create_dir_all(NEW))?;
    step("mount the new root", mount("tmpfs", NEW, "tmpfs", MountFlags::NOSUID, c"mode=0755,size=1m"))?;
    for directory in ["/dev", "/proc", "/sys", "/run", ROOT_DISK_MOUNT] {
        step(format!("make {directory}"), fs::create_dir(format!("{NEW}{directory}")))?;
    }
    for directory in ["/dev", "/proc"] {
        step(format!("move {directory}"), mount_move(directory, format!("{NEW}{directory}")))?;
    }
    step("enter the new root", chdir(NEW))?;
    step("move the new root", mount_move(".", "/"))?;
    step("change the root", chroot("."))?;
    step("enter the new root", chdir("/"))
}

/// Makes the application's cgroup. Without it the application still runs, in the agent's.
fn make_cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let made = mount("cgroup2", root, "cgroup2", flags, c"")
        .map_err(io::Error::from)
        .and_then(|()| fs::create_dir_all(APPLICATION_CGROUP));
    if let Err(error) = made {
        log::warn(format_args!("no cgroup for the application: {error}"));
    }
}

/// Hands the controllers on to the application's cgroup, for a container with all capabilities. One at a time: a kernel
/// without one of them must not lose the rest.
pub fn delegate_controllers() {
    for directory in ["/sys/fs/cgroup", "/sys/fs/cgroup/system.slice"] {
        for controller in CONTROLLERS.split(' ') {
            if let Err(error) = fs::write(Path::new(directory).join("cgroup.subtree_control"), controller) {
                log::warn(format_args!("cgroup controller {controller} in {directory}: {error}"));
            }
        }
    }
}
