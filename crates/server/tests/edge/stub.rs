//! Operations that remember in memory what they were asked, and the keys of two accounts.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    sync::{Arc, Mutex},
};

use api::{sigv4::SignatureError, *};
use async_trait::async_trait;
use server::{
    NameRecord,
    edge::{Caller, Credential, Endpoints, Identity, Keys, Link, Operations, Target, User},
    keys::AccessKeys,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub const KEY: &str = "AKIAHEARTH00000EDGE1";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const ACCOUNT: &str = "111122223333";
/// A second account, and its key; the secret is the same.
pub const OTHER_ACCOUNT: &str = "444455556666";
pub const OTHER_KEY: &str = "AKIAHEARTH00000EDGE2";

/// The real keys, which hold [`KEY`], and one of another account's root.
pub struct TwoKeys(pub Arc<AccessKeys>);

#[async_trait]
impl Keys for TwoKeys {
    async fn secret(&self, access_key_id: &str) -> Option<Credential> {
        if access_key_id != OTHER_KEY {
            return self.0.secret(access_key_id).await;
        }
        let account: AccountId = OTHER_ACCOUNT.parse().unwrap();
        let identity = Arc::new(Identity::new("aws", account.clone(), User::Root, Vec::new()));
        Some(Credential { secret: Sensitive::new(SECRET.to_owned()), account, identity, temporary: false })
    }

    async fn temporary(&self, access_key_id: &str, token: &str, now: i64) -> Result<Credential, SignatureError> {
        self.0.temporary(access_key_id, token, now).await
    }
}

/// The id whose `GetMicrovm` panics.
pub const PANICS: &str = "microvm-dddddddd-dddd-dddd-dddd-dddddddddddd";
/// The id whose `GetMicrovm` waits for a permit of [`Stub::gate`].
pub const WAITS: &str = "microvm-eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee";

/// The connector at which the server fails.
pub const BROKEN: &str = "nc-ffffffff-ffff-ffff-ffff-ffffffffffff";

pub struct Stub {
    pub images: Mutex<BTreeMap<String, CreateMicrovmImageOutput>>,
    pub microvms: Mutex<BTreeMap<MicrovmId, Microvm>>,
    pub connectors: Mutex<BTreeMap<ConnectorId, GetNetworkConnectorOutput>>,
    pub callers: Mutex<Vec<Caller>>,
    pub entered: Semaphore,
    pub gate: Semaphore,
    pub left: Semaphore,
}

impl Stub {
    pub fn new() -> Arc<Self> {
        Arc::new(Stub {
            images: Mutex::default(),
            microvms: Mutex::default(),
            connectors: Mutex::default(),
            callers: Mutex::default(),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
            left: Semaphore::new(0),
        })
    }

    fn change(&self, id: MicrovmId, state: MicrovmState) -> Result<Unit, ApiError> {
        let mut microvms = self.microvms.lock().unwrap();
        let microvm = microvms.get_mut(&id).ok_or_else(|| ApiError::microvm_not_found(id))?;
        microvm.state = state;
        Ok(Unit {})
    }

    /// The id whose lookup fails on the server's side is [`BROKEN`].
    fn connector(&self, identifier: &ConnectorIdentifier) -> Result<GetNetworkConnectorOutput, ApiError> {
        if identifier.to_string() == BROKEN {
            return Err(ApiError::internal());
        }
        let connectors = self.connectors.lock().unwrap();
        let named = |connector: &&GetNetworkConnectorOutput| match identifier {
            ConnectorIdentifier::Id(id) => connector.connector.id == *id,
            ConnectorIdentifier::Name(name) => connector.connector.name == *name,
            ConnectorIdentifier::Arn(arn) => {
                connector.connector.arn == *arn || connector.connector.version_arn.as_ref() == Some(arn)
            }
        };
        connectors.values().find(named).cloned().ok_or_else(|| ApiError::connector_not_found(identifier))
    }

    fn image(&self, arn: &ImageArn) -> Result<CreateMicrovmImageOutput, ApiError> {
        let found = self.images.lock().unwrap().get(&arn.to_string()).cloned();
        found.ok_or_else(|| ApiError::image_not_found(arn))
    }

    fn version(&self, arn: &ImageArn, version: ImageVersion) -> Result<MicrovmImageVersion, ApiError> {
        let image = self.image(arn).map_err(|_| ApiError::version_not_found(arn, version))?;
        Ok(MicrovmImageVersion {
            image_arn: arn.clone(),
            image_version: version,
            state: ImageVersionState::Successful,
            status: ImageVersionStatus::Active,
            state_reason: None,
            created_at: image.created_at,
            updated_at: None,
            configuration: image.configuration,
            base_image_version: image.base_image_version,
            tags: None,
        })
    }

    fn build(&self, arn: &ImageArn, version: ImageVersion) -> BuildSummary {
        BuildSummary {
            image_arn: arn.clone(),
            image_version: version,
            build_id: BuildId::new(Uuid::nil()),
            build_state: BuildState::Successful,
            architecture: Architecture::X86_64,
            chipset: Chipset::Intel,
            chipset_generation: "1".to_owned(),
            state_reason: None,
            created_at: Timestamp::from_millis(1_790_000_000_123),
        }
    }
}

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn base() -> ManagedImageArn {
    ManagedImageArn::new(region(), "al2023-1".parse().unwrap())
}

#[async_trait]
impl Endpoints for Stub {
    async fn revoke_tokens(&self, caller: &Caller, _: MicrovmId) -> Result<(), ApiError> {
        self.callers.lock().unwrap().push(caller.clone());
        Ok(())
    }

    async fn browser_link(&self, caller: &Caller, _: MicrovmId, link: Link) -> Result<Sensitive<String>, ApiError> {
        self.callers.lock().unwrap().push(caller.clone());
        Ok(Sensitive::new(format!("https://vm.test/{}/{}", link.port, link.minutes)))
    }

    async fn public_port(&self, _: &Caller, id: MicrovmId) -> Result<Option<u16>, ApiError> {
        Err(ApiError::microvm_not_found(id))
    }

    async fn open_port(&self, _: &Caller, id: MicrovmId, _: NonZeroU16) -> Result<(), ApiError> {
        Err(ApiError::microvm_not_found(id))
    }

    async fn put_name(&self, _: &Caller, _: &str, target: Target) -> Result<Arc<NameRecord>, ApiError> {
        Err(ApiError::microvm_not_found(target.microvm))
    }

    fn names(&self, _: &Caller) -> Vec<Arc<NameRecord>> {
        Vec::new()
    }

    async fn delete_name(&self, _: &Caller, host: &str) -> Result<(), ApiError> {
        Err(ApiError::validation(host))
    }

    async fn close_port(&self, _: &Caller, id: MicrovmId) -> Result<(), ApiError> {
        Err(ApiError::microvm_not_found(id))
    }
}

#[async_trait]
impl Operations for Stub {
    async fn create_microvm_image(
        &self,
        caller: &Caller,
        input: CreateMicrovmImageInput,
    ) -> Result<CreateMicrovmImageOutput, ApiError> {
        self.callers.lock().unwrap().push(caller.clone());
        let arn = ImageArn::new(region(), caller.account.clone(), input.name.clone());
        let output = CreateMicrovmImageOutput {
            image_arn: arn.clone(),
            name: input.name.clone(),
            state: ImageState::Creating,
            image_version: ImageVersion::FIRST,
            latest_active_image_version: None,
            latest_failed_image_version: None,
            created_at: Timestamp::from_millis(1_790_000_000_123),
            updated_at: None,
            configuration: input.configuration.with_defaults(&region()),
            base_image_version: Some(input.base_image_version.unwrap_or(BaseImageVersion(1)).echoed()),
            tags: input.tags,
        };
        let before = self.images.lock().unwrap().insert(arn.to_string(), output.clone());
        before.map_or(Ok(output), |_| Err(ApiError::image_name_taken(&input.name)))
    }

    async fn get_microvm_image(
        &self,
        _: &Caller,
        input: GetMicrovmImageInput,
    ) -> Result<GetMicrovmImageOutput, ApiError> {
        let image = self.image(&input.image_identifier)?;
        Ok(GetMicrovmImageOutput {
            image_arn: image.image_arn,
            name: image.name,
            state: ImageState::Created,
            latest_active_image_version: Some(ImageVersion::FIRST),
            latest_failed_image_version: None,
            created_at: image.created_at,
            updated_at: None,
            tags: Some(Tags::new()),
        })
    }

    async fn list_microvm_images(
        &self,
        _: &Caller,
        input: ListMicrovmImagesInput,
    ) -> Result<ListMicrovmImagesOutput, ApiError> {
        let filter = input.name_filter.unwrap_or_default();
        let images = self.images.lock().unwrap();
        let items = images.values().filter(|image| image.name.as_str().contains(&filter)).map(|image| ImageSummary {
            image_arn: image.image_arn.clone(),
            name: image.name.clone(),
            state: image.state,
            latest_active_image_version: None,
            latest_failed_image_version: None,
            created_at: image.created_at,
        });
        Ok(ListMicrovmImagesOutput { items: items.collect(), next_token: input.next_token })
    }

    async fn delete_microvm_image(
        &self,
        _: &Caller,
        input: DeleteMicrovmImageInput,
    ) -> Result<DeleteMicrovmImageOutput, ApiError> {
        self.image(&input.image_identifier)?;
        Ok(DeleteMicrovmImageOutput { image_identifier: input.image_identifier, state: ImageState::Deleting })
    }

    async fn get_microvm_image_version(
        &self,
        _: &Caller,
        input: GetMicrovmImageVersionInput,
    ) -> Result<GetMicrovmImageVersionOutput, ApiError> {
        self.version(&input.image_identifier, input.image_version)
    }

    async fn list_microvm_image_versions(
        &self,
        _: &Caller,
        input: ListMicrovmImageVersionsInput,
    ) -> Result<ListMicrovmImageVersionsOutput, ApiError> {
        let items = vec![self.version(&input.image_identifier, ImageVersion::FIRST)?];
        Ok(ListMicrovmImageVersionsOutput { items, next_token: None })
    }

    async fn get_microvm_image_build(
        &self,
        _: &Caller,
        input: GetMicrovmImageBuildInput,
    ) -> Result<GetMicrovmImageBuildOutput, ApiError> {
        if input.build_id != BuildId::new(Uuid::nil()) {
            return Err(ApiError::build_not_found(&input.image_identifier, input.image_version, input.build_id));
        }
        let build = self.build(&input.image_identifier, input.image_version);
        let sizes = SnapshotBuild { memory_snapshot_size_in_bytes: Some(1 << 40), ..SnapshotBuild::default() };
        Ok(GetMicrovmImageBuildOutput { build, snapshot_build: Some(sizes) })
    }

    async fn list_microvm_image_builds(
        &self,
        _: &Caller,
        input: ListMicrovmImageBuildsInput,
    ) -> Result<ListMicrovmImageBuildsOutput, ApiError> {
        let items = vec![self.build(&input.image_identifier, input.image_version)];
        Ok(ListMicrovmImageBuildsOutput { items, next_token: None })
    }

    async fn list_managed_microvm_images(
        &self,
        _: &Caller,
        _: ListManagedMicrovmImagesInput,
    ) -> Result<ListManagedMicrovmImagesOutput, ApiError> {
        let created_at = Timestamp::from_millis(0);
        let items = vec![ManagedImageSummary { image_arn: base(), created_at, updated_at: None }];
        Ok(ListManagedMicrovmImagesOutput { items, next_token: None })
    }

    async fn list_managed_microvm_image_versions(
        &self,
        _: &Caller,
        input: ListManagedMicrovmImageVersionsInput,
    ) -> Result<ListManagedMicrovmImageVersionsOutput, ApiError> {
        let item = ManagedImageVersion {
            image_arn: input.image_identifier,
            image_version: BaseImageVersion(1),
            status: Some(ManagedImageVersionStatus::Available),
            supported_cpu_configurations: Some(vec![CpuConfiguration { architecture: Architecture::X86_64 }]),
            created_at: Timestamp::from_millis(0),
            updated_at: None,
        };
        Ok(ListManagedMicrovmImageVersionsOutput { items: vec![item], next_token: None })
    }

    async fn run_microvm(&self, caller: &Caller, input: RunMicrovmInput) -> Result<RunMicrovmOutput, ApiError> {
        self.callers.lock().unwrap().push(caller.clone());
        let none = |_| ApiError::no_active_version(&input.image_identifier, None);
        self.image(&input.image_identifier).map_err(none)?;
        let microvm = Microvm {
            microvm_id: MicrovmId::new(Uuid::new_v4()),
            state: MicrovmState::Pending,
            endpoint: "66666666-7777-8888-9999-000000000000.localhost".to_owned(),
            image_arn: input.image_identifier,
            image_version: input.image_version.unwrap_or(ImageVersion::FIRST),
            execution_role_arn: input.execution_role_arn,
            idle_policy: input.idle_policy,
            maximum_duration_in_seconds: input.maximum_duration_in_seconds.unwrap_or(28_800),
            started_at: Timestamp::from_millis(1_790_000_000_123),
            terminated_at: None,
            state_reason: None,
            termination_reason_code: None,
            ingress_network_connectors: Some(vec![ManagedConnector::HttpIngress.arn(&region())]),
            egress_network_connectors: Some(vec![ManagedConnector::InternetEgress.arn(&region())]),
        };
        self.microvms.lock().unwrap().insert(microvm.microvm_id, microvm.clone());
        Ok(microvm)
    }

    async fn get_microvm(&self, _: &Caller, input: GetMicrovmInput) -> Result<GetMicrovmOutput, ApiError> {
        let id = input.microvm_identifier;
        if id.to_string() == PANICS {
            panic!("as asked");
        }
        if id.to_string() == WAITS {
            self.entered.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            self.left.add_permits(1);
        }
        let found = self.microvms.lock().unwrap().get(&id).cloned();
        found.ok_or_else(|| ApiError::microvm_not_found(id))
    }

    async fn list_microvms(&self, _: &Caller, input: ListMicrovmsInput) -> Result<ListMicrovmsOutput, ApiError> {
        let microvms = self.microvms.lock().unwrap();
        let items = microvms.values().take(input.max_results.unwrap_or(50) as usize).map(|microvm| MicrovmSummary {
            microvm_id: microvm.microvm_id,
            state: microvm.state,
            image_arn: microvm.image_arn.clone(),
            image_version: microvm.image_version,
            started_at: microvm.started_at,
        });
        Ok(ListMicrovmsOutput { items: items.collect(), next_token: input.next_token })
    }

    async fn suspend_microvm(&self, _: &Caller, input: SuspendMicrovmInput) -> Result<Unit, ApiError> {
        self.change(input.microvm_identifier, MicrovmState::Suspended)
    }

    async fn resume_microvm(&self, _: &Caller, input: ResumeMicrovmInput) -> Result<Unit, ApiError> {
        self.change(input.microvm_identifier, MicrovmState::Running)
    }

    async fn terminate_microvm(&self, _: &Caller, input: TerminateMicrovmInput) -> Result<Unit, ApiError> {
        self.change(input.microvm_identifier, MicrovmState::Terminated)
    }

    async fn create_microvm_auth_token(
        &self,
        _: &Caller,
        input: CreateMicrovmAuthTokenInput,
    ) -> Result<CreateMicrovmAuthTokenOutput, ApiError> {
        Ok(CreateMicrovmAuthTokenOutput::new(format!("token of {}", input.microvm_identifier)))
    }

    async fn create_microvm_shell_auth_token(
        &self,
        _: &Caller,
        input: CreateMicrovmShellAuthTokenInput,
    ) -> Result<CreateMicrovmShellAuthTokenOutput, ApiError> {
        Ok(CreateMicrovmAuthTokenOutput::new(format!("shell token of {}", input.microvm_identifier)))
    }

    async fn update_microvm_image(
        &self,
        _: &Caller,
        input: UpdateMicrovmImageInput,
    ) -> Result<UpdateMicrovmImageOutput, ApiError> {
        let image = self.image(&input.image_identifier)?;
        Ok(UpdateMicrovmImageOutput {
            image_arn: image.image_arn,
            name: image.name,
            state: ImageState::Updating,
            image_version: ImageVersion::new(2),
            latest_active_image_version: image.latest_active_image_version,
            latest_failed_image_version: None,
            created_at: image.created_at,
            updated_at: image.created_at,
            configuration: input.configuration,
            base_image_version: None,
        })
    }

    async fn update_microvm_image_version(
        &self,
        _: &Caller,
        input: UpdateMicrovmImageVersionInput,
    ) -> Result<UpdateMicrovmImageVersionOutput, ApiError> {
        let version = self.version(&input.image_identifier, input.image_version)?;
        Ok(MicrovmImageVersion { status: input.status, ..version })
    }

    async fn delete_microvm_image_version(
        &self,
        _: &Caller,
        input: DeleteMicrovmImageVersionInput,
    ) -> Result<DeleteMicrovmImageVersionOutput, ApiError> {
        let version = self.version(&input.image_identifier, input.image_version)?;
        Ok(DeleteMicrovmImageVersionOutput {
            image_identifier: version.image_arn,
            image_version: version.image_version,
            state: ImageVersionState::Deleting,
        })
    }

    async fn tag_resource(&self, _: &Caller, input: TagResourceInput) -> Result<Unit, ApiError> {
        let mut images = self.images.lock().unwrap();
        let arn = input.resource.to_string();
        let image = images.get_mut(&arn).ok_or_else(|| ApiError::image_not_found(arn))?;
        image.tags.get_or_insert_default().extend(input.tags);
        Ok(Unit {})
    }

    async fn untag_resource(&self, _: &Caller, input: UntagResourceInput) -> Result<Unit, ApiError> {
        let mut images = self.images.lock().unwrap();
        let arn = input.resource.to_string();
        let image = images.get_mut(&arn).ok_or_else(|| ApiError::image_not_found(arn))?;
        image.tags.get_or_insert_default().retain(|key, _| !input.tag_keys.contains(key));
        Ok(Unit {})
    }

    async fn list_tags(&self, _: &Caller, input: ListTagsInput) -> Result<ListTagsOutput, ApiError> {
        let arn = input.resource.to_string();
        let image = self.images.lock().unwrap().get(&arn).cloned().ok_or_else(|| ApiError::image_not_found(arn))?;
        Ok(ListTagsOutput { tags: image.tags })
    }

    async fn create_network_connector(
        &self,
        caller: &Caller,
        input: CreateNetworkConnectorInput,
    ) -> Result<CreateNetworkConnectorOutput, ApiError> {
        let id = ConnectorId::new(Uuid::new_v4());
        let arn = ConnectorArn::custom(region(), caller.account.clone(), id.uuid());
        let connector = CreateNetworkConnectorOutput {
            arn: arn.clone(),
            name: input.name,
            id,
            version_arn: Some(arn.with_version(1)),
            version: Some(1),
            configuration: Some(input.configuration),
            operator_role: input.operator_role,
            state: Some(ConnectorState::Pending),
        };
        let view = GetNetworkConnectorOutput {
            connector: connector.clone(),
            latest_version_arn: Some(arn.with_version(1)),
            latest_version: Some(1),
            state_reason: None,
            state_reason_code: None,
            last_update_status: None,
            last_update_status_reason: None,
            last_update_status_reason_code: None,
            last_modified: Some(IsoTimestamp(Timestamp::from_millis(1_790_000_000_123))),
        };
        self.connectors.lock().unwrap().insert(id, view);
        Ok(connector)
    }

    async fn get_network_connector(
        &self,
        _: &Caller,
        input: GetNetworkConnectorInput,
    ) -> Result<GetNetworkConnectorOutput, ApiError> {
        self.connector(&input.identifier)
    }

    async fn list_network_connectors(
        &self,
        _: &Caller,
        input: ListNetworkConnectorsInput,
    ) -> Result<ListNetworkConnectorsOutput, ApiError> {
        let connectors = self.connectors.lock().unwrap();
        let wanted = connectors.values().filter(|one| input.state.is_none() || input.state == one.connector.state);
        let items = wanted.take(input.max_items.unwrap_or(50) as usize).map(|one| ConnectorSummary {
            arn: one.connector.arn.clone(),
            name: one.connector.name.clone(),
            id: one.connector.id,
            kind: ConnectorType::VpcEgress,
            state: one.connector.state,
            last_modified: one.last_modified,
            latest_version_arn: one.latest_version_arn.clone(),
            latest_version: one.latest_version,
        });
        Ok(ListNetworkConnectorsOutput { network_connectors: items.collect(), next_marker: input.marker })
    }

    async fn list_network_connector_versions(
        &self,
        _: &Caller,
        input: ListNetworkConnectorVersionsInput,
    ) -> Result<ListNetworkConnectorVersionsOutput, ApiError> {
        let found = self.connector(&input.identifier)?;
        let item = ConnectorVersionSummary {
            arn: found.connector.arn,
            version_arn: found.connector.version_arn.unwrap(),
            name: found.connector.name,
            id: found.connector.id,
            version: found.connector.version.unwrap(),
            state: found.connector.state.unwrap(),
            state_reason: None,
            state_reason_code: None,
            last_modified: found.last_modified,
        };
        Ok(ListNetworkConnectorVersionsOutput { network_connector_versions: vec![item], next_marker: input.marker })
    }

    async fn update_network_connector(
        &self,
        _: &Caller,
        input: UpdateNetworkConnectorInput,
    ) -> Result<UpdateNetworkConnectorOutput, ApiError> {
        let found = self.connector(&input.identifier)?;
        Ok(UpdateNetworkConnectorOutput {
            connector: found.connector,
            last_update_status: Some(LastUpdateStatus::InProgress),
            last_update_status_reason: None,
            last_modified: found.last_modified,
        })
    }

    async fn delete_network_connector(
        &self,
        _: &Caller,
        input: DeleteNetworkConnectorInput,
    ) -> Result<DeleteNetworkConnectorOutput, ApiError> {
        let found = self.connector(&input.identifier)?;
        self.connectors.lock().unwrap().remove(&found.connector.id);
        Ok(CreateNetworkConnectorOutput { state: Some(ConnectorState::Deleting), ..found.connector })
    }
}
