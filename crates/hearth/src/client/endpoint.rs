//! The endpoint of one microVM.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use api::{
    AUTH_TOKEN_HEADER, CreateMicrovmAuthTokenInput, CreateMicrovmShellAuthTokenInput, Microvm, PortSpecification,
    Sensitive,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{Client, Connection, trust};

/// The port that AWS names for its shell (spec 8); it neither helps nor hurts.
const SHELL_PORT: u16 = 8022;

/// Requests go straight to the ingress, whatever DNS says about the endpoint's host, and carry a token of their own.
#[derive(Debug, Clone)]
pub struct Endpoint {
    address: SocketAddr,
    host: String,
    authority: String,
    bundle: std::path::PathBuf,
    token: Sensitive<String>,
    port: u16,
}

/// A request to the application, without what the endpoint adds.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The caller's headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A plain GET.
    pub fn get(target: &str) -> Self {
        Call { method: Method::GET, target: target.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }
}

impl Endpoint {
    /// Mints a token for one port, valid for `minutes` (1..=60).
    pub async fn open(client: &Client, microvm: &Microvm, port: u16, minutes: u32) -> Result<Self> {
        let input = CreateMicrovmAuthTokenInput {
            microvm_identifier: microvm.microvm_id,
            expiration_in_minutes: minutes,
            allowed_ports: vec![PortSpecification::Port(port)],
        };
        let answer = client.call(&input).await?;
        Self::with(client, microvm, port, answer.auth_token)
    }

    /// Mints a shell token. It is looked at when a session begins, so that a minute is enough for any.
    pub async fn open_shell(client: &Client, microvm: &Microvm) -> Result<Self> {
        let input =
            CreateMicrovmShellAuthTokenInput { microvm_identifier: microvm.microvm_id, expiration_in_minutes: 1 };
        let answer = client.call(&input).await?;
        Self::with(client, microvm, SHELL_PORT, answer.auth_token)
    }

    fn with(
        client: &Client,
        microvm: &Microvm,
        port: u16,
        mut tokens: BTreeMap<String, Sensitive<String>>,
    ) -> Result<Self> {
        let token = tokens.remove(AUTH_TOKEN_HEADER).context("the server gave no token")?;
        let address = reachable(client.ready().ingress);
        let (host, authority) = names(&microvm.endpoint, address.port());
        let bundle = client.ready().ca_bundle.clone();
        Ok(Endpoint { address, host, authority, bundle, token, port })
    }

    /// Sends on a new connection, as curl does; the answer's body is still to be read. No bound on the answer.
    pub async fn send(&self, call: &Call) -> Result<(Response<Incoming>, Connection)> {
        let tls = Some((trust(&self.bundle)?, self.host.clone()));
        let mut connection = Connection::open(&self.address.ip().to_string(), self.address.port(), tls).await?;
        let mut token = HeaderValue::from_str(self.token.expose()).context("the token is no header value")?;
        token.set_sensitive(true);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.target)
            .header("host", &self.authority)
            .header(AUTH_TOKEN_HEADER, token)
            .header("x-aws-proxy-port", self.port);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(call.body.clone())).context("write the request")?;
        let response = connection.send(request).await?;
        Ok((response, connection))
    }

    /// Status, time from the first packet to the first byte of the answer, and the whole body.
    pub async fn timed(&self, call: &Call) -> Result<(StatusCode, Duration, Bytes)> {
        let start = Instant::now();
        let (response, _connection) = self.send(call).await?;
        let (head, mut body) = response.into_parts();
        let first = body.frame().await.transpose().context("read the answer")?;
        let elapsed = start.elapsed();
        let rest = body.collect().await.context("read the answer")?.to_bytes();
        let first = first.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        Ok((head.status, elapsed, [first, rest].concat().into()))
    }
}

/// Host name for TLS, and the value of the `Host` header. A server may give the port with the endpoint.
fn names(endpoint: &str, port: u16) -> (String, String) {
    match endpoint.rsplit_once(':') {
        Some((host, _)) => (host.to_owned(), endpoint.to_owned()),
        None if port == 443 => (endpoint.to_owned(), endpoint.to_owned()),
        None => (endpoint.to_owned(), format!("{endpoint}:{port}")),
    }
}

/// An address one can connect to, for one that is listened on: every address means loopback too.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_authority() {
        let pair = |host: &str, authority: &str| (host.to_owned(), authority.to_owned());
        assert_eq!(names("a.localhost", 8443), pair("a.localhost", "a.localhost:8443"));
        assert_eq!(names("a.localhost", 443), pair("a.localhost", "a.localhost"));
        assert_eq!(names("a.localhost:8443", 1), pair("a.localhost", "a.localhost:8443"));
    }

    #[test]
    fn every_address_is_reached_over_loopback() {
        for (listening, expected) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listening.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
