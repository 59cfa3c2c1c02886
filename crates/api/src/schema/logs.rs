//! The members of the requests of CloudWatch Logs that are served here. The order of members is the order of violations in a
//! message.

use super::{Member, Pattern, Shape, Text, bounds::LOG_NAME_CHARS, patterns};

const GROUP_PATTERN: Pattern =
    Pattern { text: r"[\.\-_/#A-Za-z0-9]+", matches: |text| !text.is_empty() && patterns::is_group_text(text) };
const GROUP_PART: Pattern = Pattern { text: r"[\.\-_/#A-Za-z0-9]*", matches: patterns::is_group_text };
const IDENTIFIER_PATTERN: Pattern = Pattern {
    text: r"[\w#+=/:,.@-]*",
    matches: |text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_#+=/:,.@-".contains(&byte)),
};
const ACCOUNT_PATTERN: Pattern =
    Pattern { text: r"^\d{12}$", matches: |text| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) };

const GROUP: Shape = Shape::Text(Text::of(1, LOG_NAME_CHARS).pattern(GROUP_PATTERN));
const PART: Shape = Shape::Text(Text::of(0, LOG_NAME_CHARS).pattern(GROUP_PART));
const IDENTIFIER: Shape = Shape::Text(Text::of(1, 2048).pattern(IDENTIFIER_PATTERN));
const STREAM: Shape = Shape::Text(Text::of(1, LOG_NAME_CHARS).pattern(patterns::LOG_STREAM));
const ACCOUNT: Shape = Shape::Text(Text::of(12, 12).pattern(ACCOUNT_PATTERN));
const TOKEN: Shape = Shape::Text(Text::of(1, usize::MAX));
const FILTER: Shape = Shape::Text(Text::of(0, 1024));
const CLASS: Shape = Shape::Enum(crate::logs::LogGroupClass::NAMES);
const ORDER: Shape = Shape::Enum(crate::logs::OrderBy::NAMES);
const BOOLEAN: Shape = Shape::Boolean;
const TIME: Shape = Shape::Long { min: 0, max: i64::MAX };
const DESCRIBED: Shape = Shape::Integer { min: 1, max: 50 };
const EVENTS: Shape = Shape::Integer { min: 1, max: 10_000 };

pub(crate) const DESCRIBE_LOG_GROUPS: &[Member] = &[
    Member::body("accountIdentifiers", &Shape::List { min: 0, max: 20, item: &ACCOUNT }),
    Member::body("logGroupNamePrefix", &GROUP),
    Member::body("logGroupNamePattern", &PART),
    Member::body("nextToken", &TOKEN),
    Member::body("limit", &DESCRIBED),
    Member::body("includeLinkedAccounts", &BOOLEAN),
    Member::body("logGroupClass", &CLASS),
    Member::body("logGroupIdentifiers", &Shape::List { min: 1, max: 50, item: &IDENTIFIER }),
];

pub(crate) const DESCRIBE_LOG_STREAMS: &[Member] = &[
    Member::body("logGroupName", &GROUP),
    Member::body("logGroupIdentifier", &IDENTIFIER),
    Member::body("logStreamNamePrefix", &STREAM),
    Member::body("orderBy", &ORDER),
    Member::body("descending", &BOOLEAN),
    Member::body("nextToken", &TOKEN),
    Member::body("limit", &DESCRIBED),
];

pub(crate) const GET_LOG_EVENTS: &[Member] = &[
    Member::body("logGroupName", &GROUP),
    Member::body("logGroupIdentifier", &IDENTIFIER),
    Member::body("logStreamName", &STREAM).required(),
    Member::body("startTime", &TIME),
    Member::body("endTime", &TIME),
    Member::body("nextToken", &TOKEN),
    Member::body("limit", &EVENTS),
    Member::body("startFromHead", &BOOLEAN),
    Member::body("unmask", &BOOLEAN),
];

pub(crate) const FILTER_LOG_EVENTS: &[Member] = &[
    Member::body("logGroupName", &GROUP),
    Member::body("logGroupIdentifier", &IDENTIFIER),
    Member::body("logStreamNames", &Shape::List { min: 1, max: 100, item: &STREAM }),
    Member::body("logStreamNamePrefix", &STREAM),
    Member::body("startTime", &TIME),
    Member::body("endTime", &TIME),
    Member::body("filterPattern", &FILTER),
    Member::body("nextToken", &TOKEN),
    Member::body("limit", &EVENTS),
    Member::body("startFromHead", &BOOLEAN),
    Member::body("interleaved", &BOOLEAN),
    Member::body("unmask", &BOOLEAN),
];
