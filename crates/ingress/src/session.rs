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

use std::time::Duration;

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
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WebSocketError, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use wire::session::{Deframer, Output, WINDOW_BYTES, frame};

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
    tracing::debug!(%error, "no session");
    match error {
        SessionError::Connect(error) => error.into(),
        SessionError::TooOld => Refusal::AgentTooOld,
        SessionError::Failed(_) => Refusal::BadGateway,
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

/// From the client to the guest.
async fn up(
    mut client: SplitStream<&mut Client>,
    mut guest: WriteHalf<Box<dyn Stream>>,
    dialect: Dialect,
    credit: &watch::Sender<usize>,
) -> End {
    loop {
        let message = match client.next().await {
            Some(Ok(message)) => message,
            Some(Err(WebSocketError::Capacity(_))) => return End::new(CloseCode::Size, "message too long"),
            Some(Err(_)) | None => return End::new(CloseCode::Normal, ""),
        };
        let message = match dialect.up(&message) {
            Up::Messages(messages) => messages,
            Up::Nothing => continue,
            Up::Wrong(reason) => return End::new(CloseCode::Policy, reason),
        };
        for message in message {
            let needed = dialect.cost(&message);
            let mut room = credit.subscribe();
            if room.wait_for(|credit| *credit >= needed).await.is_err() {
                return End::new(CloseCode::Away, "");
            }
            credit.send_modify(|credit| *credit -= needed);
            let sent = async {
                guest.write_all(&frame(&message)).await?;
                guest.flush().await
            };
            if sent.await.is_err() {
                return GONE;
            }
        }
    }
}

/// The guest, or the way to it, ended before the program did: suspended, terminated.
const GONE: End = End::new(CloseCode::Away, "the microVM does not run any more");

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
                Output::Failed(_) => return End::new(CloseCode::Error, "no session"),
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
