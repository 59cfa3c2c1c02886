//! What a shell token opens (spec 8): the shell, as AWS has it, and hearth's own path for programs, which AWS does not have.
//!
//! Both are WebSockets that end here, unlike the applications': their messages become those of [`wire::session`] towards the
//! guest, and the other way round. Who asks for a shell is answered when it runs; a program is named by the first message.
//!
//! ```text
//! client ──up──▶ guest      keystrokes on credit, sizes; or messages as they are, checked
//! client ◀─down─ guest      what the terminal shows, the end; or messages as they are, checked
//! ```

mod dialect;
mod places;
mod start;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::upgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WebSocketError, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use wire::session::{Deframer, MAX_MESSAGE_BYTES, Output, WINDOW_BYTES, frame};

use self::dialect::{Dialect, Down, Up};
pub(crate) use self::places::Places;
use crate::{
    SessionError, Stream,
    answers::{Body, Refusal, empty},
    inbound::Inbound,
    record::{Metered, Way},
    request::{Exchange, Proxy},
    websocket::MARKER,
};

/// Where AWS's shell is; the root means the same.
const SHELL_PATHS: [&str; 2] = ["/shell", "/"];
/// Where hearth's programs are.
const EXEC_PATH: &str = "/.hearth/exec";
/// The port that AWS names for its shell: for the log, nothing is dialed.
pub(crate) const SHELL_PORT: u16 = 8022;
/// The longest message of a client (256 KiB): the first one of a program, or what is pasted into a shell.
const MAX_CLIENT_MESSAGE_BYTES: usize = 256 << 10;
/// How long a client may take to name its program.
const START_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to confirm the end.
const LINGER: Duration = Duration::from_secs(5);
/// Keystrokes that wait here while the shell takes none (512 KiB); the client itself waits with more.
const MAX_WAITING_BYTES: usize = 512 << 10;
/// How long a client may be kept waiting so: it is not listened to meanwhile, and may have left.
const TAKEN_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Bytes read from the guest at a time.
const READ_BYTES: usize = 32 << 10;

type Client = WebSocketStream<Metered<TokioIo<upgrade::Upgraded>>>;

/// What is asked for, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shell,
    Exec,
}

impl Kind {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            EXEC_PATH => Some(Kind::Exec),
            shell if SHELL_PATHS.contains(&shell) => Some(Kind::Shell),
            _ => None,
        }
    }
}

/// How a session came to its end, as the client is told.
struct End {
    code: CloseCode,
    reason: &'static str,
}

impl End {
    const fn new(code: CloseCode, reason: &'static str) -> Self {
        End { code, reason }
    }
}

/// Answers the client's upgrade, and leaves a task that serves the session.
pub(crate) async fn serve(
    proxy: &Proxy,
    exchange: &Exchange,
    microvm: &str,
    kind: Kind,
    mut request: Request<Inbound>,
) -> Result<Response<Body>, Refusal> {
    let accepted = accepted(exchange, &request)?;
    let place = proxy.places.take(microvm).ok_or(Refusal::TooManySessions)?;
    let upgrading = upgrade::on(&mut request);
    let shell = match kind {
        Kind::Shell => Some(proxy.backend.session(microvm, start::shell()).await.map_err(refusal)?),
        Kind::Exec => None,
    };
    let (backend, microvm) = (proxy.backend.clone(), microvm.to_owned());
    let (meter, in_flight, abort) = (exchange.meter.clone(), exchange.in_flight.clone(), proxy.abort.clone());
    let admission = exchange.admission;
    exchange.tasks.spawn(async move {
        let served = async {
            let upgraded = upgrading.await.map_err(std::io::Error::other)?;
            let stream = Metered::new(TokioIo::new(upgraded), meter.clone(), Way::Received);
            let mut client = Client::from_raw_socket(stream, Role::Server, Some(config())).await;
            let end = match shell {
                Some(guest) => {
                    client.send(Message::text(dialect::session_init())).await?;
                    talk(&mut client, guest, Dialect::Shell).await
                }
                None => match start::program(&mut client).await {
                    Ok(session) => match backend.session(&microvm, session).await {
                        Ok(guest) => talk(&mut client, guest, Dialect::Exec).await,
                        Err(error) => failed(&mut client, &error.to_string()).await?,
                    },
                    Err(text) => failed(&mut client, &text).await?,
                },
            };
            close(client, end).await
        };
        tokio::select! {
            outcome = served => if let Err(error) = outcome { tracing::debug!(%error, "session") },
            () = meter.withdrawn(admission) => {}
            () = abort.cancelled() => {}
        }
        drop((in_flight, place));
    });
    Ok(accepted)
}

/// Why there is no shell, before the client's upgrade is answered.
fn refusal(error: SessionError) -> Refusal {
    tracing::info!(%error, "no shell");
    match error {
        SessionError::Connect(error) => error.into(),
        SessionError::TooOld => Refusal::AgentTooOld,
        SessionError::Failed(_) => Refusal::ShellFailed,
    }
}

/// The answer that completes the client's upgrade.
fn accepted(exchange: &Exchange, request: &Request<Inbound>) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(empty());
    let version = request.headers().get(SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(Refusal::Unsupported);
    }
    if request.version() != Version::HTTP_2 {
        let key = request.headers().get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Unsupported)?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Unsupported)?;
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    if exchange.marker {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MARKER));
    }
    Ok(response)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_CLIENT_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_CLIENT_MESSAGE_BYTES))
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
}

/// Tells why there is no program.
async fn failed(client: &mut Client, text: &str) -> Result<End, WebSocketError> {
    client.send(Message::binary(Output::Failed(text).write())).await?;
    Ok(End::new(CloseCode::Error, "no session"))
}

/// Moves messages both ways until one side has left or the program is over.
async fn talk(client: &mut Client, guest: Box<dyn Stream>, dialect: Dialect) -> End {
    let (to_client, from_client) = client.split();
    let (from_guest, to_guest) = tokio::io::split(guest);
    let credit = watch::Sender::new(WINDOW_BYTES);
    tokio::select! {
        end = up(from_client, to_guest, dialect, &credit) => end,
        end = down(from_guest, to_client, dialect, &credit) => end,
    }
}

/// From the client to the guest. What needs no credit does not wait behind what does.
async fn up(
    mut client: SplitStream<&mut Client>,
    mut guest: WriteHalf<Box<dyn Stream>>,
    dialect: Dialect,
    credit: &watch::Sender<usize>,
) -> End {
    let mut waiting = Waiting::default();
    let mut room = credit.subscribe();
    loop {
        let needed = waiting.next_cost(dialect);
        let free = tokio::select! {
            found = room.wait_for(|credit| *credit >= needed), if needed > 0 => match found {
                Ok(_) => vec![],
                Err(_) => return GONE,
            },
            message = client.next(), if !waiting.full() => match heard(message, dialect) {
                Ok(messages) => waiting.put(messages, dialect),
                Err(end) => return end,
            },
            () = sleep_until(waiting.since + TAKEN_WITHIN), if waiting.full() => return NOT_TAKEN,
        };
        let mut messages = waiting.within(*credit.borrow(), dialect);
        credit.send_modify(|credit| *credit -= messages.iter().map(|message| dialect.cost(message)).sum::<usize>());
        messages.extend(free);
        for message in messages {
            let sent = async {
                guest.write_all(&frame(&message)).await?;
                guest.flush().await
            };
            match timeout(TAKEN_WITHIN, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return GONE,
                Err(_) => return NOT_TAKEN,
            }
        }
    }
}

/// The messages for the guest in what the client said, or why that was the last.
fn heard(message: Option<Result<Message, WebSocketError>>, dialect: Dialect) -> Result<Vec<Vec<u8>>, End> {
    let message = match message {
        Some(Ok(message)) => message,
        Some(Err(WebSocketError::Capacity(_))) => return Err(End::new(CloseCode::Size, "message too long")),
        Some(Err(_)) | None => return Err(End::new(CloseCode::Normal, "")),
    };
    match dialect.up(&message) {
        Up::Messages(messages) => Ok(messages),
        Up::Nothing => Ok(vec![]),
        Up::Wrong(reason) => Err(End::new(CloseCode::Policy, reason)),
    }
}

/// Keystrokes that wait for credit, in their order.
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// When the last of them was sent, or the first came.
    since: Instant,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { messages: VecDeque::new(), bytes: 0, since: Instant::now() }
    }
}

impl Waiting {
    fn full(&self) -> bool {
        self.bytes >= MAX_WAITING_BYTES
    }

    /// Takes what needs credit; gives back the rest.
    fn put(&mut self, messages: Vec<Vec<u8>>, dialect: Dialect) -> Vec<Vec<u8>> {
        if self.messages.is_empty() {
            self.since = Instant::now();
        }
        let (costly, free): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| dialect.cost(message) > 0);
        for message in costly {
            self.bytes += dialect.cost(&message);
            match self.messages.back_mut() {
                // Single keys become one message: they cost no more than their bytes.
                Some(last) if last.len() + message.len() <= MAX_MESSAGE_BYTES => last.extend_from_slice(&message[1..]),
                _ => self.messages.push_back(message),
            }
        }
        free
    }

    /// What the next of them costs; 0: there is none.
    fn next_cost(&self, dialect: Dialect) -> usize {
        self.messages.front().map_or(0, |message| dialect.cost(message))
    }

    /// Those that may be sent on so much credit.
    fn within(&mut self, mut credit: usize, dialect: Dialect) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(message) = self.messages.pop_front_if(|message| dialect.cost(message) <= credit) {
            credit -= dialect.cost(&message);
            self.bytes -= dialect.cost(&message);
            self.since = Instant::now();
            sent.push(message);
        }
        sent
    }
}

/// The guest, or the way to it, ended before the program did: suspended, terminated.
const GONE: End = End::new(CloseCode::Away, "the microVM does not run any more");
const NOT_TAKEN: End = End::new(CloseCode::Policy, "input is not taken");

/// From the guest to the client.
async fn down(
    mut guest: ReadHalf<Box<dyn Stream>>,
    mut client: SplitSink<&mut Client, Message>,
    dialect: Dialect,
    credit: &watch::Sender<usize>,
) -> End {
    let (mut deframer, mut bytes) = (Deframer::default(), vec![0; READ_BYTES]);
    loop {
        match guest.read(&mut bytes).await {
            Ok(0) | Err(_) => return GONE,
            Ok(count) => deframer.push(&bytes[..count]),
        }
        loop {
            let output = match deframer.take() {
                Ok(Some(message)) => Output::read(message).map(|output| (output, message)),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            let Ok((output, message)) = output else {
                return End::new(CloseCode::Error, "the guest broke the protocol");
            };
            if let Output::Taken(taken) = output {
                // Never more than was there, whatever a guest claims.
                credit.send_modify(|credit| *credit = WINDOW_BYTES.min(credit.saturating_add(taken as usize)));
            }
            match dialect.down(&output, message) {
                Down::Nothing => {}
                Down::Message(message) => {
                    if client.send(Message::Binary(Bytes::copy_from_slice(message))).await.is_err() {
                        return End::new(CloseCode::Normal, "");
                    }
                }
                Down::Wrong => return End::new(CloseCode::Error, "the guest broke the protocol"),
            }
            match output {
                Output::Exited(_) => return End::new(CloseCode::Normal, dialect.over()),
                Output::Failed(_) => return End::new(CloseCode::Error, "the session broke off"),
                _ => {}
            }
        }
    }
}

/// Says goodbye, and gives the client a moment to do so as well.
async fn close(mut client: Client, end: End) -> Result<(), WebSocketError> {
    let farewell = CloseFrame { code: end.code, reason: end.reason.into() };
    let goodbye = async {
        client.close(Some(farewell)).await?;
        while let Some(Ok(_)) = client.next().await {}
        Ok(())
    };
    timeout(LINGER, goodbye).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/shell", Some(Kind::Shell)),
            ("/", Some(Kind::Shell)),
            ("/.hearth/exec", Some(Kind::Exec)),
            ("/shell/", None),
            ("/.hearth", None),
            ("//", None),
        ] {
            assert_eq!(Kind::of(path), expected, "{path}");
        }
    }
}
