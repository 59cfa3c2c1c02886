//! Browsers: the one-time link, and the cookie that it is exchanged for.
//!
//! A cookie comes along with requests that another site makes the browser send. So where nothing but the cookie lets a request
//! in, and it is one that may change something or opens a WebSocket, its `Origin` must be the endpoint itself.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE},
    uri::Authority,
};

use crate::{
    Route,
    answers::{Body, Refusal, empty},
    cookie,
    request::Proxy,
    token::{Claims, Kind, TokenKeys},
    websocket,
};

/// Where the links lead.
pub const OPEN_PATH: &str = "/.hearth/open";
/// The one parameter of their query.
pub const TICKET_PARAMETER: &str = "ticket";

/// What a browser says of itself when it fetches ahead of its user.
const AHEAD: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];

/// Answers a link; `None`: the request is none of one.
pub(crate) fn open<B>(proxy: &Proxy, route: Option<&Route>, tls: bool, request: &Request<B>) -> Option<Response<Body>> {
    let tickets = proxy.extras.tickets.as_ref().filter(|_| request.uri().path() == OPEN_PATH)?;
    let exchange = || {
        if request.method() != Method::GET {
            return Err(Refusal::LinkMethod);
        }
        if !tls {
            return Err(Refusal::LinkWithoutTls);
        }
        if AHEAD.iter().any(|name| fetches_ahead(request.headers(), name)) {
            return Err(Refusal::LinkAhead);
        }
        let claims = ticket(request.uri().query()).zip(route).and_then(|(ticket, route)| {
            tickets.redeem(ticket, &route.microvm).filter(|claims| claims.revocation >= route.revocation)
        });
        let cookie = claims.and_then(|claims| cookie_of(&claims, &proxy.tokens));
        cookie.ok_or(Refusal::LinkOver)
    };
    let mut response = match exchange() {
        Ok(cookie) => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
            response.headers_mut().insert(SET_COOKIE, cookie);
            response
        }
        Err(refusal) => refusal.response(),
    };
    // The ticket is in the address: neither is to be kept or passed on.
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

fn fetches_ahead(headers: &HeaderMap, name: &str) -> bool {
    let value = headers.get(name).map(|value| value.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    ["prefetch", "preview", "prerender"]
        .iter()
        .any(|word| value.windows(word.len()).any(|part| part == word.as_bytes()))
}

fn ticket(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(TICKET_PARAMETER)?.strip_prefix('='))
}

fn cookie_of(claims: &Claims, tokens: &TokenKeys) -> Option<HeaderValue> {
    let left = claims.expires_at.checked_sub(now()).filter(|left| *left > 0)?;
    cookie::bake(tokens.mint(claims).expose(), left)
}

/// What the cookie of a request says; `None`: there is none that counts.
pub(crate) fn claims<B>(
    proxy: &Proxy,
    tls: bool,
    host: &HeaderValue,
    request: &Request<B>,
) -> Option<Result<Claims, Refusal>> {
    proxy.extras.tickets.as_ref().filter(|_| tls)?;
    let token = cookie::find(request.headers())?;
    let claims = proxy.tokens.open(token, now()).ok().filter(|claims| claims.kind == Kind::Auth);
    Some(match claims {
        None => Err(Refusal::AuthenticationFailed),
        Some(_)
            if (websocket::is_websocket(request) || !request.method().is_safe())
                && !is_own_origin(request.headers(), host) =>
        {
            Err(Refusal::ForeignOrigin)
        }
        Some(claims) => Ok(claims),
    })
}

/// Does the one `Origin` name this endpoint, port included? 443 may be left out.
fn is_own_origin(headers: &HeaderMap, host: &HeaderValue) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let Some(origin) = origin.as_bytes().strip_prefix(b"https://") else { return false };
    let parts = |bytes: &[u8]| {
        let authority = Authority::try_from(bytes).ok().filter(|authority| !authority.as_str().contains('@'))?;
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        Some((name, authority.port_u16().unwrap_or(443)))
    };
    parts(origin).is_some_and(|origin| Some(origin) == parts(host.as_bytes()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let own = |origins: &[&'static str], host: &'static str| {
            let headers = origins.iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect();
            is_own_origin(&headers, &HeaderValue::from_static(host))
        };
        for (origin, host) in [
            ("https://vm.test:8443", "vm.test:8443"),
            ("https://VM.test", "vm.test"),
            ("https://vm.test", "vm.test:443"),
            ("https://vm.test:8443", "Vm.Test.:8443"),
        ] {
            assert!(own(&[origin], host), "{origin} {host}");
        }
        for origin in [
            "null",
            "",
            "http://vm.test",
            "https://vm.test:8443",
            "https://other.test",
            "https://vm.test.evil",
            "https://evil@vm.test",
            "https://vm.test/path",
            "vm.test",
        ] {
            assert!(!own(&[origin], "vm.test"), "{origin}");
        }
        assert!(!own(&[], "vm.test"));
        assert!(!own(&["https://vm.test", "https://vm.test"], "vm.test"));
    }

    #[test]
    fn queries_and_browsers_that_look_ahead() {
        assert_eq!(ticket(Some("a=b&ticket=T")), Some("T"));
        assert_eq!((ticket(Some("ticketx=T&xticket=U")), ticket(Some("")), ticket(None)), (None, None, None));
        let ahead = |value: &'static str| {
            fetches_ahead(
                &[("sec-purpose".parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect(),
                AHEAD[0],
            )
        };
        assert!(ahead("prefetch;prerender") && ahead("Preview") && !ahead("") && !ahead("navigate"));
    }
}
