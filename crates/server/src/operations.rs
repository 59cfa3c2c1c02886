//! The operations of the API, each handed to the part that does it.

use std::sync::Arc;

use api::*;
use async_trait::async_trait;
use ingress::{Claims, Kind, PortRange as TokenPorts, TokenKeys};
use lifecycle::microvms::{Input, State};

use crate::{
    connectors::Connectors,
    edge::{Caller, Operations},
    images::Images,
    microvms::Microvms,
    shared::now,
    store::MicrovmRecord,
    tokens,
};

/// See the module.
pub struct ControlPlane {
    /// Images.
    pub images: Arc<Images>,
    /// MicroVMs.
    pub microvms: Arc<Microvms>,
    /// Network connectors.
    pub connectors: Arc<Connectors>,
    /// Keys of the endpoint tokens.
    pub tokens: Arc<TokenKeys>,
}

#[async_trait]
impl Operations for ControlPlane {
    async fn create_microvm_image(
        &self,
        caller: &Caller,
        input: CreateMicrovmImageInput,
    ) -> Result<CreateMicrovmImageOutput, ApiError> {
        self.images.create(caller, input).await
    }

    async fn get_microvm_image(
        &self,
        caller: &Caller,
        input: GetMicrovmImageInput,
    ) -> Result<GetMicrovmImageOutput, ApiError> {
        caller.authorize("lambda:GetMicrovmImage", &input.image_identifier)?;
        Ok(self.images.record(caller, &input.image_identifier).await?.view())
    }

    async fn list_microvm_images(
        &self,
        caller: &Caller,
        input: ListMicrovmImagesInput,
    ) -> Result<ListMicrovmImagesOutput, ApiError> {
        caller.authorize("lambda:ListMicrovmImages", "*")?;
        self.images.list(caller, input).await
    }

    async fn delete_microvm_image(
        &self,
        caller: &Caller,
        input: DeleteMicrovmImageInput,
    ) -> Result<DeleteMicrovmImageOutput, ApiError> {
        caller.authorize("lambda:DeleteMicrovmImage", &input.image_identifier)?;
        self.images.delete(caller, input.image_identifier).await
    }

    async fn update_microvm_image(
        &self,
        caller: &Caller,
        input: UpdateMicrovmImageInput,
    ) -> Result<UpdateMicrovmImageOutput, ApiError> {
        caller.authorize("lambda:UpdateMicrovmImage", &input.image_identifier)?;
        caller.authorize("iam:PassRole", &input.configuration.build_role_arn)?;
        self.images.update(caller, input).await
    }

    async fn get_microvm_image_version(
        &self,
        caller: &Caller,
        input: GetMicrovmImageVersionInput,
    ) -> Result<GetMicrovmImageVersionOutput, ApiError> {
        caller.authorize("lambda:GetMicrovmImageVersion", &input.image_identifier)?;
        let (image, version) = self.images.version(caller, &input.image_identifier, input.image_version).await?;
        Ok(version.view(&image))
    }

    async fn list_microvm_image_versions(
        &self,
        caller: &Caller,
        input: ListMicrovmImageVersionsInput,
    ) -> Result<ListMicrovmImageVersionsOutput, ApiError> {
        caller.authorize("lambda:ListMicrovmImageVersions", "*")?;
        self.images.versions(caller, input).await
    }

    async fn update_microvm_image_version(
        &self,
        caller: &Caller,
        input: UpdateMicrovmImageVersionInput,
    ) -> Result<UpdateMicrovmImageVersionOutput, ApiError> {
        caller.authorize("lambda:UpdateMicrovmImageVersion", &input.image_identifier)?;
        self.images.set_status(caller, input).await
    }

    async fn delete_microvm_image_version(
        &self,
        caller: &Caller,
        input: DeleteMicrovmImageVersionInput,
    ) -> Result<DeleteMicrovmImageVersionOutput, ApiError> {
        caller.authorize("lambda:DeleteMicrovmImageVersion", &input.image_identifier)?;
        self.images.delete_version(caller, input.image_identifier, input.image_version).await
    }

    async fn get_microvm_image_build(
        &self,
        caller: &Caller,
        input: GetMicrovmImageBuildInput,
    ) -> Result<GetMicrovmImageBuildOutput, ApiError> {
        caller.authorize("lambda:GetMicrovmImageBuild", &input.image_identifier)?;
        self.images.get_build(caller, input).await
    }

    async fn list_microvm_image_builds(
        &self,
        caller: &Caller,
        input: ListMicrovmImageBuildsInput,
    ) -> Result<ListMicrovmImageBuildsOutput, ApiError> {
        caller.authorize("lambda:ListMicrovmImageBuilds", "*")?;
        self.images.list_builds(caller, input).await
    }

    async fn list_managed_microvm_images(
        &self,
        caller: &Caller,
        input: ListManagedMicrovmImagesInput,
    ) -> Result<ListManagedMicrovmImagesOutput, ApiError> {
        caller.authorize("lambda:ListManagedMicrovmImages", "*")?;
        tokens::single_page(input.next_token.as_deref())?;
        Ok(self.images.managed())
    }

    async fn list_managed_microvm_image_versions(
        &self,
        caller: &Caller,
        input: ListManagedMicrovmImageVersionsInput,
    ) -> Result<ListManagedMicrovmImageVersionsOutput, ApiError> {
        caller.authorize("lambda:ListManagedMicrovmImageVersions", "*")?;
        tokens::single_page(input.next_token.as_deref())?;
        self.images.managed_versions(&input)
    }

    async fn run_microvm(&self, caller: &Caller, input: RunMicrovmInput) -> Result<RunMicrovmOutput, ApiError> {
        self.microvms.run(caller, input).await
    }

    async fn get_microvm(&self, caller: &Caller, input: GetMicrovmInput) -> Result<GetMicrovmOutput, ApiError> {
        self.microvms.get(caller, input.microvm_identifier).await
    }

    async fn list_microvms(&self, caller: &Caller, input: ListMicrovmsInput) -> Result<ListMicrovmsOutput, ApiError> {
        caller.authorize("lambda:ListMicrovms", "*")?;
        self.microvms.list(caller, input).await
    }

    async fn suspend_microvm(
        &self,
        caller: &Caller,
        input: SuspendMicrovmInput,
    ) -> Result<SuspendMicrovmOutput, ApiError> {
        self.microvms.ask(caller, "lambda:SuspendMicrovm", input.microvm_identifier, Input::Suspend).await?;
        Ok(Unit {})
    }

    async fn resume_microvm(
        &self,
        caller: &Caller,
        input: ResumeMicrovmInput,
    ) -> Result<ResumeMicrovmOutput, ApiError> {
        self.microvms.ask(caller, "lambda:ResumeMicrovm", input.microvm_identifier, Input::Resume).await?;
        Ok(Unit {})
    }

    async fn terminate_microvm(
        &self,
        caller: &Caller,
        input: TerminateMicrovmInput,
    ) -> Result<TerminateMicrovmOutput, ApiError> {
        self.microvms.ask(caller, "lambda:TerminateMicrovm", input.microvm_identifier, Input::Terminate).await?;
        Ok(Unit {})
    }

    async fn create_microvm_auth_token(
        &self,
        caller: &Caller,
        input: CreateMicrovmAuthTokenInput,
    ) -> Result<CreateMicrovmAuthTokenOutput, ApiError> {
        let ports = input.allowed_ports.iter().map(|port| match port {
            PortSpecification::Port(port) => TokenPorts::single(*port),
            PortSpecification::Range(range) => TokenPorts { start: range.start_port, end: range.end_port },
            PortSpecification::AllPorts(Unit {}) => TokenPorts::ALL,
        });
        let record = self.live(caller, "lambda:CreateMicrovmAuthToken", input.microvm_identifier).await?;
        Ok(self.token(&record, Kind::Auth, ports.collect(), input.expiration_in_minutes))
    }

    async fn create_microvm_shell_auth_token(
        &self,
        caller: &Caller,
        input: CreateMicrovmShellAuthTokenInput,
    ) -> Result<CreateMicrovmShellAuthTokenOutput, ApiError> {
        let record = self.live(caller, "lambda:CreateMicrovmShellAuthToken", input.microvm_identifier).await?;
        if !record.ingress.shell {
            return Err(ApiError::no_shell_ingress());
        }
        Ok(self.token(&record, Kind::Shell, Vec::new(), input.expiration_in_minutes))
    }

    async fn tag_resource(&self, caller: &Caller, input: TagResourceInput) -> Result<TagResourceOutput, ApiError> {
        caller.authorize("lambda:TagResource", &input.resource)?;
        match &input.resource {
            TaggableArn::Image(arn) => self.images.tag(caller, arn, |tags| tags.extend(input.tags)).await?,
            TaggableArn::Connector(arn) => self.connectors.tag(caller, arn, |tags| tags.extend(input.tags)).await?,
        }
        Ok(Unit {})
    }

    async fn untag_resource(
        &self,
        caller: &Caller,
        input: UntagResourceInput,
    ) -> Result<UntagResourceOutput, ApiError> {
        caller.authorize("lambda:UntagResource", &input.resource)?;
        let untag = |tags: &mut Tags| tags.retain(|key, _| !input.tag_keys.contains(key));
        match &input.resource {
            TaggableArn::Image(arn) => self.images.tag(caller, arn, untag).await?,
            TaggableArn::Connector(arn) => self.connectors.tag(caller, arn, untag).await?,
        }
        Ok(Unit {})
    }

    async fn list_tags(&self, caller: &Caller, input: ListTagsInput) -> Result<ListTagsOutput, ApiError> {
        caller.authorize("lambda:ListTags", &input.resource)?;
        match &input.resource {
            TaggableArn::Image(arn) => Ok(ListTagsOutput { tags: Some(self.images.record(caller, arn).await?.tags) }),
            TaggableArn::Connector(arn) => Ok(ListTagsOutput { tags: Some(self.connectors.tags(caller, arn).await?) }),
        }
    }

    async fn create_network_connector(
        &self,
        caller: &Caller,
        input: CreateNetworkConnectorInput,
    ) -> Result<CreateNetworkConnectorOutput, ApiError> {
        self.connectors.create(caller, input).await
    }

    async fn get_network_connector(
        &self,
        caller: &Caller,
        input: GetNetworkConnectorInput,
    ) -> Result<GetNetworkConnectorOutput, ApiError> {
        self.connectors.get(caller, input).await
    }

    async fn list_network_connectors(
        &self,
        caller: &Caller,
        input: ListNetworkConnectorsInput,
    ) -> Result<ListNetworkConnectorsOutput, ApiError> {
        self.connectors.list(caller, input).await
    }

    async fn list_network_connector_versions(
        &self,
        caller: &Caller,
        input: ListNetworkConnectorVersionsInput,
    ) -> Result<ListNetworkConnectorVersionsOutput, ApiError> {
        self.connectors.versions(caller, input).await
    }

    async fn update_network_connector(
        &self,
        caller: &Caller,
        input: UpdateNetworkConnectorInput,
    ) -> Result<UpdateNetworkConnectorOutput, ApiError> {
        self.connectors.update(caller, input).await
    }

    async fn delete_network_connector(
        &self,
        caller: &Caller,
        input: DeleteNetworkConnectorInput,
    ) -> Result<DeleteNetworkConnectorOutput, ApiError> {
        self.connectors.delete(caller, input).await
    }
}

impl ControlPlane {
    /// The record of a microVM that is not over.
    async fn live(&self, caller: &Caller, action: &str, id: MicrovmId) -> Result<Arc<MicrovmRecord>, ApiError> {
        let record = self.microvms.record(caller, action, id).await?;
        match record.life.state {
            State::Terminated => Err(ApiError::microvm_terminated(id)),
            _ => Ok(record),
        }
    }

    fn token(
        &self,
        record: &MicrovmRecord,
        kind: Kind,
        ports: Vec<TokenPorts>,
        minutes: u32,
    ) -> CreateMicrovmAuthTokenOutput {
        let seconds = u64::try_from(now() / 1000).unwrap_or_default();
        let expires_at = seconds + u64::from(minutes) * 60;
        let claims = Claims { microvm: record.id.to_string(), kind, ports, expires_at, revocation: record.revocation };
        CreateMicrovmAuthTokenOutput::new(self.tokens.mint(&claims).into_string())
    }
}
