//! The server's side.

use subtle::ConstantTimeEq;

use super::{
    Authorization, CONTENT_SHA256, Form, MAX_SKEW_SECONDS, SECURITY_TOKEN, SignatureError, SignedRequest,
    UNSIGNED_PAYLOAD, canonical,
};
use crate::{Sensitive, sigv4::AmzDate};

/// What a signature must be made for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The region of this server.
    pub region: &'a str,
    /// The service that the request is meant for.
    pub service: &'a str,
}

/// Is this request signed with that secret, for here and now? `now` is seconds since the Unix epoch.
///
/// The body is hashed unless the request says `UNSIGNED-PAYLOAD`. What `X-Amz-Security-Token` means is the caller's business;
/// here it must be covered by the signature, as everything in a presigned query is.
///
/// # Errors
/// [`SignatureError::Invalid`] with AWS's words: wrong scope, outside of the 15 minutes (or the validity of a presigned
/// request), a body that does not match its hash, or another signature than ours, compared in constant time.
pub fn verify(
    request: &SignedRequest<'_>,
    authorization: &Authorization,
    secret: &Sensitive<String>,
    expected: Expected<'_>,
    body: &[u8],
    now: i64,
) -> Result<(), SignatureError> {
    check_scope(authorization, expected)?;
    check_time(authorization, now)?;
    if !authorization.signed_headers.iter().any(|name| name == "host") {
        let message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
        return Err(SignatureError::Invalid(message.to_owned()));
    }
    let token = authorization.form == Form::Header && authorization.session_token.is_some();
    if token && !authorization.signed_headers.iter().any(|name| name == SECURITY_TOKEN) {
        let message = "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.";
        return Err(SignatureError::Invalid(message.to_owned()));
    }
    let payload = payload(request, body)?;
    let canonical = canonical::request(request, &authorization.scope.service, &authorization.signed_headers, &payload)
        .ok_or_else(SignatureError::mismatch)?;
    let ours = canonical::signature(secret, &authorization.scope, &authorization.date, &canonical);
    if bool::from(ours.as_bytes().ct_eq(authorization.signature.as_bytes())) {
        Ok(())
    } else {
        Err(SignatureError::mismatch())
    }
}

fn check_scope(authorization: &Authorization, expected: Expected<'_>) -> Result<(), SignatureError> {
    let scope = &authorization.scope;
    let message = if scope.service != expected.service {
        format!("Credential should be scoped to correct service: '{}'.", expected.service)
    } else if scope.region != expected.region {
        format!("Credential should be scoped to a valid region. This endpoint serves '{}'.", expected.region)
    } else if scope.date != authorization.date.day() {
        format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{}'.",
            scope.date.chars().take(16).collect::<String>(),
            authorization.date.day(),
            authorization.date.as_str()
        )
    } else {
        return Ok(());
    };
    Err(SignatureError::Invalid(message))
}

fn check_time(authorization: &Authorization, now: i64) -> Result<(), SignatureError> {
    let date = &authorization.date;
    let validity = match authorization.form {
        Form::Header => MAX_SKEW_SECONDS,
        Form::Query { expires } => expires,
    };
    let text = |seconds: i64| AmzDate::from_seconds(seconds).as_str().to_owned();
    if date.seconds() + validity < now {
        return Err(SignatureError::Invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - {} sec.)",
            date.as_str(),
            text(now - validity),
            text(now),
            validity
        )));
    }
    if date.seconds() - MAX_SKEW_SECONDS > now {
        return Err(SignatureError::Invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + {} min.)",
            date.as_str(),
            text(now + MAX_SKEW_SECONDS),
            text(now),
            MAX_SKEW_SECONDS / 60
        )));
    }
    Ok(())
}

/// What stands for the body in the canonical request.
fn payload(request: &SignedRequest<'_>, body: &[u8]) -> Result<String, SignatureError> {
    let claimed = request.header(CONTENT_SHA256);
    if claimed == Some(UNSIGNED_PAYLOAD) {
        return Ok(UNSIGNED_PAYLOAD.to_owned());
    }
    let hash = canonical::sha256_hex(body);
    if claimed.is_some_and(|claimed| claimed != hash) {
        return Err(SignatureError::mismatch());
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::{Signer, Unsigned};

    /// When the vectors were signed: 2026-09-21T13:13:20Z.
    const NOW: i64 = 1_789_996_400;
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        method: String,
        path: String,
        query: String,
        headers: Vec<(String, String)>,
        body: String,
        service: String,
    }

    impl Vector {
        fn verify(&self, secret: &str, now: i64) -> Result<(), SignatureError> {
            let request =
                SignedRequest { method: &self.method, path: &self.path, query: &self.query, headers: &self.headers };
            let authorization = Authorization::parse(&request)?;
            let expected = Expected { region: "us-east-1", service: &self.service };
            let secret = Sensitive::new(secret.to_owned());
            verify(&request, &authorization, &secret, expected, self.body.as_bytes(), now)
        }
    }

    /// Made with botocore 1.x by `SigV4Auth`, `S3SigV4Auth` and `SigV4QueryAuth`.
    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../testdata/sigv4.json")).unwrap()
    }

    fn vector(name: &str) -> Vector {
        vectors().into_iter().find(|vector| vector.name == name).unwrap()
    }

    #[test]
    fn what_botocore_signs_is_let_in() {
        assert!(vectors().len() >= 12);
        for vector in vectors() {
            assert_eq!(vector.verify(SECRET, NOW), Ok(()), "{}", vector.name);
        }
    }

    #[test]
    fn another_secret_is_not() {
        for vector in vectors() {
            assert_eq!(vector.verify("other", NOW), Err(SignatureError::mismatch()), "{}", vector.name);
        }
    }

    #[test]
    fn any_change_is_noticed() {
        for name in ["query with spaces and equals", "presigned", "arn label encoded"] {
            let mut vector = vector(name);
            vector.method = "DELETE".to_owned();
            assert_eq!(vector.verify(SECRET, NOW), Err(SignatureError::mismatch()), "{name}");
            let mut vector = self::vector(name);
            vector.path.push('x');
            assert_eq!(vector.verify(SECRET, NOW), Err(SignatureError::mismatch()), "{name}");
            let mut vector = self::vector(name);
            vector.query.push_str("&more=1");
            assert_eq!(vector.verify(SECRET, NOW), Err(SignatureError::mismatch()), "{name}");
            let mut vector = self::vector(name);
            vector.body.push(' ');
            assert_eq!(vector.verify(SECRET, NOW), Err(SignatureError::mismatch()), "{name}");
            let mut vector = self::vector(name);
            vector.headers.iter_mut().find(|(name, _)| name == "host").unwrap().1 = "elsewhere".to_owned();
            assert_eq!(vector.verify(SECRET, NOW), Err(SignatureError::mismatch()), "{name}");
        }
    }

    #[test]
    fn clocks_may_be_off_by_a_quarter_of_an_hour() {
        let vector = vector("plain get");
        for now in [NOW - 900, NOW + 900] {
            assert_eq!(vector.verify(SECRET, now), Ok(()));
        }
        let words = |now| vector.verify(SECRET, now).unwrap_err().to_string();
        assert!(
            words(NOW + 901).starts_with("Signature expired: 20260921T131320Z is now earlier than 20260921T131321Z")
        );
        assert!(words(NOW - 901).starts_with("Signature not yet current: 20260921T131320Z is still later than"));
    }

    #[test]
    fn presigned_requests_live_as_long_as_they_say() {
        let vector = vector("presigned");
        assert_eq!(vector.verify(SECRET, NOW + 300), Ok(()));
        assert!(vector.verify(SECRET, NOW + 301).unwrap_err().to_string().starts_with("Signature expired"));
        assert!(vector.verify(SECRET, NOW - 901).unwrap_err().to_string().starts_with("Signature not yet current"));
    }

    #[test]
    fn scope_must_fit() {
        let vector = vector("plain get");
        let request =
            SignedRequest { method: "GET", path: &vector.path, query: &vector.query, headers: &vector.headers };
        let authorization = Authorization::parse(&request).unwrap();
        let secret = Sensitive::new(SECRET.to_owned());
        let words = |authorization: &Authorization, region, service| {
            verify(&request, authorization, &secret, Expected { region, service }, b"", NOW).unwrap_err().to_string()
        };
        assert!(
            words(&authorization, "eu-west-1", "lambda").starts_with("Credential should be scoped to a valid region")
        );
        assert!(words(&authorization, "us-east-1", "sts").contains("correct service: 'sts'"));
        let mut other_day = authorization.clone();
        other_day.scope.date = "20260920".to_owned();
        assert!(words(&other_day, "us-east-1", "lambda").starts_with("Date in Credential scope does not match"));
        let mut hostless = authorization;
        hostless.signed_headers.remove(0);
        assert!(words(&hostless, "us-east-1", "lambda").contains("must be a 'SignedHeader'"));
    }

    #[test]
    fn incomplete_signatures_say_what_is_missing() {
        let parse = |headers: &[(&str, &str)], query: &str| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let request = SignedRequest { method: "GET", path: "/", query, headers: &headers };
            Authorization::parse(&request).unwrap_err()
        };
        let date = ("x-amz-date", "20260921T131320Z");
        let presigned = |more: &str| {
            format!(
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb%2Fc%2Fd%2Faws4_request&X-Amz-Date=20260921T131320Z\
                 &X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00{more}"
            )
        };
        assert_eq!(parse(&[], ""), SignatureError::Missing);
        assert_eq!(parse(&[], "%zz"), SignatureError::Missing);
        for (headers, query, words) in [
            (vec![("authorization", "Bearer abc")], "", "must start with"),
            (
                vec![("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request")],
                "",
                "SignedHeaders, Signature",
            ),
            (
                vec![(
                    "authorization",
                    "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=0",
                )],
                "",
                "'X-Amz-Date'",
            ),
            (
                vec![("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0"), date],
                "",
                "<key>",
            ),
            (vec![("authorization", "a"), ("authorization", "b")], "", "more than one"),
            (vec![], "X-Amz-Signature=00", "X-Amz-Credential"),
            (vec![("x-amz-security-token", "t")], "X-Amz-Signature=00", "in its query, not in a header"),
            (
                vec![],
                &presigned("&X-Amz-Security-Token=a&X-Amz-Security-Token=b"),
                "more than one X-Amz-Security-Token",
            ),
            (vec![], &presigned("").replace("=60", "=0"), "between 1 and 604800"),
            (vec![], &presigned("").replace("=60", "=604801"), "between 1 and 604800"),
        ] {
            let error = parse(&headers, query);
            assert!(matches!(error, SignatureError::Incomplete(_)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.status(), 403);
        }
    }

    #[test]
    fn bodies_may_go_unsigned_only_when_the_request_says_so() {
        let secret = Sensitive::new(SECRET.to_owned());
        let signer = Signer {
            access_key_id: "AK/with/slash",
            secret: &secret,
            session_token: Some("token"),
            region: "r",
            service: "lambda",
        };
        let unsigned = Unsigned { method: "POST", host: "h:1", path: "/a%3Ab", query: "x=%3D&a=b", body: b"body" };
        let mut headers = signer.sign(&unsigned, NOW);
        headers.push(("host".to_owned(), "h:1".to_owned()));
        let attempt = |headers: &[(String, String)], body: &[u8]| {
            let request = SignedRequest { method: "POST", path: "/a%3Ab", query: "x=%3D&a=b", headers };
            let authorization = Authorization::parse(&request).unwrap();
            assert_eq!(authorization.access_key_id, "AK/with/slash");
            verify(&request, &authorization, &secret, Expected { region: "r", service: "lambda" }, body, NOW)
        };
        assert_eq!(attempt(&headers, b"body"), Ok(()));
        assert_eq!(attempt(&headers, b"other"), Err(SignatureError::mismatch()));
        headers.iter_mut().find(|(name, _)| name == CONTENT_SHA256).unwrap().1 = UNSIGNED_PAYLOAD.to_owned();
        assert_eq!(attempt(&headers, b"body"), Err(SignatureError::mismatch()));
    }

    #[test]
    fn a_session_token_is_signed_and_never_shown() {
        let secret = Sensitive::new(SECRET.to_owned());
        let signer = |session_token| Signer {
            access_key_id: "ASIA",
            secret: &secret,
            session_token,
            region: "r",
            service: "lambda",
        };
        let unsigned = Unsigned { method: "GET", host: "h", path: "/", query: "", body: b"" };
        let attempt = |headers: &[(String, String)]| {
            let request = SignedRequest { method: "GET", path: "/", query: "", headers };
            let authorization = Authorization::parse(&request)?;
            assert!(!format!("{authorization:?}").contains("token-1"), "{authorization:?}");
            assert_eq!(authorization.session_token.as_ref().map(|token| token.expose().len()), Some(7));
            verify(&request, &authorization, &secret, Expected { region: "r", service: "lambda" }, b"", NOW)
        };
        let with_host = |mut headers: Vec<(String, String)>| {
            headers.push(("host".to_owned(), "h".to_owned()));
            headers
        };
        let mut headers = with_host(signer(Some("token-1")).sign(&unsigned, NOW));
        assert_eq!(attempt(&headers), Ok(()));
        headers.iter_mut().find(|(name, _)| name == SECURITY_TOKEN).unwrap().1 = "token-2".to_owned();
        assert_eq!(attempt(&headers), Err(SignatureError::mismatch()));
        let mut headers = with_host(signer(None).sign(&unsigned, NOW));
        headers.push((SECURITY_TOKEN.to_owned(), "token-1".to_owned()));
        assert!(attempt(&headers).unwrap_err().to_string().contains("'X-Amz-Security-Token' must be a 'SignedHeader'"));
        headers.push((SECURITY_TOKEN.to_owned(), "token-1".to_owned()));
        assert!(attempt(&headers).unwrap_err().to_string().contains("more than one X-Amz-Security-Token"));
    }
}
