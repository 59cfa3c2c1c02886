//! The fake's files: small JSON after a line with its checksum, but written and found as a real engine would.
//!
//! ```text
//! image_dir/memory         the guest's memory
//! <save dir>/machine.json  which image and disk a save belongs to; in a suspend also the memory
//! machine_dir/disk.json    stands for the disk overlay: a resume without it is refused
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::guest::Memory;
use crate::EngineError;

/// The file in an image's directory.
pub(super) const MEMORY: &str = "memory";
/// The file in a saved directory.
pub(super) const MACHINE: &str = "machine.json";
/// The file in a machine's directory.
pub(super) const DISK: &str = "disk.json";

/// The largest file of the fake that is read (64 MiB): far more than a container's 1 MiB and 4096 short lines.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Length of the line before the JSON: its CRC-32.
const SUM_BYTES: usize = 9;

/// `image_dir/memory`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageFile {
    /// Tells one image from another.
    pub(super) image: String,
    pub(super) memory: Memory,
}

/// `<save dir>/machine.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MachineFile {
    /// [`ImageFile::image`].
    pub(super) image: String,
    /// [`DiskFile::disk`]; `None` in a seal.
    pub(super) disk: Option<String>,
    /// `None` in a seal: it is the image's.
    pub(super) memory: Option<Memory>,
}

/// `machine_dir/disk.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskFile {
    /// Tells one machine's disk from another's.
    pub(super) disk: String,
}

/// A name that no other process and no other call gives.
pub(super) fn unique(serial: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{now:x}-{:x}-{serial:x}", std::process::id())
}

/// Reads one of the files above.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, EngineError> {
    let fail = |source| EngineError::io("reading", path, source);
    let length = fs::metadata(path).map_err(fail)?.len();
    if length > MAX_FILE_BYTES {
        return Err(fail(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes, at most {MAX_FILE_BYTES}"),
        )));
    }
    let bytes = fs::read(path).map_err(fail)?;
    let damaged = |what: String| EngineError::Damaged(path.to_owned(), what);
    let (sum, json) = bytes.split_at_checked(SUM_BYTES).ok_or_else(|| damaged("it is cut short".into()))?;
    let expected = format!("{:08x}\n", crc32fast::hash(json));
    if sum != expected.as_bytes() {
        return Err(damaged("its checksum does not match".into()));
    }
    serde_json::from_slice(json).map_err(|cause| damaged(cause.to_string()))
}

/// Writes one of the files above: whole and durable, or not at all. Its length.
pub(super) fn write<T: Serialize>(path: &Path, content: &T) -> Result<u64, EngineError> {
    let temporary = path.with_extension("tmp");
    let fail = |source| EngineError::io("writing", path, source);
    let length = write_new(&temporary, content).map_err(fail)?;
    fs::rename(&temporary, path).and_then(|()| sync(parent(path))).map_err(fail)?;
    Ok(length)
}

/// Writes a save: `dir` appears whole and durable, or not at all; it must not exist. Its length.
pub(super) fn write_save(dir: &Path, content: &MachineFile) -> Result<u64, EngineError> {
    let fail = |source| EngineError::io("saving to", dir, source);
    refuse_existing(dir)?;
    let name = dir.file_name().ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?.to_string_lossy();
    let temporary = parent(dir).join(format!(".{name}.saving"));
    let attempt = || {
        // What a crash may have left of an earlier attempt.
        remove(&temporary)?;
        fs::create_dir_all(&temporary)?;
        let bytes = write_new(&temporary.join(MACHINE), content)?;
        sync(&temporary)?;
        crash::point("save: filled beside");
        renameat_with(CWD, &temporary, CWD, dir, RenameFlags::NOREPLACE)?;
        crash::point("save: renamed");
        sync(parent(dir))?;
        Ok(bytes)
    };
    attempt().map_err(|cause| {
        let _ = remove(&temporary); // the first error is the one to tell
        fail(cause)
    })
}

/// An error when there is anything at `dir`.
pub(super) fn refuse_existing(dir: &Path) -> Result<(), EngineError> {
    match dir.symlink_metadata() {
        Ok(_) => Err(EngineError::io("saving to", dir, io::ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(()),
    }
}

/// Removes a file or a directory with all in it; that it does not exist is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|cause| if cause.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(cause) })
}

fn write_new<T: Serialize>(path: &Path, content: &T) -> io::Result<u64> {
    use std::os::unix::fs::OpenOptionsExt;
    let json = serde_json::to_vec(content).map_err(io::Error::other)?;
    let bytes = [format!("{:08x}\n", crc32fast::hash(&json)).as_bytes(), &json].concat();
    // Owner only: it holds the container's environment.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(bytes.len() as u64)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
