//! Reading logs: newline-delimited JSON from hearth's own endpoint for it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use api::sigv4::percent;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Answer, Client, Signed};

/// Path of the endpoint. Its requests are signed for `lambda`.
const PATH: &str = "/hearth/v1/logs";
/// Longest line of an answer, bytes; the server's lines are far shorter.
const MAX_LINE: usize = 4 << 20;

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
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    _answer: super::Connection,
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
        let signed = Signed { service: "lambda", method: "GET", path: PATH, query: &query };
        let answer = client.send(signed, Bytes::new()).await?;
        if !answer.response.status().is_success() {
            answer.success().await?;
            bail!("the server did not give the log");
        }
        let Answer { response, connection } = answer;
        let body = response.into_body();
        Ok(Lines { tail: self, body, buffer: BytesMut::new(), ended: false, _answer: connection })
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
        loop {
            while let Some(text) = self.split()? {
                if let Some(line) = parse(&text)?.filter(|line| self.tail.take(line)) {
                    return Ok(Some(line));
                }
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await.transpose().context("the log broke off")? {
                Some(frame) => self.buffer.extend(frame.into_data().into_iter().flatten()),
                None => self.ended = true,
            }
        }
    }

    /// Takes one line out of the buffer, the last one also without its end.
    fn split(&mut self) -> Result<Option<BytesMut>> {
        match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(self.buffer.split_to(end + 1))),
            None if self.buffer.len() > MAX_LINE => bail!("the server sent a line of more than {MAX_LINE} bytes"),
            None if self.ended && !self.buffer.is_empty() => Ok(Some(self.buffer.split())),
            None => Ok(None),
        }
    }
}

/// One line of the answer; empty ones keep the connection alive.
fn parse(text: &[u8]) -> Result<Option<Line>> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let json: Value = serde_json::from_slice(text).context("the server sent a log line that is no JSON")?;
    let word = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    Ok(Some(Line {
        number: json["n"].as_u64().context("the server sent a log line without number")?,
        time: json["t"].as_i64().unwrap_or_default(),
        stream: word("s"),
        message: word("m"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_keep_alives() {
        let line = parse(br#"{"n":3,"t":5,"m":"hello","s":"build/1.0/x"}"#).unwrap().unwrap();
        assert_eq!(line, Line { number: 3, time: 5, stream: "build/1.0/x".into(), message: "hello".into() });
        assert_eq!(parse(b" \n").unwrap(), None);
        assert!(parse(b"{").is_err());
        assert!(parse(b"{}").is_err());
    }

    #[test]
    fn nothing_is_shown_twice() {
        let line = |number, stream: &str| Line { number, time: 0, stream: stream.into(), message: String::new() };
        let mut tail = Tail::default();
        let taken = [line(1, "a"), line(2, "a"), line(2, "a"), line(1, "a"), line(1, "b"), line(3, "a")];
        assert_eq!(taken.each_ref().map(|line| tail.take(line)), [true, true, false, false, true, true]);
    }
}
