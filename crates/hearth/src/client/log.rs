//! Reading logs: newline-delimited JSON from hearth's own endpoint for it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use api::sigv4::percent;
use serde_json::Value;

use super::{Client, ndjson::Ndjson};

/// Path of the endpoint. Its requests are signed for `lambda`.
const PATH: &str = "/hearth/v1/logs";

/// Which streams of a log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The group, such as `/aws/lambda-microvms/hello`.
    pub group: String,
    /// Beginning of the names of the streams; empty for all.
    pub prefix: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number; grows within its stream.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub time: i64,
    /// Its stream.
    pub stream: String,
    /// The text, as it came from a guest or a build: hostile.
    pub message: String,
}

/// Lines as they come. Remembers what was seen, so that opening it again brings only what is new.
#[derive(Debug, Default)]
pub struct Tail {
    seen: HashMap<String, u64>,
}

/// An open answer.
pub struct Lines<'a> {
    tail: &'a mut Tail,
    lines: Ndjson,
}

impl Tail {
    /// Asks for the lines; with `follow`, the answer goes on until the server ends it.
    pub async fn open<'a>(&'a mut self, client: &Client, source: &Source, follow: bool) -> Result<Lines<'a>> {
        let mut query = format!("group={}", percent::encode(&source.group));
        if !source.prefix.is_empty() {
            query.push_str(&format!("&stream={}", percent::encode(&source.prefix)));
        }
        if follow {
            query.push_str("&follow=true");
        }
        Ok(Lines { tail: self, lines: client.lines(PATH, &query).await? })
    }

    /// Is it new?
    fn take(&mut self, line: &Line) -> bool {
        match self.seen.get_mut(&line.stream) {
            Some(last) if *last >= line.number => false,
            Some(last) => {
                *last = line.number;
                true
            }
            None => {
                self.seen.insert(line.stream.clone(), line.number);
                true
            }
        }
    }
}

impl Lines<'_> {
    /// The next line that was not seen before; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Line>> {
        while let Some(json) = self.lines.next().await? {
            let line = read(&json)?;
            if self.tail.take(&line) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

fn read(json: &Value) -> Result<Line> {
    let word = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    Ok(Line {
        number: json["n"].as_u64().context("the server sent a log line without number")?,
        time: json["t"].as_i64().unwrap_or_default(),
        stream: word("s"),
        message: word("m"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_number() {
        let line = read(&serde_json::json!({"n": 3, "t": 5, "m": "hello", "s": "build/1.0/x"})).unwrap();
        assert_eq!(line, Line { number: 3, time: 5, stream: "build/1.0/x".into(), message: "hello".into() });
        assert!(read(&serde_json::json!({})).is_err());
    }

    #[test]
    fn nothing_is_shown_twice() {
        let line = |number, stream: &str| Line { number, time: 0, stream: stream.into(), message: String::new() };
        let mut tail = Tail::default();
        let taken = [line(1, "a"), line(2, "a"), line(2, "a"), line(1, "a"), line(1, "b"), line(3, "a")];
        assert_eq!(taken.each_ref().map(|line| tail.take(line)), [true, true, false, false, true, true]);
    }
}
