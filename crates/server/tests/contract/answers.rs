//! What answers must look like.

use api::{ErrorKind, Operation, Service};
use serde_json::{Map, Value, json};

use crate::client::Answer;

/// The error catalogue of spec 3.4, spelled out once more, so that a slip in `api::error` shows.
pub fn error_body(kind: ErrorKind, message: &str) -> Value {
    match kind {
        ErrorKind::ResourceNotFound | ErrorKind::Conflict => {
            json!({"message": message, "resourceId": null, "resourceType": null})
        }
        ErrorKind::ServiceQuotaExceeded => json!({
            "message": message, "resourceId": null, "resourceType": null, "serviceCode": null, "quotaCode": null,
        }),
        ErrorKind::Throttling => json!({"message": message, "serviceCode": null, "quotaCode": null}),
        ErrorKind::InvalidParameterValue | ErrorKind::ResourceConflict | ErrorKind::TooManyRequests => {
            json!({"Type": "User", "message": message})
        }
        ErrorKind::Service => json!({"Type": "Service", "message": message}),
        ErrorKind::NetworkConnectorLimitExceeded => json!({"Type": "User", "message": message}),
        _ => json!({"message": message}),
    }
}

/// As [`error_body`], of the operation's service: `lambda-core` has the same names with other members (spec 2.5, 3.4).
pub fn error_body_of(operation: Option<Operation>, kind: ErrorKind, message: &str) -> Value {
    if operation.map(Operation::service) != Some(Service::LambdaCore) {
        return error_body(kind, message);
    }
    match kind {
        ErrorKind::ResourceNotFound => json!({"Type": "User", "Message": message}),
        ErrorKind::Service => json!({"Type": "Service", "Message": message}),
        ErrorKind::TooManyRequests => {
            json!({"Type": "User", "message": message, "Reason": "CallerRateLimitExceeded"})
        }
        _ => error_body(kind, message),
    }
}

/// The statuses of spec 3.4, and those of the front.
pub fn error_status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Validation | ErrorKind::InvalidParameterValue | ErrorKind::Serialization => 400,
        // Of connectors and of logs.
        ErrorKind::NetworkConnectorLimitExceeded | ErrorKind::InvalidParameter => 400,
        ErrorKind::ServiceUnavailable => 500,
        ErrorKind::ServiceQuotaExceeded => 402,
        ErrorKind::AccessDenied => 403,
        ErrorKind::ResourceNotFound | ErrorKind::UnknownOperation => 404,
        ErrorKind::Conflict | ErrorKind::ResourceConflict => 409,
        ErrorKind::RequestTooLarge => 413,
        ErrorKind::Throttling | ErrorKind::TooManyRequests => 429,
        ErrorKind::InternalServer | ErrorKind::InsufficientCapacity | ErrorKind::Service => 500,
    }
}

/// What is wrong with an answer to any request for that operation; `None` for a request that no operation has.
///
/// An answer of success has the operation's status and is its output, no member more or less. A refusal is of a kind that the
/// operation declares, or of the front's, with exactly its status and members.
pub fn fault(operation: Option<Operation>, answer: &Answer) -> Option<String> {
    if answer.header("x-amzn-requestid").is_none_or(|id| id.len() != 36) {
        return Some("it has no x-amzn-RequestId".to_owned());
    }
    if answer.status >= 300 {
        return refusal_fault(operation, answer);
    }
    let Some(operation) = operation else { return Some("no operation has this route".to_owned()) };
    if answer.status != operation.route().status {
        return Some(format!("its status is not {}", operation.route().status));
    }
    if answer.status == 204 {
        let clean = answer.body.is_empty() && answer.header("content-type").is_none();
        return (!clean).then(|| "204 has neither body nor content type".to_owned());
    }
    if answer.header("content-type") != Some("application/json") {
        return Some("its content type is not application/json".to_owned());
    }
    let Some(body) = answer.json() else { return Some("its body is no JSON".to_owned()) };
    match operation.reread(&body) {
        Ok(read) if read == body => None,
        Ok(read) => Some(format!("its body reads as {read}")),
        Err(error) => Some(format!("its body is no output of {operation}: {error}")),
    }
}

fn refusal_fault(operation: Option<Operation>, answer: &Answer) -> Option<String> {
    let Some(name) = answer.header("x-amzn-errortype") else { return Some("it has no x-amzn-ErrorType".to_owned()) };
    let Ok(kind) = name.parse::<ErrorKind>() else { return Some(format!("{name} is no error of ours")) };
    if !operation.map_or_else(|| kind.of_front(), |operation| operation.may_answer(kind)) {
        return Some(format!("{name} is not declared"));
    }
    if answer.status != error_status(kind) {
        return Some(format!("{name} has the status {}", error_status(kind)));
    }
    let core = operation.map(Operation::service) == Some(Service::LambdaCore);
    let waits = matches!(kind, ErrorKind::InternalServer | ErrorKind::Throttling)
        || (core && kind == ErrorKind::TooManyRequests);
    if answer.header("retry-after").is_some() && !waits {
        return Some(format!("{name} has no Retry-After"));
    }
    let throttled = kind.status() == 429 && waits;
    if throttled && !answer.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok_and(|value| value > 0))
    {
        return Some(format!("{name} says in Retry-After how many seconds to wait"));
    }
    let body = answer.json().unwrap_or_default();
    if kind == ErrorKind::Serialization {
        let known = [json!({"message": null}), json!({"Message": "Expected null"})];
        return (!known.contains(&body)).then(|| "an unreadable request is told nothing else".to_owned());
    }
    let message = body["message"].as_str().or(body["Message"].as_str());
    let expected = error_body_of(operation, kind, message.unwrap_or_default());
    (message.is_none_or(str::is_empty) || body != expected).then(|| format!("{name} has the body {expected}"))
}

/// Is `found` what the table says? Texts in angle brackets stand for what differs each time. The first difference, in words.
pub fn mismatch(at: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>().join(", ");
            if !expected.keys().eq(found.keys()) {
                return Some(format!("{at}: the table has [{}], the answer has [{}]", keys(expected), keys(found)));
            }
            expected.iter().find_map(|(name, value)| mismatch(&format!("{at}.{name}"), value, &found[name]))
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            expected.iter().zip(found).find_map(|(expected, found)| mismatch(&format!("{at}[]"), expected, found))
        }
        (Value::String(text), found) if stands_for(text, found) => None,
        _ if expected == found => None,
        _ => Some(format!("{at}: the table says {expected}, the answer {found}")),
    }
}

fn stands_for(wildcard: &str, found: &Value) -> bool {
    let text = found.as_str().unwrap_or_default();
    match wildcard {
        // Epoch seconds of these years, whole or with milliseconds.
        "<time>" => found.as_f64().is_some_and(|seconds| (1.7e9..3e9).contains(&seconds)),
        "<microvm>" => text.parse::<api::MicrovmId>().is_ok(),
        "<build>" => text.parse::<api::BuildId>().is_ok(),
        "<endpoint>" => {
            let labels: Vec<_> = text.split(['.', ':']).collect();
            labels.len() == 5
                && labels[0].parse::<uuid::Uuid>().is_ok()
                && labels[1..4] == ["lambda-microvm", "us-east-1", "localhost"]
                && labels[4].parse::<u16>().is_ok()
        }
        "<iso>" => text.parse::<api::IsoTimestamp>().is_ok(),
        "<connector-arn>" => text.parse::<api::ConnectorArn>().is_ok(),
        "<connector>" => text.parse::<api::ConnectorId>().is_ok(),
        "<number>" => found.is_u64(),
        "<any>" => true,
        "<token>" => text.len() > 20,
        _ => false,
    }
}
