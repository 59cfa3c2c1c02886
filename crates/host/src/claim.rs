//! One asset is made once: under a lock, in a sibling directory, and renamed into place whole.
//!
//! ```text
//! <dir>/.<name>.lock       held (flock) by the maker, and by the commands it runs, through their standard input
//! <dir>/.<name>.partial/   the maker's workshop; after a crash the next maker removes it
//! <dir>/<name>             the asset: exists whole and durable, or not at all
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::FlockOperation,
    mount::{UnmountFlags, unmount},
};

use crate::{HostError, Progress};

/// What [`claim`] found.
pub(crate) enum Claimed {
    /// The asset exists.
    Ready(PathBuf),
    /// The caller is to make it.
    Work(Claim),
}

/// The sole right to make one asset. Dropping it gives the right back; what is half-made is removed by the next maker.
pub(crate) struct Claim {
    lock: File,
    target: PathBuf,
    workshop: PathBuf,
}

/// Waits until the asset `name` in `dir` exists or is the caller's to make.
pub(crate) async fn claim(dir: &Path, name: &str, progress: &Progress) -> Result<Claimed, HostError> {
    let target = dir.join(name);
    if exists(&target)? {
        return Ok(Claimed::Ready(target));
    }
    tokio::fs::create_dir_all(dir).await.map_err(|error| HostError::io("creating", dir, error))?;
    let lock_path = dir.join(format!(".{name}.lock"));
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&lock_path)
        .map_err(|error| HostError::io("opening", &lock_path, error))?;
    let lock = wait_for(lock, &lock_path, name, progress).await?;
    if exists(&target)? {
        return Ok(Claimed::Ready(target));
    }
    let workshop = dir.join(format!(".{name}.partial"));
    remove(&workshop).await?;
    let made = workshop.clone();
    blocking(move || std::fs::DirBuilder::new().mode(0o700).create(&made))
        .await
        .map_err(|error| HostError::io("creating", &workshop, error))?;
    Ok(Claimed::Work(Claim { lock, target, workshop }))
}

impl Claim {
    /// A private directory on the asset's file system, for everything the maker needs.
    pub fn workshop(&self) -> &Path {
        &self.workshop
    }

    /// The lock, for the commands that work in the workshop: whoever outlives this process keeps others out.
    pub fn lock(&self) -> Result<File, HostError> {
        self.lock.try_clone().map_err(|error| HostError::io("sharing the lock of", &self.target, error))
    }

    /// Puts `made` (a file or directory of the workshop) in place under the asset's name, durably, and removes the rest.
    pub async fn finish(self, made: &Path) -> Result<PathBuf, HostError> {
        let (target, made) = (self.target.clone(), made.to_owned());
        blocking(move || {
            let parent = File::open(target.parent().unwrap_or(Path::new("/")))?;
            rustix::fs::syncfs(&parent)?;
            std::fs::rename(&made, &target)?;
            parent.sync_all()
        })
        .await
        .map_err(|error| HostError::io("putting in place", &self.target, error))?;
        remove(&self.workshop).await?;
        Ok(self.target)
    }

    /// Removes what was made so far and hands the reason on.
    pub async fn abandon(self, reason: HostError) -> HostError {
        if let Err(error) = remove(&self.workshop).await {
            tracing::warn!(%error, "a half-made asset is left for the next maker to remove");
        }
        reason
    }
}

/// Takes the lock. The wait is the system's (a blocking flock), on a thread of its own so that neither a cancelled caller nor
/// the end of the process waits for it; a lock that is granted to a caller who left is given back at once.
async fn wait_for(lock: File, path: &Path, name: &str, progress: &Progress) -> Result<File, HostError> {
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(HostError::io("locking", path, error.into())),
    }
    progress(&format!("waiting for another process that makes {name}"));
    let (granted, waiting) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("asset-lock".into())
        .spawn(move || {
            let outcome = loop {
                match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other.map(|()| lock),
                }
            };
            // A caller who left drops the file with the channel, and with it the lock.
            let _ = granted.send(outcome);
        })
        .map_err(|error| HostError::io("waiting for", path, error))?;
    match waiting.await {
        Ok(outcome) => outcome.map_err(|error| HostError::io("locking", path, error.into())),
        Err(_) => Err(HostError::io("locking", path, io::Error::other("the waiting thread ended"))),
    }
}

fn exists(path: &Path) -> Result<bool, HostError> {
    path.try_exists().map_err(|error| HostError::io("looking for", path, error))
}

/// Removes a directory tree that an earlier maker left, after detaching whatever is still mounted in it: a bind mount of the
/// host's `/dev` must never be emptied.
async fn remove(workshop: &Path) -> Result<(), HostError> {
    let tree = workshop.to_owned();
    blocking(move || {
        if !tree.try_exists()? {
            return Ok(());
        }
        let mounts = std::fs::read("/proc/self/mountinfo")?;
        for mount in mounts_below(&mounts, &tree.canonicalize()?).into_iter().rev() {
            unmount(&mount, UnmountFlags::DETACH)?;
        }
        std::fs::remove_dir_all(&tree)
    })
    .await
    .map_err(|error| HostError::io("removing the half-made", workshop, error))
}

/// Mount points at or below `tree` in the text of `/proc/self/mountinfo` (proc(5): field 5, with octal escapes), in mount
/// order.
fn mounts_below(mountinfo: &[u8], tree: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|point| point.starts_with(tree))
        .collect()
}

/// Undoes the kernel's `\040`-style escapes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                out.push(value);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Runs file operations on the blocking pool.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const QUIET: &Progress = &|_| {};

    async fn work(dir: &Path) -> Claim {
        match claim(dir, "thing", QUIET).await.unwrap() {
            Claimed::Work(claim) => claim,
            Claimed::Ready(path) => panic!("{} exists already", path.display()),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_finished_asset_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let claim_ = work(dir.path()).await;
        let made = claim_.workshop().join("out");
        std::fs::write(&made, b"whole").unwrap();
        let path = claim_.finish(&made).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(matches!(claim(dir.path(), "thing", QUIET).await.unwrap(), Claimed::Ready(found) if found == path));
        assert_eq!(names(dir.path()), [".thing.lock", "thing"]);
    }

    #[tokio::test]
    async fn a_failed_maker_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let claim = work(dir.path()).await;
        std::fs::write(claim.workshop().join("half"), b"").unwrap();
        let reason = claim.abandon(HostError::DiskFull("/x".into())).await;
        assert!(matches!(reason, HostError::DiskFull(_)));
        assert_eq!(names(dir.path()), [".thing.lock"]);
    }

    #[tokio::test]
    async fn a_killed_makers_leftovers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let first = work(dir.path()).await;
        std::fs::create_dir_all(first.workshop().join("out/deep")).unwrap();
        drop(first);
        let second = work(dir.path()).await;
        assert_eq!(names(second.workshop()), [] as [String; 0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_makers_make_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::sync::Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (dir, made) = (dir.path().to_owned(), made.clone());
            tasks.spawn(async move {
                match claim(&dir, "thing", QUIET).await.unwrap() {
                    Claimed::Ready(path) => path,
                    Claimed::Work(claim) => {
                        made.fetch_add(1, Ordering::SeqCst);
                        let out = claim.workshop().join("out");
                        tokio::fs::create_dir(&out).await.unwrap();
                        claim.finish(&out).await.unwrap()
                    }
                }
            });
        }
        while let Some(path) = tasks.join_next().await {
            assert!(path.unwrap().is_dir());
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_command_that_outlives_its_maker_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let claim_ = work(dir.path()).await;
        let mut orphan = std::process::Command::new("sleep").arg("1000").stdin(claim_.lock().unwrap()).spawn().unwrap();
        drop(claim_);
        let waits =
            tokio::time::timeout(std::time::Duration::from_millis(200), claim(dir.path(), "thing", QUIET)).await;
        assert!(waits.is_err(), "the lock must still be held");
        orphan.kill().unwrap();
        orphan.wait().unwrap();
        work(dir.path()).await;
    }

    #[test]
    fn mounts_below_a_tree_are_found_with_their_escapes() {
        let text = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
            30 22 0:5 / /data/a\\040b/dev rw - devtmpfs dev rw\n\
            31 30 0:6 / /data/a\\040b/dev/pts rw - devpts pts rw\n\
            32 22 0:7 / /data/a\\040bc rw - tmpfs tmpfs rw\n";
        assert_eq!(
            mounts_below(text, Path::new("/data/a b")),
            [PathBuf::from("/data/a b/dev"), PathBuf::from("/data/a b/dev/pts")]
        );
    }
}
