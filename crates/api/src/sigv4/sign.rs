//! The client's side.

use super::{ALGORITHM, AmzDate, CONTENT_SHA256, SECURITY_TOKEN, Scope, SignedRequest, canonical};
use crate::Sensitive;

/// Who signs, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The id of the key.
    pub access_key_id: &'a str,
    /// The key.
    pub secret: &'a Sensitive<String>,
    /// Goes along with temporary keys.
    pub session_token: Option<&'a str>,
    /// Such as `us-east-1`.
    pub region: &'a str,
    /// Such as `lambda`.
    pub service: &'a str,
}

/// A request to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The value of the `Host` header, with the port if it is not the scheme's own.
    pub host: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, encoded, without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Signer<'_> {
    /// The headers to add to the request, `host` not among them; `now` is seconds since the Unix epoch.
    ///
    /// A query that cannot be decoded is signed as empty, so such a request is refused.
    pub fn sign(&self, request: &Unsigned<'_>, now: i64) -> Vec<(String, String)> {
        let date = AmzDate::from_seconds(now);
        let payload = canonical::sha256_hex(request.body);
        let mut headers = vec![
            ("host".to_owned(), request.host.to_owned()),
            (CONTENT_SHA256.to_owned(), payload.clone()),
            ("x-amz-date".to_owned(), date.as_str().to_owned()),
        ];
        if let Some(token) = self.session_token {
            headers.push((SECURITY_TOKEN.to_owned(), token.to_owned()));
        }
        let names: Vec<String> = headers.iter().map(|(name, _)| name.clone()).collect();
        let scope =
            Scope { date: date.day().to_owned(), region: self.region.to_owned(), service: self.service.to_owned() };
        let signed =
            SignedRequest { method: request.method, path: request.path, query: request.query, headers: &headers };
        let canonical = canonical::request(&signed, self.service, &names, &payload).unwrap_or_default();
        let signature = canonical::signature(self.secret, &scope, &date, &canonical);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            names.join(";")
        );
        headers.remove(0);
        headers.push(("authorization".to_owned(), authorization));
        headers
    }
}
