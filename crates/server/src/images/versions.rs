//! Versions of an image: lists, status, deletion (spec 3.2).

use std::sync::Arc;

use api::{ApiError, ImageArn, ImageVersion, ImageVersionStatus, Operation, Timestamp};
use lifecycle::images::{Input, Progress};

use super::Images;
use crate::{
    edge::Caller,
    failure::internal,
    shared::{now, remove_dir},
    store::{ImageEvent, ImageRecord, VersionRecord},
    tokens::{self, List},
};

impl Images {
    /// `ListMicrovmImageVersions`: newest first.
    pub async fn versions(
        &self,
        caller: &Caller,
        input: api::ListMicrovmImageVersionsInput,
    ) -> Result<api::ListMicrovmImageVersionsOutput, ApiError> {
        let image = self.record(caller, &input.image_identifier).await?;
        let list = List::of(&caller.account, Operation::ListMicrovmImageVersions, image.id);
        let before = self.shared.cursors.open(&list, input.next_token.as_deref())?.unwrap_or(i64::MAX);
        let limit = input.max_results.unwrap_or(tokens::PAGE);
        let mut versions = self.shared.store.versions(image.id, before, limit + 1).await.map_err(internal)?;
        let next = tokens::cut(&mut versions, limit).map(|last| last.version.major());
        let next_token = next.map(|next| self.shared.cursors.seal(&list, &next)).transpose()?;
        let items = versions.iter().map(|version| version.view(&image)).collect();
        Ok(api::ListMicrovmImageVersionsOutput { items, next_token })
    }

    /// `UpdateMicrovmImageVersion`: whether it may be launched. MicroVMs that live are not touched (spec 16, item 29).
    pub async fn set_status(
        &self,
        caller: &Caller,
        input: api::UpdateMicrovmImageVersionInput,
    ) -> Result<api::MicrovmImageVersion, ApiError> {
        let _writer = self.writer.lock().await;
        let (mut image, mut version) = self.version(caller, &input.image_identifier, input.image_version).await?;
        if !image.state.idle() {
            return Err(ApiError::image_busy(image.state()));
        }
        if input.status == ImageVersionStatus::Active && version.build.progress != Progress::Successful {
            return Err(ApiError::version_not_activatable(version.version, version.state()));
        }
        if version.status != input.status {
            version.status = input.status;
            version.updated_at = Timestamp::from_millis(now());
            image.updated_at = version.updated_at;
            self.point(&mut image, &version).await?;
            let event = match version.status {
                ImageVersionStatus::Active => ImageEvent::Activated,
                ImageVersionStatus::Inactive => ImageEvent::Deactivated,
            };
            self.shared.store.update_image(&image, &version, event).await.map_err(internal)?;
        }
        Ok(version.view(&image))
    }

    /// `DeleteMicrovmImageVersion`: the record stays until the files are gone; the image is `UPDATING` meanwhile.
    pub async fn delete_version(
        self: &Arc<Self>,
        caller: &Caller,
        arn: ImageArn,
        number: ImageVersion,
    ) -> Result<api::DeleteMicrovmImageVersionOutput, ApiError> {
        let _writer = self.writer.lock().await;
        let (mut image, mut version) = self.version(caller, &arn, number).await?;
        image.state = image.state.step(Input::DeleteVersion).map_err(|_| ApiError::image_busy(image.state()))?;
        let two = self.shared.store.versions(image.id, i64::MAX, 2).await.map_err(internal)?;
        if two.len() < 2 {
            return Err(ApiError::last_version(&arn));
        }
        (version.status, version.deleting) = (ImageVersionStatus::Inactive, true);
        version.updated_at = Timestamp::from_millis(now());
        image.updated_at = version.updated_at;
        self.point(&mut image, &version).await?;
        if !self.shared.store.retire(&image, Some(&version)).await.map_err(internal)? {
            return Err(ApiError::version_in_use());
        }
        let state = version.state();
        self.start_pruning(arn.clone());
        Ok(api::DeleteMicrovmImageVersionOutput { image_identifier: arn, image_version: number, state })
    }

    pub(super) fn start_pruning(self: &Arc<Self>, arn: ImageArn) {
        let images = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = images.prune(&arn).await {
                tracing::error!(image = %arn, error, "a version could not be removed; the next start tries again");
            }
        });
    }

    async fn prune(&self, arn: &ImageArn) -> Result<(), String> {
        let _writer = self.writer.lock().await;
        let store = &self.shared.store;
        let text = |error: crate::store::StoreError| error.to_string();
        let Some(mut image) = store.image(arn).await.map_err(text)? else { return Ok(()) };
        for version in store.all_versions(image.id).await.map_err(text)?.iter().filter(|version| version.deleting) {
            let dir = self.shared.image_dir(image.id).join(version.version.to_string());
            remove_dir(dir).await.map_err(|error| error.to_string())?;
            crash::point("delete version: files removed");
            let Ok(state) = image.state.step(Input::VersionDeleted) else { return Ok(()) };
            (image.state, image.updated_at) = (state, Timestamp::from_millis(now()));
            store.delete_version(&image, version).await.map_err(text)?;
        }
        Ok(())
    }

    /// Sets an image's pointers by its versions, of which `changed` is not written yet.
    async fn point(&self, image: &mut ImageRecord, changed: &VersionRecord) -> Result<(), ApiError> {
        let mut versions = self.shared.store.all_versions(image.id).await.map_err(internal)?;
        for version in &mut versions {
            if version.version == changed.version {
                version.clone_from(changed);
            }
        }
        let newest = |wanted: &dyn Fn(&&VersionRecord) -> bool| {
            versions.iter().filter(|version| !version.deleting).find(wanted).map(|version| version.version)
        };
        image.latest_active = newest(&|version| version.status == ImageVersionStatus::Active);
        image.latest_failed = newest(&|version| version.build.progress == Progress::Failed);
        Ok(())
    }
}
