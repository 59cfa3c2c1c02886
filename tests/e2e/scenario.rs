//! One scenario of all operations, `tests/scenario/scenario.toml`, by three clients of AWS.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;

use super::server;

/// Operations of `lambda-microvms` 2025-09-09.
const OPERATIONS: usize = 24;

#[test]
fn boto3_plays_the_scenario() {
    let played = server().python_file(&file("runner.py"), &["boto3", &file("scenario.toml").display().to_string()]);
    every_operation(&played.json());
}

#[test]
fn the_aws_cli_plays_the_scenario() {
    let played = server().python_file(&file("runner.py"), &["aws", &file("scenario.toml").display().to_string()]);
    every_operation(&played.json());
}

#[test]
fn the_javascript_sdk_plays_the_scenario() {
    let played = server().node(&file("runner.mjs"), &[&file("scenario.toml").display().to_string()]);
    every_operation(&played.json());
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenario").join(name)
}

fn every_operation(played: &Value) {
    let called: BTreeSet<&str> = played["operations"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(called.len(), OPERATIONS, "{called:?}");
    assert!(played["steps"].as_u64().unwrap() > 90, "{played}");
}
