//! Who is let in beyond AWS's rules, and who is not any more.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ingress::{Claims, Kind, PortRange};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::harness::{SOON, World, host, nothing, now};

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
