//! What a proxy must change in the heads that pass, and nothing else (spec 6.2, 6.3; RFC 9110 section 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::websocket;

/// Reserved for the proxy, known names or not.
const PLATFORM_PREFIX: &str = "x-aws-proxy-";

pub(crate) const AUTH: &str = "x-aws-proxy-auth";
pub(crate) const PORT: &str = "x-aws-proxy-port";
pub(crate) const FORCE_H2: &str = "x-aws-proxy-force-h2";
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes a client's headers fit for the application. `http2`: towards an HTTP/2 application.
pub(crate) fn towards_application(
    headers: &mut HeaderMap,
    client: Version,
    http2: bool,
    host: &HeaderValue,
    id: &HeaderValue,
) {
    let trailers = accepts_trailers(headers);
    strip_hop_by_hop(headers);
    strip_platform(headers);
    websocket::strip_platform_protocols(headers, SEC_WEBSOCKET_PROTOCOL);
    headers.remove(PROXY_AUTHORIZATION);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if !http2 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if http2 {
        headers.remove(HOST); // :authority says it
    } else {
        headers.insert(HOST, host.clone());
        if client == Version::HTTP_2 {
            join_cookies(headers);
        }
    }
    headers.insert(REQUEST_ID, id.clone());
}

/// Makes an application's headers fit for the client.
pub(crate) fn towards_client(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    strip_platform(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

/// Headers that speak about one connection only, named by the RFC or by `Connection`.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    for name in named {
        // A client must not be able to make us drop what identifies the request.
        if name != HOST && name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    if headers.remove(TRANSFER_ENCODING).is_some() {
        // The coding wins over the length (RFC 9112 section 6.3), which then lies about the body that we pass on.
        headers.remove(CONTENT_LENGTH);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE] {
        headers.remove(name);
    }
}

/// Is a body coded in another way than `chunked`, once? Such a body would arrive as something else than was sent, since
/// codings belong to one connection; and two readers may not agree on where it ends (RFC 9112 sections 6.1 and 6.3).
pub(crate) fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

fn strip_platform(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PLATFORM_PREFIX)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// HTTP/2 clients may send a cookie in crumbs; HTTP/1.1 has one header (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The comma-separated tokens of all lines of one header. Lines that are not ASCII are passed over.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn sent(lines: &[(&str, &str)], client: Version, http2: bool) -> HeaderMap {
        let mut map = headers(lines);
        let (host, id) = (HeaderValue::from_static("vm.test:8443"), HeaderValue::from_static("id"));
        towards_application(&mut map, client, http2, &host, &id);
        map
    }

    #[test]
    fn only_the_proxys_own_goes() {
        let map = sent(
            &[
                ("x-aws-proxy-auth", "secret"),
                ("x-aws-proxy-port", "1"),
                ("x-aws-proxy-something-new", "1"),
                ("connection", "keep-alive, X-Private, host, content-length"),
                ("x-private", "1"),
                ("keep-alive", "5"),
                ("upgrade", "h2c"),
                ("proxy-authorization", "x"),
                ("te", "gzip, trailers"),
                ("traceparent", "00-1"),
                ("content-length", "4"),
                ("x-amzn-requestid", "forged"),
            ],
            Version::HTTP_11,
            false,
        );
        let mut names: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["connection", "content-length", "host", "te", "traceparent", "x-amzn-requestid"]);
        assert_eq!(
            (&map[TE], &map[CONNECTION], &map[REQUEST_ID]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap(), &"id".parse().unwrap())
        );
        assert_eq!(map[HOST], "vm.test:8443");
    }

    #[test]
    fn coding_beats_length() {
        let map = sent(&[("transfer-encoding", "chunked"), ("content-length", "3")], Version::HTTP_11, false);
        assert!(!map.contains_key(CONTENT_LENGTH) && !map.contains_key(TRANSFER_ENCODING));
    }

    #[test]
    fn codings_that_are_understood() {
        for (values, foreign) in [
            (&[][..], false),
            (&["chunked"], false),
            (&["CHUNKED "], false),
            (&["gzip, chunked"], true),
            (&["chunked, chunked"], true),
            (&["gzip", "chunked"], true),
            (&["chunked", "chunked"], true),
            (&[""], true),
        ] {
            let lines: Vec<_> = values.iter().map(|value| ("transfer-encoding", *value)).collect();
            assert_eq!(has_foreign_coding(&headers(&lines)), foreign, "{values:?}");
        }
    }

    #[test]
    fn http2_towards_http1_and_back() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
        assert_eq!(sent(&crumbs, Version::HTTP_2, false).get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        let map = sent(&[("host", "x"), ("te", "trailers")], Version::HTTP_11, true);
        assert!(!map.contains_key(HOST) && !map.contains_key(CONNECTION));
        assert_eq!(map[TE], "trailers");
    }

    #[test]
    fn answers_of_applications() {
        let mut map = headers(&[("connection", "close"), ("x-aws-proxy-error", "forged"), ("server", "x")]);
        towards_client(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["server"]);
    }
}
