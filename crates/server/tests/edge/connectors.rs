//! `lambda-core` over the wire: statuses, member names, what is refused before any operation is asked.

use api::*;
use serde_json::{Value, json};

use crate::{client::Server, stub::BROKEN};

const PATH: &str = "/2026-04-04/network-connectors";

fn create() -> Value {
    json!({
        "Name": "vpc", "ClientToken": "once", "OperatorRole": "arn:aws:iam::111122223333:role/operator",
        "Configuration": {"VpcEgressConfiguration": {
            "SubnetIds": ["subnet-0a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"],
        }},
    })
}

/// [`create`] with the member at that JSON pointer changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = create();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[name] = value;
    body
}

const VPC: &str = "/Configuration/VpcEgressConfiguration";

async fn post(server: &Server, body: &Value) -> crate::client::Answer {
    server.call("POST", PATH).body(body.to_string().as_bytes()).send().await
}

#[tokio::test]
async fn every_operation_answers_and_its_answer_reads_back() {
    let server = Server::start().await;
    let answer = post(&server, &create()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let made: CreateNetworkConnectorOutput = serde_json::from_slice(&answer.body).unwrap();
    let (arn, id) = (made.arn.to_string(), made.id.to_string());
    assert_eq!(
        answer.json(),
        json!({
            "Arn": arn, "Name": "vpc", "Id": id, "VersionArn": format!("{arn}:1"), "Version": 1,
            "Configuration": {"VpcEgressConfiguration": {
                "SubnetIds": ["subnet-0a"], "SecurityGroupIds": null, "NetworkProtocol": "IPv4",
                "AssociatedComputeResourceTypes": ["MicroVm"], "ElasticIpConfiguration": null,
            }},
            "OperatorRole": "arn:aws:iam::111122223333:role/operator", "State": "PENDING",
        })
    );
    macro_rules! answers {
        ($($status:literal $input:expr,)+) => {$({
            fn read<I: Input>(_: &I, body: &[u8]) -> Result<I::Output, serde_json::Error> { serde_json::from_slice(body) }
            let input = $input;
            let answer = server.send(&input).await;
            assert_eq!(answer.status, $status, "{}", answer.text());
            read(&input, &answer.body).unwrap();
        })+};
    }
    let identifier = ConnectorIdentifier::Arn(made.version_arn.unwrap());
    answers! {
        200 GetNetworkConnectorInput { identifier: ConnectorIdentifier::Id(made.id) },
        200 GetNetworkConnectorInput { identifier: ConnectorIdentifier::Name(made.name) },
        200 GetNetworkConnectorInput { identifier: identifier.clone() },
        200 ListNetworkConnectorsInput { state: Some(ConnectorState::Pending), marker: Some("a=/+ b".to_owned()), max_items: Some(100) },
        200 ListNetworkConnectorVersionsInput { identifier: identifier.clone(), state: None, marker: None, max_items: Some(1) },
        202 UpdateNetworkConnectorInput {
            identifier: identifier.clone(), configuration: made.configuration, operator_role: None, client_token: None,
        },
    }
    let list = server.call("GET", PATH).query("State=PENDING").send().await.json();
    assert_eq!(list["NetworkConnectors"][0]["Type"], "VPC_EGRESS");
    assert_eq!(list["NetworkConnectors"][0]["LastModified"], "2026-09-21T14:13:20.123Z");
    assert_eq!(list["NextMarker"], Value::Null);
    answers! { 202 DeleteNetworkConnectorInput { identifier }, }
}

#[tokio::test]
async fn each_missing_member_is_told_by_itself() {
    let server = Server::start().await;
    let needs = |what: &str| format!("{what} is required for VPC_EGRESS connector type");
    for (pointer, message) in [
        ("/ClientToken", "ClientToken is a required field".to_owned()),
        ("/OperatorRole", needs("NetworkConnectorOperatorRole")),
        (&format!("{VPC}/NetworkProtocol"), needs("NetworkProtocol")),
        (&format!("{VPC}/AssociatedComputeResourceTypes"), needs("AssociatedComputeResourceTypes")),
        (&format!("{VPC}/SubnetIds"), needs("SubnetIds")),
    ] {
        let answer = post(&server, &with(pointer, Value::Null)).await;
        assert_eq!((answer.status, answer.error_type()), (400, "InvalidParameterValueException"), "{pointer}");
        assert_eq!(answer.json(), json!({"Type": "User", "message": message}));
    }
}

#[tokio::test]
async fn bounds_come_first_and_all_at_once() {
    let server = Server::start().await;
    let arn = "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-1";
    let inside = [
        ("/Name", json!("n".repeat(64))),
        ("/ClientToken", json!("t".repeat(64))),
        (&format!("{VPC}/SubnetIds"), json!(vec!["subnet-0"; 16])),
        (&format!("{VPC}/SecurityGroupIds"), json!(vec!["sg-0"; 16])),
        (&format!("{VPC}/SecurityGroupIds"), json!([])),
        (&format!("{VPC}/ElasticIpConfiguration"), json!({"Type": "ServiceManaged"})),
    ];
    for (pointer, value) in inside {
        let answer = post(&server, &with(pointer, value)).await;
        assert_eq!(answer.status, 202, "{pointer}: {}", answer.text());
    }
    let outside = [
        ("/Name", json!("n".repeat(65)), "'Name'"),
        ("/Name", json!("a.b"), "[a-zA-Z0-9_-]{1,64}"),
        ("/Name", Value::Null, "Value null at 'Name'"),
        ("/Configuration", Value::Null, "Value null at 'Configuration'"),
        ("/Configuration", json!({}), "exactly one of [VpcEgressConfiguration]"),
        ("/ClientToken", json!("t".repeat(65)), "less than or equal to 64"),
        ("/ClientToken", json!(""), "greater than or equal to 1"),
        ("/OperatorRole", json!("operator"), "'OperatorRole'"),
        ("/Tags", json!({"": "v"}), "'Tags'"),
        (&format!("{VPC}/SubnetIds"), json!([]), "greater than or equal to 1"),
        (&format!("{VPC}/SubnetIds"), json!(vec!["subnet-0"; 17]), "less than or equal to 16"),
        (&format!("{VPC}/SubnetIds"), json!(["vpc-0"]), "subnet-[0-9a-z]*"),
        (&format!("{VPC}/SecurityGroupIds"), json!(vec!["sg-0"; 17]), "less than or equal to 16"),
        (&format!("{VPC}/SecurityGroupIds"), json!(["sg_0"]), "sg-[0-9a-zA-Z]*"),
        (&format!("{VPC}/NetworkProtocol"), json!("IPv6"), "[IPv4, DualStack]"),
        (
            &format!("{VPC}/AssociatedComputeResourceTypes"),
            json!(["MicroVm", "WebFunction"]),
            "less than or equal to 1",
        ),
        (&format!("{VPC}/AssociatedComputeResourceTypes"), json!(["Function"]), "[MicroVm, WebFunction]"),
        (&format!("{VPC}/ElasticIpConfiguration"), json!({}), "ElasticIpConfiguration.Type"),
    ];
    for (pointer, value, words) in outside {
        let answer = post(&server, &with(pointer, value)).await;
        assert_eq!((answer.status, answer.error_type()), (400, "ValidationException"), "{pointer}");
        assert!(answer.message().contains(words), "{pointer}: {}", answer.text());
    }
    let answer = post(&server, &json!({"Name": "a b"})).await;
    assert!(answer.message().starts_with("2 validation errors detected"), "{}", answer.text());
    // An ARN fits the pattern, as does an id, and both are no names.
    for name in [arn, "nc-11111111-2222-3333-4444-555555555555"] {
        let answer = post(&server, &with("/Name", json!(name))).await;
        assert_eq!((answer.status, answer.error_type()), (400, "InvalidParameterValueException"), "{name}");
    }
    let answer = post(&server, &with("/Tags", json!({"aws:x": "v"}))).await;
    assert_eq!((answer.status, answer.error_type()), (400, "InvalidParameterValueException"));
    for (query, status) in [("MaxItems=100", 200), ("MaxItems=101", 400), ("MaxItems=0", 400), ("State=GONE", 400)] {
        assert_eq!(server.call("GET", PATH).query(query).send().await.status, status, "{query}");
    }
}

#[tokio::test]
async fn errors_have_the_shape_of_this_service() {
    let server = Server::start().await;
    for identifier in ["nothing", "nc-11111111-2222-3333-4444-555555555555", "a%20b", "arn:aws:lambda:x:aws:y"] {
        let answer = server.call("GET", &format!("{PATH}/{identifier}")).send().await;
        assert_eq!((answer.status, answer.error_type()), (404, "ResourceNotFoundException"), "{identifier}");
        let named = identifier.replace("%20", " ");
        assert_eq!(answer.json(), json!({"Type": "User", "Message": format!("Network connector not found: {named}")}));
    }
    let answer = server.call("GET", &format!("{PATH}/{}", "n".repeat(141))).send().await;
    assert_eq!((answer.status, answer.error_type()), (400, "ValidationException"));
    let answer = server.call("DELETE", &format!("{PATH}/{BROKEN}")).send().await;
    assert_eq!((answer.status, answer.error_type()), (500, "ServiceException"));
    assert_eq!(answer.json()["Type"], "Service");
    let answer = server.call("POST", PATH).body(b"{").send().await;
    assert_eq!((answer.status, answer.text().as_str()), (400, r#"{"message":null}"#));
    let answer = server.call("PATCH", PATH).send().await;
    assert_eq!((answer.status, answer.error_type()), (404, "UnknownOperationException"));
}
