//! Images and managed images (spec 3.2).

use api::ErrorKind::{AccessDenied, Conflict, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::*;

fn least(name: &str) -> Value {
    json!({
        "name": name, "baseImageArn": "$base", "buildRoleArn": "$role", "codeArtifact": {"uri": "s3://bucket/key.zip"},
    })
}

/// All that describes a version.
fn configuration() -> Value {
    json!({
        "baseImageArn": "$base", "buildRoleArn": "$role", "codeArtifact": {"uri": "s3://bucket/key.zip"},
        "baseImageVersion": "1", "description": "é, \"two\" words",
        "logging": {"cloudWatch": {"logGroup": "/group/a", "logStream": "stream"}},
        "egressNetworkConnectors": ["$internet_egress"], "cpuConfigurations": [{"architecture": "X86_64"}],
        "resources": [{"minimumMemoryInMiB": 512}], "additionalOsCapabilities": ["ALL"],
        "hooks": {
            "port": 9000,
            "microvmImageHooks": {
                "ready": "ENABLED", "readyTimeoutInSeconds": 60, "validate": "ENABLED", "validateTimeoutInSeconds": 60,
            },
            "microvmHooks": {
                "run": "ENABLED", "runTimeoutInSeconds": 10, "resume": "ENABLED", "resumeTimeoutInSeconds": 10,
                "suspend": "ENABLED", "suspendTimeoutInSeconds": 10,
                "terminate": "DISABLED", "terminateTimeoutInSeconds": 10,
            },
        },
        "environmentVariables": {"KEY": "value", "EMPTY": ""},
    })
}

/// What an answer echoes of a least request, defaults filled in.
pub fn defaults() -> Value {
    json!({
        "baseImageArn": "$base", "baseImageVersion": "1.0", "buildRoleArn": "$role", "description": null,
        "codeArtifact": {"uri": "s3://bucket/key.zip"}, "logging": null,
        "egressNetworkConnectors": ["$internet_egress"], "cpuConfigurations": null,
        "resources": [{"minimumMemoryInMiB": 2048}], "additionalOsCapabilities": null, "hooks": null,
        "environmentVariables": null,
    })
}

fn created(more: Value) -> Value {
    let image = json!({
        "imageArn": "arn:aws:lambda:us-east-1:111122223333:microvm-image:$fresh", "name": "$fresh", "state": "CREATING",
        "imageVersion": "1.0", "latestActiveImageVersion": null, "latestFailedImageVersion": null,
        "createdAt": "<time>", "updatedAt": "<time>", "tags": null,
    });
    with(with(image, defaults()), more)
}

pub fn create() -> Vec<Row> {
    let changed = |case, more: Value| row(case, with(least("$fresh"), more));
    let full = with(
        configuration(),
        json!({"name": "$fresh", "tags": {"a b": "1", "é:/=+-@_.": ""}, "clientToken": "$fresh"}),
    );
    let mut echo = full.clone();
    echo.as_object_mut().unwrap().remove("clientToken");
    echo["baseImageVersion"] = "1.0".into();
    let memory = |mib: u32| json!({"resources": [{"minimumMemoryInMiB": mib}]});
    let environment = |key: &str| json!({"environmentVariables": {key: "x"}});
    let artifact = "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>";
    let rule = |case, more: Value, words: &str| changed(case, more).refused(Validation, words);
    let mut rows = vec![
        row(LEAST, least("$fresh")).is(created(json!({}))),
        row(FULL, full).is(created(echo)),
        changed(
            "members without effect: null, unknown, empty lists",
            json!({
                "tags": null, "surprise": {"a": [1]}, "egressNetworkConnectors": [], "resources": [],
            }),
        )
        .is(created(json!({}))),
        row("nothing at all", json!({})).refused(
            Validation,
            "4 validation errors detected: \
             Value null at 'name' failed to satisfy constraint: Member must not be null; \
             Value null at 'baseImageArn' failed to satisfy constraint: Member must not be null; \
             Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; \
             Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null",
        ),
        row("the name is taken", least("$name"))
            .refused(Validation, "A MicroVM image with the name '$name' already exists in this account"),
        changed("the same token, the same parameters", json!({"clientToken": "$fresh"}))
            .before(CreateMicrovmImage, with(least("$fresh"), json!({"clientToken": "$fresh"})))
            // Its build may have come to its end by now.
            .is(created(json!({"state": "<any>", "latestActiveImageVersion": "<any>"}))),
        changed("the same token, other parameters", json!({"clientToken": "$fresh", "description": "other"}))
            .before(CreateMicrovmImage, with(least("$fresh"), json!({"clientToken": "$fresh"})))
            .refused(Conflict, "The client token was used before with different parameters"),
        rule(
            "a base image by its name",
            json!({"baseImageArn": "al2023-1"}),
            "Invalid ARN format: al2023-1. Expected arn:aws:lambda:<region>:<account>:microvm-image:<name>",
        ),
        rule(
            "an image of one's own as base",
            json!({"baseImageArn": "$absent_image"}),
            "No managed MicroVM Image with arn $absent_image is available",
        ),
        rule(
            "another managed image",
            json!({"baseImageArn": "$base-x"}),
            "No managed MicroVM Image with arn $base-x is available",
        ),
        rule(
            "a base version that is not there",
            json!({"baseImageVersion": "999"}),
            "No managed MicroVM Image with arn $base and version 999 is available",
        ),
        rule(
            "a base version as it is echoed",
            json!({"baseImageVersion": "1.0"}),
            "No managed MicroVM Image with arn $base and version 1.0 is available",
        ),
        rule("an artifact without a key", json!({"codeArtifact": {"uri": "s3://bucket"}}), artifact),
        rule(
            "an artifact of a registry",
            json!({"codeArtifact": {"uri": "1.dkr.ecr.us-east-1.amazonaws.com/x:1"}}),
            artifact,
        ),
        rule("an artifact by ARN", json!({"codeArtifact": {"uri": "arn:aws:s3:::bucket/key"}}), artifact),
        rule("a reserved variable", environment("AWS_REGION"), "Environment variable key 'AWS_REGION' is reserved"),
        rule(
            "a reserved prefix",
            environment("AWS_LAMBDA_MICROVM_ID"),
            "Environment variable key 'AWS_LAMBDA_MICROVM_ID' is reserved",
        ),
        rule("a variable that no process can have", environment("A=B"), "Environment variable key 'A=B' is invalid"),
        rule(
            "a value that no process can have",
            json!({"environmentVariables": {"KEY": "a\0b"}}),
            "Environment variable value of 'KEY' is invalid",
        ),
        rule(
            "a hook without ready",
            json!({"hooks": {"port": 1, "microvmHooks": {"suspend": "ENABLED"}}}),
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook \
             (run, resume, suspend, or terminate) is enabled.",
        ),
        rule(
            "a hook without a port",
            json!({"hooks": {"microvmImageHooks": {"ready": "ENABLED"}}}),
            "The hooks port must be specified when any hook is enabled.",
        ),
        rule(
            "an ingress connector for egress",
            json!({"egressNetworkConnectors": ["$http_ingress"]}),
            "Network connector $http_ingress is not an egress connector",
        ),
        rule(
            "a connector by its name",
            json!({"egressNetworkConnectors": ["INTERNET_EGRESS"]}),
            "Malformed network connector ARN",
        ),
        rule(
            "a tag that is AWS's",
            json!({"tags": {"AWS:x": "1"}}),
            "Tag key 'AWS:x' is reserved: it must not start with aws:",
        ),
        rule("too many tags", json!({"tags": many_tags(51)}), "A resource can have 50 tags at most"),
        changed("as many tags as may be", json!({"tags": many_tags(50)})).is(created(json!({"tags": many_tags(50)}))),
        changed("a flag that is none", json!({"logging": {"disabled": true}}))
            .unreadable(json!({"Message": "Expected null"})),
    ];
    for mib in [512, 1024, 2048, 4096, 8192] {
        rows.push(changed("a size", memory(mib)).is(created(memory(mib))));
    }
    for mib in [0, 511, 513, 16384] {
        let words = format!(
            "The requested memory size of {mib} MiB is not supported by base MicroVM image $base. \
             Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."
        );
        rows.push(changed("a size that is none", memory(mib)).refused(Validation, &words));
    }
    rows
}

fn many_tags(count: usize) -> Value {
    (0..count).map(|n| (format!("key{n:02}"), "value".into())).collect::<serde_json::Map<_, _>>().into()
}

pub fn update() -> Vec<Row> {
    let least = |image: &str| {
        let mut members = least("");
        members.as_object_mut().unwrap().remove("name");
        with(members, json!({"imageIdentifier": image}))
    };
    let updated = |image: &str, name: &str, more: Value| {
        let image = json!({
            "imageArn": image, "name": name, "state": "UPDATING", "imageVersion": "2.0",
            "latestActiveImageVersion": "1.0", "latestFailedImageVersion": null, "createdAt": "<time>", "updatedAt": "<time>",
        });
        with(with(image, defaults()), more)
    };
    let changed = |case, more: Value| row(case, with(least("$image"), more));
    let mut echo = configuration();
    echo["baseImageVersion"] = "1.0".into();
    vec![
        row(LEAST, least("$image")).is(updated("$image", "$name", json!({}))),
        row(FULL, with(with(configuration(), json!({"clientToken": "$fresh"})), json!({"imageIdentifier": "$image"})))
            .is(updated("$image", "$name", echo)),
        row("what is omitted falls back to the default", least("$hooked")).is(updated(
            "$hooked",
            "<any>",
            json!({"hooks": null}),
        )),
        row("after a failed build", least("$failed")).is(updated(
            "$failed",
            "<any>",
            json!({"latestActiveImageVersion": null, "latestFailedImageVersion": "1.0"}),
        )),
        changed("the name of another image changes nothing", json!({"name": "other", "tags": {"a": "b"}})).is(updated(
            "$image",
            "$name",
            json!({}),
        )),
        changed("the same token, the same parameters", json!({"clientToken": "$fresh"}))
            .before(UpdateMicrovmImage, with(least("$image"), json!({"clientToken": "$fresh"})))
            .is(updated("$image", "$name", json!({"state": "<any>", "latestActiveImageVersion": "<any>"}))),
        changed("the same token, other parameters", json!({"clientToken": "$fresh", "description": "other"}))
            .before(UpdateMicrovmImage, with(least("$image"), json!({"clientToken": "$fresh"})))
            .refused(Conflict, "The client token was used before with different parameters"),
        row("while it is created", least("$creating")).refused(Conflict, "MicroVM Image is already in state: CREATING"),
        row("while it is updated", least("$updating")).refused(Conflict, "MicroVM Image is already in state: UPDATING"),
        row("an image that is not there", least("$absent_image"))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $absent_image"),
        strange(UpdateMicrovmImage, least("$strange_image")),
        changed("a base version that is not there", json!({"baseImageVersion": "0"}))
            .refused(Validation, "No managed MicroVM Image with arn $base and version 0 is available"),
        changed("a size that is none", json!({"resources": [{"minimumMemoryInMiB": 1000}]})).refused(
            Validation,
            "The requested memory size of 1000 MiB is not supported by base MicroVM image $base. \
             Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].",
        ),
        changed("a reserved variable", json!({"environmentVariables": {"AWS_REGION": "x"}}))
            .refused(Validation, "Environment variable key 'AWS_REGION' is reserved"),
    ]
}

/// Rows for an operation that is given an image and nothing else.
fn refused_images(more: Value) -> Vec<Row> {
    let given = |case, image: &str| row(case, with(json!({"imageIdentifier": image}), more.clone()));
    vec![
        given("an image by its name", "demo").refused(
            Validation,
            "Invalid ARN format: demo. Expected arn:aws:lambda:<region>:<account>:microvm-image:<name>",
        ),
        given("an ARN with a slash", "arn:aws:lambda:us-east-1:111122223333:microvm-image/demo").refused(
            AccessDenied,
            "Access to arn:aws:lambda:us-east-1:111122223333:microvm-image/demo is denied: \
             an image ARN has a colon, not a slash, before the name",
        ),
    ]
}

pub fn get() -> Vec<Row> {
    let of = |image: &str| json!({"imageIdentifier": image});
    let image = |arn: &str, more: Value| {
        let image = json!({
            "imageArn": arn, "name": "<any>", "state": "CREATED", "latestActiveImageVersion": "1.0",
            "latestFailedImageVersion": null, "createdAt": "<time>", "updatedAt": "<time>", "tags": {},
        });
        with(image, more)
    };
    let mut rows = vec![
        row(LEAST, of("$image")).is(image("$image", json!({"name": "$name"}))),
        row(FULL, of("$tagged")).is(image("$tagged", json!({"tags": {"a": "1", "b": "2"}}))),
        row("being created", of("$creating"))
            .is(image("$creating", json!({"state": "CREATING", "latestActiveImageVersion": null}))),
        row("not created", of("$failed")).is(image(
            "$failed",
            json!({"state": "CREATE_FAILED", "latestActiveImageVersion": null, "latestFailedImageVersion": "1.0"}),
        )),
        row("being updated", of("$updating")).is(image("$updating", json!({"state": "UPDATING"}))),
        row("updated", of("$two")).is(image("$two", json!({"state": "UPDATED", "latestActiveImageVersion": "2.0"}))),
        row("no version is active", of("$inactive")).is(image("$inactive", json!({"latestActiveImageVersion": null}))),
        row("a managed image", of("$base"))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $base"),
    ];
    for name in ["$absent_image", "$deleted"] {
        let words = format!("MicroVMImage not found for MicroVMImageID: {name}");
        rows.push(row("an image that is not there", of(name)).refused(ResourceNotFound, &words));
    }
    rows.push(strange(GetMicrovmImage, of("$strange_image")));
    rows.extend(refused_images(json!({})));
    rows
}

pub fn list() -> Vec<Row> {
    let item = json!({
        "imageArn": "$image", "name": "$name", "state": "CREATED", "latestActiveImageVersion": "1.0",
        "latestFailedImageVersion": null, "createdAt": "<time>",
    });
    let one = json!({"items": [item.clone()], "nextToken": null});
    vec![
        row("none yet", json!({})).is(json!({"items": [], "nextToken": null})),
        row(FULL, json!({"maxResults": 50, "nameFilter": "$name"})).is(one),
        row(LEAST, json!({}))
            .before(GetMicrovmImage, json!({"imageIdentifier": "$image"}))
            .is(json!({"items": [item.clone(), "<any>"], "nextToken": null})),
        row("a page with more behind it", json!({"maxResults": 1}))
            .before(GetMicrovmImage, json!({"imageIdentifier": "$image"}))
            .is(json!({"items": [item], "nextToken": "<token>"})),
        row("a filter that nothing passes", json!({"nameFilter": "none-of-them"}))
            .is(json!({"items": [], "nextToken": null})),
        row("a token of its own making", json!({"nextToken": "AAAA"}))
            .refused(Validation, "nextToken is not a token that this list returned"),
        row("a page size that is no number", json!({"maxResults": "x"})).unreadable(json!({"message": null})),
    ]
}

pub fn delete() -> Vec<Row> {
    let of = |image: &str| json!({"imageIdentifier": image});
    let deleting = |image: &str| json!({"imageIdentifier": image, "state": "DELETING"});
    let busy = "Cannot delete MicroVM image in its current state: ";
    let mut rows = vec![
        row(LEAST, of("$image")).is(deleting("$image")),
        row(FULL, of("$two")).is(deleting("$two")),
        row("one that failed", of("$failed")).is(deleting("$failed")),
        row("its microVMs are over", of("$image"))
            .before(GetMicrovm, json!({"microvmIdentifier": "$terminated"}))
            .is(deleting("$image")),
        row("a microVM runs", of("$image"))
            .before(GetMicrovm, json!({"microvmIdentifier": "$running"}))
            .refused(Validation, "Cannot delete microvm image with running microvms."),
        row("a microVM sleeps", of("$image"))
            .before(GetMicrovm, json!({"microvmIdentifier": "$suspended"}))
            .refused(Validation, "Cannot delete microvm image with running microvms."),
        row("while it is created", of("$creating")).refused(Validation, &format!("{busy}$creating")),
        row("while it is updated", of("$updating")).refused(Validation, &format!("{busy}$updating")),
    ];
    for name in ["$absent_image", "$deleted"] {
        let words = format!("MicroVMImage not found for MicroVMImageID: {name}");
        rows.push(row("an image that is not there", of(name)).refused(ResourceNotFound, &words));
    }
    rows.push(strange(DeleteMicrovmImage, of("$strange_image")));
    rows.extend(refused_images(json!({})));
    rows
}

pub fn managed() -> Vec<Row> {
    let all =
        json!({"items": [{"imageArn": "$base", "createdAt": "<time>", "updatedAt": "<time>"}], "nextToken": null});
    vec![
        row(LEAST, json!({})).is(all.clone()),
        row(FULL, json!({"maxResults": 50})).is(all),
        row("a token that it never returned", json!({"nextToken": "AAAA"}))
            .refused(Validation, "nextToken is not a token that this list returned"),
    ]
}

pub fn managed_versions() -> Vec<Row> {
    let version = json!({
        "imageArn": "$base", "imageVersion": "1", "status": "AVAILABLE",
        "supportedCpuConfigurations": [{"architecture": "X86_64"}], "createdAt": "<time>", "updatedAt": "<time>",
    });
    let all = json!({"items": [version], "nextToken": null});
    let mut rows = vec![
        row(LEAST, json!({"imageIdentifier": "$base"})).is(all.clone()),
        row(FULL, json!({"imageIdentifier": "$base", "maxResults": 50})).is(all),
        row("a token that it never returned", json!({"imageIdentifier": "$base", "nextToken": "AAAA"}))
            .refused(Validation, "nextToken is not a token that this list returned"),
        row("another managed image", json!({"imageIdentifier": "$base-x"}))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $base-x"),
        row("an image that is not managed", json!({"imageIdentifier": "$absent_image"}))
            .refused(ResourceNotFound, "MicroVMImage not found for MicroVMImageID: $absent_image"),
    ];
    rows.extend(refused_images(json!({})));
    rows
}
