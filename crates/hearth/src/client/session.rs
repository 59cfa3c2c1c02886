//! A session in a microVM: a WebSocket to its endpoint, for the shell (spec 8) and for programs (docs/guide/shell.md).

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WebSocketError, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Call, Connection, Endpoint};
use crate::output::{one_line, printable};

/// The longest message that a server sends, with room.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// What is read of an answer that is no session.
const MAX_ANSWER_BYTES: usize = 4096;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// An open session.
pub struct Session {
    socket: Socket,
    _connection: Connection,
}

/// The way to the server.
pub struct Mouth<'a>(SplitSink<&'a mut Socket, Message>);

/// The way from the server.
pub struct Ear<'a>(SplitStream<&'a mut Socket>);

/// What comes from a session.
pub enum Heard {
    /// A binary message.
    Bytes(Bytes),
    /// A text message; none of them says anything that is of use here.
    Text,
    /// It was closed, with a reason; empty when the connection just ended.
    Closed(String),
}

impl Session {
    /// Opens one, on a connection of its own.
    ///
    /// # Errors
    /// When the server does not open it; the message says what it answered.
    pub async fn open(endpoint: &Endpoint, path: &str) -> Result<Self> {
        let key = generate_key();
        let header =
            |name, value: &str| Ok::<_, anyhow::Error>((HeaderName::from_static(name), value.parse::<HeaderValue>()?));
        let headers = vec![
            header("connection", "Upgrade")?,
            header("upgrade", "websocket")?,
            header("sec-websocket-version", "13")?,
            header("sec-websocket-key", &key)?,
        ];
        let call = Call { method: Method::GET, target: path.to_owned(), headers, body: Bytes::new() };
        let (response, connection) = endpoint.send(&call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, body) = response.into_parts();
            let code = head.headers.get("x-aws-proxy-error").and_then(|code| code.to_str().ok()).unwrap_or_default();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map(|body| body.to_bytes());
            let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
            bail!("no session: the server answered {} {} {}", head.status, printable(code), one_line(&text));
        }
        let accept = response.headers().get("sec-websocket-accept").map(HeaderValue::as_bytes);
        if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            bail!("the server does not speak WebSocket");
        }
        let stream = hyper::upgrade::on(response).await.context("open the session")?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, Some(config)).await;
        Ok(Session { socket, _connection: connection })
    }

    /// Its two ways. What is not taken on one of them holds up nothing on the other.
    pub fn split(&mut self) -> (Mouth<'_>, Ear<'_>) {
        let (mouth, ear) = (&mut self.socket).split();
        (Mouth(mouth), Ear(ear))
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: String) -> Result<()> {
        self.split().0.send_text(text).await
    }
}

impl Mouth<'_> {
    /// Sends a binary message.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.say(Message::binary(bytes)).await
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: String) -> Result<()> {
        self.say(Message::text(text)).await
    }

    async fn say(&mut self, message: Message) -> Result<()> {
        match self.0.send(message).await {
            // What the server said before, and why it left, is still to be heard.
            Ok(())
            | Err(
                WebSocketError::ConnectionClosed
                | WebSocketError::AlreadyClosed
                | WebSocketError::Protocol(_)
                | WebSocketError::Io(_),
            ) => Ok(()),
            Err(error) => Err(error).context("the session broke off"),
        }
    }
}

impl Ear<'_> {
    /// The next message. Safe to drop and call again.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Heard::Bytes(bytes)),
                Some(Ok(Message::Text(_))) => return Ok(Heard::Text),
                Some(Ok(Message::Close(frame))) => {
                    return Ok(Heard::Closed(frame.map(|frame| frame.reason.to_string()).unwrap_or_default()));
                }
                Some(Ok(_)) => {}
                Some(Err(WebSocketError::ConnectionClosed)) | None => return Ok(Heard::Closed(String::new())),
                Some(Err(error)) => return Err(error).context("the session broke off"),
            }
        }
    }
}
