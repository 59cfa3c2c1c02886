//! The canonical request, the string to sign and the signature.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, AmzDate, Scope, SignedRequest, percent};
use crate::Sensitive;

/// Lower-case hex of the SHA-256 of those bytes.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The path as it is signed: see the module's head.
pub(super) fn path(service: &str, raw: &str) -> String {
    if service == "s3" {
        return raw.to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut plain = format!("/{}", segments.join("/"));
    if raw.ends_with('/') && !segments.is_empty() {
        plain.push('/');
    }
    percent::encode_path(&plain)
}

/// The query as it is signed: encoded anew, sorted, without the signature itself. `None` when it cannot be decoded.
pub(super) fn query(raw: &str) -> Option<String> {
    let mut pairs: Vec<(String, String)> = percent::query_pairs(raw)?
        .into_iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (percent::encode(&name), percent::encode(&value)))
        .collect();
    pairs.sort();
    Some(pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
}

/// Values of one header, trimmed, runs of spaces made one, joined by commas.
fn header_value(request: &SignedRequest<'_>, name: &str) -> String {
    let values = request.headers.iter().filter(|(each, _)| each == name);
    let plain = |value: &str| value.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    values.map(|(_, value)| plain(value)).collect::<Vec<_>>().join(",")
}

/// The canonical request; `payload` is the hash of the body or a word that stands for it.
pub(super) fn request(
    request: &SignedRequest<'_>,
    service: &str,
    signed_headers: &[String],
    payload: &str,
) -> Option<String> {
    let headers: String =
        signed_headers.iter().map(|name| format!("{name}:{}\n", header_value(request, name))).collect();
    Some(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload}",
        request.method,
        path(service, request.path),
        query(request.query)?,
        signed_headers.join(";"),
    ))
}

/// The signature of a canonical request, lower-case hex.
pub(super) fn signature(secret: &Sensitive<String>, scope: &Scope, date: &AmzDate, canonical: &str) -> String {
    let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", date.as_str(), sha256_hex(canonical.as_bytes()));
    let mut key = hmac(format!("AWS4{}", secret.expose()).as_bytes(), scope.date.as_bytes());
    for part in [scope.region.as_str(), scope.service.as_str(), "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    hex(&hmac(&key, to_sign.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_twice_but_for_s3() {
        assert_eq!(path("lambda", "/a/arn%3Aaws/b%2Fc"), "/a/arn%253Aaws/b%252Fc");
        assert_eq!(path("lambda", "/a/arn:aws"), "/a/arn%3Aaws");
        assert_eq!(path("s3", "/b/a%20b//../c"), "/b/a%20b//../c");
        assert_eq!(path("lambda", "//a/./b/../c/"), "/a/c/");
        assert_eq!(path("lambda", ""), "/");
        assert_eq!(path("lambda", "/"), "/");
    }

    #[test]
    fn queries_are_sorted_by_their_encoded_form() {
        assert_eq!(query("b=2&a=x y&a=%2B&c&X-Amz-Signature=00").unwrap(), "a=%2B&a=x%20y&b=2&c=");
        assert_eq!(query("a=+").unwrap(), "a=%20");
        assert_eq!(query("%zz"), None);
    }
}
