//! Records as the API shows them.

use crate::store::{ImageRecord, VersionRecord};

impl ImageRecord {
    /// Answer of `CreateMicrovmImage`.
    pub fn created(&self, version: &VersionRecord) -> api::CreateMicrovmImageOutput {
        api::CreateMicrovmImageOutput {
            image_arn: self.arn.clone(),
            name: self.arn.name().clone(),
            state: self.state(),
            image_version: version.version,
            latest_active_image_version: self.latest_active,
            latest_failed_image_version: self.latest_failed,
            created_at: self.created_at,
            updated_at: Some(self.updated_at),
            configuration: version.configuration.clone(),
            base_image_version: Some(version.base_image_version.echoed()),
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
        }
    }

    /// Answer of `UpdateMicrovmImage`.
    pub fn updated(&self, version: &VersionRecord) -> api::UpdateMicrovmImageOutput {
        api::UpdateMicrovmImageOutput {
            image_arn: self.arn.clone(),
            name: self.arn.name().clone(),
            state: self.state(),
            image_version: version.version,
            latest_active_image_version: self.latest_active,
            latest_failed_image_version: self.latest_failed,
            created_at: self.created_at,
            updated_at: self.updated_at,
            configuration: version.configuration.clone(),
            base_image_version: Some(version.base_image_version.echoed()),
        }
    }

    /// Answer of `GetMicrovmImage`.
    pub fn view(&self) -> api::GetMicrovmImageOutput {
        api::GetMicrovmImageOutput {
            image_arn: self.arn.clone(),
            name: self.arn.name().clone(),
            state: self.state(),
            latest_active_image_version: self.latest_active,
            latest_failed_image_version: self.latest_failed,
            created_at: self.created_at,
            updated_at: Some(self.updated_at),
            tags: Some(self.tags.clone()),
        }
    }

    /// Item of `ListMicrovmImages`.
    pub fn summary(&self) -> api::ImageSummary {
        api::ImageSummary {
            image_arn: self.arn.clone(),
            name: self.arn.name().clone(),
            state: self.state(),
            latest_active_image_version: self.latest_active,
            latest_failed_image_version: self.latest_failed,
            created_at: self.created_at,
        }
    }
}

impl VersionRecord {
    /// Answer of `GetMicrovmImageVersion` and item of the list.
    pub fn view(&self, image: &ImageRecord) -> api::MicrovmImageVersion {
        api::MicrovmImageVersion {
            image_arn: image.arn.clone(),
            image_version: self.version,
            state: self.state(),
            status: self.status,
            state_reason: None,
            created_at: self.created_at,
            updated_at: Some(self.updated_at),
            configuration: self.configuration.clone(),
            base_image_version: Some(self.base_image_version.echoed()),
            tags: Some(image.tags.clone()),
        }
    }
}
