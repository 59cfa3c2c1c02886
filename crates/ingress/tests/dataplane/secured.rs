//! Applications that speak TLS themselves.

use http::Method;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    apps,
    harness::{World, answer, host, nothing},
};

fn request(world: &World, method: Method, path: &str) -> http::request::Builder {
    http::Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", host("a")))
        .header("host", host("a"))
        .header("x-aws-proxy-auth", world.token("a"))
        .header("x-aws-proxy-port", "3000")
}

async fn send(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = request(world, method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = answer(world.h2("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap()).await;
    (answer.status.as_u16(), answer.text)
}

#[tokio::test]
async fn they_are_found_out_and_remembered() {
    let world = World::start().await;
    let (address, shaken) = apps::secured(&world).await;
    world.listen(3000, address);
    let (status, text) = send(&world, Method::GET, "/head", &[]).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.starts_with("GET /head HTTP/1.1") && text.contains(&format!("host: {}", host("a"))), "{text}");
    assert_eq!(send(&world, Method::POST, "/digest", &[]).await.0, 200, "it is known now");
    assert!(shaken.load(std::sync::atomic::Ordering::SeqCst) >= 3, "a probe, and a connection for each");
    // Something else listens there now.
    world.listen(3000, apps::http1().await);
    assert_eq!(send(&world, Method::GET, "/head", &[]).await.0, 200);
}

#[tokio::test]
async fn the_first_request_that_cannot_be_sent_twice_finds_out_for_the_others() {
    let world = World::start().await;
    world.listen(3000, apps::secured(&world).await.0);
    let body = apps::pattern(1000);
    let upload = request(&world, Method::POST, "/digest").body(body).unwrap();
    assert_eq!(answer(world.h1("a").await.send_request(upload).await.unwrap()).await.status.as_u16(), 502);
    let upload = request(&world, Method::POST, "/digest").body(apps::pattern(1000)).unwrap();
    let answer = answer(world.h1("a").await.send_request(upload).await.unwrap()).await;
    assert!(answer.text.starts_with("1000 "), "{}", answer.text);
}

#[tokio::test]
async fn http2_inside() {
    let world = World::start().await;
    world.listen(3000, apps::secured(&world).await.0);
    let upload = request(&world, Method::POST, "/trailers").header("x-aws-proxy-force-h2", "true");
    let sent = world.h2("a").await.send_request(upload.body(apps::pattern(100)).unwrap()).await.unwrap();
    assert_eq!(sent.status().as_u16(), 200, "the first one, with a body");
    let collected = sent.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    let (_, head) = send(&world, Method::GET, "/head", &[("x-aws-proxy-force-h2", "true")]).await;
    assert!(head.contains("HTTP/2.0"), "{head}");
}

#[tokio::test]
async fn websockets() {
    let world = World::start().await;
    world.listen(3000, apps::secured(&world).await.0);
    let upgrade = http::Request::get("/ws")
        .header("host", host("a"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("x-aws-proxy-auth", world.token("a"))
        .header("x-aws-proxy-port", "3000");
    let response = world.h1("a").await.send_request(upgrade.body(nothing()).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

/// Applications without TLS are never asked for it: not after a 400 of theirs, once they have given another answer.
#[tokio::test]
async fn others_are_left_alone() {
    let world = World::start().await;
    let (address, mut endings) = apps::counting(apps::Manner::Parallel).await;
    world.listen(3000, address);
    let text = send(&world, Method::GET, "/", &[]).await.1;
    assert!(text.ends_with(" 1"), "{text}");
    world.listen(3000, apps::raw(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad").await);
    let before = world.backend.connects.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(send(&world, Method::GET, "/", &[]).await, (400, "bad".to_owned()));
    assert_eq!(world.backend.connects.load(std::sync::atomic::Ordering::SeqCst), before + 1);
    assert!(endings.recv().await.is_some());
}
