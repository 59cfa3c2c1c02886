//! The host's half of the wire protocol, against the fake guest and against guests that misbehave.

use std::{
    future::{Future, poll_fn},
    io::ErrorKind,
    path::PathBuf,
    time::{Duration, Instant},
};

use engine::{
    BootSpec, Engine, Hardware, Machine,
    agent::{Agent, AgentError},
    fake::FakeEngine,
};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    time::timeout,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use wire::{AgentHello, Application, Container, Event, Fault, Happening, Request, Response};

const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(100);

type Stream = Compat<yamux::Stream>;
type Connection = yamux::Connection<Compat<DuplexStream>>;

/// A scripted guest: it sends `stale`, answers the preamble, and then does `work` with the multiplexer.
fn guest<F>(stale: &'static [u8], work: impl FnOnce(Connection) -> F + Send + 'static) -> Box<DuplexStream>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (host, mut channel) = duplex(64 << 10);
    tokio::spawn(async move {
        channel.write_all(stale).await.expect("fits");
        let mut greeting = [0; wire::PREAMBLE.len() + wire::NONCE_BYTES];
        channel.read_exact(&mut greeting).await.expect("the greeting comes");
        assert!(greeting.starts_with(wire::PREAMBLE));
        channel.write_all(&greeting).await.expect("fits");
        work(Connection::new(channel.compat(), yamux::Config::default(), yamux::Mode::Server)).await;
    });
    Box::new(host)
}

/// A scripted guest that answers hello by the book and does `serve` with every further request.
fn polite_guest<F>(serve: impl Fn(Request, Stream) -> F + Send + Sync + Clone + 'static) -> Box<DuplexStream>
where
    F: Future<Output = ()> + Send + 'static,
{
    guest(b"", move |mut connection| async move {
        while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            let serve = serve.clone();
            tokio::spawn(async move {
                let mut stream = stream.compat();
                match read_request(&mut stream).await {
                    Request::Hello(_) => send(&mut stream, &hello(wire::GENERATION)).await,
                    request => serve(request, stream).await,
                }
            });
        }
    })
}

fn hello(generation: u16) -> Response {
    Response::Hello(AgentHello { generation, version: "test".into(), application: Application::Running })
}

async fn read_request(stream: &mut Stream) -> Request {
    let length = stream.read_u32_le().await.expect("a prefix");
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.expect("a body");
    wire::decode_body(&body).expect("a request")
}

async fn send<T: serde::Serialize>(stream: &mut Stream, message: &T) {
    stream.write_all(&wire::encode(message).expect("encodes")).await.expect("sends");
}

async fn open(channel: Box<DuplexStream>) -> Agent {
    Agent::open(channel, PATIENCE).await.expect("opens")
}

/// A fake machine whose application runs.
async fn fake(env: &[(&str, &str)]) -> (Box<dyn Machine>, Agent, tempfile::TempDir) {
    let scratch = tempfile::tempdir().expect("a directory");
    let image_dir = scratch.path().join("image");
    std::fs::create_dir(&image_dir).expect("makes it");
    let spec = BootSpec {
        image_dir,
        machine_dir: scratch.path().join("machine"),
        hardware: Hardware { memory_mib: 512, vcpus: 1 },
        kernel: PathBuf::new(),
        initrd: PathBuf::new(),
    };
    let machine = FakeEngine::new().boot(spec).await.expect("boots");
    let agent = Agent::open(machine.connect().await.expect("connects"), PATIENCE).await.expect("answers");
    agent.start(container(env)).await.expect("starts");
    (machine, agent, scratch)
}

fn container(env: &[(&str, &str)]) -> Container {
    Container {
        argv: vec!["app".into()],
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        workdir: "/".into(),
        user: String::new(),
        all_capabilities: false,
        hostname: "test".into(),
    }
}

#[tokio::test]
async fn stale_bytes_before_the_echo_are_skipped() {
    let stale = b"\x00\x01\x00\x02half a frame\x00hearth-agent/1\nthe nonce of old\x00hearth";
    let channel = guest(stale, |mut connection| async move {
        let stream = poll_fn(|cx| connection.poll_next_inbound(cx)).await.expect("a stream").expect("opens");
        let mut stream = stream.compat();
        let answer = async {
            read_request(&mut stream).await;
            send(&mut stream, &hello(9)).await;
        };
        // The connection must be driven while the stream is served.
        tokio::select! {
            () = async { answer.await; std::future::pending::<()>().await } => {}
            _ = poll_fn(|cx| connection.poll_next_inbound(cx)) => {}
        }
    });
    let agent = open(channel).await;
    assert_eq!(agent.hello().generation, 9);
    assert_eq!(agent.generation(), wire::GENERATION, "the host speaks the lower one");
}

#[tokio::test]
async fn a_guest_that_never_answers_is_given_up_in_time_and_its_channel_closed() {
    let (host, mut guest) = duplex(1024);
    let outcome = Agent::open(Box::new(host), SOON).await;
    assert!(matches!(outcome, Err(AgentError::Timeout { millis: 100, .. })), "{outcome:?}");
    let mut seen = Vec::new();
    guest.read_to_end(&mut seen).await.expect("closed");
    assert_eq!(seen.len(), wire::PREAMBLE.len() + wire::NONCE_BYTES, "the preamble, once");
}

#[tokio::test]
async fn a_guest_that_boots_late_is_waited_for() {
    let (host, late) = duplex(1024);
    let opening = tokio::spawn(Agent::open(Box::new(host), PATIENCE));
    tokio::time::sleep(SOON).await;
    let mut relay_host = guest(b"", |mut connection| async move {
        let stream = poll_fn(|cx| connection.poll_next_inbound(cx)).await.expect("a stream").expect("opens");
        tokio::spawn(async move {
            let mut stream = stream.compat();
            read_request(&mut stream).await;
            send(&mut stream, &hello(1)).await;
        });
        while poll_fn(|cx| connection.poll_next_inbound(cx)).await.is_some() {}
    });
    let relay = tokio::spawn(async move {
        let mut late = late;
        tokio::io::copy_bidirectional(&mut late, &mut relay_host).await
    });
    opening.await.expect("no panic").expect("opens");
    relay.abort();
}

#[tokio::test]
async fn generation_zero_and_wrong_first_words_are_refused() {
    for wrong in [hello(0), Response::Done, Response::Failed(Fault::Unsupported)] {
        let channel = guest(b"", |mut connection| async move {
            while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
                let wrong = wrong.clone();
                tokio::spawn(async move {
                    let mut stream = stream.compat();
                    read_request(&mut stream).await;
                    send(&mut stream, &wrong).await;
                });
            }
        });
        let outcome = Agent::open(channel, PATIENCE).await;
        assert!(matches!(outcome, Err(AgentError::Protocol(_) | AgentError::Unsupported { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn answers_that_are_too_long_or_rubbish_are_errors_of_that_request_only() {
    let agent = open(polite_guest(|request, mut stream| async move {
        match request {
            Request::Quiesce => stream.write_all(&[0xff; 64]).await.expect("sends"),
            Request::Renew(_) => stream.write_all(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).await.expect("sends"),
            Request::Start(_) => stream.write_all(&[200, 0, 0, 0, 1]).await.expect("sends"),
            Request::Shutdown { .. } => send(&mut stream, &Response::Dialed).await,
            Request::Dial { port: 1 } => send(&mut stream, &Response::Failed(Fault::Failed("a\nb\x1b".into()))).await,
            Request::Dial { .. } => send(&mut stream, &Response::Dialed).await,
            _ => {}
        }
    }))
    .await;
    let error = agent.quiesce().await.expect_err("4 GiB");
    assert!(error.to_string().contains("exceeds the bound of 1048576"), "{error}");
    let identity = wire::Identity { unix_time_ns: 1, entropy: [0; 32], hostname: "x".into(), machine_id: "".into() };
    assert!(matches!(agent.renew(identity).await, Err(AgentError::Frame { what: "renew", .. })));
    let error = agent.start(container(&[])).await.expect_err("ends inside a frame");
    assert!(matches!(error, AgentError::Io { what: "start", .. }), "{error}");
    assert!(matches!(agent.shutdown(Duration::ZERO).await, Err(AgentError::Protocol(_))));
    let error = agent.events(0).await.expect_err("no answer at all");
    assert!(matches!(error, AgentError::Io { what: "events", .. }), "{error}");
    assert_eq!(
        agent.dial(1).await.expect_err("fails").to_string(),
        "dial failed in the guest: a\u{fffd}b\u{fffd}",
        "the guest's words are tamed"
    );
    agent.dial(2).await.expect("the connection is as good as before");
}

#[tokio::test]
async fn a_session_that_may_have_begun_is_told_from_one_that_has_not() {
    let session = |name: &str| wire::Session {
        job: wire::Job::Exec(vec![name.into()]),
        user: None,
        workdir: None,
        env: Vec::new(),
        terminal: None,
        timeout_ms: 0,
    };
    let agent = open(polite_guest(|request, mut stream| async move {
        let Request::Session(asked) = request else { panic!("{request:?}") };
        match asked.job {
            wire::Job::Exec(argv) if argv[0] == "no" => {
                send(&mut stream, &Response::Failed(Fault::Failed("no room".into()))).await;
            }
            wire::Job::Exec(argv) if argv[0] == "wrong" => send(&mut stream, &Response::Dialed).await,
            _ => {}
        }
    }))
    .await;
    for vague in ["silent", "wrong"] {
        let error = agent.session(session(vague)).await.expect_err("no answer");
        assert!(matches!(error, AgentError::Unsure { what: "session", .. }), "{vague}: {error}");
    }
    assert!(matches!(agent.session(session("no")).await, Err(AgentError::Guest { .. })));
    agent.close().await;
    assert!(matches!(agent.session(session("late")).await, Err(AgentError::Ended(_))), "nothing was sent");
}

#[tokio::test]
async fn a_request_too_long_to_send_is_refused_here() {
    let (_machine, agent, _scratch) = fake(&[]).await;
    let error = agent.start(container(&[("HUGE", &"x".repeat(2 << 20))])).await.expect_err("too long");
    assert!(matches!(error, AgentError::Frame { what: "start", .. }), "{error}");
    assert!(matches!(agent.start(container(&[])).await, Err(AgentError::AlreadyStarted)));
}

#[tokio::test]
async fn a_long_request_arrives_whole() {
    let agent = open(polite_guest(|request, mut stream| async move {
        let Request::Start(container) = request else { panic!("not a start") };
        assert_eq!(container.env[0].1.len(), 1_000_000);
        send(&mut stream, &Response::Done).await;
    }))
    .await;
    agent.start(container(&[("LONG", &"x".repeat(1_000_000))])).await.expect("arrives");
}

#[tokio::test]
async fn a_guest_that_opens_streams_is_cut_off() {
    let channel = guest(b"", |mut connection| async move {
        let rude = poll_fn(|cx| connection.poll_new_outbound(cx)).await.expect("opens");
        let mut rude = rude.compat();
        rude.write_all(b"hello there").await.expect("queues");
        while poll_fn(|cx| connection.poll_next_inbound(cx)).await.is_some() {}
    });
    let error = Agent::open(channel, PATIENCE).await.expect_err("the guest must not");
    assert!(error.to_string().contains("it opened a stream"), "{error}");
}

#[tokio::test]
async fn rubbish_instead_of_frames_ends_the_connection_with_a_reason() {
    let (host, mut channel) = duplex(1024);
    tokio::spawn(async move {
        let mut greeting = [0; wire::PREAMBLE.len() + wire::NONCE_BYTES];
        channel.read_exact(&mut greeting).await.expect("the greeting comes");
        channel.write_all(&greeting).await.expect("fits");
        channel.write_all(&[0x77; 100]).await.expect("fits");
        let _ = channel.read_to_end(&mut Vec::new()).await;
    });
    let error = Agent::open(Box::new(host), PATIENCE).await.expect_err("no frames");
    assert!(error.to_string().contains("broke the protocol"), "{error}");
}

#[tokio::test]
async fn a_guest_that_dies_in_the_middle_is_a_reset_and_not_an_end_of_file() {
    let (machine, agent, _scratch) = fake(&[]).await;
    let mut reading = agent.dial(7).await.expect("echoes");
    reading.write_all(b"half").await.expect("writes");
    reading.read_exact(&mut [0; 4]).await.expect("echoes");
    let mut half_closed = agent.dial(7).await.expect("echoes");
    let mut events = agent.events(1).await.expect("follows");
    let kill = async {
        tokio::time::sleep(SOON).await;
        machine.kill().await.expect("ends");
    };
    let (mut rest, mut more) = (Vec::new(), [0]);
    let read_half_closed = async {
        half_closed.write_all(&[1]).await.expect("writes");
        half_closed.read_exact(&mut more).await.expect("echoes");
        half_closed.read(&mut more).await
    };
    let (read, half, next, ()) = tokio::join!(reading.read_to_end(&mut rest), read_half_closed, events.next(), kill);
    assert_eq!(read.expect_err("cut off").kind(), ErrorKind::ConnectionReset);
    assert_eq!(half.expect_err("cut off").kind(), ErrorKind::ConnectionReset);
    assert!(matches!(next, Err(AgentError::Ended(_))), "{next:?}");
    assert_eq!(reading.write(b"x").await.expect_err("cut off").kind(), ErrorKind::ConnectionReset);
    agent.closed().await;
    let error = agent.dial(7).await.expect_err("over");
    assert!(matches!(error, AgentError::Ended(_)), "{error}");
}

#[tokio::test]
async fn a_stream_that_the_guest_resets_is_an_error() {
    let agent = open(polite_guest(|_, mut stream| async move {
        send(&mut stream, &Response::Dialed).await;
        stream.write_all(b"some").await.expect("sends");
        drop(stream); // without an end: a reset
    }))
    .await;
    let mut stream = agent.dial(1).await.expect("dials");
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).await.expect_err("not whole");
    assert_eq!((&read[..], error.kind()), (&b"some"[..], ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_half_close_reaches_the_guest_and_the_rest_comes_back() {
    let (_machine, agent, _scratch) = fake(&[]).await;
    // In one task, and with the two halves in two tasks, the reader already waiting.
    let mut stream = agent.dial(7).await.expect("echoes");
    stream.write_all(b"all of it").await.expect("writes");
    stream.shutdown().await.expect("ends");
    let mut echo = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut echo)).await.expect("ends").expect("reads");
    assert_eq!(echo, b"all of it");
    assert_eq!(stream.write(b"x").await.expect_err("after the end").kind(), ErrorKind::BrokenPipe);

    let (mut read, mut write) = split(agent.dial(7).await.expect("echoes"));
    let reader = tokio::spawn(async move {
        let mut echo = Vec::new();
        read.read_to_end(&mut echo).await.map(|_| echo)
    });
    tokio::time::sleep(SOON).await;
    write.write_all(b"and this").await.expect("writes");
    tokio::time::sleep(SOON).await;
    write.shutdown().await.expect("ends");
    let echo = timeout(PATIENCE, reader).await.expect("ends").expect("no panic").expect("reads");
    assert_eq!(echo, b"and this");
}

#[tokio::test]
async fn an_endless_answer_that_nobody_wants_is_stopped_in_the_guest() {
    let (stopped, mut stops) = tokio::sync::mpsc::channel(2);
    let agent = open(polite_guest(move |_, mut stream| {
        let stopped = stopped.clone();
        async move {
            send(&mut stream, &Response::Dialed).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            stopped.send(()).await.expect("the test waits");
        }
    }))
    .await;
    for shut in [false, true] {
        let mut stream = agent.dial(1).await.expect("dials");
        stream.read_exact(&mut [0; 4096]).await.expect("reads");
        if shut {
            // What hyper does when its client went away.
            stream.shutdown().await.expect("ends");
        }
        drop(stream);
        timeout(PATIENCE, stops.recv()).await.expect("the guest is told").expect("it runs");
    }
}

#[tokio::test]
async fn what_was_written_before_a_drop_arrives() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    let agent = open(polite_guest(move |_, mut stream| {
        let arrived = arrived.clone();
        async move {
            send(&mut stream, &Response::Dialed).await;
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            arrived.send(all.len()).await.expect("the test waits");
        }
    }))
    .await;
    let mut stream = agent.dial(1).await.expect("dials");
    stream.write_all(&[7; 200_000]).await.expect("writes");
    stream.shutdown().await.expect("ends");
    drop(stream);
    assert_eq!(arrivals.recv().await, Some(200_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_dials_at_once_and_ten_thousand_in_a_row() {
    let (_machine, agent, _scratch) = fake(&[("HEARTH_FAKE_CLOSED_PORTS", "1")]).await;
    let dials = (0..100u32).map(|number| {
        let agent = agent.clone();
        tokio::spawn(async move {
            let mut stream = agent.dial(7).await.expect("echoes");
            let sent = number.to_le_bytes().repeat(1000);
            stream.write_all(&sent).await.expect("writes");
            stream.shutdown().await.expect("ends");
            let mut echo = Vec::new();
            stream.read_to_end(&mut echo).await.expect("reads");
            assert_eq!(echo, sent);
            assert!(matches!(agent.dial(1).await, Err(AgentError::Refused { port: 1 })));
        })
    });
    for dial in join_all(dials).await {
        dial.expect("no panic");
    }
    let began = Instant::now();
    for _ in 0..10_000 {
        agent.dial(7).await.expect("dials");
    }
    println!("one dial: {:?}", began.elapsed() / 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_the_bound_wait_for_room() {
    let (_machine, agent, _scratch) = fake(&[]).await;
    let mut streams = Vec::new();
    for number in 0..1024 {
        streams
            .push(timeout(PATIENCE, agent.dial(7)).await.unwrap_or_else(|_| panic!("stream {number}")).expect("dials"));
    }
    assert!(timeout(SOON, agent.dial(7)).await.is_err(), "a stream beyond the bound");
    let waiting = tokio::spawn({
        let agent = agent.clone();
        async move { agent.dial(7).await }
    });
    streams.pop();
    timeout(PATIENCE, waiting).await.expect("room").expect("no panic").expect("dials");
    // All of them given up at once and taken again: what is dropped does not count against the multiplexer's bound.
    for _ in 0..3 {
        streams.clear();
        let dials = join_all((0..1024).map(|_| agent.dial(7))).await;
        streams.extend(dials.into_iter().map(|dial| dial.expect("dials")));
    }
}

#[tokio::test]
async fn dials_that_were_given_up_make_room_for_others() {
    let agent = open(polite_guest(|request, mut stream| async move {
        if let Request::Dial { port: 2 } = request {
            send(&mut stream, &Response::Dialed).await;
        }
        std::future::pending::<()>().await; // not even an acknowledgement of the stream
    }))
    .await;
    // As many as the multiplexer lets wait for an acknowledgement, and one more.
    let mut stuck: Vec<_> = (0..256).map(|_| Box::pin(agent.dial(1))).collect();
    for dial in &mut stuck {
        assert!(futures::poll!(dial).is_pending());
        tokio::task::yield_now().await; // a task may do only so much between two yields
    }
    assert!(timeout(SOON, agent.dial(2)).await.is_err(), "a stream beyond the backlog");
    // A task of its own: this one is woken by its streams' ends.
    let other = agent.clone();
    let waiting = tokio::spawn(async move { other.dial(2).await });
    tokio::time::sleep(SOON).await;
    stuck.clear();
    timeout(PATIENCE, waiting).await.expect("in time").expect("no panic").expect("dials");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_pass_whole_with_backpressure() {
    const BYTES: usize = 50 << 20;
    let (_machine, agent, _scratch) = fake(&[]).await;
    let stream = agent.dial(7).await.expect("echoes");
    let (mut read, mut write) = split(stream);

    // Nobody reads: the writer stops after what windows and buffers hold.
    let mut held = 0;
    while let Ok(written) = timeout(SOON, write.write(&[0; 32 << 10])).await {
        held += written.expect("writes");
        assert!(held < 8 << 20, "no backpressure");
    }
    println!("held in flight without a reader: {} KiB", held >> 10);

    let began = Instant::now();
    let writer = tokio::spawn(async move {
        let mut sent = 0usize;
        while sent < BYTES {
            let piece: Vec<u8> = (0..(64 << 10).min(BYTES - sent)).map(|at| ((sent + at) / 251) as u8).collect();
            write.write_all(&piece).await.expect("writes");
            sent += piece.len();
        }
        write.shutdown().await.expect("ends");
    });
    let mut zeros = vec![0; held];
    read.read_exact(&mut zeros).await.expect("reads");
    let (mut got, mut buffer) = (0usize, vec![0; 64 << 10]);
    loop {
        let read = read.read(&mut buffer).await.expect("reads");
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().enumerate().all(|(at, byte)| *byte == ((got + at) / 251) as u8), "at {got}");
        got += read;
    }
    writer.await.expect("no panic");
    assert_eq!(got, BYTES);
    let rate = (BYTES >> 20) as f64 / began.elapsed().as_secs_f64();
    println!("there and back: {rate:.0} MB/s");
    // A small request is served while the large stream's window is not emptied.
    agent.dial(7).await.expect("dials");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_others() {
    let (_machine, agent, _scratch) = fake(&[]).await;
    let mut stuck = agent.dial(7).await.expect("echoes");
    while timeout(SOON, stuck.write(&[0; 32 << 10])).await.is_ok() {}
    let mut other = agent.dial(7).await.expect("echoes");
    other.write_all(b"through").await.expect("writes");
    let mut echo = [0; 7];
    timeout(PATIENCE, other.read_exact(&mut echo)).await.expect("in time").expect("reads");
}

#[tokio::test]
async fn events_are_resumed_by_number() {
    let (machine, agent, _scratch) = fake(&[]).await;
    for _ in 0..3 {
        let mut stream = agent.dial(9000).await.expect("dials");
        let request = b"POST /aws/lambda-microvms/runtime/v1/ready HTTP/1.1\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("writes");
        stream.read_to_end(&mut Vec::new()).await.expect("reads");
    }
    let mut events = agent.events(0).await.expect("follows");
    let first = events.next().await.expect("reads").expect("more");
    let second = events.next().await.expect("reads").expect("more");
    assert_eq!((first.sequence, second.sequence), (1, 2));
    drop(events);

    let agent = Agent::open(machine.connect().await.expect("connects"), PATIENCE).await.expect("answers");
    let mut events = agent.events(second.sequence).await.expect("follows");
    assert_eq!(events.next().await.expect("reads").expect("more").sequence, 3);
    assert_eq!(events.next().await.expect("reads").expect("more").sequence, 4);
    // A call that is dropped loses nothing.
    assert!(timeout(SOON, events.next()).await.is_err());
    agent.shutdown(Duration::ZERO).await.expect("ends");
    let last = events.next().await.expect("reads").expect("more");
    assert_eq!((last.sequence, last.what), (5, Happening::Exited { code: 143 }));
}

#[tokio::test]
async fn events_that_break_the_rules_end_the_stream() {
    let event = |sequence| Event { sequence, unix_time_ms: 0, what: Happening::Dropped { events: 1 } };
    let agent = open(polite_guest(move |request, mut stream| async move {
        let Request::Events { after } = request else { panic!("not events") };
        send(&mut stream, &Response::Done).await;
        match after {
            1 => send(&mut stream, &event(1)).await,
            2 => stream.write_all(&u32::MAX.to_le_bytes()).await.expect("sends"),
            3 => stream.write_all(&[9, 0, 0, 0, 1]).await.expect("sends"),
            4 => stream.write_all(&[2, 0, 0, 0, 0xff, 0xff]).await.expect("sends"),
            _ => {
                // In single bytes: a frame is put together again.
                for byte in wire::encode(&event(9)).expect("encodes") {
                    stream.write_all(&[byte]).await.expect("sends");
                    stream.flush().await.expect("sends");
                    tokio::task::yield_now().await;
                }
            }
        }
        stream.shutdown().await.expect("ends");
    }))
    .await;
    for (after, what) in [(1, "event 1 came after event 1"), (2, "exceeds"), (3, "inside a frame"), (4, "malformed")] {
        let error = agent.events(after).await.expect("follows").next().await.expect_err("broken").to_string();
        assert!(error.contains(what), "{error}");
    }
    let mut events = agent.events(8).await.expect("follows");
    assert_eq!(events.next().await.expect("reads"), Some(event(9)));
    assert_eq!(events.next().await.expect("reads"), None);
}

#[tokio::test]
async fn close_wakes_everybody_and_closes_the_channel() {
    let (machine, agent, _scratch) = fake(&[]).await;
    let mut stream = agent.dial(7).await.expect("echoes");
    let mut stuck = agent.dial(7).await.expect("echoes");
    while timeout(SOON, stuck.write(&[0; 32 << 10])).await.is_ok() {}
    let mut events = agent.events(1).await.expect("follows");
    let close = async {
        tokio::time::sleep(SOON).await;
        tokio::join!(agent.close(), agent.close());
    };
    let mut byte = [0];
    let (read, wrote, next, ()) = timeout(PATIENCE, async {
        tokio::join!(stream.read(&mut byte), stuck.write(&[0; 1024]), events.next(), close)
    })
    .await
    .expect("all are woken");
    assert_eq!(read.expect_err("closed").kind(), ErrorKind::ConnectionReset);
    assert_eq!(wrote.expect_err("closed").kind(), ErrorKind::ConnectionReset);
    assert!(matches!(next, Err(AgentError::Ended(_))));
    agent.closed().await;
    assert_eq!(
        agent.quiesce().await.expect_err("closed").to_string(),
        "the connection to the guest agent has ended: closed by hearth"
    );
    // The guest serves the next connection.
    Agent::open(machine.connect().await.expect("connects"), PATIENCE)
        .await
        .expect("answers")
        .quiesce()
        .await
        .expect("asks");
}

#[tokio::test]
async fn close_does_not_wait_for_ever_for_a_guest_that_stands_still() {
    let (machine, agent, _scratch) = fake(&[]).await;
    let mut stream = agent.dial(7).await.expect("echoes");
    machine.pause().await.expect("pauses");
    while timeout(SOON, stream.write(&[0; 32 << 10])).await.is_ok() {}
    timeout(PATIENCE, agent.close()).await.expect("in bounded time");
}

#[tokio::test]
async fn the_channel_ends_with_the_last_handle() {
    let (host, mut channel) = duplex(64 << 10);
    let guest = tokio::spawn(async move {
        let mut greeting = [0; wire::PREAMBLE.len() + wire::NONCE_BYTES];
        channel.read_exact(&mut greeting).await.expect("the greeting comes");
        channel.write_all(&greeting).await.expect("fits");
        let mut connection = Connection::new(channel.compat(), yamux::Config::default(), yamux::Mode::Server);
        while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            tokio::spawn(async move {
                let mut stream = stream.compat();
                match read_request(&mut stream).await {
                    Request::Hello(_) => send(&mut stream, &hello(1)).await,
                    _ => send(&mut stream, &Response::Dialed).await,
                }
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let agent = open(Box::new(host)).await;
    let stream = agent.dial(1).await.expect("dials");
    let twin = agent.clone();
    drop(agent);
    drop(twin);
    tokio::time::sleep(SOON).await;
    assert!(!guest.is_finished(), "a stream is a handle, too");
    drop(stream);
    timeout(PATIENCE, guest).await.expect("ends").expect("no panic");
}
