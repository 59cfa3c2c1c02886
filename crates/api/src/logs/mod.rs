//! The reading side of CloudWatch Logs (API version 2014-03-28, JSON 1.1): four operations, what they take and give.
//!
//! All times are milliseconds since the epoch. Absent members of answers are left out, as this service does.

mod json;
mod pattern;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use pattern::FilterPattern;

use crate::{
    AccountId, ApiError, ErrorKind, Region,
    schema::{Member, bounds::Longest, check, logs as inputs},
    text::enumeration,
};

/// What `X-Amz-Target` has before the name of the operation.
pub const TARGET_PREFIX: &str = "Logs_20140328.";

enumeration! {
    /// An operation of the service `logs` that is served here.
    LogsOperation {
        /// See [`DescribeLogGroupsInput`].
        DescribeLogGroups = "DescribeLogGroups",
        /// See [`DescribeLogStreamsInput`].
        DescribeLogStreams = "DescribeLogStreams",
        /// See [`GetLogEventsInput`].
        GetLogEvents = "GetLogEvents",
        /// See [`FilterLogEventsInput`].
        FilterLogEvents = "FilterLogEvents",
    }
}

impl LogsOperation {
    /// Members of the request.
    pub const fn members(self) -> &'static [Member] {
        match self {
            LogsOperation::DescribeLogGroups => inputs::DESCRIBE_LOG_GROUPS,
            LogsOperation::DescribeLogStreams => inputs::DESCRIBE_LOG_STREAMS,
            LogsOperation::GetLogEvents => inputs::GET_LOG_EVENTS,
            LogsOperation::FilterLogEvents => inputs::FILTER_LOG_EVENTS,
        }
    }
}

enumeration! {
    /// The class of a log group. Groups of hearth's are all `STANDARD`.
    LogGroupClass {
        /// The only one there is here.
        Standard = "STANDARD",
        /// None here.
        InfrequentAccess = "INFREQUENT_ACCESS",
        /// None here.
        Delivery = "DELIVERY",
        /// None here.
        Essentials = "ESSENTIALS",
    }
}

enumeration! {
    /// The order of log streams.
    OrderBy {
        /// By name; the default.
        LogStreamName = "LogStreamName",
        /// By the time of the last event.
        LastEventTime = "LastEventTime",
    }
}

/// The request of one operation.
pub trait LogsInput: DeserializeOwned + Send + 'static {
    /// Which operation.
    const OPERATION: LogsOperation;

    /// The group it is about, if it is about one.
    fn group(&self) -> Option<&GroupRef>;

    /// The stream it is about; empty when it is about none or many.
    fn stream(&self) -> &str {
        ""
    }

    /// The rules between members.
    ///
    /// # Errors
    /// `InvalidParameterException`.
    fn check(&self) -> Result<(), ApiError>;
}

/// Reads and validates the body of a request.
///
/// # Errors
/// `SerializationException` when it cannot be read, `InvalidParameterException` with every violated bound, else what
/// [`LogsInput::check`] says.
pub fn decode<I: LogsInput>(body: &[u8]) -> Result<I, ApiError> {
    let mut request = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => object,
        _ if body.is_empty() => Map::new(),
        _ => return Err(ApiError::unparseable()),
    };
    check::check(I::OPERATION.members(), &mut request, Longest::default()).map_err(|error| {
        match (error.kind(), error.message()) {
            (ErrorKind::Validation, Some(message)) => invalid(message),
            _ => error,
        }
    })?;
    let input: I = serde_json::from_value(Value::Object(request)).map_err(|_| ApiError::unparseable())?;
    input.check()?;
    Ok(input)
}

/// `InvalidParameterException`.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidParameter, message)
}

/// The token was not made by the same operation on the same thing.
pub fn invalid_token() -> ApiError {
    invalid("The specified nextToken is invalid.")
}

/// No such group in the account.
pub fn group_not_found() -> ApiError {
    ApiError::new(ErrorKind::ResourceNotFound, "The specified log group does not exist.")
}

/// No such stream in the group.
pub fn stream_not_found() -> ApiError {
    ApiError::new(ErrorKind::ResourceNotFound, "The specified log stream does not exist.")
}

/// Something failed on our side; the cause belongs into the log.
pub fn unavailable() -> ApiError {
    ApiError::new(ErrorKind::ServiceUnavailable, "The service cannot complete the request.")
}

/// The group of a request: by name, or by an identifier that is a name or an ARN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupRef {
    /// A name.
    pub log_group_name: Option<String>,
    /// A name or an ARN without `:*` at its end.
    pub log_group_identifier: Option<String>,
}

impl GroupRef {
    fn check(&self) -> Result<(), ApiError> {
        match (&self.log_group_name, &self.log_group_identifier) {
            (Some(_), Some(_)) => Err(invalid(
                "LogGroup name and LogGroup ARN are mutually exclusive parameters: logGroupName, logGroupIdentifier",
            )),
            (None, None) => Err(invalid("One of logGroupName and logGroupIdentifier must be specified")),
            _ => Ok(()),
        }
    }

    /// The name of the group; those of other regions and accounts do not exist for the caller.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, and `InvalidParameterException` for an ARN of something else.
    pub fn name(&self, region: &Region, account: &AccountId) -> Result<&str, ApiError> {
        match (&self.log_group_name, &self.log_group_identifier) {
            (Some(name), _) => Ok(name),
            (None, Some(identifier)) => named(identifier, region, account),
            (None, None) => Err(group_not_found()),
        }
    }
}

fn named<'a>(identifier: &'a str, region: &Region, account: &AccountId) -> Result<&'a str, ApiError> {
    if !identifier.starts_with("arn:") {
        return Ok(identifier);
    }
    let parts: Vec<&str> = identifier.splitn(7, ':').collect();
    match parts[..] {
        ["arn", partition, "logs", of_region, of_account, "log-group", name] if !name.contains(':') => {
            let here = partition == region.partition() && of_region == region.as_str();
            if here && of_account == account.as_str() { Ok(name) } else { Err(group_not_found()) }
        }
        _ => Err(invalid(format!(
            "Invalid ARN '{identifier}': expected arn:aws:logs:<region>:<account>:log-group:<name>"
        ))),
    }
}

/// The ARN of a group, as `logGroupArn` has it.
pub fn group_arn(region: &Region, account: &AccountId, group: &str) -> String {
    format!("arn:{}:logs:{region}:{account}:log-group:{group}", region.partition())
}

/// Request of `DescribeLogGroups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DescribeLogGroupsInput {
    /// Accounts; no other than the caller's is ever linked.
    pub account_identifiers: Option<Vec<String>>,
    /// Beginning of the name.
    pub log_group_name_prefix: Option<String>,
    /// Part of the name.
    pub log_group_name_pattern: Option<String>,
    /// Goes on from an earlier answer.
    pub next_token: Option<String>,
    /// 1..=50, default 50.
    pub limit: Option<u32>,
    /// No account is linked to another here.
    pub include_linked_accounts: Option<bool>,
    /// Only of that class.
    pub log_group_class: Option<LogGroupClass>,
    /// Only these names.
    pub log_group_identifiers: Option<Vec<String>>,
}

impl DescribeLogGroupsInput {
    /// Is the group wanted?
    pub fn wants(&self, account: &AccountId, group: &str) -> bool {
        let linked = self.include_linked_accounts == Some(true);
        let accounts = self.account_identifiers.as_deref().filter(|accounts| linked && !accounts.is_empty());
        accounts.is_none_or(|accounts| accounts.iter().any(|each| each == account.as_str()))
            && self.log_group_name_prefix.as_deref().is_none_or(|prefix| group.starts_with(prefix))
            && self.log_group_name_pattern.as_deref().is_none_or(|part| group.contains(part))
            && self.log_group_class.is_none_or(|class| class == LogGroupClass::Standard)
            && self.log_group_identifiers.as_deref().is_none_or(|names| names.iter().any(|name| name == group))
    }
}

impl LogsInput for DescribeLogGroupsInput {
    const OPERATION: LogsOperation = LogsOperation::DescribeLogGroups;

    fn group(&self) -> Option<&GroupRef> {
        None
    }

    fn check(&self) -> Result<(), ApiError> {
        let (prefix, pattern) = (&self.log_group_name_prefix, &self.log_group_name_pattern);
        if prefix.is_some() && pattern.is_some() {
            return Err(invalid("logGroupNamePrefix and logGroupNamePattern are mutually exclusive parameters"));
        }
        let others = prefix.is_some() || pattern.is_some() || self.log_group_class.is_some();
        if self.log_group_identifiers.is_some() && (others || self.account_identifiers.is_some()) {
            return Err(invalid("logGroupIdentifiers can be combined with includeLinkedAccounts only"));
        }
        Ok(())
    }
}

/// Answer of `DescribeLogGroups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogGroupsOutput {
    /// By name.
    pub log_groups: Vec<LogGroup>,
    /// There are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroup {
    /// Its name.
    pub log_group_name: String,
    /// When it came into being.
    pub creation_time: i64,
    /// There are no metric filters.
    pub metric_filter_count: u32,
    /// With `:*` at its end.
    pub arn: String,
    /// Bytes.
    pub stored_bytes: u64,
    /// Always `STANDARD`.
    pub log_group_class: LogGroupClass,
    /// Without `:*` at its end.
    pub log_group_arn: String,
}

/// Request of `DescribeLogStreams`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DescribeLogStreamsInput {
    /// Of which group.
    #[serde(flatten)]
    pub group: GroupRef,
    /// Beginning of the name.
    pub log_stream_name_prefix: Option<String>,
    /// Default: by name.
    pub order_by: Option<OrderBy>,
    /// Default: no.
    pub descending: Option<bool>,
    /// Goes on from an earlier answer.
    pub next_token: Option<String>,
    /// 1..=50, default 50.
    pub limit: Option<u32>,
}

impl LogsInput for DescribeLogStreamsInput {
    const OPERATION: LogsOperation = LogsOperation::DescribeLogStreams;

    fn group(&self) -> Option<&GroupRef> {
        Some(&self.group)
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.order_by == Some(OrderBy::LastEventTime) && self.log_stream_name_prefix.is_some() {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        self.group.check()
    }
}

/// Answer of `DescribeLogStreams`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogStreamsOutput {
    /// In the order that was asked for.
    pub log_streams: Vec<LogStream>,
    /// There are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A stream. Its times are absent while it has no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStream {
    /// Its name.
    pub log_stream_name: String,
    /// When it came into being.
    pub creation_time: i64,
    /// Of the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_timestamp: Option<i64>,
    /// Of the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_timestamp: Option<i64>,
    /// When the last event was stored; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ingestion_time: Option<i64>,
    /// Its ARN.
    pub arn: String,
    /// 0, as the service says since 2019.
    pub stored_bytes: u64,
}

/// Request of `GetLogEvents`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GetLogEventsInput {
    /// Of which group.
    #[serde(flatten)]
    pub group: GroupRef,
    /// Of which stream.
    pub log_stream_name: String,
    /// The first time that is in.
    pub start_time: Option<i64>,
    /// The first time that is not.
    pub end_time: Option<i64>,
    /// Goes on from an earlier answer, in the token's direction.
    pub next_token: Option<String>,
    /// 1..=10000; default: as many as fit.
    pub limit: Option<u32>,
    /// Without a token: begin with the oldest? Default: no.
    pub start_from_head: Option<bool>,
}

impl LogsInput for GetLogEventsInput {
    const OPERATION: LogsOperation = LogsOperation::GetLogEvents;

    fn group(&self) -> Option<&GroupRef> {
        Some(&self.group)
    }

    fn stream(&self) -> &str {
        &self.log_stream_name
    }

    fn check(&self) -> Result<(), ApiError> {
        self.group.check()
    }
}

/// Answer of `GetLogEvents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetLogEventsOutput {
    /// Oldest first.
    pub events: Vec<OutputLogEvent>,
    /// Behind the last of them.
    pub next_forward_token: String,
    /// Before the first of them.
    pub next_backward_token: String,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLogEvent {
    /// When it happened.
    pub timestamp: i64,
    /// At least one character.
    pub message: String,
    /// When it was stored; the same.
    pub ingestion_time: i64,
}

/// Request of `FilterLogEvents`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterLogEventsInput {
    /// Of which group.
    #[serde(flatten)]
    pub group: GroupRef,
    /// Only these streams.
    pub log_stream_names: Option<Vec<String>>,
    /// Only streams whose names begin so.
    pub log_stream_name_prefix: Option<String>,
    /// The first time that is in.
    pub start_time: Option<i64>,
    /// The last time that is in.
    pub end_time: Option<i64>,
    /// What an event must hold; default: anything.
    pub filter_pattern: Option<String>,
    /// Goes on from an earlier answer, in the token's direction.
    pub next_token: Option<String>,
    /// 1..=10000, default 10000.
    pub limit: Option<u32>,
    /// Without a token: begin with the oldest? Default: yes.
    pub start_from_head: Option<bool>,
}

/// 2024-01-01, milliseconds since the epoch: newest-first searches may not reach further back.
const NEWEST_FIRST_SINCE: i64 = 1_704_067_200_000;

impl FilterLogEventsInput {
    /// What an event must hold.
    ///
    /// # Errors
    /// `InvalidParameterException`; [`LogsInput::check`] has found it.
    pub fn pattern(&self) -> Result<FilterPattern, ApiError> {
        FilterPattern::parse(self.filter_pattern.as_deref().unwrap_or_default())
    }
}

impl LogsInput for FilterLogEventsInput {
    const OPERATION: LogsOperation = LogsOperation::FilterLogEvents;

    fn group(&self) -> Option<&GroupRef> {
        Some(&self.group)
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.log_stream_names.is_some() && self.log_stream_name_prefix.is_some() {
            return Err(invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters"));
        }
        let late = self.start_time.is_some_and(|start| start >= NEWEST_FIRST_SINCE);
        if self.start_from_head == Some(false) && self.next_token.is_none() && !late {
            return Err(invalid(
                "startFromHead can be false only with a startTime on or after Jan 1, 2024 00:00:00 UTC",
            ));
        }
        self.pattern()?;
        self.group.check()
    }
}

/// Answer of `FilterLogEvents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterLogEventsOutput {
    /// Of all streams, by time.
    pub events: Vec<FilteredLogEvent>,
    /// Empty, as the service says since 2020.
    pub searched_log_streams: [(); 0],
    /// There may be more, even if this page is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// An event of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilteredLogEvent {
    /// Its stream.
    pub log_stream_name: String,
    /// When it happened.
    pub timestamp: i64,
    /// At least one character.
    pub message: String,
    /// When it was stored; the same.
    pub ingestion_time: i64,
    /// No other event has it.
    pub event_id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<I: LogsInput>(body: Value) -> Result<I, ApiError> {
        decode(body.to_string().as_bytes())
    }

    fn refused<I: LogsInput + std::fmt::Debug>(body: Value) -> String {
        let error = read::<I>(body).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidParameter, 400));
        error.message().unwrap().to_owned()
    }

    #[test]
    fn bounds_hold_just_inside_and_break_just_outside() {
        let get = |name: &str, value: Value| {
            let mut body = json!({"logGroupName": "g", "logStreamName": "s"});
            body[name] = value;
            body
        };
        for (name, value) in [
            ("logGroupName", json!("g".repeat(512))),
            ("logStreamName", json!("2026/11/23[1.0]x $")),
            ("startTime", json!(0)),
            ("endTime", json!(i64::MAX)),
            ("limit", json!(10_000)),
            ("limit", json!(1)),
            ("limit", Value::Null),
            ("unknown", json!({})),
        ] {
            read::<GetLogEventsInput>(get(name, value.clone())).unwrap_or_else(|e| panic!("{name} {value}: {e}"));
        }
        for (name, value, words) in [
            ("logGroupName", json!("g".repeat(513)), "length less than or equal to 512"),
            ("logGroupName", json!("a:b"), r"pattern: [\.\-_/#A-Za-z0-9]+"),
            ("logStreamName", json!("a:b"), "pattern: [^:*]*"),
            ("logStreamName", json!(""), "length greater than or equal to 1"),
            ("logStreamName", Value::Null, "Member must not be null"),
            ("startTime", json!(-1), "value greater than or equal to 0"),
            ("limit", json!(0), "value greater than or equal to 1"),
            ("limit", json!(10_001), "value less than or equal to 10000"),
            ("nextToken", json!(""), "length greater than or equal to 1"),
        ] {
            let message = refused::<GetLogEventsInput>(get(name, value.clone()));
            assert!(message.starts_with("1 validation error detected: ") && message.contains(words), "{message}");
        }
        for (name, value) in [("limit", json!("1")), ("startTime", json!(1.5)), ("limit", json!(1_i64 << 31))] {
            let error = read::<GetLogEventsInput>(get(name, value)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Serialization);
        }
        assert!(read::<DescribeLogGroupsInput>(json!({"limit": 50})).is_ok());
        assert!(refused::<DescribeLogGroupsInput>(json!({"limit": 51})).contains("equal to 50"));
        assert_eq!(decode::<DescribeLogGroupsInput>(b"[]").unwrap_err().kind(), ErrorKind::Serialization);
        assert!(decode::<DescribeLogGroupsInput>(b"").is_ok());
    }

    #[test]
    fn rules_between_members() {
        assert!(refused::<GetLogEventsInput>(json!({"logStreamName": "s"})).contains("logGroupIdentifier"));
        let both = json!({"logGroupName": "g", "logGroupIdentifier": "g"});
        assert!(refused::<DescribeLogStreamsInput>(both).contains("mutually exclusive"));
        let order = json!({"logGroupName": "g", "orderBy": "LastEventTime", "logStreamNamePrefix": "x"});
        assert!(refused::<DescribeLogStreamsInput>(order).contains("LastEventTime"));
        let streams = json!({"logGroupName": "g", "logStreamNames": ["x"], "logStreamNamePrefix": "x"});
        assert!(refused::<FilterLogEventsInput>(streams).contains("mutually exclusive"));
        let newest = |start: i64| json!({"logGroupName": "g", "startFromHead": false, "startTime": start});
        assert!(refused::<FilterLogEventsInput>(newest(1_704_067_199_999)).contains("Jan 1, 2024"));
        assert!(read::<FilterLogEventsInput>(newest(1_704_067_200_000)).is_ok());
        let groups = json!({"logGroupNamePrefix": "a", "logGroupNamePattern": "b"});
        assert!(refused::<DescribeLogGroupsInput>(groups).contains("mutually exclusive"));
        let groups = json!({"logGroupNamePrefix": "a", "logGroupIdentifiers": ["b"]});
        assert!(refused::<DescribeLogGroupsInput>(groups).contains("logGroupIdentifiers"));
    }

    #[test]
    fn groups_by_name_and_by_arn() {
        let (region, account) = ("eu-west-1".parse().unwrap(), "111122223333".parse().unwrap());
        let name = |identifier: &str| {
            let group = GroupRef { log_group_name: None, log_group_identifier: Some(identifier.to_owned()) };
            group.name(&region, &account).map(str::to_owned).map_err(|error| error.kind())
        };
        assert_eq!(name("/aws/x"), Ok("/aws/x".to_owned()));
        assert_eq!(name(&group_arn(&region, &account, "/aws/x")), Ok("/aws/x".to_owned()));
        for absent in [
            "arn:aws:logs:us-east-1:111122223333:log-group:/aws/x",
            "arn:aws:logs:eu-west-1:444455556666:log-group:/aws/x",
            "arn:aws-cn:logs:eu-west-1:111122223333:log-group:/aws/x",
        ] {
            assert_eq!(name(absent), Err(ErrorKind::ResourceNotFound), "{absent}");
        }
        for wrong in [
            "arn:",
            "arn:aws:lambda:eu-west-1:111122223333:log-group:x",
            "arn:aws:logs:eu-west-1:111122223333:log-group:x:y",
        ] {
            assert_eq!(name(wrong), Err(ErrorKind::InvalidParameter), "{wrong}");
        }
    }
}
