//! Names of groups and streams as names of files.

use std::io;

/// A longer name does not fit into a directory entry once it is encoded.
const MAX_NAME_BYTES: usize = 200;
/// What the file of a stream ends with.
const SUFFIX: &str = ".jsonl";

/// Percent-encoded, so that it is one path component: never hidden, never `..`.
pub(super) fn encode(name: &str) -> io::Result<String> {
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

/// The inverse of [`encode`]; `None` for what it does not write.
pub(super) fn decode(name: &str) -> Option<String> {
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

/// The file of a stream in its group's directory.
pub(super) fn file_name(stream: &str) -> io::Result<String> {
    Ok(format!("{}{SUFFIX}", encode(stream)?))
}

/// The inverse of [`file_name`].
pub(super) fn stream_of(file_name: &str) -> Option<String> {
    decode(file_name.strip_suffix(SUFFIX)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["..", ".", "../x", "/etc/passwd", "a/../../b", "%2e%2e"] {
            let encoded = encode(name).expect("encodes");
            assert!(!encoded.contains('/') && !encoded.starts_with('.'), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(name));
            assert_eq!(stream_of(&file_name(name).expect("encodes")).as_deref(), Some(name));
        }
        assert!(encode("").is_err());
        assert!(encode(&"x".repeat(300)).is_err());
        assert_eq!(stream_of("README"), None);
    }
}
