//! Who calls? The same for every service but S3.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{
    ApiError, ErrorKind,
    sigv4::{self, Authorization, Expected, SignatureError},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use uuid::Uuid;

use super::{Caller, Credential, Edge, answer::Refusal, dispatch::Head};

/// Largest body of a request, bytes (AWS Lambda's own bound).
const BODY_MAX: usize = 6 * 1024 * 1024;
/// How long a client may take to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Verifies the signature of a request and collects its body.
///
/// The key is looked up before the body is read, so that strangers cannot make the server hold theirs.
pub(super) async fn admit(
    edge: &Edge,
    id: Uuid,
    head: &Head,
    presented: Result<Authorization, SignatureError>,
    expected: Expected<'_>,
    body: Incoming,
) -> Result<(Caller, Bytes), Refusal> {
    let authorization = presented?;
    let credential = credential(edge, &authorization).await?;
    let body = collect(body).await?;
    sigv4::verify(&head.signed(), &authorization, &credential.secret, expected, &body, now())?;
    let caller = Caller {
        account: credential.account,
        access_key_id: authorization.access_key_id,
        identity: credential.identity,
        temporary: credential.temporary,
        request_id: id,
    };
    Ok((caller, body))
}

/// A token opens nothing but the temporary key it came with, and no temporary key is known without its token.
async fn credential(edge: &Edge, authorization: &Authorization) -> Result<Credential, SignatureError> {
    let id = &authorization.access_key_id;
    match &authorization.session_token {
        Some(token) => edge.keys.temporary(id, token.expose(), now()).await,
        None => edge.keys.secret(id).await.ok_or(SignatureError::UnknownKey),
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("Request must be smaller than {BODY_MAX} bytes for this operation");
            Err(ApiError::new(ErrorKind::RequestTooLarge, message).into())
        }
        // The client broke off or was too slow; whoever still listens reads this.
        Ok(Err(_)) | Err(_) => Err(ApiError::unparseable().into()),
    }
}

/// Seconds since the Unix epoch; a clock before 1970 counts as 0.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
