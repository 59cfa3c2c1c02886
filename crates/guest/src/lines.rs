//! Cuts an output stream into lines of bounded length.

use wire::MAX_LINE_BYTES;

/// Collects bytes until a line is whole.
#[derive(Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes bytes as they came; calls `emit` for every line they complete, and for pieces of one that grows past
    /// [`MAX_LINE_BYTES`].
    pub fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.extend(&bytes[..end], emit);
            bytes = &bytes[end + 1..];
            if self.pending.last() == Some(&b'\r') {
                self.pending.pop();
            }
            self.take(emit);
        }
        self.extend(bytes, emit);
    }

    /// The stream ended: what is left is a line too.
    pub fn finish(&mut self, emit: &mut impl FnMut(String)) {
        if !self.pending.is_empty() {
            self.take(emit);
        }
    }

    /// Adds bytes that hold no line end, cutting off full pieces.
    fn extend(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(String)) {
        while self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            let room = MAX_LINE_BYTES.saturating_sub(self.pending.len());
            self.pending.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            let rest = self.pending.split_off(character_boundary(&self.pending));
            self.take(emit);
            self.pending = rest;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Emits what is pending. Replacement characters can make the text longer than the bytes: it is cut again.
    fn take(&mut self, emit: &mut impl FnMut(String)) {
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned();
        while text.len() > MAX_LINE_BYTES {
            let rest = text.split_off(text.floor_char_boundary(MAX_LINE_BYTES));
            emit(std::mem::replace(&mut text, rest));
        }
        emit(text);
    }
}

/// Where to cut so that the last character is whole: at most three bytes before the end; the end itself for bytes that
/// are no UTF-8 anyway.
fn character_boundary(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=3.min(end) {
        let byte = bytes[end - back];
        if byte & 0xc0 == 0x80 {
            continue;
        }
        let needs = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return if needs > back { end - back } else { end };
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, &mut |line| lines.push(line));
        }
        splitter.finish(&mut |line| lines.push(line));
        lines
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(split(&[b"one\ntw", b"o\r", b"\n\nlast"]), ["one", "two", "", "last"]);
        assert_eq!(split(&[b""]), Vec::<String>::new());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "é".repeat(MAX_LINE_BYTES);
        let input = [b"x", long.as_bytes()].concat();
        let lines = split(&[&input]);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES && !line.contains('\u{fffd}')));
        assert_eq!(lines.concat().into_bytes(), input);
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_bound() {
        let lines = split(&[&vec![0xff; MAX_LINE_BYTES * 2 + 5], b"\n"]);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(lines.concat().chars().count(), MAX_LINE_BYTES * 2 + 5);
    }

    #[test]
    fn exactly_the_bound_is_one_line() {
        let line = vec![b'a'; MAX_LINE_BYTES];
        assert_eq!(split(&[&line, b"\nb"]).len(), 2);
    }
}
