//! A request's life: identify, authorize, wake, connect, forward, record.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Request, Response, header::HOST, uri::Authority};
use hyper::body::Incoming;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    Admission, Backend, Extras, Limits, Route, access,
    answers::{Body, Refusal},
    browser,
    forward::{self, Held},
    headers,
    inbound::Inbound,
    kept::Doors,
    manner::Manner,
    reach::Reach,
    record::Meter,
    serve::InFlight,
    session::{self, Places},
    token::{Claims, Kind, TokenError, TokenKeys},
    websocket::{self, Offer},
};

/// What all requests share.
pub(crate) struct Proxy {
    pub(crate) tokens: Arc<TokenKeys>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    /// The ports that requests and kept connections are for.
    pub(crate) doors: Arc<Doors>,
    pub(crate) extras: Arc<Extras>,
    /// Owns every task of this listener.
    pub(crate) tasks: TaskTracker,
    /// Ends them all at once.
    pub(crate) abort: CancellationToken,
    /// Of shells and programs.
    pub(crate) places: Places,
}

/// Whom the request is for: step one's result.
struct Target {
    /// As the client wrote it, port included.
    host: HeaderValue,
    /// `None`: no such endpoint. Not told to anybody who has no authentic token.
    route: Option<Route>,
}

/// What the token and the request allow: step two's result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) port: u16,
    /// Not the application but a shell or a program beside it; the port then means nothing.
    pub(crate) session: Option<session::Kind>,
    /// The client speaks of the platform's subprotocols and gets one back.
    pub(crate) marker: bool,
    pub(crate) admission: Admission,
}

/// An authorized request on its way through the last steps.
pub(crate) struct Exchange {
    pub(crate) id: HeaderValue,
    pub(crate) host: HeaderValue,
    pub(crate) force_h2: bool,
    pub(crate) marker: bool,
    pub(crate) admission: Admission,
    pub(crate) manner: Manner,
    pub(crate) limits: Limits,
    pub(crate) meter: Arc<Meter>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) tasks: TaskTracker,
}

impl Proxy {
    /// Answers one request, whatever becomes of it.
    pub(crate) async fn handle(&self, in_flight: Arc<InFlight>, request: Request<Incoming>) -> Response<Body> {
        let version = request.version();
        let request = request.map(|body| Inbound::new(body, version, &self.tasks));
        let id = Uuid::new_v4().to_string();
        let id_header = HeaderValue::from_str(&id).expect("an id is hexadecimal digits and dashes");
        let answer = self.steps(&in_flight, &id_header, request).await;
        let mut response = answer.unwrap_or_else(|refusal| {
            tracing::debug!(request = id, ?refusal, "answered by the proxy");
            refusal.response()
        });
        response.headers_mut().entry(headers::REQUEST_ID).or_insert(id_header);
        response.map(|body| Held::new(body, in_flight))
    }

    async fn steps(
        &self,
        in_flight: &Arc<InFlight>,
        id: &HeaderValue,
        request: Request<Inbound>,
    ) -> Result<Response<Body>, Refusal> {
        if headers::has_foreign_coding(request.headers()) {
            return Err(Refusal::ForeignCoding);
        }
        let target = self.identify(in_flight.sni(), &request);
        if let Some(answer) = browser::open(self, target.route.as_ref(), in_flight.tls(), &request) {
            return Ok(answer);
        }
        let (route, pass) = self.authorize(in_flight.tls(), &target, &request)?;
        let exchange = Exchange {
            id: id.clone(),
            host: target.host.clone(),
            force_h2: flag(request.headers(), headers::FORCE_H2),
            marker: pass.marker,
            admission: pass.admission,
            manner: self.extras.manner(in_flight.peer(), in_flight.tls()),
            limits: self.limits,
            meter: self.record(route, &pass, id)?,
            in_flight: in_flight.clone(),
            tasks: self.tasks.clone(),
        };
        let response = if let Some(kind) = pass.session {
            session::serve(self, &exchange, &route.microvm, kind, request).await?
        } else {
            let reach = Reach::new(self, route, pass.port, &exchange);
            if websocket::is_websocket(&request) {
                websocket::bridge(self, &exchange, request, reach).await?
            } else {
                forward::forward(&exchange, request, reach).await?
            }
        };
        exchange.meter.answered(response.status());
        Ok(response)
    }

    /// 1. The endpoint is what `:authority` or `Host` names; a server name in the TLS handshake must be the same
    ///    (spec 6.1), a client without one is fine.
    fn identify<B>(&self, sni: Option<&str>, request: &Request<B>) -> Target {
        let mut hosts = request.headers().get_all(HOST).iter();
        let named = match request.uri().authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => hosts.next().filter(|_| hosts.next().is_none()).cloned(),
        };
        let Some(host) = named else {
            return Target { host: HeaderValue::from_static(""), route: None };
        };
        let name = endpoint_name(&host);
        let route = name
            .filter(|name| sni.is_none_or(|sni| sni.eq_ignore_ascii_case(name)))
            .and_then(|name| self.backend.route(&name));
        Target { host, route }
    }

    /// 2. The token first: who has none that fits learns nothing else. Then the port.
    fn authorize<'a, B>(
        &self,
        tls: bool,
        target: &'a Target,
        request: &Request<B>,
    ) -> Result<(&'a Route, Pass), Refusal> {
        let offer = if websocket::is_websocket(request) { Offer::read(request.headers()) } else { Offer::default() };
        let route = target.route.as_ref();
        if let Some(pass) = access::otherwise(self, route, tls, &target.host, &offer, request) {
            return Ok((route.ok_or(Refusal::AuthenticationFailed)?, pass?));
        }
        let claims = self.claims(request.headers(), &offer)?;
        let fits = |route: &&Route| route.microvm == claims.microvm && claims.revocation >= route.revocation;
        let route = route.filter(fits).ok_or(Refusal::AuthenticationFailed)?;
        let admission = Admission::Token { revocation: claims.revocation };
        match claims.kind {
            Kind::Auth if route.application => {}
            Kind::Auth => return Err(Refusal::PortDenied),
            Kind::Shell if route.shell => return session_pass(route, &offer, admission, request),
            Kind::Shell => return Err(Refusal::AuthenticationFailed),
        }
        let port = port(request.headers(), &offer, route.default_port)?;
        if !claims.allows(port) {
            return Err(Refusal::PortDenied);
        }
        access::served(route, request)?;
        Ok((route, Pass { port, session: None, marker: offer.marker, admission }))
    }

    /// What an unexpired token of this installation says. One that cannot be opened is no authentication at all; one that
    /// can and does not fit is a failed one (spec 6.6).
    fn claims(&self, headers: &HeaderMap, offer: &Offer<'_>) -> Result<Claims, Refusal> {
        let mut sent = headers.get_all(headers::AUTH).iter();
        let token = match (sent.next(), sent.next()) {
            (Some(token), None) => token.to_str().ok(),
            (None, _) => offer.token,
            (Some(_), Some(_)) => None,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self.tokens.open(token.ok_or(Refusal::MissingAuthentication)?, now) {
            Ok(claims) => Ok(claims),
            Err(TokenError::Expired) => Err(Refusal::AuthenticationFailed),
            Err(TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged) => {
                Err(Refusal::MissingAuthentication)
            }
        }
    }

    /// 6. Begins here and ends when the last byte has gone: a place among the microVM's requests, activity for the idle
    ///    clock, and a line in the log.
    fn record(&self, route: &Route, pass: &Pass, id: &HeaderValue) -> Result<Arc<Meter>, Refusal> {
        let id = id.to_str().unwrap_or_default().to_owned();
        Meter::begin(self.backend.clone(), route, pass.port, id)
    }
}

/// What a shell token opens: WebSockets of its own paths and nothing else. A port neither helps nor hurts (spec 8).
fn session_pass<'a, B>(
    route: &'a Route,
    offer: &Offer<'_>,
    admission: Admission,
    request: &Request<B>,
) -> Result<(&'a Route, Pass), Refusal> {
    let kind = session::Kind::of(request.uri().path()).filter(|_| websocket::is_websocket(request));
    let kind = kind.ok_or(Refusal::BadGateway)?;
    if route.terminated {
        return Err(Refusal::MicrovmConnectFailed);
    }
    Ok((route, Pass { port: session::SHELL_PORT, session: Some(kind), marker: offer.marker, admission }))
}

/// `Host` without port and final dot, lower case.
fn endpoint_name(host: &HeaderValue) -> Option<String> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let name = authority.host();
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

/// Header, then subprotocol, then `default`: 8080 (spec 6.2).
pub(crate) fn port(headers: &HeaderMap, offer: &Offer<'_>, default: u16) -> Result<u16, Refusal> {
    let mut sent = headers.get_all(headers::PORT).iter();
    let text = match (sent.next(), sent.next(), &offer.ports[..]) {
        (Some(port), None, _) => port.to_str().map_err(|_| Refusal::MalformedPort)?,
        (None, _, [port]) => port,
        (None, _, []) => return Ok(default),
        _ => return Err(Refusal::MalformedPort),
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0).ok_or(Refusal::MalformedPort)
}

fn flag(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (host, expected) in [
            ("VM.Test:8443", Some("vm.test")),
            ("vm.test.", Some("vm.test")),
            ("[::1]:8443", Some("[::1]")),
            ("user@vm.test", None),
            ("vm test", None),
            ("", None),
        ] {
            assert_eq!(endpoint_name(&HeaderValue::from_static(host)).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn ports() {
        use crate::DEFAULT_PORT;
        let sent = |values: &[&'static str]| {
            values.iter().map(|v| (headers::PORT.parse().unwrap(), HeaderValue::from_static(v))).collect::<HeaderMap>()
        };
        let offered = |ports: &[&'static str]| Offer { marker: true, token: None, ports: ports.to_vec() };
        for (header, protocol, expected) in [
            (&["3000"][..], &["4000"][..], Ok(3000)),
            (&[], &["4000"], Ok(4000)),
            (&[], &[], Ok(8080)),
            (&["65535"], &[], Ok(65535)),
            (&["65536"], &[], Err(())),
            (&["0"], &[], Err(())),
            (&["+80"], &[], Err(())),
            (&[" 80"], &[], Err(())),
            (&[""], &["4000"], Err(())),
            (&["80", "81"], &[], Err(())),
            (&[], &["80", "81"], Err(())),
            (&[], &["x"], Err(())),
        ] {
            let actual = port(&sent(header), &offered(protocol), DEFAULT_PORT);
            assert_eq!(actual, expected.map_err(|()| Refusal::MalformedPort), "{header:?} {protocol:?}");
        }
    }
}
