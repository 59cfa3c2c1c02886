//! Ways in beside AWS's header and subprotocol, which win over them: a browser's cookie, and a public port.

use http::{HeaderValue, Method, Request};

use crate::{
    Admission, Route,
    answers::Refusal,
    browser, headers,
    request::{self, Pass, Proxy},
    websocket::{self, Offer},
};

/// Lets a request in that has a cookie, or asks for a public port. `None`: it has nothing of either, or it has a token.
pub(crate) fn otherwise<B>(
    proxy: &Proxy,
    route: Option<&Route>,
    tls: bool,
    host: &HeaderValue,
    offer: &Offer<'_>,
    request: &Request<B>,
) -> Option<Result<Pass, Refusal>> {
    if request.headers().contains_key(headers::AUTH) || offer.token.is_some() {
        return None;
    }
    let by_cookie = browser::claims(proxy, tls, host, request).map(|claims| {
        let claims = claims?;
        let fits = |route: &&Route| route.microvm == claims.microvm && claims.revocation >= route.revocation;
        let route = route.filter(fits).ok_or(Refusal::AuthenticationFailed)?;
        let default = claims.ports.first().map_or(route.default_port, |ports| ports.start);
        let port = request::port(request.headers(), offer, default)?;
        if !route.application || !claims.allows(port) {
            return Err(Refusal::PortDenied);
        }
        let admission = Admission::Token { revocation: claims.revocation };
        served(route, request).map(|()| Pass { port, session: None, marker: offer.marker, admission })
    });
    match by_cookie {
        // A stale cookie must not shut out who needs none.
        None | Some(Err(Refusal::AuthenticationFailed)) => public(route, offer, request).or(by_cookie),
        judged => judged,
    }
}

/// Exactly the public port, and nothing of a microVM that is over.
fn public<B>(route: Option<&Route>, offer: &Offer<'_>, request: &Request<B>) -> Option<Result<Pass, Refusal>> {
    let route = route.filter(|route| route.application && !route.terminated)?;
    let port = route.public?;
    request::port(request.headers(), offer, port).ok().filter(|asked| *asked == port)?;
    let admission = Admission::Public { port };
    Some(served(route, request).map(|()| Pass { port, session: None, marker: offer.marker, admission }))
}

/// Is it a request that endpoints serve, and is there still somebody to serve it?
pub(crate) fn served<B>(route: &Route, request: &Request<B>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT && !websocket::is_websocket(request) {
        return Err(Refusal::Unsupported);
    }
    if route.terminated {
        return Err(Refusal::MicrovmConnectFailed);
    }
    Ok(())
}
