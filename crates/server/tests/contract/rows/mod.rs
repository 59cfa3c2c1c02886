//! One table per operation: what it is given, what it answers. Each row runs in a world of its own (`world.rs`).
//!
//! The rows named [`LEAST`] and [`FULL`] are there for every operation; `bounds.rs` starts from the full one.

mod builds;
mod connectors;
mod images;
mod launches;
mod lifetimes;
mod limits;
mod microvms;
mod tags;
mod versions;

use api::{ErrorKind, Operation, Operation::*};
use serde_json::{Value, json};

use crate::{
    answers::{error_body_of, error_status, fault, mismatch},
    bounds,
    client::Answer,
    world::{World, serving},
};

/// The row with nothing but what is required.
pub const LEAST: &str = "least input";
/// The row with every member.
pub const FULL: &str = "full input";

/// One case of an operation. Any text may hold names like `$image`.
pub struct Row {
    pub case: &'static str,
    /// Calls before, which succeed.
    before: Vec<(Operation, Value)>,
    pub members: Value,
    answer: Expected,
    /// Calls after, and what they answer.
    after: Vec<(Operation, Value, Value)>,
}

enum Expected {
    /// Success with this body; `null` for none.
    Body(Value),
    /// An error of that kind, in these words.
    Error(ErrorKind, Value),
    /// This very body of a request that could not be read.
    Unreadable(Value),
}

/// A row that answers `{}` until it says otherwise.
fn row(case: &'static str, members: Value) -> Row {
    Row { case, before: Vec::new(), members, answer: Expected::Body(json!({})), after: Vec::new() }
}

impl Row {
    fn is(self, body: Value) -> Self {
        Row { answer: Expected::Body(body), ..self }
    }

    fn refused(self, kind: ErrorKind, message: &str) -> Self {
        Row { answer: Expected::Error(kind, message.into()), ..self }
    }

    fn unreadable(self, body: Value) -> Self {
        Row { answer: Expected::Unreadable(body), ..self }
    }

    fn before(mut self, operation: Operation, members: Value) -> Self {
        self.before.push((operation, members));
        self
    }

    fn after(mut self, operation: Operation, members: Value, body: Value) -> Self {
        self.after.push((operation, members, body));
        self
    }
}

/// `members` with others over them.
fn with(mut members: Value, more: Value) -> Value {
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    members
}

/// A request about what another account owns.
fn strange(operation: Operation, members: Value) -> Row {
    let words = format!(
        "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:{operation} on resource: \
         $strange_image because no resource-based policy allows the lambda:{operation} action"
    );
    row("another account's", members).refused(ErrorKind::AccessDenied, &words)
}

macro_rules! tables {
    ($($name:ident: $operation:ident => $rows:path,)+) => {
        /// Every operation's table.
        pub const TABLES: &[(Operation, fn() -> Vec<Row>)] = &[$(($operation, $rows),)+];

        mod row {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                check(Operation::$operation, $rows()).await;
            })+
        }

        mod bound {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                bounds::check(Operation::$operation, $rows()).await;
            })+
        }
    };
}

tables! {
    create_microvm_image: CreateMicrovmImage => images::create,
    get_microvm_image: GetMicrovmImage => images::get,
    list_microvm_images: ListMicrovmImages => images::list,
    delete_microvm_image: DeleteMicrovmImage => images::delete,
    update_microvm_image: UpdateMicrovmImage => images::update,
    list_managed_microvm_images: ListManagedMicrovmImages => images::managed,
    list_managed_microvm_image_versions: ListManagedMicrovmImageVersions => images::managed_versions,
    get_microvm_image_version: GetMicrovmImageVersion => versions::get,
    list_microvm_image_versions: ListMicrovmImageVersions => versions::list,
    update_microvm_image_version: UpdateMicrovmImageVersion => versions::update,
    delete_microvm_image_version: DeleteMicrovmImageVersion => versions::delete,
    get_microvm_image_build: GetMicrovmImageBuild => builds::get,
    list_microvm_image_builds: ListMicrovmImageBuilds => builds::list,
    run_microvm: RunMicrovm => launches::run,
    get_microvm: GetMicrovm => microvms::get,
    list_microvms: ListMicrovms => microvms::list,
    suspend_microvm: SuspendMicrovm => microvms::suspend,
    resume_microvm: ResumeMicrovm => microvms::resume,
    terminate_microvm: TerminateMicrovm => microvms::terminate,
    create_microvm_auth_token: CreateMicrovmAuthToken => microvms::auth_token,
    create_microvm_shell_auth_token: CreateMicrovmShellAuthToken => microvms::shell_auth_token,
    tag_resource: TagResource => tags::tag,
    untag_resource: UntagResource => tags::untag,
    list_tags: ListTags => tags::list,
    create_network_connector: CreateNetworkConnector => connectors::create,
    get_network_connector: GetNetworkConnector => connectors::get,
    list_network_connectors: ListNetworkConnectors => connectors::list,
    list_network_connector_versions: ListNetworkConnectorVersions => connectors::versions,
    update_network_connector: UpdateNetworkConnector => connectors::update,
    delete_network_connector: DeleteNetworkConnector => connectors::delete,
}

#[test]
fn every_operation_has_a_table_with_a_least_and_a_full_row() {
    for operation in Operation::ALL {
        let table = TABLES.iter().find(|(each, _)| each == operation);
        let (_, rows) = table.unwrap_or_else(|| panic!("{operation} has no table: add it to tables!"));
        for case in [LEAST, FULL] {
            assert!(rows().iter().any(|row| row.case == case), "{operation} has no row {case:?}");
        }
    }
}

async fn check(operation: Operation, rows: Vec<Row>) {
    let serving = serving().await;
    let mut wrong = Vec::new();
    for row in rows {
        let mut world = World::new(&serving);
        if let Err(words) = try_row(&mut world, operation, &row).await {
            wrong.push(format!("{operation}, {}: {words}", row.case));
        }
    }
    serving.stop().await;
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

async fn try_row(world: &mut World, operation: Operation, row: &Row) -> Result<(), String> {
    for (operation, members) in &row.before {
        let members = world.fill(members).await;
        world.done(*operation, members).await;
    }
    let members = world.fill(&row.members).await;
    let answer = world.call(operation, &members).await;
    if let Some(fault) = fault(Some(operation), &answer) {
        return Err(format!("{fault}: {} {}", answer.status, answer.text()));
    }
    expect(world, operation, row, &answer).await?;
    for (operation, members, body) in &row.after {
        let (members, body) = (world.fill(members).await, world.fill(body).await);
        let answer = world.done(*operation, members).await;
        mismatch(&format!("then {operation}"), &body, &answer).map_or(Ok(()), Err)?;
    }
    Ok(())
}

async fn expect(world: &mut World, operation: Operation, row: &Row, answer: &Answer) -> Result<(), String> {
    let (status, kind, body) = match &row.answer {
        Expected::Body(body) => (operation.route().status, None, world.fill(body).await),
        Expected::Error(kind, message) => {
            let message = world.fill(message).await;
            (error_status(*kind), Some(*kind), error_body_of(Some(operation), *kind, message.as_str().unwrap()))
        }
        Expected::Unreadable(body) => (400, Some(ErrorKind::Serialization), body.clone()),
    };
    let found = (answer.status, answer.header("x-amzn-errortype"));
    if found != (status, kind.map(ErrorKind::as_str)) {
        let expected = kind.map_or("success", ErrorKind::as_str);
        return Err(format!("the table says {status} {expected}, the answer is {} {}", answer.status, answer.text()));
    }
    mismatch("body", &body, &answer.json().unwrap_or_default()).map_or(Ok(()), Err)
}
