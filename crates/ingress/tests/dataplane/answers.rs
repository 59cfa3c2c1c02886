//! Spec 6.6 line by line, and conformance checklist 17.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use http::{Request, StatusCode};
use ingress::{ConnectError, Kind, Limits, PortRange};

use crate::{
    apps,
    harness::{Answer, World, answer, host, nothing, now},
};

const MISSING: &str = "Request missing authentication";
const FAILED: &str = "Token authentication failed";
const PORT: &str = "Access to port denied";

#[track_caller]
fn is(answer: &Answer, status: u16, text: &str, error: Option<&str>) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text));
    assert_eq!(answer.header("x-aws-proxy-error"), error);
    assert!(answer.header("x-amzn-requestid").is_some());
}

#[tokio::test]
async fn who_may_not() {
    let world = World::start().await;
    let good = world.token("a");
    let garbled = format!("{}A{}", &good[..200], &good[201..]);
    let expired = world.token_of(Kind::Auth, "a", &[PortRange::ALL], now() - 1);
    let shell = world.token_of(Kind::Shell, "a", &[], now() + 60);
    let other = world.token("b");
    is(&world.get("a", "/head", &[]).await, 403, MISSING, Some("UNAUTHORIZED"));
    for (token, text) in [
        ("garbage", MISSING),
        ("", MISSING),
        (&garbled, MISSING),
        (&other, FAILED),
        (&expired, FAILED),
        (&shell, FAILED),
    ] {
        is(&world.get("a", "/head", &[("x-aws-proxy-auth", token)]).await, 403, text, Some("UNAUTHORIZED"));
    }
    let twice = world.get("a", "/head", &[("x-aws-proxy-auth", &good), ("x-aws-proxy-auth", &good)]).await;
    is(&twice, 403, MISSING, Some("UNAUTHORIZED"));
    assert_eq!(world.backend.connects.load(SeqCst), 0, "a refused request never reaches, let alone wakes, a machine");
    assert_eq!(world.backend.activity.load(SeqCst), 0, "nor does it keep one awake");
    is(&world.get("a", "/none", &[("x-aws-proxy-auth", &good)]).await, 404, "no such page", None);
}

#[tokio::test]
async fn unknown_hosts_tell_nothing() {
    let world = World::start().await;
    let token = world.token("a");
    is(&world.get("nobody", "/", &[]).await, 403, MISSING, Some("UNAUTHORIZED"));
    is(&world.get("nobody", "/", &[("x-aws-proxy-auth", &token)]).await, 403, FAILED, Some("UNAUTHORIZED"));
    // The server name says a, the request says b, and the other way round.
    for (sni, named, token) in [("a", "b", world.token("b")), ("b", "a", world.token("a"))] {
        let request = Request::get("/head").header("host", host(named)).header("x-aws-proxy-auth", token);
        let mixed = world.h1(sni).await.send_request(request.body(nothing()).unwrap()).await.unwrap();
        is(&answer(mixed).await, 403, FAILED, Some("UNAUTHORIZED"));
    }
}

#[tokio::test]
async fn ports_in_scope_and_out() {
    let world = World::start().await;
    world.listen(3005, apps::http1().await);
    let token = world.token("a");
    let get =
        async |port: &str| world.get("a", "/none", &[("x-aws-proxy-auth", &token), ("x-aws-proxy-port", port)]).await;
    for port in ["8080", "3005"] {
        assert_eq!(get(port).await.status, StatusCode::NOT_FOUND, "{port}");
    }
    for port in ["9000", "2999", "3011", "1"] {
        is(&get(port).await, 403, PORT, Some("PORT_DENIED"));
    }
    for port in ["0", "65536", "http", "", "-1", "80 80"] {
        is(&get(port).await, 400, "", Some("BAD_REQUEST"));
    }
    is(&get("3001").await, 502, "", Some("APP_CONNECT_FAILED"));
    is(&world.get("a", "/", &[("x-aws-proxy-port", "http")]).await, 403, MISSING, Some("UNAUTHORIZED"));
    let narrow = world.token_of(Kind::Auth, "a", &[PortRange::single(3005)], now() + 60);
    is(&world.get("a", "/", &[("x-aws-proxy-auth", &narrow)]).await, 403, PORT, Some("PORT_DENIED"));
    let all = world.token_of(Kind::Auth, "a", &[PortRange::ALL], now() + 60);
    let open = world.get("a", "/none", &[("x-aws-proxy-auth", &all), ("x-aws-proxy-port", "3005")]).await;
    assert_eq!(open.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn machines_that_cannot_be_reached() {
    let world = World::start().await;
    let token = world.token("a");
    let get = async || world.get("a", "/", &[("x-aws-proxy-auth", &token)]).await;
    for (outcome, error) in [
        (ConnectError::Refused, Some("APP_CONNECT_FAILED")),
        (ConnectError::Gone, Some("MICROVM_CONNECT_FAILED")),
        (ConnectError::Unavailable, None),
        (ConnectError::Timeout, None),
    ] {
        *world.backend.outcome.lock().unwrap() = Some(outcome);
        is(&get().await, 502, "", error);
    }
    world.route("a", |route| route.terminated = true);
    is(&get().await, 502, "", Some("MICROVM_CONNECT_FAILED"));
    is(&world.get("a", "/", &[]).await, 403, MISSING, Some("UNAUTHORIZED"));
    is(&world.get("a", "/", &[("x-aws-proxy-auth", &world.token("b"))]).await, 403, FAILED, Some("UNAUTHORIZED"));
}

#[tokio::test]
async fn connectors() {
    let world = World::start().await;
    let (auth, shell) = (world.token("a"), world.token_of(Kind::Shell, "a", &[], now() + 60));
    world.route("a", |route| (route.application, route.shell) = (false, false));
    is(&world.get("a", "/", &[("x-aws-proxy-auth", &auth)]).await, 403, PORT, Some("PORT_DENIED"));
    world.route("a", |route| (route.application, route.shell) = (false, true));
    is(&world.get("a", "/", &[("x-aws-proxy-auth", &auth)]).await, 403, PORT, Some("PORT_DENIED"));
    is(&world.get("a", "/", &[("x-aws-proxy-auth", &shell)]).await, 502, "", None);
    assert_eq!(world.backend.connects.load(SeqCst), 0);
}

#[tokio::test]
async fn applications_that_talk_nonsense() {
    let world = World::start_with(Limits { greeting: Duration::from_millis(300), ..Limits::default() }).await;
    let token = world.token("a");
    world.listen(3000, apps::raw(b"SSH-2.0-OpenSSH\r\n").await);
    world.listen(3001, apps::raw(b"").await);
    world.listen(
        3002,
        apps::raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await,
    );
    for port in ["3000", "3001", "3002"] {
        let answer = world.get("a", "/", &[("x-aws-proxy-auth", &token), ("x-aws-proxy-port", port)]).await;
        is(&answer, 502, "", None);
    }
    // HTTP/2 to one that does not speak it.
    let headers = [("x-aws-proxy-auth", &token[..]), ("x-aws-proxy-force-h2", "true")];
    is(&world.get("a", "/head", &headers).await, 502, "", None);
    let (silent, _endings) = apps::silent().await;
    world.listen(8080, silent);
    is(&world.get("a", "/head", &headers).await, 502, "", None);
}

#[tokio::test]
async fn every_request_of_a_connection_is_checked() {
    let world = World::start().await;
    let token = world.token("a");
    let (mut h1, mut h2) = (world.h1("a").await, world.h2("a").await);
    for (sent, status) in [(&token[..], 404), ("garbled", 403), (&token, 404), (&world.token("b"), 403)] {
        let request = |uri: String| {
            Request::get(uri).header("host", host("a")).header("x-aws-proxy-auth", sent).body(nothing()).unwrap()
        };
        h1.ready().await.unwrap();
        assert_eq!(answer(h1.send_request(request("/none".into())).await.unwrap()).await.status, status);
        let uri = format!("https://{}/none", host("a"));
        assert_eq!(answer(h2.send_request(request(uri)).await.unwrap()).await.status, status);
    }
}

#[tokio::test]
async fn connect_is_not_served() {
    let world = World::start().await;
    let request = Request::connect(host("a")).header("host", host("a")).header("x-aws-proxy-auth", world.token("a"));
    let refused = world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap();
    is(&answer(refused).await, 400, "", Some("BAD_REQUEST"));
}
