//! The agent's own words: one bounded line each into the kernel log, whence the console has them.
//!
//! Never a secret: environment values, payloads and entropy are not logged by any caller.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    sync::OnceLock,
};

/// Bytes of one line, below the kernel's own bound for a record (about 1 KiB).
const MAX_BYTES: usize = 800;

static SINK: OnceLock<File> = OnceLock::new();

/// Opens the kernel log (or else the console). Called once `/dev` is there; lines before that go to standard error.
pub fn open() {
    // Without this the kernel lets ten lines in five seconds through and drops the rest.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on");
    let opened = ["/dev/kmsg", "/dev/console"].iter().find_map(|path| OpenOptions::new().write(true).open(path).ok());
    if let Some(file) = opened {
        let _ = SINK.set(file);
    }
}

/// A state changed.
pub fn info(message: fmt::Arguments<'_>) {
    write(6, message);
}

/// Odd, but handled.
pub fn warn(message: fmt::Arguments<'_>) {
    write(4, message);
}

/// Something that was asked for did not happen. Also shown on the console of a kernel booted with `loglevel=3`.
pub fn error(message: fmt::Arguments<'_>) {
    write(2, message);
}

fn write(level: u8, message: fmt::Arguments<'_>) {
    let line = line(level, &message.to_string());
    // A log that cannot be written must not stop what it tells about.
    let _ = match SINK.get() {
        Some(mut sink) => sink.write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

/// One record: priority, name, the message without control characters, cut at [`MAX_BYTES`].
fn line(level: u8, message: &str) -> String {
    let mut line = format!("<{level}>hearth-guest: ");
    for character in message.chars() {
        if line.len() + character.len_utf8() >= MAX_BYTES {
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_bounded_line() {
        let line = line(3, &format!("a\nb\x1b{}", "é".repeat(2000)));
        assert!(line.len() <= MAX_BYTES + 1);
        assert!(line.starts_with("<3>hearth-guest: a b "));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
