//! MicroVMs: which there are, and what the API does with them. What may happen is in `lifecycle`; how it happens is one file
//! a verb: [`run`](self), `suspend`, `resume`, `terminate`.

mod access;
mod activity;
mod cell;
mod driver;
pub mod guest;
mod resume;
mod run;
mod suspend;
mod terminate;
mod wake;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use api::{
    ApiError, Connector, ConnectorArn, ImageVersionStatus, ManagedConnector, MicrovmId, Operation, RunMicrovmInput,
};
use ingress::{Allowance, Share};
use lifecycle::{
    Millis,
    images::Progress,
    microvms::{Input, Microvm, Policy, Refusal},
};
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use self::{
    cell::{ApplyError, Cell},
    driver::Driver,
};
use crate::{
    connectors::check_egress,
    edge::Caller,
    failure::internal,
    shared::{Shared, now},
    store::{Accepted, Claim, Ingress, MicrovmRecord, Page, snapshot_of},
    tokens::{self, List},
};

/// Endpoints of terminated microVMs that still answer with 502 after a restart.
const PAST_ENDPOINTS: u32 = 10_000;

/// All microVMs of a server.
pub struct Microvms {
    shared: Arc<Shared>,
    cells: RwLock<HashMap<MicrovmId, Arc<Cell>>>,
    /// By the first label of their hosts.
    endpoints: RwLock<HashMap<String, Endpoint>>,
    /// What may follow it.
    domains: Vec<String>,
    /// What the endpoint of a microVM that is over may carry.
    nothing: Arc<Share>,
    tasks: TaskTracker,
    /// Notes activity; ends with the server.
    noter: OnceLock<AbortHandle>,
    stop: CancellationToken,
}

/// Who is behind an endpoint host.
#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Live(MicrovmId),
    Past(MicrovmId),
}

impl Microvms {
    /// Takes up every microVM of the store where it stands.
    pub async fn load(shared: Arc<Shared>) -> Result<Arc<Self>, crate::store::StoreError> {
        let past = shared.store.past_endpoints(PAST_ENDPOINTS).await?;
        let live = shared.store.live_microvms().await?;
        let endpoints =
            past.into_iter().filter_map(|(label, id)| Some((label, Endpoint::Past(id.parse().ok()?)))).collect();
        let microvms = Arc::new(Microvms {
            domains: shared.config.endpoint_domains(),
            shared,
            cells: RwLock::default(),
            endpoints: RwLock::new(endpoints),
            tasks: TaskTracker::new(),
            noter: OnceLock::new(),
            nothing: Arc::new(Share::new(Allowance::at_once(1))),
            stop: CancellationToken::new(),
        });
        let mut seen = microvms.shared.store.activity().await?;
        for record in live {
            let before = seen.remove(&record.id);
            microvms.adopt(record, before.map(activity::since_noted));
        }
        microvms.start_noting();
        Ok(microvms)
    }

    /// Puts a stored microVM into the maps and starts its driver.
    fn adopt(self: &Arc<Self>, record: MicrovmRecord, seen: Option<Millis>) {
        let (id, label) = (record.id, record.endpoint_label().to_owned());
        let share = Share::new(self.shared.config.allowance(record.memory_mib));
        let cell = Arc::new(Cell::new(record, share));
        if let Some(at) = seen {
            cell.touched(at);
        }
        write(&self.cells).insert(id, cell.clone());
        write(&self.endpoints).insert(label.clone(), Endpoint::Live(id));
        let microvms = self.clone();
        self.tasks.spawn(async move {
            let driver = Driver::new(microvms.shared.clone(), cell);
            tokio::select! {
                () = driver.drive() => {}
                // As good as a kill: the next server goes on from there.
                () = microvms.stop.cancelled() => return,
            }
            write(&microvms.endpoints).insert(label, Endpoint::Past(id));
            write(&microvms.cells).remove(&id);
        });
    }

    /// `RunMicrovm` (spec 3.2).
    pub async fn run(self: &Arc<Self>, caller: &Caller, input: RunMicrovmInput) -> Result<api::Microvm, ApiError> {
        caller.authorize("lambda:RunMicrovm", &input.image_identifier)?;
        if let Some(role) = &input.execution_role_arn {
            caller.authorize("iam:PassRole", role)?;
        }
        let store = &self.shared.store;
        let claim = Claim::of(&caller.account, Operation::RunMicrovm, input.client_token.as_ref(), &input);
        let claim = claim.map_err(internal)?;
        if let Some(before) = store.recall(claim.as_ref()).await.map_err(internal)? {
            return self.replay(caller, before).await;
        }
        let image = store.image(&input.image_identifier).await.map_err(internal)?;
        let absent = || {
            let version = input.image_version.as_ref().map(|version| version as &dyn std::fmt::Display);
            ApiError::no_active_version(&input.image_identifier, version)
        };
        let image = image.filter(|image| image.account == caller.account).ok_or_else(absent)?;
        let version = input.image_version.or(image.latest_active).ok_or_else(absent)?;
        let version = store.version(image.id, version).await.map_err(internal)?.ok_or_else(absent)?;
        if version.build.progress != Progress::Successful || version.status != ImageVersionStatus::Active {
            return Err(absent());
        }
        let hooks = version.configuration.hooks.unwrap_or_default();
        if input.run_hook_payload.is_some() && !hooks.run() {
            return Err(ApiError::payload_without_run_hook());
        }
        let region = &self.shared.config.file.region.0;
        let ingress_connectors = chosen(&input.ingress_network_connectors)
            .unwrap_or_else(|| vec![ManagedConnector::HttpIngress.arn(region)]);
        let inherited = version.configuration.egress_network_connectors.clone().unwrap_or_default();
        let egress_connectors = chosen(&input.egress_network_connectors).unwrap_or(inherited);
        // Those that nobody asked for too (spec 3.1).
        for connector in ingress_connectors.iter().chain(&egress_connectors) {
            caller.authorize("lambda:PassNetworkConnector", connector)?;
        }
        check_egress(store, &self.shared.home(&caller.account), &egress_connectors).await?;
        let lifetime = self.shared.config.file.limits.microvm_seconds.of(input.maximum_duration_in_seconds);
        let record = MicrovmRecord {
            id: MicrovmId::new(Uuid::new_v4()),
            account: caller.account.clone(),
            endpoint: self.shared.config.endpoint(&Uuid::new_v4().to_string(), 443),
            image_arn: image.arn.clone(),
            version: version.version,
            image_dir: self.shared.image_dir(image.id).join(version.version.to_string()),
            image_events: version.events,
            memory_mib: version.configuration.memory_mib(),
            hooks,
            execution_role_arn: input.execution_role_arn,
            idle_policy: input.idle_policy,
            ingress: meaning(&ingress_connectors),
            ingress_connectors,
            egress_connectors,
            logging: input.logging.or(version.configuration.logging),
            run_hook_payload: input.run_hook_payload,
            life: Microvm::accepted(policy(input.idle_policy, lifetime), now()),
            machine: None,
            saved_dir: None,
            snapshot: version.build.snapshot.map(snapshot_of),
            revocation: 0,
            public_port: None,
        };
        let limits = self.shared.config.limits();
        match store.insert_microvm(&record, claim.as_ref(), limits.as_ref()).await.map_err(internal)? {
            Accepted::New => {}
            Accepted::Refused => return Err(absent()),
            Accepted::OverQuota(quota) => return Err(quota.into()),
            before => return self.replay(caller, before).await,
        }
        let view = self.view(&record);
        self.adopt(record, None);
        Ok(view)
    }

    /// The answer to a client token that was used before.
    async fn replay(&self, caller: &Caller, before: Accepted) -> Result<api::Microvm, ApiError> {
        let Accepted::Replay(id) = before else { return Err(ApiError::client_token_reused()) };
        let id = id.parse().map_err(internal)?;
        let record = self.find(caller, id).await?.ok_or_else(|| ApiError::microvm_not_found(id))?;
        Ok(self.view(&record))
    }

    /// `GetMicrovm`.
    pub async fn get(&self, caller: &Caller, id: MicrovmId) -> Result<api::Microvm, ApiError> {
        Ok(self.view(&*self.record(caller, "lambda:GetMicrovm", id).await?))
    }

    fn view(&self, record: &MicrovmRecord) -> api::Microvm {
        record.view(self.shared.config.endpoint(record.endpoint_label(), self.shared.ingress_port))
    }

    /// The record, if it is the caller's and the caller may do that to microVMs of its image (spec 3.1). Who may not do it to
    /// all images is not told that there is no such microVM.
    pub async fn record(&self, caller: &Caller, action: &str, id: MicrovmId) -> Result<Arc<MicrovmRecord>, ApiError> {
        let Some(record) = self.find(caller, id).await? else {
            let (region, account) = (&self.shared.config.file.region.0, &caller.account);
            let all = format!("arn:{}:lambda:{region}:{account}:microvm-image:*", region.partition());
            caller.authorize(action, all)?;
            return Err(ApiError::microvm_not_found(id));
        };
        caller.authorize(action, &record.image_arn)?;
        Ok(record)
    }

    /// The record, if it is the caller's.
    async fn find(&self, caller: &Caller, id: MicrovmId) -> Result<Option<Arc<MicrovmRecord>>, ApiError> {
        let record = match self.cell(id) {
            Some(cell) => Some(cell.record()),
            None => self.shared.store.microvm(id).await.map_err(internal)?.map(Arc::new),
        };
        Ok(record.filter(|record| record.account == caller.account))
    }

    /// `ListMicrovms`: newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        input: api::ListMicrovmsInput,
    ) -> Result<api::ListMicrovmsOutput, ApiError> {
        let version = match &input.image_version {
            None => None,
            Some(text) => match text.parse::<api::ImageVersion>() {
                Ok(version) => Some(i64::from(version.major())),
                Err(_) => return Ok(api::ListMicrovmsOutput { items: Vec::new(), next_token: None }),
            },
        };
        let image = input.image_identifier.as_ref();
        let list = List::of(&caller.account, Operation::ListMicrovms, (image, version));
        let after = self.shared.cursors.open(&list, input.next_token.as_deref())?;
        let limit = input.max_results.unwrap_or(tokens::PAGE);
        let page = Page { after, limit: limit + 1 };
        let mut records = self.shared.store.microvms(&caller.account, image, version, &page).await.map_err(internal)?;
        let next = tokens::cut(&mut records, limit).map(|last| (last.life.started_at, last.id.to_string()));
        let next_token = next.map(|next| self.shared.cursors.seal(&list, &next)).transpose()?;
        Ok(api::ListMicrovmsOutput { items: records.iter().map(MicrovmRecord::summary).collect(), next_token })
    }

    /// `SuspendMicrovm`, `ResumeMicrovm`, `TerminateMicrovm`: asks for it; the driver does it.
    pub async fn ask(&self, caller: &Caller, action: &str, id: MicrovmId, input: Input) -> Result<(), ApiError> {
        let record = self.record(caller, action, id).await?;
        let Some(cell) = self.cell(id) else {
            return match input {
                Input::Terminate => Ok(()),
                _ => Err(ApiError::microvm_terminated(id)),
            };
        };
        match cell.apply(&self.shared.store, input, |_| {}).await {
            Ok(_) => Ok(()),
            Err(ApplyError::Refused(Refusal::Over)) => Err(ApiError::microvm_terminated(id)),
            Err(ApplyError::Refused(Refusal::Busy)) => Err(ApiError::microvm_in_state(id, record.state())),
            Err(ApplyError::Store(error)) => Err(internal(error)),
        }
    }

    fn cell(&self, id: MicrovmId) -> Option<Arc<Cell>> {
        read(&self.cells).get(&id).cloned()
    }
}

fn chosen(connectors: &Option<Vec<ConnectorArn>>) -> Option<Vec<ConnectorArn>> {
    connectors.clone().filter(|list| !list.is_empty())
}

/// What traffic the ingress connectors let in (spec 7).
fn meaning(connectors: &[ConnectorArn]) -> Ingress {
    let has = |wanted| connectors.iter().any(|arn| matches!(arn.connector(), Connector::Managed(is) if *is == wanted));
    let all = has(ManagedConnector::AllIngress);
    Ingress {
        application: all || has(ManagedConnector::HttpIngress),
        shell: all || has(ManagedConnector::ShellIngress),
    }
}

fn policy(idle: Option<api::IdlePolicy>, lifetime_seconds: Option<u32>) -> Policy {
    let millis = |seconds: u32| i64::from(seconds) * 1000;
    Policy {
        idle: idle.map(|policy| millis(policy.max_idle_duration_seconds)),
        suspended: idle.map(|policy| millis(policy.suspended_duration_seconds)),
        auto_resume: idle.is_some_and(|policy| policy.auto_resume_enabled),
        lifetime: lifetime_seconds.map(millis),
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
