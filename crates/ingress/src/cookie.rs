//! The cookie that stands for a token. The application neither sees nor sets it.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

/// Browsers take a name with this prefix only over TLS, for this host alone and all of its paths (RFC 6265bis section 4.1.3.2).
const NAME: &str = "__Host-hearth";

/// The `Set-Cookie` value for a token that is good for so many seconds.
pub(crate) fn bake(token: &str, seconds: u64) -> Option<HeaderValue> {
    let text = format!("{NAME}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token in a request's cookie. Two of them are none.
pub(crate) fn find(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut own = pairs.filter(|pair| is_own(pair));
    let (first, second) = (own.next()?, own.next());
    let value = first.trim_ascii().get(NAME.len() + 1..)?;
    std::str::from_utf8(value).ok().filter(|_| second.is_none())
}

/// Takes it out of a request; the other cookies stay as they are, byte by byte.
pub(crate) fn hide(headers: &mut HeaderMap) {
    let is_there = |line: &HeaderValue| line.as_bytes().split(|byte| *byte == b';').any(is_own);
    if !headers.get_all(COOKIE).iter().any(is_there) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        if !is_there(&line) {
            headers.append(COOKIE, line);
            continue;
        }
        let others: Vec<&[u8]> = line.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_own(pair)).collect();
        let others = others.join(&b';');
        if let (Ok(value), false) = (HeaderValue::from_bytes(others.trim_ascii_start()), others.trim_ascii().is_empty())
        {
            headers.append(COOKIE, value);
        }
    }
}

/// Takes it out of an answer.
pub(crate) fn shield(headers: &mut HeaderMap) {
    if !headers.get_all(SET_COOKIE).iter().any(sets_own) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|line| !sets_own(line)).cloned().collect();
    headers.remove(SET_COOKIE);
    for line in lines {
        headers.append(SET_COOKIE, line);
    }
}

/// `NAME=...`?
fn is_own(pair: &[u8]) -> bool {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    name.trim_ascii() == NAME.as_bytes() && parts.next().is_some()
}

/// In any spelling; a cookie without a name too, for a browser sends `=a=b` as `a=b`.
fn sets_own(line: &HeaderValue) -> bool {
    let nameless = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'=';
    let line = line.as_bytes();
    let start = line.iter().position(|byte| !nameless(byte)).unwrap_or(line.len());
    let end = line[start..].iter().position(|byte| b"=;".contains(byte)).map_or(line.len(), |at| start + at);
    line[start..end].trim_ascii().eq_ignore_ascii_case(NAME.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(name: http::HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn it_is_found_and_hidden_and_the_others_stay() {
        for (lines, token, left) in [
            (&["__Host-hearth=a.b..c"][..], Some("a.b..c"), &[][..]),
            (&["x=1; __Host-hearth=t; y=\"2; \""], Some("t"), &["x=1; y=\"2; \""]),
            (&["__Host-hearth=t;x=1;  y=2 "], Some("t"), &["x=1;  y=2 "]),
            (&["x=1;__Host-hearth=t"], Some("t"), &["x=1"]),
            (&["x=1", "__Host-hearth=t", "y=;;"], Some("t"), &["x=1", "y=;;"]),
            (&["__Host-hearth=t; __Host-hearth=u; x=1"], None, &["x=1"]),
            (&["__Host-hearth=t", "__Host-hearth=t"], None, &[]),
            (
                &["__Host-hearthx=t; x__Host-hearth=t; __host-hearth=t"],
                None,
                &["__Host-hearthx=t; x__Host-hearth=t; __host-hearth=t"],
            ),
            (&["__Host-hearth"], None, &["__Host-hearth"]),
            (&["__Host-hearth="], Some(""), &[]),
            (&[" ;; x "], None, &[" ;; x "]),
        ] {
            let mut headers = map(COOKIE, lines);
            assert_eq!(find(&headers), token, "{lines:?}");
            hide(&mut headers);
            let seen: Vec<_> = headers.get_all(COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(seen, left, "{lines:?}");
        }
    }

    #[test]
    fn the_application_cannot_set_it() {
        let set = [
            "__Host-hearth=evil; Path=/; Secure",
            "a=__Host-hearth=1",
            " __host-HEARTH =evil",
            "=__Host-hearth=evil",
            "= = __Host-hearth=evil; Secure",
            "__Host-hearth",
            "__Host-hearths=1",
            "b=2; Path=/",
            "",
        ];
        let mut headers = map(SET_COOKIE, &set);
        shield(&mut headers);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(left, ["a=__Host-hearth=1", "__Host-hearths=1", "b=2; Path=/", ""]);
    }

    #[test]
    fn it_is_a_secret() {
        let value = bake("a.b", 60).unwrap();
        assert_eq!(value, "__Host-hearth=a.b; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax");
        assert!(!format!("{value:?}").contains("a.b"));
        assert!(bake("a\nb", 60).is_none());
    }
}
