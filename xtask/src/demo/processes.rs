//! Which processes belong to a server, jailed ones included.
//!
//! A jailed process shows no path of the host: its command line, its root and its working directory are its own. But its open
//! files are the host's, known by device and inode, and a machine's command line carries its microVM's id. The cache is no
//! mark: other servers may share it.

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

/// Jailed processes that carry one of the ids, or hold a file or directory of the server open.
pub fn machines(data_dir: &Path, ids: &[String]) -> Vec<Process> {
    let files = inodes_below(data_dir);
    let is_machine = |pid: &u32| {
        let line = command_line(*pid);
        is_jailed(*pid)
            && (ids.iter().any(|id| line.contains(id.as_str()))
                || open_files(*pid).iter().any(|file| files.contains(file)))
    };
    pids().filter(is_machine).map(process).collect()
}

/// Every process of a server: its machines, its builders, itself.
pub fn of_server(data_dir: &Path, ids: &[String]) -> Vec<Process> {
    let mut all = machines(data_dir, ids);
    for pid in pids() {
        let known = all.iter().any(|process| process.pid == pid);
        if !known && pid != std::process::id() && mentions(pid, data_dir) {
            all.push(process(pid));
        }
    }
    all
}

/// Kills them all, and waits until they are gone. Returns how many.
pub fn end_all(data_dir: &Path, ids: &[String]) -> usize {
    let mut killed = HashSet::new();
    // Twice and more: one that is killed may just have started another.
    for _ in 0..50 {
        let left = of_server(data_dir, ids);
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

/// Does its command line name the data directory, or does it work in or run from it?
fn mentions(pid: u32, data_dir: &Path) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let inside = |path: PathBuf| path.starts_with(data_dir);
    command_line(pid).contains(&*data_dir.to_string_lossy()) || ["cwd", "root", "exe"].into_iter().map(link).any(inside)
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
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

/// Its open files, its working directory and its root.
fn open_files(pid: u32) -> Vec<Inode> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let entries = fs::read_dir(dir.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.chain([dir.join("cwd"), dir.join("root")]).filter_map(|path| inode(&path)).collect()
}

fn inodes_below(dir: &Path) -> HashSet<Inode> {
    let mut all = HashSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        all.extend(inode(&dir));
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
