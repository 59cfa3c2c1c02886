//! From a container image to the ext4 root disk.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustix::fs::{Gid, Uid, fchown};

use crate::{
    BuildRequest, ROOT_DISK,
    error::BuildError,
    failure,
    sandbox::{Command, FIRST_ID, How, Sandbox},
};

/// A root disk in the making; removed unless it is finished.
struct Partial {
    path: PathBuf,
    keep: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished root disk");
        }
    }
}

/// Writes the file system of `image` to [`ROOT_DISK`] in the request's image directory, whole and durable or not at all.
/// `directories` are made in it
/// where missing. Returns its size in bytes as installed.
pub(crate) fn write(
    request: &BuildRequest,
    cache_dir: &Path,
    sandbox: &Sandbox<'_>,
    image: &str,
    directories: &[String],
    line: &mut dyn FnMut(&str),
) -> Result<u64, BuildError> {
    let mut partial = Partial { path: request.image_dir.join("rootfs.ext4.partial"), keep: false };
    let file = sparse(&partial.path, request.disk_mib)?;
    let own = |id: u32| {
        fchown(&file, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
            .map_err(|error| BuildError::io("set the owner of", &partial.path, &error.into()))
    };
    own(FIRST_ID)?;
    let script = ["/bin/sh", "-c", include_str!("scripts/disk.sh"), "sh", image].map(str::to_owned);
    let argv = script.into_iter().chain(directories.iter().cloned()).collect();
    let binds = vec![(partial.path.clone(), "/build/disk", true)];
    let ended = sandbox.run(&Command { argv, binds, ..Command::default() }, line)?;
    let bytes = sandbox.result("bytes", 32).ok().and_then(|text| text.trim().parse().ok());
    if ended.how != How::Success {
        return Err(failure::of_disk(&ended.tail, cache_dir, &request.image_dir, request.disk_mib, bytes));
    }
    own(0)?;
    let finished = request.image_dir.join(ROOT_DISK);
    file.sync_all()
        .and_then(|()| fs::rename(&partial.path, &finished))
        .and_then(|()| File::open(&request.image_dir)?.sync_all())
        .map_err(|error| BuildError::io("write", &finished, &error))?;
    partial.keep = true;
    bytes.ok_or_else(|| BuildError::platform("the size of the container's file system is not known"))
}

/// A new file of `mib` MiB without a single block.
pub(crate) fn sparse(path: &Path, mib: u64) -> Result<File, BuildError> {
    let file = File::create(path).map_err(|error| BuildError::io("create", path, &error))?;
    file.set_len(mib << 20).map_err(|error| BuildError::io("size", path, &error))?;
    Ok(file)
}
