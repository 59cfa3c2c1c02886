//! The `sts` service: `GetCallerIdentity`, the call that every tool makes first.

use api::sigv4::{Authorization, Expected, SignatureError, percent};
use http::Response;
use hyper::body::Incoming;
use uuid::Uuid;

use super::{
    Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
    gate,
};

/// The region that the global STS endpoint is signed for, wherever the client is.
const GLOBAL_REGION: &str = "us-east-1";

/// Answers one request of the service.
pub(super) async fn call(
    edge: &Edge,
    id: Uuid,
    head: &Head,
    presented: Result<Authorization, SignatureError>,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let global = presented.as_ref().is_ok_and(|authorization| authorization.scope.region == GLOBAL_REGION);
    let region = if global { GLOBAL_REGION } else { edge.region.as_str() };
    let (caller, body) = gate::admit(edge, id, head, presented, Expected { region, service: "sts" }, body).await?;
    let form = if head.method == "POST" { String::from_utf8_lossy(&body).into_owned() } else { head.query.clone() };
    let pairs = percent::query_pairs(&form).unwrap_or_default();
    let action = pairs.into_iter().find(|(name, _)| name == "Action").map(|(_, value)| value).unwrap_or_default();
    if action != "GetCallerIdentity" {
        return Err(Refusal::UnknownAction(action.chars().take(64).collect()));
    }
    let (account, partition) = (caller.account, edge.region.partition());
    // Every key may do everything in its account, which is what AWS calls root.
    Ok(answer::xml(
        200,
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:{partition}:iam::{account}:root</Arn><UserId>{account}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>"
        ),
    ))
}
