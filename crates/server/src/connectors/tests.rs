#![allow(clippy::unwrap_used, reason = "tests")]

use api::{ConnectorArn, ConnectorConfiguration, ConnectorState, Timestamp, VpcEgress};
use lifecycle::connectors::{Connector, Update};
use uuid::Uuid;

use super::*;
use crate::{
    edge::{Identity, User},
    store::Accepted,
};

struct Place {
    store: Store,
    home: Home,
    _dir: tempfile::TempDir,
}

async fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hearth.db")).await.unwrap();
    Place { store, home: home("111122223333"), _dir: dir }
}

fn home(account: &str) -> Home {
    Home { account: account.parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

fn record(home: &Home, name: &str, life: Connector) -> (ConnectorRecord, ConnectorVersionRecord) {
    let (id, at) = (ConnectorId::new(Uuid::new_v4()), Timestamp::from_millis(7));
    let record = ConnectorRecord {
        id,
        arn: ConnectorArn::custom(home.region.clone(), home.account.clone(), id.uuid()),
        name: name.parse().unwrap(),
        life,
        reason: None,
        update_reason: None,
        latest: 1,
        tags: Tags::new(),
        created_at: at,
        modified_at: at,
    };
    let compute = VpcEgress {
        associated_compute_resource_types: Some(vec![api::ComputeResourceType::MicroVm]),
        ..VpcEgress::default()
    };
    let version = ConnectorVersionRecord {
        number: 1,
        configuration: ConnectorConfiguration::VpcEgressConfiguration(compute),
        operator_role: "arn:aws:iam::111122223333:role/operator".parse().unwrap(),
        state: life.state,
        reason: None,
        modified_at: at,
    };
    (record, version)
}

impl Place {
    async fn put(&self, name: &str, life: Connector) -> ConnectorRecord {
        let (record, version) = record(&self.home, name, life);
        let accepted = self.store.insert_connector(&self.home, &record, &version, None).await.unwrap();
        assert_eq!(accepted, Accepted::New);
        record
    }

    /// A server starts here, does what is owed, and stops.
    async fn restart(&self) {
        let cursors = Arc::new(Cursors::new(vec![7; 32]));
        let connectors = Connectors::load(self.store.clone(), self.home.region.clone(), cursors).await.unwrap();
        connectors.stop().await;
    }
}

#[tokio::test]
async fn a_start_settles_what_the_server_before_left() {
    let place = place().await;
    let life = |state, update| Connector { state, update };
    let new = place.put("new", Connector::CREATED).await;
    let going = place.put("going", life(State::Deleting, None)).await;
    let failed = place.put("failed", life(State::Failed, None)).await;
    let mut updating = place.put("updating", life(State::Active, Some(Update::InProgress))).await;
    let (_, mut second) = record(&place.home, "updating", updating.life);
    (updating.latest, second.number, second.state) = (2, 2, State::Pending);
    place.store.put_connector(&updating, Some(&second), None).await.unwrap();

    place.restart().await;
    let found = place.store.connector(new.id).await.unwrap().unwrap();
    assert_eq!((found.state(), found.reason.as_deref()), (ConnectorState::Active, Some(INITIAL_CREATION)));
    assert_eq!(place.store.connector_version(new.id, 1).await.unwrap().unwrap().state, State::Active);
    assert_eq!(place.store.connector(going.id).await.unwrap(), None);
    assert_eq!(place.store.connector_version(going.id, 1).await.unwrap(), None, "its versions go with it");
    assert_eq!(place.store.connector(failed.id).await.unwrap(), Some(failed));
    let found = place.store.connector(updating.id).await.unwrap().unwrap();
    assert_eq!(found.life, life(State::Active, Some(Update::Successful)));
    assert_eq!(place.store.connector_version(updating.id, 2).await.unwrap().unwrap().state, State::Active);

    let before = place.store.all_connectors().await.unwrap();
    place.restart().await;
    assert_eq!(place.store.all_connectors().await.unwrap(), before, "nothing more is owed");
}

#[tokio::test]
async fn names_are_free_in_each_account_and_region() {
    let place = place().await;
    place.put("same", Connector::CREATED).await;
    let elsewhere = Home { region: "eu-west-1".parse().unwrap(), ..place.home.clone() };
    for (home, expected) in [
        (&place.home, Accepted::Refused),
        (&home("444455556666"), Accepted::New),
        (&elsewhere, Accepted::New),
        (&elsewhere, Accepted::Refused),
    ] {
        let (record, version) = record(home, "same", Connector::CREATED);
        let accepted = place.store.insert_connector(home, &record, &version, None).await.unwrap();
        assert_eq!(accepted, expected, "{home:?}");
    }
    assert_eq!(place.store.count_connectors(&place.home).await.unwrap(), 1);
}

#[tokio::test]
async fn microvms_use_only_active_connectors_of_their_account_for_microvms() {
    let place = place().await;
    let active = Connector { state: State::Active, update: None };
    let mine = place.put("mine", active).await;
    let pending = place.put("pending", Connector::CREATED).await;
    let (web, mut version) = record(&place.home, "web", active);
    let kinds = Some(vec![api::ComputeResourceType::WebFunction]);
    version.configuration = ConnectorConfiguration::VpcEgressConfiguration(VpcEgress {
        associated_compute_resource_types: kinds,
        ..VpcEgress::default()
    });
    place.store.insert_connector(&place.home, &web, &version, None).await.unwrap();
    let internet = api::ManagedConnector::InternetEgress.arn(&place.home.region);
    let check = async |home: &Home, arns: &[&ConnectorArn]| {
        let arns: Vec<_> = arns.iter().map(|arn| (*arn).clone()).collect();
        check_egress(&place.store, home, &arns).await.map_err(|error| error.message().unwrap_or_default().to_owned())
    };
    assert_eq!(check(&place.home, &[&internet, &mine.arn, &mine.arn.with_version(1)]).await, Ok(()));
    let none = ConnectorArn::custom(place.home.region.clone(), place.home.account.clone(), Uuid::nil());
    let unknown = |arn: &ConnectorArn| Err(format!("Unrecognized network connector ARN: {arn}"));
    for (home, arn) in [
        (&place.home, &none),
        (&place.home, &mine.arn.with_version(2)),
        (&home("444455556666"), &mine.arn),
        (&Home { region: "eu-west-1".parse().unwrap(), ..place.home.clone() }, &mine.arn),
    ] {
        assert_eq!(check(home, &[&internet, arn]).await, unknown(arn));
    }
    let busy = format!("Network connector {} must be ACTIVE; it is in state: PENDING", pending.arn);
    assert_eq!(check(&place.home, &[&mine.arn, &pending.arn]).await, Err(busy.clone()));
    let qualified = pending.arn.with_version(1);
    assert_eq!(
        check(&place.home, &[&qualified]).await,
        Err(busy.replace(&pending.arn.to_string(), &qualified.to_string()))
    );
    let other = format!("Network connector {} is not associated with compute resource type MicroVm", web.arn);
    assert_eq!(check(&place.home, &[&web.arn]).await, Err(other));
}

/// The one place here that makes a caller.
fn caller(home: &Home) -> Caller {
    Caller {
        account: home.account.clone(),
        access_key_id: "AKIATEST".to_owned(),
        identity: Arc::new(Identity::new("aws", home.account.clone(), User::Root, Vec::new())),
        temporary: false,
        request_id: Uuid::nil(),
    }
}

/// Connectors that nothing works on, so that they stay in states which else pass at once.
#[tokio::test]
async fn what_a_state_does_not_allow_is_a_conflict() {
    let place = place().await;
    let connectors = Arc::new(Connectors {
        store: place.store.clone(),
        region: place.home.region.clone(),
        cursors: Arc::new(Cursors::new(vec![7; 32])),
        tasks: TaskTracker::new(),
        writer: tokio::sync::Mutex::default(),
    });
    let me = caller(&place.home);
    let update = async |record: &ConnectorRecord| {
        let operator_role = Some("arn:aws:iam::111122223333:role/other".parse().unwrap());
        let identifier = ConnectorIdentifier::Id(record.id);
        let input =
            api::UpdateNetworkConnectorInput { identifier, configuration: None, operator_role, client_token: None };
        connectors.update(&me, input).await
    };
    let delete = async |record: &ConnectorRecord| {
        let identifier = ConnectorIdentifier::Arn(record.arn.clone());
        connectors.delete(&me, api::DeleteNetworkConnectorInput { identifier }).await
    };
    let conflict = |error: ApiError, words: &str| {
        assert_eq!(error.kind(), ErrorKind::ResourceConflict);
        assert!(error.message().unwrap().ends_with(words), "{error}");
    };
    let life = |state, update| Connector { state, update };
    for (index, (life, words)) in [
        (Connector::CREATED, "is in state: PENDING"),
        (life(State::Failed, None), "is in state: FAILED"),
        (life(State::Inactive, None), "is in state: INACTIVE"),
        (life(State::Deleting, None), "is in state: DELETING"),
        (life(State::DeleteFailed, None), "is in state: DELETE_FAILED"),
        (life(State::Active, Some(Update::InProgress)), "is in progress"),
    ]
    .into_iter()
    .enumerate()
    {
        let record = place.put(&format!("c{index}"), life).await;
        conflict(update(&record).await.unwrap_err(), words);
        assert_eq!(place.store.connector(record.id).await.unwrap(), Some(record.clone()), "nothing changed");
        match life.state {
            State::Pending | State::Inactive | State::DeleteFailed => {
                conflict(delete(&record).await.unwrap_err(), words);
            }
            _ => assert_eq!(delete(&record).await.unwrap().state, Some(ConnectorState::Deleting)),
        }
    }
    let others = caller(&home("444455556666"));
    let name: api::ConnectorName = "c0".parse().unwrap();
    let named = ConnectorIdentifier::Name(name);
    let record = connectors.find(&me, "lambda:GetNetworkConnector", &named).await.unwrap();
    for identifier in [named, ConnectorIdentifier::Id(record.id), ConnectorIdentifier::Arn(record.arn.clone())] {
        let error = connectors.find(&others, "lambda:GetNetworkConnector", &identifier).await.unwrap_err();
        assert_eq!(error, ApiError::connector_not_found(&identifier), "another account's is not there");
    }
    assert_eq!(connectors.tags(&others, &record.arn).await.unwrap_err(), ApiError::resource_not_found(&record.arn));
    connectors.stop().await;
}
