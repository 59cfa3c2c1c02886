//! The `sts` service: `GetCallerIdentity`, the call that every tool makes first, and `GetSessionToken`. As on AWS, no policy
//! can allow or deny either.

use api::{
    ApiError, ErrorKind,
    sigv4::{SignatureError, percent},
};
use bytes::Bytes;
use http::Response;
use uuid::Uuid;

use super::{
    Caller, Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
    gate,
};
use crate::failure::internal;

/// The region that the global STS endpoint is signed for, wherever the client is.
pub(super) const GLOBAL_REGION: &str = "us-east-1";
/// Bounds and default of a session, seconds.
const DURATION_MIN: i64 = 900;
const DURATION_MAX: i64 = 129_600;
const DURATION_DEFAULT: i64 = 43_200;

/// Answers one request of the service.
pub(super) async fn call(edge: &Edge, head: &Head, caller: Caller, body: Bytes) -> Result<Response<Body>, Refusal> {
    let id = caller.request_id;
    let form = if head.method == "POST" { String::from_utf8_lossy(&body).into_owned() } else { head.query.clone() };
    let pairs = percent::query_pairs(&form).unwrap_or_default();
    let parameter = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match parameter("Action").unwrap_or_default() {
        "GetCallerIdentity" => Ok(caller_identity(&caller, id)),
        "GetSessionToken" => session_token(edge, &caller, parameter("DurationSeconds"), id),
        other => Err(Refusal::UnknownAction(other.chars().take(64).collect())),
    }
}

fn caller_identity(caller: &Caller, id: Uuid) -> Response<Body> {
    let (account, arn, user_id) = (&caller.account, caller.identity.arn(), caller.identity.user_id());
    let result = format!("<Arn>{}</Arn><UserId>{user_id}</UserId><Account>{account}</Account>", answer::escape(arn));
    success("GetCallerIdentity", &result, id)
}

fn session_token(edge: &Edge, caller: &Caller, seconds: Option<&str>, id: Uuid) -> Result<Response<Body>, Refusal> {
    if caller.temporary {
        let message = "Cannot call GetSessionToken with session credentials";
        return Err(ApiError::new(ErrorKind::AccessDenied, message).into());
    }
    let seconds = duration(seconds)?;
    let session = edge.access.issue(&caller.access_key_id, gate::now() + seconds).ok_or(SignatureError::UnknownKey)?;
    let expiration = jiff::Timestamp::from_second(session.expires_at).map_err(internal)?;
    let result = format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials>",
        session.access_key_id,
        session.secret.expose(),
        session.token.expose()
    );
    Ok(success("GetSessionToken", &result, id))
}

/// `DurationSeconds`, 900..=129600, default 43200.
fn duration(text: Option<&str>) -> Result<i64, ApiError> {
    let Some(text) = text else { return Ok(DURATION_DEFAULT) };
    let refuse = |words: String| {
        let shown: String = text.chars().take(32).collect();
        ApiError::validation(format!("1 validation error detected: Value '{shown}' at 'durationSeconds' {words}"))
    };
    let constraint = |words: String| refuse(format!("failed to satisfy constraint: Member must have value {words}"));
    match text.parse::<i64>().map_err(|_| refuse("is not an integer".to_owned()))? {
        seconds if seconds < DURATION_MIN => Err(constraint(format!("greater than or equal to {DURATION_MIN}"))),
        seconds if seconds > DURATION_MAX => Err(constraint(format!("less than or equal to {DURATION_MAX}"))),
        seconds => Ok(seconds),
    }
}

fn success(action: &str, result: &str, id: Uuid) -> Response<Body> {
    answer::xml(
        200,
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result>\
             <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
        ),
    )
}
