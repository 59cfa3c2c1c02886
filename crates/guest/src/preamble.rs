//! Finds the start of a connection in a byte stream that may begin with the remains of an earlier one.

use wire::{NONCE_BYTES, PREAMBLE};

/// Takes bytes until `PREAMBLE ++ nonce` has passed.
#[derive(Default)]
pub struct Scanner {
    window: Vec<u8>,
}

impl Scanner {
    /// Takes one byte; returns the nonce when this was its last byte.
    ///
    /// The window holds the last `PREAMBLE.len() + NONCE_BYTES` bytes at most, so rubbish of any length costs nothing.
    pub fn push(&mut self, byte: u8) -> Option<[u8; NONCE_BYTES]> {
        const WHOLE: usize = PREAMBLE.len() + NONCE_BYTES;
        if self.window.len() == WHOLE {
            self.window.remove(0);
        }
        self.window.push(byte);
        if self.window.len() < WHOLE || !self.window.starts_with(PREAMBLE) {
            return None;
        }
        self.window[PREAMBLE.len()..].try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Option<([u8; NONCE_BYTES], usize)> {
        let mut scanner = Scanner::default();
        bytes.iter().enumerate().find_map(|(at, &byte)| scanner.push(byte).map(|nonce| (nonce, at + 1)))
    }

    #[test]
    fn a_clean_start_is_found_and_nothing_after_it_is_taken() {
        let bytes = [&PREAMBLE[..], &[7; NONCE_BYTES], b"after"].concat();
        assert_eq!(scan(&bytes), Some(([7; NONCE_BYTES], bytes.len() - 5)));
    }

    #[test]
    fn rubbish_and_half_a_preamble_before_it_are_discarded() {
        let bytes = [&[0; 1000][..], &PREAMBLE[..9], PREAMBLE, &[9; NONCE_BYTES]].concat();
        assert_eq!(scan(&bytes), Some(([9; NONCE_BYTES], bytes.len())));
    }

    #[test]
    fn an_unfinished_start_is_not_one() {
        assert_eq!(scan(&[&PREAMBLE[..], &[1; NONCE_BYTES - 1]].concat()), None);
        assert_eq!(scan(b""), None);
    }
}
