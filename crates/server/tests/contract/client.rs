//! A client that signs, on one connection that is kept.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::{
    Sensitive,
    sigv4::{Signer, Unsigned},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::request::Request;

/// Longest time for an answer; a request that hangs is a failure.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub secret: Sensitive<String>,
}

pub struct Client {
    address: SocketAddr,
    key: Key,
    connection: Option<SendRequest<Full<Bytes>>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub fn new(address: SocketAddr, key: Key) -> Self {
        Client { address, key, connection: None }
    }

    /// Sends it, signed for its service.
    pub async fn send(&mut self, request: &Request) -> Answer {
        let (secret, host) = (&self.key.secret, self.address.to_string());
        let signer = Signer {
            access_key_id: &self.key.id,
            secret,
            session_token: None,
            region: "us-east-1",
            service: request.service,
        };
        let Request { method, path, query, body, .. } = request;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let headers = signer.sign(&Unsigned { method, host: &host, path, query, body }, now);
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut signed = http::Request::builder().method(method.as_str()).uri(target).header("host", &host);
        for (name, value) in headers {
            signed = signed.header(name, value);
        }
        let signed = signed.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        tokio::time::timeout(ANSWER, self.exchange(signed)).await.unwrap_or_else(|_| panic!("no answer: {request}"))
    }

    async fn exchange(&mut self, request: http::Request<Full<Bytes>>) -> Answer {
        // A server may close a kept connection at any time: once more on a new one.
        let kept = self.connection.take();
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request.clone()).await
        {
            return self.collect(sender, response).await;
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // Ends when the sender goes.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        self.collect(sender, response).await
    }

    async fn collect(
        &mut self,
        sender: SendRequest<Full<Bytes>>,
        response: http::Response<hyper::body::Incoming>,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.connection = Some(sender);
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}
