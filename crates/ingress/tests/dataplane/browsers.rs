//! One-time links, the cookie, and public ports.

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ingress::{Claims, Extras, Kind, Limits, OPEN_PATH, PortRange, Tickets};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    apps,
    harness::{Answer, SOON, World, answer, host, nothing, now},
};

const ORIGIN: &str = "https://a.lambda-microvm.us-east-1.localhost";

async fn world() -> (World, Arc<Tickets>) {
    let tickets = Arc::new(Tickets::default());
    let extras = Extras { tickets: Some(tickets.clone()), ..Extras::default() };
    (World::start_beyond(Limits::default(), extras).await, tickets)
}

fn claims(name: &str, port: u16) -> Claims {
    let (microvm, ports) = (format!("microvm-{name}"), vec![PortRange::single(port)]);
    Claims { microvm, kind: Kind::Auth, ports, expires_at: now() + 600, revocation: 0 }
}

async fn send(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", host("a"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap()).await
}

async fn upgrade(world: &World, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::get("/ws").header("host", host("a")).header("connection", "Upgrade");
    request = request.header("upgrade", "websocket");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap()
}

fn link(ticket: &str) -> String {
    format!("{OPEN_PATH}?ticket={ticket}")
}

/// A cookie for that port, through a link.
async fn cookie(world: &World, tickets: &Tickets, port: u16) -> String {
    let opened = world.get("a", &link(&tickets.issue(claims("a", port)).unwrap()), &[]).await;
    opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[track_caller]
fn is(answer: &Answer, status: u16, text: &str, code: Option<&str>) {
    assert_eq!((answer.status.as_u16(), &answer.text[..], answer.header("x-aws-proxy-error")), (status, text, code));
}

const OVER: &str = "This link has been used or has expired: make a new one with hearth open";

#[tokio::test]
async fn a_link_is_exchanged_once() {
    let (world, tickets) = world().await;
    let ticket = tickets.issue(claims("a", 8080)).unwrap();
    for (method, headers, status) in [
        (Method::HEAD, &[][..], 405),
        (Method::POST, &[], 405),
        (Method::GET, &[("sec-purpose", "prefetch;prerender")], 503),
        (Method::GET, &[("x-moz", "prefetch")], 503),
    ] {
        let looked = send(&world, method, &link(&ticket), headers).await;
        assert_eq!(looked.status, status, "who only looks does not use it up");
        assert_eq!((looked.header("set-cookie"), looked.header("cache-control")), (None, Some("no-store")));
    }
    is(&world.get("b", &link(&ticket), &[]).await, 403, OVER, Some("LINK_OVER"));
    is(&world.get("nobody", &link(&ticket), &[]).await, 403, OVER, Some("LINK_OVER"));

    let opened = world.get("a", &link(&ticket), &[]).await;
    is(&opened, 303, "", None);
    assert_eq!(opened.header("location"), Some("/"));
    assert_eq!(opened.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(opened.header("cache-control"), Some("no-store"));
    let set = opened.header("set-cookie").unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-hearth=ey"), "{pair}");
    let seconds = attributes.strip_prefix("Path=/; Max-Age=").unwrap().strip_suffix("; Secure; HttpOnly; SameSite=Lax");
    assert!((590..=600).contains(&seconds.unwrap().parse::<u32>().unwrap()), "{attributes}");

    for path in [link(&ticket), link("x"), link(""), OPEN_PATH.to_owned()] {
        let over = world.get("a", &path, &[]).await;
        is(&over, 403, OVER, Some("LINK_OVER"));
        assert_eq!(over.header("cache-control"), Some("no-store"));
    }
    let revoked = tickets.issue(claims("a", 8080)).unwrap();
    world.route("a", |route| route.revocation = 1);
    is(&world.get("a", &link(&revoked), &[]).await, 403, OVER, Some("LINK_OVER"));
    is(&world.get("a", "/none", &[("cookie", pair)]).await, 403, "Token authentication failed", Some("UNAUTHORIZED"));
}

#[tokio::test]
async fn a_link_needs_tls_and_stays_good_without() {
    let (world, tickets) = world().await;
    let ticket = tickets.issue(claims("a", 8080)).unwrap();
    let plain = async |path: &str, cookie: &str| {
        let tcp = TokioIo::new(TcpStream::connect(world.plain).await.unwrap());
        let (mut h1, connection) = hyper::client::conn::http1::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", host("a")).header("cookie", cookie);
        answer(h1.send_request(request.body(nothing()).unwrap()).await.unwrap()).await
    };
    let words = "This link works over https only, because its cookie does: open it at the TLS endpoint";
    is(&plain(&link(&ticket), "").await, 403, words, Some("LINK_WITHOUT_TLS"));
    let good = cookie(&world, &tickets, 8080).await;
    is(&plain("/head", &good).await, 403, "Request missing authentication", Some("UNAUTHORIZED"));
    assert_eq!(world.get("a", &link(&ticket), &[]).await.status, 303);
}

#[tokio::test]
async fn a_cookie_stands_for_a_token_of_its_port() {
    let (world, tickets) = world().await;
    world.listen(3000, apps::http1().await);
    let own = cookie(&world, &tickets, 3000).await;
    let all = format!("a=1; {own}; b=\"2\"");
    let seen = world.get("a", "/head", &[("cookie", &all)]).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert!(seen.text.contains("cookie: a=1; b=\"2\"\n") && !seen.text.contains("__Host"), "{}", seen.text);
    let seen = world.get("a", "/head", &[("cookie", &own), ("x-aws-proxy-port", "3000")]).await;
    assert!(seen.status == 200 && !seen.text.contains("cookie"), "{}", seen.text);
    let denied = world.get("a", "/head", &[("cookie", &own), ("x-aws-proxy-port", "8080")]).await;
    is(&denied, 403, "Access to port denied", Some("PORT_DENIED"));
    is(&world.get("b", "/head", &[("cookie", &own)]).await, 403, "Token authentication failed", Some("UNAUTHORIZED"));

    // AWS's header wins, whatever it is worth, and the cookie is hidden all the same.
    let (token, both) = (world.token("a"), format!("{own}; c=3"));
    let seen = world.get("a", "/head", &[("cookie", &both), ("x-aws-proxy-auth", &token)]).await;
    assert!(seen.status == 200 && seen.text.contains("cookie: c=3\n"), "{}", seen.text);
    let seen = world.get("a", "/head", &[("cookie", &own), ("x-aws-proxy-auth", "garbage")]).await;
    is(&seen, 403, "Request missing authentication", Some("UNAUTHORIZED"));
    let shell = format!("__Host-hearth={}", world.token_of(Kind::Shell, "a", &[], now() + 60));
    is(&world.get("a", "/", &[("cookie", &shell)]).await, 403, "Token authentication failed", Some("UNAUTHORIZED"));

    // Crumbs of HTTP/2.
    let request = Request::get(format!("https://{}/head", host("a"))).header("cookie", &own).header("cookie", "a=1");
    let request = request.header("cookie", "b=2").body(nothing()).unwrap();
    let seen = answer(world.h2("a").await.send_request(request).await.unwrap()).await;
    assert!(seen.text.contains("cookie: a=1; b=2\n"), "{}", seen.text);
}

#[tokio::test]
async fn the_application_cannot_set_the_cookie() {
    let (world, _) = world().await;
    let token = world.token("a");
    let evil =
        b"HTTP/1.1 200 OK\r\nset-cookie: __Host-hearth=evil; Path=/; Secure\r\nset-cookie: =__Host-hearth=evil\r\n\
        set-cookie: own=1\r\ncontent-length: 0\r\n\r\n";
    world.listen(3000, apps::raw(evil).await);
    let seen = world.get("a", "/", &[("x-aws-proxy-auth", &token), ("x-aws-proxy-port", "3000")]).await;
    let set: Vec<_> = seen.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!((seen.status.as_u16(), set), (200, vec!["own=1"]));
}

#[tokio::test]
async fn what_other_sites_make_a_browser_send_is_refused() {
    let (world, tickets) = world().await;
    let own = cookie(&world, &tickets, 8080).await;
    let words = "The Origin of this request is not this endpoint";
    let sibling = "https://b.lambda-microvm.us-east-1.localhost";
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        for origin in [None, Some("null"), Some("https://evil.test"), Some(sibling)] {
            let mut headers = vec![("cookie", &own[..])];
            headers.extend(origin.map(|origin| ("origin", origin)));
            is(&send(&world, method.clone(), "/head", &headers).await, 403, words, Some("ORIGIN_DENIED"));
        }
        let seen = send(&world, method, "/head", &[("cookie", &own), ("origin", ORIGIN)]).await;
        assert_eq!(seen.status, 200, "{}", seen.text);
    }
    for origin in [None, Some(sibling)] {
        let mut headers = vec![("cookie", &own[..])];
        headers.extend(origin.map(|origin| ("origin", origin)));
        assert_eq!(upgrade(&world, &headers).await.status(), 403);
    }
    assert_eq!(upgrade(&world, &[("cookie", &own), ("origin", ORIGIN)]).await.status(), 101);
    for method in [Method::GET, Method::OPTIONS] {
        assert_eq!(send(&world, method, "/none", &[("cookie", &own), ("origin", sibling)]).await.status, 404);
    }
    // A token is no cookie: nobody else can make a browser send it.
    let token = world.token("a");
    let headers = [("x-aws-proxy-auth", &token[..]), ("cookie", &own), ("origin", sibling)];
    assert_eq!(send(&world, Method::POST, "/none", &headers).await.status, 404);
}

#[tokio::test]
async fn without_the_setting_nothing_of_it_is_known() {
    let world = World::start().await;
    let token = world.token("a");
    is(&world.get("a", &link("x"), &[]).await, 403, "Request missing authentication", Some("UNAUTHORIZED"));
    let own = format!("__Host-hearth={token}");
    is(&world.get("a", "/", &[("cookie", &own)]).await, 403, "Request missing authentication", Some("UNAUTHORIZED"));
    let seen = world.get("a", "/head", &[("x-aws-proxy-auth", &token), ("cookie", "__Host-hearth=x")]).await;
    assert!(seen.text.contains("cookie: __Host-hearth=x\n"), "{}", seen.text);
    assert_eq!(
        world.get("a", &link("x"), &[("x-aws-proxy-auth", &token)]).await.status,
        404,
        "it is the application's"
    );
}

#[tokio::test]
async fn a_public_port_needs_no_token() {
    let (world, tickets) = world().await;
    world.listen(3000, apps::http1().await);
    let missing = "Request missing authentication";
    is(&world.get("a", "/head", &[]).await, 403, missing, Some("UNAUTHORIZED"));
    let public = |route: &mut ingress::Route| (route.public, route.shell) = (Some(3000), true);
    world.route("a", public);
    for (headers, status) in [
        (&[][..], 200),
        (&[("x-aws-proxy-port", "3000")], 200),
        (&[("sec-websocket-protocol", "lambda-microvms, lambda-microvms.port.8080")], 200),
        (&[("x-aws-proxy-port", "8080")], 403),
        (&[("x-aws-proxy-port", "nonsense")], 403),
        (&[("x-aws-proxy-port", "3000"), ("x-aws-proxy-port", "3000")], 403),
        (&[("x-aws-proxy-auth", "garbage")], 403),
        (&[("x-aws-proxy-auth", "")], 403),
        // A cookie that opens nothing shuts nobody out.
        (&[("cookie", "__Host-hearth=stale; a=1")], 200),
    ] {
        let seen = world.get("a", "/head", headers).await;
        assert_eq!(seen.status, status, "{headers:?} {}", seen.text);
        assert!(status == 200 || seen.text == missing, "{headers:?} {}", seen.text);
        assert!(!seen.text.contains("__Host"), "{}", seen.text);
    }
    assert_eq!(send(&world, Method::POST, "/head", &[]).await.status, 200);
    // A token is judged as a token.
    let token = world.token("a");
    assert_eq!(world.get("a", "/none", &[("x-aws-proxy-auth", &token)]).await.status, 404);
    let narrow = world.token_of(Kind::Auth, "a", &[PortRange::single(8080)], now() + 60);
    let headers = [("x-aws-proxy-auth", &narrow[..]), ("x-aws-proxy-port", "3000")];
    is(&world.get("a", "/", &headers).await, 403, "Access to port denied", Some("PORT_DENIED"));
    let of_b = world.token("b");
    is(
        &world.get("a", "/", &[("x-aws-proxy-auth", &of_b)]).await,
        403,
        "Token authentication failed",
        Some("UNAUTHORIZED"),
    );
    let own = cookie(&world, &tickets, 8080).await;
    let headers = [("cookie", &own[..]), ("x-aws-proxy-port", "3000")];
    is(&world.get("a", "/", &headers).await, 403, "Access to port denied", Some("PORT_DENIED"));

    // Never a shell, whatever the path: it is the application that answers.
    let mut request = Request::get("/shell").header("host", host("a")).header("connection", "Upgrade");
    request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
    let shell = world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap();
    assert_eq!((shell.status().as_u16(), world.backend.guests.lock().unwrap().len()), (404, 0));

    // It ends with the permission, and so do the WebSockets.
    let opened = upgrade(&world, &[]).await;
    assert_eq!(opened.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(opened).await.unwrap());
    world.route("a", |_| {});
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    is(&world.get("a", "/head", &[]).await, 403, missing, Some("UNAUTHORIZED"));
    for change in
        [|route: &mut ingress::Route| route.terminated = true, |route: &mut ingress::Route| route.application = false]
    {
        world.route("a", |route| {
            public(route);
            change(route);
        });
        is(&world.get("a", "/head", &[]).await, 403, missing, Some("UNAUTHORIZED"));
    }
}
