//! The listener's own life: shutdown, slow clients, full houses.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use ingress::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    apps,
    harness::{SOON, World, answer, host, nothing},
};

fn get(world: &World, path: &str) -> http::request::Builder {
    Request::get(format!("https://{}{path}", host("a")))
        .header("host", host("a"))
        .header("x-aws-proxy-auth", world.token("a"))
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let mut world = World::start().await;
    let (mut h1, mut h2) = (world.h1("a").await, world.h2("a").await);
    let make = || get(&world, "/ticks").body(nothing()).unwrap();
    let (one, two) = (h1.send_request(make()).await.unwrap(), h2.send_request(make()).await.unwrap());
    let began = Instant::now();
    let server = world.ask_to_stop();
    for response in [one, two] {
        assert!(answer(response).await.text.ends_with("data: 4\n\n"));
    }
    timeout(SOON, server).await.unwrap().unwrap();
    assert!(began.elapsed() < Limits::default().drain, "it does not wait longer than the requests");
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn shutdown_ends_what_does_not_finish() {
    let mut world = World::start_with(Limits { drain: Duration::from_millis(100), ..Limits::default() }).await;
    let (address, mut endings) = apps::silent().await;
    world.listen(3000, address);
    let mut h2 = world.h2("a").await;
    let request = get(&world, "/").header("x-aws-proxy-port", "3000").body(nothing()).unwrap();
    let hanging = tokio::spawn(async move { h2.send_request(request).await });
    let websocket = Request::get("/ws")
        .header("host", host("a"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("x-aws-proxy-auth", world.token("a"));
    let response = world.h1("a").await.send_request(websocket.body(nothing()).unwrap()).await.unwrap();
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    while world.backend.connects.load(std::sync::atomic::Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    world.stop().await;
    assert!(timeout(SOON, hanging).await.unwrap().unwrap().is_err());
    assert!(stream.read_u8().await.is_err());
    timeout(SOON, endings.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_clients_are_shown_out() {
    let short = Duration::from_millis(200);
    let limits = Limits { handshake: short, head: short, idle: short, ..Limits::default() };
    let world = World::start_with(limits).await;
    let mut buffer = [0; 64];

    let mut mute = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(timeout(SOON, mute.read(&mut buffer)).await.unwrap().unwrap(), 0, "no handshake");

    let mut slow = world.tls(Some(&host("a")), b"http/1.1").await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(SOON, slow.read_to_end(&mut rest)).await.expect("half a head");

    let mut h2 = world.h2("a").await;
    let response = h2.send_request(get(&world, "/ticks").body(nothing()).unwrap()).await.unwrap();
    assert!(answer(response).await.text.ends_with("data: 4\n\n"), "a connection in use is not idle");
    timeout(SOON, async {
        while !h2.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("no request for a while");
}

#[tokio::test]
async fn connections_wait_for_a_place() {
    let world = World::start_with(Limits { connections: 1, ..Limits::default() }).await;
    let token = world.token("a");
    let (address, _endings) = apps::silent().await;
    world.listen(3000, address);
    let mut first = world.h1("a").await;
    let hanging = get(&world, "/").header("x-aws-proxy-port", "3000").body(nothing()).unwrap();
    let first = tokio::spawn(async move { first.send_request(hanging).await });
    while world.backend.connects.load(std::sync::atomic::Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    let headers = [("x-aws-proxy-auth", &token[..])];
    let waiting = world.get("a", "/none", &headers);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    first.abort();
    assert_eq!(timeout(SOON, waiting).await.unwrap().status, 404);
}

#[tokio::test]
async fn many_at_once() {
    let world = std::sync::Arc::new(World::start().await);
    let h2 = world.h2("a").await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (mut h2, world) = (h2.clone(), world.clone());
            tokio::spawn(async move {
                let path = "/pattern?100000";
                let response = h2.send_request(get(&world, path).body(nothing()).unwrap()).await.unwrap();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 100_000);
            })
        })
        .collect();
    for task in tasks {
        timeout(SOON, task).await.unwrap().unwrap();
    }
}
