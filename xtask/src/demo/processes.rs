//! Which processes belong to a server, jailed ones included.
//!
//! A jailed process shows no path of the host: its command line and its root are its own. Its open files and its program are
//! still the host's, and are known by device and inode.

use std::{
    collections::HashSet,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::sys;

/// Identity of a file, whatever name it has in some namespace.
type Inode = (u64, u64);

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

/// Processes that run a program out of the cache (QEMU lives there) or hold a file of a machine open, but not the server.
pub fn machines(data_dir: &Path, cache_dir: &Path) -> Vec<Process> {
    let monitors = monitors(cache_dir);
    let files = inodes_below(data_dir);
    let is_machine = |pid: u32| {
        let dir = format!("/proc/{pid}");
        let runs_monitor = inode(Path::new(&format!("{dir}/exe"))).is_some_and(|exe| monitors.contains(&exe));
        runs_monitor || (is_jailed(pid) && open_files(pid).iter().any(|file| files.contains(file)))
    };
    pids().filter(|pid| is_machine(*pid)).map(process).collect()
}

/// Every process of a server: its machines, its builders, itself.
pub fn of_server(data_dir: &Path, cache_dir: &Path) -> Vec<Process> {
    let mut all = machines(data_dir, cache_dir);
    let data = data_dir.to_string_lossy();
    for pid in pids() {
        let known = all.iter().any(|process| process.pid == pid);
        if !known && pid != std::process::id() && mentions(pid, &data, data_dir, cache_dir) {
            all.push(process(pid));
        }
    }
    all
}

/// Kills them all, and waits until they are gone. Returns how many.
pub fn end_all(data_dir: &Path, cache_dir: &Path) -> usize {
    let mut killed = HashSet::new();
    // Twice and more: one that is killed may just have started another.
    for _ in 0..50 {
        let left = of_server(data_dir, cache_dir);
        if left.is_empty() {
            break;
        }
        for process in left {
            if sys::kill(process.pid, sys::SIGKILL).is_ok() {
                killed.insert(process.pid);
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    killed.len()
}

/// Does its command line name the data directory, or does it work in or run from one of the two?
fn mentions(pid: u32, data: &str, data_dir: &Path, cache_dir: &Path) -> bool {
    let dir = format!("/proc/{pid}");
    let line = fs::read(format!("{dir}/cmdline")).unwrap_or_default();
    let link = |name: &str| fs::read_link(format!("{dir}/{name}")).unwrap_or_default();
    let inside = |path: PathBuf| path.starts_with(data_dir) || path.starts_with(cache_dir);
    String::from_utf8_lossy(&line).contains(data) || ["cwd", "root", "exe"].into_iter().map(link).any(inside)
}

/// Is its root another than ours?
fn is_jailed(pid: u32) -> bool {
    let root = inode(Path::new(&format!("/proc/{pid}/root")));
    root.is_some() && root != inode(Path::new("/"))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| !is_zombie(*pid))
}

/// A zombie holds nothing but its number; its parent will take it.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn process(pid: u32) -> Process {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Process { pid, name: name.trim().to_owned() }
}

fn inode(path: &Path) -> Option<Inode> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn open_files(pid: u32) -> Vec<Inode> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| inode(&entry.path())).collect()
}

/// The QEMU programs in the cache's root file systems.
fn monitors(cache_dir: &Path) -> HashSet<Inode> {
    let roots = fs::read_dir(cache_dir).into_iter().flatten().flatten();
    let roots = roots.filter(|root| root.file_name().to_string_lossy().starts_with("vmm-root"));
    let programs = roots.flat_map(|root| fs::read_dir(root.path().join("usr/bin")).into_iter().flatten().flatten());
    let qemu = programs.filter(|program| program.file_name().to_string_lossy().starts_with("qemu-system-"));
    qemu.filter_map(|program| inode(&program.path())).collect()
}

fn inodes_below(dir: &Path) -> HashSet<Inode> {
    let mut all = HashSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_file() => all.extend(inode(&entry.path())),
                _ => {}
            }
        }
    }
    all
}
