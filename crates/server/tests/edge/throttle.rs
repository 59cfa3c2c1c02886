//! 429, after the signature and before the body, in the words of the operation's family.

use serde_json::json;
use server::{config::Quotas, edge::Throttle};

use crate::{
    IMAGE,
    client::Server,
    stub::{KEY, SECRET},
};

/// One call of each operation a second.
async fn slow() -> Server {
    let quotas = Quotas { other_rate: 1, ..Quotas::default() };
    Server::start_throttled(None, Some(Throttle::new(&quotas))).await
}

#[tokio::test]
async fn who_is_too_fast_is_told_when_to_come_back() {
    let server = slow().await;
    let list = || server.call("GET", "/2025-09-09/microvms");
    assert_eq!(list().send().await.status, 200);
    let answer = list().send().await;
    assert_eq!((answer.status, answer.error_type()), (429, "ThrottlingException"));
    assert_eq!(answer.json(), json!({"message": "Rate exceeded", "serviceCode": null, "quotaCode": null}));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.headers.contains_key("x-amzn-requestid"));
    assert_eq!(list().key("AKIAHEARTH00000EDGE2", SECRET).send().await.status, 200, "another account");
    assert_eq!(server.call("GET", "/2025-09-09/microvm-images").send().await.status, 200, "another operation");
}

#[tokio::test]
async fn older_operations_have_the_older_error() {
    let server = slow().await;
    let path = format!("/2017-03-31/tags/{IMAGE}");
    let list = || server.call("GET", &path);
    assert_ne!(list().send().await.status, 429);
    let answer = list().send().await;
    assert_eq!((answer.status, answer.error_type()), (429, "TooManyRequestsException"));
    assert_eq!(answer.json(), json!({"Type": "User", "message": "Rate exceeded"}));
    assert!(!answer.headers.contains_key("retry-after"), "the model has it for lambda-core only");
}

#[tokio::test]
async fn bodies_count_unread_and_strangers_do_not() {
    let server = slow().await;
    let create = || server.call("POST", "/2025-09-09/microvm-images").body(b"{");
    for _ in 0..3 {
        assert_eq!(create().key(KEY, "wrong").send().await.status, 403, "takes nothing from the account");
    }
    assert_eq!(create().send().await.status, 400);
    assert_eq!(create().send().await.status, 429, "before the body is looked at");
}

#[tokio::test]
async fn without_a_throttle_nobody_waits() {
    let server = Server::start().await;
    for _ in 0..300 {
        assert_eq!(server.call("GET", "/2025-09-09/microvms").send().await.status, 200);
    }
}
