//! Names of buckets and objects that a directory can hold.

use std::io;

/// Longest name of a file, bytes (ext4, xfs, tmpfs).
const FILE_NAME_MAX: usize = 255;

/// Why a key cannot be stored here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyError {
    /// A segment is empty, `.` or `..`, or the key holds a NUL: as a path it would be another object.
    Ambiguous,
    /// The key or a segment of it is too long for a file name.
    TooLong,
}

/// 3..=63 of `a-z 0-9 . -`, starting with a letter or digit: never hidden, never `.` or `..`.
pub(super) fn bucket_fits(bucket: &str) -> bool {
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-')
        && bucket.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && !bucket.contains("..")
}

/// May the key be used as a path below its bucket? One `/` may stand at the end.
pub(super) fn check_key(bucket: &str, key: &str) -> Result<(), KeyError> {
    let plain = key.strip_suffix('/').unwrap_or(key);
    let ambiguous = |segment: &str| matches!(segment, "" | "." | "..");
    if key.contains('\0') || plain.split('/').any(ambiguous) {
        return Err(KeyError::Ambiguous);
    }
    if plain.split('/').any(|segment| segment.len() > FILE_NAME_MAX) || side_file_name(bucket, key) > FILE_NAME_MAX {
        return Err(KeyError::TooLong);
    }
    Ok(())
}

/// Length of the longest side file name that s3s-fs derives from the names:
/// `.bucket-<base64>.object-<base64>.upload-<uuid>.metadata.json`.
fn side_file_name(bucket: &str, key: &str) -> usize {
    let base64 = |text: &str| (text.len() * 4).div_ceil(3);
    ".bucket-".len() + base64(bucket) + ".object-".len() + base64(key) + ".upload-".len() + 36 + ".metadata.json".len()
}

/// Does the error say that there is nothing of that name?
pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_name_another_file_are_refused() {
        for right in ["a", "a/b/c.zip", "a/", "..a/b..", "…/é", ".hidden", "a b+c%2F"] {
            assert_eq!(check_key("demo", right), Ok(()), "{right}");
        }
        for wrong in ["", "/", "/a", "a//b", "a/./b", "..", "../x", "a/../../x", "a/..", "a//", "a\0b", "."] {
            assert_eq!(check_key("demo", wrong), Err(KeyError::Ambiguous), "{wrong}");
        }
        assert_eq!(check_key("demo", &"k".repeat(131)), Ok(()));
        assert_eq!(check_key("demo", &"k".repeat(132)), Err(KeyError::TooLong));
    }

    #[test]
    fn buckets_are_never_hidden_or_outside() {
        for right in ["demo", "my.bucket-1"] {
            assert!(bucket_fits(right), "{right}");
        }
        for wrong in ["", "ab", ".demo", "..", "a..b", "Demo", "a/b", "-ab", &"a".repeat(64)] {
            assert!(!bucket_fits(wrong), "{wrong}");
        }
    }
}
