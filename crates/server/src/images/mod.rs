//! Images: which there are, and what the API does with them. What it does with their versions is in [`versions`], how one is
//! built in [`build`].

mod build;
mod builds;
mod failure;
mod managed;
mod versions;
mod views;

use std::sync::Arc;

use api::{
    ApiError, BaseImageVersion, BuildId, CreateMicrovmImageInput, ErrorKind, ImageArn, ImageVersion,
    ImageVersionStatus, Operation, Tags, Timestamp, UpdateMicrovmImageInput, schema::bounds,
};
use lifecycle::images::{Input, Progress, State};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    connectors::check_egress,
    edge::Caller,
    failure::internal,
    shared::{Shared, now, remove_dir},
    store::{Accepted, Build, Claim, ImageRecord, Page, StoreError, VersionRecord},
    tokens::{self, List},
};

/// All images of a server.
pub struct Images {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    /// One change of an image at a time: a creation, a build's end, a deletion.
    writer: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Images {
    /// Takes up every image of the store where it stands: a build that was interrupted begins again, a deletion ends.
    pub async fn load(shared: Arc<Shared>) -> Result<Arc<Self>, StoreError> {
        let all = shared.store.all_images().await?;
        let (tasks, writer, stop) = (TaskTracker::new(), tokio::sync::Mutex::default(), CancellationToken::new());
        let images = Arc::new(Images { shared, tasks, writer, stop });
        for image in all {
            if image.state.building() {
                images.start_build(image.arn.clone());
            } else if image.state == State::Pruning {
                images.start_pruning(image.arn.clone());
            } else if image.state == State::Deleting {
                images.start_removal(image);
            }
        }
        Ok(images)
    }

    /// Ends the builds that run; the next server begins them again.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start_build(self: &Arc<Self>, arn: ImageArn) {
        let images = self.clone();
        self.tasks.spawn(async move { images.build(arn).await });
    }

    fn start_removal(self: &Arc<Self>, image: ImageRecord) {
        let images = self.clone();
        self.tasks.spawn(async move { images.remove(image).await });
    }

    /// `CreateMicrovmImage` (spec 3.2).
    pub async fn create(
        self: &Arc<Self>,
        caller: &Caller,
        input: CreateMicrovmImageInput,
    ) -> Result<api::CreateMicrovmImageOutput, ApiError> {
        let (store, region) = (&self.shared.store, &self.shared.config.file.region.0);
        let arn = ImageArn::new(region.clone(), caller.account.clone(), input.name.clone());
        caller.authorize("lambda:CreateMicrovmImage", &arn)?;
        caller.authorize("iam:PassRole", &input.configuration.build_role_arn)?;
        let base = managed::resolve(region, &input.configuration.base_image_arn, input.base_image_version)?;
        self.runnable(&input.configuration)?;
        let limits = self.shared.config.limits();
        let claim = Claim::of(&caller.account, Operation::CreateMicrovmImage, input.client_token.as_ref(), &input);
        let claim = claim.map_err(internal)?;
        if store.recall(claim.as_ref()).await.map_err(internal)?.is_none() {
            self.check_egress(caller, &input.configuration).await?;
        }
        let at = Timestamp::from_millis(now());
        let image = ImageRecord {
            id: Uuid::new_v4(),
            arn: arn.clone(),
            account: caller.account.clone(),
            state: State::Creating,
            newest: ImageVersion::FIRST,
            latest_active: None,
            latest_failed: None,
            tags: input.tags.clone().unwrap_or_default(),
            created_at: at,
            updated_at: at,
        };
        let version = new_version(ImageVersion::FIRST, input.configuration.with_defaults(region), base, at);
        let (claim, limits) = (claim.as_ref(), limits.as_ref());
        let mut accepted = store.insert_image(&image, &version, claim, limits).await.map_err(internal)?;
        if let (Accepted::Replay(_), Some(claim)) = (&accepted, claim) {
            if let Some(image) = store.image(&arn).await.map_err(internal)? {
                let version = store.version(image.id, ImageVersion::FIRST).await.map_err(internal)?;
                return version
                    .map(|version| image.created(&version))
                    .ok_or_else(|| ApiError::image_name_taken(&input.name));
            }
            // The token outlived the image that it made: the creation is done again (spec 3.1 says what AWS does).
            store.forget_token(claim).await.map_err(internal)?;
            accepted = store.insert_image(&image, &version, Some(claim), limits).await.map_err(internal)?;
        }
        match accepted {
            Accepted::New => {}
            Accepted::Reused => return Err(ApiError::client_token_reused()),
            Accepted::OverQuota(quota) => return Err(quota.into()),
            Accepted::Replay(_) | Accepted::Refused => return Err(ApiError::image_name_taken(&input.name)),
        }
        let mut output = image.created(&version);
        output.tags = input.tags;
        self.start_build(arn);
        Ok(output)
    }

    /// `UpdateMicrovmImage` (spec 3.2): always a new version and a new build.
    pub async fn update(
        self: &Arc<Self>,
        caller: &Caller,
        input: UpdateMicrovmImageInput,
    ) -> Result<api::UpdateMicrovmImageOutput, ApiError> {
        let (store, region) = (&self.shared.store, &self.shared.config.file.region.0);
        let claim = Claim::of(&caller.account, Operation::UpdateMicrovmImage, input.client_token.as_ref(), &input);
        let claim = claim.map_err(internal)?;
        let _writer = self.writer.lock().await;
        let mut image = self.record(caller, &input.image_identifier).await?;
        match store.recall(claim.as_ref()).await.map_err(internal)? {
            None => {}
            Some(Accepted::Replay(number)) => {
                let number = number.parse().map_err(internal)?;
                let version = store.version(image.id, number).await.map_err(internal)?;
                let gone = || ApiError::version_not_found(&image.arn, number);
                return Ok(image.updated(&version.ok_or_else(gone)?));
            }
            Some(_) => return Err(ApiError::client_token_reused()),
        }
        let base = managed::resolve(region, &input.configuration.base_image_arn, input.base_image_version)?;
        self.runnable(&input.configuration)?;
        self.check_egress(caller, &input.configuration).await?;
        let state = image.state.step(Input::Update).map_err(|_| ApiError::image_busy(image.state()))?;
        let at = Timestamp::from_millis(now());
        image.newest = image.newest.next().ok_or_else(ApiError::internal)?;
        (image.state, image.updated_at) = (state, at);
        let version = new_version(image.newest, input.configuration.with_defaults(region), base, at);
        let limits = self.shared.config.limits();
        match store.insert_version(&image, &version, claim.as_ref(), limits.as_ref()).await.map_err(internal)? {
            Accepted::New => {}
            Accepted::OverQuota(quota) => return Err(quota.into()),
            _ => return Err(ApiError::client_token_reused()),
        }
        self.start_build(image.arn.clone());
        Ok(image.updated(&version))
    }

    /// Refuses what this server does not run.
    fn runnable(&self, configuration: &api::ImageConfiguration) -> Result<(), ApiError> {
        let supported = self.shared.config.file.compat.profile.architectures();
        match configuration.architecture() {
            Some(asked) if !supported.contains(&asked) => Err(ApiError::unsupported_architecture(asked, supported)),
            _ => Ok(()),
        }
    }

    /// Can the connectors of a version be used by its microVMs?
    async fn check_egress(&self, caller: &Caller, configuration: &api::ImageConfiguration) -> Result<(), ApiError> {
        let connectors = configuration.egress_network_connectors.as_deref().unwrap_or_default();
        check_egress(&self.shared.store, &self.shared.home(&caller.account), connectors).await
    }

    /// The image, if it is the caller's.
    pub async fn record(&self, caller: &Caller, arn: &ImageArn) -> Result<ImageRecord, ApiError> {
        let image = self.shared.store.image(arn).await.map_err(internal)?;
        image.filter(|image| image.account == caller.account).ok_or_else(|| ApiError::image_not_found(arn))
    }

    /// The version of the caller's image.
    pub async fn version(
        &self,
        caller: &Caller,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<(ImageRecord, VersionRecord), ApiError> {
        let absent = || ApiError::version_not_found(arn, version);
        let image = self.record(caller, arn).await.map_err(|error| match error.status() {
            404 => absent(),
            _ => error,
        })?;
        let found = self.shared.store.version(image.id, version).await.map_err(internal)?;
        Ok((image, found.ok_or_else(absent)?))
    }

    /// `ListMicrovmImages`: newest first; the filter is applied to each page, as the service does (spec 3.1).
    pub async fn list(
        &self,
        caller: &Caller,
        input: api::ListMicrovmImagesInput,
    ) -> Result<api::ListMicrovmImagesOutput, ApiError> {
        let list = List::of(&caller.account, Operation::ListMicrovmImages, &input.name_filter);
        let after = self.shared.cursors.open(&list, input.next_token.as_deref())?;
        let limit = input.max_results.unwrap_or(tokens::PAGE);
        let page = Page { after, limit: limit + 1 };
        let mut images = self.shared.store.images(&caller.account, &page).await.map_err(internal)?;
        let next = tokens::cut(&mut images, limit).map(|last| (last.created_at.as_millis(), last.id.to_string()));
        let next_token = next.map(|next| self.shared.cursors.seal(&list, &next)).transpose()?;
        let wanted = |image: &&ImageRecord| {
            input.name_filter.as_ref().is_none_or(|part| image.arn.name().as_str().contains(part.as_str()))
        };
        Ok(api::ListMicrovmImagesOutput {
            items: images.iter().filter(wanted).map(ImageRecord::summary).collect(),
            next_token,
        })
    }

    /// `DeleteMicrovmImage`: the record stays until the files are gone.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        arn: ImageArn,
    ) -> Result<api::DeleteMicrovmImageOutput, ApiError> {
        let _writer = self.writer.lock().await;
        let mut image = self.record(caller, &arn).await?;
        let before = image.state;
        image.state = before.step(Input::Delete).map_err(|_| ApiError::image_not_deletable(&arn))?;
        if before != State::Deleting {
            image.updated_at = Timestamp::from_millis(now());
            if !self.shared.store.retire(&image, None).await.map_err(internal)? {
                return Err(ApiError::image_in_use());
            }
            self.start_removal(image.clone());
        }
        Ok(api::DeleteMicrovmImageOutput { image_identifier: arn, state: image.state() })
    }

    async fn remove(&self, image: ImageRecord) {
        let removed = remove_dir(self.shared.image_dir(image.id)).await.map_err(|error| error.to_string());
        crash::point("delete image: files removed");
        let _writer = self.writer.lock().await;
        let forgotten = match removed {
            Ok(()) => self.shared.store.delete_image(&image).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::error!(image = %image.arn, %error, "an image could not be removed; the next start tries again");
        }
    }

    /// `TagResource` and `UntagResource`: what `change` makes of the image's tags.
    pub async fn tag(&self, caller: &Caller, arn: &ImageArn, change: impl FnOnce(&mut Tags)) -> Result<(), ApiError> {
        let _writer = self.writer.lock().await;
        let mut image = self.record(caller, arn).await?;
        change(&mut image.tags);
        if image.tags.len() > bounds::TAGS {
            return Err(ApiError::too_many_tags(ErrorKind::InvalidParameterValue));
        }
        self.shared.store.put_image(&image).await.map_err(internal)
    }

    /// `ListManagedMicrovmImages`.
    pub fn managed(&self) -> api::ListManagedMicrovmImagesOutput {
        managed::images(&self.shared.config.file.region.0)
    }

    /// `ListManagedMicrovmImageVersions`.
    pub fn managed_versions(
        &self,
        input: &api::ListManagedMicrovmImageVersionsInput,
    ) -> Result<api::ListManagedMicrovmImageVersionsOutput, ApiError> {
        let config = &self.shared.config.file;
        managed::versions(&config.region.0, &input.image_identifier, config.compat.profile.architectures())
    }
}

fn new_version(
    version: ImageVersion,
    configuration: api::ImageConfiguration,
    base: BaseImageVersion,
    at: Timestamp,
) -> VersionRecord {
    VersionRecord {
        version,
        configuration,
        base_image_version: base,
        status: ImageVersionStatus::Inactive,
        deleting: false,
        build: Build { id: BuildId::new(Uuid::new_v4()), progress: Progress::Pending, reason: None, snapshot: None },
        events: 0,
        created_at: at,
        updated_at: at,
    }
}
