//! The `logs` service (CloudWatch Logs): its reading side, for what builds and applications wrote.

use std::sync::Arc;

use api::{
    ApiError, Region,
    logs::{self, LogsInput, LogsOperation, TARGET_PREFIX},
};
use bytes::Bytes;
use http::Response;
use iam::Decision;
use serde::Serialize;

use super::{
    Caller, Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
};
use crate::logs::Query;

/// Answers one request of the service.
pub(super) async fn call(edge: &Edge, head: &Head, caller: Caller, body: Bytes) -> Result<Response<Body>, Refusal> {
    let operation = operation(head)?;
    let call = Call { edge, caller, body };
    let answer = match operation {
        LogsOperation::DescribeLogGroups => call.perform(Query::describe_log_groups).await,
        LogsOperation::DescribeLogStreams => call.perform(Query::describe_log_streams).await,
        LogsOperation::GetLogEvents => call.perform(Query::get_log_events).await,
        LogsOperation::FilterLogEvents => call.perform(Query::filter_log_events).await,
    };
    Ok(answer::json_1_1(answer?))
}

fn operation(head: &Head) -> Result<LogsOperation, ApiError> {
    let target = head.signed().header("x-amz-target").unwrap_or("no X-Amz-Target");
    let known = target.strip_prefix(TARGET_PREFIX).and_then(|name| name.parse().ok());
    known.ok_or_else(|| {
        let target: String = target.chars().take(128).collect();
        let served = LogsOperation::NAMES.join(", ");
        ApiError::unknown_operation(format!(
            "CloudWatch Logs operation {target} is not served here; served are {served}"
        ))
    })
}

/// May the caller do that to the group? Policies name a group as such, or with what is in it: `<group>:*`. Either is enough, and
/// a deny of either is one.
pub(super) fn authorize(
    caller: &Caller,
    region: &Region,
    action: &str,
    group: &str,
    stream: &str,
) -> Result<(), ApiError> {
    let group = logs::group_arn(region, &caller.account, group);
    let within = format!("{group}:log-stream:{stream}");
    match [&group, &within].map(|resource| caller.identity.decide(action, resource)) {
        [Decision::ExplicitDeny, _] => caller.authorize(action, group),
        [Decision::Allow, Decision::Allow | Decision::ImplicitDeny] => caller.authorize(action, group),
        _ => caller.authorize(action, within),
    }
}

struct Call<'a> {
    edge: &'a Edge,
    caller: Caller,
    body: Bytes,
}

impl Call<'_> {
    /// Decode, do, encode; in a thread that may block, when it is its turn.
    async fn perform<I, O, Q>(self, question: Q) -> Result<Vec<u8>, ApiError>
    where
        I: LogsInput,
        O: Serialize,
        Q: FnOnce(&Query, &I) -> Result<O, ApiError> + Send + 'static,
    {
        let input: I = logs::decode(&self.body)?;
        let group = input.group().map(|group| group.name(&self.edge.region, &self.caller.account)).transpose()?;
        let action = format!("logs:{}", I::OPERATION);
        authorize(&self.caller, &self.edge.region, &action, group.unwrap_or_default(), input.stream())?;
        let turn = self.edge.logs.turn().await;
        let Caller { account, request_id, .. } = self.caller;
        let query = Query { logs: Arc::clone(&self.edge.logs), region: self.edge.region.clone(), account };
        let answer = move || {
            let _turn = turn;
            let output = question(&query, &input)?;
            serde_json::to_vec(&output).map_err(|error| {
                tracing::error!(%error, "an answer has no JSON form");
                logs::unavailable()
            })
        };
        tokio::task::spawn_blocking(answer).await.unwrap_or_else(|error| {
            tracing::error!(operation = %I::OPERATION, %request_id, %error, "the operation panicked");
            Err(logs::unavailable())
        })
    }
}
