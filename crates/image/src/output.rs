//! What a build prints, made fit for a log: whole lines, bounded, without control sequences or credentials.

/// A longer line is cut to this many bytes.
pub(crate) const MAX_LINE_BYTES: usize = 4096;
/// After this many bytes (32 MiB) a build's output is dropped, save the last lines, which explain a failure.
const MAX_LOG_BYTES: usize = 32 << 20;
/// How many of the last lines are kept for that.
const TAIL_LINES: usize = 60;

/// Splits bytes into clean lines and hands them on.
pub(crate) struct Lines<'a> {
    sink: &'a mut dyn FnMut(&str),
    secrets: &'a [String],
    partial: Vec<u8>,
    cut: bool,
    logged: usize,
    tail: std::collections::VecDeque<String>,
}

impl<'a> Lines<'a> {
    /// `secrets` are replaced wherever they occur.
    pub(crate) fn new(secrets: &'a [String], sink: &'a mut dyn FnMut(&str)) -> Self {
        Lines { sink, secrets, partial: Vec::new(), cut: false, logged: 0, tail: Default::default() }
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                self.flush();
            } else if self.partial.len() < MAX_LINE_BYTES {
                self.partial.push(byte);
            } else {
                self.cut = true;
            }
        }
    }

    /// The output is over: hands on what is left and returns the last lines.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.flush();
        self.tail.into()
    }

    fn flush(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let mut line = plain(&String::from_utf8_lossy(&self.partial));
        for secret in self.secrets {
            line = line.replace(secret.as_str(), "[redacted]");
        }
        if std::mem::take(&mut self.cut) {
            line.push_str(" [cut]");
        }
        self.partial.clear();
        if line.trim().is_empty() {
            return;
        }
        if self.logged <= MAX_LOG_BYTES {
            self.logged += line.len();
            (self.sink)(&line);
            if self.logged > MAX_LOG_BYTES {
                (self.sink)("[the build printed more than 32 MiB; the rest is not shown]");
            }
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

/// The text without ANSI escape sequences and control characters.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => match letters.next() {
                // CSI: parameters, then one final letter.
                Some('[') => while letters.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // OSC: up to BEL or the string terminator.
                Some(']') => {
                    while let Some(c) = letters.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && letters.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]], secrets: &[String]) -> (Vec<String>, Vec<String>) {
        let mut seen = Vec::new();
        let mut sink = |line: &str| seen.push(line.to_owned());
        let mut lines = Lines::new(secrets, &mut sink);
        pieces.iter().for_each(|piece| lines.feed(piece));
        let tail = lines.finish();
        (seen, tail)
    }

    #[test]
    fn lines_come_whole_and_plain() {
        let (seen, _) = lines(&[b"one\ntw", b"o\r\n\n\x1b[32;1mgreen\x1b[0m\x07\x1b]0;title\x07!\nend \xff"], &[]);
        assert_eq!(seen, ["one", "two", "green!", "end \u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut_and_secrets_covered() {
        let long = vec![b'x'; MAX_LINE_BYTES * 3];
        let (seen, _) = lines(&[&long, b"\nget https://u:p@host/"], &["u:p".to_owned()]);
        assert_eq!(seen[0].len(), MAX_LINE_BYTES + " [cut]".len());
        assert_eq!(seen[1], "get https://[redacted]@host/");
    }

    #[test]
    fn endless_output_is_dropped_but_its_end_is_kept() {
        let mut count = 0_usize;
        let mut sink = |_: &str| count += 1;
        let mut lines = Lines::new(&[], &mut sink);
        let line = [vec![b'y'; 4000], vec![b'\n']].concat();
        (0..10_000).for_each(|_| lines.feed(&line));
        lines.feed(b"Error: the end\n");
        let tail = lines.finish();
        assert!(count * 4000 < MAX_LOG_BYTES + 20_000);
        assert_eq!(tail.last().map(String::as_str), Some("Error: the end"));
        assert_eq!(tail.len(), TAIL_LINES);
    }
}
