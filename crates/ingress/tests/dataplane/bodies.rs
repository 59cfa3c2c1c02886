//! Bodies: streams, trailers, sizes, early answers, and clients or applications that leave.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    apps,
    harness::{Body, SOON, World, answer, host, nothing, text},
};

fn request(world: &World, method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", host("a")))
        .header("host", host("a"))
        .header("x-aws-proxy-auth", world.token("a"))
}

/// Sends over a new connection of each kind.
async fn both(world: &World, make: impl Fn() -> Request<Body>) -> [Response<Incoming>; 2] {
    let one = world.h1("a").await.send_request(make()).await.unwrap();
    [one, world.h2("a").await.send_request(make()).await.unwrap()]
}

#[tokio::test]
async fn ticks_arrive_when_they_are_sent() {
    let world = World::start().await;
    for http2 in [false, true] {
        let ticks = request(&world, "GET", "/ticks").body(nothing()).unwrap();
        let mut response = match http2 {
            true => world.h2("a").await.send_request(ticks).await.unwrap(),
            false => world.h1("a").await.send_request(ticks).await.unwrap(),
        };
        let began = Instant::now();
        let mut arrivals = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            // The end of an HTTP/2 body can come as an empty frame.
            if !frame.unwrap().data_ref().unwrap().is_empty() {
                arrivals.push(began.elapsed());
            }
        }
        assert_eq!(arrivals.len(), 5);
        assert!(arrivals[4] - arrivals[0] > Duration::from_millis(300), "unbuffered: {arrivals:?}");
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    const SIZE: usize = 24 << 20;
    let world = World::start().await;
    let expected = apps::digest(apps::pattern(SIZE)).await;
    for response in both(&world, || request(&world, "PUT", "/digest").body(apps::pattern(SIZE)).unwrap()).await {
        assert_eq!(answer(response).await.text, expected, "up");
    }
    let path = format!("/pattern?{SIZE}");
    for response in both(&world, || request(&world, "GET", &path).body(nothing()).unwrap()).await {
        assert_eq!(apps::digest(response.into_body()).await, expected, "down");
    }
    for response in both(&world, || request(&world, "POST", "/echo").body(apps::pattern(SIZE)).unwrap()).await {
        assert_eq!(apps::digest(response.into_body()).await, expected, "both ways at once");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let world = World::start().await;
    world.listen(3000, apps::h2c().await);
    for (port, force) in [("3000", "true"), ("8080", "false")] {
        let (sender, body) = apps::frames();
        tokio::spawn(async move {
            sender.send(Frame::data(Bytes::from_static(b"\0\0\0\0\x01x"))).await.unwrap();
            let trailers = [("x-sent".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
            sender.send(Frame::trailers(trailers)).await.unwrap();
        });
        let request = request(&world, "POST", "/trailers")
            .header("x-aws-proxy-port", port)
            .header("x-aws-proxy-force-h2", force)
            .header("content-type", "application/grpc")
            .header("trailer", "x-sent")
            .header("te", "trailers");
        let answer = answer(world.h2("a").await.send_request(request.body(body).unwrap()).await.unwrap()).await;
        assert_eq!(answer.text, "\0\0\0\0\x01x");
        let trailers = answer.trailers.unwrap();
        assert_eq!((&trailers["grpc-status"], &trailers["x-sent"]), (&"0".parse().unwrap(), &"1".parse().unwrap()));
    }
}

#[tokio::test]
async fn streams_go_both_ways_at_once() {
    let world = World::start().await;
    world.listen(3000, apps::h2c().await);
    for (port, force) in [("3000", "true"), ("8080", "false")] {
        let (sender, body) = apps::frames();
        let request =
            request(&world, "POST", "/echo").header("x-aws-proxy-port", port).header("x-aws-proxy-force-h2", force);
        let mut response = world.h2("a").await.send_request(request.body(body).unwrap()).await.unwrap();
        for word in ["one", "two", "three"] {
            sender.send(Frame::data(Bytes::from(word))).await.unwrap();
            let frame = timeout(SOON, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.data_ref().unwrap(), word);
        }
        drop(sender);
        assert_eq!(answer(response).await.text, "", "a clean end");
    }
}

/// Spec 6.4: on AWS the client gets a reset stream instead of the answer.
#[tokio::test]
async fn early_answers_reach_the_client() {
    let world = World::start().await;
    let raw = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large";
    world.listen(3000, apps::raw(raw).await);
    world.listen(3001, apps::h2c().await);
    for (port, force) in [("8080", "false"), ("3000", "false"), ("3001", "true")] {
        for _ in 0..5 {
            let request = request(&world, "POST", "/early")
                .header("x-aws-proxy-port", port)
                .header("x-aws-proxy-force-h2", force)
                .body(apps::pattern(64 << 20))
                .unwrap();
            let answer = answer(world.h2("a").await.send_request(request).await.unwrap()).await;
            assert_eq!((answer.status.as_u16(), &answer.text[..]), (413, "too large"), "port {port}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_told_to_the_application() {
    let world = World::start().await;
    let (address, mut endings) = apps::silent().await;
    world.listen(3000, address);
    let make = |port: &str| request(&world, "GET", "/").header("x-aws-proxy-port", port).body(nothing()).unwrap();
    let (mut h1, mut h2) = (world.h1("a").await, world.h2("a").await);
    assert!(timeout(Duration::from_millis(200), h1.send_request(make("3000"))).await.is_err());
    drop(h1);
    timeout(SOON, endings.recv()).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(200), h2.send_request(make("3000"))).await.is_err());
    timeout(SOON, endings.recv()).await.unwrap().unwrap();
    // The HTTP/2 connection itself goes on.
    let path = request(&world, "GET", "/none").body(nothing()).unwrap();
    assert_eq!(h2.send_request(path).await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_application_that_leaves_is_told_to_the_client() {
    let world = World::start().await;
    world.listen(3000, apps::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await);
    let make = || request(&world, "GET", "/").header("x-aws-proxy-port", "3000").body(nothing()).unwrap();
    for response in both(&world, make).await {
        assert_eq!(response.status(), 200);
        assert!(timeout(SOON, response.into_body().collect()).await.unwrap().is_err(), "half a body is no body");
    }
}

#[tokio::test]
async fn answers_of_http_1_0() {
    let world = World::start().await;
    world.listen(3000, apps::raw(b"HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\nuntil the end").await);
    let make = || request(&world, "GET", "/").header("x-aws-proxy-port", "3000").body(nothing()).unwrap();
    for response in both(&world, make).await {
        assert_eq!(answer(response).await.text, "until the end");
    }
}

#[tokio::test]
async fn head_and_empty_answers() {
    let world = World::start().await;
    world.listen(3000, apps::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await);
    world.listen(3001, apps::raw(b"HTTP/1.1 204 No Content\r\n\r\n").await);
    for (method, port, status, length) in [("HEAD", "3000", 200, Some("100")), ("DELETE", "3001", 204, None)] {
        let make = || request(&world, method, "/").header("x-aws-proxy-port", port).body(nothing()).unwrap();
        for response in both(&world, make).await {
            let answer = answer(response).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-length")), (status, length));
        }
    }
}

/// Spec 5.3 and 16.19: bytes of an authorized stream are activity, about once a second; begin and end are, too.
#[tokio::test]
async fn activity_follows_the_bytes() {
    let world = World::start().await;
    let token = world.token("a");
    world.get("a", "/none", &[("x-aws-proxy-auth", &token)]).await;
    assert_eq!(world.backend.activity.swap(0, SeqCst), 2, "begin and end of a short request");
    let (sender, body) = apps::frames();
    let mut response =
        world.h2("a").await.send_request(request(&world, "POST", "/echo").body(body).unwrap()).await.unwrap();
    assert_eq!(world.backend.activity.load(SeqCst), 1);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        sender.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
    }
    assert_eq!(world.backend.activity.load(SeqCst), 2, "throttled");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.backend.activity.load(SeqCst), 2, "an open silent stream is none");
    drop(sender);
    assert_eq!(answer(response).await.text, "");
    timeout(SOON, async {
        while world.backend.activity.load(SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_with_every_method() {
    let world = World::start().await;
    for method in ["GET", "DELETE", "POST"] {
        let make = || {
            let (sender, body) = apps::frames();
            tokio::spawn(async move { sender.send(Frame::data(Bytes::from_static(b"hello"))).await });
            // hyper's client, too, asks for this when it shall send one with GET.
            request(&world, method, "/echo").header("transfer-encoding", "chunked").body(body).unwrap()
        };
        let response = world.h1("a").await.send_request(make()).await.unwrap();
        assert_eq!(answer(response).await.text, "hello", "{method}");
    }
}

#[tokio::test]
async fn a_coding_that_is_not_chunked_is_refused_and_ends_the_connection() {
    let world = World::start().await;
    for coding in ["gzip, chunked", "chunked, chunked"] {
        let mut client = world.h1("a").await;
        let request = request(&world, "POST", "/echo").header("transfer-encoding", coding).body(text("5")).unwrap();
        let answer = answer(client.send_request(request).await.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (501, Some("close")), "{coding}");
        assert!(timeout(SOON, client.ready()).await.unwrap().is_err(), "{coding}: the connection goes on");
    }
}
