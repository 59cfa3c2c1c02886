//! The `logs` service (CloudWatch Logs): no operation is served here yet, and the answer says so.

use api::{
    ApiError,
    sigv4::{Authorization, Expected, SignatureError},
};
use http::Response;
use hyper::body::Incoming;
use uuid::Uuid;

use super::{
    Edge,
    answer::{Body, Refusal},
    dispatch::Head,
    gate,
};

/// Answers one request of the service.
pub(super) async fn call(
    edge: &Edge,
    id: Uuid,
    head: &Head,
    presented: Result<Authorization, SignatureError>,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let expected = Expected { region: edge.region.as_str(), service: "logs" };
    gate::admit(edge, id, head, presented, expected, body).await?;
    let target = head.signed().header("x-amz-target").unwrap_or("no X-Amz-Target");
    let target: String = target.chars().take(128).collect();
    let message = format!("CloudWatch Logs operation {target} is not served here; read logs with 'hearth logs'");
    Err(ApiError::unknown_operation(message).into())
}
