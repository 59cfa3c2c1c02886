//! The same answers over TLS and over HTTP/2.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, RootCertStore, ServerConfig},
};

use crate::client::Server;

/// Lists microVMs over HTTP/2; the signature covers `:authority`.
async fn list_over_http2(server: &Server, scheme: &str, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let host = format!("localhost:{}", server.address.port());
    for _ in 0..3 {
        let request = server.call("GET", "/2025-09-09/microvms").signed(scheme, &host);
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    }
    drop(sender);
    connection.abort();
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let key = own.signing_key.serialize_der().try_into().unwrap();
    let mut server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn plain_http2() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    list_over_http2(&server, "http", stream).await;
}

#[tokio::test]
async fn tls_and_what_is_not_tls() {
    let (acceptor, connector) = tls();
    let server = Server::start_with(Some(acceptor)).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // A client that speaks no TLS is turned away (an alert, then the end), and others are not hindered.
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    let stream = TcpStream::connect(server.address).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    list_over_http2(&server, "https", stream).await;
}
