//! What people and scripts get to see.

mod age;
mod quote;
mod table;
mod units;

pub use age::age;
pub use quote::quote;
pub use table::Table;
pub use units::{size, span};

/// One line of it: control characters, line ends among them, become spaces.
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Text from a guest as a terminal may show it: every control character but the tab is replaced, so that an application
/// cannot move the cursor, change colours or send keys.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_terminals_are_safe() {
        assert_eq!(one_line("a\n b\r\n\u{1b}[31mc"), "a  b [31mc");
        assert_eq!(printable("a\tb\u{1b}[31m\u{9b}c"), "a\tb\u{fffd}[31m\u{fffd}c");
    }
}
