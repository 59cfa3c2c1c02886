//! Builds of a version (spec 3.2).

use api::ErrorKind::{ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::*;

fn build(image: &str, more: Value) -> Value {
    let build = json!({
        "imageArn": image, "imageVersion": "1.0", "buildId": "<build>", "buildState": "SUCCESSFUL",
        "architecture": "X86_64", "chipset": "INTEL", "chipsetGeneration": "1", "stateReason": null, "createdAt": "<time>",
    });
    with(build, more)
}

fn sizes() -> Value {
    json!({"snapshotBuild": {
        "memorySnapshotSizeInBytes": "<number>", "codeInstallSizeInBytes": "<number>", "diskSnapshotSizeInBytes": "<number>",
    }})
}

fn of(image: &str, version: &str) -> Value {
    json!({"imageIdentifier": image, "imageVersion": version})
}

fn no_version(image: &str, version: &str, more: Value) -> Row {
    let words = format!("MicroVMImage not found for MicroVMImage: {image}, Version: {version}");
    row("a version that is not there", with(of(image, version), more)).refused(ResourceNotFound, &words)
}

pub fn get() -> Vec<Row> {
    let id = |id: &str| with(of("$image", "1.0"), json!({"buildId": id}));
    let full = with(sizes(), json!({"buildId": "$build"}));
    let absent = |id: &str| format!("Build not found for MicroVMImage: $image, Version: 1.0, BuildId: {id}");
    vec![
        row(LEAST, id("$build")).is(build("$image", full.clone())),
        row(FULL, id("$build")).is(build("$image", full)),
        row("a build that is not there", id("$absent_build")).refused(ResourceNotFound, &absent("$absent_build")),
        row("a build that cannot be", id("x")).refused(ResourceNotFound, &absent("x")),
        no_version("$image", "2.0", json!({"buildId": "$build"})),
        no_version("$absent_image", "1.0", json!({"buildId": "$absent_build"})),
    ]
}

pub fn list() -> Vec<Row> {
    let list = |items: Value| json!({"items": items, "nextToken": null});
    let only = |case, filter: Value| row(case, with(of("$image", "1.0"), filter)).is(list(json!([])));
    let filter = json!({"maxResults": 50, "architecture": "X86_64", "chipset": "INTEL", "chipsetGeneration": "1"});
    vec![
        row(LEAST, of("$image", "1.0")).is(list(json!([build("$image", json!({}))]))),
        row(FULL, with(of("$image", "1.0"), filter)).is(list(json!([build("$image", json!({}))]))),
        row("one that failed says why", of("$failed", "1.0"))
            .is(list(json!([build("$failed", json!({"buildState": "FAILED", "stateReason": "<token>"}))]))),
        row("one that is being made", of("$creating", "1.0"))
            .is(list(json!([build("$creating", json!({"buildState": "<any>"}))]))),
        only("another architecture", json!({"architecture": "ARM_64"})),
        only("another chipset", json!({"chipset": "GRAVITON"})),
        only("another generation", json!({"chipsetGeneration": "4"})),
        row("a token that it never returned", with(of("$image", "1.0"), json!({"nextToken": "AAAA"})))
            .refused(Validation, "nextToken is not a token that this list returned"),
        no_version("$image", "2.0", json!({})),
        no_version("$absent_image", "1.0", json!({})),
    ]
}
