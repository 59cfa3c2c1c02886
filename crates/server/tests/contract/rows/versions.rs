//! Versions of an image (spec 3.2).

use api::ErrorKind::{Conflict, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::{images::defaults, *};

fn of(image: &str, version: &str) -> Value {
    json!({"imageIdentifier": image, "imageVersion": version})
}

fn version(image: &str, more: Value) -> Value {
    let version = json!({
        "imageArn": image, "imageVersion": "1.0", "state": "SUCCESSFUL", "status": "ACTIVE", "stateReason": null,
        "createdAt": "<time>", "updatedAt": "<time>", "tags": {},
    });
    with(with(version, defaults()), more)
}

/// A version that is not there, for every way that it can be.
fn absent(operation: Operation, more: &Value) -> Vec<Row> {
    let pairs = [
        ("$image", "2.0"),
        ("$image", "0.0"),
        ("$image", "1.1"),
        ("$image", "1"),
        ("$image", "x"),
        ("$absent_image", "1.0"),
        ("$deleted", "1.0"),
    ];
    let refused = |(image, number): (&str, &str)| {
        let words = format!("MicroVMImage not found for MicroVMImage: {image}, Version: {number}");
        row("a version that is not there", with(of(image, number), more.clone())).refused(ResourceNotFound, &words)
    };
    let stranger = strange(operation, with(of("$strange_image", "1.0"), more.clone()));
    pairs.into_iter().map(refused).chain([stranger]).collect()
}

pub fn get() -> Vec<Row> {
    let failed = json!({"state": "FAILED", "status": "INACTIVE", "codeArtifact": {"uri": "s3://bucket/absent.zip"}});
    let mut rows = vec![
        row(LEAST, of("$image", "1.0")).is(version("$image", json!({}))),
        row(FULL, of("$tagged", "1.0")).is(version("$tagged", json!({"tags": {"a": "1", "b": "2"}}))),
        row("not built", of("$failed", "1.0")).is(version("$failed", failed)),
        row("not active", of("$inactive", "1.0")).is(version("$inactive", json!({"status": "INACTIVE"}))),
        row("the first of two", of("$two", "1.0")).is(version("$two", json!({}))),
        row("the second of two", of("$two", "2.0")).is(version("$two", json!({"imageVersion": "2.0"}))),
    ];
    rows.extend(absent(GetMicrovmImageVersion, &json!({})));
    rows
}

pub fn list() -> Vec<Row> {
    let list = |items: Value, next: Value| json!({"items": items, "nextToken": next});
    vec![
        row(LEAST, json!({"imageIdentifier": "$image"})).is(list(json!([version("$image", json!({}))]), Value::Null)),
        row(FULL, json!({"imageIdentifier": "$two", "maxResults": 50})).is(list(
            json!([version("$two", json!({"imageVersion": "2.0"})), version("$two", json!({}))]),
            Value::Null,
        )),
        row("a page with more behind it", json!({"imageIdentifier": "$two", "maxResults": 1}))
            .is(list(json!([version("$two", json!({"imageVersion": "2.0"}))]), json!("<token>"))),
        row("a token of its own making", json!({"imageIdentifier": "$image", "nextToken": "AAAA"}))
            .refused(Validation, "nextToken is not a token that this list returned"),
        row("an image that is not there", json!({"imageIdentifier": "$absent_image"}))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $absent_image"),
    ]
}

pub fn update() -> Vec<Row> {
    let to = |image: &str, status: &str| with(of(image, "1.0"), json!({"status": status}));
    let pointer = |image: &str, version: Value| {
        json!({
            "imageArn": image, "name": "<any>", "state": "<any>", "latestActiveImageVersion": version,
            "latestFailedImageVersion": null, "createdAt": "<time>", "updatedAt": "<time>", "tags": {},
        })
    };
    let image = |image: &str| json!({"imageIdentifier": image});
    let mut rows = vec![
        row(LEAST, to("$image", "ACTIVE")).is(version("$image", json!({}))),
        row(FULL, to("$image", "INACTIVE")).is(version("$image", json!({"status": "INACTIVE"}))).after(
            GetMicrovmImage,
            image("$image"),
            pointer("$image", Value::Null),
        ),
        row("active again", to("$inactive", "ACTIVE")).is(version("$inactive", json!({}))).after(
            GetMicrovmImage,
            image("$inactive"),
            pointer("$inactive", json!("1.0")),
        ),
        row("the newest of two: the other one is launched", with(of("$two", "2.0"), json!({"status": "INACTIVE"})))
            .is(version("$two", json!({"imageVersion": "2.0", "status": "INACTIVE"})))
            .after(GetMicrovmImage, image("$two"), pointer("$two", json!("1.0"))),
        row("not built", to("$failed", "ACTIVE"))
            .refused(Validation, "MicroVM image version 1.0 cannot be ACTIVE in its current state: FAILED"),
        row("while the image is updated", to("$updating", "INACTIVE"))
            .refused(Conflict, "MicroVM Image is already in state: UPDATING"),
        row("while the image is created", to("$creating", "INACTIVE"))
            .refused(Conflict, "MicroVM Image is already in state: CREATING"),
    ];
    rows.extend(absent(UpdateMicrovmImageVersion, &json!({"status": "ACTIVE"})));
    rows
}

pub fn delete() -> Vec<Row> {
    let deleting = |number: &str| json!({"imageIdentifier": "$two", "imageVersion": number, "state": "DELETING"});
    let in_use = "Cannot delete microvm image version with running microvms.";
    let run = |version: &str| json!({"imageIdentifier": "$two", "imageVersion": version});
    let mut rows = vec![
        row(LEAST, of("$two", "1.0")).is(deleting("1.0")),
        row(FULL, of("$two", "2.0")).is(deleting("2.0")),
        row("a microVM of another version lives", of("$two", "1.0")).before(RunMicrovm, run("2.0")).is(deleting("1.0")),
        row("a microVM of it lives", of("$two", "1.0")).before(RunMicrovm, run("1.0")).refused(Validation, in_use),
        row("the last one", of("$image", "1.0"))
            .refused(Validation, "Cannot delete the last version of MicroVM image $image; delete the image instead."),
        row("while the image is updated", of("$updating", "1.0"))
            .refused(Conflict, "MicroVM Image is already in state: UPDATING"),
    ];
    rows.extend(absent(DeleteMicrovmImageVersion, &json!({})));
    rows
}
