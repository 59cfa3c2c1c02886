//! Documents that a shape of the model allows: every member present, every name of an enumeration, every member of a union,
//! numbers and texts at both bounds.

use serde_json::{Map, Value, json};

use crate::model::Model;

const CONNECTOR_ARN: &str =
    "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555";
const CONNECTOR_VERSION_ARN: &str =
    "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555:12";

/// Texts that mean something to us, by the path's end; the longest that fits counts. The model knows them as plain strings.
const MEANINGS: &[(&str, &[&str])] = &[
    ("imageArn", &["arn:aws:lambda:us-east-1:111122223333:microvm-image:demo"]),
    ("imageIdentifier", &["arn:aws:lambda:us-east-1:111122223333:microvm-image:demo"]),
    ("imageVersion", &["1.0", "12.0"]),
    ("latestActiveImageVersion", &["1.0", "12.0"]),
    ("latestFailedImageVersion", &["1.0", "12.0"]),
    ("baseImageArn", &["arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"]),
    ("baseImageVersion", &["1.0"]),
    ("buildRoleArn", &["arn:aws:iam::111122223333:role/build"]),
    ("executionRoleArn", &["arn:aws:iam::111122223333:role/service-role/run"]),
    ("uri", &["s3://bucket/key.zip"]),
    (
        "egressNetworkConnectors[]",
        &["arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"],
    ),
    (
        "ingressNetworkConnectors[]",
        &["arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS"],
    ),
    ("microvmId", &["microvm-11111111-2222-3333-4444-555555555555"]),
    ("buildId", &["11111111-2222-3333-4444-555555555555"]),
    ("Arn", &[CONNECTOR_ARN]),
    ("VersionArn", &[CONNECTOR_VERSION_ARN]),
    ("LatestVersionArn", &[CONNECTOR_VERSION_ARN]),
    ("Id", &["nc-11111111-2222-3333-4444-555555555555"]),
    ("Name", &["c", "Connector_name-of-sixty-four-characters-which-is-the-longest-one"]),
    ("OperatorRole", &["arn:aws:iam::111122223333:role/connect", "arn:aws-us-gov:iam::111122223333:role/path/connect"]),
    ("ListManagedMicrovmImages.items[].imageArn", &["arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"]),
    ("ListManagedMicrovmImageVersions.items[].imageArn", &["arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"]),
    ("ListManagedMicrovmImageVersions.items[].imageVersion", &["0", "1"]),
];

/// Every document that it takes to show all that `shape` allows at least once. `at` names the place.
pub fn documents(model: &Model, at: &str, shape: &Value) -> Vec<Value> {
    match shape["type"].as_str().unwrap() {
        "structure" => structures(model, at, shape),
        "list" => lists(model, at, shape),
        "map" => maps(model, at, shape),
        "string" => texts(at, shape),
        "integer" => numbers(shape, i64::from(i32::MAX)),
        // The largest that every JSON reader keeps.
        "long" => numbers(shape, 1 << 53),
        "boolean" => vec![json!(true), json!(false)],
        "timestamp" if shape["timestampFormat"] == "iso8601" => vec![json!("2026-09-21T14:13:20.123Z")],
        "timestamp" => vec![json!(1_790_000_000.123)],
        other => panic!("{at}: tests/model/samples.rs does not know the type {other}"),
    }
}

fn structures(model: &Model, at: &str, shape: &Value) -> Vec<Value> {
    let mut members = Vec::new();
    for (name, member) in shape["members"].as_object().unwrap() {
        let name = member["locationName"].as_str().unwrap_or(name);
        members.push((name.to_owned(), documents(model, &format!("{at}.{name}"), model.shape(&member["shape"]))));
    }
    let object = |pairs: Vec<(&String, &Value)>| {
        Value::Object(pairs.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
    };
    if shape["union"].as_bool().unwrap_or_default() {
        return members.iter().flat_map(|(name, all)| all.iter().map(move |one| object(vec![(name, one)]))).collect();
    }
    let count = members.iter().map(|(_, all)| all.len()).max().unwrap_or(1);
    (0..count).map(|n| object(members.iter().map(|(name, all)| (name, &all[n % all.len()])).collect())).collect()
}

fn lists(model: &Model, at: &str, shape: &Value) -> Vec<Value> {
    let items = documents(model, &format!("{at}[]"), model.shape(&shape["member"]["shape"]));
    let max = shape["max"].as_u64().map_or(items.len(), |max| max as usize);
    let full = items.chunks(max.max(1)).map(|chunk| Value::Array(chunk.to_vec()));
    let empty = (shape["min"].as_u64().unwrap_or(0) == 0).then(|| json!([]));
    full.chain(empty).collect()
}

fn maps(model: &Model, at: &str, shape: &Value) -> Vec<Value> {
    let keys = documents(model, &format!("{at}{{key}}"), model.shape(&shape["key"]["shape"]));
    let values = documents(model, &format!("{at}{{value}}"), model.shape(&shape["value"]["shape"]));
    let pair = |n: usize| (keys[n % keys.len()].as_str().unwrap().to_owned(), values[n % values.len()].clone());
    let full = (0..keys.len().max(values.len())).map(|n| Value::Object(Map::from_iter([pair(n)])));
    let empty = (shape["min"].as_u64().unwrap_or(0) == 0).then(|| json!({}));
    full.chain(empty).collect()
}

fn texts(at: &str, shape: &Value) -> Vec<Value> {
    if let Some(names) = shape["enum"].as_array() {
        return names.clone();
    }
    let (min, max) = (shape["min"].as_u64().unwrap_or(0) as usize, shape["max"].as_u64().map(|max| max as usize));
    let ends = |end: &str| at == end || at.ends_with(&format!(".{end}"));
    let meaning = MEANINGS.iter().filter(|(end, _)| ends(end)).max_by_key(|(end, _)| end.len());
    if let Some((_, texts)) = meaning {
        let fits = |text: &str| text.len() >= min && max.is_none_or(|max| text.len() <= max);
        assert!(texts.iter().all(|text| fits(text)), "{at}: a sample of tests/model/samples.rs is out of bounds");
        return texts.iter().map(|text| json!(text)).collect();
    }
    let mut texts = vec!["a".repeat(min.max(1)), "a".repeat(max.unwrap_or(10_000))];
    if min == 0 {
        texts.push(String::new());
    }
    if shape["pattern"].is_null() {
        texts.push("two words, \"é\" and 🜂\n".to_owned());
    }
    texts.into_iter().map(Value::String).collect()
}

fn numbers(shape: &Value, largest: i64) -> Vec<Value> {
    vec![json!(shape["min"].as_i64().unwrap_or(1)), json!(shape["max"].as_i64().unwrap_or(largest))]
}
