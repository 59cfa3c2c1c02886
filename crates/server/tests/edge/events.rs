//! hearth's own route for events: pages, permissions, accounts apart.

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    client::{Answer, Server},
    stub::{ACCOUNT, KEY, OTHER_ACCOUNT, OTHER_KEY, SECRET},
};

const PATH: &str = "/hearth/v1/events";
const MICROVM: &str = "microvm-00000000-0000-4000-8000-000000000001";
const ABSENT: &str = "microvm-00000000-0000-4000-8000-000000000009";

fn image(account: &str, name: &str) -> String {
    format!("arn:aws:lambda:us-east-1:{account}:microvm-image:{name}")
}

/// Rows as the store writes them: of images `demo` and `other`, in two accounts.
async fn with_rows() -> Server {
    let server = Server::start().await;
    let options = SqliteConnectOptions::new().filename(server.dir.path().join("hearth.db"));
    let mut store = SqliteConnection::connect_with(&options).await.unwrap();
    for (account, n, name, what, state) in [
        (ACCOUNT, 1, "demo", "Created", "CREATING"),
        (ACCOUNT, 2, "demo", "BuildBegan", "CREATING"),
        (ACCOUNT, 3, "other", "Created", "CREATING"),
        (ACCOUNT, 4, "demo", "BuildSucceeded", "CREATED"),
        (ACCOUNT, 5, "demo", "Deleted", "DELETED"),
        (OTHER_ACCOUNT, 1, "demo", "Created", "CREATING"),
    ] {
        let size = (what == "BuildSucceeded").then_some(1_000);
        sqlx::query(
            "INSERT INTO history VALUES (?1, ?2, ?2 * 1000, 'image', ?3, NULL, ?3, '1.0', ?4, ?5, 512, ?6, ?6, NULL)",
        )
        .bind(account)
        .bind(n)
        .bind(image(account, name))
        .bind(what)
        .bind(state)
        .bind(size)
        .execute(&mut store)
        .await
        .unwrap();
    }
    server
}

async fn ask(server: &Server, path: &str, query: &str, key: (&str, &str)) -> Answer {
    server.call("GET", path).query(query).key(key.0, key.1).send().await
}

async fn numbers(server: &Server, query: &str) -> Vec<u64> {
    let answer = ask(server, PATH, query, (KEY, SECRET)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
    answer.text().lines().map(number).collect()
}

#[tokio::test]
async fn pages_are_cut_and_go_on_by_number() {
    let server = with_rows().await;
    assert_eq!(numbers(&server, "").await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&server, "limit=2").await, [4, 5], "the newest, the newest last");
    assert_eq!(numbers(&server, "before=4&limit=2").await, [2, 3]);
    assert_eq!(numbers(&server, "after=1&limit=2").await, [2, 3]);
    assert_eq!(numbers(&server, "after=5").await, [0; 0]);
    for name in ["demo", "arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Amicrovm-image%3Ademo"] {
        assert_eq!(
            numbers(&server, &format!("image={name}")).await,
            [1, 2, 4, 5],
            "the image is gone, its rows are not"
        );
    }
    let one = ask(&server, PATH, "image=demo&after=2&limit=1", (KEY, SECRET)).await;
    assert_eq!(one.headers["content-type"], "application/x-ndjson");
    let expected = json!({"n": 4, "at": 4000, "kind": "image", "resource": image(ACCOUNT, "demo"),
        "imageArn": image(ACCOUNT, "demo"), "version": "1.0", "what": "BuildSucceeded", "state": "CREATED",
        "memoryMib": 512, "memoryBytes": 1000, "diskBytes": 1000});
    assert_eq!(one.json(), expected);
    let usage = ask(&server, "/hearth/v1/events/usage", "image=demo", (KEY, SECRET)).await.json();
    assert_eq!((&usage["n"], &usage["usage"]["buildingMs"]), (&json!(5), &json!(2000)));
    assert_eq!(usage["usage"]["snapshotByteSeconds"], 2000, "2000 bytes for a second");
}

#[tokio::test]
async fn accounts_never_see_each_other_s_events() {
    let server = with_rows().await;
    let other = async |query: &str| ask(&server, PATH, query, (OTHER_KEY, SECRET)).await;
    assert_eq!(other("").await.json()["resource"], image(OTHER_ACCOUNT, "demo"));
    assert_eq!(other("image=demo").await.text().lines().count(), 1);
    assert_eq!(other("image=other").await.status, 404);
    let theirs = format!("image={}", api::sigv4::percent::encode(&image(ACCOUNT, "demo")));
    let refused = other(&theirs).await;
    assert_eq!((refused.status, refused.error_type()), (403, "AccessDeniedException"));
}

#[tokio::test]
async fn reading_asks_for_permission() {
    let server = with_rows().await;
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": "lambda:GetMicrovmImage", "Resource": image(ACCOUNT, "demo")},
        {"Effect": "Allow", "Action": "lambda:GetMicrovm", "Resource": "*"}]});
    let body = json!({"user": "ci", "policy": policy.to_string()}).to_string();
    let made = server.call("POST", "/hearth/v1/keys").body(body.as_bytes()).send().await.json();
    let key = (made["accessKeyId"].as_str().unwrap(), made["secretAccessKey"].as_str().unwrap());
    assert_eq!(ask(&server, PATH, "image=demo", key).await.status, 200);
    for (path, query, action) in [
        (PATH, "image=other", "lambda:GetMicrovmImage"),
        (PATH, "", "lambda:GetMicrovmImage"),
        ("/hearth/v1/events/usage", "image=absent", "lambda:GetMicrovmImage"),
    ] {
        let refused = ask(&server, path, query, key).await;
        assert_eq!((refused.status, refused.error_type()), (403, "AccessDeniedException"), "{query}");
        assert!(refused.message().contains(action), "{}", refused.text());
    }
    let absent = ask(&server, PATH, &format!("microvm={ABSENT}"), key).await;
    assert_eq!((absent.status, absent.message()), (404, format!("MicroVM not found: {ABSENT}")));
    let id = made["accessKeyId"].as_str().unwrap();
    let body =
        json!({"policy": r#"{"Statement":{"Effect":"Allow","Action":"lambda:GetMicrovmImage","Resource":"*"}}"#});
    let path = format!("/hearth/v1/keys/{id}/policy");
    assert_eq!(server.call("PUT", &path).body(body.to_string().as_bytes()).send().await.status, 200);
    let refused = ask(&server, PATH, &format!("microvm={MICROVM}"), key).await;
    assert_eq!(refused.status, 403, "what is not there looks like what is forbidden");
    assert!(
        refused
            .message()
            .contains("lambda:GetMicrovm on resource: arn:aws:lambda:us-east-1:111122223333:microvm-image:*")
    );
    let unsigned = server.call("GET", PATH).send_unsigned().await;
    assert_eq!((unsigned.status, unsigned.error_type()), (403, "MissingAuthenticationTokenException"));
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let server = with_rows().await;
    let get = async |path: &str, query: &str| ask(&server, path, query, (KEY, SECRET)).await;
    for (path, query, words) in [
        (PATH, "limit=1001", "limit is \"1001\", must be 1..=1000"),
        (PATH, "image=a%20b", "image is \"a b\", must be a name or an ARN of an image"),
        (PATH, "image=arn:aws:lambda", "must be a name or an ARN"),
        ("/hearth/v1/events/usage", "", "usage is of one microVM or image"),
    ] {
        let refused = get(path, query).await;
        assert_eq!((refused.status, refused.error_type()), (400, "ValidationException"), "{query}");
        assert!(refused.message().contains(words), "{}", refused.text());
    }
    assert_eq!(get("/hearth/v1/events/other", "").await.error_type(), "UnknownOperationException");
    assert_eq!(server.call("POST", PATH).send().await.error_type(), "UnknownOperationException");
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_the_server() {
    let server = with_rows().await;
    let mut going_on = Box::pin(server.call("GET", PATH).query("after=3&follow=true").send());
    let soon = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, &mut going_on).await.is_err(), "there may be more");
    server.shutdown.cancel();
    let answer = going_on.await;
    assert_eq!(answer.text().lines().count(), 2);
}
