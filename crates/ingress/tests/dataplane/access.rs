//! Who is let in beyond AWS's rules, and who is not any more.

use http::{Request, Response};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::{Claims, Extras, Kind, Limits, PortRange};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{SOON, World, answer, host, nothing, now, text};

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

#[tokio::test]
async fn revoked_tokens_open_nothing_and_their_websockets_end() {
    let world = World::start().await;
    world.route("a", |route| route.shell = true);
    let minted = |revocation| {
        let (microvm, kind, ports) = ("microvm-a".to_owned(), Kind::Auth, vec![PortRange::single(8080)]);
        world.tokens.mint(&Claims { microvm, kind, ports, expires_at: now() + 60, revocation }).into_string()
    };
    let (old, new) = (minted(0), minted(1));
    let shell = world.token_of(Kind::Shell, "a", &[], now() + 60);
    let open = async |token: &str, path: &str| {
        let response = upgrade(&world, path, &[("x-aws-proxy-auth", token)]).await;
        assert_eq!(response.status(), 101, "{path}");
        TokioIo::new(hyper::upgrade::on(response).await.unwrap())
    };
    let (mut first, mut second) = (open(&old, "/ws").await, open(&new, "/ws").await);
    let (mut shell_of_old, _guest) = (open(&shell, "/shell").await, world.backend.guest().await);

    world.route("a", |route| (route.shell, route.revocation) = (true, 1));
    for stream in [&mut first, &mut shell_of_old] {
        let mut rest = Vec::new();
        // Ended in whichever way, what was sent before is all that there is.
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    }
    second.write_all(b"still").await.unwrap();
    let mut buffer = [0; 5];
    timeout(SOON, second.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer, b"still");

    let refused = world.get("a", "/none", &[("x-aws-proxy-auth", &old)]).await;
    assert_eq!((refused.status.as_u16(), &refused.text[..]), (403, "Token authentication failed"));
    assert_eq!(upgrade(&world, "/shell", &[("x-aws-proxy-auth", &shell)]).await.status(), 403);
    assert_eq!(world.get("a", "/none", &[("x-aws-proxy-auth", &new)]).await.status, 404);
}

#[tokio::test]
async fn the_plain_listener_serves_the_same_by_host() {
    let world = World::start().await;
    let token = world.token("a");
    let tcp = async || TokioIo::new(TcpStream::connect(world.plain).await.unwrap());
    let (mut h1, connection) = conn::http1::handshake(tcp().await).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let (mut h2, connection) = conn::http2::handshake(TokioExecutor::new(), tcp().await).await.unwrap();
    tokio::spawn(connection);
    for (name, sent, status) in
        [("a", &token[..], 200), ("b", &token, 403), ("nobody", &token, 403), ("a", "", 403), ("a", &token, 200)]
    {
        let request = |uri: String| {
            let request = Request::post(uri).header("x-aws-proxy-auth", sent).header("host", host(name));
            request.body(text("hello")).unwrap()
        };
        h1.ready().await.unwrap();
        let seen = answer(h1.send_request(request("/head".into())).await.unwrap()).await;
        assert_eq!(seen.status, status, "{name} {}", seen.text);
        let seen = answer(h2.send_request(request(format!("http://{}/head", host(name)))).await.unwrap()).await;
        assert_eq!(seen.status, status, "{name} {}", seen.text);
    }
    let websocket = Request::get("/ws").header("host", host("a")).header("x-aws-proxy-auth", &token);
    let websocket = websocket.header("connection", "upgrade").header("upgrade", "websocket").body(nothing()).unwrap();
    h1.ready().await.unwrap();
    assert_eq!(h1.send_request(websocket).await.unwrap().status(), 101);
    // TLS to it is not understood, and nothing waits for it.
    let mut wrong = TcpStream::connect(world.plain).await.unwrap();
    wrong.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
    let mut said = Vec::new();
    timeout(SOON, wrong.read_to_end(&mut said)).await.unwrap().unwrap();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn the_application_is_told_of_the_client_when_it_is_switched_on() {
    let world = World::start_beyond(Limits::default(), Extras { forwarded_headers: true, ..Extras::default() }).await;
    let token = world.token("a");
    let seen = world.get("a", "/head", &[("x-aws-proxy-auth", &token), ("x-forwarded-for", "10.9.8.7")]).await;
    for line in ["x-forwarded-for: 10.9.8.7, 127.0.0.1", "x-forwarded-proto: https"] {
        assert!(seen.text.lines().any(|seen| seen == line), "{line} in {}", seen.text);
    }
    assert!(seen.text.contains(&format!("x-forwarded-host: {}\n", host("a"))), "{}", seen.text);
    let tcp = TokioIo::new(TcpStream::connect(world.plain).await.unwrap());
    let (mut h1, connection) = conn::http1::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/head").header("host", host("a")).header("x-aws-proxy-auth", &token);
    let seen = answer(h1.send_request(request.body(nothing()).unwrap()).await.unwrap()).await;
    assert!(seen.text.contains("x-forwarded-proto: http\n"), "{}", seen.text);
}
