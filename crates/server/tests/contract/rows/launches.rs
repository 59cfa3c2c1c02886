//! `RunMicrovm` (spec 3.2).

use api::ErrorKind::{Conflict, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::{microvms::microvm, *};

pub fn run() -> Vec<Row> {
    let of = |image: &str| json!({"imageIdentifier": image});
    let changed = |case, more: Value| row(case, with(of("$image"), more));
    let pending = |more: Value| microvm("$image", with(json!({"state": "PENDING", "microvmId": "<microvm>"}), more));
    let policy = json!({"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 0, "autoResumeEnabled": true});
    let full = json!({
        "imageIdentifier": "$hooked", "imageVersion": "1.0", "executionRoleArn": "$role",
        "ingressNetworkConnectors": ["$http_ingress", "$shell_ingress"], "egressNetworkConnectors": ["$internet_egress"],
        "idlePolicy": policy, "logging": {"cloudWatch": {"logGroup": "/group/a", "logStream": "stream"}},
        "runHookPayload": "secret", "maximumDurationInSeconds": 28800, "clientToken": "$fresh",
    });
    let echo = json!({
        "state": "PENDING", "microvmId": "<microvm>", "executionRoleArn": "$role", "idlePolicy": policy,
        "ingressNetworkConnectors": ["$http_ingress", "$shell_ingress"],
    });
    let rule = |case, more: Value, words: &str| changed(case, more).refused(Validation, words);
    let none = |image: &str| format!("No active version found for MicroVM image {image}");
    let mut rows = vec![
        row(LEAST, of("$image")).is(pending(json!({}))),
        row(FULL, full).is(microvm("$hooked", echo)),
        changed("empty lists are as none", json!({"ingressNetworkConnectors": [], "egressNetworkConnectors": []}))
            .is(pending(json!({}))),
        changed("a shorter life", json!({"maximumDurationInSeconds": 1}))
            .is(pending(json!({"maximumDurationInSeconds": 1}))),
        row("the older of two versions", with(of("$two"), json!({"imageVersion": "1.0"})))
            .is(microvm("$two", json!({"state": "PENDING", "microvmId": "<microvm>"}))),
        row("the latest active of two versions", of("$two"))
            .is(microvm("$two", json!({"state": "PENDING", "microvmId": "<microvm>", "imageVersion": "2.0"}))),
        row("while a new version is built", of("$updating"))
            .is(microvm("$updating", json!({"state": "PENDING", "microvmId": "<microvm>"}))),
        changed("the same token, the same parameters", json!({"clientToken": "$fresh"}))
            .before(RunMicrovm, json!({"imageIdentifier": "$image", "clientToken": "$fresh"}))
            .is(pending(json!({"state": "<any>"}))),
        changed("the same token, other parameters", json!({"clientToken": "$fresh", "maximumDurationInSeconds": 9}))
            .before(RunMicrovm, json!({"imageIdentifier": "$image", "clientToken": "$fresh"}))
            .refused(Conflict, "The client token was used before with different parameters"),
        row("an image by its name", of("demo")).refused(Validation, "Malformed ARN - doesn't start with 'arn:'"),
        rule(
            "a payload without a run hook",
            json!({"runHookPayload": "x"}),
            "The run hook must be enabled in the MicroVM image to pass the run hook payload.",
        ),
        rule(
            "a connector by its name",
            json!({"ingressNetworkConnectors": ["HTTP_INGRESS"]}),
            "Malformed network connector ARN",
        ),
        rule(
            "a managed connector that is not there",
            json!({"egressNetworkConnectors": ["$internet_egress_X"]}),
            "Unrecognized managed network connector ARN: $internet_egress_X",
        ),
        rule(
            "an egress connector for ingress",
            json!({"ingressNetworkConnectors": ["$internet_egress"]}),
            "Network connector $internet_egress is not an ingress connector",
        ),
        rule(
            "all ingress and more",
            json!({"ingressNetworkConnectors": ["$all_ingress", "$http_ingress"]}),
            "ALL_INGRESS cannot be combined with other ingress network connectors; \
             use HTTP_INGRESS and/or SHELL_INGRESS instead",
        ),
        rule(
            "half an idle policy",
            json!({"idlePolicy": {"maxIdleDurationSeconds": 60}}),
            "2 validation errors detected: Value null at 'idlePolicy.suspendedDurationSeconds' failed to satisfy \
             constraint: Member must not be null; Value null at 'idlePolicy.autoResumeEnabled' failed to satisfy \
             constraint: Member must not be null",
        ),
        changed("as idle as can be", json!({"idlePolicy": idle(28_800)}))
            .is(pending(json!({"idlePolicy": idle(28_800)}))),
        rule(
            "idle for too long",
            json!({"idlePolicy": idle(28_801)}),
            "1 validation error detected: Value '28801' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy \
             constraint: Member must have value less than or equal to 28800",
        ),
        changed("a version that is not there", json!({"imageVersion": "2.0"}))
            .refused(ResourceNotFound, "No active version found for MicroVM image $image and version 2.0"),
        changed("a version that cannot be", json!({"imageVersion": "latest"}))
            .refused(ResourceNotFound, "No active version found for MicroVM image $image and version latest"),
    ];
    for image in ["$absent_image", "$deleted", "$creating", "$failed", "$inactive", "$base"] {
        rows.push(row("nothing to launch", of(image)).refused(ResourceNotFound, &none(image)));
    }
    rows.push(strange(RunMicrovm, of("$strange_image")));
    rows
}

fn idle(seconds: u32) -> Value {
    json!({"maxIdleDurationSeconds": seconds, "suspendedDurationSeconds": 0, "autoResumeEnabled": false})
}
