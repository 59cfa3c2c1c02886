//! Network connectors: which there are, and what the API does with them (spec 9.2). They are records: what they do to traffic
//! is not built yet, and EC2, which AWS asks about subnets, groups and the role, is not here to be asked. So a connector
//! settles as soon as it is written.

mod create;
mod delete;
mod egress;
mod list;
mod update;
mod views;

use std::sync::Arc;

use api::{
    ApiError, ConnectorArn, ConnectorId, ConnectorIdentifier, ErrorKind, Region, Tags, Timestamp, schema::bounds,
};
use lifecycle::connectors::{Input, Refusal, State, Work};
use tokio_util::task::TaskTracker;

pub use self::{egress::check as check_egress, views::spelled};
use crate::{
    edge::Caller,
    failure::internal,
    shared::now,
    store::{ConnectorRecord, ConnectorVersionRecord, Home, Store, StoreError},
    tokens::Cursors,
};

/// Why a connector is ACTIVE, as AWS has it.
const INITIAL_CREATION: &str = "Initial creation";

/// All connectors of a server.
pub struct Connectors {
    store: Store,
    region: Region,
    cursors: Arc<Cursors>,
    tasks: TaskTracker,
    /// One change of a connector at a time.
    writer: tokio::sync::Mutex<()>,
}

impl Connectors {
    /// Takes up every connector of the store where it stands: what was owed is done.
    pub async fn load(store: Store, region: Region, cursors: Arc<Cursors>) -> Result<Arc<Self>, StoreError> {
        let all = store.all_connectors().await?;
        let (tasks, writer) = (TaskTracker::new(), tokio::sync::Mutex::default());
        let connectors = Arc::new(Connectors { store, region, cursors, tasks, writer });
        for record in all.iter().filter(|record| record.life.owes().is_some()) {
            connectors.start_work(record.id);
        }
        Ok(connectors)
    }

    /// Waits for the work that is under way.
    pub async fn stop(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start_work(self: &Arc<Self>, id: ConnectorId) {
        let connectors = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = connectors.work(id).await {
                tracing::error!(connector = %id, %error, "a network connector is not settled; the next start tries again");
            }
        });
    }

    /// Does what the connector's state owes.
    async fn work(&self, id: ConnectorId) -> Result<(), StoreError> {
        let _writer = self.writer.lock().await;
        let Some(mut record) = self.store.connector(id).await? else { return Ok(()) };
        match record.life.owes() {
            None => return Ok(()),
            Some(Work::Remove) => return self.store.delete_connector(id).await,
            Some(Work::Provision) => {}
        }
        let Ok(life) = record.life.step(Input::Provisioned) else { return Ok(()) };
        let Some(mut version) = self.store.connector_version(id, record.latest).await? else { return Ok(()) };
        if record.life.state == State::Pending {
            record.reason = Some(INITIAL_CREATION.to_owned());
            version.reason.clone_from(&record.reason);
        }
        record.life = life;
        version.state = State::Active;
        record.modified_at = Timestamp::from_millis(now());
        version.modified_at = record.modified_at;
        self.store.put_connector(&record, Some(&version), None).await?;
        Ok(())
    }

    fn home(&self, caller: &Caller) -> Home {
        Home { account: caller.account.clone(), region: self.region.clone() }
    }

    /// What stands for every connector of the caller when there is none to name.
    fn all(&self, caller: &Caller) -> String {
        format!("arn:{}:lambda:{}:{}:network-connector:*", self.region.partition(), self.region, caller.account)
    }

    /// The caller's connector of that name; which version the name has, if any, is not looked at. Who may not do `action`
    /// does not learn whether it is there.
    pub async fn find(
        &self,
        caller: &Caller,
        action: &str,
        identifier: &ConnectorIdentifier,
    ) -> Result<ConnectorRecord, ApiError> {
        let home = self.home(caller);
        let found = match identifier {
            ConnectorIdentifier::Id(id) => self.store.connector(*id).await,
            ConnectorIdentifier::Name(name) => self.store.connector_named(&home, name).await,
            ConnectorIdentifier::Arn(arn) => self.store.connector_of(arn).await,
        };
        let Some(record) = found.map_err(internal)?.filter(|record| record.lives_in(&home)) else {
            caller.authorize(action, self.all(caller))?;
            return Err(ApiError::connector_not_found(identifier));
        };
        caller.authorize(action, &record.arn)?;
        Ok(record)
    }

    /// The caller's connector and the version that the identifier names, else the newest.
    async fn find_version(
        &self,
        caller: &Caller,
        action: &str,
        identifier: &ConnectorIdentifier,
    ) -> Result<(ConnectorRecord, ConnectorVersionRecord), ApiError> {
        let record = self.find(caller, action, identifier).await?;
        let number = identifier.version().unwrap_or(record.latest);
        let version = self.store.connector_version(record.id, number).await.map_err(internal)?;
        Ok((record, version.ok_or_else(|| ApiError::connector_not_found(identifier))?))
    }

    /// `GetNetworkConnector`.
    pub async fn get(
        &self,
        caller: &Caller,
        input: api::GetNetworkConnectorInput,
    ) -> Result<api::GetNetworkConnectorOutput, ApiError> {
        let (record, version) = self.find_version(caller, "lambda:GetNetworkConnector", &input.identifier).await?;
        Ok(match input.identifier.version() {
            None => record.view(&version),
            Some(_) => record.version_view(&version),
        })
    }

    /// `ListTags`.
    pub async fn tags(&self, caller: &Caller, arn: &ConnectorArn) -> Result<Tags, ApiError> {
        Ok(self.tagged(caller, arn).await?.tags)
    }

    /// `TagResource` and `UntagResource`: what `change` makes of the connector's tags.
    pub async fn tag(
        &self,
        caller: &Caller,
        arn: &ConnectorArn,
        change: impl FnOnce(&mut Tags),
    ) -> Result<(), ApiError> {
        let _writer = self.writer.lock().await;
        let mut record = self.tagged(caller, arn).await?;
        change(&mut record.tags);
        if record.tags.len() > bounds::TAGS {
            return Err(ApiError::too_many_tags(ErrorKind::InvalidParameterValue));
        }
        self.store.put_connector(&record, None, None).await.map(drop).map_err(internal)
    }

    /// The connector, with the not-found of the tag operations.
    async fn tagged(&self, caller: &Caller, arn: &ConnectorArn) -> Result<ConnectorRecord, ApiError> {
        let found = self.store.connector_of(arn).await.map_err(internal)?;
        let found = found.filter(|record| record.lives_in(&self.home(caller)));
        found.ok_or_else(|| ApiError::resource_not_found(arn))
    }
}

/// An update or a deletion that does not apply, in words.
fn refused(record: &ConnectorRecord, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::State => ApiError::connector_in_state(&record.arn, record.state()),
        Refusal::Updating => ApiError::connector_updating(&record.arn),
    }
}

#[cfg(test)]
mod tests;
