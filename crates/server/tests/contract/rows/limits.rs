//! What an account may have and how fast it may ask (spec 10.2, 3.1): servers with settings of their own.

use api::{
    ErrorKind::{NetworkConnectorLimitExceeded, ServiceQuotaExceeded},
    schema::bounds::{CONNECTOR_VERSIONS, CONNECTORS},
};
use serde_json::{Value, json};

use super::*;
use crate::world::serving_with;

fn least() -> Value {
    crate::world::least("$fresh")
}

/// No rate is met by chance.
const FAST: &str = "enabled = true\nother_rate = 100000";

/// One row of an operation on a server with those quotas.
async fn limited(quotas: &str, operation: Operation, row: Row) {
    let serving = serving_with(&format!("[quotas]\n{FAST}\n{quotas}\n")).await;
    let mut world = World::new(&serving);
    let outcome = try_row(&mut world, operation, &row).await;
    drop(world);
    serving.stop().await;
    outcome.unwrap_or_else(|words| panic!("{operation}, {}: {words}", row.case));
}

fn reached(what: &str) -> String {
    format!("The account has reached its maximum number of {what}: 1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let run = json!({"imageIdentifier": "$image"});
    let words = "The base maximum allocated memory limit has been reached for this account.";
    let row = row("no memory is left", run.clone()).before(RunMicrovm, run).refused(ServiceQuotaExceeded, words);
    limited("memory_gib = 2", RunMicrovm, row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn microvms() {
    let run = json!({"imageIdentifier": "$image"});
    let row = row("no microVM is left", run.clone())
        .before(RunMicrovm, run)
        .refused(ServiceQuotaExceeded, &reached("MicroVMs"));
    limited("microvms = 1", RunMicrovm, row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images() {
    let row = row("no image is left", least())
        .before(GetMicrovmImage, json!({"imageIdentifier": "$image"}))
        .refused(ServiceQuotaExceeded, &reached("MicroVM images"));
    limited("images = 1", CreateMicrovmImage, row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions() {
    let mut members = with(least(), json!({"imageIdentifier": "$image"}));
    members.as_object_mut().unwrap().remove("name");
    let row = row("no version is left", members).refused(ServiceQuotaExceeded, &reached("versions of a MicroVM image"));
    limited("versions = 1", UpdateMicrovmImage, row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds() {
    let row = row("no build is left", least())
        .before(GetMicrovmImage, json!({"imageIdentifier": "$creating"}))
        .refused(ServiceQuotaExceeded, &reached("concurrent MicroVM image builds"));
    limited("builds = 1", CreateMicrovmImage, row).await;
}

/// Calls until it is too fast; `fault` has looked at the answer as at any other.
async fn throttled(operation: Operation, members: Value, body: Value, waits: Option<&str>) {
    let serving = serving_with(&format!("[quotas]\n{FAST}\n[quotas.rates]\n{operation} = 1\n")).await;
    let mut world = World::new(&serving);
    let members = world.fill(&members).await;
    for _ in 0..100 {
        let answer = world.call(operation, &members).await;
        if answer.status != 429 {
            continue;
        }
        assert_eq!(fault(Some(operation), &answer), None, "{}", answer.text());
        assert_eq!((answer.json(), answer.header("retry-after")), (Some(body), waits));
        drop(world);
        return serving.stop().await;
    }
    panic!("{operation} is never too fast");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_fast_for_microvms() {
    let body = json!({"message": "Rate exceeded", "serviceCode": null, "quotaCode": null});
    throttled(ListMicrovms, json!({}), body, Some("1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_fast_for_tags() {
    let body = json!({"Type": "User", "message": "Rate exceeded"});
    throttled(ListTags, json!({"Resource": "$image"}), body, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_fast_for_connectors() {
    let body = json!({"Type": "User", "message": "Rate exceeded", "Reason": "CallerRateLimitExceeded"});
    throttled(ListNetworkConnectors, json!({}), body, Some("1")).await;
}

/// These two bounds are the service's own and have no setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connectors_and_their_versions() {
    let serving = serving().await;
    let mut world = World::new(&serving);
    let connector = world.made("connector").await;
    let roles =
        |n: usize| json!({"Identifier": connector, "OperatorRole": format!("arn:aws:iam::111122223333:role/r{n}")});
    for n in 1..CONNECTOR_VERSIONS {
        world.done(UpdateNetworkConnector, roles(n)).await;
        let settled = json!({"Identifier": connector});
        world.until(GetNetworkConnector, settled, "LastUpdateStatus", "Successful").await;
    }
    let words =
        format!("A network connector can have {CONNECTOR_VERSIONS} versions at most; delete older versions first");
    let full = row("no version is left", roles(0)).refused(NetworkConnectorLimitExceeded, &words);
    try_row(&mut world, UpdateNetworkConnector, &full).await.unwrap();
    for n in 1..CONNECTORS {
        world.done(CreateNetworkConnector, crate::world::connector(&format!("c{n}"))).await;
    }
    let words = format!("An account can have {CONNECTORS} network connectors at most");
    let full =
        row("no connector is left", crate::world::connector("over")).refused(NetworkConnectorLimitExceeded, &words);
    try_row(&mut world, CreateNetworkConnector, &full).await.unwrap();
    drop(world);
    serving.stop().await;
}
