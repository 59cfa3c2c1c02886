//! Files and directories as a stream of bytes: what `hearth cp` sends through a session, packed by one side and unpacked by
//! the other. Neither side trusts what it unpacks.
//!
//! ```text
//! stream    = item End
//! item      = File chunk* 0 | Link | Skipped | Directory item* Leave      the outermost: no Link, no Skipped
//! chunk     = u32 (little-endian, 1..=MAX_CHUNK_BYTES) bytes
//! ```
//!
//! Each of `File`, `Link`, ... is an [`Entry`] in a frame of [`wire`]. An entry has a name and no path: it is made in the
//! directory that is open, by that one name, without following a link that is there. So there is no way out of the place
//! that the receiver has chosen.

mod pack;
mod place;
mod unpack;

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::{pack::pack, place::place, unpack::unpack};

/// Directories in one another at most; each keeps one open.
pub const MAX_DEPTH: usize = 256;
/// Bytes of a file in one piece (64 KiB).
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;
/// Mode bits that travel. Set-user-id and the like do not: the other side's users are not ours.
const MODE: u32 = 0o777;

/// What is wrong with a device, a pipe, a socket as the outermost entry.
const NEITHER: &str = "is neither file nor directory";

/// What a stream consists of. Append only, as all of [`wire`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file; its content follows in chunks.
    File(Meta),
    /// A directory; what is in it follows, up to its [`Entry::Leave`].
    Directory(Meta),
    /// The innermost open directory is complete.
    Leave,
    /// A symbolic link.
    Link {
        /// Its name.
        name: Vec<u8>,
        /// Where it points, as it is written.
        target: Vec<u8>,
    },
    /// Something that does not travel: a socket, a device, a pipe.
    Skipped {
        /// Its name.
        name: Vec<u8>,
    },
    /// That was all.
    End,
}

/// Name, mode and time of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// One component of a path. Of the outermost entry it means nothing: the receiver has chosen one.
    pub name: Vec<u8>,
    /// Permission bits, 0..=0o777.
    pub mode: u32,
    /// Seconds of the time of modification, since the Unix epoch.
    pub seconds: i64,
    /// Nanoseconds of it, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Why files did not travel.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The file system said no.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The stream ended too early, or could not be written.
    #[error("the other side broke off: {0}")]
    Stream(#[source] io::Error),
    /// The stream is not one.
    #[error("the other side sent no file: {0}")]
    Malformed(String),
    /// There is no place for it.
    #[error("{}: {why}", path.display())]
    Place {
        /// Where it was to go.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// Too many directories in one another.
    #[error("{}: more than {MAX_DEPTH} directories in one another", path.display())]
    Depth {
        /// The first that is too deep.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
        time::{Duration, SystemTime},
    };

    use proptest::prelude::*;

    use super::*;

    fn packed(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(path, &mut bytes).expect("packs");
        bytes
    }

    fn raw(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|entry| wire::encode(entry).expect("encodes")).collect()
    }

    fn meta(name: &str) -> Meta {
        Meta { name: name.into(), mode: 0o755, seconds: 1, nanoseconds: 0 }
    }

    #[test]
    fn a_tree_arrives_with_modes_times_and_links() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/empty")).expect("dirs");
        let large: Vec<u8> = (0..3 * MAX_CHUNK_BYTES + 7).map(|n| n as u8).collect();
        fs::write(from.join("a/large"), &large).expect("write");
        fs::write(from.join("nothing"), "").expect("write");
        fs::set_permissions(from.join("nothing"), fs::Permissions::from_mode(0o4751)).expect("mode");
        symlink("../../outside", from.join("a/link")).expect("link");
        rustix::fs::mkfifoat(rustix::fs::CWD, from.join("pipe"), rustix::fs::Mode::RUSR).expect("pipe");
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        fs::File::open(from.join("a")).and_then(|dir| dir.set_modified(time)).expect("time");
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o550)).expect("mode");

        let skipped = unpack(&to, &mut &packed(&from)[..]).expect("unpacks");
        assert_eq!(skipped, ["pipe"]);
        assert_eq!(fs::read(to.join("a/large")).expect("read"), large);
        assert_eq!(fs::read_link(to.join("a/link")).expect("link"), Path::new("../../outside"));
        let of = |path: &str| fs::metadata(to.join(path)).expect("there");
        assert_eq!(of("nothing").permissions().mode() & 0o7777, 0o751, "no set-user-id");
        assert_eq!(of("a").permissions().mode() & 0o7777, 0o550);
        assert_eq!(of("a").modified().expect("time"), time);
        assert!(of("a/empty").is_dir());
        assert!(fs::symlink_metadata(to.join("pipe")).is_err());
        // A repeat overwrites.
        fs::write(from.join("nothing"), "more").expect("write");
        fs::set_permissions(to.join("a"), fs::Permissions::from_mode(0o750)).expect("mode");
        unpack(&to, &mut &packed(&from)[..]).expect("unpacks again");
        assert_eq!(fs::read(to.join("nothing")).expect("read"), b"more");
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o750)).expect("mode");
        fs::set_permissions(to.join("a"), fs::Permissions::from_mode(0o750)).expect("mode");
    }

    #[test]
    fn no_name_leads_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let to = dir.path().join("to");
        for name in ["..", ".", "", "a/b", "/etc", "a\0", &"x".repeat(256)] {
            let stream = raw(&[Entry::Directory(meta("top")), Entry::Directory(meta(name)), Entry::Leave, Entry::End]);
            let error = unpack(&to, &mut &stream[..]).expect_err(name);
            assert!(matches!(error, FilesError::Malformed(_)), "{name}: {error}");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
        fs::create_dir(&outside).expect("dir");
        let target = outside.as_os_str().as_encoded_bytes().to_vec();
        let link = Entry::Link { name: b"x".to_vec(), target };
        for second in [Entry::Directory(meta("x")), Entry::File(meta("x"))] {
            let mut stream = raw(&[Entry::Directory(meta("top")), link.clone(), second]);
            stream.extend([0; 4]);
            stream.extend(raw(&[Entry::Leave, Entry::Leave, Entry::End]));
            unpack(&to, &mut &stream[..]).expect_err("refused");
        }
        assert_eq!(fs::read_dir(&outside).expect("dir").count(), 0);
        // The outermost entry is no link at all, nor nothing.
        for odd in [link, Entry::Skipped { name: b"x".to_vec() }] {
            let place = dir.path().join("new");
            let error = unpack(&place, &mut &raw(&[odd, Entry::End])[..]).expect_err("refused");
            assert!(matches!(error, FilesError::Malformed(_)), "{error}");
            fs::symlink_metadata(&place).expect_err("nothing was made");
        }
    }

    #[test]
    fn what_is_skipped_has_a_name_of_bounded_length() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (bytes, fits) in [(255, true), (256, false)] {
            let skipped = Entry::Skipped { name: vec![b'x'; bytes] };
            let stream = raw(&[Entry::Directory(meta("top")), skipped, Entry::Leave, Entry::End]);
            assert_eq!(unpack(&dir.path().join("to"), &mut &stream[..]).is_ok(), fits, "{bytes}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_lies_is_told() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("file");
        fs::write(&file, "content").expect("write");
        let bytes = packed(&file);
        for end in 0..bytes.len() {
            assert!(unpack(&dir.path().join("to"), &mut &bytes[..end]).is_err(), "cut at {end}");
        }
        let deep: Vec<Entry> = (0..=MAX_DEPTH).map(|_| Entry::Directory(meta("d"))).collect();
        let error = unpack(&dir.path().join("deep"), &mut &raw(&deep)[..]).expect_err("too deep");
        assert!(matches!(error, FilesError::Depth { .. }), "{error}");
        for odd in [&[Entry::Leave][..], &[Entry::End], &[Entry::Directory(meta("a")), Entry::End]] {
            assert!(unpack(&dir.path().join("odd"), &mut &raw(odd)[..]).is_err(), "{odd:?}");
        }
        let mut long = raw(&[Entry::File(meta("f"))]);
        long.extend((MAX_CHUNK_BYTES as u32 + 1).to_le_bytes());
        assert!(matches!(unpack(&dir.path().join("l"), &mut &long[..]), Err(FilesError::Malformed(_))));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let error = pack(&dir.path().join("gone"), &mut Vec::new()).expect_err("missing").to_string();
        assert!(error.contains("gone") && error.contains("No such file"), "{error}");
        let error = pack(Path::new("/dev/null"), &mut Vec::new()).expect_err("a device").to_string();
        assert_eq!(error, "/dev/null: is neither file nor directory");
    }

    proptest! {
        #[test]
        fn rubbish_is_an_error_and_stays_inside(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let dir = tempfile::tempdir().expect("tempdir");
            let _ = unpack(&dir.path().join("to"), &mut &bytes[..]);
            prop_assert!(fs::read_dir(dir.path()).expect("dir").all(|one| one.expect("entry").file_name() == "to"));
        }
    }
}
