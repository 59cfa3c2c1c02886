//! The API's endpoint over real sockets, with operations that only remember.

#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod connectors;
mod events;
mod keys;
mod logs;
mod s3;
mod stub;
mod throttle;
mod transport;

use api::*;
use client::Server;
use serde_json::{Value, json};
use stub::{ACCOUNT, KEY, PANICS, SECRET, WAITS};

const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";

fn create() -> Value {
    json!({
        "name": "demo",
        "codeArtifact": {"uri": "s3://bucket/artifact.zip"},
        "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
        "buildRoleArn": "arn:aws:iam::111122223333:role/build",
    })
}

async fn with_image() -> Server {
    let server = Server::start().await;
    let body = create().to_string();
    let answer = server.call("POST", "/2025-09-09/microvm-images").body(body.as_bytes()).send().await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    server
}

async fn run(server: &Server) -> MicrovmId {
    let body = json!({"imageIdentifier": IMAGE}).to_string();
    let answer = server.call("POST", "/2025-09-09/microvms").body(body.as_bytes()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<Microvm>(&answer.body).unwrap().microvm_id
}

#[tokio::test]
async fn create_echoes_defaults_and_nulls() {
    let server = Server::start().await;
    let body = create().to_string();
    let answer = server.call("POST", "/2025-09-09/microvm-images").body(body.as_bytes()).send().await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["content-type"], "application/json");
    let id = answer.headers["x-amzn-requestid"].to_str().unwrap().to_owned();
    assert_eq!(
        answer.json(),
        json!({
            "imageArn": IMAGE, "name": "demo", "state": "CREATING", "imageVersion": "1.0",
            "latestActiveImageVersion": null, "latestFailedImageVersion": null,
            "createdAt": 1790000000.123, "updatedAt": null,
            "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1", "baseImageVersion": "1.0",
            "buildRoleArn": "arn:aws:iam::111122223333:role/build", "description": null,
            "codeArtifact": {"uri": "s3://bucket/artifact.zip"}, "logging": null,
            "egressNetworkConnectors":
                ["arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"],
            "cpuConfigurations": null, "resources": [{"minimumMemoryInMiB": 2048}],
            "additionalOsCapabilities": null, "hooks": null, "environmentVariables": null, "tags": null,
        })
    );
    let callers = server.stub.callers.lock().unwrap();
    assert_eq!((callers[0].account.as_str(), callers[0].access_key_id.as_str()), (ACCOUNT, KEY));
    assert_eq!(callers[0].request_id.to_string(), id);
}

#[tokio::test]
async fn every_operation_answers_and_its_answer_reads_back() {
    let server = with_image().await;
    let image_identifier: ImageArn = IMAGE.parse().unwrap();
    let image_version = ImageVersion::FIRST;
    let microvm_identifier = run(&server).await;
    let build_id = BuildId::new(uuid::Uuid::nil());
    macro_rules! answers {
        ($($input:expr,)+) => {$({
            fn read<I: Input>(_: &I, body: &[u8]) -> Result<I::Output, serde_json::Error> { serde_json::from_slice(body) }
            let input = $input;
            let answer = server.send(&input).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            read(&input, &answer.body).unwrap();
        })+};
    }
    answers! {
        GetMicrovmImageInput { image_identifier: image_identifier.clone() },
        ListMicrovmImagesInput { name_filter: Some("em".to_owned()), ..Default::default() },
        GetMicrovmImageVersionInput { image_identifier: image_identifier.clone(), image_version },
        ListMicrovmImageVersionsInput { image_identifier: image_identifier.clone(), max_results: Some(50), next_token: None },
        GetMicrovmImageBuildInput { image_identifier: image_identifier.clone(), image_version, build_id },
        ListMicrovmImageBuildsInput {
            image_identifier: image_identifier.clone(), image_version, max_results: None, next_token: None,
            architecture: Some(Architecture::X86_64), chipset: Some(Chipset::Intel), chipset_generation: Some("1".to_owned()),
        },
        ListManagedMicrovmImagesInput::default(),
        ListManagedMicrovmImageVersionsInput {
            image_identifier: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1".parse().unwrap(),
            max_results: None, next_token: None,
        },
        GetMicrovmInput { microvm_identifier },
        ListMicrovmsInput { image_identifier: Some(image_identifier.clone()), next_token: Some("a=/+ b".to_owned()), ..Default::default() },
        SuspendMicrovmInput { microvm_identifier },
        ResumeMicrovmInput { microvm_identifier },
        CreateMicrovmAuthTokenInput {
            microvm_identifier, expiration_in_minutes: 60,
            allowed_ports: vec![
                PortSpecification::Port(8080), PortSpecification::AllPorts(Unit {}),
                PortSpecification::Range(PortRange { start_port: 1, end_port: 2 }),
            ],
        },
        TerminateMicrovmInput { microvm_identifier },
        DeleteMicrovmImageInput { image_identifier: image_identifier.clone() },
    }
    let suspend = server.send(&SuspendMicrovmInput { microvm_identifier }).await;
    assert_eq!(suspend.text(), "{}");
    let page = server.send(&ListMicrovmsInput { next_token: Some("a=/+ b".to_owned()), ..Default::default() }).await;
    assert_eq!(page.json()["nextToken"], "a=/+ b");
}

#[tokio::test]
async fn arns_may_travel_raw() {
    let server = with_image().await;
    let path = format!("/2025-09-09/microvm-images/{IMAGE}");
    assert_eq!(server.call("GET", &path).send().await.status, 200);
}

#[tokio::test]
async fn all_violations_come_in_one_message() {
    let server = Server::start().await;
    let answer = server.call("POST", "/2025-09-09/microvm-images").body(br#"{"name":"a b"}"#).send().await;
    assert_eq!((answer.status, answer.error_type()), (400, "ValidationException"));
    assert_eq!(
        answer.message(),
        "4 validation errors detected: \
         Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+; \
         Value null at 'baseImageArn' failed to satisfy constraint: Member must not be null; \
         Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; \
         Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null"
    );
}

#[tokio::test]
async fn errors_have_the_service_s_shape() {
    let server = with_image().await;
    let id = "microvm-11111111-2222-3333-4444-555555555555";
    let missing = server.call("GET", &format!("/2025-09-09/microvms/{id}")).send().await;
    assert_eq!((missing.status, missing.error_type()), (404, "ResourceNotFoundException"));
    let expected = json!({"message": format!("MicroVM not found: {id}"), "resourceId": null, "resourceType": null});
    assert_eq!(missing.json(), expected);

    let body = create().to_string();
    let twice = server.call("POST", "/2025-09-09/microvm-images").body(body.as_bytes()).send().await;
    assert_eq!(twice.message(), "A MicroVM image with the name 'demo' already exists in this account");

    let unparseable = server.call("POST", "/2025-09-09/microvms").body(b"{").send().await;
    assert_eq!((unparseable.status, unparseable.text().as_str()), (400, r#"{"message":null}"#));

    let path = format!("/2025-09-09/microvms/{id}/auth-token");
    let flag = br#"{"expirationInMinutes":5,"allowedPorts":[{"allPorts":true}]}"#;
    let union = server.call("POST", &path).body(flag).send().await;
    assert_eq!((union.status, union.text().as_str()), (400, r#"{"Message":"Expected null"}"#));

    let unknown = server.call("PUT", "/2025-09-09/microvms").send().await;
    assert_eq!((unknown.status, unknown.error_type()), (404, "UnknownOperationException"));
}

#[tokio::test]
async fn only_right_signatures_pass() {
    let server = Server::start().await;
    let list = || server.call("GET", "/2025-09-09/microvms");
    assert_eq!(list().send().await.status, 200);
    for (call, name, words) in [
        (list().key("AKIAUNKNOWN", SECRET), "UnrecognizedClientException", "security token"),
        (list().key(KEY, "wrong"), "InvalidSignatureException", "does not match"),
        (list().skew(-901), "InvalidSignatureException", "Signature expired"),
        (list().skew(960), "InvalidSignatureException", "not yet current"),
        (list().region("eu-west-1"), "InvalidSignatureException", "valid region"),
        (list().service("iam"), "UnknownOperationException", "'iam'"),
    ] {
        let answer = call.send().await;
        assert_eq!(answer.error_type(), name, "{}", answer.text());
        assert!(answer.message().contains(words), "{}", answer.text());
        assert!(answer.headers.contains_key("x-amzn-requestid"));
        assert!(!answer.text().contains(SECRET));
    }
    let swapped = server.call("POST", "/2025-09-09/microvms").body(b"{}").send_swapped(b"[]").await;
    assert_eq!((swapped.status, swapped.error_type()), (403, "InvalidSignatureException"));
    let none = list().send_unsigned().await;
    assert_eq!((none.status, none.error_type()), (403, "MissingAuthenticationTokenException"));
    let garbled = list().header("authorization", "AWS4-HMAC-SHA256 x").send_unsigned().await;
    assert_eq!((garbled.status, garbled.error_type()), (403, "IncompleteSignatureException"));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = Server::start().await;
    let body = vec![b' '; 6 * 1024 * 1024 + 1];
    let answer = server.call("POST", "/2025-09-09/microvms").body(&body).send().await;
    assert_eq!((answer.status, answer.error_type()), (413, "RequestEntityTooLargeException"));
    let body = vec![b' '; 6 * 1024 * 1024];
    let answer = server.call("POST", "/2025-09-09/microvms").body(&body).send().await;
    assert_eq!((answer.status, answer.text().as_str()), (400, r#"{"message":null}"#));
}

#[tokio::test]
async fn a_panic_answers_500_and_the_server_lives_on() {
    let server = Server::start().await;
    let path = format!("/2025-09-09/microvms/{PANICS}");
    let answer = server.call("GET", &path).send().await;
    assert_eq!((answer.status, answer.error_type()), (500, "InternalServerException"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(server.call("GET", "/2025-09-09/microvms").send().await.status, 200);
}

#[tokio::test]
async fn an_operation_ends_though_its_client_went_away() {
    let server = Server::start().await;
    let path = format!("/2025-09-09/microvms/{WAITS}");
    let mut call = Box::pin(server.call("GET", &path).send());
    tokio::select! {
        answer = &mut call => panic!("answered {answer:?}"),
        permit = server.stub.entered.acquire() => permit.unwrap().forget(),
    }
    drop(call);
    server.stub.gate.add_permits(1);
    server.stub.left.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn requests_under_way_are_finished_at_the_end() {
    let server = Server::start().await;
    let path = format!("/2025-09-09/microvms/{WAITS}");
    let mut call = Box::pin(server.call("GET", &path).send());
    tokio::select! {
        answer = &mut call => panic!("answered {answer:?}"),
        permit = server.stub.entered.acquire() => permit.unwrap().forget(),
    }
    server.shutdown.cancel();
    server.stub.gate.add_permits(1);
    assert_eq!(call.await.status, 404);
    let Server { task, address, .. } = server;
    task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn sts_knows_the_account() {
    let server = Server::start().await;
    let ask = |action: &'static [u8]| server.call("POST", "/").service("sts").body(action);
    let answer = ask(b"Action=GetCallerIdentity&Version=2011-06-15").send().await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("<Account>111122223333</Account>"), "{}", answer.text());
    let other = ask(b"Action=GetCallerIdentity").key("AKIAHEARTH00000EDGE2", SECRET).send().await;
    assert!(other.text().contains("<Account>444455556666</Account>"));
    let action = ask(b"Action=AssumeRole").send().await;
    assert_eq!(action.status, 400);
    assert!(action.text().contains("<Code>InvalidAction</Code>"));
    let unknown = ask(b"Action=GetCallerIdentity").key("AKIAUNKNOWN", SECRET).send().await;
    assert_eq!(unknown.status, 403);
    assert!(unknown.text().contains("<Code>InvalidClientTokenId</Code>"));
}
