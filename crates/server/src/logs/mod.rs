//! Log groups and streams as files: what builds and applications say, one JSON object a line.
//!
//! `logs/<account>/<group>/<stream>.jsonl`, names percent-encoded so that each is one path component ([`names`]). A stream
//! is append-only, its numbers and times never go back; whoever follows it is told of every append. Of one that is larger
//! than it may be the oldest lines are dropped. Reading goes by byte
//! offset ([`file`](mod@file)), so that a page of a large stream costs what the page holds.

mod file;
mod names;
mod query;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::UNIX_EPOCH,
};

use api::AccountId;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::tokens::Cursors;

pub use file::{Backward, Event, Forward, LogFile};
pub use query::Query;

/// One line of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Grows within the stream; for application output it is the guest's own event number.
    pub n: u64,
    /// Milliseconds since the epoch.
    pub t: i64,
    /// The text.
    pub m: String,
}

/// All log groups of a server.
pub struct Logs {
    dir: PathBuf,
    open: Mutex<HashMap<PathBuf, Weak<Stream>>>,
    changed: watch::Sender<u64>,
    turns: Arc<Semaphore>,
    cursors: Cursors,
    stream_bytes: u64,
}

/// How far a reader is in each stream, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Cursor(HashMap<String, u64>);

/// A stream that is being written.
#[derive(Debug)]
pub struct Stream {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Number of the last line; 0 when there is none.
    n: u64,
    /// Time of the last line.
    t: i64,
    /// Where the oldest line begins, and where the last one ends.
    begin: u64,
    end: u64,
    /// As much as lies between the two, about.
    most: u64,
}

impl State {
    fn of(file: File, most: u64) -> io::Result<Self> {
        let begin = file::begin(&file)?;
        let (n, t) = repair(&file, begin)?;
        let end = file.metadata()?.len();
        Ok(State { file, n, t, begin, end, most })
    }

    /// Drops the oldest lines of a stream that has become too large, a quarter of it at a time.
    fn shrink(&mut self) -> io::Result<()> {
        if self.end - self.begin <= self.most {
            return Ok(());
        }
        let begin = file::newline_before(&self.file, self.end - self.most / 4 * 3)?;
        if begin > self.begin {
            file::drop_before(&self.file, begin)?;
            self.begin = begin;
        }
        Ok(())
    }
}

/// Longest text of a line, bytes (the service's own bound); the rest is cut off.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Questions that are answered at a time.
const TURNS: usize = 8;
/// About as much text as one [`Logs::read`] returns, bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

impl Logs {
    /// The groups below that directory, which is made when it is missing. `cursor_key` authenticates the tokens of [`Query`];
    /// a stream has about `stream_bytes` at most.
    pub fn new(dir: PathBuf, cursor_key: Vec<u8>, stream_bytes: u64) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&dir)?;
        let (open, changed) = (Mutex::new(HashMap::new()), watch::Sender::new(0));
        let (turns, cursors) = (Arc::new(Semaphore::new(TURNS)), Cursors::new(cursor_key));
        Ok(Arc::new(Logs { dir, open, changed, turns, cursors, stream_bytes }))
    }

    /// Opens a stream for appending; all holders of one stream share it.
    pub fn stream(&self, account: &AccountId, group: &str, stream: &str) -> io::Result<Arc<Stream>> {
        let dir = self.group_dir(account, group)?;
        let path = dir.join(names::file_name(stream)?);
        let mut open = lock(&self.open);
        if let Some(stream) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(stream);
        }
        fs::create_dir_all(dir)?;
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let state = State::of(file, self.stream_bytes)?;
        let stream = Arc::new(Stream { state: Mutex::new(state), changed: self.changed.clone() });
        open.retain(|_, stream| stream.strong_count() > 0);
        open.insert(path, Arc::downgrade(&stream));
        Ok(stream)
    }

    /// What the streams of a group whose names begin with `prefix` have gained since `cursor`, which is moved on:
    /// `(stream, line)`, by stream, then number. About [`CHUNK_BYTES`] at most: none means that there is no more.
    pub fn read(
        &self,
        account: &AccountId,
        group: &str,
        prefix: &str,
        cursor: &mut Cursor,
    ) -> io::Result<Vec<(String, Line)>> {
        let mut streams = self.streams(account, group)?.unwrap_or_default();
        streams.retain(|name| name.starts_with(prefix));
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for name in streams {
            let path = self.path(account, group, &name)?;
            let offset = cursor.0.entry(name.clone()).or_default();
            if fs::metadata(&path)?.len() <= *offset {
                continue;
            }
            let Some(file) = LogFile::open(&path)? else { continue };
            for event in file.forward(*offset, file.end())? {
                let event = event?;
                *offset = event.end;
                bytes += event.line.m.len() + 64;
                lines.push((name.clone(), event.line));
                if bytes >= CHUNK_BYTES {
                    return Ok(lines);
                }
            }
        }
        Ok(lines)
    }

    /// The names of an account's groups, in order.
    pub fn groups(&self, account: &AccountId) -> io::Result<Vec<String>> {
        let groups = listed(&self.dir.join(account.as_str()), names::decode)?;
        Ok(groups.unwrap_or_default())
    }

    /// The names of a group's streams, in order; `None` when there is no such group.
    pub fn streams(&self, account: &AccountId, group: &str) -> io::Result<Option<Vec<String>>> {
        match self.group_dir(account, group) {
            Ok(dir) => listed(&dir, names::stream_of),
            // A name that cannot be stored is none.
            Err(_) => Ok(None),
        }
    }

    /// A stream for reading; `None` when there is none of that name.
    pub fn open(&self, account: &AccountId, group: &str, stream: &str) -> io::Result<Option<LogFile>> {
        self.path(account, group, stream).map_or(Ok(None), |path| LogFile::open(&path))
    }

    /// When a group came into being, milliseconds since the epoch, and the bytes of all its streams.
    pub fn group_facts(&self, account: &AccountId, group: &str) -> io::Result<(i64, u64)> {
        let dir = self.group_dir(account, group)?;
        let held = |of: fs::Metadata| of.len().min(of.blocks() * 512); // what was dropped is a hole
        let sizes = fs::read_dir(&dir)?.map(|entry| Ok(held(entry?.metadata()?)));
        Ok((born(&fs::metadata(&dir)?), sizes.sum::<io::Result<u64>>()?))
    }

    /// When a stream came into being, milliseconds since the epoch.
    pub fn stream_born(&self, account: &AccountId, group: &str, stream: &str) -> io::Result<i64> {
        Ok(born(&fs::metadata(self.path(account, group, stream)?)?))
    }

    /// A turn at [`Query`]'s questions: so many pages, and no more, are in memory at a time.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Changes whenever any stream has grown.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn group_dir(&self, account: &AccountId, group: &str) -> io::Result<PathBuf> {
        Ok(self.dir.join(account.as_str()).join(names::encode(group)?))
    }

    fn path(&self, account: &AccountId, group: &str, stream: &str) -> io::Result<PathBuf> {
        Ok(self.group_dir(account, group)?.join(names::file_name(stream)?))
    }
}

impl Stream {
    /// The number of the last line; 0 when there is none.
    pub fn last(&self) -> u64 {
        lock(&self.state).n
    }

    /// Appends a line with the next number.
    pub fn append(&self, t: i64, m: &str) -> io::Result<()> {
        let next = self.last() + 1;
        self.append_numbered(next, t, m)
    }

    /// Appends a line with a number of the caller's; one that is not past the last is dropped: it was written before. A time
    /// before the last line's (the clock was set back) counts as that one's.
    pub fn append_numbered(&self, n: u64, t: i64, m: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        if n <= state.n {
            return Ok(());
        }
        let t = t.max(state.t);
        let m = m[..m.floor_char_boundary(MAX_TEXT_BYTES)].to_owned();
        let mut text = serde_json::to_vec(&Line { n, t, m })?;
        text.push(b'\n');
        state.file.write_all(&text)?;
        (state.n, state.t) = (n, t);
        state.end += text.len() as u64;
        if let Err(error) = state.shrink() {
            // A file system that cannot: the line is there all the same. Asked again when it is twice as large.
            tracing::error!(%error, bytes = state.end - state.begin, "old lines of a log cannot be dropped");
            state.most = state.most.saturating_mul(2);
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Cuts a half-written last line (a crash) off, and whatever cannot be read before it; returns the last line's number and
/// time.
fn repair(file: &File, begin: u64) -> io::Result<(u64, i64)> {
    let mut end = file::whole(file)?.max(begin);
    loop {
        let start = file::newline_before(file, end.saturating_sub(1))?.clamp(begin, end);
        let mut text = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut text, start)?;
        match serde_json::from_slice::<Line>(&text) {
            Err(_) if end > begin => end = start,
            read => {
                file.set_len(end)?;
                return Ok(read.map_or((0, 0), |line| (line.n, line.t)));
            }
        }
    }
}

/// The names of what lies in a directory, in order; `None` when it is not there.
fn listed(dir: &Path, decode: fn(&str) -> Option<String>) -> io::Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(decode));
    }
    names.sort();
    Ok(Some(names))
}

/// Not every file system knows; then it is the last change.
fn born(of: &fs::Metadata) -> i64 {
    let since = of.created().or_else(|_| of.modified()).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The group of an image (spec 4.7), unless its version names another.
pub fn group_of(name: &api::ImageName, logging: Option<&api::Logging>) -> Option<String> {
    match logging {
        Some(api::Logging::Disabled(_)) => None,
        Some(api::Logging::CloudWatch(api::CloudWatchLogging { log_group: Some(group), .. })) => Some(group.clone()),
        _ => Some(format!("/aws/lambda-microvms/{}", name.as_str())),
    }
}

/// Where the logs of a directory lie, for tests and tools.
pub fn dir_of(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        "111122223333".parse().expect("account")
    }

    fn texts(logs: &Logs, prefix: &str) -> Vec<String> {
        let lines = logs.read(&account(), "/aws/x", prefix, &mut Cursor::default()).expect("read");
        lines.into_iter().map(|(stream, line)| format!("{stream} {} {}", line.n, line.m)).collect()
    }

    #[test]
    fn lines_come_back_in_order_and_repeats_are_dropped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().join("logs"), vec![7; 32], 1 << 30).expect("logs");
        let build = logs.stream(&account(), "/aws/x", "build/1.0/a").expect("stream");
        build.append(1, "one").expect("append");
        build.append_numbered(7, 2, "seven").expect("append");
        build.append_numbered(5, 3, "late").expect("append");
        logs.stream(&account(), "/aws/x", "2026/11/23[1.0]b").expect("stream").append(1, "app").expect("append");
        assert_eq!(texts(&logs, ""), ["2026/11/23[1.0]b 1 app", "build/1.0/a 1 one", "build/1.0/a 7 seven"]);
        assert_eq!(texts(&logs, "build/"), ["build/1.0/a 1 one", "build/1.0/a 7 seven"]);
        assert!(logs.changes().borrow().ge(&3));

        let mut cursor = Cursor::default();
        assert_eq!(logs.read(&account(), "/aws/x", "build/", &mut cursor).expect("read").len(), 2);
        build.append(4, "eight").expect("append");
        let gained = logs.read(&account(), "/aws/x", "", &mut cursor).expect("read");
        let gained: Vec<_> = gained.iter().map(|(_, line)| line.m.as_str()).collect();
        assert_eq!(gained, ["app", "eight"], "only what the cursor has not seen");
    }

    #[test]
    fn a_half_written_line_is_cut_off_and_the_numbers_go_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().to_owned(), vec![7; 32], 1 << 30).expect("logs");
        logs.stream(&account(), "/aws/x", "s").expect("stream").append(1, "one").expect("append");
        let path = logs.path(&account(), "/aws/x", "s").expect("path");
        OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"{\"n\":2,\"t\"")).expect("write");
        let stream = logs.stream(&account(), "/aws/x", "s").expect("stream");
        stream.append(2, "two").expect("append");
        assert_eq!(texts(&logs, "s"), ["s 1 one", "s 2 two"]);
    }

    #[test]
    fn what_cannot_be_read_at_the_end_is_cut_off() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().to_owned(), vec![7; 32], 1 << 30).expect("logs");
        logs.stream(&account(), "g", "s").expect("stream").append(1, "one").expect("append");
        let path = logs.path(&account(), "g", "s").expect("path");
        // A power cut may leave zeros.
        OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"\0\0\n\n\0\0\0")).expect("write");
        let stream = logs.stream(&account(), "g", "s").expect("stream");
        assert_eq!(stream.last(), 1);
        stream.append(2, "two").expect("append");
        assert_eq!(fs::read_to_string(&path).expect("read").lines().count(), 2);
    }

    #[test]
    fn a_stream_is_bounded_by_dropping_its_oldest_lines() {
        let dir = tempfile::tempdir().expect("tempdir");
        let open = || Logs::new(dir.path().to_owned(), vec![7; 32], 100_000).expect("logs");
        let logs = open();
        let stream = logs.stream(&account(), "/aws/x", "s").expect("stream");
        for n in 1..=3000 {
            stream.append(n, &"x".repeat(100)).expect("append");
        }
        let first_and_last = |logs: &Logs| {
            let lines = logs.read(&account(), "/aws/x", "", &mut Cursor::default()).expect("read");
            (lines[0].1.n, lines[lines.len() - 1].1.n)
        };
        let (first, last) = first_and_last(&logs);
        assert!(last == 3000 && (2200..2500).contains(&first), "{first}..={last}");
        let (_, bytes) = logs.group_facts(&account(), "/aws/x").expect("facts");
        assert!(bytes < 110_000, "{bytes} bytes are left");
        drop((stream, logs));
        let logs = open();
        assert_eq!(first_and_last(&logs), (first, 3000));
        logs.stream(&account(), "/aws/x", "s").expect("stream").append(1, "on").expect("append");
        assert_eq!(first_and_last(&logs), (first, 3001));
    }

    #[test]
    fn accounts_do_not_see_each_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().to_owned(), vec![7; 32], 1 << 30).expect("logs");
        let other: AccountId = "444455556666".parse().expect("account");
        logs.stream(&account(), "/g", "s").expect("stream").append(1, "ours").expect("append");
        assert_eq!(logs.groups(&other).expect("groups"), Vec::<String>::new());
        assert!(logs.open(&other, "/g", "s").expect("open").is_none());
        logs.stream(&other, "/g", "s").expect("stream").append(1, "theirs").expect("append");
        let lines = logs.read(&other, "/g", "", &mut Cursor::default()).expect("read");
        assert_eq!(lines.iter().map(|(_, line)| line.m.as_str()).collect::<Vec<_>>(), ["theirs"]);
        assert_eq!(logs.groups(&account()).expect("groups"), ["/g"]);
    }

    #[test]
    fn times_never_go_back_and_texts_are_bounded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().to_owned(), vec![7; 32], 1 << 30).expect("logs");
        let stream = logs.stream(&account(), "g", "s").expect("stream");
        stream.append(5, "one").expect("append");
        stream.append(3, "two").expect("append");
        stream.append(6, &"é".repeat(MAX_TEXT_BYTES)).expect("append");
        drop(stream);
        logs.stream(&account(), "g", "s").expect("stream").append(4, "four").expect("append");
        let mut cursor = Cursor::default();
        let first = logs.read(&account(), "g", "", &mut cursor).expect("read");
        assert_eq!(
            first.iter().map(|(_, line)| (line.t, line.m.len())).collect::<Vec<_>>(),
            [(5, 3), (5, 3), (6, MAX_TEXT_BYTES)]
        );
        let rest = logs.read(&account(), "g", "", &mut cursor).expect("read");
        assert_eq!(rest.iter().map(|(_, line)| (line.n, line.t)).collect::<Vec<_>>(), [(4, 6)], "a chunk at a time");
        assert!(logs.read(&account(), "g", "", &mut cursor).expect("read").is_empty());
    }
}
