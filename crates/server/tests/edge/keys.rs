//! Access keys over HTTP: the route that manages them, sessions, and who may do what.

use serde_json::{Value, json};

use crate::{
    client::{Answer, Server},
    stub::{KEY, SECRET},
};

const PATH: &str = "/hearth/v1/keys";
const MANAGE: &str = r#"{"Statement":[{"Effect":"Allow","Action":"hearth:*","Resource":"arn:aws:iam::111122223333:user/*"},
    {"Effect":"Deny","Action":"hearth:DeleteKey","Resource":"*"}]}"#;

struct Key {
    id: String,
    secret: String,
}

async fn ask(server: &Server, key: &Key, method: &str, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.call(method, path).key(&key.id, &key.secret).body(body.as_bytes()).send().await
}

fn root() -> Key {
    Key { id: KEY.into(), secret: SECRET.into() }
}

async fn create(server: &Server, body: Value) -> Key {
    let answer = ask(server, &root(), "POST", PATH, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    Key { id: text("accessKeyId"), secret: text("secretAccessKey") }
}

async fn of(server: &Server, key: &Key, verb: &str) -> Answer {
    let method = if verb.is_empty() { "DELETE" } else { "POST" };
    ask(server, &root(), method, &format!("{PATH}/{}{verb}", key.id), Value::Null).await
}

#[tokio::test]
async fn a_key_s_life() {
    let server = Server::start().await;
    let ci = create(&server, json!({"user": "ci", "account": "222222222222"})).await;
    let list = || ask(&server, &ci, "GET", "/2025-09-09/microvms", Value::Null);
    assert_eq!(list().await.status, 200, "the stub asks for no permission");
    let shown = ask(&server, &root(), "GET", PATH, Value::Null).await;
    assert!(!shown.text().contains(&ci.secret) && !shown.text().contains(SECRET));
    let entry = &shown.json()["keys"][1];
    assert_eq!(
        (&entry["accessKeyId"], &entry["arn"], &entry["status"], &entry["policy"], entry.get("secretAccessKey")),
        (&json!(ci.id), &json!("arn:aws:iam::222222222222:user/ci"), &json!("Active"), &Value::Null, None)
    );

    assert_eq!(of(&server, &ci, "/disable").await.json()["status"], "Inactive");
    assert_eq!(list().await.error_type(), "UnrecognizedClientException");
    assert_eq!(of(&server, &ci, "/enable").await.json()["status"], "Active");
    assert_eq!(list().await.status, 200);

    let new = of(&server, &ci, "/rotate").await.json();
    assert_eq!((&new["user"], &new["account"]), (&json!("ci"), &json!("222222222222")));
    assert_eq!(list().await.error_type(), "UnrecognizedClientException");
    let new = Key {
        id: new["accessKeyId"].as_str().unwrap().into(),
        secret: new["secretAccessKey"].as_str().unwrap().into(),
    };
    assert_eq!(ask(&server, &new, "GET", "/2025-09-09/microvms", Value::Null).await.status, 200);

    assert_eq!(of(&server, &new, "").await.text(), "{}");
    assert_eq!(ask(&server, &new, "GET", "/2025-09-09/microvms", Value::Null).await.status, 403);
    let gone = of(&server, &new, "").await;
    assert_eq!((gone.status, gone.error_type()), (404, "ResourceNotFoundException"));
    let last = of(&server, &root(), "").await;
    assert_eq!((last.status, last.error_type()), (409, "ConflictException"));
    assert!(last.message().contains("last usable root key"), "{}", last.text());
}

#[tokio::test]
async fn keys_are_managed_by_root_and_whom_a_policy_allows() {
    let server = Server::start().await;
    let nobody = create(&server, json!({"user": "nobody"})).await;
    let manager = create(&server, json!({"user": "manager", "policy": MANAGE})).await;
    let other_root = create(&server, json!({"user": "root", "account": "222222222222"})).await;
    let other = create(&server, json!({"user": "manager", "account": "222222222222", "policy": MANAGE})).await;
    let new = || json!({"user": "new"});
    let elsewhere = json!({"user": "new", "account": "222222222222"});
    let id = |key: &Key, verb: &str| format!("{PATH}/{}{verb}", key.id);
    for (key, method, path, body, status) in [
        (&nobody, "GET", PATH.to_owned(), Value::Null, 403),
        (&nobody, "POST", PATH.to_owned(), new(), 403),
        (&nobody, "POST", id(&manager, "/disable"), Value::Null, 403),
        (&nobody, "DELETE", format!("{PATH}/AKIANOBODY"), Value::Null, 403),
        (&manager, "POST", PATH.to_owned(), new(), 200),
        (&manager, "POST", PATH.to_owned(), elsewhere.clone(), 403),
        (&manager, "POST", PATH.to_owned(), json!({"user": "root"}), 403),
        (&manager, "POST", id(&nobody, "/disable"), Value::Null, 200),
        (&manager, "DELETE", id(&nobody, ""), Value::Null, 403),
        (&manager, "POST", id(&root(), "/rotate"), Value::Null, 403),
        // Neither of these is there for the manager, whose policy does not reach everything in the account.
        (&manager, "POST", id(&other, "/disable"), Value::Null, 403),
        (&manager, "POST", format!("{PATH}/AKIANOBODY/disable"), Value::Null, 403),
        (&other_root, "GET", PATH.to_owned(), Value::Null, 403),
        (&other_root, "POST", PATH.to_owned(), elsewhere.clone(), 403),
        (&root(), "POST", PATH.to_owned(), elsewhere, 200),
        (&root(), "POST", id(&other, "/disable"), Value::Null, 200),
        (&root(), "DELETE", format!("{PATH}/AKIANOBODY"), Value::Null, 404),
    ] {
        let answer = ask(&server, key, method, &path, body.clone()).await;
        assert_eq!(answer.status, status, "{} {method} {path} {body}: {}", key.id, answer.text());
        assert!(status != 403 || answer.error_type() == "AccessDeniedException", "{}", answer.text());
    }
    let denied = ask(&server, &nobody, "GET", PATH, Value::Null).await;
    assert_eq!(denied.error_type(), "UnrecognizedClientException", "it was disabled");
    let denied = ask(&server, &manager, "POST", PATH, json!({"user": "root"})).await;
    assert_eq!(
        denied.message(),
        "User: arn:aws:iam::111122223333:user/manager is not authorized to perform: hearth:CreateKey on resource: \
         arn:aws:iam::111122223333:root because no identity-based policy allows the hearth:CreateKey action"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let server = Server::start().await;
    for (method, path, body, status, words) in [
        ("POST", PATH.to_owned(), "{", 400, "the request's body"),
        ("POST", PATH.to_owned(), r#"{"user":"a","polcy":"x"}"#, 400, "unknown field `polcy`"),
        ("POST", PATH.to_owned(), r#"{"user":"a b"}"#, 400, "user must be 1 to 64"),
        ("POST", PATH.to_owned(), r#"{"user":"a","account":"12"}"#, 400, "12 digits"),
        ("POST", PATH.to_owned(), r#"{"user":"a","policy":"{}"}"#, 400, "has no Statement"),
        (
            "POST",
            PATH.to_owned(),
            r#"{"user":"root","policy":"{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}}"}"#,
            400,
            "takes no policy",
        ),
        ("PUT", format!("{PATH}/{KEY}/policy"), r#"{"policy":"{}"}"#, 400, "takes no policy"),
        ("GET", format!("{PATH}/{KEY}"), "", 404, "No operation on access keys"),
    ] {
        let answer = server.call(method, &path).body(body.as_bytes()).send().await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.message().contains(words), "{}", answer.text());
    }
}

#[tokio::test]
async fn sessions() {
    let server = Server::start().await;
    let ci = create(&server, json!({"user": "ci", "account": "222222222222"})).await;
    let sts = |body: &'static str| server.call("POST", "/").service("sts").body(body.as_bytes());
    let issued = sts("Action=GetSessionToken&DurationSeconds=900").key(&ci.id, &ci.secret).send().await;
    assert_eq!(issued.status, 200, "{}", issued.text());
    let xml = issued.text();
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let (id, secret, token) = (element("AccessKeyId"), element("SecretAccessKey"), element("SessionToken"));
    assert!(id.starts_with("ASIA") && element("Expiration").ends_with('Z'), "{xml}");

    let list = || server.call("GET", "/2025-09-09/microvms");
    assert_eq!(list().key(&id, &secret).token(&token).send().await.status, 200);
    let whoami = sts("Action=GetCallerIdentity").key(&id, &secret).token(&token).send().await.text();
    assert!(whoami.contains("<Arn>arn:aws:iam::222222222222:user/ci</Arn>"), "{whoami}");
    let other = sts("Action=GetSessionToken").key(&ci.id, &ci.secret).send().await.text();
    let other = other.split_once("<SessionToken>").unwrap().1.split_once('<').unwrap().0.to_owned();
    for (call, name) in [
        (list().key(&id, &secret), "UnrecognizedClientException"),
        (list().key(&id, &secret).token("garbage"), "UnrecognizedClientException"),
        (list().key(&id, &secret).token(""), "UnrecognizedClientException"),
        (list().key(&id, &secret).token(&other), "UnrecognizedClientException"),
        (list().key(&ci.id, &ci.secret).token(&token), "UnrecognizedClientException"),
        (list().key(&id, "wrong").token(&token), "InvalidSignatureException"),
        (list().key(&id, &secret).header("x-amz-security-token", &token), "InvalidSignatureException"),
    ] {
        let answer = call.send().await;
        assert_eq!((answer.status, answer.error_type()), (403, name), "{}", answer.text());
        assert!(
            name != "UnrecognizedClientException"
                || answer.message().ends_with("token included in the request is invalid.")
        );
    }
    let again = sts("Action=GetSessionToken").key(&id, &secret).token(&token).send().await;
    assert_eq!(again.status, 403);
    assert!(again.text().contains("<Code>AccessDenied</Code>"), "{}", again.text());
    for (body, words) in [
        ("Action=GetSessionToken&DurationSeconds=899", "greater than or equal to 900"),
        ("Action=GetSessionToken&DurationSeconds=129601", "less than or equal to 129600"),
        ("Action=GetSessionToken&DurationSeconds=long", "is not an integer"),
    ] {
        let answer = sts(body).send().await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("<Code>ValidationError</Code>") && answer.text().contains(words));
    }
    let short = sts("Action=GetSessionToken&DurationSeconds=900").send().await.text();
    assert!(short.contains("ASIA"), "root may have one too: {short}");
    let managed = server.call("GET", PATH).key(&id, &secret).token(&token).send().await;
    assert!(managed.message().ends_with("cannot be managed with a session token"), "{}", managed.text());

    let old = server.access.issue(KEY, 1_700_000_000).unwrap();
    let (old_secret, old_token) = (old.secret.expose(), old.token.expose());
    let expired = list().key(&old.access_key_id, old_secret).token(old_token).send().await;
    assert_eq!((expired.status, expired.error_type()), (403, "ExpiredTokenException"));
    assert_eq!(expired.message(), "The security token included in the request is expired");
    let expired = sts("Action=GetCallerIdentity").key(&old.access_key_id, old_secret).token(old_token).send().await;
    assert!(expired.status == 403 && expired.text().contains("<Code>ExpiredToken</Code>"), "{}", expired.text());

    assert_eq!(of(&server, &ci, "/disable").await.status, 200);
    let dead = list().key(&id, &secret).token(&token).send().await;
    assert_eq!((dead.status, dead.error_type()), (403, "UnrecognizedClientException"));
}

#[tokio::test]
async fn log_lines_need_a_permission() {
    let server = Server::start().await;
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"logs:FilterLogEvents",
        "Resource":"arn:aws:logs:us-east-1:111122223333:log-group:/aws/lambda-microvms/demo"}}"#;
    let reader = create(&server, json!({"user": "reader", "policy": policy})).await;
    for (group, status) in [("demo", 200), ("other", 403)] {
        let query = format!("group=/aws/lambda-microvms/{group}");
        let call = server.call("GET", "/hearth/v1/logs").query(&query).key(&reader.id, &reader.secret);
        assert_eq!(call.send().await.status, status, "{group}");
    }
}

#[tokio::test]
async fn cloudwatch_logs_asks_for_permission() {
    let server = Server::start().await;
    let group = "arn:aws:logs:us-east-1:111122223333:log-group:/aws/lambda-microvms/demo";
    for (name, allow, deny, refused) in [
        // Each form of a group's ARN that policies use.
        ("whole", group.to_owned(), None, vec![]),
        ("within", format!("{group}:*"), None, vec![]),
        ("stream", format!("{group}:log-stream:a"), None, vec!["DescribeLogStreams", "FilterLogEvents"]),
        ("other", format!("{group}x"), None, vec!["DescribeLogStreams", "GetLogEvents", "FilterLogEvents"]),
        ("denied", "*".to_owned(), Some(format!("{group}:log-stream:a")), vec!["GetLogEvents"]),
    ] {
        let mut statements = vec![json!({"Effect": "Allow", "Action": "logs:*", "Resource": allow})];
        statements.extend(deny.map(|deny| json!({"Effect": "Deny", "Action": "*", "Resource": deny})));
        let policy = json!({"Statement": statements}).to_string();
        let reader = create(&server, json!({"user": name, "policy": policy})).await;
        for operation in ["DescribeLogStreams", "GetLogEvents", "FilterLogEvents"] {
            let body = match operation {
                "GetLogEvents" => json!({"logGroupName": "/aws/lambda-microvms/demo", "logStreamName": "a"}),
                _ => json!({"logGroupName": "/aws/lambda-microvms/demo"}),
            };
            let (target, body) = (format!("Logs_20140328.{operation}"), body.to_string());
            let call = server.call("POST", "/").service("logs").key(&reader.id, &reader.secret).body(body.as_bytes());
            let said = call.header("x-amz-target", &target).send().await.json();
            // Nothing was written: whoever may look finds no group.
            let kind = if refused.contains(&operation) { "AccessDeniedException" } else { "ResourceNotFoundException" };
            assert_eq!(said["__type"], kind, "{name} {operation}: {said}");
        }
    }
}
