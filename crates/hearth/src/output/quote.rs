//! Quoting for POSIX shells.

/// The text as one word of a POSIX shell (XCU 2.2.2): plain when no character of it has a meaning to the shell.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_reads_back_what_was_quoted() {
        for text in ["", "plain", "/a/b c", "it's", "$HOME `id` \\ \"x\" !*?[]~#;&|<>(){}", "two\nlines", "-n", "ä"] {
            let script = format!("printf %s {}", quote(text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
        assert_eq!(quote("http://127.0.0.1:9555"), "http://127.0.0.1:9555");
    }
}
