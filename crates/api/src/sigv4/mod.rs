//! AWS Signature Version 4, both sides, for header and for presigned-query requests. Pure: the caller brings the clock.
//!
//! The path is encoded a second time for every service but S3, so `%3A` in an ARN label is signed as `%253A`; `.` and `..`
//! segments and doubled slashes are resolved first. S3 signs the path as it is sent.

mod authorization;
mod canonical;
mod date;
pub mod percent;
mod sign;
mod verify;

pub use authorization::{Authorization, Form, Scope};
pub use date::AmzDate;
pub use sign::{Signer, Unsigned};
pub use verify::{Expected, verify};

/// Name of the only algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a client's clock may be off, seconds either way.
pub const MAX_SKEW_SECONDS: i64 = 15 * 60;
/// Longest validity of a presigned request, seconds.
pub const MAX_EXPIRES_SECONDS: i64 = 7 * 24 * 60 * 60;
/// Stands for the hash of a body that is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Header with the token of a temporary key; a presigned query has a parameter of the same name.
pub const SECURITY_TOKEN: &str = "x-amz-security-token";
/// Header with the hash of the body.
pub const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// What of a request is signed, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, still encoded.
    pub path: &'a str,
    /// The query, still encoded, without `?`.
    pub query: &'a str,
    /// Names in lower case, in order of arrival; `host` must be among them.
    pub headers: &'a [(String, String)],
}

impl<'a> SignedRequest<'a> {
    /// The only header of that (lower-case) name; `None` when there is none or more than one.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(each, _)| each == name);
        let first = found.next()?;
        found.next().is_none().then_some(first.1.as_str())
    }
}

/// Why a request is not let in; the words are AWS's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature at all.
    #[error("Missing Authentication Token")]
    Missing,
    /// Parts of the signature are missing or make no sense.
    #[error("{0}")]
    Incomplete(String),
    /// No such access key, or a session token that is not its own.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// A session token after its time.
    #[error("The security token included in the request is expired")]
    Expired,
    /// Wrong secret, changed request, wrong scope, too old.
    #[error("{0}")]
    Invalid(String),
}

impl SignatureError {
    /// The value of `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        match self {
            SignatureError::Missing => "MissingAuthenticationTokenException",
            SignatureError::Incomplete(_) => "IncompleteSignatureException",
            SignatureError::UnknownKey => "UnrecognizedClientException",
            SignatureError::Expired => "ExpiredTokenException",
            SignatureError::Invalid(_) => "InvalidSignatureException",
        }
    }

    /// The HTTP status: always 403.
    pub const fn status(&self) -> u16 {
        403
    }

    fn mismatch() -> Self {
        SignatureError::Invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
             Key and signing method. Consult the service documentation for details."
                .to_owned(),
        )
    }
}
