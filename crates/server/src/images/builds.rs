//! Builds of a version (spec 3.2). One is made; under the profile `aws` it is shown as the two that the service makes of an
//! arm64 version, which so have one state, one time and one outcome.

use api::{
    ApiError, BuildId, BuildState, BuildSummary, GetMicrovmImageBuildInput, GetMicrovmImageBuildOutput,
    ListMicrovmImageBuildsInput, ListMicrovmImageBuildsOutput, Operation,
};
use lifecycle::images::Progress;
use uuid::Uuid;

use super::Images;
use crate::{
    config::{Cpu, Profile},
    edge::Caller,
    store::{ImageRecord, VersionRecord},
    tokens::{self, List},
};

impl Images {
    /// `GetMicrovmImageBuild`.
    pub async fn get_build(
        &self,
        caller: &Caller,
        input: GetMicrovmImageBuildInput,
    ) -> Result<GetMicrovmImageBuildOutput, ApiError> {
        let (arn, number) = (&input.image_identifier, input.image_version);
        let (image, version) = self.version(caller, arn, number).await?;
        let mut builds = builds(self.shared.config.file.compat.profile, &image, &version).into_iter();
        let build = builds.find(|build| build.build_id == input.build_id);
        let build = build.ok_or_else(|| ApiError::build_not_found(arn, number, input.build_id))?;
        Ok(GetMicrovmImageBuildOutput { build, snapshot_build: version.build.snapshot })
    }

    /// `ListMicrovmImageBuilds`: newest generation first; the filter is applied to each page, as the service does (spec 3.1).
    pub async fn list_builds(
        &self,
        caller: &Caller,
        input: ListMicrovmImageBuildsInput,
    ) -> Result<ListMicrovmImageBuildsOutput, ApiError> {
        let (image, version) = self.version(caller, &input.image_identifier, input.image_version).await?;
        let filter = (version.build.id, input.architecture, input.chipset, &input.chipset_generation);
        let list = List::of(&caller.account, Operation::ListMicrovmImageBuilds, filter);
        let seen: usize = self.shared.cursors.open(&list, input.next_token.as_deref())?.unwrap_or(0);
        let limit = input.max_results.unwrap_or(tokens::PAGE);
        let mut items = builds(self.shared.config.file.compat.profile, &image, &version);
        items.drain(..seen.min(items.len()));
        let more = tokens::cut(&mut items, limit).is_some();
        let next = more.then_some(seen + limit as usize);
        let next_token = next.map(|next| self.shared.cursors.seal(&list, &next)).transpose()?;
        items.retain(|build| {
            input.architecture.is_none_or(|wanted| wanted == build.architecture)
                && input.chipset.is_none_or(|wanted| wanted == build.chipset)
                && input.chipset_generation.as_ref().is_none_or(|wanted| *wanted == build.chipset_generation)
        });
        Ok(ListMicrovmImageBuildsOutput { items, next_token })
    }
}

/// The builds of a version, as the profile shows them.
fn builds(profile: Profile, image: &ImageRecord, version: &VersionRecord) -> Vec<BuildSummary> {
    let cpus = profile.cpus(version.configuration.architecture());
    cpus.iter().enumerate().map(|(nth, cpu)| summary(image, version, nth_id(version.build.id, nth), cpu)).collect()
}

/// The id of the build that is shown as the `nth`: made of the real one's, so that it is the same for ever.
fn nth_id(id: BuildId, nth: usize) -> BuildId {
    BuildId::new(Uuid::from_u128(id.uuid().as_u128() ^ nth as u128))
}

fn summary(image: &ImageRecord, version: &VersionRecord, build_id: BuildId, cpu: &Cpu) -> BuildSummary {
    BuildSummary {
        image_arn: image.arn.clone(),
        image_version: version.version,
        build_id,
        build_state: match version.build.progress {
            Progress::Pending => BuildState::Pending,
            Progress::InProgress => BuildState::InProgress,
            Progress::Successful => BuildState::Successful,
            Progress::Failed => BuildState::Failed,
        },
        architecture: cpu.architecture,
        chipset: cpu.chipset,
        chipset_generation: cpu.generation.into(),
        state_reason: version.build.reason.clone(),
        created_at: version.created_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_shown_builds_differ_and_stay() {
        let id: BuildId = "11111111-2222-4333-8444-555555555554".parse().expect("a build id");
        assert_eq!(nth_id(id, 0), id);
        assert_eq!(nth_id(id, 1).to_string(), "11111111-2222-4333-8444-555555555555");
        assert_eq!(nth_id(nth_id(id, 1), 1), id);
    }
}
