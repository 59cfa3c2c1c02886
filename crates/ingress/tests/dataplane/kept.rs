//! Connections to an application that a client's next request uses again.

use std::time::{Duration, Instant};

use http::{Method, Request};
use hyper::client::conn;
use tokio::time::{sleep, timeout};

use crate::{
    apps::{Manner, counting},
    harness::{Body, SOON, World, answer, host, nothing},
};

/// Longer than a connection is kept.
const PAUSE: Duration = Duration::from_millis(400);

async fn send(world: &World, client: &mut conn::http1::SendRequest<Body>, method: Method) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri("/")
        .header("host", host("a"))
        .header("x-aws-proxy-auth", world.token("a"))
        .header("x-aws-proxy-port", "3000");
    client.ready().await.unwrap();
    let answer = answer(client.send_request(request.body(nothing()).unwrap()).await.unwrap()).await;
    (answer.status.as_u16(), answer.text)
}

async fn get(world: &World, client: &mut conn::http1::SendRequest<Body>) -> String {
    send(world, client, Method::GET).await.1
}

#[tokio::test]
async fn a_busy_client_has_one_and_shares_it_with_nobody() {
    let world = World::start().await;
    let (address, mut endings) = counting(Manner::Parallel).await;
    world.listen(3000, address);
    let (mut one, mut two) = (world.h1("a").await, world.h1("a").await);
    // On a busy host a pause may be longer than a connection is kept.
    let shared = async { while get(&world, &mut one).await.ends_with(" 1") {} };
    timeout(SOON, shared).await.unwrap();
    assert!(get(&world, &mut two).await.ends_with(" 1"), "another client");
    timeout(SOON, endings.recv()).await.unwrap().unwrap();
    sleep(PAUSE).await;
    assert!(get(&world, &mut one).await.ends_with(" 1"), "nobody used it");
    while endings.try_recv().is_ok() {}
    drop((one, two));
    timeout(SOON, endings.recv()).await.unwrap().expect("the last one ends with its client");
}

#[tokio::test]
async fn posts_use_it_once_the_application_was_seen_to_keep_it() {
    let world = World::start().await;
    world.listen(3000, counting(Manner::Parallel).await.0);
    let mut client = world.h1("a").await;
    assert_eq!(send(&world, &mut client, Method::POST).await.1, "1 1");
    assert_eq!(send(&world, &mut client, Method::POST).await.1, "2 1", "nothing is known of it");
    let shared = async { while send(&world, &mut client, Method::POST).await.1.ends_with(" 1") {} };
    timeout(SOON, shared).await.unwrap();
}

#[tokio::test]
async fn it_ends_after_a_hundred_requests() {
    let world = World::start().await;
    world.listen(3000, counting(Manner::Parallel).await.0);
    let mut client = world.h1("a").await;
    let mut last = String::new();
    for _ in 0..100 {
        last = get(&world, &mut client).await;
    }
    assert!(last.ends_with(" 100") || last.starts_with("2 "), "{last}: a pause may have ended the first");
    let most = async { while !get(&world, &mut client).await.ends_with(" 1") {} };
    timeout(SOON, most).await.unwrap();
}

/// The client that came first never pauses.
#[tokio::test]
async fn an_application_that_serves_one_connection_at_a_time_serves_all_clients() {
    let world = World::start().await;
    world.listen(3000, counting(Manner::OneByOne).await.0);
    let (mut one, mut two) = (world.h1("a").await, world.h1("a").await);
    assert_eq!(get(&world, &mut one).await, "1 1");
    let began = Instant::now();
    let busy = async {
        loop {
            get(&world, &mut one).await;
        }
    };
    tokio::select! {
        _ = get(&world, &mut two) => {}
        () = busy => {}
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn none_is_used_while_the_microvm_takes_no_requests() {
    let world = World::start().await;
    world.listen(3000, counting(Manner::Parallel).await.0);
    let mut client = world.h1("a").await;
    assert_eq!(get(&world, &mut client).await, "1 1");
    world.route("a", |route| route.open = false);
    assert_eq!(get(&world, &mut client).await, "2 1");
    *world.backend.outcome.lock().unwrap() = Some(ingress::ConnectError::Unavailable);
    assert_eq!(send(&world, &mut client, Method::GET).await.0, 502);
}

#[tokio::test]
async fn a_request_that_met_the_end_of_one_is_sent_again_where_that_does_no_harm() {
    let world = World::start().await;
    let (address, mut endings) = counting(Manner::Fickle).await;
    world.listen(3000, address);
    let mut client = world.h1("a").await;
    for number in 1..=20 {
        assert_eq!(send(&world, &mut client, Method::GET).await, (200, format!("{number} 1")));
    }
    assert_eq!(timeout(SOON, endings.recv()).await.unwrap(), Some(1));
    for number in 1..=20 {
        // A connection that may end in this moment is not for what may not be done twice.
        get(&world, &mut client).await;
        assert_eq!(send(&world, &mut client, Method::POST).await.0, 200, "{number}");
    }
}

/// A guest that stands still answers nothing: what a dial notices, a kept connection must notice too.
#[tokio::test]
async fn a_guest_that_stands_still_is_noticed() {
    let world = World::start().await;
    let (address, _endings) = counting(Manner::Stalling).await;
    world.listen(3000, address);
    let mut client = world.h1("a").await;
    assert_eq!(get(&world, &mut client).await, "1 1");
    *world.backend.outcome.lock().unwrap() = Some(ingress::ConnectError::Timeout);
    let (status, _) = timeout(2 * SOON, send(&world, &mut client, Method::GET)).await.unwrap();
    assert_eq!(status, 502);
}
