//! Shells and programs (spec 8), with the guest's side played here.

use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::{body::Incoming, ext::Protocol, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use ingress::{ConnectError, Kind, SessionError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use wire::{
    Job, TerminalSize,
    session::{Deframer, Exit, Input, MAX_DATA_BYTES, Output, WINDOW_BYTES, frame},
};

use crate::harness::{SOON, World, answer, host, nothing, now};

type Client = WebSocketStream<TokioIo<Upgraded>>;

pub async fn world() -> (World, String) {
    let world = World::start().await;
    world.route("a", |route| route.shell = true);
    let token = world.token_of(Kind::Shell, "a", &[], now() + 60);
    (world, token)
}

async fn upgrade(world: &World, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::get(path)
        .header("host", host("a"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap()
}

async fn client(response: Response<Incoming>) -> Client {
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    Client::from_raw_socket(upgraded, Role::Client, None).await
}

pub async fn open(world: &World, token: &str, path: &str) -> Client {
    let response = upgrade(world, path, &[("x-aws-proxy-auth", token)]).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    client(response).await
}

async fn hear(client: &mut Client) -> Message {
    timeout(SOON, client.next()).await.unwrap().unwrap().unwrap()
}

/// Code and reason of the close that follows.
async fn closed(client: &mut Client) -> (u16, String) {
    match hear(client).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("not closed: {other:?}"),
    }
}

/// The guest's side.
struct Guest {
    stream: DuplexStream,
    deframer: Deframer,
}

impl Guest {
    async fn of(world: &World) -> (wire::Session, Self) {
        let (session, stream) = world.backend.guest().await;
        (session, Guest { stream, deframer: Deframer::default() })
    }

    async fn say(&mut self, output: Output<'_>) {
        self.stream.write_all(&frame(&output.write())).await.unwrap();
    }

    /// The next message from the client; `None` when the host has left.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.deframer.take().unwrap() {
                return Some(message.to_vec());
            }
            let mut bytes = vec![0; 1 << 16];
            match timeout(SOON, self.stream.read(&mut bytes)).await.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.deframer.push(&bytes[..count]),
            }
        }
    }
}

#[tokio::test]
async fn a_shell() {
    let (world, token) = world().await;
    for path in ["/shell", "/", "/shell?x=y"] {
        let mut client = open(&world, &token, path).await;
        let (session, mut guest) = Guest::of(&world).await;
        assert_eq!((session.job, session.terminal), (Job::Shell, Some(TerminalSize::default())));
        let Message::Text(init) = hear(&mut client).await else { panic!("no text") };
        let init: serde_json::Value = serde_json::from_str(&init).unwrap();
        assert_eq!(init["type"], "session_init");
        assert_eq!(init["session_id"].as_str().unwrap().len(), 36);

        client.send(Message::binary(&b"ls\n"[..])).await.unwrap();
        client.send(Message::text("pwd\n")).await.unwrap();
        client.send(Message::text(r#"{"type":"resize","cols":80,"rows":24}"#)).await.unwrap();
        client.send(Message::text(r#"{"type":"bell"}"#)).await.unwrap();
        let size = TerminalSize { cols: 80, rows: 24 };
        for wanted in
            [Input::Data(b"ls\n"), Input::Data(b"pwd\n"), Input::Resize(size), Input::Data(br#"{"type":"bell"}"#)]
        {
            assert_eq!(guest.hear().await.unwrap(), wanted.write());
        }
        guest.say(Output::Taken(3)).await;
        guest.say(Output::Stdout(b"\x1b[1mhello")).await;
        assert_eq!(hear(&mut client).await, Message::binary(&b"\x1b[1mhello"[..]));
        guest.say(Output::Exited(Exit { code: 3, timed_out: false })).await;
        assert_eq!(closed(&mut client).await, (1000, "shell exited".to_owned()));
    }
    assert!(world.backend.activity.load(std::sync::atomic::Ordering::SeqCst) >= 5, "it counts as traffic");
}

#[tokio::test]
async fn subprotocols_and_http2() {
    let (world, token) = world().await;
    for port in ["", ", lambda-microvms.port.8022", ", lambda-microvms.port.x"] {
        let offer = format!("lambda-microvms, lambda-microvms.authentication.{token}{port}");
        let response = upgrade(&world, "/shell", &[("sec-websocket-protocol", &offer)]).await;
        assert_eq!(response.status(), 101, "{port}");
        assert_eq!(response.headers()["sec-websocket-protocol"], "lambda-microvms");
    }
    let mut h2 = world.h2("a").await;
    let plain = Request::get(format!("https://{}/shell", host("a"))).header("x-aws-proxy-auth", &token);
    assert_eq!(h2.send_request(plain.body(nothing()).unwrap()).await.unwrap().status(), 502);
    let connect = Request::connect(format!("https://{}/shell", host("a")))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("x-aws-proxy-auth", &token);
    let response = h2.send_request(connect.body(nothing()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(matches!(hear(&mut client(response).await).await, Message::Text(_)));
}

#[tokio::test]
async fn what_opens_no_shell() {
    let (world, token) = world().await;
    let other = world.token_of(Kind::Shell, "b", &[], now() + 60);
    let old = world.token_of(Kind::Shell, "a", &[], now() - 1);
    let auth = world.token("a");
    for (path, token, status, text) in [
        ("/other", &token, 502, ""),
        ("/shell", &other, 403, "Token authentication failed"),
        ("/shell", &old, 403, "Token authentication failed"),
        ("/shell", &"x".to_owned(), 403, "Request missing authentication"),
    ] {
        let response = upgrade(&world, path, &[("x-aws-proxy-auth", token)]).await;
        let answer = answer(response).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text), "{path}");
    }
    // An endpoint token leads to the application, and the shell token does not.
    for path in ["/shell", "/", "/.hearth/exec"] {
        assert_ne!(upgrade(&world, path, &[("x-aws-proxy-auth", &auth)]).await.status(), 101, "{path}");
    }
    for path in ["/", "/shell", "/.hearth/exec", "/head"] {
        let answer = world.get("a", path, &[("x-aws-proxy-auth", &token)]).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str(), answer.header("x-aws-proxy-error")), (502, "", None));
    }
    // No connector; gone; no way in.
    world.route("a", |_| {});
    assert_eq!(upgrade(&world, "/shell", &[("x-aws-proxy-auth", &token)]).await.status(), 403);
    world.route("a", |route| (route.shell, route.terminated) = (true, true));
    let response = upgrade(&world, "/shell", &[("x-aws-proxy-auth", &token)]).await;
    assert_eq!(response.headers()["x-aws-proxy-error"], "MICROVM_CONNECT_FAILED");
    world.route("a", |route| route.shell = true);
    for (error, status, code) in [
        (SessionError::Connect(ConnectError::Unavailable), 502, None),
        (SessionError::TooOld, 502, Some("AGENT_TOO_OLD")),
        (SessionError::Failed("no /bin".into()), 502, Some("SHELL_FAILED")),
    ] {
        *world.backend.no_session.lock().unwrap() = Some(error);
        let answer = answer(upgrade(&world, "/shell", &[("x-aws-proxy-auth", &token)]).await).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-aws-proxy-error")), (status, code));
        assert_eq!(answer.text.is_empty(), code.is_none());
    }
    assert!(world.backend.guests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_program() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/.hearth/exec").await;
    client.send(Message::text(r#"{"argv":["cat"],"user":"app"}"#)).await.unwrap();
    let (session, mut guest) = Guest::of(&world).await;
    assert_eq!((session.job, session.user.as_deref()), (Job::Exec(vec!["cat".into()]), Some("app")));
    for input in [Input::Data(b"x"), Input::Signal(15), Input::End] {
        client.send(Message::binary(input.write())).await.unwrap();
        assert_eq!(guest.hear().await.unwrap(), input.write());
    }
    let exited = Output::Exited(Exit { code: 3, timed_out: false });
    for output in [Output::Taken(1), Output::Stderr(b"y"), exited] {
        guest.say(output).await;
        assert_eq!(hear(&mut client).await, Message::binary(output.write()));
    }
    assert_eq!(closed(&mut client).await.0, 1000);
    *world.backend.no_session.lock().unwrap() = Some(SessionError::TooOld);
    let mut client = open(&world, &token, "/.hearth/exec").await;
    client.send(Message::text(r#"{"argv":["cat"]}"#)).await.unwrap();
    let Message::Binary(message) = hear(&mut client).await else { panic!("no bytes") };
    assert!(matches!(Output::read(&message), Ok(Output::Failed(text)) if text.contains("too old")));
    assert_eq!(closed(&mut client).await.0, 1011);
}

#[tokio::test]
async fn keystrokes_wait_for_credit_and_a_guest_cannot_invent_it() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/shell").await;
    let (_, mut guest) = Guest::of(&world).await;
    guest.say(Output::Taken(u32::MAX)).await;
    guest.say(Output::Stdout(b"seen")).await;
    while !matches!(hear(&mut client).await, Message::Binary(_)) {}
    for _ in 0..2 {
        client.send(Message::binary(vec![b'x'; WINDOW_BYTES])).await.unwrap();
    }
    let mut came = 0;
    while came < WINDOW_BYTES {
        came += guest.hear().await.unwrap().len() - 1;
    }
    let more = timeout(std::time::Duration::from_millis(200), guest.hear()).await;
    assert!(more.is_err(), "input beyond the window of {WINDOW_BYTES}");
    guest.say(Output::Taken(u32::try_from(came).unwrap())).await;
    assert!(guest.hear().await.is_some());
}

#[tokio::test]
async fn a_shell_that_takes_no_keys_still_hears_sizes_and_that_its_client_left() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/shell").await;
    let (_, mut guest) = Guest::of(&world).await;
    assert!(matches!(hear(&mut client).await, Message::Text(_)));
    for _ in 0..2 * WINDOW_BYTES / 30_000 {
        client.send(Message::binary(vec![b'x'; 30_000])).await.unwrap();
    }
    client.send(Message::text(r#"{"type":"resize","cols":80,"rows":24}"#)).await.unwrap();
    let size = Input::Resize(TerminalSize { cols: 80, rows: 24 }).write();
    let (mut keys, mut seen) = (0, false);
    while !seen {
        let message = guest.hear().await.unwrap();
        seen = message == size;
        keys += if seen { 0 } else { message.len() - 1 };
    }
    assert!(keys <= WINDOW_BYTES, "{keys}");
    drop(client);
    while guest.hear().await.is_some() {}
}

#[tokio::test]
async fn keys_that_waited_arrive_in_their_order() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/shell").await;
    let (_, mut guest) = Guest::of(&world).await;
    let typed: Vec<u8> = (0..WINDOW_BYTES + 50_000).map(|n| (n % 251) as u8).collect();
    for keys in typed.chunks(777) {
        client.send(Message::binary(keys.to_vec())).await.unwrap();
    }
    let mut came = Vec::new();
    while came.len() < typed.len() {
        let message = guest.hear().await.unwrap();
        let Ok(Input::Data(keys)) = Input::read(&message) else { panic!("{message:?}") };
        came.extend_from_slice(keys);
        guest.say(Output::Taken(u32::try_from(keys.len()).unwrap())).await;
    }
    assert!(came == typed);
}

#[tokio::test]
async fn a_session_that_breaks_off_is_told_from_a_microvm_that_is_gone() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/shell").await;
    let (_, mut guest) = Guest::of(&world).await;
    assert!(matches!(hear(&mut client).await, Message::Text(_)));
    guest.say(Output::Failed("no terminal")).await;
    assert_eq!(closed(&mut client).await, (1011, "the session broke off".to_owned()));
}

#[tokio::test]
async fn who_breaks_the_protocol_is_shown_out() {
    let (world, token) = world().await;
    for (rubbish, code) in [
        (Message::binary(&b"\xff"[..]), 1008),
        (Message::binary(vec![0; MAX_DATA_BYTES + 2]), 1008),
        (Message::binary(vec![0; 300 << 10]), 1009),
        (Message::text("ls"), 1008),
    ] {
        let mut client = open(&world, &token, "/.hearth/exec").await;
        client.send(Message::text(r#"{"argv":["cat"]}"#)).await.unwrap();
        let (_, mut guest) = Guest::of(&world).await;
        client.send(rubbish).await.unwrap();
        assert_eq!(closed(&mut client).await.0, code);
        assert!(guest.hear().await.is_none(), "the program is told");
    }
    for rubbish in [&[0; 4][..], &u32::MAX.to_le_bytes(), &frame(&[99]), &frame(&Output::Stderr(b"x").write())] {
        let mut client = open(&world, &token, "/shell").await;
        let (_, mut guest) = Guest::of(&world).await;
        assert!(matches!(hear(&mut client).await, Message::Text(_)));
        guest.stream.write_all(rubbish).await.unwrap();
        assert_eq!(closed(&mut client).await.0, 1011, "{rubbish:?}");
    }
}

#[tokio::test]
async fn either_side_that_leaves_is_told_to_the_other() {
    let (world, token) = world().await;
    let mut client = open(&world, &token, "/shell").await;
    let (_, guest) = Guest::of(&world).await;
    assert!(matches!(hear(&mut client).await, Message::Text(_)));
    drop(guest);
    assert_eq!(closed(&mut client).await.0, 1001);
    let client = open(&world, &token, "/shell").await;
    let (_, mut guest) = Guest::of(&world).await;
    drop(client);
    assert!(guest.hear().await.is_none());
}

#[tokio::test]
async fn sessions_are_bounded_for_each_microvm() {
    let (world, token) = world().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(self::open(&world, &token, "/shell").await);
    }
    let refused = answer(upgrade(&world, "/shell", &[("x-aws-proxy-auth", &token)]).await).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-aws-proxy-error")), (429, Some("TOO_MANY_SESSIONS")));
    assert!(refused.text.contains("64"));
    drop(open.pop());
    let again = async {
        while upgrade(&world, "/shell", &[("x-aws-proxy-auth", &token)]).await.status() != 101 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, again).await.expect("a place is free again");
}
