//! From a stream to a file system.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fstat, futimens, mkdirat, open,
        openat, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{Entry, FilesError, MAX_CHUNK_BYTES, MAX_DEPTH, MODE, Meta, NEITHER};

/// The longest name of Linux, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Names of skipped things that are told; a stream may have any number of them.
const MAX_SKIPPED: usize = 100;
/// Nanoseconds of a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// Makes what the stream holds at `target`; see [`crate::place`]. Directories that are there stay and get what is new, files
/// are overwritten, a link in the way is an error. Returns the names of what did not travel, at most 100.
///
/// # Errors
/// What was made until then stays.
pub fn unpack(target: &Path, input: &mut impl Read) -> Result<Vec<String>, FilesError> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().ok_or(FilesError::Place { path: target.to_owned(), why: "is no name of a file" })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(parent, flags, Mode::empty()).map_err(|error| failed("open", parent, error))?;
    let mut unpacker = Unpacker {
        top: directory,
        name: name.as_bytes().to_vec(),
        path: parent.to_owned(),
        open: vec![],
        skipped: vec![],
    };
    loop {
        let entry = entry(input)?;
        if entry == Entry::End {
            return Err(malformed("it ends where something must be"));
        }
        unpacker.make(entry, input)?;
        if unpacker.open.is_empty() {
            break;
        }
    }
    match entry(input)? {
        Entry::End => Ok(unpacker.skipped),
        _ => Err(malformed("it goes on after its end")),
    }
}

struct Unpacker {
    /// Where the outermost entry goes, and its name there.
    top: OwnedFd,
    name: Vec<u8>,
    /// Of the innermost open directory, for messages.
    path: PathBuf,
    /// From the outside in.
    open: Vec<(OwnedFd, Meta)>,
    skipped: Vec<String>,
}

impl Unpacker {
    fn make(&mut self, entry: Entry, input: &mut impl Read) -> Result<(), FilesError> {
        match entry {
            Entry::File(meta) => self.file(&meta, input),
            Entry::Directory(meta) => self.enter(meta),
            Entry::Leave => self.leave(),
            // Whoever asks for a copy asks for a file or a directory: a link in its place would lead the next one elsewhere.
            Entry::Link { .. } if self.open.is_empty() => Err(malformed("a link, and nothing that it leads to")),
            Entry::Link { name, target } => self.link(&name, target),
            Entry::Skipped { .. } if self.open.is_empty() => Err(malformed(NEITHER)),
            Entry::Skipped { name } => {
                if name.len() > MAX_NAME_BYTES {
                    return Err(malformed("a name that is none"));
                }
                if self.skipped.len() < MAX_SKIPPED {
                    self.skipped.push(String::from_utf8_lossy(&name).into_owned());
                }
                Ok(())
            }
            Entry::End => Err(malformed("it ends inside a directory")),
        }
    }

    /// Where the next entry goes.
    fn directory(&self) -> &OwnedFd {
        self.open.last().map_or(&self.top, |(directory, _)| directory)
    }

    /// The name that the next entry gets, and its path for messages.
    fn named(&self, name: &[u8]) -> Result<(CString, PathBuf), FilesError> {
        let name = if self.open.is_empty() { &self.name } else { name };
        let bad =
            name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.len() > MAX_NAME_BYTES;
        match CString::new(name) {
            Ok(whole) if !bad => Ok((whole, self.path.join(OsStr::from_bytes(name)))),
            _ => Err(malformed("a name that is none")),
        }
    }

    fn file(&self, meta: &Meta, input: &mut impl Read) -> Result<(), FilesError> {
        let (name, path) = self.named(&meta.name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(self.directory(), &name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|error| failed("write", &path, error))?;
        let found = fstat(&file).map_err(|error| failed("write", &path, error))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(FilesError::Place { path, why: "is there already, and is no file" });
        }
        let mut file = File::from(file);
        let wrong = |source| FilesError::Io { step: "write", path: path.clone(), source };
        file.set_len(0).map_err(wrong)?;
        let mut chunk = vec![0; MAX_CHUNK_BYTES];
        loop {
            let mut length = [0; 4];
            input.read_exact(&mut length).map_err(FilesError::Stream)?;
            let length = u32::from_le_bytes(length) as usize;
            let Some(chunk) = chunk.get_mut(..length) else { return Err(malformed("a chunk beyond its bound")) };
            if chunk.is_empty() {
                break;
            }
            input.read_exact(chunk).map_err(FilesError::Stream)?;
            file.write_all(chunk).map_err(wrong)?;
        }
        finish(&file, meta).map_err(|error| failed("set mode and time of", &path, error))
    }

    fn enter(&mut self, meta: Meta) -> Result<(), FilesError> {
        let (name, path) = self.named(&meta.name)?;
        if self.open.len() == MAX_DEPTH {
            return Err(FilesError::Depth { path });
        }
        match mkdirat(self.directory(), &name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make", &path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(self.directory(), &name, flags, Mode::empty());
        let directory = directory.map_err(|error| failed("open", &path, error))?;
        self.open.push((directory, meta));
        self.path = path;
        Ok(())
    }

    /// Mode and time of a directory are set when nothing more will be made in it.
    fn leave(&mut self) -> Result<(), FilesError> {
        let (directory, meta) = self.open.pop().ok_or_else(|| malformed("it leaves what it did not enter"))?;
        finish(&directory, &meta).map_err(|error| failed("set mode and time of", &self.path, error))?;
        self.path.pop();
        Ok(())
    }

    fn link(&self, name: &[u8], target: Vec<u8>) -> Result<(), FilesError> {
        let (name, path) = self.named(name)?;
        let target = CString::new(target).map_err(|_| malformed("a link that leads nowhere"))?;
        let directory = self.directory();
        let made = match symlinkat(&target, directory, &name) {
            Err(Errno::EXIST) => {
                let there = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
                if there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) != FileType::Symlink) {
                    return Err(FilesError::Place { path, why: "is there already, and is no link" });
                }
                unlinkat(directory, &name, AtFlags::empty()).and_then(|()| symlinkat(&target, directory, &name))
            }
            made => made,
        };
        made.map_err(|error| failed("make the link", &path, error))
    }
}

fn finish(file: impl AsFd, meta: &Meta) -> Result<(), Errno> {
    fchmod(&file, Mode::from_raw_mode(meta.mode & MODE))?;
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let nanoseconds = meta.nanoseconds.min(NANOSECONDS - 1);
    let last_modification = Timespec { tv_sec: meta.seconds, tv_nsec: nanoseconds.into() };
    futimens(&file, &Timestamps { last_access, last_modification })
}

/// Reads an entry; memory grows with what comes, not with what is announced.
fn entry(input: &mut impl Read) -> Result<Entry, FilesError> {
    let mut prefix = [0; wire::LENGTH_BYTES];
    input.read_exact(&mut prefix).map_err(FilesError::Stream)?;
    let length = wire::decode_length(prefix).map_err(|error| malformed(&error.to_string()))?;
    let mut body = Vec::new();
    input.take(length as u64).read_to_end(&mut body).map_err(FilesError::Stream)?;
    if body.len() < length {
        return Err(FilesError::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    wire::decode_body(&body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> FilesError {
    FilesError::Malformed(why.to_owned())
}

fn failed(step: &'static str, path: &Path, error: Errno) -> FilesError {
    FilesError::Io { step, path: path.to_owned(), source: error.into() }
}
