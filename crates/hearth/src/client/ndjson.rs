//! Answers of hearth's own endpoints that come line by line: newline-delimited JSON.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Answer, Client, Connection, Signed};

/// Longest line of an answer, bytes; the server's lines are far shorter.
const MAX_LINE: usize = 4 << 20;

/// An open answer.
pub struct Ndjson {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    _answer: Connection,
}

impl Client {
    /// Asks `path` (signed for `lambda`) with that percent-encoded query for lines.
    pub async fn lines(&self, path: &str, query: &str) -> Result<Ndjson> {
        let signed = Signed { service: "lambda", method: "GET", path, query };
        let answer = self.send(signed, Bytes::new()).await?;
        if !answer.response.status().is_success() {
            answer.success().await?;
            bail!("the server gave no lines");
        }
        let Answer { response, connection } = answer;
        Ok(Ndjson { body: response.into_body(), buffer: BytesMut::new(), ended: false, _answer: connection })
    }
}

impl Ndjson {
    /// The next line; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            while let Some(text) = self.split()? {
                if let Some(line) = parse(&text)? {
                    return Ok(Some(line));
                }
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await.transpose().context("the answer broke off")? {
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
fn parse(text: &[u8]) -> Result<Option<Value>> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(text).context("the server sent a line that is no JSON").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_keep_alives() {
        assert_eq!(parse(b"{\"n\":3}\n").unwrap(), Some(serde_json::json!({"n": 3})));
        assert_eq!(parse(b" \n").unwrap(), None);
        assert!(parse(b"{").is_err());
    }
}
