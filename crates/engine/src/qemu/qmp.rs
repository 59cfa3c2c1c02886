//! QEMU's monitor protocol: one JSON object a line, commands with ids, events in between.

use std::{collections::VecDeque, os::unix::net::UnixStream as StdUnixStream, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::EngineError;

/// No answer of the monitor takes longer, short of a wedged host.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Events kept for a later [`Qmp::migration`]; older ones are dropped.
const MAX_EVENTS: usize = 64;

/// One negotiated connection to a monitor.
pub struct Qmp {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    events: VecDeque<Value>,
    next_id: u64,
}

impl Qmp {
    /// Waits for the monitor's greeting and leaves its negotiation mode.
    pub async fn negotiate(stream: StdUnixStream) -> Result<Self, EngineError> {
        let refused = |e: std::io::Error| EngineError::Monitor { what: "connect", message: e.to_string() };
        stream.set_nonblocking(true).map_err(refused)?;
        let (reader, writer) = UnixStream::from_std(stream).map_err(refused)?.into_split();
        let lines = BufReader::new(reader).lines();
        let mut qmp = Qmp { lines, writer, events: VecDeque::new(), next_id: 0 };
        let greeting = qmp.line("greeting").await?;
        if greeting.get("QMP").is_none() {
            return Err(EngineError::Monitor { what: "greeting", message: "not a QEMU monitor".into() });
        }
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Runs one command; its return value, or the monitor's refusal. Safe to abandon: a late answer is skipped by its id.
    pub async fn execute(&mut self, what: &'static str, arguments: Value) -> Result<Value, EngineError> {
        self.next_id += 1;
        let id = self.next_id;
        let mut command = json!({ "execute": what, "id": id });
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        let mut text = command.to_string();
        text.push('\n');
        self.writer.write_all(text.as_bytes()).await.map_err(|e| EngineError::Gone(format!("{what}: {e}")))?;
        loop {
            let answer = self.line(what).await?;
            if answer.get("event").is_some() {
                self.remember(answer);
            } else if answer["id"].as_u64() == Some(id) {
                if let Some(error) = answer.get("error") {
                    let message = error["desc"].as_str().unwrap_or("refused").to_owned();
                    return Err(EngineError::Monitor { what, message });
                }
                return Ok(answer["return"].clone());
            }
        }
    }

    /// Waits until the migration that was just started has ended well.
    pub async fn migration(&mut self, what: &'static str) -> Result<(), EngineError> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.line(what).await?,
            };
            if event["event"] != "MIGRATION" {
                continue;
            }
            match event["data"]["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let status = self.execute("query-migrate", Value::Null).await?;
                    let message = status["error-desc"].as_str().unwrap_or("failed").to_owned();
                    return Err(EngineError::Monitor { what, message });
                }
                _ => {}
            }
        }
    }

    fn remember(&mut self, event: Value) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    async fn line(&mut self, what: &'static str) -> Result<Value, EngineError> {
        let line = tokio::time::timeout(COMMAND_TIMEOUT, self.lines.next_line())
            .await
            .map_err(|_| EngineError::Timeout { what, seconds: COMMAND_TIMEOUT.as_secs() })?
            .map_err(|e| EngineError::Gone(format!("{what}: {e}")))?
            .ok_or_else(|| EngineError::Gone(format!("the monitor closed during {what}")))?;
        serde_json::from_str(&line).map_err(|e| EngineError::Monitor { what, message: format!("not JSON: {e}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// A monitor that answers each command with the next scripted lines.
    async fn scripted(script: Vec<&'static str>) -> Result<Qmp, EngineError> {
        let (ours, theirs) = StdUnixStream::pair().expect("pair");
        theirs.set_nonblocking(true).expect("nonblocking");
        let mut theirs = UnixStream::from_std(theirs).expect("tokio");
        tokio::spawn(async move {
            theirs.write_all(b"{\"QMP\":{}}\n").await.expect("greeting");
            let mut buffer = [0; 4096];
            for lines in script {
                let _ = theirs.read(&mut buffer).await.expect("command");
                theirs.write_all(lines.as_bytes()).await.expect("answer");
            }
            std::future::pending::<()>().await
        });
        Qmp::negotiate(ours).await
    }

    #[tokio::test]
    async fn events_between_command_and_answer_are_kept() {
        let mut qmp = scripted(vec![
            "{\"return\":{},\"id\":1}\n",
            "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}\n{\"return\":{},\"id\":2}\n{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}\n",
        ])
        .await
        .expect("negotiates");
        qmp.execute("migrate", Value::Null).await.expect("accepted");
        qmp.migration("migrate").await.expect("completed");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_monitors_words() {
        let mut qmp = scripted(vec![
            "{\"return\":{},\"id\":1}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"},\"id\":2}\n",
        ])
        .await
        .expect("negotiates");
        let error = qmp.execute("stop", Value::Null).await.expect_err("refused");
        assert_eq!(error.to_string(), "stop: no such thing");
    }
}
