//! Network connectors (spec 9.2).

use api::ErrorKind::{InvalidParameterValue, ResourceConflict, ResourceNotFound, Validation};
use serde_json::{Value, json};

use super::*;

fn of(identifier: &str) -> Value {
    json!({"Identifier": identifier})
}

/// A configuration as a request has it, least first.
fn least_vpc(more: Value) -> Value {
    let vpc = json!({
        "SubnetIds": ["subnet-0a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"],
    });
    json!({"VpcEgressConfiguration": with(vpc, more)})
}

fn full_vpc() -> Value {
    least_vpc(json!({
        "SubnetIds": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"], "NetworkProtocol": "DualStack",
        "ElasticIpConfiguration": {"Type": "ServiceManaged"},
    }))
}

/// As answers show the least one.
fn shown() -> Value {
    least_vpc(json!({"SecurityGroupIds": null, "ElasticIpConfiguration": null}))
}

fn least() -> Value {
    json!({"Name": "$fresh", "Configuration": least_vpc(json!({})), "OperatorRole": "$role", "ClientToken": "$fresh"})
}

/// An answer about the connector `$<of>`, in that version.
fn connector(of: &str, version: u32, more: Value) -> Value {
    let connector = json!({
        "Arn": format!("${of}"), "Name": format!("${of}_name"), "Id": format!("${of}_id"),
        "VersionArn": format!("${of}:{version}"), "Version": version, "Configuration": shown(), "OperatorRole": "$role",
        "State": "ACTIVE",
    });
    with(connector, more)
}

/// The answer about one that the row makes.
fn created(more: Value) -> Value {
    let connector = json!({
        "Arn": "<connector-arn>", "Name": "$fresh", "Id": "<connector>", "VersionArn": "<connector-arn>", "Version": 1,
        "Configuration": shown(), "OperatorRole": "$role", "State": "PENDING",
    });
    with(connector, more)
}

/// Identifiers that name nothing of the caller's.
fn absent(operation: Operation) -> Vec<Row> {
    let others = "arn:aws:lambda:us-east-1:444455556666:network-connector:nc-11111111-2222-3333-4444-555555555555";
    let managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS";
    let refused = |identifier: &str| {
        row("one that is not there", of(identifier))
            .refused(ResourceNotFound, &format!("Network connector not found: {identifier}"))
    };
    let mut rows: Vec<_> = ["$absent_connector", "$fresh", others, managed, "a b", "é"].map(refused).into();
    if !matches!(operation, ListNetworkConnectorVersions | UpdateNetworkConnector) {
        rows.push(refused("$connector:2"));
    }
    rows
}

/// Those that take a connector, not a version of it.
fn qualified() -> Row {
    let words = "$connector:1 names a version; this operation takes a network connector";
    row("the ARN of a version", of("$connector:1")).refused(InvalidParameterValue, words)
}

pub fn create() -> Vec<Row> {
    let changed = |case, more: Value| row(case, with(least(), more));
    let lacking = |case, member: &str| {
        let mut members = least();
        members.as_object_mut().unwrap().remove(member);
        row(case, members)
    };
    let vpc = |member: &str| {
        let mut configuration = least_vpc(json!({}));
        configuration["VpcEgressConfiguration"].as_object_mut().unwrap().remove(member);
        changed("a member that the model calls optional", json!({"Configuration": configuration}))
            .refused(InvalidParameterValue, &format!("{member} is required for VPC_EGRESS connector type"))
    };
    let full = with(least(), json!({"Configuration": full_vpc(), "Tags": {"a b": "1", "é:/=+-@_.": ""}}));
    let taken = "A network connector with the name '$connector_name' already exists in this account";
    let name = "': a network connector name has 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_', and is neither an id nor an ARN";
    let many: serde_json::Map<_, _> = (0..51).map(|n| (format!("k{n}"), "v".into())).collect();
    vec![
        row(LEAST, least()).is(created(json!({}))),
        row(FULL, full).is(created(json!({"Configuration": full_vpc()}))),
        changed(
            "of another compute",
            json!({"Configuration": least_vpc(json!({"AssociatedComputeResourceTypes": ["WebFunction"]}))}),
        )
        .is(created(json!({"Configuration": least_vpc(json!({
            "AssociatedComputeResourceTypes": ["WebFunction"], "SecurityGroupIds": null, "ElasticIpConfiguration": null,
        }))}))),
        row("nothing at all", json!({})).refused(
            Validation,
            "2 validation errors detected: \
             Value null at 'Name' failed to satisfy constraint: Member must not be null; \
             Value null at 'Configuration' failed to satisfy constraint: Member must not be null",
        ),
        lacking("no token", "ClientToken").refused(InvalidParameterValue, "ClientToken is a required field"),
        lacking("no role", "OperatorRole")
            .refused(InvalidParameterValue, "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"),
        vpc("SubnetIds"),
        vpc("NetworkProtocol"),
        vpc("AssociatedComputeResourceTypes"),
        changed("the name is taken", json!({"Name": "$connector_name"})).refused(ResourceConflict, taken),
        changed("a name like an id", json!({"Name": "$connector_id"}))
            .refused(InvalidParameterValue, &format!("'$connector_id{name}")),
        changed("a name like an ARN", json!({"Name": "$connector"}))
            .refused(InvalidParameterValue, &format!("'$connector{name}")),
        changed("the same token, the same parameters", json!({}))
            .before(CreateNetworkConnector, least())
            // It may have settled by now.
            .is(created(json!({"State": "<any>"}))),
        changed("the same token, other parameters", json!({"Name": "$connector_name"}))
            .before(CreateNetworkConnector, least())
            .refused(ResourceConflict, "The client token was used before with different parameters"),
        changed("a tag that is AWS's", json!({"Tags": {"aws:x": "1"}}))
            .refused(InvalidParameterValue, "Tag key 'aws:x' is reserved: it must not start with aws:"),
        changed("too many tags", json!({"Tags": many}))
            .refused(InvalidParameterValue, "A resource can have 50 tags at most"),
        changed("a configuration of no kind", json!({"Configuration": {"Surprise": {}}})).refused(
            Validation,
            "1 validation error detected: Value '[]' at 'Configuration' failed to satisfy constraint: \
             Member must have exactly one of [VpcEgressConfiguration] set",
        ),
    ]
}

fn view(of: &str, version: u32, more: Value) -> Value {
    let view = json!({
        "LatestVersionArn": format!("${of}:{version}"), "LatestVersion": version, "StateReason": "Initial creation",
        "StateReasonCode": null, "LastUpdateStatus": null, "LastUpdateStatusReason": null,
        "LastUpdateStatusReasonCode": null, "LastModified": "<iso>",
    });
    with(with(connector(of, version, json!({})), view), more)
}

pub fn get() -> Vec<Row> {
    let two = json!({"Configuration": least_vpc(json!({
        "SubnetIds": ["subnet-0b"], "SecurityGroupIds": null, "ElasticIpConfiguration": null,
    }))});
    let newest = with(two, json!({"LastUpdateStatus": "Successful"}));
    let old = json!({"LatestVersionArn": "$updated:2", "LatestVersion": 2});
    let mut rows = vec![
        row(LEAST, of("$connector")).is(view("connector", 1, json!({}))),
        row(FULL, of("$connector:1")).is(view("connector", 1, json!({}))),
        row("by its name", of("$connector_name")).is(view("connector", 1, json!({}))),
        row("by its id", of("$connector_id")).is(view("connector", 1, json!({}))),
        row("the newest of two versions", of("$updated")).is(view("updated", 2, newest)),
        row("the older of two versions", of("$updated:1")).is(view("updated", 1, old)),
    ];
    rows.extend(absent(GetNetworkConnector));
    rows
}

fn page(items: Value, next: Value) -> Value {
    json!({"NetworkConnectors": items, "NextMarker": next})
}

pub fn list() -> Vec<Row> {
    let summary = json!([{
        "Arn": "$connector", "Name": "$connector_name", "Id": "$connector_id", "Type": "VPC_EGRESS", "State": "ACTIVE",
        "LastModified": "<iso>", "LatestVersionArn": "$connector:1", "LatestVersion": 1,
    }]);
    let made = |row: Row| row.before(GetNetworkConnector, of("$connector"));
    vec![
        row(LEAST, json!({})).is(page(json!([]), Value::Null)),
        made(row(FULL, json!({"State": "ACTIVE", "MaxItems": 100})).is(page(summary.clone(), Value::Null))),
        made(row("a page with more behind it", json!({"MaxItems": 1})).is(page(summary, json!("<token>")))),
        made(row("of another state", json!({"State": "FAILED"})).is(page(json!([]), Value::Null))),
        row("a marker that it never returned", json!({"Marker": "AAAA"}))
            .refused(InvalidParameterValue, "Marker is not a marker that this list returned"),
    ]
}

pub fn versions() -> Vec<Row> {
    let version = |number: u32, reason: Value| {
        json!({
            "Arn": "$updated", "VersionArn": format!("$updated:{number}"), "Name": "$updated_name", "Id": "$updated_id",
            "Version": number, "State": "ACTIVE", "StateReason": reason, "StateReasonCode": null, "LastModified": "<iso>",
        })
    };
    let (first, second) = (version(1, json!("Initial creation")), version(2, Value::Null));
    let page = |items: Value, next: Value| json!({"NetworkConnectorVersions": items, "NextMarker": next});
    let full = with(of("$updated"), json!({"State": "ACTIVE", "MaxItems": 100}));
    let mut rows = vec![
        row(LEAST, of("$updated")).is(page(json!([second, first]), Value::Null)),
        row(FULL, full).is(page(json!([second, first]), Value::Null)),
        row("a page with more behind it", with(of("$updated"), json!({"MaxItems": 1})))
            .is(page(json!([second]), json!("<token>"))),
        row("of another state", with(of("$updated"), json!({"State": "FAILED"}))).is(page(json!([]), Value::Null)),
        row("a marker that it never returned", with(of("$updated"), json!({"Marker": "AAAA"})))
            .refused(InvalidParameterValue, "Marker is not a marker that this list returned"),
        qualified(),
    ];
    rows.extend(absent(ListNetworkConnectorVersions));
    rows
}

pub fn update() -> Vec<Row> {
    let updated = |version: u32, status: &str, reason: Value, more: Value| {
        let update = json!({"LastUpdateStatus": status, "LastUpdateStatusReason": reason, "LastModified": "<iso>"});
        with(with(connector("connector", version, json!({})), update), more)
    };
    let none =
        |version: u32, more: Value| updated(version, "Successful", json!("No configuration changes detected"), more);
    let under_way = |more: Value| updated(2, "InProgress", Value::Null, more);
    let to = |more: Value| with(of("$connector"), more);
    let part = json!({"Configuration": {"VpcEgressConfiguration": {"NetworkProtocol": "DualStack"}}});
    let token = json!({"ClientToken": "$fresh", "OperatorRole": "arn:aws:iam::111122223333:role/other"});
    let other = json!({"OperatorRole": "arn:aws:iam::111122223333:role/other"});
    let full = with(to(token.clone()), json!({"Configuration": full_vpc()}));
    let mut rows = vec![
        row(LEAST, of("$connector")).is(none(1, json!({}))),
        row(FULL, full).is(under_way(with(other.clone(), json!({"Configuration": full_vpc()})))),
        row("what it does not name stays", to(part)).is(under_way(json!({"Configuration": least_vpc(json!({
            "NetworkProtocol": "DualStack", "SecurityGroupIds": null, "ElasticIpConfiguration": null,
        }))}))),
        row("what it is already", to(json!({"OperatorRole": "$role"}))).is(none(1, json!({}))),
        row("the same token, the same parameters", to(token.clone()))
            .before(UpdateNetworkConnector, to(token.clone()))
            // It may have settled by now.
            .is(under_way(with(other, json!({"LastUpdateStatus": "<any>"})))),
        row("the same token, other parameters", to(json!({"ClientToken": "$fresh"})))
            .before(UpdateNetworkConnector, to(token))
            .refused(ResourceConflict, "The client token was used before with different parameters"),
        qualified(),
    ];
    rows.extend(absent(UpdateNetworkConnector));
    rows
}

pub fn delete() -> Vec<Row> {
    let gone = json!({"State": "DELETING"});
    let latest = "Cannot delete $updated:2, the latest version of its network connector; delete the connector instead";
    let mut rows = vec![
        row(LEAST, of("$connector"))
            // Nobody can ask for these afterwards.
            .before(GetNetworkConnector, of("$connector_name"))
            .before(GetNetworkConnector, of("$connector_id"))
            .is(connector("connector", 1, gone.clone())),
        row(FULL, of("$updated:1")).is(connector("updated", 1, gone)),
        row("the newest version", of("$updated:2")).refused(ResourceConflict, latest),
        row("the only version", of("$connector:1")).refused(
            ResourceConflict,
            "Cannot delete $connector:1, the latest version of its network connector; delete the connector instead",
        ),
    ];
    rows.extend(absent(DeleteNetworkConnector));
    rows
}
