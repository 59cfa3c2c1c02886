//! The container's view of the file system.
//!
//! The container's root is entered first (`pivot_root`, the old root detached), and everything is mounted from inside: a
//! symbolic link that the image has in place of `/proc` or `/dev` then leads nowhere but into the image.
//!
//! # Devices
//!
//! The default capabilities include `mknod` (spec 14), so a container could make itself a node for any device, the agent's
//! port and the root disk among them. No file system that it can write to allows device nodes to be opened (`nodev`, the
//! root included); the few it may use are bind mounts of single nodes of the VM's `/dev`. With all capabilities a container
//! is master of the VM's kernel and nothing is withheld, but the agent's port is open and the kernel admits no second opener.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{chdir, pivot_root},
};

use super::{SetupError, Step};
use crate::{
    boot::APPLICATION_CGROUP,
    names::{self, MACHINE_ID, read_text},
};

/// Where the agent mounts the root disk.
pub const ROOT_DISK_MOUNT: &str = "/root-fs";

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];
/// Kernel interfaces that reach beyond the container; Docker's list. Read-only: files below stay readable.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// The same, hidden altogether.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Puts this process, and what it forks, into the application's cgroup, where there is one.
pub fn join_cgroup() -> io::Result<()> {
    match fs::write(Path::new(APPLICATION_CGROUP).join("cgroup.procs"), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes [`ROOT_DISK_MOUNT`] the root of this (new) mount namespace, with everything a container expects in it.
pub fn enter_root(all_capabilities: bool) -> Result<(), SetupError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("make mounts private")?;
    let nodes = device_nodes(all_capabilities)?;
    let names = detach(names::DIRECTORY, names::FILES)?;

    let nodev = if all_capabilities { MountFlags::empty() } else { MountFlags::NODEV };
    mount_remount(ROOT_DISK_MOUNT, MountFlags::BIND | MountFlags::RELATIME | nodev, c"")
        .step("set root mount flags")?;
    chdir(ROOT_DISK_MOUNT).step("enter the root disk")?;
    // Both on one path: the old root ends up on top of the new one, and goes.
    pivot_root(".", ".").step("change the root")?;
    unmount(".", UnmountFlags::DETACH).step("leave the old root")?;
    chdir("/").step("enter the new root")?;

    let secure = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    attach("proc", "/proc", secure, c"")?;
    let sys_flags = if all_capabilities { secure } else { secure | MountFlags::RDONLY };
    attach("sysfs", "/sys", sys_flags, c"")?;
    if all_capabilities {
        attach("cgroup2", "/sys/fs/cgroup", secure, c"")?;
    }
    make_dev(nodes, nodev)?;
    give_names(names)?;
    if !all_capabilities {
        protect()?;
    }
    Ok(())
}

/// A file of the agent's view, as a mount that is attached nowhere.
type Detached = (&'static str, OwnedFd);

/// The device nodes that the container may use.
fn device_nodes(all_capabilities: bool) -> Result<Vec<Detached>, SetupError> {
    let fuse = (all_capabilities && Path::new("/dev/fuse").exists()).then_some("fuse");
    detach("/dev", NODES.into_iter().chain(fuse))
}

fn detach(directory: &str, names: impl IntoIterator<Item = &'static str>) -> Result<Vec<Detached>, SetupError> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let take = |name| {
        let path = format!("{directory}/{name}");
        Ok((name, open_tree(CWD, &path, clone).step(format!("take {path}"))?))
    };
    names.into_iter().map(take).collect()
}

/// Mounts a detached file on an existing one.
fn cover(file: OwnedFd, target: &str) -> Result<(), SetupError> {
    move_mount(file, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(format!("mount {target}"))
}

/// Puts the agent's name files where the image has none, or an empty one as image builders leave behind; the machine id in
/// any case, with the image's text. Where the image has something else, such as a link, it is left alone.
fn give_names(names: Vec<Detached>) -> Result<(), SetupError> {
    for (name, file) in names {
        let target = format!("/etc/{name}");
        let text = match fs::symlink_metadata(&target) {
            Ok(found) if found.is_file() => {
                read_text(Path::new(&target)).step(format!("read {target}"))?.unwrap_or_default()
            }
            Ok(_) => continue,
            Err(_) => {
                let _ = fs::create_dir("/etc"); // there already, or the next step says why not
                fs::write(&target, "").step(format!("make {target}"))?;
                String::new()
            }
        };
        if text.is_empty() || name == MACHINE_ID {
            cover(file, &target)?;
        }
        if name == MACHINE_ID {
            fs::write(&target, text).step(format!("write {target}"))?;
        }
    }
    Ok(())
}

fn make_dev(nodes: Vec<Detached>, nodev: MountFlags) -> Result<(), SetupError> {
    attach("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::STRICTATIME | nodev, c"mode=755,size=64k")?;
    for (name, node) in nodes {
        let target = format!("/dev/{name}");
        fs::File::create(&target).step(format!("make {target}"))?;
        cover(node, &target)?;
    }
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    attach("devpts", "/dev/pts", no_exec, c"newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    attach("tmpfs", "/dev/shm", no_exec | MountFlags::NODEV, c"mode=1777,size=64m")?;
    attach("mqueue", "/dev/mqueue", no_exec | MountFlags::NODEV, c"")?;
    for (target, link) in LINKS {
        symlink(target, link).step(format!("make {link}"))?;
    }
    Ok(())
}

/// Mounts a new file system of the kernel. The mount point is made when missing and must be a real directory.
fn attach(kind: &str, target: &str, flags: MountFlags, options: &std::ffi::CStr) -> Result<(), SetupError> {
    let step = || format!("mount {kind} at {target}");
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)).step(step()),
        Err(_) => fs::create_dir(target).step(step())?,
    }
    mount(kind, target, kind, flags, options).step(step())
}

fn protect() -> Result<(), SetupError> {
    let secure = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        mount_bind(path, path).step(format!("protect {path}"))?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | secure;
        mount_remount(path, flags, c"").step(format!("protect {path}"))?;
    }
    for path in MASKED {
        let Ok(found) = fs::symlink_metadata(path) else { continue };
        if found.is_dir() {
            mount("tmpfs", path, "tmpfs", secure | MountFlags::RDONLY, c"").step(format!("hide {path}"))?;
        } else {
            mount_bind("/dev/null", path).step(format!("hide {path}"))?;
        }
    }
    Ok(())
}
