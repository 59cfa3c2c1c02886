//! MicroVMs and their tokens (spec 3.2).

use api::ErrorKind::{Conflict, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::*;

/// A RUNNING microVM that was launched with the least request.
pub fn microvm(image: &str, more: Value) -> Value {
    let microvm = json!({
        "microvmId": "$running", "state": "RUNNING", "endpoint": "<endpoint>", "imageArn": image, "imageVersion": "1.0",
        "executionRoleArn": null, "idlePolicy": null, "maximumDurationInSeconds": 28800, "startedAt": "<time>",
        "terminatedAt": null, "stateReason": null, "terminationReasonCode": null,
        "ingressNetworkConnectors": ["$http_ingress"], "egressNetworkConnectors": ["$internet_egress"],
    });
    with(microvm, more)
}

fn of(id: &str) -> Value {
    json!({"microvmIdentifier": id})
}

/// A microVM that is not there, for every way that it can be.
fn absent(more: &Value) -> Vec<Row> {
    let ids = ["$absent_microvm", "x", "$absent_build", "$image", "microvm-", "../..", "é"];
    let refused = |id: &str| {
        row("a microVM that is not there", with(of(id), more.clone()))
            .refused(ResourceNotFound, &format!("MicroVM not found: {id}"))
    };
    ids.into_iter().map(refused).collect()
}

fn over(id: &str) -> String {
    format!("The MicroVM {id} has been terminated and its state cannot be changed.")
}

pub fn get() -> Vec<Row> {
    let ended = json!({
        "microvmId": "$terminated", "state": "TERMINATED", "terminatedAt": "<time>", "stateReason": "Success.",
    });
    let mut rows = vec![
        row(LEAST, of("$running")).is(microvm("$image", json!({}))),
        row(FULL, of("$shell")).is(microvm(
            "$image",
            json!({"microvmId": "$shell", "ingressNetworkConnectors": ["$http_ingress", "$shell_ingress"]}),
        )),
        row("being started", of("$pending")).is(microvm("<any>", json!({"microvmId": "$pending", "state": "PENDING"}))),
        row("asleep", of("$suspended")).is(microvm("$image", json!({"microvmId": "$suspended", "state": "SUSPENDED"}))),
        row("over", of("$terminated")).is(microvm("$image", ended)),
    ];
    rows.extend(absent(&json!({})));
    rows
}

pub fn list() -> Vec<Row> {
    let item = |more: Value| {
        let item = json!({
            "microvmId": "$running", "state": "RUNNING", "imageArn": "$image", "imageVersion": "1.0", "startedAt": "<time>",
        });
        with(item, more)
    };
    let only = |case, members: Value| {
        row(case, members).before(GetMicrovm, of("$terminated")).before(GetMicrovm, of("$running")).is(json!({
            "items": [item(json!({})), item(json!({"microvmId": "$terminated", "state": "TERMINATED"}))],
            "nextToken": null,
        }))
    };
    let empty = json!({"items": [], "nextToken": null});
    vec![
        row(LEAST, json!({})).is(empty.clone()),
        only("all of them", json!({})),
        only(FULL, json!({"imageIdentifier": "$image", "imageVersion": "1.0", "maxResults": 50})),
        only("of an image", json!({"imageIdentifier": "$image"})),
        row("a page with more behind it", json!({"imageIdentifier": "$image", "maxResults": 1}))
            .before(GetMicrovm, of("$terminated"))
            .before(GetMicrovm, of("$running"))
            .is(json!({"items": [item(json!({}))], "nextToken": "<token>"})),
        row("of another version", json!({"imageIdentifier": "$image", "imageVersion": "2.0"})).is(empty.clone()),
        row("of no version that can be", json!({"imageVersion": "x"})).is(empty.clone()),
        row("of an image that is not there", json!({"imageIdentifier": "$absent_image"})).is(empty),
        row("of an image by its name", json!({"imageIdentifier": "demo"}))
            .refused(Validation, "Malformed ARN - doesn't start with 'arn:'"),
        row("a token of its own making", json!({"nextToken": "AAAA"}))
            .refused(Validation, "nextToken is not a token that this list returned"),
    ]
}

/// `{}` and the state that follows, at once or soon.
fn changes(case: &'static str, id: &str) -> Row {
    row(case, of(id)).is(json!({}))
}

pub fn suspend() -> Vec<Row> {
    let mut rows = vec![
        changes(LEAST, "$running"),
        changes(FULL, "$running"),
        changes("it sleeps already", "$suspended"),
        row("being started", of("$pending")).refused(Conflict, "The MicroVM $pending is in state: PENDING"),
        row("being ended", of("$terminating")).refused(Conflict, "The MicroVM $terminating is in state: TERMINATING"),
        row("over", of("$terminated")).refused(Validation, &over("$terminated")),
    ];
    rows.extend(absent(&json!({})));
    rows
}

pub fn resume() -> Vec<Row> {
    let mut rows = vec![
        changes(LEAST, "$suspended"),
        changes(FULL, "$suspended"),
        changes("it runs already", "$running"),
        row("being started", of("$pending")).refused(Conflict, "The MicroVM $pending is in state: PENDING"),
        row("being ended", of("$terminating")).refused(Conflict, "The MicroVM $terminating is in state: TERMINATING"),
        row("over", of("$terminated")).refused(Validation, &over("$terminated")),
    ];
    rows.extend(absent(&json!({})));
    rows
}

pub fn terminate() -> Vec<Row> {
    let mut rows = vec![
        changes(LEAST, "$running"),
        changes(FULL, "$suspended"),
        changes("being started", "$pending"),
        changes("being ended", "$terminating"),
        changes("over", "$terminated"),
    ];
    rows.extend(absent(&json!({})));
    rows
}

fn token() -> Value {
    json!({"authToken": {"X-aws-proxy-auth": "<token>"}})
}

pub fn auth_token() -> Vec<Row> {
    let least = json!({"expirationInMinutes": 1, "allowedPorts": [{"port": 8080}]});
    let full = json!({"expirationInMinutes": 60, "allowedPorts": [
        {"port": 1}, {"range": {"startPort": 1, "endPort": 65535}}, {"allPorts": {}},
    ]});
    let changed = |case, more: Value| row(case, with(with(of("$running"), least.clone()), more));
    let ports = |ports: Value| json!({"allowedPorts": ports});
    let mut rows = vec![
        row(LEAST, with(of("$running"), least.clone())).is(token()),
        row(FULL, with(of("$running"), full)).is(token()),
        row("while it starts", with(of("$pending"), least.clone())).is(token()),
        row("while it sleeps", with(of("$suspended"), least.clone())).is(token()),
        row("over", with(of("$terminated"), least.clone())).refused(Validation, &over("$terminated")),
        changed("fifty ports", ports(vec![json!({"port": 8080}); 50].into())).is(token()),
        changed("a range of one", ports(json!([{"range": {"startPort": 5, "endPort": 5}}]))).is(token()),
        changed("too long", json!({"expirationInMinutes": 61}))
            .refused(Validation, "ExpirationMinutes 61 exceeded max allowed of 60."),
        changed("a range from its end", ports(json!([{"range": {"startPort": 2, "endPort": 1}}])))
            .refused(Validation, "Port range start 2 must not be greater than its end 1"),
        changed("a flag that is none", ports(json!([{"allPorts": true}])))
            .unreadable(json!({"Message": "Expected null"})),
    ];
    rows.extend(absent(&least));
    rows
}

pub fn shell_auth_token() -> Vec<Row> {
    let to = |id: &str, minutes: u32| with(of(id), json!({"expirationInMinutes": minutes}));
    let mut rows = vec![
        row(LEAST, to("$shell", 1)).is(token()),
        row(FULL, to("$shell", 60)).is(token()),
        row("too long", to("$shell", 61)).refused(Validation, "ExpirationMinutes 61 exceeded max allowed of 60."),
        row("it takes no shells", to("$running", 1)).refused(
            Validation,
            "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.",
        ),
        row("over", to("$terminated", 1)).refused(Validation, &over("$terminated")),
    ];
    rows.extend(absent(&json!({"expirationInMinutes": 1})));
    rows
}
