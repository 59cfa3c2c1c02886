//! What the application and the client see of each other's heads (spec 6.2, 6.3; checklist 18, 19).

use http::Request;

use crate::{
    apps,
    harness::{World, answer, host, nothing, text},
};

#[tokio::test]
async fn http1_head() {
    let world = World::start().await;
    let answer = world
        .get(
            "a",
            "/head?x=%20y",
            &[
                ("X-aws-proxy-auth", &world.token("a")),
                ("x-aws-proxy-port", "8080"),
                ("x-aws-proxy-anything", "1"),
                ("traceparent", "00-abc"),
                ("x-forwarded-for", "kept as the client sent it"),
                ("connection", "keep-alive, x-hop"),
                ("x-hop", "1"),
                ("sec-websocket-protocol", "lambda-microvms, lambda-microvms.authentication.secret"),
            ],
        )
        .await;
    let mut lines: Vec<&str> = answer.text.lines().collect();
    assert_eq!(lines.remove(0), "GET /head?x=%20y HTTP/1.1");
    let id = lines.iter().position(|line| line.starts_with("x-amzn-requestid: ")).unwrap();
    assert_eq!(lines.remove(id).len(), "x-amzn-requestid: ".len() + 36);
    lines.sort_unstable();
    let host = format!("host: {}", host("a"));
    assert_eq!(lines, ["end true", &host, "traceparent: 00-abc", "x-forwarded-for: kept as the client sent it"]);

    assert_eq!((answer.header("x-own"), answer.header("x-aws-proxy-error")), (Some("kept"), None));
    assert_eq!(answer.header("keep-alive"), None);
}

#[tokio::test]
async fn http2_towards_http1_and_http2() {
    let world = World::start().await;
    world.listen(3000, apps::h2c().await);
    let mut h2 = world.h2("a").await;
    let mut head = async |port: &str, force: &str| {
        let request = Request::post(format!("https://{}:8443/head", host("a")))
            .header("x-aws-proxy-auth", world.token("a"))
            .header("x-aws-proxy-port", port)
            .header("x-aws-proxy-force-h2", force)
            .header("te", "trailers")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        answer(h2.send_request(request.body(text("hello")).unwrap()).await.unwrap()).await.text
    };
    let seen = head("8080", "false").await;
    assert!(seen.starts_with("POST /head HTTP/1.1\n"), "{seen}");
    for line in [&format!("host: {}:8443", host("a"))[..], "te: trailers", "cookie: a=1; b=2", "content-length: 5"] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
    let seen = head("3000", "True").await;
    assert!(seen.starts_with(&format!("POST http://{}:8443/head HTTP/2.0\n", host("a"))), "{seen}");
    assert!(!seen.contains("\nhost:") && !seen.contains("x-aws-proxy") && seen.contains("te: trailers"), "{seen}");
}

#[tokio::test]
async fn hosts_in_other_words() {
    let world = World::start().await;
    let token = world.token("a");
    let (name, upper) = (host("a"), host("a").to_uppercase());
    for (uri, host) in [
        ("/head".to_owned(), format!("{upper}:443")),
        ("/head".to_owned(), format!("{name}.")),
        (format!("https://{name}/head"), "ignored.test".to_owned()),
    ] {
        let request = Request::get(&uri).header("host", &host).header("x-aws-proxy-auth", &token);
        let response = world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap();
        let seen = answer(response).await;
        assert_eq!(seen.status, 200, "{uri} {host}");
        assert!(seen.text.starts_with("GET /head HTTP/1.1"), "{}", seen.text);
        let expected = if uri.starts_with('/') { host } else { name.clone() };
        assert!(seen.text.contains(&format!("host: {expected}\n")), "{}", seen.text);
    }
    // A client that sends no server name at all.
    let tls = world.tls(None, b"http/1.1").await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/head").header("host", &name).header("x-aws-proxy-auth", &token);
    assert_eq!(sender.send_request(request.body(nothing()).unwrap()).await.unwrap().status(), 200);
    // Two hosts are none.
    let request = Request::get("/head").header("host", &name).header("host", &name).header("x-aws-proxy-auth", &token);
    let response = world.h1("a").await.send_request(request.body(nothing()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::start().await;
    let token = world.token("a");
    let big = "x".repeat(40 * 1024);
    let kept = world.get("a", "/none", &[("x-aws-proxy-auth", &token), ("x-big", &big)]).await;
    assert_eq!(kept.status, 404);
    let huge = world.get("a", "/none", &[("x-aws-proxy-auth", &token), ("x-1", &big), ("x-2", &big)]).await;
    assert_eq!(huge.status, 431);
}
