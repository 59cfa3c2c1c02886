//! What a server could leave behind on a host beside processes, and the careful removal of a directory.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Where hosts keep what is not on a project's own paths.
const COMMON: [&str; 5] = ["/tmp", "/var/tmp", "/run", "/dev/shm", "/var/lib"];

/// Mounts, network namespaces, network interfaces and stray files of this host.
#[derive(Debug, Clone)]
pub struct Footprint {
    mounts: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    strays: BTreeSet<String>,
}

impl Footprint {
    /// As it is now.
    pub fn take() -> Footprint {
        let strays = COMMON.iter().flat_map(|dir| {
            let ours = |name: &String| name.contains("hearth") || name.contains("microvm");
            names_in(dir).into_iter().filter(ours).map(move |name| format!("{dir}/{name}"))
        });
        Footprint {
            mounts: mounts().into_iter().map(|mount| mount.display().to_string()).collect(),
            namespaces: names_in("/run/netns"),
            interfaces: names_in("/sys/class/net"),
            strays: strays.collect(),
        }
    }

    /// What is new since `before`. Other programs mount too: of mounts only those count that lie below `ours`, carry
    /// hearth's name, or pin a namespace.
    pub fn since(&self, before: &Footprint, ours: &[&Path]) -> Vec<String> {
        let mount_is_ours = |mount: &&String| {
            ours.iter().any(|dir| Path::new(mount).starts_with(dir))
                || mount.contains("hearth")
                || mount.contains("netns")
        };
        let new = |kind: &str, now: &BTreeSet<String>, before: &BTreeSet<String>| {
            now.difference(before).map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        let mounts = self.mounts.difference(&before.mounts).filter(mount_is_ours).map(|name| format!("mount {name}"));
        mounts
            .chain(new("namespace", &self.namespaces, &before.namespaces))
            .chain(new("interface", &self.interfaces, &before.interfaces))
            .chain(new("file", &self.strays, &before.strays))
            .collect()
    }
}

/// Paths below `dir` whose name holds one of the words.
pub fn named(dir: &Path, words: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if words.iter().any(|word| name.contains(word)) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found
}

/// Removes a directory, after what is mounted below it: removal through a bind mount would empty the host's own files.
pub fn remove_tree(dir: &Path) -> Result<()> {
    let mut below: Vec<PathBuf> = mounts().into_iter().filter(|mount| mount.starts_with(dir)).collect();
    below.sort_by_key(|mount| std::cmp::Reverse(mount.components().count()));
    for mount in below {
        // Judged by what is mounted afterwards.
        let _ = Command::new("umount").arg("--lazy").arg(&mount).status();
    }
    if let Some(mount) = mounts().iter().find(|mount| mount.starts_with(dir)) {
        bail!("{} is still mounted; {} is not removed", mount.display(), dir.display());
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Mount points of this namespace, as proc(5) writes them, octal escapes undone.
fn mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(1)).map(|path| unescape(path).into()).collect()
}

fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, plain)| path.replace(escape, plain))
}

fn names_in(dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_and_ours_counts() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let print = |mounts: &[&str], interfaces: &[&str]| Footprint {
            mounts: set(mounts),
            namespaces: set(&[]),
            interfaces: set(interfaces),
            strays: set(&[]),
        };
        let before = print(&["/", "/work/old"], &["lo", "eth0"]);
        let after = print(&["/", "/work/old", "/work/new", "/somebody/else"], &["lo", "eth0", "tap0"]);
        assert_eq!(after.since(&before, &[Path::new("/work")]), ["mount /work/new", "interface tap0"]);
        assert!(Footprint::take().since(&Footprint::take(), &[Path::new("/nowhere")]).is_empty());
    }

    #[test]
    fn mount_points_with_spaces() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
