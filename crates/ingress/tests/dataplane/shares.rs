//! What one microVM's endpoint may carry, and that others do not suffer from it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use http_body_util::BodyExt;
use ingress::{Allowance, Limits, Share};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    apps,
    harness::{SOON, World, answer, host, nothing},
};

fn allow(world: &World, name: &str, allowance: Allowance) {
    world.route(name, |route| route.share = Arc::new(Share::new(allowance)));
}

fn request(world: &World, name: &str, path: &str) -> http::request::Builder {
    Request::get(format!("https://{}{path}", host(name)))
        .header("host", host(name))
        .header("x-aws-proxy-auth", world.token(name))
}

#[tokio::test]
async fn so_many_requests_at_once() {
    let world = World::start().await;
    allow(&world, "a", Allowance::at_once(2));
    let (address, _endings) = apps::silent().await;
    world.listen(3000, address);
    let mut client = world.h2("a").await;
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let request = request(&world, "a", "/").header("x-aws-proxy-port", "3000").body(nothing()).unwrap();
            tokio::spawn(client.send_request(request))
        })
        .collect();
    while world.backend.connects.load(std::sync::atomic::Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let refused = world.get("a", "/head", &[("x-aws-proxy-auth", &world.token("a"))]).await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (429, "Too many requests of this microVM"));
    assert_eq!(refused.headers["x-aws-proxy-error"], "TOO_MANY_REQUESTS");
    assert_eq!(refused.headers["retry-after"], "1");
    let stranger = world.get("a", "/head", &[]).await;
    assert_eq!(stranger.status.as_u16(), 403, "who has no token learns nothing of it");
    assert_eq!(world.get("b", "/head", &[("x-aws-proxy-auth", &world.token("b"))]).await.status.as_u16(), 200);
    for request in hanging {
        request.abort();
    }
    let again = async {
        while world.get("a", "/head", &[("x-aws-proxy-auth", &world.token("a"))]).await.status.as_u16() != 200 {}
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn so_many_requests_a_second() {
    let world = World::start().await;
    allow(&world, "a", Allowance { per_second: Some(1), ..Allowance::at_once(100) });
    let token = world.token("a");
    let began = Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(world.get("a", "/head", &[("x-aws-proxy-auth", &token)]).await.status.as_u16());
    }
    if began.elapsed() < Duration::from_secs(1) {
        assert_eq!(statuses, [200, 429, 429]);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.get("a", "/head", &[("x-aws-proxy-auth", &token)]).await.status.as_u16(), 200);
}

/// 400 kB at 200 kB a second, of which 50 kB pass at once.
#[tokio::test]
async fn bytes_flow_no_faster_than_they_may_and_all_arrive() {
    let world = World::start().await;
    allow(&world, "a", Allowance { bytes_per_second: Some(200_000), ..Allowance::at_once(100) });
    for h2 in [false, true] {
        let began = Instant::now();
        let request = request(&world, "a", "/pattern?400000").body(nothing()).unwrap();
        let response = match h2 {
            true => world.h2("a").await.send_request(request).await.unwrap(),
            false => world.h1("a").await.send_request(request).await.unwrap(),
        };
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 400_000);
        assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    }
    let began = Instant::now();
    let body = apps::pattern(300_000);
    let upload = request(&world, "a", "/digest").method("POST").body(body).unwrap();
    let digest = answer(world.h1("a").await.send_request(upload).await.unwrap()).await.text;
    assert!(digest.starts_with("300000 ") && began.elapsed() > Duration::from_secs(1), "{digest}");
}

/// Silent connections, and some that stop in mid-head, do not keep others out.
#[tokio::test]
async fn idle_connections_give_way() {
    let world = World::start_with(Limits { connections: 8, ..Limits::default() }).await;
    let mut served = world.h1("a").await;
    let (sender, body) = apps::frames();
    let upload = request(&world, "a", "/digest").method("POST").body(body).unwrap();
    let upload = tokio::spawn(async move { answer(served.send_request(upload).await.unwrap()).await });
    while world.backend.connects.load(std::sync::atomic::Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    let mut idle = Vec::new();
    for _ in 0..6 {
        idle.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut half = world.tls(Some(&host("a")), b"http/1.1").await;
    tokio::io::AsyncWriteExt::write_all(&mut half, b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    for _ in 0..20 {
        let token = world.token("b");
        let answer = timeout(SOON, world.get("b", "/head", &[("x-aws-proxy-auth", &token)])).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200);
        idle.push(TcpStream::connect(world.address).await.unwrap());
    }
    drop(sender);
    assert!(timeout(SOON, upload).await.unwrap().unwrap().text.starts_with("0 "), "who is served stays");
}
