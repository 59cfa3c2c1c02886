//! Every bound of the member tables just inside and just outside, every required member left out, every kind mistaken: made
//! from [`api::schema`] and an operation's full row, so that a new member is held to its bounds without a new line here.

use std::fmt;

use api::{
    Operation,
    schema::{Location, Member, Shape, Text},
};
use serde_json::{Map, Value, json};

use crate::{
    answers::fault,
    client::Answer,
    rows::{FULL, Row},
    world::{World, serving},
};

/// One value changed.
struct Probe {
    what: String,
    value: Value,
    expected: Expected,
}

enum Expected {
    /// No constraint at that path is broken; what else may be wrong is another matter.
    Inside(String),
    /// That constraint at that path is broken.
    Broken(String, String),
    /// The request cannot be read, with that body.
    Unreadable(Value),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Inside(path) => write!(f, "no constraint of {path} is broken"),
            Expected::Broken(path, constraint) => write!(f, "'{path}' failed to satisfy constraint: {constraint}"),
            Expected::Unreadable(body) => write!(f, "400 {body}"),
        }
    }
}

/// Probes that do not hold, each with its reason.
const KNOWN: &[(Operation, &str)] = &[
    // The guide has a bound that the model lacks (spec 3.3); the rows of RunMicrovm hold it.
    (Operation::RunMicrovm, "idlePolicy.maxIdleDurationSeconds at its most"),
];

/// Sends every probe of an operation to a server.
pub async fn check(operation: Operation, rows: Vec<Row>) {
    let full = rows.into_iter().find(|row| row.case == FULL).expect("there is a full row").members;
    let serving = serving().await;
    let mut world = World::new(&serving);
    let full = world.fill(&full).await;
    let mut wrong = Vec::new();
    for probe in request_probes(operation.route().members, &full) {
        if KNOWN.contains(&(operation, probe.what.as_str())) {
            continue;
        }
        let answer = world.call(operation, &probe.value).await;
        let words = match fault(Some(operation), &answer) {
            Some(fault) => fault,
            None if holds(&probe.expected, &answer) => continue,
            None => format!("expected: {}", probe.expected),
        };
        wrong.push(format!("{operation}, {}: {words}: {} {}", probe.what, answer.status, answer.text()));
    }
    drop(world);
    serving.stop().await;
    assert!(wrong.is_empty(), "{} probes failed:\n{}", wrong.len(), wrong.join("\n"));
}

fn holds(expected: &Expected, answer: &Answer) -> bool {
    let body = answer.json().unwrap_or_default();
    let message = body["message"].as_str().unwrap_or_default();
    let broken = |path: &str| format!("at '{path}' failed to satisfy constraint: ");
    match expected {
        Expected::Inside(path) => !message.contains(&broken(path)) && body != json!({"message": null}),
        Expected::Broken(path, constraint) => {
            answer.status == 400 && message.contains(&format!("{}{constraint}", broken(path)))
        }
        Expected::Unreadable(body_of_it) => answer.status == 400 && body == *body_of_it,
    }
}

/// The probes of a whole request.
fn request_probes(members: &[Member], full: &Value) -> Vec<Probe> {
    let mut probes = member_probes(members, full, "");
    probes.push(Probe {
        what: "an unknown member".to_owned(),
        value: with_member(full, "surprise", json!({"a": [1, null]})),
        expected: Expected::Inside(String::new()),
    });
    // Path and query know only texts, and a path without a label is another path.
    probes.retain(|probe| {
        let changed = |member: &&Member| probe.value.get(member.name) != full.get(member.name);
        members.iter().filter(|member| member.location != Location::Body).find(changed).is_none_or(|member| {
            match (member.location, probe.value.get(member.name)) {
                (Location::Path, Some(Value::String(text))) => !text.is_empty(),
                (Location::Path, _) => false,
                (_, Some(Value::String(_) | Value::Number(_)) | None) => {
                    !matches!(probe.expected, Expected::Unreadable(_))
                }
                (_, Some(Value::Array(items))) => !items.is_empty() && items.iter().all(Value::is_string),
                _ => false,
            }
        })
    });
    probes
}

fn with_member(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[name] = value;
    object
}

fn member_probes(members: &[Member], object: &Value, at: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    for member in members {
        let path = if at.is_empty() { member.name.to_owned() } else { format!("{at}.{}", member.name) };
        if member.required {
            let mut absent = object.clone();
            absent.as_object_mut().unwrap().remove(member.name);
            for (what, value) in [("absent", absent), ("null", with_member(object, member.name, Value::Null))] {
                let expected = Expected::Broken(path.clone(), "Member must not be null".to_owned());
                probes.push(Probe { what: format!("{path} {what}"), value, expected });
            }
        }
        let Some(value) = object.get(member.name) else { continue };
        probes.extend(
            value_probes(member.shape, value, &path)
                .into_iter()
                .map(|probe| Probe { value: with_member(object, member.name, probe.value), ..probe }),
        );
    }
    probes
}

/// Other values in the place of one.
fn value_probes(shape: &Shape, value: &Value, path: &str) -> Vec<Probe> {
    let mut probes = Probes { path, found: Vec::new() };
    match shape {
        Shape::Text(text) => probes.texts(text, value.as_str().unwrap()),
        Shape::Integer { min, max } => probes.integers(i64::from(*min), i64::from(*max)),
        Shape::Long { .. } => unreachable!("only logs have these"),
        Shape::Boolean => {
            probes.inside("true", json!(true));
            probes.inside("false", json!(false));
            probes.unreadable("a text", json!("true"));
        }
        Shape::Enum(names) => {
            for name in *names {
                probes.inside(name, json!(name));
            }
            let constraint = format!("Member must satisfy enum value set: [{}]", names.join(", "));
            for name in ["SURPRISE", "", &names[0].to_lowercase()] {
                probes.broken("another name", json!(name), constraint.clone());
            }
            probes.unreadable("a number", json!(1));
        }
        Shape::Structure(members) => {
            probes.unreadable("a list", json!([]));
            probes.found.extend(member_probes(members, value, path));
        }
        Shape::Union(members) => probes.unions(members, value),
        Shape::List { min, max, item } => probes.lists(*min, *max, item, value.as_array().unwrap()),
        Shape::Map { max, key, value: each } => probes.maps(*max, key, each, value.as_object().unwrap()),
    }
    probes.found
}

struct Probes<'a> {
    path: &'a str,
    found: Vec<Probe>,
}

impl Probes<'_> {
    fn inside(&mut self, what: &str, value: Value) {
        let expected = Expected::Inside(self.path.to_owned());
        self.found.push(Probe { what: format!("{} {what}", self.path), value, expected });
    }

    fn broken(&mut self, what: &str, value: Value, constraint: String) {
        let expected = Expected::Broken(self.path.to_owned(), constraint);
        self.found.push(Probe { what: format!("{} {what}", self.path), value, expected });
    }

    fn unreadable(&mut self, what: &str, value: Value) {
        let expected = Expected::Unreadable(json!({"message": null}));
        self.found.push(Probe { what: format!("{} {what}", self.path), value, expected });
    }

    fn texts(&mut self, text: &Text, value: &str) {
        let sized = |count: usize| sized(text, value, count);
        for count in [text.min, text.max] {
            if let Some(fits) = sized(count) {
                self.inside(&format!("of {count} characters"), json!(fits));
            }
        }
        if let Some(count) = text.min.checked_sub(1) {
            self.broken(&format!("of {count} characters"), json!("a".repeat(count)), least(text.min));
        }
        if text.max < usize::MAX {
            let longer = "é".repeat(text.max + 1);
            self.broken(&format!("of {} characters", text.max + 1), json!(longer), most(text.max));
        }
        if let Some(pattern) = text.pattern {
            let wrong = [" ", "\u{b}", "a b", "!", "a:*", "\u{1}"].into_iter().find(|wrong| !(pattern.matches)(wrong));
            let wrong = wrong.expect("no pattern takes all of them");
            self.broken("against its pattern", json!(wrong), matching(pattern.text));
        }
        self.unreadable("a number", json!(1));
    }

    fn integers(&mut self, min: i64, max: i64) {
        self.inside("at its least", json!(min));
        self.inside("at its most", json!(max));
        if min > i64::from(i32::MIN) {
            let constraint = format!("Member must have value greater than or equal to {min}");
            self.broken("below its least", json!(min - 1), constraint);
        }
        if max < i64::from(i32::MAX) {
            let constraint = format!("Member must have value less than or equal to {max}");
            self.broken("above its most", json!(max + 1), constraint);
        }
        self.unreadable("beyond 32 bits", json!(1_i64 << 31));
        self.unreadable("a fraction", json!(1.5));
        self.unreadable("a text", json!(min.to_string()));
    }

    fn unions(&mut self, members: &[Member], value: &Value) {
        let names = members.iter().map(|member| member.name).collect::<Vec<_>>();
        let constraint = format!("Member must have exactly one of [{}] set", names.join(", "));
        self.broken("without a member", json!({}), constraint.clone());
        self.broken("with an unknown member", json!({"surprise": {}}), constraint.clone());
        if let [one, two, ..] = names[..] {
            self.broken("with two members", json!({one: {}, two: {}}), constraint);
        }
        for flag in members.iter().filter(|member| matches!(member.shape, Shape::Structure([]))) {
            self.inside(flag.name, json!({flag.name: {}}));
            let expected = Expected::Unreadable(json!({"Message": "Expected null"}));
            let what = format!("{}.{} true", self.path, flag.name);
            self.found.push(Probe { what, value: json!({flag.name: true}), expected });
        }
        self.unreadable("a text", json!("x"));
        // Of a union no member is required by itself.
        let given = members.iter().filter(|member| value.get(member.name).is_some());
        for member in given {
            let path = format!("{}.{}", self.path, member.name);
            let inner = value_probes(member.shape, &value[member.name], &path).into_iter();
            // What is no flag object is refused in another way.
            let inner = inner.filter(|_| !matches!(member.shape, Shape::Structure([])));
            self.found.extend(inner.map(|probe| Probe { value: json!({member.name: probe.value}), ..probe }));
        }
    }

    fn lists(&mut self, min: usize, max: usize, item: &Shape, items: &[Value]) {
        let first = items.first().expect("the full row has an item in every list");
        if let Some(count) = min.checked_sub(1) {
            self.broken("too short", json!(vec![first; count]), least(min));
        }
        self.inside("at its shortest", json!(vec![first; min]));
        if max < usize::MAX {
            self.inside("at its longest", json!(vec![first; max]));
            self.broken("too long", json!(vec![first; max + 1]), most(max));
        }
        self.unreadable("a structure", json!({}));
        for (index, value) in items.iter().enumerate() {
            let path = format!("{}.{}.member", self.path, index + 1);
            let mut probes = value_probes(item, value, &path);
            let expected = Expected::Broken(path.clone(), "Member must not be null".to_owned());
            probes.push(Probe { what: format!("{path} null"), value: Value::Null, expected });
            self.found.extend(probes.into_iter().map(|probe| {
                let mut items = items.to_vec();
                items[index] = probe.value;
                Probe { value: Value::Array(items), ..probe }
            }));
        }
    }

    fn maps(&mut self, max: usize, key: &Text, each: &Text, entries: &Map<String, Value>) {
        let one = |name: String, value: Value| Value::Object(Map::from_iter([(name, value)]));
        self.inside("empty", json!({}));
        if max < usize::MAX {
            let many = |count: usize| Value::Object((0..count).map(|n| (format!("k{n}"), json!("v"))).collect());
            self.inside("at its fullest", many(max));
            self.broken("too full", many(max + 1), most(max));
        }
        self.inside("with the longest key", one("k".repeat(key.max), json!("v")));
        for (name, constraint) in [(String::new(), least(key.min)), ("k".repeat(key.max + 1), most(key.max))] {
            let value = one(name, json!("v"));
            self.found.push(self.of_map(
                "key",
                value,
                &format!("Map keys must satisfy constraint: [{constraint}"),
                None,
            ));
        }
        let name = entries.keys().next().expect("the full row has an entry in every map").clone();
        self.inside("with the longest value", one(name.clone(), json!("v".repeat(each.max))));
        let value = one(name.clone(), json!("v".repeat(each.max + 1)));
        let constraint = format!("Map value must satisfy constraint: [{}", most(each.max));
        self.found.push(self.of_map("value", value, &constraint, Some(&name)));
        self.found.push(self.of_map("null", one(name.clone(), Value::Null), "Member must not be null", Some(&name)));
        self.unreadable("a number in it", one(name, json!(1)));
        self.unreadable("a list", json!([]));
    }

    fn of_map(&self, what: &str, value: Value, constraint: &str, entry: Option<&str>) -> Probe {
        let path = entry.map_or_else(|| self.path.to_owned(), |name| format!("{}.{name}.member", self.path));
        Probe { what: format!("{path} {what}"), value, expected: Expected::Broken(path, constraint.to_owned()) }
    }
}

fn least(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn most(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn matching(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

/// A text of that many characters that the pattern takes, if one is found: letters, or the value made longer.
fn sized(text: &Text, value: &str, count: usize) -> Option<String> {
    if count == usize::MAX {
        return None;
    }
    let longer = value.to_owned() + &"a".repeat(count.saturating_sub(value.chars().count()));
    let mut candidates = ["a".repeat(count), longer].into_iter();
    candidates.find(|candidate| {
        candidate.chars().count() == count && text.pattern.is_none_or(|pattern| (pattern.matches)(candidate))
    })
}
