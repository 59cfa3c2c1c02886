//! Hostile clients, and a hostile guest behind a session: random bytes that look like the right ones. Nothing panics, nothing
//! hangs, and what must not pass does not. `cargo xtask fuzz` runs many; `HEARTH_FUZZ_SEED` repeats a run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fastrand::Rng;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;
use wire::{
    TerminalSize,
    session::{Exit, Input, Output, frame},
};

use crate::{
    harness::{SOON, World, host, now},
    sessions,
};

/// Inputs of each target when nobody says how many.
const FEW: u64 = 300;
/// An answer that has not begun by then needs more than was sent.
const MOMENT: Duration = Duration::from_millis(100);

/// One run: its inputs, and the panics of this process.
struct Run {
    seed: u64,
    inputs: u64,
    panics: Arc<Mutex<Vec<String>>>,
}

impl Run {
    fn start(few: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let seed = number("HEARTH_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
        let (panics, before) = (Arc::<Mutex<Vec<String>>>::default(), std::panic::take_hook());
        let seen = panics.clone();
        std::panic::set_hook(Box::new(move |panic| {
            seen.lock().unwrap().push(panic.to_string());
            before(panic);
        }));
        eprintln!("fuzz: HEARTH_FUZZ_SEED={seed}");
        Run { seed, inputs: number("HEARTH_FUZZ_REQUESTS").unwrap_or(few), panics }
    }

    /// A generator for each input, so that a failure tells of one.
    fn generators(&self) -> impl Iterator<Item = (String, Rng)> + use<> {
        let seed = self.seed;
        (0..self.inputs).map(move |n| (format!("seed {seed}, input {n}"), Rng::with_seed(seed.wrapping_add(n))))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let panics = self.panics.lock().unwrap().clone();
        assert!(std::thread::panicking() || panics.is_empty(), "seed {}: {panics:?}", self.seed);
    }
}

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let size = rng.usize(..=most);
    (0..size).map(|_| rng.u8(..)).collect()
}

/// Some of these: bytes changed, taken out, put in, repeated; the end cut off.
fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..6) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at, one(rng, &[".", "=", "\0", "\r", "\n", " ", ",", ";", ":", "\u{e9}"]).as_bytes()[0]),
            4 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            _ => bytes.truncate(at),
        }
    }
}

#[tokio::test]
async fn tokens() {
    let run = Run::start(FEW);
    let world = World::start().await;
    let right = world.token("a");
    for (what, mut rng) in run.generators() {
        let mut parts: Vec<Vec<u8>> = right.split('.').map(|part| part.as_bytes().to_vec()).collect();
        let part = rng.usize(..parts.len());
        match rng.u8(..4) {
            0 => spoil(&mut rng, &mut parts[part]),
            1 => {
                let mut inner = URL_SAFE_NO_PAD.decode(&parts[part]).unwrap();
                spoil(&mut rng, &mut inner);
                parts[part] = URL_SAFE_NO_PAD.encode(inner).into_bytes();
            }
            2 => {
                let other = rng.usize(..parts.len());
                parts.swap(part, other);
            }
            _ => parts[part] = bytes(&mut rng, 9000),
        }
        let mut token = parts.join(&b'.');
        if rng.u8(..4) == 0 {
            spoil(&mut rng, &mut token);
        }
        let token = String::from_utf8_lossy(&token);
        assert!(token == right || world.tokens.open(&token, now()).is_err(), "{what}: {token:?} is taken");
    }
}

const METHODS: &[&str] = &["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT", "get", "", "G T", "M-SEARCH"];
const TARGETS: &[&str] =
    &["/head", "/echo", "/", "*", "//", "/%00", "http://x/", "https://HOST/head", "", "x", "/a b", "/\u{e9}"];
const NAMES: &[&str] = &[
    "host",
    "x-aws-proxy-auth",
    "x-aws-proxy-port",
    "x-aws-proxy-force-h2",
    "x-aws-proxy-new",
    "X-AWS-Proxy-Auth",
    "connection",
    "upgrade",
    "sec-websocket-protocol",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "content-length",
    "expect",
    "te",
    "trailer",
    "cookie",
    "keep-alive",
    "proxy-connection",
    "x-own",
    "",
    "x y",
    "x:y",
    "\u{e9}",
];
const VALUES: &[&str] = &[
    "HOST",
    "HOST:443",
    "HOST.",
    "user@HOST",
    "HOST, HOST",
    "other.test",
    "TOKEN",
    "TOKEN",
    "8080",
    "3000",
    "0",
    "65536",
    "-1",
    "+1",
    " 80",
    "true",
    "close",
    "upgrade",
    "Upgrade, x-own",
    "x-aws-proxy-auth",
    "host, content-length",
    "websocket",
    "h2c",
    "chunked",
    "gzip, chunked",
    "5",
    "5, 5",
    "99999999999999999999",
    "100-continue",
    "trailers",
    "lambda-microvms",
    "lambda-microvms, lambda-microvms.authentication.TOKEN",
    "lambda-microvms, lambda-microvms.authentication.TOKEN, lambda-microvms.port.8080",
    "lambda-microvms.port.1, lambda-microvms, chat",
    "13",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "",
    ",",
    "\0",
    "\u{e9}",
    "a\tb",
];

/// A request's bytes: mostly one that leads to the application.
fn request(rng: &mut Rng, token: &str) -> Vec<u8> {
    let often = |rng: &mut Rng| rng.u8(..4) > 0;
    let method = if often(rng) { "POST" } else { one(rng, METHODS) };
    let target = if often(rng) { "/head" } else { one(rng, TARGETS) };
    let version = if often(rng) { "HTTP/1.1" } else { one(rng, &["HTTP/1.0", "HTTP/2.0", "http/1.1", ""]) };
    let mut head = format!("{method} {target} {version}\r\n");
    let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if often(rng) {
        line("host", "HOST");
    }
    if often(rng) {
        line("x-aws-proxy-auth", "TOKEN");
    }
    for _ in 0..rng.usize(..5) {
        line(one(rng, NAMES), one(rng, VALUES));
    }
    line("connection", "close");
    let mut whole = head.replace("HOST", &host("a")).replace("TOKEN", token).into_bytes();
    if !often(rng) {
        spoil(rng, &mut whole);
    }
    whole.extend_from_slice(b"\r\n");
    whole.extend_from_slice(
        one(rng, &["", "hello", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nx-aws-proxy-auth: x\r\n\r\n"])
            .as_bytes(),
    );
    whole
}

#[tokio::test]
async fn heads() {
    let run = Run::start(FEW);
    let world = World::start().await;
    let token = world.token("a");
    let (mut served, mut refused) = (0, 0);
    for (what, mut rng) in run.generators() {
        let sent = request(&mut rng, &token);
        let mut tls = world.tls(Some(&host("a")), b"http/1.1").await;
        let mut answer = Vec::new();
        let all = async {
            tls.write_all(&sent).await?;
            let _ = timeout(MOMENT, tls.read_buf(&mut answer)).await;
            tls.shutdown().await?;
            tls.read_to_end(&mut answer).await
        };
        // That the server ends the connection without a farewell is its right.
        let _ = timeout(SOON, all).await.unwrap_or_else(|_| panic!("{what}: hangs on {}", sent.escape_ascii()));
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(400u16);
        let said = format!("{what}: {}\n{answer}", sent.escape_ascii());
        assert!(status < 500 || [501, 502].contains(&status), "{said}");
        // What the application saw, where it is that which answered.
        let passed = body.contains("\nend ") && body.lines().any(|line| line.starts_with("x-aws-proxy-"));
        assert!(!passed, "{said}");
        if status < 300 {
            assert!(sent.windows(token.len()).any(|window| window == token.as_bytes()), "{said}");
            served += 1;
        } else {
            refused += 1;
        }
    }
    eprintln!("fuzz: {served} served, {refused} refused");
    assert!(run.inputs < FEW || (served > 0 && refused > 0), "{served} served, {refused} refused: one side is missing");
}

/// What a client sends in a session.
fn message(rng: &mut Rng) -> Message {
    let data = bytes(rng, 40);
    match rng.u8(..8) {
        0 => Message::binary(bytes(rng, 4000)),
        1 => Message::binary(Input::Data(&data).write()),
        2 => Message::binary(Input::Resize(TerminalSize { cols: rng.u16(..), rows: rng.u16(..) }).write()),
        3 => {
            let mut written = Input::Data(&data).write();
            spoil(rng, &mut written);
            Message::binary(written)
        }
        4 => Message::Ping(data.into()),
        _ => {
            let mut text = one(
                rng,
                &[
                    r#"{"type":"resize","cols":80,"rows":24}"#,
                    r#"{"type":"resize","cols":65536,"rows":-1}"#,
                    r#"{"type":"session_init","session_id":"x"}"#,
                    r#"{"argv":["true"]}"#,
                    r#"{"argv":[],"get":{"path":"/x"}}"#,
                    r#"{"put":{"path":"/x","name":"../y"},"env":{"A=":"b"}}"#,
                    "[[[[[[[[[[[[[[[[[[[[",
                ],
            )
            .as_bytes()
            .to_vec();
            if rng.bool() {
                spoil(rng, &mut text);
            }
            Message::text(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

/// What a guest sends in one.
fn said(rng: &mut Rng) -> Vec<u8> {
    let data = bytes(rng, 40);
    let mut written = frame(&match rng.u8(..6) {
        0 => Output::Stdout(&data).write(),
        1 => Output::Stderr(&data).write(),
        2 => Output::Taken(rng.u32(..)).write(),
        3 => Output::Failed("why").write(),
        4 => Output::Exited(Exit { code: rng.i32(..), timed_out: rng.bool() }).write(),
        _ => data,
    });
    if rng.u8(..3) == 0 {
        spoil(rng, &mut written);
    }
    written
}

#[tokio::test]
async fn shell() {
    let run = Run::start(FEW / 10);
    let (world, token) = sessions::world().await;
    for (what, mut rng) in run.generators() {
        let path = one(&mut rng, &["/shell", "/.hearth/exec"]);
        let mut client = sessions::open(&world, &token, path).await;
        if path != "/shell" {
            let first = if rng.u8(..4) > 0 { Message::text(r#"{"argv":["cat"]}"#) } else { message(&mut rng) };
            client.send(first).await.unwrap();
        }
        let mut guest = timeout(MOMENT, world.backend.guest()).await.ok();
        for _ in 0..rng.usize(1..12) {
            match &mut guest {
                // Either side may have ended it by now.
                Some((_, stream)) if rng.bool() => drop(stream.write_all(&said(&mut rng)).await),
                _ => drop(client.send(message(&mut rng)).await),
            }
        }
        if rng.bool() {
            let raw = bytes(&mut rng, 200);
            let _ = client.get_mut().write_all(&raw).await;
        }
        // Whoever is left hears of the end.
        if let Some((_, mut stream)) = guest.filter(|_| rng.bool()) {
            drop(client);
            let mut rest = Vec::new();
            let end = timeout(SOON, stream.read_to_end(&mut rest)).await;
            assert!(end.is_ok(), "{what}: the guest waits for a client that has left");
        } else {
            let _ = client.close(None).await;
            let end = timeout(SOON, async { while let Some(Ok(_)) = client.next().await {} }).await;
            assert!(end.is_ok(), "{what}: the client waits for a guest that has left");
        }
    }
}
