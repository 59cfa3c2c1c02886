//! WebSockets (spec 6.5; checklist 20).

use std::time::Duration;

use http::{Request, Response};
use hyper::{body::Incoming, ext::Protocol};
use hyper_util::rt::TokioIo;
use ingress::Kind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    apps,
    harness::{SOON, World, host, nothing, now},
};

/// Upgrades over HTTP/1.1 as a browser does.
async fn upgrade(world: &World, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::get(path)
        .header("host", host("a"))
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap()
}

async fn echoes(response: Response<Incoming>) {
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut buffer = [0; 16];
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let n = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..n], word.as_bytes());
    }
    stream.write_all(b"bye").await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap(), 0, "the application closed");
}

fn header<'a>(response: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn subprotocols() {
    let world = World::start().await;
    world.listen(3000, apps::http1().await);
    let token = format!("lambda-microvms.authentication.{}", world.token("a"));
    for (offer, seen, chosen) in [
        (format!("lambda-microvms, {token}"), "none", "lambda-microvms"),
        (format!("lambda-microvms, {token}, lambda-microvms.port.3000"), "none", "lambda-microvms"),
        (format!("chat, lambda-microvms, {token}, v2"), "chat, v2", "chat"),
        (format!("v2,lambda-microvms,{token}"), "v2", "lambda-microvms"),
    ] {
        let response = upgrade(&world, "/ws", &[("sec-websocket-protocol", &offer)]).await;
        assert_eq!(response.status(), 101, "{}", response.status());
        assert_eq!(header(&response, "x-offered"), Some(seen));
        assert_eq!(header(&response, "sec-websocket-protocol"), Some(chosen));
        assert_eq!(header(&response, "x-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        echoes(response).await;
    }
}

#[tokio::test]
async fn header_authentication_and_precedence() {
    let world = World::start().await;
    let token = world.token("a");
    let response = upgrade(&world, "/ws", &[("x-aws-proxy-auth", &token)]).await;
    assert_eq!((response.status().as_u16(), header(&response, "sec-websocket-protocol")), (101, None));
    echoes(response).await;
    // The header's port wins over the subprotocol's, on which nothing listens.
    let offer = format!("lambda-microvms, lambda-microvms.authentication.{token}, lambda-microvms.port.3001");
    let headers = [("sec-websocket-protocol", &offer[..]), ("x-aws-proxy-port", "8080")];
    assert_eq!(upgrade(&world, "/ws", &headers).await.status(), 101);
    let response = upgrade(&world, "/ws", &headers[..1]).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-aws-proxy-error")), (502, Some("APP_CONNECT_FAILED")));
}

#[tokio::test]
async fn refusals() {
    let world = World::start().await;
    let (token, other) = (world.token("a"), world.token("b"));
    let shell = world.token_of(Kind::Shell, "a", &[], now() + 60);
    for (offer, status) in [
        (format!("lambda-microvms.authentication.{token}"), 403), // no marker
        ("lambda-microvms".to_owned(), 403),
        ("lambda-microvms, lambda-microvms.authentication.x".to_owned(), 403),
        (format!("lambda-microvms, lambda-microvms.authentication.{other}"), 403),
        (format!("lambda-microvms, lambda-microvms.authentication.{shell}"), 403), // no shell connector
        (format!("lambda-microvms, lambda-microvms.authentication.{token}, lambda-microvms.port.9000"), 403),
        (format!("lambda-microvms, lambda-microvms.authentication.{token}, lambda-microvms.port.x"), 400),
    ] {
        let response = upgrade(&world, "/ws", &[("sec-websocket-protocol", &offer)]).await;
        assert_eq!(response.status(), status, "{offer}");
    }
    // Subprotocols authenticate WebSockets only.
    let offer = format!("lambda-microvms, lambda-microvms.authentication.{token}");
    assert_eq!(world.get("a", "/head", &[("sec-websocket-protocol", &offer)]).await.status, 403);
    // The application's own no.
    assert_eq!(upgrade(&world, "/ws?1", &[("sec-websocket-protocol", &offer)]).await.status(), 418);
}

#[tokio::test]
async fn over_http2() {
    let world = World::start().await;
    let token = world.token("a");
    let mut h2 = world.h2("a").await;
    // The first answer comes after the server's settings, which say that it may be asked.
    let first = Request::get(format!("https://{}/none", host("a"))).header("x-aws-proxy-auth", &token);
    assert_eq!(h2.send_request(first.body(nothing()).unwrap()).await.unwrap().status(), 404);
    let mut connect = async |path: &str| {
        let request = Request::connect(format!("https://{}{path}", host("a")))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", format!("lambda-microvms, lambda-microvms.authentication.{token}, chat"));
        h2.send_request(request.body(nothing()).unwrap()).await.unwrap()
    };
    let response = connect("/ws").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "sec-websocket-protocol"), Some("chat"));
    assert_eq!((header(&response, "x-offered"), header(&response, "sec-websocket-accept")), (Some("chat"), None));
    assert_eq!(header(&response, "x-key").map(str::len), Some(24), "the application gets a key");
    echoes(response).await;
    assert_eq!(connect("/ws?1").await.status(), 418);
    assert_eq!(connect("/head").await.status(), 502, "a 200 that is no tunnel");
}

#[tokio::test]
async fn a_client_that_leaves_is_told_to_the_application() {
    let world = World::start().await;
    let token = world.token("a");
    let response = upgrade(&world, "/ws", &[("x-aws-proxy-auth", &token)]).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    let before = world.backend.activity.load(std::sync::atomic::Ordering::SeqCst);
    drop(stream);
    timeout(SOON, async {
        while world.backend.activity.load(std::sync::atomic::Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the request ended");
}
