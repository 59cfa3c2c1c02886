//! QEMU's monitor protocol: one JSON object a line, commands with ids, events in between.

use std::{
    collections::HashMap,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{
        broadcast::{self, error::RecvError},
        oneshot,
    },
    task::AbortHandle,
};

use crate::EngineError;

/// No answer of the monitor takes longer, short of a wedged host.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Events that one who follows may be behind.
const MAX_EVENTS: usize = 64;

/// One negotiated connection to a monitor. A task of its own reads it, so that events are seen when they happen.
pub struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    calls: Arc<Calls>,
    events: broadcast::WeakSender<Value>,
    next_id: AtomicU64,
    reader: AbortHandle,
}

/// Who waits for an answer, by the id of the command; `None` once the monitor is gone.
struct Calls(Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>);

impl Calls {
    fn open(&self, id: u64) -> Option<oneshot::Receiver<Value>> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.insert(id, sender);
        Some(receiver)
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&id)
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Qmp {
    /// Waits for the monitor's greeting and leaves its negotiation mode.
    pub async fn negotiate(stream: StdUnixStream) -> Result<Self, EngineError> {
        let refused = |e: std::io::Error| EngineError::Monitor { what: "connect", message: e.to_string() };
        stream.set_nonblocking(true).map_err(refused)?;
        let (reader, writer) = UnixStream::from_std(stream).map_err(refused)?.into_split();
        let mut lines = BufReader::new(reader).lines();
        let greeting = tokio::time::timeout(COMMAND_TIMEOUT, lines.next_line()).await;
        let greeting = greeting
            .map_err(|_| EngineError::Timeout { what: "greeting", seconds: COMMAND_TIMEOUT.as_secs() })?
            .map_err(|e| EngineError::Gone(format!("greeting: {e}")))?
            .ok_or_else(|| EngineError::Gone("the monitor closed before its greeting".into()))?;
        if serde_json::from_str::<Value>(&greeting).ok().and_then(|greeting| greeting.get("QMP").cloned()).is_none() {
            return Err(EngineError::Monitor { what: "greeting", message: "not a QEMU monitor".into() });
        }
        let calls = Arc::new(Calls(Mutex::new(Some(HashMap::new()))));
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let (told, events) = (events.downgrade(), events);
        let reader = tokio::spawn(read(lines, calls.clone(), events)).abort_handle();
        let qmp =
            Qmp { events: told, writer: tokio::sync::Mutex::new(writer), calls, next_id: AtomicU64::new(1), reader };
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Events from now on, until the monitor ends.
    pub fn events(&self) -> broadcast::Receiver<Value> {
        self.events.upgrade().map_or_else(|| broadcast::channel(1).1, |events| events.subscribe())
    }

    /// Runs one command; its return value, or the monitor's refusal. Safe to abandon: a late answer is skipped by its id.
    pub async fn execute(&self, what: &'static str, arguments: Value) -> Result<Value, EngineError> {
        let gone = || EngineError::Gone(format!("the monitor closed during {what}"));
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut command = json!({ "execute": what, "id": id });
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        let mut text = command.to_string();
        text.push('\n');
        let answer = self.calls.open(id).ok_or_else(gone)?;
        let written = self.writer.lock().await.write_all(text.as_bytes()).await;
        written.map_err(|e| EngineError::Gone(format!("{what}: {e}")))?;
        let answer = match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => {
                drop(self.calls.take(id));
                return Err(EngineError::Timeout { what, seconds: COMMAND_TIMEOUT.as_secs() });
            }
        };
        if let Some(error) = answer.get("error") {
            let message = error["desc"].as_str().unwrap_or("refused").to_owned();
            return Err(EngineError::Monitor { what, message });
        }
        Ok(answer["return"].clone())
    }

    /// Runs a command that starts a migration and waits until it has ended well.
    pub async fn migrate(&self, what: &'static str, arguments: Value) -> Result<(), EngineError> {
        let mut events = self.events();
        self.execute(what, arguments).await?;
        loop {
            let event = match tokio::time::timeout(COMMAND_TIMEOUT, events.recv()).await {
                Err(_) => return Err(EngineError::Timeout { what, seconds: COMMAND_TIMEOUT.as_secs() }),
                Ok(Err(RecvError::Closed)) => {
                    return Err(EngineError::Gone(format!("the monitor closed during {what}")));
                }
                Ok(Err(RecvError::Lagged(_))) => continue,
                Ok(Ok(event)) => event,
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
}

/// Hands out what the monitor says, until it says no more. The end is told by the monitor's callers being let go.
async fn read(mut lines: Lines<BufReader<OwnedReadHalf>>, calls: Arc<Calls>, events: broadcast::Sender<Value>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            tracing::warn!("the monitor said something that is not JSON");
            continue;
        };
        if said.get("event").is_some() {
            // Nobody follows: nobody misses it.
            let _ = events.send(said);
        } else if let Some(caller) = said["id"].as_u64().and_then(|id| calls.take(id)) {
            let _ = caller.send(said);
        }
    }
    calls.close();
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
        let qmp = scripted(vec![
            "{\"return\":{},\"id\":1}\n",
            "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}\n{\"return\":{},\"id\":2}\n{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}\n",
        ])
        .await
        .expect("negotiates");
        qmp.migrate("migrate", Value::Null).await.expect("completed");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_monitors_words() {
        let qmp = scripted(vec![
            "{\"return\":{},\"id\":1}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"},\"id\":2}\n",
        ])
        .await
        .expect("negotiates");
        let error = qmp.execute("stop", Value::Null).await.expect_err("refused");
        assert_eq!(error.to_string(), "stop: no such thing");
    }

    #[tokio::test]
    async fn events_are_told_when_they_happen_and_the_end_ends_every_call() {
        let (ours, theirs) = StdUnixStream::pair().expect("pair");
        theirs.set_nonblocking(true).expect("nonblocking");
        let mut theirs = UnixStream::from_std(theirs).expect("tokio");
        theirs.write_all(b"{\"QMP\":{}}\n{\"return\":{},\"id\":1}\n").await.expect("greeting");
        let qmp = Qmp::negotiate(ours).await.expect("negotiates");
        let mut events = qmp.events();
        theirs.write_all(b"{\"event\":\"STOP\"}\n").await.expect("event");
        assert_eq!(events.recv().await.expect("event")["event"], "STOP");
        let (outcome, ()) = tokio::join!(qmp.execute("cont", Value::Null), async { drop(theirs) });
        assert!(matches!(outcome, Err(EngineError::Gone(_))), "{outcome:?}");
        assert!(matches!(events.recv().await, Err(RecvError::Closed)));
        assert!(matches!(qmp.events().recv().await, Err(RecvError::Closed)));
        assert!(matches!(qmp.execute("cont", Value::Null).await, Err(EngineError::Gone(_))));
    }
}
