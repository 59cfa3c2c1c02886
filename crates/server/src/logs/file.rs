//! The file of one stream, read from any place in both directions. What is in memory is one block or one line, whatever the
//! size of the file. Lines stand in the order of their times, so that a time is found by bisection.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, seek},
    io::Errno,
};
use serde::Deserialize;

use super::Line;

/// What is read at a time, bytes.
const BLOCK: usize = 16 * 1024;

/// A line and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// What it says.
    pub line: Line,
}

/// An open stream. It begins with the oldest line that is left, and ends where its last whole line ended when it was opened.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    begin: u64,
    end: u64,
}

#[derive(Deserialize)]
struct Time {
    t: i64,
}

impl LogFile {
    /// `None` when there is no such stream.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let begin = begin(&file)?;
                Ok(Some(LogFile { begin, end: whole(&file)?.max(begin), file }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Bytes of whole lines.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Does a line start at `offset`, or the file end there? What was dropped may have been anything.
    pub fn is_boundary(&self, offset: u64) -> io::Result<bool> {
        if offset <= self.begin || offset > self.end {
            return Ok(offset <= self.begin);
        }
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, offset - 1)?;
        Ok(byte == *b"\n")
    }

    /// Where the first line of that time or a later one starts; the end when there is none. `t` in milliseconds since the
    /// epoch.
    pub fn seek_time(&self, t: i64) -> io::Result<u64> {
        let (mut low, mut high) = (self.begin, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let start = newline_before(&self.file, middle)?.max(low);
            let (text, end) = self.text_at(start)?;
            match serde_json::from_slice::<Time>(&text) {
                Ok(line) if line.t >= t => high = start,
                // What cannot be read has no time, and is passed over.
                _ => low = end,
            }
        }
        Ok(low)
    }

    /// The first line; `None` when there is none.
    pub fn first(&self) -> io::Result<Option<Event>> {
        self.forward(0, self.end)?.read()
    }

    /// The last line; `None` when there is none.
    pub fn last(&self) -> io::Result<Option<Event>> {
        self.backward(0, self.end)?.read()
    }

    /// The lines of `from..to`, oldest first; both are boundaries. Those that were dropped are not among them.
    pub fn forward(&self, from: u64, to: u64) -> io::Result<Forward> {
        let from = from.max(self.begin);
        let file = Positioned { file: self.file.try_clone()?, at: from };
        let file = BufReader::with_capacity(BLOCK, file);
        Ok(Forward { file, at: from, to: to.min(self.end), text: Vec::new() })
    }

    /// The lines of `from..to`, newest first; both are boundaries. Those that were dropped are not among them.
    pub fn backward(&self, from: u64, to: u64) -> io::Result<Backward> {
        let from = from.max(self.begin);
        let at = to.min(self.end);
        Ok(Backward { file: self.file.try_clone()?, from, at, block: Vec::new() })
    }

    /// The text of the line that starts there, and where it ends.
    fn text_at(&self, start: u64) -> io::Result<(Vec<u8>, u64)> {
        let (mut text, mut block) = (Vec::new(), [0; 1024]);
        loop {
            let at = start + text.len() as u64;
            let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX).min(block.len());
            let read = self.file.read_at(&mut block[..left], at)?;
            if read == 0 {
                return Ok((text, at));
            }
            if let Some(newline) = block[..read].iter().position(|byte| *byte == b'\n') {
                text.extend_from_slice(&block[..newline]);
                let end = start + text.len() as u64 + 1;
                return Ok((text, end));
            }
            text.extend_from_slice(&block[..read]);
        }
    }
}

/// A position of its own: those of cloned files are one.
#[derive(Debug)]
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Lines, oldest first. Those that cannot be read are passed over.
#[derive(Debug)]
pub struct Forward {
    file: BufReader<Positioned>,
    at: u64,
    to: u64,
    text: Vec<u8>,
}

impl Forward {
    fn read(&mut self) -> io::Result<Option<Event>> {
        while self.at < self.to {
            self.text.clear();
            let read = self.file.read_until(b'\n', &mut self.text)? as u64;
            if read == 0 {
                break;
            }
            let start = self.at;
            self.at += read;
            if let Ok(line) = serde_json::from_slice(&self.text) {
                return Ok(Some(Event { start, end: self.at, line }));
            }
        }
        Ok(None)
    }
}

/// Lines, newest first. Those that cannot be read are passed over.
#[derive(Debug)]
pub struct Backward {
    file: File,
    from: u64,
    at: u64,
    /// The bytes before `at` that were read and not yet given out.
    block: Vec<u8>,
}

impl Backward {
    fn read(&mut self) -> io::Result<Option<Event>> {
        while self.at > self.from {
            let body = self.block.len().saturating_sub(1);
            let below = self.at - self.block.len() as u64;
            let start = match self.block[..body].iter().rposition(|byte| *byte == b'\n') {
                Some(newline) => newline + 1,
                None if below <= self.from => 0,
                None => {
                    self.read_more(below)?;
                    continue;
                }
            };
            let text = self.block.split_off(start);
            let end = self.at;
            self.at -= text.len() as u64;
            if let Ok(line) = serde_json::from_slice(&text) {
                return Ok(Some(Event { start: self.at, end, line }));
            }
        }
        Ok(None)
    }

    fn read_more(&mut self, below: u64) -> io::Result<()> {
        let size = usize::try_from(below - self.from).unwrap_or(usize::MAX).min(BLOCK);
        let mut more = vec![0; size];
        self.file.read_exact_at(&mut more, below - size as u64)?;
        more.append(&mut self.block);
        self.block = more;
        Ok(())
    }
}

impl Iterator for Forward {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl Iterator for Backward {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Offset of the oldest line: what was dropped reads as zeros, and no line begins with one.
pub(super) fn begin(file: &File) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut read = file.read_at(&mut block[..1], 0)?;
    if read == 0 || block[0] != 0 {
        return Ok(0);
    }
    let mut at = match seek(file, SeekFrom::Data(0)) {
        Ok(at) => at,
        Err(Errno::NXIO) => return Ok(file.metadata()?.len()),
        Err(error) => return Err(error.into()),
    };
    while read > 0 {
        read = file.read_at(&mut block, at)?;
        if let Some(first) = block[..read].iter().position(|byte| *byte != 0) {
            return Ok(at + first as u64);
        }
        at += read as u64;
    }
    Ok(at)
}

/// Gives the space of everything before `offset`, a boundary, back to the file system. Offsets stay what they are.
pub(super) fn drop_before(file: &File, offset: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, offset)?)
}

/// Bytes of whole lines: a writer may be in the middle of the last one, or have died there.
pub(super) fn whole(file: &File) -> io::Result<u64> {
    newline_before(file, file.metadata()?.len())
}

/// Offset behind the last newline before `at`; 0 when there is none.
pub(super) fn newline_before(file: &File, at: u64) -> io::Result<u64> {
    // Most lines are short, and the last byte is a newline more often than not.
    let (mut at, mut size) = (at, 256);
    while at > 0 {
        let length = usize::try_from(at).unwrap_or(usize::MAX).min(size);
        let mut block = vec![0; length];
        let start = at - length as u64;
        file.read_exact_at(&mut block, start)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        (at, size) = (start, (size * 4).min(BLOCK));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// `lines` of `(time, length of the message)`; numbers from 1.
    fn written(lines: &[(i64, usize)], tail: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("s.jsonl");
        let line = |(n, (t, length)): (usize, &(i64, usize))| {
            format!("{}\n", serde_json::json!({"n": n + 1, "t": t, "m": "x".repeat(*length)}))
        };
        let text: String = lines.iter().enumerate().map(line).collect();
        fs::write(&path, text + tail).expect("write");
        (dir, path)
    }

    fn numbers(events: impl Iterator<Item = io::Result<Event>>) -> Vec<u64> {
        events.map(|event| event.expect("read").line.n).collect()
    }

    #[test]
    fn both_directions_and_every_time_agree_with_the_whole_file() {
        let lengths = [0, 1, 200, 255, 256, 1024, BLOCK - 30, BLOCK, BLOCK + 1, 3 * BLOCK, 5, 70_000];
        let lines: Vec<_> = (0..60).map(|i| (i / 3 * 10, lengths[i as usize % lengths.len()])).collect();
        let (_dir, path) = written(&lines, "{\"n\":99,\"t\"");
        let file = LogFile::open(&path).expect("open").expect("there");
        let all: Vec<Event> = file.forward(0, file.end()).expect("forward").map(|event| event.expect("read")).collect();
        assert_eq!(all.len(), 60);
        let back = file.backward(0, file.end()).expect("backward");
        let mut back: Vec<Event> = back.map(|event| event.expect("read")).collect();
        back.reverse();
        assert_eq!(back, all);
        for t in -1..=201 {
            let first = all.iter().find(|event| event.line.t >= t).map_or(file.end(), |event| event.start);
            assert_eq!(file.seek_time(t).expect("seek"), first, "{t}");
        }
        for (from, to) in [(0, 1), (3, 17), (59, 60), (20, 20)] {
            let end = all.get(to).map_or(file.end(), |event| event.start);
            let wanted: Vec<u64> = (from as u64 + 1..=to as u64).collect();
            let forward = file.forward(all[from].start, end).expect("forward");
            assert_eq!(numbers(forward), wanted);
            let backward = file.backward(all[from].start, end).expect("backward");
            assert_eq!(numbers(backward), wanted.into_iter().rev().collect::<Vec<_>>());
        }
        assert!(all.iter().all(|event| file.is_boundary(event.start).expect("read")));
        assert!(file.is_boundary(file.end()).expect("read"));
        for wrong in [1, all[30].start + 1, file.end() - 1, file.end() + 1, u64::MAX] {
            assert!(!file.is_boundary(wrong).expect("read"), "{wrong}");
        }
    }

    #[test]
    fn what_is_damaged_is_passed_over() {
        let (_dir, path) = written(&[(1, 3), (2, 3)], "garbage\n\n{\"n\":3,\"t\":5,\"m\":\"\"}\nhalf");
        let file = LogFile::open(&path).expect("open").expect("there");
        let forward = file.forward(0, file.end()).expect("forward");
        assert_eq!(numbers(forward), [1, 2, 3]);
        let backward = file.backward(0, file.end()).expect("backward");
        assert_eq!(numbers(backward), [3, 2, 1]);
        assert_eq!(file.seek_time(6).expect("seek"), file.end());
        assert_eq!(file.last().expect("read").expect("there").line.n, 3);
    }

    #[test]
    fn what_was_dropped_is_not_there_and_offsets_stay() {
        let lines: Vec<_> = (0..400).map(|i| (i, 300)).collect();
        let (_dir, path) = written(&lines, "");
        let all: Vec<Event> = {
            let file = LogFile::open(&path).expect("open").expect("there");
            file.forward(0, file.end()).expect("forward").map(|event| event.expect("read")).collect()
        };
        for kept_from in [1, 7, 30, 200, 399] {
            let at = all[kept_from].start;
            drop_before(&File::options().write(true).open(&path).expect("open"), at).expect("punch");
            let file = LogFile::open(&path).expect("open").expect("there");
            assert_eq!(file.first().expect("read").as_ref(), Some(&all[kept_from]));
            assert_eq!(numbers(file.forward(0, file.end()).expect("forward")).len(), 400 - kept_from);
            assert_eq!(numbers(file.forward(at, file.end()).expect("forward")).len(), 400 - kept_from);
            assert_eq!(numbers(file.backward(0, file.end()).expect("backward")).len(), 400 - kept_from);
            assert_eq!(file.seek_time(3).expect("seek"), all[kept_from.max(3)].start);
            assert_eq!(file.seek_time(399).expect("seek"), all[399].start);
            assert!(file.is_boundary(at).expect("read") && file.is_boundary(at / 2).expect("read"));
        }
        let file = File::options().write(true).open(&path).expect("open");
        drop_before(&file, all[399].end).expect("punch");
        let file = LogFile::open(&path).expect("open").expect("there");
        assert_eq!((file.first().expect("read"), file.last().expect("read")), (None, None));
        assert_eq!(file.seek_time(0).expect("seek"), file.end());
    }

    #[test]
    fn empty_and_absent() {
        let (dir, path) = written(&[], "{\"n\":1");
        let file = LogFile::open(&path).expect("open").expect("there");
        assert_eq!((file.end(), file.seek_time(0).expect("seek")), (0, 0));
        assert_eq!((file.first().expect("read"), file.last().expect("read")), (None, None));
        assert!(LogFile::open(&dir.path().join("none")).expect("open").is_none());
    }
}
