#![allow(clippy::unwrap_used, reason = "tests")]

use api::{ImageVersionStatus, SnapshotBuild, Tags, Timestamp};
use lifecycle::{
    images::{Progress, State},
    microvms::{Input, Microvm, Policy, Step},
};
use serde_json::json;
use uuid::Uuid;

use super::{super::*, *};
use crate::store::{Accepted, Build, Ingress};

pub const MINE: &str = "111122223333";
pub const OTHERS: &str = "444455556666";
const POLICY: Policy = Policy { idle: None, suspended: None, auto_resume: true, lifetime: Some(28_800_000) };

pub async fn opened() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hearth.db")).await.unwrap();
    (dir, store)
}

pub fn image(account: &str, name: &str) -> (ImageRecord, VersionRecord) {
    let configuration = json!({"baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
        "buildRoleArn": "arn:aws:iam::111122223333:role/build", "codeArtifact": {"uri": "s3://bucket/a.zip"},
        "resources": [{"minimumMemoryInMiB": 512}], "environmentVariables": {"KEY": "hunter2"}});
    let at = Timestamp::from_millis(100);
    let image = ImageRecord {
        id: Uuid::new_v4(),
        arn: format!("arn:aws:lambda:us-east-1:{account}:microvm-image:{name}").parse().unwrap(),
        account: account.parse().unwrap(),
        state: State::Creating,
        newest: ImageVersion::FIRST,
        latest_active: None,
        latest_failed: None,
        tags: Tags::new(),
        created_at: at,
        updated_at: at,
    };
    let build =
        Build { id: api::BuildId::new(Uuid::new_v4()), progress: Progress::Pending, reason: None, snapshot: None };
    let version = VersionRecord {
        version: ImageVersion::FIRST,
        configuration: serde_json::from_value(configuration).unwrap(),
        base_image_version: api::BaseImageVersion(1),
        status: ImageVersionStatus::Inactive,
        deleting: false,
        build,
        events: 0,
        created_at: at,
        updated_at: at,
    };
    (image, version)
}

/// An image that can be launched.
pub async fn built(store: &Store, account: &str, name: &str) -> (ImageRecord, VersionRecord) {
    let (mut image, mut version) = image(account, name);
    assert_eq!(store.insert_image(&image, &version, None, None).await.unwrap(), Accepted::New);
    version.build.progress = Progress::InProgress;
    store.update_image(&image, &version, ImageEvent::BuildBegan).await.unwrap();
    image.state = State::Created;
    version.build.progress = Progress::Successful;
    version.build.snapshot = Some(SnapshotBuild {
        memory_snapshot_size_in_bytes: Some(700),
        disk_snapshot_size_in_bytes: Some(30),
        code_install_size_in_bytes: None,
    });
    version.status = ImageVersionStatus::Active;
    store.update_image(&image, &version, ImageEvent::BuildSucceeded).await.unwrap();
    (image, version)
}

pub fn microvm(image: &ImageRecord, version: &VersionRecord, at: Millis) -> MicrovmRecord {
    MicrovmRecord {
        id: MicrovmId::new(Uuid::new_v4()),
        account: image.account.clone(),
        endpoint: Uuid::new_v4().to_string(),
        image_arn: image.arn.clone(),
        version: version.version,
        image_dir: "/images/x".into(),
        image_events: 0,
        memory_mib: version.configuration.memory_mib(),
        hooks: api::Hooks::default(),
        execution_role_arn: None,
        idle_policy: None,
        ingress_connectors: Vec::new(),
        egress_connectors: Vec::new(),
        ingress: Ingress { application: true, shell: false },
        logging: None,
        run_hook_payload: Some(api::Sensitive::new("hunter2".to_owned())),
        life: Microvm::accepted(POLICY, at),
        machine: None,
        saved_dir: None,
        snapshot: version.build.snapshot.map(snapshot_of),
        revocation: 0,
        public_port: None,
    }
}

/// Applies an input at its time, as a cell does.
pub async fn step(store: &Store, record: &mut MicrovmRecord, input: Input, at: Millis, snapshot: Option<Snapshot>) {
    let before = record.life.generation;
    let Ok(Step::Changed(life)) = record.life.step(&input, at) else { panic!("{input:?} changes nothing") };
    record.life = life;
    store.advance_microvm(record, before, Some(Transition { input: &input, at, snapshot })).await.unwrap();
}

/// A microVM that has ended.
pub async fn ended(store: &Store, image: &(ImageRecord, VersionRecord), at: Millis) -> MicrovmRecord {
    let mut record = microvm(&image.0, &image.1, at);
    assert_eq!(store.insert_microvm(&record, None, None).await.unwrap(), Accepted::New);
    step(store, &mut record, Input::Terminate, at, None).await;
    step(store, &mut record, Input::Ended, at, None).await;
    record
}

pub async fn rows(store: &Store, account: &str, scope: &Scope) -> Vec<Event> {
    store.events(&account.parse().unwrap(), scope, Span::After(0), 1000).await.unwrap()
}

/// `what -> state` of each row.
fn told(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{} -> {}", event.what, event.state)).collect()
}

#[tokio::test]
async fn every_transition_of_a_microvm_is_a_row() {
    let (_dir, store) = opened().await;
    let (image, version) = built(&store, MINE, "demo").await;
    let mut record = microvm(&image, &version, 1_000);
    assert_eq!(store.insert_microvm(&record, None, None).await.unwrap(), Accepted::New);
    let saved = Snapshot { memory_bytes: 90, disk_bytes: 10 };
    step(&store, &mut record, Input::Started, 1_300, version.build.snapshot.map(snapshot_of)).await;
    // Bookkeeping is no row.
    store.advance_microvm(&record, record.life.generation, None).await.unwrap();
    step(&store, &mut record, Input::Suspend, 2_000, None).await;
    step(&store, &mut record, Input::Suspended, 2_000, Some(saved)).await;
    step(&store, &mut record, Input::Exited(3), 2_000, None).await;
    step(&store, &mut record, Input::Ended, 2_100, None).await;

    let events = rows(&store, MINE, &Scope::Microvm(record.id)).await;
    assert_eq!(
        told(&events),
        [
            "Accepted -> PENDING",
            "Started -> RUNNING",
            "Suspend -> SUSPENDING",
            "Suspended -> SUSPENDED",
            "Exited -> TERMINATING",
            "Ended -> TERMINATED"
        ]
    );
    assert_eq!(events.iter().map(|event| event.at).collect::<Vec<_>>(), [1_000, 1_300, 2_000, 2_000, 2_000, 2_100]);
    assert!(events.is_sorted_by(|one, next| one.n < next.n), "in order within one millisecond too");
    assert!(events.iter().all(|event| event.memory_mib == 512 && event.version.as_deref() == Some("1.0")));
    assert_eq!(events[1].snapshot, Some(Snapshot { memory_bytes: 700, disk_bytes: 30 }));
    assert_eq!(events[3].snapshot, Some(Snapshot { memory_bytes: 90, disk_bytes: 10 }));
    assert_eq!(events[4].reason.as_deref(), Some("Container Stopped with Exit Code: 3"));
    let shown = serde_json::to_value(&events[3]).unwrap();
    let expected = json!({"n": events[3].n, "at": 2_000, "kind": "microvm", "resource": record.id, "imageArn": image.arn,
        "version": "1.0", "what": "Suspended", "state": "SUSPENDED", "memoryMib": 512, "memoryBytes": 90, "diskBytes": 10});
    assert_eq!(shown, expected);
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    assert!(!format!("{events:?}").contains("hunter2"), "no payload, no environment");
}

#[tokio::test]
async fn what_did_not_happen_is_no_row() {
    let (_dir, store) = opened().await;
    let (image, mut version) = built(&store, MINE, "demo").await;
    let before = rows(&store, MINE, &Scope::All).await;
    version.version = ImageVersion::new(9);
    assert_eq!(store.insert_microvm(&microvm(&image, &version, 0), None, None).await.unwrap(), Accepted::Refused);
    assert_eq!(store.insert_image(&image, &version, None, None).await.unwrap(), Accepted::Refused);
    assert_eq!(rows(&store, MINE, &Scope::All).await, before);
}

#[tokio::test]
async fn an_image_s_rows_outlive_it_and_go_on_under_its_name() {
    let (_dir, store) = opened().await;
    let (mut image, version) = built(&store, MINE, "demo").await;
    image.state = State::Updating;
    image.newest = ImageVersion::new(2);
    let mut second = VersionRecord { version: image.newest, ..version.clone() };
    store.insert_version(&image, &second, None, None).await.unwrap();
    image.state = State::UpdateFailed;
    second.build.progress = Progress::Failed;
    second.build.reason = Some("S3_NO_SUCH_KEY: there is no such key".into());
    store.update_image(&image, &second, ImageEvent::BuildFailed).await.unwrap();
    store.update_image(&image, &version, ImageEvent::Deactivated).await.unwrap();
    image.state = State::Pruning;
    assert!(store.retire(&image, Some(&second)).await.unwrap());
    image.state = State::Updated;
    store.delete_version(&image, &second).await.unwrap();
    image.state = State::Deleting;
    assert!(store.retire(&image, None).await.unwrap());
    for _ in 0..2 {
        store.delete_image(&image).await.unwrap();
    }
    let scope = Scope::Image(image.arn.clone());
    let events = rows(&store, MINE, &scope).await;
    assert_eq!(
        told(&events),
        [
            "Created -> CREATING",
            "BuildBegan -> CREATING",
            "BuildSucceeded -> CREATED",
            "Updated -> UPDATING",
            "BuildFailed -> UPDATE_FAILED",
            "Deactivated -> UPDATE_FAILED",
            "VersionDeleting -> UPDATING",
            "VersionDeleted -> UPDATED",
            "Deleting -> DELETING",
            "Deleted -> DELETED"
        ]
    );
    assert_eq!(events[2].snapshot, Some(Snapshot { memory_bytes: 700, disk_bytes: 30 }));
    let failed = (events[4].version.as_deref(), events[4].reason.as_deref(), events[4].snapshot);
    assert_eq!(failed, (Some("2.0"), Some("S3_NO_SUCH_KEY: there is no such key"), None));
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    built(&store, MINE, "demo").await;
    assert_eq!(rows(&store, MINE, &scope).await.len(), 13);
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn pages_go_both_ways_and_accounts_are_apart() {
    let (_dir, store) = opened().await;
    let demo = built(&store, MINE, "demo").await;
    let one = ended(&store, &demo, 5).await;
    built(&store, OTHERS, "demo").await;
    ended(&store, &demo, 5).await;
    let (mine, others) = (MINE.parse().unwrap(), OTHERS.parse().unwrap());
    let page = async |account, scope: &Scope, span, limit| -> Vec<u64> {
        store.events(account, scope, span, limit).await.unwrap().into_iter().map(|event| event.n).collect()
    };
    assert_eq!(page(&mine, &Scope::All, Span::After(0), 100).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(page(&others, &Scope::All, Span::After(0), 100).await, [1, 2, 3], "numbers tell nothing of others");
    assert_eq!(page(&mine, &Scope::All, Span::After(4), 2).await, [5, 6]);
    assert_eq!(page(&mine, &Scope::All, Span::Before(u64::MAX), 2).await, [8, 9]);
    assert_eq!(page(&mine, &Scope::All, Span::Before(8), 3).await, [5, 6, 7]);
    let scope = Scope::Microvm(one.id);
    assert_eq!(page(&mine, &scope, Span::After(0), 100).await, [4, 5, 6]);
    assert_eq!(page(&mine, &scope, Span::Before(6), 1).await, [5]);
    assert!(page(&others, &scope, Span::After(0), 100).await.is_empty());
    assert!(page(&others, &Scope::Image(demo.0.arn), Span::After(0), 100).await.is_empty());
}

#[tokio::test]
async fn readers_are_told_of_each_commit_of_their_account() {
    let (_dir, store) = opened().await;
    let mut newest = store.newest_event(&MINE.parse().unwrap());
    assert_eq!(*newest.borrow_and_update(), 0);
    built(&store, OTHERS, "demo").await;
    assert!(!newest.has_changed().unwrap());
    let demo = built(&store, MINE, "demo").await;
    assert_eq!(*newest.borrow_and_update(), 3);
    ended(&store, &demo, 5).await;
    assert_eq!(*newest.borrow_and_update(), 6);
    store.news.tell(&MINE.parse().unwrap(), 4);
    assert!(!newest.has_changed().unwrap(), "an older commit that is told later");
}

/// What a hearth wrote whose events were of microVMs only.
#[tokio::test]
async fn rows_of_an_older_hearth_are_taken_over() {
    let (dir, store) = opened().await;
    let demo = built(&store, MINE, "demo").await;
    let mut broken = image(MINE, "broken");
    store.insert_image(&broken.0, &broken.1, None, None).await.unwrap();
    broken.0.state = State::CreateFailed;
    broken.1.build.progress = Progress::Failed;
    broken.1.build.reason = Some("CODE: why".into());
    store.update_image(&broken.0, &broken.1, ImageEvent::BuildFailed).await.unwrap();
    let mut record = microvm(&demo.0, &demo.1, 1_000);
    store.insert_microvm(&record, None, None).await.unwrap();
    let lived = [
        (Input::Started, 2_000),
        (Input::Idle, 3_000),
        (Input::Suspended, 2_500),
        (Input::Resume, 2_600),
        (Input::ResumeFailed("no".into()), 2_700),
        (Input::Exited(3), 4_000),
        (Input::Ended, 5_000),
    ];
    for (input, at) in &lived {
        step(&store, &mut record, input.clone(), *at, None).await;
    }
    let mut asked = rows(&store, MINE, &Scope::Microvm(record.id)).await;

    sqlx::raw_sql(
        "DELETE FROM history; DELETE FROM history_numbers;
         CREATE TABLE events (microvm TEXT NOT NULL, generation INTEGER NOT NULL, at INTEGER NOT NULL,
                              what TEXT NOT NULL, PRIMARY KEY (microvm, generation)) STRICT, WITHOUT ROWID",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    for ((input, at), generation) in lived.iter().zip(2..) {
        sqlx::query("INSERT INTO events VALUES (?, ?, ?, ?)")
            .bind(record.id.to_string())
            .bind(generation)
            .bind(at)
            .bind(serde_json::to_string(input).unwrap())
            .execute(&store.pool)
            .await
            .unwrap();
    }
    store.close().await;
    for _ in 0..2 {
        let store = Store::open(&dir.path().join("hearth.db")).await.unwrap();
        let found = rows(&store, MINE, &Scope::Microvm(record.id)).await;
        for (row, asked) in found.iter().zip(&mut asked) {
            asked.n = row.n;
        }
        assert_eq!(found, asked);
        let images = rows(&store, MINE, &Scope::Image(demo.0.arn.clone())).await;
        assert_eq!(told(&images), ["Created -> CREATING", "BuildSucceeded -> CREATED"]);
        assert_eq!((images[0].at, images[1].snapshot.map(|moved| moved.memory_bytes)), (100, Some(700)));
        let images = rows(&store, MINE, &Scope::Image(broken.0.arn.clone())).await;
        assert_eq!(told(&images), ["Created -> CREATING", "BuildFailed -> CREATE_FAILED"]);
        assert_eq!((images[1].reason.as_deref(), images[1].snapshot), (Some("CODE: why"), None));
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        store.close().await;
    }
    let store = Store::open(&dir.path().join("hearth.db")).await.unwrap();
    ended(&store, &demo, 6_000).await;
    assert_eq!(rows(&store, MINE, &Scope::All).await.len(), 8 + 2 + 2 + 3, "numbers go on");
}

#[tokio::test]
async fn the_audit_finds_rows_that_are_missing() {
    let (_dir, store) = opened().await;
    let demo = built(&store, MINE, "demo").await;
    let record = ended(&store, &demo, 5).await;
    let break_it = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&store.pool).await.unwrap();
        store.audit().await.unwrap().join("\n")
    };
    let found = break_it("DELETE FROM history WHERE what = 'Terminate'").await;
    assert_eq!(found, format!("{}: microVM: its events do not add up to its generation", record.id));
    assert!(break_it("DELETE FROM history WHERE kind = 'image'").await.contains("image: it has no events"));
    assert!(break_it("DELETE FROM images").await.lines().count() == 1);
    assert!(break_it("DELETE FROM microvms").await.contains("it has events and no record"));
}

/// A page costs the same however long the history is.
#[tokio::test]
async fn pages_are_found_by_an_index() {
    let (_dir, store) = opened().await;
    let image = image(MINE, "demo").0.arn;
    for (scope, index) in [
        (Scope::Image(image), "USING INDEX history_of_resource (resource=? AND n"),
        (Scope::All, "USING PRIMARY KEY (account=? AND n"),
    ] {
        for span in [Span::After(0), Span::Before(9)] {
            let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", select(&scope, span)));
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sql).fetch_all(&store.pool).await.unwrap();
            assert!(plan.len() == 1 && plan[0].3.contains(index), "{plan:?}");
        }
    }
}
