//! The storage that builds share: who uses it now, and keeping it small.
//!
//! buildah's own locks keep concurrent builds apart. What they do not do is clean up after a build that was killed, and
//! that cannot be told from one that still runs. So every build holds `cache_dir/lock` shared, and a sweep needs it
//! exclusively: it happens when no build of any process runs, and waits for the next chance otherwise.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation, flock};
use serde::Deserialize;

use crate::error::BuildError;

/// The lock on the storage, held by a build for all its life.
pub(crate) struct InUse {
    path: PathBuf,
    file: File,
}

impl InUse {
    /// Waits for a sweep to end, if one runs. `wait` is called meanwhile, again and again, pauses, and may give up.
    pub(crate) fn begin(
        cache_dir: &Path,
        wait: &mut dyn FnMut() -> Result<(), BuildError>,
    ) -> Result<Self, BuildError> {
        let path = cache_dir.join("lock");
        let file = open(&path)?;
        lock(&file, &path, FlockOperation::NonBlockingLockShared, wait)?;
        Ok(InUse { path, file })
    }

    /// True when this is the only build now: it is the sole user until [`InUse::share`].
    pub(crate) fn alone(&self) -> bool {
        let exclusive = flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !exclusive {
            // The conversion is not atomic: the shared lock may be lost when it fails.
            self.share();
        }
        exclusive
    }

    /// Lets other builds in again.
    pub(crate) fn share(&self) {
        if let Err(error) = flock(&self.file, FlockOperation::LockShared) {
            tracing::warn!(path = %self.path.display(), %error, "cannot take the storage lock back");
        }
    }
}

/// Keeps others from doing the same once-only work, until dropped. `wait` as in [`InUse::begin`].
pub(crate) fn exclusive(
    cache_dir: &Path,
    name: &str,
    wait: &mut dyn FnMut() -> Result<(), BuildError>,
) -> Result<File, BuildError> {
    let path = cache_dir.join(name);
    let file = open(&path)?;
    lock(&file, &path, FlockOperation::NonBlockingLockExclusive, wait)?;
    Ok(file)
}

/// The kernel's own waiting could be neither bounded nor called off.
fn lock(
    file: &File,
    path: &Path,
    operation: FlockOperation,
    wait: &mut dyn FnMut() -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => wait()?,
            Err(error) => return Err(BuildError::io("lock", path, &error.into())),
        }
    }
}

/// Makes the directory, for root alone: it holds set-user-id files of images.
pub(crate) fn prepare(cache_dir: &Path) -> Result<(), BuildError> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(cache_dir)
        .and_then(|()| fs::set_permissions(cache_dir, fs::Permissions::from_mode(0o700)))
        .map_err(|error| BuildError::io("create", cache_dir, &error))
}

/// Space (16 MiB) set aside so that even on a full disk buildah can still remove things.
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    /// Sets it aside if it is not yet; on a disk too full for that it waits for the next time.
    pub(crate) fn keep(cache_dir: &Path) -> Self {
        const BYTES: u64 = 16 << 20;
        let path = cache_dir.join("reserve");
        if !path.exists()
            && let Ok(file) = File::create(&path)
            && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES).is_err()
        {
            let _ = fs::remove_file(&path);
        }
        Reserve(path)
    }

    /// Gives it back to the file system.
    pub(crate) fn spend(self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot give back the reserved space");
        }
    }
}

/// Bytes of all layers, as the storage's own records have it; 0 when there are none yet.
pub(crate) fn layer_bytes(cache_dir: &Path) -> u64 {
    #[derive(Deserialize)]
    struct Layer {
        #[serde(rename = "diff-size", default)]
        bytes: Option<i64>,
    }
    let Ok(text) = fs::read(cache_dir.join("storage/overlay-layers/layers.json")) else { return 0 };
    let layers: Vec<Layer> = serde_json::from_slice(&text).unwrap_or_default();
    layers.iter().filter_map(|layer| u64::try_from(layer.bytes?).ok()).sum()
}

fn open(path: &Path) -> Result<File, BuildError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| BuildError::io("open", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_build_is_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = InUse::begin(dir.path(), &mut || panic!("nobody sweeps")).expect("locks");
        let second = InUse::begin(dir.path(), &mut || panic!("nobody sweeps")).expect("locks");
        assert!(!first.alone() && !second.alone());
        drop(first);
        assert!(second.alone());
    }

    #[test]
    fn the_reserve_is_made_once_and_spent() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("reserve");
        Reserve::keep(dir.path());
        let reserve = Reserve::keep(dir.path());
        assert_eq!(fs::metadata(&path).expect("exists").len(), 16 << 20);
        reserve.spend();
        assert!(!path.exists());
    }

    #[test]
    fn layers_are_summed_and_rubbish_is_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(layer_bytes(dir.path()), 0);
        let records = dir.path().join("storage/overlay-layers");
        fs::create_dir_all(&records).expect("creates");
        fs::write(records.join("layers.json"), r#"[{"id":"a","diff-size":5},{"id":"b"},{"diff-size":7}]"#)
            .expect("writes");
        assert_eq!(layer_bytes(dir.path()), 12);
        fs::write(records.join("layers.json"), "[").expect("writes");
        assert_eq!(layer_bytes(dir.path()), 0);
    }
}
