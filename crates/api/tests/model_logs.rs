//! Our table of CloudWatch Logs' requests, and the members of our answers, against the service model that `botocore` ships;
//! how it is found: see `model.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, process::Command};

use api::{
    ErrorKind,
    logs::{self, LogsOperation, TARGET_PREFIX},
    schema::{Member, Shape},
};
use serde_json::{Value, json};

const READ: &str = "import botocore.session as s, json; \
    print(json.dumps(s.get_session().get_service_model('logs')._service_description))";

struct Comparison {
    model: Value,
    differences: Vec<String>,
}

impl Comparison {
    fn new() -> Self {
        let python =
            std::env::var("HEARTH_BOTOCORE_PYTHON").expect("HEARTH_BOTOCORE_PYTHON names a Python with botocore");
        let output = Command::new(python).args(["-c", READ]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Comparison { model: serde_json::from_slice(&output.stdout).unwrap(), differences: Vec::new() }
    }

    fn shape(&self, name: &Value) -> Value {
        self.model["shapes"][name.as_str().unwrap()].clone()
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, at: &str, what: &str, ours: T, theirs: T) {
        if ours != theirs {
            self.differences.push(format!("{at}: {what}: ours {ours:?}, theirs {theirs:?}"));
        }
    }

    fn members(&mut self, at: &str, ours: &[Member], theirs: &Value) {
        let modelled = theirs["members"].as_object().unwrap();
        let names: BTreeSet<_> = ours.iter().map(|member| member.name).collect();
        self.same(at, "members", names, modelled.keys().map(String::as_str).collect());
        let required: BTreeSet<_> = ours.iter().filter(|member| member.required).map(|member| member.name).collect();
        self.same(at, "required", required, strings(&theirs["required"]));
        for member in ours {
            if let Some(modelled) = modelled.get(member.name) {
                let theirs = self.shape(&modelled["shape"]);
                self.value(&format!("{at}.{}", member.name), member.shape, &theirs);
            }
        }
    }

    fn value(&mut self, at: &str, ours: &Shape, theirs: &Value) {
        let kind = theirs["type"].as_str();
        let bound = |name: &str| theirs[name].as_i64();
        match ours {
            Shape::Text(text) => {
                self.same(at, "type", Some("string"), kind);
                self.same(at, "min", text.min as i64, bound("min").unwrap_or(0));
                self.same(at, "max", i64::try_from(text.max).ok().filter(|max| *max < i64::MAX), bound("max"));
                self.same(at, "pattern", text.pattern.map(|pattern| pattern.text), theirs["pattern"].as_str());
            }
            Shape::Enum(names) => self.same(at, "enum", names.iter().copied().collect(), strings(&theirs["enum"])),
            Shape::Integer { min, max } => {
                self.same(at, "type", Some("integer"), kind);
                self.same(at, "min", Some(i64::from(*min)), bound("min"));
                self.same(at, "max", Some(i64::from(*max)), bound("max"));
            }
            Shape::Long { min, max } => {
                self.same(at, "type", Some("long"), kind);
                self.same(at, "min", *min, bound("min").unwrap_or(i64::MIN));
                self.same(at, "max", *max, bound("max").unwrap_or(i64::MAX));
            }
            Shape::Boolean => self.same(at, "type", Some("boolean"), kind),
            Shape::List { min, max, item } => {
                self.same(at, "min", *min as i64, bound("min").unwrap_or(0));
                self.same(at, "max", Some(*max as i64), bound("max"));
                let theirs = self.shape(&theirs["member"]["shape"]);
                self.value(&format!("{at}[]"), item, &theirs);
            }
            other => self.differences.push(format!("{at}: this service has no {other:?}")),
        }
    }

    /// What we answer must be modelled; we leave out what we have nothing to say about.
    fn answer(&mut self, at: &str, ours: &Value, theirs: &Value) {
        match (ours, theirs["type"].as_str()) {
            (Value::Object(members), Some("structure")) => {
                for (name, value) in members {
                    match theirs["members"].get(name) {
                        Some(modelled) => {
                            let theirs = self.shape(&modelled["shape"]);
                            self.answer(&format!("{at}.{name}"), value, &theirs);
                        }
                        None => self.differences.push(format!("{at}.{name} is not modelled")),
                    }
                }
            }
            (Value::Array(items), Some("list")) => {
                let theirs = self.shape(&theirs["member"]["shape"]);
                items.iter().for_each(|item| self.answer(&format!("{at}[]"), item, &theirs));
            }
            (Value::String(_), Some("string")) | (Value::Number(_), Some("integer" | "long")) => {}
            (ours, kind) => self.differences.push(format!("{at}: ours {ours}, theirs {kind:?}")),
        }
    }
}

fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().map(|each| each.as_str().unwrap()).collect()
}

/// An answer with every member that we ever send.
fn answer(operation: LogsOperation) -> Value {
    let (text, next_token) = (String::new, Some(String::new()));
    let value = match operation {
        LogsOperation::DescribeLogGroups => {
            let group = logs::LogGroup {
                log_group_name: text(),
                creation_time: 0,
                metric_filter_count: 0,
                arn: text(),
                stored_bytes: 0,
                log_group_class: logs::LogGroupClass::Standard,
                log_group_arn: text(),
            };
            serde_json::to_value(logs::DescribeLogGroupsOutput { log_groups: vec![group], next_token })
        }
        LogsOperation::DescribeLogStreams => {
            let stream = logs::LogStream {
                log_stream_name: text(),
                creation_time: 0,
                first_event_timestamp: Some(0),
                last_event_timestamp: Some(0),
                last_ingestion_time: Some(0),
                arn: text(),
                stored_bytes: 0,
            };
            serde_json::to_value(logs::DescribeLogStreamsOutput { log_streams: vec![stream], next_token })
        }
        LogsOperation::GetLogEvents => serde_json::to_value(logs::GetLogEventsOutput {
            events: vec![logs::OutputLogEvent { timestamp: 0, message: text(), ingestion_time: 0 }],
            next_forward_token: text(),
            next_backward_token: text(),
        }),
        LogsOperation::FilterLogEvents => {
            let event = logs::FilteredLogEvent {
                log_stream_name: text(),
                timestamp: 0,
                message: text(),
                ingestion_time: 0,
                event_id: text(),
            };
            serde_json::to_value(logs::FilterLogEventsOutput {
                events: vec![event],
                searched_log_streams: [],
                next_token,
            })
        }
    };
    value.unwrap()
}

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn the_table_of_logs_says_what_the_model_says() {
    let mut comparison = Comparison::new();
    let metadata = comparison.model["metadata"].clone();
    comparison.same("service", "target", json!(TARGET_PREFIX.trim_end_matches('.')), metadata["targetPrefix"].clone());
    comparison.same(
        "service",
        "protocol",
        json!(["json", "1.1"]),
        json!([metadata["protocol"], metadata["jsonVersion"]]),
    );
    for operation in LogsOperation::ALL {
        let at = operation.as_str();
        let theirs = comparison.model["operations"][at].clone();
        let (input, output) =
            (comparison.shape(&theirs["input"]["shape"]), comparison.shape(&theirs["output"]["shape"]));
        comparison.members(at, operation.members(), &input);
        comparison.answer(&format!("{at} answer"), &answer(*operation), &output);
        for error in theirs["errors"].as_array().unwrap() {
            let name = error["shape"].as_str().unwrap();
            let fault = comparison.model["shapes"][name]["fault"].as_bool().unwrap_or(false);
            let ours = name.parse::<ErrorKind>().ok().map(|kind| kind.status() >= 500);
            comparison.same(&format!("{at} {name}"), "fault", ours, Some(fault));
        }
    }
    assert!(comparison.differences.is_empty(), "{}", comparison.differences.join("\n"));
}
