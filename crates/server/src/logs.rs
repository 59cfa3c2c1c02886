//! Log groups and streams as files: what builds and applications say, one JSON object a line.
//!
//! `logs/<group>/<stream>.jsonl`, names percent-encoded so that each is one path component. A stream is append-only;
//! whoever follows it is told of every append.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use api::AccountId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    open: Mutex<HashMap<PathBuf, Weak<Stream>>>,
    changed: watch::Sender<u64>,
}

/// How far a reader is in each stream, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Cursor(HashMap<String, u64>);

/// A stream that is being written.
#[derive(Debug)]
pub struct Stream {
    state: Mutex<(File, u64)>,
    changed: watch::Sender<u64>,
}

/// A longer name does not fit into a directory entry once it is encoded.
const MAX_NAME_BYTES: usize = 200;

impl Logs {
    /// The groups below that directory, which is made when it is missing.
    pub fn new(dir: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&dir)?;
        Ok(Arc::new(Logs { dir, open: Mutex::new(HashMap::new()), changed: watch::Sender::new(0) }))
    }

    /// Opens a stream for appending; all holders of one stream share it.
    pub fn stream(&self, group: &str, stream: &str) -> io::Result<Arc<Stream>> {
        let path = self.path(group, stream)?;
        let mut open = lock(&self.open);
        if let Some(stream) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(stream);
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let last = repair(&mut file)?;
        let stream = Arc::new(Stream { state: Mutex::new((file, last)), changed: self.changed.clone() });
        open.retain(|_, stream| stream.strong_count() > 0);
        open.insert(path, Arc::downgrade(&stream));
        Ok(stream)
    }

    /// What the streams of a group whose names begin with `prefix` have gained since `cursor`, which is moved on:
    /// `(stream, line)`, by stream, then number.
    pub fn read(&self, group: &str, prefix: &str, cursor: &mut Cursor) -> io::Result<Vec<(String, Line)>> {
        let mut names: Vec<String> = match fs::read_dir(self.dir.join(encode(group)?)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?
                .filter_map(|entry| decode(entry.ok()?.file_name().to_str()?.strip_suffix(".jsonl")?))
                .filter(|name| name.starts_with(prefix))
                .collect(),
        };
        names.sort();
        let mut lines = Vec::new();
        for name in names {
            let mut file = File::open(self.path(group, &name)?)?;
            let offset = cursor.0.entry(name.clone()).or_default();
            file.seek(SeekFrom::Start(*offset))?;
            let mut file = BufReader::new(file);
            let mut text = Vec::new();
            loop {
                text.clear();
                let bytes = file.read_until(b'\n', &mut text)?;
                // The last line may be half-written at this very moment.
                let Some(line) = text.strip_suffix(b"\n").and_then(|text| serde_json::from_slice(text).ok()) else {
                    break;
                };
                *offset += bytes as u64;
                lines.push((name.clone(), line));
            }
        }
        Ok(lines)
    }

    /// Changes whenever any stream has grown.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn path(&self, group: &str, stream: &str) -> io::Result<PathBuf> {
        Ok(self.dir.join(encode(group)?).join(format!("{}.jsonl", encode(stream)?)))
    }
}

impl Stream {
    /// The number of the last line; 0 when there is none.
    pub fn last(&self) -> u64 {
        lock(&self.state).1
    }

    /// Appends a line with the next number.
    pub fn append(&self, t: i64, m: &str) -> io::Result<()> {
        let next = self.last() + 1;
        self.append_numbered(next, t, m)
    }

    /// Appends a line with a number of the caller's; one that is not past the last is dropped: it was written before.
    pub fn append_numbered(&self, n: u64, t: i64, m: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        if n <= state.1 {
            return Ok(());
        }
        let mut text = serde_json::to_vec(&Line { n, t, m: m.to_owned() })?;
        text.push(b'\n');
        state.0.write_all(&text)?;
        state.1 = n;
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Cuts a half-written last line (a crash) off, and returns the number of the last whole one.
fn repair(file: &mut File) -> io::Result<u64> {
    let mut last = 0;
    let mut whole = 0;
    let mut reader = BufReader::new(&*file);
    let mut text = Vec::new();
    loop {
        text.clear();
        let bytes = reader.read_until(b'\n', &mut text)?;
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) if text.ends_with(b"\n") => last = line.n,
            _ => break,
        }
        whole += bytes as u64;
    }
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    Ok(last)
}

fn encode(name: &str) -> io::Result<String> {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) && !out.is_empty() {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.is_empty() || out.len() > MAX_NAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log group or stream name is empty or too long"));
    }
    Ok(out)
}

fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (hex, after) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
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

/// Where the groups of an account begin: those of the configured account are found under their own names, those of another
/// behind its id and a colon, which no group's name holds; a text that does leads nowhere. Every reader and writer goes
/// through here, so that accounts do not read each other's output.
pub fn of_account(first: &AccountId, account: &AccountId, group: &str) -> String {
    if first == account && !group.contains(':') { group.to_owned() } else { format!("{account}:{group}") }
}

/// Where the logs of a directory lie, for tests and tools.
pub fn dir_of(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(logs: &Logs, prefix: &str) -> Vec<String> {
        let lines = logs.read("/aws/x", prefix, &mut Cursor::default()).expect("read");
        lines.into_iter().map(|(stream, line)| format!("{stream} {} {}", line.n, line.m)).collect()
    }

    #[test]
    fn accounts_have_groups_of_their_own() {
        let account = |text: &str| text.parse::<AccountId>().expect("account");
        let (first, other) = (account("000000000000"), account("222222222222"));
        assert_eq!(of_account(&first, &first, "/aws/x"), "/aws/x");
        let theirs = of_account(&first, &other, "/aws/x");
        assert_ne!(theirs, "/aws/x");
        assert_ne!(of_account(&first, &first, &theirs), theirs, "nor by its own name");
    }

    #[test]
    fn lines_come_back_in_order_and_repeats_are_dropped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().join("logs")).expect("logs");
        let build = logs.stream("/aws/x", "build/1.0/a").expect("stream");
        build.append(1, "one").expect("append");
        build.append_numbered(7, 2, "seven").expect("append");
        build.append_numbered(5, 3, "late").expect("append");
        logs.stream("/aws/x", "2026/11/23[1.0]b").expect("stream").append(1, "app").expect("append");
        assert_eq!(texts(&logs, ""), ["2026/11/23[1.0]b 1 app", "build/1.0/a 1 one", "build/1.0/a 7 seven"]);
        assert_eq!(texts(&logs, "build/"), ["build/1.0/a 1 one", "build/1.0/a 7 seven"]);
        assert!(logs.changes().borrow().ge(&3));

        let mut cursor = Cursor::default();
        assert_eq!(logs.read("/aws/x", "build/", &mut cursor).expect("read").len(), 2);
        build.append(4, "eight").expect("append");
        let gained = logs.read("/aws/x", "", &mut cursor).expect("read");
        let gained: Vec<_> = gained.iter().map(|(_, line)| line.m.as_str()).collect();
        assert_eq!(gained, ["app", "eight"], "only what the cursor has not seen");
    }

    #[test]
    fn a_half_written_line_is_cut_off_and_the_numbers_go_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let logs = Logs::new(dir.path().to_owned()).expect("logs");
        logs.stream("/aws/x", "s").expect("stream").append(1, "one").expect("append");
        let path = logs.path("/aws/x", "s").expect("path");
        OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"{\"n\":2,\"t\"")).expect("write");
        let stream = logs.stream("/aws/x", "s").expect("stream");
        stream.append(2, "two").expect("append");
        assert_eq!(texts(&logs, "s"), ["s 1 one", "s 2 two"]);
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["..", ".", "../x", "/etc/passwd", "a/../../b", "%2e%2e"] {
            let encoded = encode(name).expect("encodes");
            assert!(!encoded.contains('/') && !encoded.starts_with('.'), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(name));
        }
        assert!(encode("").is_err());
        assert!(encode(&"x".repeat(300)).is_err());
    }
}
