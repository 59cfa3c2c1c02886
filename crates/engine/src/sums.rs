//! Checksums of the files of a snapshot: taken when it is written, compared before it is run, so that a damaged file is
//! refused by its name instead of being run.
//!
//! They find what disks, file systems and people do to files, not what an attacker with root does. Reading everything at
//! every start would cost more than the start, so a file that was summed or compared before is taken to be as it was while
//! its inode, length and times are.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// The file in a snapshot's directory: a line with the CRC-32 of the rest, then JSON.
pub const SUMS: &str = "sums";
/// Length of that line.
const OWN_SUM: usize = 9;

/// Bytes looked at together; blocks of zeros count as holes, for a copy may have filled the holes or dug some.
const BLOCK: u64 = 64 << 10;
/// Of a file with more data than this (1 GiB), only the length and the first [`HEAD`] bytes count: reading a guest's huge disk
/// at every suspend would take longer than the suspend.
const WHOLE: u64 = 1 << 30;
/// See [`WHOLE`]; a qcow2 file has its header and first tables there.
const HEAD: u64 = 1 << 20;
/// So many files are remembered; then all are forgotten, which costs only time.
const REMEMBERED: usize = 4096;

/// What a file was when its snapshot was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of its data.
    pub crc32: u32,
}

/// The sums of a snapshot, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums(pub BTreeMap<String, Sum>);

impl Sums {
    /// Writes them into a snapshot's directory, durable.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut file = File::create_new(dir.join(SUMS))?;
        let json = serde_json::to_vec(self)?;
        file.write_all(format!("{:08x}\n", crc32fast::hash(&json)).as_bytes())?;
        file.write_all(&json)?;
        file.sync_all()
    }

    /// Reads those of a snapshot.
    pub fn read(dir: &Path) -> Result<Self, EngineError> {
        let path = dir.join(SUMS);
        let text = fs::read(&path).map_err(|e| EngineError::io("read", &path, e))?;
        let json = text.split_at_checked(OWN_SUM).and_then(|(sum, json)| {
            let expected = format!("{:08x}\n", crc32fast::hash(json));
            (sum == expected.as_bytes()).then_some(json)
        });
        let read = json.map(serde_json::from_slice);
        match read {
            Some(Ok(sums)) => Ok(sums),
            _ => Err(EngineError::Damaged(path, "its checksum does not match".into())),
        }
    }

    /// What `name` must be; it must have been summed.
    pub fn of(&self, name: &str, path: &Path) -> Result<Sum, EngineError> {
        let missing = || EngineError::Damaged(path.to_owned(), "its snapshot has no checksum for it".into());
        self.0.get(name).copied().ok_or_else(missing)
    }
}

/// Files that are known to be as their sums say.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<PathBuf, (Stamp, Sum)>>);

/// What changes whenever somebody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Known {
    /// Sums a file that was just written.
    pub fn take(&self, path: &Path) -> io::Result<Sum> {
        let file = File::open(path)?;
        let stamp = Stamp::of(&file)?;
        let sum = sum(&file, stamp.bytes)?;
        self.remember(path, stamp, sum);
        Ok(sum)
    }

    /// Compares a file with its sum.
    pub fn check(&self, path: &Path, expected: Sum) -> Result<(), EngineError> {
        let failed = |e| EngineError::io("read", path, e);
        let file = File::open(path).map_err(failed)?;
        let stamp = Stamp::of(&file).map_err(failed)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path) == Some(&(stamp, expected));
        if known {
            return Ok(());
        }
        compare(path, expected, sum(&file, stamp.bytes).map_err(failed)?)?;
        self.remember(path, stamp, expected);
        Ok(())
    }

    fn remember(&self, path: &Path, stamp: Stamp, sum: Sum) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(path.to_owned(), (stamp, sum));
    }
}

/// Is what was found what it should be?
pub fn compare(path: &Path, expected: Sum, found: Sum) -> Result<(), EngineError> {
    let what = match found {
        _ if found == expected => return Ok(()),
        Sum { bytes, .. } if bytes != expected.bytes => format!("{bytes} bytes long instead of {}", expected.bytes),
        _ => format!("its checksum is {:08x} instead of {:08x}", found.crc32, expected.crc32),
    };
    Err(EngineError::Damaged(path.to_owned(), what))
}

fn sum(file: &File, bytes: u64) -> io::Result<Sum> {
    let data = file.metadata()?.blocks() * 512;
    let end = if data > WHOLE { bytes.min(HEAD) } else { bytes };
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; BLOCK as usize];
    let mut at = 0;
    // A block may begin in the hole before its data.
    while at < end {
        let found = match seek(file, SeekFrom::Data(at)) {
            Ok(found) => found,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let hole = seek(file, SeekFrom::Hole(found))?.min(end);
        at = at.max(found / BLOCK * BLOCK);
        while at < hole {
            let length = BLOCK.min(end - at) as usize;
            let block = &mut buffer[..length];
            file.read_exact_at(block, at)?;
            if block.iter().any(|byte| *byte != 0) {
                hasher.update(&at.to_le_bytes());
                hasher.update(block);
            }
            at += BLOCK;
        }
    }
    Ok(Sum { bytes, crc32: hasher.finalize() })
}

/// Sums what passes through it.
pub struct Summing<T> {
    inner: T,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl<T> Summing<T> {
    /// Nothing has passed yet.
    pub fn new(inner: T) -> Self {
        Summing { inner, hasher: crc32fast::Hasher::new(), bytes: 0 }
    }

    /// The sum of all that has passed.
    pub fn sum(&self) -> Sum {
        Sum { bytes: self.bytes, crc32: self.hasher.clone().finalize() }
    }
}

impl<T: io::Read> io::Read for Summing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<T: Write> Write for Summing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(path: &Path, data: &[(u64, &[u8])], bytes: u64) -> File {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("open");
        file.set_len(bytes).expect("length");
        for (at, data) in data {
            file.write_all_at(data, *at).expect("write");
        }
        file
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name);
        let bytes = 5 * BLOCK + 77;
        let data: &[(u64, &[u8])] = &[(3, b"abc"), (3 * BLOCK + 4096, b"d"), (bytes - 1, b"e")];
        let one = sum(&sparse(&path("holes"), data, bytes), bytes).expect("sum");
        let zeros = vec![0; bytes as usize];
        let filled: Vec<_> = [(0, zeros.as_slice())].into_iter().chain(data.iter().copied()).collect();
        assert_eq!(sum(&sparse(&path("filled"), &filled, bytes), bytes).expect("sum"), one);
        for (name, other, length) in [
            ("moved", vec![(4, b"abc".as_slice()), data[1], data[2]], bytes),
            ("missing", vec![data[0], data[1]], bytes),
            ("one bit", vec![(3, b"abb".as_slice()), data[1], data[2]], bytes),
            ("longer", data.to_vec(), bytes + 1),
            ("nothing", vec![], bytes),
        ] {
            assert_ne!(sum(&sparse(&path(name), &other, length), length).expect("sum"), one, "{name}");
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_looked_at_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("memory");
        let file = sparse(&path, &[(0, b"abc")], BLOCK);
        let known = Known::default();
        let expected = known.take(&path).expect("sum");
        known.check(&path, expected).expect("as it was");
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.write_all_at(b"b", 0).expect("damage");
        let error = known.check(&path, expected).expect_err("damaged").to_string();
        assert!(error.contains("memory is damaged: its checksum is"), "{error}");
        file.set_len(5).expect("cut");
        let error = known.check(&path, expected).expect_err("cut").to_string();
        assert!(error.contains("5 bytes long instead of 65536"), "{error}");
        assert!(Known::default().check(&path, expected).is_err());
    }

    #[test]
    fn what_passes_through_is_summed() {
        let mut out = Summing::new(Vec::new());
        out.write_all(b"hello").expect("write");
        let mut back = Summing::new(out.inner.as_slice());
        io::copy(&mut back, &mut io::sink()).expect("read");
        assert_eq!((out.sum(), out.sum().bytes), (back.sum(), 5));
    }
}
