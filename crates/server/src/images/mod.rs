//! Images: which there are, and what the API does with them. How one is built is [`build`].

mod build;
mod failure;
mod managed;
mod views;

use std::sync::Arc;

use api::{
    ApiError, BaseImageVersion, BuildId, CreateMicrovmImageInput, ImageArn, ImageVersion, ImageVersionStatus, Timestamp,
};
use lifecycle::images::{Input, Progress, State};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    edge::Caller,
    failure::internal,
    shared::{Shared, now, remove_dir},
    store::{Build, ImageRecord, Page, Remembered, StoreError, VersionRecord},
    tokens,
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
        let region = &self.shared.config.file.region.0;
        let arn = ImageArn::new(region.clone(), caller.account.clone(), input.name.clone());
        caller.authorize("lambda:CreateMicrovmImage", &arn)?;
        caller.authorize("iam:PassRole", &input.configuration.build_role_arn)?;
        let base = managed::resolve(region, &input.configuration.base_image_arn, input.base_image_version)?;
        if let Some(token) = &input.client_token {
            let (store, fingerprint) = (&self.shared.store, tokens::fingerprint(&input)?);
            let text = arn.to_string();
            let known = store
                .remember_token(&caller.account, "CreateMicrovmImage", token, &fingerprint, &text, now())
                .await
                .map_err(internal)?;
            match known {
                Remembered::New => {}
                Remembered::Different => return Err(ApiError::client_token_reused()),
                // A token outlives the image it made; then the creation is done again (spec 3.1 says what AWS does).
                Remembered::Same(_) => {
                    if let Some(image) = store.image(&arn).await.map_err(internal)? {
                        let version = store.version(image.id, ImageVersion::FIRST).await.map_err(internal)?;
                        return version.map(|version| image.created(&version)).ok_or_else(ApiError::internal);
                    }
                }
            }
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
        let version = first_version(input.configuration.with_defaults(region), base, at);
        if !self.shared.store.insert_image(&image, &version).await.map_err(internal)? {
            if let Some(token) = &input.client_token {
                let forgotten = self.shared.store.forget_token(&caller.account, "CreateMicrovmImage", token).await;
                forgotten.map_err(internal)?;
            }
            return Err(ApiError::image_name_taken(&input.name));
        }
        let mut output = image.created(&version);
        output.tags = input.tags;
        self.start_build(arn);
        Ok(output)
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
        let after = tokens::read_cursor(input.next_token.as_deref())?;
        let limit = input.max_results.unwrap_or(tokens::PAGE);
        let page = Page { after: after.as_ref().map(|(at, id)| (*at, id.as_str())), limit: limit + 1 };
        let mut images = self.shared.store.images(&caller.account, page).await.map_err(internal)?;
        let more = images.len() > limit as usize;
        images.truncate(limit as usize);
        let last = images.last().filter(|_| more);
        let next_token = last.map(|image| tokens::cursor(image.created_at.as_millis(), &image.id.to_string()));
        let wanted = |image: &&ImageRecord| {
            input.name_filter.as_ref().is_none_or(|part| image.arn.name().as_str().contains(part.as_str()))
        };
        Ok(api::ListMicrovmImagesOutput {
            items: images.iter().filter(wanted).map(ImageRecord::summary).collect(),
            next_token,
        })
    }

    /// `ListMicrovmImageVersions`: newest first.
    pub async fn versions(
        &self,
        caller: &Caller,
        input: api::ListMicrovmImageVersionsInput,
    ) -> Result<api::ListMicrovmImageVersionsOutput, ApiError> {
        let image = self.record(caller, &input.image_identifier).await?;
        let before = tokens::read_cursor(input.next_token.as_deref())?.map_or(i64::MAX, |(number, _)| number);
        let limit = input.max_results.unwrap_or(tokens::PAGE) as usize;
        let mut versions = self.shared.store.versions(image.id).await.map_err(internal)?;
        versions.retain(|version| i64::from(version.version.major()) < before);
        let more = versions.len() > limit;
        versions.truncate(limit);
        let last = versions.last().filter(|_| more);
        let next_token = last.map(|version| tokens::cursor(i64::from(version.version.major()), ""));
        let items = versions.iter().map(|version| version.view(&image)).collect();
        Ok(api::ListMicrovmImageVersionsOutput { items, next_token })
    }

    /// `DeleteMicrovmImage`: the record stays until the files are gone.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        arn: ImageArn,
    ) -> Result<api::DeleteMicrovmImageOutput, ApiError> {
        let _writer = self.writer.lock().await;
        let mut image = self.record(caller, &arn).await?;
        if self.shared.store.live_microvms_of(&arn).await.map_err(internal)? > 0 {
            return Err(ApiError::image_in_use());
        }
        let before = image.state;
        image.state = before.step(Input::Delete).map_err(|_| ApiError::image_not_deletable(&arn))?;
        if before != State::Deleting {
            image.updated_at = Timestamp::from_millis(now());
            self.shared.store.put_image(&image).await.map_err(internal)?;
            self.start_removal(image.clone());
        }
        Ok(api::DeleteMicrovmImageOutput { image_identifier: arn, state: image.state() })
    }

    async fn remove(&self, image: ImageRecord) {
        let removed = remove_dir(self.shared.image_dir(image.id)).await.map_err(|error| error.to_string());
        let forgotten = match removed {
            Ok(()) => self.shared.store.delete_image(image.id).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::error!(image = %image.arn, %error, "an image could not be removed; the next start tries again");
        }
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
        managed::versions(&self.shared.config.file.region.0, &input.image_identifier)
    }
}

fn first_version(configuration: api::ImageConfiguration, base: BaseImageVersion, at: Timestamp) -> VersionRecord {
    VersionRecord {
        version: ImageVersion::FIRST,
        configuration,
        base_image_version: base,
        status: ImageVersionStatus::Inactive,
        build: Build { id: BuildId::new(Uuid::new_v4()), progress: Progress::Pending, reason: None, snapshot: None },
        events: 0,
        created_at: at,
        updated_at: at,
    }
}
