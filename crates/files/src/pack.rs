//! From a file system to a stream.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use rustix::fs::OFlags;

use crate::{Entry, FilesError, MAX_CHUNK_BYTES, MAX_DEPTH, MODE, Meta, NEITHER};

/// Writes what `path` is, with everything in it. A link is followed when `path` itself is one, and nowhere else.
///
/// # Errors
/// Something could not be read, or `path` is a device or the like: then the stream is not whole, and the other side knows.
pub fn pack(path: &Path, out: &mut impl Write) -> Result<(), FilesError> {
    let found = fs::metadata(path).map_err(|source| failed("read", path, source))?;
    if !found.is_file() && !found.is_dir() {
        return Err(FilesError::Place { path: path.to_owned(), why: NEITHER });
    }
    item(path, &found, out, 0)?;
    say(&Entry::End, out)?;
    out.flush().map_err(FilesError::Stream)
}

fn item(path: &Path, found: &Metadata, out: &mut impl Write, depth: usize) -> Result<(), FilesError> {
    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    let kind = found.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(|source| failed("read the link", path, source))?;
        say(&Entry::Link { name, target: target.as_os_str().as_bytes().to_vec() }, out)
    } else if kind.is_file() {
        file(path, name, out)
    } else if kind.is_dir() {
        if depth == MAX_DEPTH {
            return Err(FilesError::Depth { path: path.to_owned() });
        }
        say(&Entry::Directory(meta(name, found)), out)?;
        let failed = |source| failed("list", path, source);
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.metadata() {
                Ok(found) => item(&entry.path(), &found, out, depth + 1)?,
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(self::failed("read", &entry.path(), source)),
            }
        }
        say(&Entry::Leave, out)
    } else {
        say(&Entry::Skipped { name }, out)
    }
}

/// What is opened decides: it may be another thing than was listed, and must not make us wait.
fn file(path: &Path, name: Vec<u8>, out: &mut impl Write) -> Result<(), FilesError> {
    let failed = |source| failed("read", path, source);
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return say(&Entry::Skipped { name }, out);
    }
    say(&Entry::File(meta(name, &found)), out)?;
    let mut chunk = vec![0; MAX_CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(failed)?;
        out.write_all(&(count as u32).to_le_bytes()).map_err(FilesError::Stream)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&chunk[..count]).map_err(FilesError::Stream)?;
    }
}

fn meta(name: Vec<u8>, found: &Metadata) -> Meta {
    let nanoseconds = u32::try_from(found.mtime_nsec()).unwrap_or_default();
    Meta { name, mode: found.mode() & MODE, seconds: found.mtime(), nanoseconds }
}

fn say(entry: &Entry, out: &mut impl Write) -> Result<(), FilesError> {
    let frame = wire::encode(entry).map_err(|error| FilesError::Malformed(error.to_string()))?;
    out.write_all(&frame).map_err(FilesError::Stream)
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> FilesError {
    FilesError::Io { step, path: path.to_owned(), source }
}
