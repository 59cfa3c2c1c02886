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

/// Each matcher, and a refusal that does not come, is told by its step; no runner passes over what it should compare.
#[test]
fn what_is_not_so_ends_a_scenario() {
    let server = server();
    let wrong = server.data_dir.with_file_name("wrong.toml").display().to_string();
    for (rule, told) in [
        ("expect = { items = { count = 2 } }", "items is"),
        (r#"expect = { "items.0.imageArn" = "other" }"#, "items.0.imageArn is"),
        (r#"expect = { "items.0.imageArn" = { matches = "^other" } }"#, "items.0.imageArn is"),
        (r#"expect = { "items.0.imageArn" = { absent = true } }"#, "items.0.imageArn is"),
        (r#"expect = { "items.0.createdAt" = { recent = -1 } }"#, "items.0.createdAt is"),
        (r#"expect = { items = { has = "other" } }"#, "items is"),
        (r#"expect = { "items.0.imageArn" = { above = 0 } }"#, "items.0.imageArn is"),
        (r#"error = { code = "ValidationException" }"#, "not refused"),
        (r#"input = { nextToken = "x" }"#, "refused: "),
    ] {
        let step = format!("[[step]]\nsay = \"it is so\"\ncall = \"ListManagedMicrovmImages\"\n{rule}\n");
        std::fs::write(&wrong, step).unwrap();
        for said in
            [server.python_file(&file("runner.py"), &["boto3", &wrong]), server.node(&file("runner.mjs"), &[&wrong])]
        {
            assert_eq!(said.code, Some(1), "{rule}: {}", said.stdout);
            let line = said.stderr.lines().find(|line| line.starts_with("step 1, it is so: ")).unwrap_or_default();
            assert!(line.contains(told), "{rule}: {}", said.stderr);
        }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenario").join(name)
}

fn every_operation(played: &Value) {
    let called: BTreeSet<&str> = played["operations"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(called.len(), OPERATIONS, "{called:?}");
    assert!(played["steps"].as_u64().unwrap() > 90, "{played}");
}
