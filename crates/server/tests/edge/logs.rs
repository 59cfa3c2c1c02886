//! CloudWatch Logs' operations, and hearth's own route, over the endpoint.

use serde_json::{Value, json};

use crate::{
    client::{Answer, Server},
    stub::{ACCOUNT, OTHER_ACCOUNT, OTHER_KEY, SECRET},
};

const GROUP: &str = "/aws/lambda-microvms/hello";

async fn server() -> Server {
    let server = Server::start().await;
    write(&server, ACCOUNT, "build/1.0/a", &["one", "two", "three"]);
    server
}

fn write(server: &Server, account: &str, stream: &str, lines: &[&str]) {
    let stream = server.logs.stream(&account.parse().unwrap(), GROUP, stream).unwrap();
    for (line, t) in lines.iter().zip(1_790_000_000_000..) {
        stream.append(t, line).unwrap();
    }
}

async fn raw(server: &Server, target: &str, body: &str, key: &str) -> Answer {
    let call = server.call("POST", "/").service("logs").key(key, SECRET).body(body.as_bytes());
    call.header("x-amz-target", target).header("content-type", "application/x-amz-json-1.1").send().await
}

async fn ask(server: &Server, operation: &str, body: Value) -> Answer {
    raw(server, &format!("Logs_20140328.{operation}"), &body.to_string(), crate::stub::KEY).await
}

fn messages(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["events"].as_array().unwrap().iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_four_operations_answer_as_the_service_does() {
    let server = server().await;
    let groups = ask(&server, "DescribeLogGroups", json!({})).await;
    assert_eq!((groups.status, &groups.headers["content-type"]), (200, &"application/x-amz-json-1.1".parse().unwrap()));
    let (arn, mut groups) = (format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{GROUP}"), groups.json());
    assert!(groups["logGroups"][0]["creationTime"].take().is_u64());
    assert!(groups["logGroups"][0]["storedBytes"].take().as_u64().unwrap() > 0);
    let group = json!({"logGroupName": GROUP, "creationTime": null, "metricFilterCount": 0, "arn": format!("{arn}:*"),
        "storedBytes": null, "logGroupClass": "STANDARD", "logGroupArn": arn});
    assert_eq!(groups, json!({"logGroups": [group]}));

    let streams = ask(&server, "DescribeLogStreams", json!({"logGroupIdentifier": arn})).await.json();
    let stream = json!({"logStreamName": "build/1.0/a", "creationTime": 1790000000000_u64,
        "firstEventTimestamp": 1790000000000_u64, "lastEventTimestamp": 1790000000002_u64,
        "lastIngestionTime": 1790000000002_u64, "arn": format!("{arn}:log-stream:build/1.0/a"), "storedBytes": 0});
    assert_eq!(streams, json!({"logStreams": [stream]}));

    let get = json!({"logGroupName": GROUP, "logStreamName": "build/1.0/a", "limit": 2, "unmask": false});
    let page = ask(&server, "GetLogEvents", get).await;
    assert_eq!(messages(&page), ["two", "three"]);
    let event = json!({"timestamp": 1790000000001_u64, "message": "two", "ingestionTime": 1790000000001_u64});
    assert_eq!(page.json()["events"][0], event);
    let token = page.json()["nextBackwardToken"].as_str().unwrap().to_owned();
    let back = json!({"logGroupName": GROUP, "logStreamName": "build/1.0/a", "nextToken": token});
    assert_eq!(messages(&ask(&server, "GetLogEvents", back).await), ["one"]);

    let found = ask(&server, "FilterLogEvents", json!({"logGroupName": GROUP, "filterPattern": "?one ?three"})).await;
    assert_eq!(messages(&found), ["one", "three"]);
    let (found, id) = (found.json(), found.json()["events"][0]["eventId"].clone());
    assert_eq!((&found["searchedLogStreams"], found.get("nextToken")), (&json!([]), None));
    let event = json!({"logStreamName": "build/1.0/a", "timestamp": 1790000000000_u64, "message": "one",
        "ingestionTime": 1790000000000_u64, "eventId": id});
    assert_eq!(found["events"][0], event);
}

#[tokio::test]
async fn refusals_are_spelled_as_the_service_does() {
    let server = server().await;
    for (operation, body, kind, words) in [
        (
            "DescribeLogStreams",
            json!({"logGroupName": "none"}),
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logStreamName": "none"}),
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logStreamName": "build/1.0/a", "nextToken": "forged"}),
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": "../x", "logStreamName": "a"}),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "nextToken": "forged"}),
            "InvalidParameterException",
            "nextToken",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "filterPattern": "[a, b]"}),
            "InvalidParameterException",
            "not supported",
        ),
        (
            "DescribeLogGroups",
            json!({"limit": 51}),
            "InvalidParameterException",
            "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 50",
        ),
        ("DescribeLogGroups", json!({"limit": "x"}), "SerializationException", ""),
        ("DescribeLogGroups", json!({"nextToken": "forged"}), "InvalidParameterException", "nextToken"),
        ("PutLogEvents", json!({}), "UnknownOperationException", "Logs_20140328.PutLogEvents is not served here"),
    ] {
        let answer = ask(&server, operation, body.clone()).await;
        let said = answer.json();
        assert_eq!((answer.status, said["__type"].as_str()), (400, Some(kind)), "{operation} {body}: {said}");
        assert!(said["message"].as_str().unwrap_or_default().contains(words), "{said}");
    }
    for target in ["", "Logs_20140328.", "Logs_20150101.GetLogEvents", "GetLogEvents"] {
        let answer = raw(&server, target, "{}", crate::stub::KEY).await;
        assert_eq!(answer.json()["__type"], "UnknownOperationException", "{target}");
    }
    let unsigned = server.call("POST", "/").header("x-amz-target", "Logs_20140328.GetLogEvents").send_unsigned().await;
    assert_eq!(unsigned.json()["__type"], "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn accounts_have_groups_of_the_same_name_and_never_see_each_other_s() {
    let server = server().await;
    let other = |operation: &str, body: Value| {
        let (target, server) = (format!("Logs_20140328.{operation}"), &server);
        async move { raw(server, &target, &body.to_string(), OTHER_KEY).await }
    };
    assert_eq!(other("DescribeLogGroups", json!({})).await.json(), json!({"logGroups": []}));
    let get = json!({"logGroupName": GROUP, "logStreamName": "build/1.0/a"});
    assert_eq!(other("GetLogEvents", get.clone()).await.json()["__type"], "ResourceNotFoundException");
    let ours = format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{GROUP}");
    write(&server, OTHER_ACCOUNT, "build/1.0/a", &["theirs"]);
    assert_eq!(messages(&other("GetLogEvents", get.clone()).await), ["theirs"]);
    let by_arn = json!({"logGroupIdentifier": ours, "logStreamName": "build/1.0/a"});
    assert_eq!(other("GetLogEvents", by_arn).await.json()["__type"], "ResourceNotFoundException");
    let token = ask(&server, "GetLogEvents", get.clone()).await.json()["nextBackwardToken"].clone();
    let with_ours = json!({"logGroupName": GROUP, "logStreamName": "build/1.0/a", "nextToken": token});
    assert_eq!(other("GetLogEvents", with_ours).await.json()["message"], "The specified nextToken is invalid.");
    assert_eq!(
        messages(&ask(&server, "FilterLogEvents", json!({"logGroupName": GROUP})).await),
        ["one", "two", "three"]
    );

    let query = format!("group={}", api::sigv4::percent::encode(GROUP));
    let own = |key| server.call("GET", "/hearth/v1/logs").query(&query).key(key, SECRET).send();
    assert_eq!(own(OTHER_KEY).await.text().lines().count(), 1);
    assert_eq!(own(crate::stub::KEY).await.text().lines().count(), 3);
}

#[tokio::test]
async fn hearths_own_route_streams_more_than_a_chunk() {
    let server = Server::start().await;
    let line = "x".repeat(100_000);
    write(&server, ACCOUNT, "a", &[line.as_str(); 25]);
    write(&server, ACCOUNT, "b", &["short"]);
    let get = async |query: &str| server.call("GET", "/hearth/v1/logs").query(query).send().await.text();
    let (group, all) = (api::sigv4::percent::encode(GROUP), 26);
    assert_eq!(get(&format!("group={group}")).await.lines().count(), all);
    assert_eq!(get(&format!("group={group}&after=24")).await.lines().count(), 1);
}
