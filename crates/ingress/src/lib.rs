//! The data plane in front of every microVM (spec sections 6 and 7).
//!
//! One TLS listener, and perhaps a plain one beside it. A request's life is six steps, all in `request.rs`: identify, authorize, wake, connect, forward, record.
//! Tokens are [`token`], certificates [`ca`] and [`tls`]. What the control plane knows comes through [`Backend`]; nothing
//! here remembers anything about a microVM between two requests. Shells and programs (spec 8) are `session.rs`.
//!
//! A request goes to the application on the connection that the same client's last request has left, if it comes at once,
//! and on a new one otherwise: [`kept`] says why not on any other.

mod access;
mod answers;
mod browser;
pub mod ca;
mod cookie;
pub mod files;
mod forward;
mod headers;
mod inbound;
mod inner_tls;
mod kept;
mod keys;
mod linger;
mod manner;
mod names;
mod plain;
mod reach;
mod record;
mod request;
mod seats;
mod serve;
mod session;
mod share;
mod tickets;
pub mod tls;
pub mod token;
mod upstream;
mod websocket;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::{
    browser::{OPEN_PATH, TICKET_PARAMETER},
    ca::LocalCa,
    files::FileError,
    keys::KeyringError,
    manner::Extras,
    names::{Certificates, Checked, NameError},
    serve::Ingress,
    share::{Allowance, Share},
    tickets::{TICKET_LIFE, Tickets, TooManyTickets},
    tls::TlsSettings,
    token::{Claims, Kind, PortRange, Token, TokenError, TokenKeys},
};

/// What the ingress needs from the control plane.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The microVM behind an endpoint host (lower case, without port). `None`: no such endpoint. Called for every request,
    /// before its token is looked at: must be quick.
    fn route(&self, host: &str) -> Option<Route>;

    /// A connection to `127.0.0.1:port` in the guest, after waking a suspended machine when its policy allows. Held, and
    /// bounded by the implementation; dropped when the client goes away.
    async fn connect(&self, microvm: &str, port: u16) -> Result<Box<dyn Stream>, ConnectError>;

    /// Starts a session beside the application, after waking a suspended machine as [`Backend::connect`] does. The stream
    /// carries the messages of [`wire::session`], as the guest sends them.
    async fn session(&self, microvm: &str, session: wire::Session) -> Result<Box<dyn Stream>, SessionError>;

    /// Authenticated application bytes moved, or an authorized request began or ended: the idle clock restarts (spec 5.3).
    /// Called at most about once a second for each request, and at its begin and end. Must not block.
    fn activity(&self, microvm: &str);

    /// Returns once a new request would not be let in like that any more; never, when that cannot be. WebSockets and sessions
    /// are ended then.
    async fn withdrawn(&self, microvm: &str, admission: Admission);
}

/// Where an endpoint host leads.
#[derive(Debug, Clone)]
pub struct Route {
    /// The microVM's id, as in the token's claims.
    pub microvm: String,
    /// Does it take application traffic (`HTTP_INGRESS` or `ALL_INGRESS`)?
    pub application: bool,
    /// Does it take shell sessions (`SHELL_INGRESS`)?
    pub shell: bool,
    /// Does it take new requests right now? If not they go to [`Backend::connect`], which wakes it or waits.
    pub open: bool,
    /// Is it gone for good? Its host is still known for a while.
    pub terminated: bool,
    /// What it may carry, the same for all routes to one microVM.
    pub share: Arc<Share>,
    /// Tokens whose [`Claims::revocation`] is smaller open nothing any more.
    pub revocation: u64,
    /// The port that anybody may reach without a token, if that is permitted.
    pub public: Option<u16>,
    /// The port of a request with a token that names none; 8080 but for custom host names.
    pub default_port: u16,
}

/// [`Route::default_port`] of an endpoint's own name (spec 6.2).
pub const DEFAULT_PORT: u16 = 8080;

/// What let a request in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// A token, with its [`Claims::revocation`].
    Token {
        /// As the token says.
        revocation: u64,
    },
    /// Nothing: the port is public.
    Public {
        /// Which.
        port: u16,
    },
}

/// Why there is no connection to the application. All become 502 (spec 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The machine is up and nothing listens on the port: `APP_CONNECT_FAILED`.
    #[error("nothing listens on the port")]
    Refused,
    /// Suspended without auto-resume, or the resume failed.
    #[error("the microVM is not running")]
    Unavailable,
    /// Terminated: `MICROVM_CONNECT_FAILED`.
    #[error("the microVM is gone")]
    Gone,
    /// It took longer than the backend's bound.
    #[error("connecting took too long")]
    Timeout,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no way to the guest.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The agent in the image does not know sessions.
    #[error(
        "the guest agent of this image is too old for a shell, programs and files; build a new version of the image"
    )]
    TooOld,
    /// A step failed in the guest; its words, bounded and fit to show.
    #[error("{0}")]
    Failed(String),
}

/// A byte stream to the application.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Bounds of the listener. The defaults are generous: AWS publishes none (spec 16, item 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at a time, WebSockets included. When there are more, the one that has been idle for longest goes;
    /// while none is idle they wait in the listener's backlog.
    pub connections: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Bytes of a request's or response's head.
    pub head_bytes: usize,
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// For the whole head of an HTTP/1.1 request, and for an HTTP/1.1 connection between two requests.
    pub head: Duration,
    /// For the first byte of an application that is to speak HTTP/2: such a server speaks at once (RFC 9113 section 3.4).
    pub greeting: Duration,
    /// For an HTTP/2 connection without any request.
    pub idle: Duration,
    /// At shutdown, for requests in flight.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 16_384,
            streams_per_connection: 256,
            head_bytes: 64 * 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            greeting: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(5),
        }
    }
}
