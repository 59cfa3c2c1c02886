//! The applications "in the guest".

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::harness::{Body, World, nothing};

async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp));
        }
    });
    address
}

pub async fn http1() -> SocketAddr {
    listen(|tcp| async {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(application));
        let _ = connection.with_upgrades().await;
    })
    .await
}

pub async fn h2c() -> SocketAddr {
    listen(|tcp| async {
        let builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(tcp), service_fn(application)).await;
    })
    .await
}

/// Reads until it sees the end of a head, writes `answer`, closes.
pub async fn raw(answer: &'static [u8]) -> SocketAddr {
    listen(move |mut tcp| async move {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if tcp.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let _ = tcp.write_all(answer).await;
    })
    .await
}

/// Tells of each connection that ends.
pub async fn silent() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let (ended, endings) = mpsc::unbounded_channel();
    let address = listen(move |mut tcp| {
        let ended = ended.clone();
        async move {
            let mut sink = vec![0; 4096];
            while tcp.read(&mut sink).await.unwrap_or(0) > 0 {}
            let _ = ended.send(());
        }
    })
    .await;
    (address, endings)
}

/// Frames as they come through a channel.
pub struct Frames(pub mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

pub fn frames() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Frames(receiver).map_err(|e| match e {}).boxed())
}

/// `n` bytes that tell when one is lost or moved, in pieces of 16 KiB.
pub fn pattern(n: usize) -> Body {
    let (sender, body) = frames();
    tokio::spawn(async move {
        let mut at = 0;
        while at < n {
            let piece: Vec<u8> = (at..n.min(at + 16384)).map(|i| (i % 251) as u8).collect();
            at += piece.len();
            if sender.send(Frame::data(piece.into())).await.is_err() {
                return;
            }
        }
    });
    body
}

/// Count and FNV-1a of a body.
pub async fn digest(mut body: impl http_body::Body<Data = Bytes> + Unpin) -> String {
    let (mut count, mut hash) = (0, 0xcbf2_9ce4_8422_2325_u64);
    while let Some(Ok(frame)) = body.frame().await {
        for byte in frame.data_ref().into_iter().flatten() {
            count += 1;
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    format!("{count} {hash:x}")
}

async fn application(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
    Ok(match request.uri().path() {
        "/head" => head(&request),
        "/echo" => Response::new(request.into_body().map_err(Into::into).boxed()),
        "/digest" => body(digest(request.into_body()).await),
        "/pattern" => Response::new(pattern(query)),
        "/ticks" => ticks(),
        "/early" => {
            let mut response = body("too large".to_owned());
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        }
        "/trailers" => {
            let sent = request.into_body().collect().await.unwrap();
            let mut trailers = sent.trailers().cloned().unwrap_or_default();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let (sender, body) = frames();
            tokio::spawn(async move {
                let _ = sender.send(Frame::data(sent.to_bytes())).await;
                let _ = sender.send(Frame::trailers(trailers)).await;
            });
            let mut response = Response::new(body);
            response.headers_mut().insert("trailer", HeaderValue::from_static("grpc-status, x-sent"));
            response
        }
        "/ws" => websocket(&mut request),
        _ => {
            let mut response = body("no such page".to_owned());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn body(text: String) -> Response<Body> {
    Response::new(http_body_util::Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed())
}

/// The request's head as text, one line each, and headers that must not pass the other way.
fn head(request: &Request<Incoming>) -> Response<Body> {
    let mut lines = vec![format!("{} {} {:?}", request.method(), request.uri(), request.version())];
    lines.extend(
        request.headers().iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))),
    );
    lines.push(format!("end {}", request.body().is_end_stream()));
    let mut response = body(lines.join("\n"));
    let headers: HeaderMap =
        [("x-aws-proxy-error", "APP_CONNECT_FAILED"), ("keep-alive", "timeout=5"), ("x-own", "kept")]
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
    response.headers_mut().extend(headers);
    response
}

fn ticks() -> Response<Body> {
    let (sender, body) = frames();
    tokio::spawn(async move {
        for tick in 0..5 {
            if sender.send(Frame::data(format!("data: {tick}\n\n").into())).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// Echoes bytes after an upgrade. Chooses `chat` when offered and tells what was offered. `/ws?1` declines.
fn websocket(request: &mut Request<Incoming>) -> Response<Body> {
    if request.uri().query() == Some("1") || request.headers().get("upgrade").is_none() {
        return Response::builder().status(418).body(nothing()).unwrap();
    }
    let offered = request
        .headers()
        .get("sec-websocket-protocol")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut response = Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", "any")
        .header("x-offered", offered.as_deref().unwrap_or("none"))
        .header(
            "x-key",
            request.headers().get("sec-websocket-key").cloned().unwrap_or(HeaderValue::from_static("none")),
        );
    if offered.is_some_and(|offered| offered.contains("chat")) {
        response = response.header("sec-websocket-protocol", "chat");
    }
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            if &buffer[..n] == b"bye" {
                return;
            }
            stream.write_all(&buffer[..n]).await.unwrap();
        }
    });
    response.body(nothing()).unwrap()
}

/// Speaks TLS, HTTP/2 if that is asked for. Counts handshakes.
pub async fn secured(world: &World) -> (SocketAddr, Arc<AtomicUsize>) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(ingress::LocalCa::load_or_create(dir.path()).unwrap());
    let config = ingress::TlsSettings::Local { ca, names: vec!["inside.test".to_owned()] }.server_config().unwrap();
    assert_ne!(dir.path().join("ca.pem"), world.ca, "nobody knows its certificate");
    let (acceptor, shaken) = (tokio_rustls::TlsAcceptor::from(config), Arc::<AtomicUsize>::default());
    let count = shaken.clone();
    let address = listen(move |tcp| {
        let (acceptor, count) = (acceptor.clone(), count.clone());
        async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            count.fetch_add(1, SeqCst);
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(tls);
            if http2 {
                let builder = http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(io, service_fn(application)).await;
            } else {
                let connection = http1::Builder::new().serve_connection(io, service_fn(application));
                let _ = connection.with_upgrades().await;
            }
        }
    })
    .await;
    (address, shaken)
}

/// How an application treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Any number at a time.
    Parallel,
    /// The next one when the one before has ended.
    OneByOne,
    /// Ends each on its second request, without a word.
    Fickle,
    /// Answers the first request of each only.
    Stalling,
}

/// Answers with the number of the connection and of the request on it. Tells of each connection that ends.
pub async fn counting(manner: Manner) -> (SocketAddr, mpsc::UnboundedReceiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, endings) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 1.. {
            let Ok((tcp, _)) = listener.accept().await else { return };
            let ended = ended.clone();
            let served = async move {
                count_on(tcp, number, manner).await;
                let _ = ended.send(number);
            };
            match manner {
                Manner::OneByOne => served.await,
                Manner::Parallel | Manner::Fickle | Manner::Stalling => drop(tokio::spawn(served)),
            }
        }
    });
    (address, endings)
}

async fn count_on(mut tcp: TcpStream, connection: u32, manner: Manner) {
    for request in 1.. {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if tcp.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        match manner {
            Manner::Fickle if request == 2 => return,
            Manner::Stalling if request == 2 => return std::future::pending().await,
            _ => {}
        }
        let text = format!("{connection} {request}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if tcp.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
