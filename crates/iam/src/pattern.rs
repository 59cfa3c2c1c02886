//! Patterns with `*` (any text, also none) and `?` (any one character).
//!
//! In a resource, AWS keeps wildcards inside the segment of the ARN that they stand in, but for a `*` at the segment's end,
//! which goes on past the colon. The sixth segment is all that follows the fifth colon.

/// One step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// One character; `colons`: also a colon.
    One {
        colons: bool,
    },
    /// Any number of characters.
    Many {
        colons: bool,
    },
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// Compare letters of A-Z without their case.
    caseless: bool,
}

/// Colons of an ARN before its last segment.
const ARN_COLONS: usize = 5;

impl Pattern {
    /// A pattern of actions: letters of either case are the same, wildcards stop at nothing.
    pub fn action(text: &str) -> Self {
        let tokens = text.chars().map(|c| token(c.to_ascii_lowercase(), true)).collect();
        Pattern { tokens: merged(tokens), caseless: true }
    }

    /// A pattern of resources.
    pub fn resource(text: &str) -> Self {
        let mut colons = 0;
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            colons += usize::from(c == ':');
            let ends_segment = matches!(characters.peek(), None | Some(':'));
            tokens.push(token(c, colons >= ARN_COLONS || (c == '*' && ends_segment)));
        }
        Pattern { tokens: merged(tokens), caseless: false }
    }

    /// Does all of the text fit? Takes time of the order of its length for common patterns, and at most the product of both
    /// lengths: every place of the pattern that the text so far can lead to is followed at once.
    pub fn matches(&self, text: &str) -> bool {
        let mut places = Places::new(self.tokens.len() + 1);
        let mut next = Places::new(self.tokens.len() + 1);
        self.reach(&mut places, 0);
        for c in text.chars() {
            let c = if self.caseless { c.to_ascii_lowercase() } else { c };
            for &place in &places.list {
                match self.tokens.get(place) {
                    Some(Token::Literal(wanted)) if *wanted == c => self.reach(&mut next, place + 1),
                    Some(Token::One { colons }) if *colons || c != ':' => self.reach(&mut next, place + 1),
                    Some(Token::Many { colons }) if *colons || c != ':' => self.reach(&mut next, place),
                    _ => {}
                }
            }
            std::mem::swap(&mut places, &mut next);
            next.clear();
            if places.list.is_empty() {
                return false;
            }
        }
        places.seen[self.tokens.len()]
    }

    /// Adds a place, and those behind it that are reached without a character.
    fn reach(&self, places: &mut Places, mut place: usize) {
        while places.add(place) && matches!(self.tokens.get(place), Some(Token::Many { .. })) {
            place += 1;
        }
    }
}

fn token(c: char, colons: bool) -> Token {
    match c {
        '*' => Token::Many { colons },
        '?' => Token::One { colons },
        c => Token::Literal(c),
    }
}

/// Runs of `*` say no more than the widest of them.
fn merged(mut tokens: Vec<Token>) -> Vec<Token> {
    tokens.dedup_by(|next, kept| match (&*next, &mut *kept) {
        (Token::Many { colons }, Token::Many { colons: before }) => {
            *before |= *colons;
            true
        }
        _ => false,
    });
    tokens
}

/// A set of places in order of arrival.
struct Places {
    list: Vec<usize>,
    seen: Vec<bool>,
}

impl Places {
    fn new(size: usize) -> Self {
        Places { list: Vec::new(), seen: vec![false; size] }
    }

    /// Was it new?
    fn add(&mut self, place: usize) -> bool {
        if self.seen[place] {
            return false;
        }
        self.seen[place] = true;
        self.list.push(place);
        true
    }

    fn clear(&mut self) {
        for place in self.list.drain(..) {
            self.seen[place] = false;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";

    #[test]
    fn actions() {
        for (pattern, action, fits) in [
            ("*", "lambda:RunMicrovm", true),
            ("lambda:*", "lambda:RunMicrovm", true),
            ("lambda:*", "iam:PassRole", false),
            ("LAMBDA:runmicrovm", "lambda:RunMicrovm", true),
            ("lambda:Run", "lambda:RunMicrovm", false),
            ("lambda:*Microvm", "lambda:RunMicrovm", true),
            ("lambda:*Microvm", "lambda:ListMicrovms", false),
            ("lambda:?unMicrovm", "lambda:RunMicrovm", true),
            ("lambda:??unMicrovm", "lambda:RunMicrovm", false),
            ("lambda:RunMicrovm*", "lambda:RunMicrovm", true),
            ("lambda:RunMicrovm?", "lambda:RunMicrovm", false),
            ("*:*", "lambda:RunMicrovm", true),
        ] {
            assert_eq!(Pattern::action(pattern).matches(action), fits, "{pattern} {action}");
        }
    }

    #[test]
    fn resources() {
        for (pattern, resource, fits) in [
            ("*", IMAGE, true),
            (IMAGE, IMAGE, true),
            (IMAGE, "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo2", false),
            (IMAGE, "arn:aws:lambda:us-east-1:111122223333:microvm-image:Demo", false),
            ("arn:aws:lambda:us-east-1:111122223333:microvm-image:*", IMAGE, true),
            ("arn:aws:lambda:us-east-1:111122223333:microvm-image:d?mo", IMAGE, true),
            ("arn:aws:lambda:us-east-1:444455556666:microvm-image:*", IMAGE, false),
            // A `*` at the end of a segment goes on past the colon, as AWS documents.
            ("arn:aws:lambda:*", IMAGE, true),
            ("arn:aws:lambda:*:microvm-image:demo", IMAGE, true),
            ("arn:*:demo", IMAGE, true),
            ("arn:aws:lambda:us-east-1:*:microvm-image:demo", IMAGE, true),
            // Within one it does not.
            ("arn:aws:lambda:us-*-1:111122223333:microvm-image:demo", IMAGE, true),
            ("arn:aws:lambda:us-*3:microvm-image:demo", IMAGE, false),
            ("arn:aws:lambda:us-east-1?111122223333:microvm-image:demo", IMAGE, false),
            // The last segment holds colons of its own.
            ("arn:aws:lambda:us-east-1:111122223333:*demo", IMAGE, true),
            ("arn:aws:lambda:us-east-1:111122223333:m*e?demo", IMAGE, true),
            ("arn:aws:lambda:us-east-1:111122223333:*", IMAGE, true),
            ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b:c", true),
            ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket", false),
            // A request for `*` is met by `*` alone.
            ("*", "*", true),
            ("arn:aws:lambda:us-east-1:111122223333:microvm-image:*", "*", false),
        ] {
            assert_eq!(Pattern::resource(pattern).matches(resource), fits, "{pattern} {resource}");
        }
    }

    #[test]
    fn many_wildcards_are_no_work() {
        let pattern = Pattern::resource(&format!("{}b", "*a".repeat(1000)));
        let start = std::time::Instant::now();
        assert!(!pattern.matches(&"a".repeat(2048)));
        assert!(Pattern::resource(&"*".repeat(6000)).matches(IMAGE));
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    }

    /// The definition, without care for time.
    fn plain(tokens: &[Token], text: &[char]) -> bool {
        match (tokens.first(), text.first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(Token::Many { colons }), first) => {
                plain(&tokens[1..], text) || first.is_some_and(|c| (*colons || *c != ':') && plain(tokens, &text[1..]))
            }
            (Some(Token::One { colons }), Some(c)) => (*colons || *c != ':') && plain(&tokens[1..], &text[1..]),
            (Some(Token::Literal(wanted)), Some(c)) => wanted == c && plain(&tokens[1..], &text[1..]),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn as_defined(pattern in "[ab:*?]{0,12}", text in "[ab:]{0,12}") {
            let compiled = Pattern::resource(&pattern);
            let characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(compiled.matches(&text), plain(&compiled.tokens, &characters));
        }

        #[test]
        fn a_text_without_wildcards_fits_itself_alone(text in "[a-z:/]{0,20}", other in "[a-z:/]{0,20}") {
            prop_assert!(Pattern::resource(&text).matches(&text));
            prop_assert_eq!(Pattern::resource(&text).matches(&other), text == other);
        }
    }
}
