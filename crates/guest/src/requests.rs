//! One stream, one request: reads it, does it, answers. Whatever goes wrong here ends the stream and nothing else.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf},
    net::TcpStream,
    sync::Notify,
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use wire::{AgentHello, Fault, GENERATION, Request, Response};

use crate::{
    application::Application, carry::carry, events::EventLog, freezer::Freezer, log, machine::Machine, renew,
    session::Sessions,
};

/// How long a request may take to arrive on its stream.
const REQUEST_BOUND: Duration = Duration::from_secs(30);
/// How long connecting to a local port may take: only a full listen queue makes it wait.
const DIAL_BOUND: Duration = Duration::from_secs(30);
/// How long the host may take to read the answer to a shutdown before it happens anyway.
const FAREWELL_BOUND: Duration = Duration::from_millis(250);
/// Buffer of each direction of a dialed connection.
const COPY_BYTES: usize = 64 * 1024;
/// Events sent at a time, in bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// What all requests share.
pub struct Agent {
    /// The application.
    pub application: Arc<Application>,
    /// What happened.
    pub events: Arc<EventLog>,
    /// Stops the application for a snapshot.
    pub freezer: Freezer,
    /// The way to end the machine.
    pub machine: Arc<Machine>,
    /// Programs beside the application.
    pub sessions: Sessions,
}

/// Serves one stream to its end. `farewell` is told when the conversation shall end with it.
pub async fn handle(agent: Arc<Agent>, farewell: Arc<Notify>, stream: yamux::Stream) {
    let stream = stream.compat();
    // An error here is the host's leaving; there is nobody to tell.
    let _ = serve(&agent, &farewell, stream).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    agent: &Arc<Agent>,
    farewell: &Notify,
    mut stream: S,
) -> io::Result<()> {
    let request = match timeout(REQUEST_BOUND, read_request(&mut stream)).await {
        Ok(request) => request?,
        Err(_) => return Ok(()),
    };
    // Whoever asks for more than this did not restore the guest: no snapshot was taken.
    if !matches!(request, Err(_) | Ok(Request::Hello(_) | Request::Renew(_) | Request::Quiesce)) {
        agent.freezer.thaw();
    }
    let response = match request {
        Err(fault) => Response::Failed(fault),
        Ok(Request::Hello(_)) => Response::Hello(hello(agent)),
        Ok(Request::Start(container)) => {
            // A task of its own: it is finished even if the host goes away meanwhile.
            let started = tokio::spawn(agent.application.clone().start(container));
            answer(started.await.unwrap_or_else(|error| Err(Fault::Failed(error.to_string()))))
        }
        Ok(Request::Dial { port }) => return dial(port, stream).await,
        Ok(Request::Events { after }) => return follow(&agent.events, after, stream).await,
        Ok(Request::Session(session)) => match agent.sessions.begin(&session).await {
            Ok(running) => {
                send(&mut stream, &Response::Done).await?;
                return running.serve(stream).await;
            }
            Err(fault) => Response::Failed(fault),
        },
        Ok(Request::Renew(identity)) => {
            let outcome = renew::renew(&identity);
            agent.freezer.thaw();
            answer(outcome)
        }
        Ok(Request::Quiesce) => {
            agent.freezer.freeze().await;
            let outcome = quiesce().await;
            let silent = outcome.is_ok();
            send(&mut stream, &answer(outcome)).await?;
            stream.shutdown().await?;
            if silent {
                farewell.notify_one();
            }
            return Ok(());
        }
        Ok(Request::Shutdown { grace_ms }) => {
            send(&mut stream, &Response::Done).await?;
            stream.shutdown().await?;
            // The host ends its side when it has read the answer.
            let _ = timeout(FAREWELL_BOUND, stream.read(&mut [0])).await;
            agent.machine.shut_down(Duration::from_millis(grace_ms.into()));
            return Ok(());
        }
    };
    send(&mut stream, &response).await?;
    stream.shutdown().await
}

fn hello(agent: &Agent) -> AgentHello {
    AgentHello {
        generation: GENERATION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        application: agent.application.state(),
    }
}

fn answer(result: Result<(), Fault>) -> Response {
    match result {
        Ok(()) => Response::Done,
        Err(fault) => Response::Failed(fault),
    }
}

/// Reads one request. The inner error is a frame that is no request of this generation.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Request, Fault>> {
    let mut prefix = [0; wire::LENGTH_BYTES];
    stream.read_exact(&mut prefix).await?;
    let length = match wire::decode_length(prefix) {
        Ok(length) => length,
        Err(error) => return Ok(Err(Fault::Failed(error.to_string()))),
    };
    // Grows with what really arrives, not with what is announced.
    let mut body = Vec::new();
    if stream.take(length as u64).read_to_end(&mut body).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(wire::decode_body(&body).map_err(|_| Fault::Unsupported))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    stream.write_all(&wire::encode(response).map_err(io::Error::other)?).await?;
    stream.flush().await
}

/// Connects the stream to a local port and copies both ways until both are over; an end in one direction is passed on.
async fn dial<S: AsyncRead + AsyncWrite + Unpin>(port: u16, mut stream: S) -> io::Result<()> {
    let connected = timeout(DIAL_BOUND, connect(port)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            let fault = match error.kind() {
                io::ErrorKind::ConnectionRefused => Fault::Refused,
                _ => Fault::Failed(format!("connect to port {port}: {error}")),
            };
            send(&mut stream, &Response::Failed(fault)).await?;
            return stream.shutdown().await;
        }
    };
    send(&mut stream, &Response::Dialed).await?;
    carry(stream, connection, COPY_BYTES).await
}

/// 127.0.0.1 first; servers that listen on ::1 only are reached, too.
async fn connect(port: u16) -> io::Result<TcpStream> {
    let connection = match TcpStream::connect(("127.0.0.1", port)).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TcpStream::connect(("::1", port)).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?
        }
        other => other?,
    };
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// Streams events until the host closes its side.
async fn follow<S: AsyncRead + AsyncWrite + Unpin>(events: &EventLog, mut after: u64, mut stream: S) -> io::Result<()> {
    send(&mut stream, &Response::Done).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut changed = events.subscribe();
    loop {
        changed.borrow_and_update();
        let batch = events.after(after, BATCH_BYTES);
        if batch.is_empty() {
            tokio::select! {
                alive = changed.changed() => alive.map_err(io::Error::other)?,
                () = end_of(&mut reader) => return writer.shutdown().await,
            }
            continue;
        }
        let mut frames = Vec::new();
        for event in batch {
            after = event.sequence;
            frames.extend(wire::encode(&event).map_err(io::Error::other)?);
        }
        writer.write_all(&frames).await?;
        writer.flush().await?;
    }
}

/// Returns when the host has closed its side of the stream; nothing else is expected there.
async fn end_of<S: AsyncRead>(reader: &mut ReadHalf<S>) {
    while matches!(reader.read(&mut [0; 64]).await, Ok(1..)) {}
}

/// Writes all file systems to their disks.
async fn quiesce() -> Result<(), Fault> {
    spawn_blocking(rustix::fs::sync).await.map_err(|error| {
        log::error(format_args!("sync: {error}"));
        Fault::Failed(format!("sync: {error}"))
    })
}
