//! Tags (spec 3.2).

use api::ErrorKind::{InvalidParameterValue, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::*;

fn of(resource: &str) -> Value {
    json!({"Resource": resource})
}

/// What cannot be tagged.
fn refused(operation: Operation, more: &Value) -> Vec<Row> {
    let pattern = api::TaggableArn::PATTERN;
    vec![
        row("an image that is not there", with(of("$absent_image"), more.clone()))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $absent_image"),
        strange(operation, with(of("$strange_image"), more.clone())),
        row("a connector that is not there", with(of("$absent_connector"), more.clone()))
            .refused(ResourceNotFound, "The resource does not exist: $absent_connector"),
        row("no ARN", with(of("demo"), more.clone())).refused(
            Validation,
            &format!(
                "1 validation error detected: Value 'demo' at 'Resource' failed to satisfy constraint: \
                 Member must satisfy regular expression pattern: {pattern}"
            ),
        ),
    ]
}

pub fn tag() -> Vec<Row> {
    let tags = |tags: Value| with(of("$tagged"), json!({"Tags": tags}));
    let many = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".into())).collect::<serde_json::Map<_, _>>();
    let mut rows = vec![
        row(LEAST, tags(json!({}))).is(Value::Null).after(
            ListTags,
            of("$tagged"),
            json!({"Tags": {"a": "1", "b": "2"}}),
        ),
        row(FULL, tags(json!({"b": "", "c d:/=+-@_.é": "3"}))).is(Value::Null).after(
            ListTags,
            of("$tagged"),
            json!({"Tags": {"a": "1", "b": "", "c d:/=+-@_.é": "3"}}),
        ),
        row("as many as may be", tags(many(48).into())).is(Value::Null),
        row("too many with those that are there", tags(many(49).into()))
            .refused(InvalidParameterValue, "A resource can have 50 tags at most"),
        row("too many at once", tags(many(51).into()))
            .refused(InvalidParameterValue, "A resource can have 50 tags at most"),
        row("a tag that is AWS's", tags(json!({"aws:x": "1"})))
            .refused(InvalidParameterValue, "Tag key 'aws:x' is reserved: it must not start with aws:"),
    ];
    rows.extend(refused(TagResource, &json!({"Tags": {"a": "b"}})));
    rows
}

pub fn untag() -> Vec<Row> {
    let keys = |keys: Value| with(of("$tagged"), json!({"tagKeys": keys}));
    let mut rows = vec![
        row(LEAST, keys(json!(["a"]))).is(Value::Null).after(ListTags, of("$tagged"), json!({"Tags": {"b": "2"}})),
        row(FULL, keys(json!(["a", "b", "absent"]))).is(Value::Null).after(
            ListTags,
            of("$tagged"),
            json!({"Tags": {}}),
        ),
        row("a tag that is AWS's", keys(json!(["aws:x"])))
            .refused(InvalidParameterValue, "Tag key 'aws:x' is reserved: it must not start with aws:"),
    ];
    rows.extend(refused(UntagResource, &json!({"tagKeys": ["a"]})));
    rows
}

pub fn list() -> Vec<Row> {
    let mut rows = vec![
        row(LEAST, of("$image")).is(json!({"Tags": {}})),
        row(FULL, of("$tagged")).is(json!({"Tags": {"a": "1", "b": "2"}})),
    ];
    rows.extend(refused(ListTags, &json!({})));
    rows
}
