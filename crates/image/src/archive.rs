//! Unpacking the artifact. The zip is hostile input: nothing is created outside the target directory, through a symlink, or
//! past the [`Limits`].
//!
//! Directories are opened one component at a time with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, files are created
//! with `O_EXCL`, sizes are counted as bytes come out of the decompressor (what the headers say is not believed), and
//! symlinks are made last, so that no entry can be written through one.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{self as rfs, AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use zip::{ZipArchive, read::ZipFile, result::ZipError};

use crate::error::{BuildError, FailureCode};

/// Bounds on what an artifact may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in the zip, directories included.
    pub entries: usize,
    /// Bytes of all files together, unpacked.
    pub total_bytes: u64,
    /// Unpacked bytes per byte of the zip, counted once more than `RATIO_FLOOR_BYTES` are unpacked.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 200_000, total_bytes: 16 << 30, ratio: 200 }
    }
}

/// Below this many unpacked bytes (64 MiB) any compression ratio is fine.
const RATIO_FLOOR_BYTES: u64 = 64 << 20;
/// Longest entry name in bytes, as Linux has it for paths.
const MAX_NAME_BYTES: usize = 4096;
/// Longest symlink target in bytes.
const MAX_TARGET_BYTES: u64 = 4095;
const S_IFMT: u32 = 0o170_000;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub files: usize,
    pub bytes: u64,
}

/// The zip, opened and known to have a `Dockerfile` at its root.
pub(crate) struct Artifact {
    zip: ZipArchive<File>,
    zip_bytes: u64,
}

impl Artifact {
    /// Opens the zip and looks for the Dockerfile; nothing is unpacked.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, BuildError> {
        let file = File::open(path).map_err(|error| BuildError::io("open the artifact", path, &error))?;
        let zip_bytes = file.metadata().map_err(|error| BuildError::io("read", path, &error))?.len();
        if zip_bytes == 0 {
            return Err(BuildError::archive("the artifact is empty (0 bytes), not a zip"));
        }
        let zip = ZipArchive::new(file).map_err(not_a_zip)?;
        if zip.len() > limits.entries {
            return Err(BuildError::archive(format!(
                "the artifact has {} entries, more than the {} allowed",
                zip.len(),
                limits.entries
            )));
        }
        let artifact = Artifact { zip, zip_bytes };
        artifact.find_dockerfile()?;
        Ok(artifact)
    }

    fn find_dockerfile(&self) -> Result<(), BuildError> {
        let mut nested = None;
        let mut other_case = None;
        for name in self.zip.file_names() {
            let Ok(name) = name else { continue };
            let name = name.strip_prefix("./").unwrap_or(&name);
            match name.rsplit_once('/') {
                None if name == "Dockerfile" => return Ok(()),
                None if name.eq_ignore_ascii_case("dockerfile") => other_case = Some(name.to_owned()),
                Some((_, "Dockerfile")) => nested = nested.or(Some(name.to_owned())),
                _ => {}
            }
        }
        let hint = match (other_case, nested) {
            (Some(name), _) => format!("; there is a {name:?}: the name must be exactly \"Dockerfile\""),
            (None, Some(name)) => {
                format!("; there is one at {name:?}: zip the contents of that directory, not the directory itself")
            }
            (None, None) if self.zip.is_empty() => "; the zip has no entries".to_owned(),
            (None, None) => String::new(),
        };
        Err(BuildError::new(
            FailureCode::ArchiveDockerfileNotFound,
            format!("the artifact has no Dockerfile at its root{hint}"),
        ))
    }

    /// Unpacks everything into `target`, an empty directory; all that is created belongs to user and group `owner`.
    /// `cancelled` is asked between pieces. On failure `target` holds a part.
    pub(crate) fn unpack(
        mut self,
        target: &Path,
        owner: u32,
        limits: &Limits,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Unpacked, BuildError> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let root =
            rfs::open(target, flags, Mode::empty()).map_err(|error| BuildError::io("open", target, &error.into()))?;
        let ratio_bytes = limits.ratio.saturating_mul(self.zip_bytes).max(RATIO_FLOOR_BYTES);
        let mut unpack = Unpack {
            root,
            target,
            owner: (owner != rustix::process::geteuid().as_raw()).then_some(owner),
            limits,
            ratio_bytes,
            cancelled,
            done: Unpacked { files: 0, bytes: 0 },
        };
        let mut links = Vec::new();
        for index in 0..self.zip.len() {
            let mut entry = self.zip.by_index(index).map_err(|error| bad_entry(&format!("#{index}"), &error))?;
            if let Some(link) = unpack.entry(&mut entry)? {
                links.push(link);
            }
        }
        for (name, link_target) in links {
            unpack.link(&name, &link_target)?;
        }
        unpack.require_regular_dockerfile()?;
        Ok(unpack.done)
    }
}

struct Unpack<'a> {
    root: OwnedFd,
    target: &'a Path,
    /// `None`: files belong to the caller anyway.
    owner: Option<u32>,
    limits: &'a Limits,
    ratio_bytes: u64,
    cancelled: &'a dyn Fn() -> bool,
    done: Unpacked,
}

impl Unpack<'_> {
    /// One entry; a symlink is only read, and returned as name and target.
    fn entry(&mut self, entry: &mut ZipFile<'_, File>) -> Result<Option<(String, String)>, BuildError> {
        let raw = entry.name().map_err(|error| bad_entry("with an unreadable name", &error))?.into_owned();
        let path = clean(&raw)?;
        if entry.encrypted() {
            return Err(BuildError::archive(format!("the entry {raw:?} is encrypted; zip without a password")));
        }
        let mode = entry.unix_mode();
        match mode.map(|mode| mode & S_IFMT).unwrap_or(0) {
            0o120_000 => {
                let mut bytes = Vec::new();
                entry.take(MAX_TARGET_BYTES + 1).read_to_end(&mut bytes).map_err(|error| bad_content(&raw, &error))?;
                let target = String::from_utf8(bytes).ok().filter(|t| !t.is_empty() && !t.contains('\0'));
                let Some(target) = target.filter(|t| t.len() as u64 <= MAX_TARGET_BYTES) else {
                    return Err(BuildError::archive(format!("the symlink {raw:?} has an impossible target")));
                };
                return Ok(Some((path, target)));
            }
            0 | 0o100_000 | 0o040_000 => {}
            _ => {
                return Err(BuildError::archive(format!(
                    "the entry {raw:?} is a device, pipe or socket; only files, directories and symlinks are taken"
                )));
            }
        }
        if path.is_empty() {
            return Ok(None);
        }
        if raw.ends_with('/') || mode.is_some_and(|mode| mode & S_IFMT == 0o040_000) {
            let directory = self.directory(&path)?;
            let mode = Mode::from_raw_mode((mode.unwrap_or(0o755) & 0o777) | 0o700);
            rfs::fchmod(&directory, mode).map_err(|error| self.failed("set the mode of", &path, error.into()))?;
            return Ok(None);
        }
        let modified = entry.last_modified().map_or(0, unix_seconds);
        self.file(entry, &path, (mode.unwrap_or(0o644) & 0o777) | 0o400, modified)?;
        Ok(None)
    }

    fn file(&mut self, content: &mut dyn Read, path: &str, mode: u32, modified: i64) -> Result<(), BuildError> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(|error| self.exists(path, error))?;
        let mut file = File::from(file);
        let mut piece = vec![0; 128 << 10];
        loop {
            if (self.cancelled)() {
                return Err(BuildError::platform("the build was cancelled"));
            }
            let count = content.read(&mut piece).map_err(|error| bad_content(path, &error))?;
            if count == 0 {
                break;
            }
            self.done.bytes += count as u64;
            self.check_bytes()?;
            file.write_all(&piece[..count]).map_err(|error| BuildError::io("unpack into", self.target, &error))?;
        }
        self.own(file.as_fd(), path)?;
        rfs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|error| self.failed("set the mode of", path, error.into()))?;
        let when = Timespec { tv_sec: modified, tv_nsec: 0 };
        rfs::futimens(&file, &Timestamps { last_access: when, last_modification: when })
            .map_err(|error| self.failed("set the time of", path, error.into()))?;
        self.done.files += 1;
        Ok(())
    }

    fn check_bytes(&self) -> Result<(), BuildError> {
        if self.done.bytes > self.limits.total_bytes {
            let bound = self.limits.total_bytes >> 20;
            return Err(BuildError::archive(format!("the artifact unpacks to more than the {bound} MiB allowed")));
        }
        if self.done.bytes > self.ratio_bytes {
            let ratio = self.limits.ratio;
            return Err(BuildError::archive(format!(
                "the artifact unpacks to more than {ratio} times its size: it looks like a zip bomb"
            )));
        }
        Ok(())
    }

    fn link(&mut self, path: &str, link_target: &str) -> Result<(), BuildError> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        rfs::symlinkat(link_target, &parent, name).map_err(|error| self.exists(path, error))?;
        if let Some(owner) = self.owner {
            let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
            rfs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.failed("set the owner of", path, error.into()))?;
        }
        self.done.files += 1;
        Ok(())
    }

    /// Opens a directory beneath the target, making what is missing; `""` is the target itself.
    fn directory(&self, path: &str) -> Result<OwnedFd, BuildError> {
        let mut at = self.root.try_clone().map_err(|error| self.failed("open", path, error))?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match rfs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    if let Some(owner) = self.owner {
                        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
                        rfs::chownat(&at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                            .map_err(|error| self.failed("set the owner of", path, error.into()))?;
                    }
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(self.exists(path, error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            at = rfs::openat2(&at, name, flags, Mode::empty(), resolve).map_err(|error| self.exists(path, error))?;
        }
        Ok(at)
    }

    fn own(&self, file: impl AsFd, path: &str) -> Result<(), BuildError> {
        let Some(owner) = self.owner else { return Ok(()) };
        rfs::fchown(file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
            .map_err(|error| self.failed("set the owner of", path, error.into()))
    }

    /// A Dockerfile that is a symlink must lead to a file of the artifact.
    fn require_regular_dockerfile(&self) -> Result<(), BuildError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rfs::openat2(&self.root, "Dockerfile", flags, Mode::empty(), ResolveFlags::BENEATH);
        let regular =
            opened.and_then(rfs::fstat).is_ok_and(|stat| rfs::FileType::from_raw_mode(stat.st_mode).is_file());
        if regular {
            return Ok(());
        }
        Err(BuildError::new(
            FailureCode::ArchiveDockerfileNotFound,
            "the Dockerfile at the artifact's root is not a file",
        ))
    }

    fn exists(&self, path: &str, error: rustix::io::Errno) -> BuildError {
        use rustix::io::Errno;
        match error {
            Errno::EXIST => BuildError::archive(format!("the entry {path:?} occurs twice")),
            Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::XDEV => {
                BuildError::archive(format!("the entry {path:?} is a file and a directory at once"))
            }
            Errno::NAMETOOLONG | Errno::INVAL => {
                BuildError::archive(format!("the entry {path:?} has an impossible name"))
            }
            error => self.failed("unpack", path, error.into()),
        }
    }

    fn failed(&self, what: &str, path: &str, error: io::Error) -> BuildError {
        BuildError::io(what, &self.target.join(path), &error)
    }
}

/// The entry's path beneath the root, without `.` components; an escape is refused, not mended.
fn clean(name: &str) -> Result<String, BuildError> {
    let refuse = |why: &str| Err(BuildError::archive(format!("the entry {name:?} {why}")));
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return refuse("has an impossible name");
    }
    if name.starts_with('/') {
        return refuse("has an absolute path");
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("leads out of the archive"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A zip's local time, taken as UTC.
fn unix_seconds(when: zip::DateTime) -> i64 {
    let (year, month, day) = (i64::from(when.year()), i64::from(when.month()), i64::from(when.day()));
    // Days since 1970-01-01 in the proleptic Gregorian calendar, with years counted from March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let month_index = (month + 9) % 12;
    let days =
        365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month_index + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + i64::from(when.hour()) * 3600 + i64::from(when.minute()) * 60 + i64::from(when.second())
}

fn not_a_zip(error: ZipError) -> BuildError {
    match error {
        ZipError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            BuildError::platform(format!("cannot read the artifact: {error}"))
        }
        error => BuildError::archive(format!("the artifact is not a zip: {error}")),
    }
}

fn bad_entry(name: &str, error: &ZipError) -> BuildError {
    match error {
        ZipError::CompressionMethodNotSupported(method) => BuildError::archive(format!(
            "the entry {name:?} uses compression method {method}; only stored and deflate are taken"
        )),
        error => BuildError::archive(format!("the entry {name:?} cannot be read: {error}")),
    }
}

fn bad_content(name: &str, error: &io::Error) -> BuildError {
    BuildError::archive(format!("the entry {name:?} is damaged: {error}"))
}

/// Makes `path` an empty directory that `owner` owns. For the server's own paths only.
pub(crate) fn owned_directory(path: &Path, owner: u32) -> Result<(), BuildError> {
    std::fs::create_dir_all(path).map_err(|error| BuildError::io("create", path, &error))?;
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    rfs::chownat(CWD, path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| BuildError::io("set the owner of", path, &error.into()))
}

#[cfg(test)]
mod tests;
