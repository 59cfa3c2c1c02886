//! What a client presents: the `Authorization` header or the `X-Amz-*` parameters of a presigned query.

use super::{ALGORITHM, AmzDate, MAX_EXPIRES_SECONDS, SECURITY_TOKEN, SignatureError, SignedRequest, percent};
use crate::Sensitive;

/// The credential scope: `<date>/<region>/<service>/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    /// Such as `us-east-1`.
    pub region: String,
    /// Such as `lambda`.
    pub service: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// Where the signature travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In the `Authorization` header.
    Header,
    /// In the query; valid for that many seconds, 1..=604800.
    Query {
        /// Seconds.
        expires: i64,
    },
}

/// A signature as presented, nothing of it verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The id of the key.
    pub access_key_id: String,
    /// What the signature is for.
    pub scope: Scope,
    /// Names of the signed headers, in order.
    pub signed_headers: Vec<String>,
    /// 64 hex digits when right.
    pub signature: String,
    /// When it was made.
    pub date: AmzDate,
    /// Where it travelled.
    pub form: Form,
    /// What goes along with a temporary key; may be empty.
    pub session_token: Option<Sensitive<String>>,
}

const HEADER_PARTS: [&str; 3] = ["Credential", "SignedHeaders", "Signature"];
const QUERY_PARTS: [&str; 6] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"];

impl Authorization {
    /// Reads what the request presents.
    ///
    /// # Errors
    /// [`SignatureError::Missing`] when it presents nothing, [`SignatureError::Incomplete`] when parts are missing.
    pub fn parse(request: &SignedRequest<'_>) -> Result<Self, SignatureError> {
        let presented = request.headers.iter().any(|(name, _)| name == "authorization");
        if presented {
            let value = request.header("authorization").ok_or_else(|| {
                SignatureError::Incomplete("The request has more than one Authorization header".to_owned())
            })?;
            return Self::from_header(value, request);
        }
        let pairs = percent::query_pairs(request.query).unwrap_or_default();
        if pairs.iter().any(|(name, _)| name == "X-Amz-Signature" || name == "X-Amz-Credential") {
            let in_header = request.headers.iter().any(|(name, _)| name == SECURITY_TOKEN);
            return if in_header { Err(token_in_header()) } else { Self::from_query(&pairs) };
        }
        Err(SignatureError::Missing)
    }

    fn from_header(value: &str, request: &SignedRequest<'_>) -> Result<Self, SignatureError> {
        let parts = value.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with([' ', '\t']));
        let parts = parts.ok_or_else(|| incomplete("Authorization header must start with AWS4-HMAC-SHA256", ""))?;
        let find = |wanted: &str| {
            let mut found =
                parts.split(',').filter_map(|part| part.trim().split_once('=')).filter(|(n, _)| *n == wanted);
            let value = found.next().map(|(_, value)| value);
            value.filter(|_| found.next().is_none())
        };
        let [credential, signed_headers, signature] = HEADER_PARTS.map(find);
        let missing: Vec<_> = HEADER_PARTS.into_iter().filter(|part| find(part).is_none()).collect();
        let (Some(credential), Some(signed_headers), Some(signature)) = (credential, signed_headers, signature) else {
            return Err(incomplete("Authorization header requires parameters: ", &missing.join(", ")));
        };
        let date = request.header("x-amz-date").and_then(AmzDate::parse);
        let date = date.ok_or_else(|| incomplete("Authorization header requires a valid 'X-Amz-Date' header", ""))?;
        let token = match request.headers.iter().filter(|(name, _)| name == SECURITY_TOKEN).count() {
            0 => None,
            1 => request.header(SECURITY_TOKEN),
            _ => return Err(incomplete("The request has more than one X-Amz-Security-Token header", "")),
        };
        Self::build(credential, signed_headers, signature, date, Form::Header, token)
    }

    fn from_query(pairs: &[(String, String)]) -> Result<Self, SignatureError> {
        let find = |wanted: &str| {
            let mut found = pairs.iter().filter(|(name, _)| name == wanted);
            let value = found.next().map(|(_, value)| value.as_str());
            value.filter(|_| found.next().is_none())
        };
        let missing: Vec<_> = QUERY_PARTS.into_iter().filter(|part| find(part).is_none()).collect();
        let [Some(algorithm), Some(credential), Some(date), Some(expires), Some(signed_headers), Some(signature)] =
            QUERY_PARTS.map(find)
        else {
            return Err(incomplete("AWS query-string parameters must include each once: ", &missing.join(", ")));
        };
        if algorithm != ALGORITHM {
            return Err(incomplete("X-Amz-Algorithm must be ", ALGORITHM));
        }
        let date = AmzDate::parse(date).ok_or_else(|| incomplete("X-Amz-Date must be in ISO-8601 basic format", ""))?;
        let expires = expires.parse::<i64>().ok().filter(|seconds| (1..=MAX_EXPIRES_SECONDS).contains(seconds));
        let expires = expires.ok_or_else(|| incomplete("X-Amz-Expires must be between 1 and 604800 seconds", ""))?;
        let mut tokens = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SECURITY_TOKEN));
        let token = tokens.next().map(|(_, value)| value.as_str());
        if tokens.next().is_some() {
            return Err(incomplete("The request has more than one X-Amz-Security-Token parameter", ""));
        }
        Self::build(credential, signed_headers, signature, date, Form::Query { expires }, token)
    }

    fn build(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        date: AmzDate,
        form: Form,
        token: Option<&str>,
    ) -> Result<Self, SignatureError> {
        let wrong = || incomplete("Credential must have the form <key>/<date>/<region>/<service>/aws4_request", "");
        // The key comes first and may itself hold slashes.
        let mut parts = credential.rsplitn(5, '/');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(wrong);
        let (terminator, service, region, day, key) = (next()?, next()?, next()?, next()?, next()?);
        if terminator != "aws4_request" {
            return Err(wrong());
        }
        Ok(Authorization {
            access_key_id: key.to_owned(),
            scope: Scope { date: day.to_owned(), region: region.to_owned(), service: service.to_owned() },
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
            date,
            form,
            session_token: token.map(|token| Sensitive::new(token.to_owned())),
        })
    }
}

/// Which of the two would count is nobody's guess to make.
fn token_in_header() -> SignatureError {
    incomplete("A presigned request takes X-Amz-Security-Token in its query, not in a header", "")
}

fn incomplete(what: &str, detail: &str) -> SignatureError {
    SignatureError::Incomplete(format!("{what}{detail}"))
}
