//! Serves one host connection after another over the port, for ever.
//!
//! ```text
//!  no host ──edge──▶ scanning for PREAMBLE ++ nonce ──▶ yamux ──host gone──▶ no host
//!                          ▲                              │
//!                          ├─────────protocol error───────┤   (the bytes in hand are scanned again)
//!                          └────────────Quiesce───────────┘   (after a farewell: a snapshot follows)
//! ```

use std::{io, sync::Arc, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use wire::{NONCE_BYTES, PREAMBLE};
use yamux::{Config, Connection, Mode};

use crate::{log, port::Port, preamble::Scanner, requests, requests::Agent};

/// Most streams of a connection, those of dialed connections included. The host opens at most 1024 at a time and keeps
/// below this with those just ended; beyond it yamux ends the connection.
const MAX_STREAMS: usize = 4096;
/// Receive window of all streams together: yamux's default of 256 KiB for each, which is never exceeded.
const MAX_WINDOW_BYTES: usize = MAX_STREAMS * yamux::DEFAULT_CREDIT as usize;
/// Payload of a frame: with its 12-byte header it fills the largest write that the port's driver takes.
const MAX_PAYLOAD_BYTES: usize = 32 * 1024 - HEADER_BYTES;
/// Bytes of a yamux header.
const HEADER_BYTES: usize = 12;

/// How long the host may take to take our last words.
const FAREWELL_BOUND: Duration = Duration::from_secs(1);

/// Serves until the port fails, which is the end of the machine's usefulness.
pub async fn serve(port: &mut Port, agent: &Arc<Agent>) -> io::Error {
    loop {
        let served = match greet(port).await {
            Ok(true) => converse(port, agent).await,
            Ok(false) => port.changed().await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            return error;
        }
    }
}

/// Waits for the preamble and answers it. False when the host is not there or went away.
async fn greet(port: &mut Port) -> io::Result<bool> {
    port.discard_output();
    let mut scanner = Scanner::default();
    let mut byte = [0];
    let nonce = loop {
        if port.read(&mut byte).await? == 0 {
            return Ok(false);
        }
        if let Some(nonce) = scanner.push(byte[0]) {
            break nonce;
        }
    };
    let mut answer = [0; PREAMBLE.len() + NONCE_BYTES];
    answer[..PREAMBLE.len()].copy_from_slice(PREAMBLE);
    answer[PREAMBLE.len()..].copy_from_slice(&nonce);
    port.write_all(&answer).await?;
    // Were the host gone by now, this goes to the next one, which waits for its own nonce and ignores it.
    port.flush().await?;
    Ok(true)
}

/// Serves one yamux connection until it ends; errors of the connection are not errors of the port.
async fn converse(port: &mut Port, agent: &Arc<Agent>) -> io::Result<()> {
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_WINDOW_BYTES));
    config.set_split_send_size(MAX_PAYLOAD_BYTES);
    let mut connection = Connection::new(&mut *port, config, Mode::Server);
    let mut streams = JoinSet::new();
    let mut broken = false;
    let farewell = Arc::new(Notify::new());
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| connection.poll_next_inbound(cx)) => next,
            () = farewell.notified() => {
                // A host that does not take our last words has hung up, which is as good.
                let _ = timeout(FAREWELL_BOUND, poll_fn(|cx| connection.poll_close(cx))).await;
                break;
            }
        };
        match next {
            Some(Ok(stream)) => {
                while streams.try_join_next().is_some() {}
                streams.spawn(requests::handle(agent.clone(), farewell.clone(), stream));
            }
            Some(Err(error)) => {
                log::warn(format_args!("connection to the host: {error}"));
                broken = true;
                break;
            }
            None => break,
        }
    }
    drop(connection);
    streams.shutdown().await;
    if broken {
        // What broke it may be the next connection's preamble, read as a header.
        port.rewind(HEADER_BYTES);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{future::Future, os::unix::net::UnixStream as StdUnixStream, task::Context};

    use futures::task::AtomicWaker;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, UnixStream},
        task::JoinHandle,
    };
    use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
    use wire::{Application as State, Event, Fault, Happening, Hello, Request, Response};

    use super::*;
    use crate::{
        application::Application, events::EventLog, freezer::Freezer, machine::Machine, reaper::Reaper,
        session::Sessions,
    };

    type Stream = Compat<yamux::Stream>;

    /// The host's side of one connection.
    struct Host {
        connection: Arc<std::sync::Mutex<Connection<Compat<UnixStream>>>>,
        waker: Arc<AtomicWaker>,
        driver: JoinHandle<()>,
    }

    impl Host {
        async fn connect(socket: StdUnixStream) -> Self {
            let mut socket = UnixStream::from_std(socket).expect("socket");
            let greeting = [&PREAMBLE[..], &[7; NONCE_BYTES]].concat();
            socket.write_all(&greeting).await.expect("greets");
            let mut echo = vec![0; greeting.len()];
            socket.read_exact(&mut echo).await.expect("is greeted");
            assert_eq!(echo, greeting);
            let connection = Connection::new(socket.compat(), Config::default(), Mode::Client);
            let connection = Arc::new(std::sync::Mutex::new(connection));
            let waker = Arc::new(AtomicWaker::new());
            let (driven, woken) = (connection.clone(), waker.clone());
            let driver = tokio::spawn(async move {
                let next = |cx: &mut Context<'_>| {
                    woken.register(cx.waker());
                    driven.lock().expect("lock").poll_next_inbound(cx)
                };
                while poll_fn(next).await.is_some() {}
            });
            Self { connection, waker, driver }
        }

        /// A stream on which `frame` was sent.
        async fn send(&self, frame: &[u8]) -> Stream {
            let stream = poll_fn(|cx| self.connection.lock().expect("lock").poll_new_outbound(cx)).await;
            let mut stream = stream.expect("opens").compat();
            stream.write_all(frame).await.expect("writes");
            self.waker.wake(); // the driver does not know the stream yet
            stream
        }

        async fn ask(&self, request: &Request) -> (Response, Stream) {
            let mut stream = self.send(&wire::encode(request).expect("encodes")).await;
            (response(&mut stream).await, stream)
        }
    }

    async fn body(stream: &mut Stream) -> Vec<u8> {
        let mut prefix = [0; wire::LENGTH_BYTES];
        stream.read_exact(&mut prefix).await.expect("a frame");
        let mut body = vec![0; wire::decode_length(prefix).expect("in bounds")];
        stream.read_exact(&mut body).await.expect("a body");
        body
    }

    async fn response(stream: &mut Stream) -> Response {
        wire::decode_body(&body(stream).await).expect("a response")
    }

    async fn event(stream: &mut Stream) -> Event {
        wire::decode_body(&body(stream).await).expect("an event")
    }

    fn agent() -> Arc<Agent> {
        let events = Arc::new(EventLog::new());
        let reaper = Arc::new(Reaper::default());
        let application = Arc::new(Application::new(events.clone(), reaper.clone(), None));
        let machine = Arc::new(Machine::new(application.clone()));
        let sessions = Sessions::new(application.clone(), reaper);
        Arc::new(Agent { application, events, freezer: Freezer::of_application(), machine, sessions })
    }

    /// Runs `test` against an agent behind a socket, for ten seconds at most.
    async fn against<F: Future<Output = ()>>(test: impl FnOnce(Arc<Agent>, StdUnixStream) -> F) {
        let (ours, theirs) = StdUnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        theirs.set_nonblocking(true).expect("non-blocking");
        let agent = agent();
        let mut port = Port::over(ours.into()).expect("port");
        tokio::select! {
            error = serve(&mut port, &agent) => panic!("the agent ended: {error}"),
            in_time = timeout(Duration::from_secs(10), test(agent.clone(), theirs)) => in_time.expect("in time"),
        }
    }

    #[tokio::test]
    async fn hello_is_answered_and_rubbish_is_survived() {
        against(|_, socket| async move {
            let host = Host::connect(socket).await;
            let mut unknown = host.send(&[3, 0, 0, 0, 99, 1, 2]).await;
            assert_eq!(response(&mut unknown).await, Response::Failed(Fault::Unsupported));
            let mut huge = host.send(&[0xff; 4]).await;
            assert!(matches!(response(&mut huge).await, Response::Failed(Fault::Failed(_))));
            drop(host.send(&[5, 0, 0, 0, 1]).await); // half a request
            let (response, _) = host.ask(&Request::Hello(Hello { generation: 1 })).await;
            let Response::Hello(hello) = response else { panic!("no hello: {response:?}") };
            assert_eq!((hello.generation, hello.application), (wire::GENERATION, State::NotStarted));
        })
        .await;
    }

    #[tokio::test]
    async fn a_dialed_port_gets_both_ends_of_both_directions() {
        against(|_, socket| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
            let port = listener.local_addr().expect("address").port();
            let server = tokio::spawn(async move {
                let (mut connection, _) = listener.accept().await.expect("accepts");
                let mut request = Vec::new();
                connection.read_to_end(&mut request).await.expect("reads to the end");
                connection.write_all(&request.repeat(3)).await.expect("writes");
            });
            let host = Host::connect(socket).await;
            let (response, mut stream) = host.ask(&Request::Dial { port }).await;
            assert_eq!(response, Response::Dialed);
            stream.write_all(&[42; 300_000]).await.expect("writes");
            stream.shutdown().await.expect("ends");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("reads");
            assert_eq!(answer.len(), 900_000);
            server.await.expect("serves");
            let (response, _) = host.ask(&Request::Dial { port }).await;
            assert_eq!(response, Response::Failed(Fault::Refused));
        })
        .await;
    }

    #[tokio::test]
    async fn events_are_followed_from_where_the_host_stands() {
        against(|agent, socket| async move {
            let line = |text: &str| Happening::Line { stream: wire::Stream::Stdout, text: text.into() };
            agent.events.push(line("one"));
            agent.events.push(line("two"));
            let host = Host::connect(socket).await;
            let (response, mut stream) = host.ask(&Request::Events { after: 1 }).await;
            assert_eq!(response, Response::Done);
            assert_eq!(event(&mut stream).await.what, line("two"));
            agent.events.push(line("three"));
            let third = event(&mut stream).await;
            assert_eq!((third.sequence, third.what), (3, line("three")));
        })
        .await;
    }

    #[tokio::test]
    async fn a_new_preamble_takes_over_a_connection_that_was_never_closed() {
        against(|_, socket| async move {
            let again = socket.try_clone().expect("clone");
            let first = Host::connect(socket).await;
            first.ask(&Request::Hello(Hello { generation: 1 })).await;
            first.driver.abort();
            let second = Host::connect(again).await;
            let (response, _) = second.ask(&Request::Hello(Hello { generation: 1 })).await;
            assert!(matches!(response, Response::Hello(_)));
        })
        .await;
    }
}
