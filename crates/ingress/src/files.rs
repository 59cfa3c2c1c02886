//! Small private files: written whole or not at all, readable by their owner only.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Why a file of keys or certificates could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("cannot {verb} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others could read a secret.
    #[error("{path} holds a secret but has mode {mode:o}; run `chmod 600 {path}`", path = .0.display(), mode = .1)]
    Exposed(PathBuf, u32),
}

impl FileError {
    /// What failed there, and why.
    pub fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        move |source| FileError::Io { verb, path: path.to_owned(), source }
    }
}

/// Writes `bytes` to `path` with `mode`, through a neighbour, fsync and rename: after a power cut the file is the old one
/// or the new one. Replaces what is there, and the neighbour that a writer who was killed has left. One writer at a time.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut neighbour = path.as_os_str().to_owned();
    neighbour.push(".new");
    let neighbour = PathBuf::from(neighbour);
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&neighbour).and_then(
        |mut file| {
            // An existing neighbour keeps the mode it was made with.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()
        },
    );
    crash::point("file: written beside");
    if let Err(error) = written.and_then(|()| fs::rename(&neighbour, path)) {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&neighbour);
        return Err(FileError::io("write", path)(error));
    }
    crash::point("file: renamed");
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(FileError::io("sync", parent)),
        None => Ok(()),
    }
}

/// Reads a file that only its owner may read. `None` when there is no such file.
pub fn read_private(path: &Path) -> Result<Option<String>, FileError> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("read", path)(error)),
    };
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed(path.to_owned(), mode));
    }
    fs::read_to_string(path).map(Some).map_err(FileError::io("read", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn written_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read_private(&path).unwrap().is_none());
        write_whole(&path, b"one", 0o600).unwrap();
        write_whole(&path, b"two", 0o600).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no neighbour stays");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("chmod 600"));
        let missing = dir.path().join("no/such/file");
        assert!(write_whole(&missing, b"", 0o600).unwrap_err().to_string().contains("no/such/file"));
    }
}
