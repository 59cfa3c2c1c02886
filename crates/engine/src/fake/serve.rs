//! The fake guest's half of [`wire`]: preamble, multiplexer, requests.

use std::{
    future::poll_fn,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy, copy_buf, split},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use wire::{AgentHello, Application, Fault, GENERATION, LENGTH_BYTES, NONCE_BYTES, PREAMBLE, Request, Response};

use super::{app, guest::Guest, session};

/// The port that sends back what it gets, whatever the application (RFC 862).
const ECHO_PORT: u16 = 7;

/// Bytes carried at a time to and from a server on the host, each way.
const FORWARD_BYTES: usize = 64 << 10;

type Stream = Compat<yamux::Stream>;

/// Serves one connection until the host ends it or the guest powers off.
pub(super) async fn serve(
    guest: Arc<Guest>,
    mut channel: impl AsyncRead + AsyncWrite + Send + Unpin,
) -> io::Result<()> {
    answer_preamble(&mut channel).await?;
    let mut connection = yamux::Connection::new(channel.compat(), config(), yamux::Mode::Server);
    let conversation = Arc::new(Conversation::default());
    let mut streams: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        // In this order, so that what happened before a power-off still goes out.
        tokio::select! {
            biased;
            Some(()) = streams.next(), if !streams.is_empty() => {}
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => match inbound {
                Some(Ok(stream)) => {
                    streams.push(handle(guest.clone(), conversation.clone(), stream.compat()).boxed());
                },
                Some(Err(cause)) => return Err(io::Error::other(cause)),
                None => return Ok(()),
            },
            // The streams come first: the answer to the request that asked for it goes out.
            () = conversation.farewell.notified() => {
                return poll_fn(|cx| connection.poll_close(cx)).await.map_err(io::Error::other);
            }
            () = guest.power_off.cancelled() => {
                return poll_fn(|cx| connection.poll_close(cx)).await.map_err(io::Error::other);
            }
        }
    }
}

/// What the streams of one connection share.
#[derive(Default)]
struct Conversation {
    greeted: AtomicBool,
    farewell: Notify,
}

/// Room for all streams that the host opens and for those that have just ended, as in the real agent.
fn config() -> yamux::Config {
    const MAX_STREAMS: usize = 4096;
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_STREAMS * yamux::DEFAULT_CREDIT as usize));
    config
}

/// Discards what comes until the preamble, and sends it back with its nonce.
async fn answer_preamble(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut seen = [0xff; PREAMBLE.len()];
    while &seen != PREAMBLE {
        seen.rotate_left(1);
        seen[PREAMBLE.len() - 1] = channel.read_u8().await?;
    }
    let mut nonce = [0; NONCE_BYTES];
    channel.read_exact(&mut nonce).await?;
    channel.write_all(PREAMBLE).await?;
    channel.write_all(&nonce).await?;
    channel.flush().await
}

/// One stream. What goes wrong concerns only the host, which sees the stream end.
async fn handle(guest: Arc<Guest>, conversation: Arc<Conversation>, mut stream: Stream) {
    let silent = match respond(&guest, &conversation.greeted, &mut stream).await {
        Ok(last) => last,
        Err(cause) => {
            tracing::trace!(%cause, "a stream of the fake guest ends");
            false
        }
    };
    let _ = stream.shutdown().await;
    if silent {
        conversation.farewell.notify_one();
    }
}

/// Answers the request; true when the conversation shall end with it.
async fn respond(guest: &Guest, greeted: &AtomicBool, stream: &mut Stream) -> io::Result<bool> {
    let request = read_request(stream).await?;
    if !matches!(request, Request::Hello(_)) && !greeted.load(Ordering::Relaxed) {
        send(stream, &Response::Failed(Fault::Failed("hello comes first".into()))).await?;
        return Ok(false);
    }
    let quiesce = matches!(request, Request::Quiesce);
    let outcome = match request {
        Request::Hello(_) => {
            greeted.store(true, Ordering::Relaxed);
            let version = concat!("fake ", env!("CARGO_PKG_VERSION")).to_owned();
            let hello = AgentHello { generation: GENERATION, version, application: guest.application() };
            send(stream, &Response::Hello(hello)).await?;
            return Ok(false);
        }
        Request::Start(container) => guest.start(container),
        Request::Dial { port } if guest.listens(port) && guest.script().is_of_host(port) => {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(tcp) => {
                    send(stream, &Response::Dialed).await?;
                    forward(guest, tcp, stream).await?;
                    return Ok(false);
                }
                Err(_) => Err(Fault::Refused),
            }
        }
        Request::Dial { port } if guest.listens(port) => {
            send(stream, &Response::Dialed).await?;
            tokio::select! {
                ended = application(guest, port, stream) => ended?,
                () = guest.application_ended.cancelled() => {}
            }
            return Ok(false);
        }
        Request::Dial { .. } => Err(Fault::Refused),
        Request::Renew(identity) => guest.renew(identity),
        Request::Events { after } => {
            send(stream, &Response::Done).await?;
            events(guest, after, stream).await?;
            return Ok(false);
        }
        Request::Session(_) if guest.application() != Application::Running => {
            Err(Fault::Failed("the application does not run".into()))
        }
        Request::Session(session) => {
            send(stream, &Response::Done).await?;
            session::serve(&session, stream).await?;
            return Ok(false);
        }
        Request::Quiesce => guest.quiesce(),
        Request::Shutdown { .. } => {
            guest.terminate();
            send(stream, &Response::Done).await?;
            guest.power_off.cancel();
            return Ok(false);
        }
    };
    let silent = quiesce && outcome.is_ok();
    send(stream, &outcome.map_or_else(Response::Failed, |()| Response::Done)).await?;
    Ok(silent)
}

/// What listens on the dialed port.
async fn application(guest: &Guest, port: u16, stream: &mut Stream) -> io::Result<()> {
    if port != ECHO_PORT {
        return app::serve(guest, stream).await;
    }
    let (mut read, mut write) = split(stream);
    copy(&mut read, &mut write).await?;
    write.shutdown().await
}

/// Carries bytes between the host's server and the dialer, until both have ended or one has gone. As in the real agent, a
/// server that closes before it has read everything still gets its answer out.
async fn forward(guest: &Guest, mut tcp: TcpStream, stream: &mut Stream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let (mut from_host, mut to_host) = split(stream);
    let (from_server, mut to_server) = tcp.split();
    let up = async {
        let mut bytes = vec![0; FORWARD_BYTES];
        while let count @ 1.. = from_host.read(&mut bytes).await? {
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return Ok(());
            }
        }
        // One that is gone already tells so in the other direction.
        let _ = to_server.shutdown().await;
        Ok(())
    };
    let down = async {
        copy_buf(&mut BufReader::with_capacity(FORWARD_BYTES, from_server), &mut to_host).await?;
        to_host.shutdown().await
    };
    tokio::select! {
        ended = async { tokio::try_join!(up, down) } => ended.map(drop),
        () = guest.application_ended.cancelled() => Ok(()),
    }
}

/// Sends events until the host ends the stream.
async fn events(guest: &Guest, mut after: u64, stream: &mut Stream) -> io::Result<()> {
    let mut happened = guest.happened();
    let (mut read, mut write) = split(stream);
    loop {
        happened.borrow_and_update();
        for event in guest.events(after) {
            write.write_all(&wire::encode(&event).map_err(io::Error::other)?).await?;
            after = event.sequence;
        }
        write.flush().await?;
        tokio::select! {
            _ = happened.changed() => {}
            _ = read.read_u8() => return Ok(()),
        }
    }
}

async fn read_request(stream: &mut Stream) -> io::Result<Request> {
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; wire::decode_length(prefix).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    wire::decode_body(&body).map_err(io::Error::other)
}

async fn send(stream: &mut Stream, response: &Response) -> io::Result<()> {
    stream.write_all(&wire::encode(response).map_err(io::Error::other)?).await?;
    stream.flush().await
}
