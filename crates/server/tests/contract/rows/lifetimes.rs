//! Lives longer than AWS's (`[limits]`): servers with settings of their own. The default is in `launches.rs`.

use api::ErrorKind::Validation;
use serde_json::{Value, json};

use super::{microvms::microvm, *};
use crate::world::serving_with;

fn launch(case: &'static str, more: Value) -> Row {
    row(case, with(json!({"imageIdentifier": "$image"}), more))
}

fn pending(seconds: u32, more: Value) -> Value {
    let pending = json!({"state": "PENDING", "microvmId": "<microvm>", "maximumDurationInSeconds": seconds});
    microvm("$image", with(pending, more))
}

fn idle(seconds: u64) -> Value {
    json!({"idlePolicy": {"maxIdleDurationSeconds": seconds, "suspendedDurationSeconds": seconds, "autoResumeEnabled": true}})
}

fn beyond(at: &str, most: u32) -> String {
    format!(
        "1 validation error detected: Value '{}' at '{at}' failed to satisfy constraint: Member must have value less than \
         or equal to {most}",
        most + 1
    )
}

async fn all_hold(setting: &str, rows: Vec<Row>) {
    let serving = serving_with(&format!("[limits]\nmicrovm_seconds = {setting}\n")).await;
    for row in rows {
        let mut world = World::new(&serving);
        let outcome = try_row(&mut world, RunMicrovm, &row).await;
        drop(world);
        outcome.unwrap_or_else(|words| panic!("{setting}, {}: {words}", row.case));
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week() {
    const WEEK: u32 = 604_800;
    let day = json!({"maximumDurationInSeconds": 86_400});
    let rows = vec![
        launch("the most, when it does not say", json!({})).is(pending(WEEK, json!({}))),
        launch("a day", day.clone()).is(pending(86_400, day)),
        launch("all of it", json!({"maximumDurationInSeconds": WEEK})).is(pending(WEEK, json!({}))),
        launch("too long", json!({"maximumDurationInSeconds": WEEK + 1}))
            .refused(Validation, &beyond("maximumDurationInSeconds", WEEK)),
        launch("as idle as can be", idle(WEEK.into())).is(pending(WEEK, idle(WEEK.into()))),
        launch("idle for too long", idle(u64::from(WEEK) + 1))
            .refused(Validation, &beyond("idlePolicy.maxIdleDurationSeconds", WEEK)),
    ];
    all_hold("604800", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_ever() {
    const MOST: u32 = i32::MAX as u32;
    let rows = vec![
        launch("no end, as the longest life that can be said", json!({})).is(pending(MOST, json!({}))),
        launch("an end", json!({"maximumDurationInSeconds": 86_400})).is(pending(86_400, json!({}))),
        launch("the largest number", json!({"maximumDurationInSeconds": MOST})).is(pending(MOST, json!({}))),
        launch("as idle as can be", idle(MOST.into())).is(pending(MOST, idle(MOST.into()))),
        launch("no integer", json!({"maximumDurationInSeconds": 1_u64 << 31})).unreadable(json!({"message": null})),
        launch("no life", json!({"maximumDurationInSeconds": 0})).refused(
            Validation,
            "1 validation error detected: Value '0' at 'maximumDurationInSeconds' failed to satisfy constraint: Member must \
             have value greater than or equal to 1",
        ),
    ];
    all_hold("\"none\"", rows).await;
}
