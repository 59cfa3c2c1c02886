//! All that can happen to an image and its newest version (spec 4.2).
//!
//! ```text
//!   CREATING ──BuildSucceeded──> CREATED ──Update──> UPDATING ──BuildSucceeded──> UPDATED ──Update──> ...
//!      └──────BuildFailed──────> CREATE_FAILED ─┘        └──────BuildFailed─────> UPDATE_FAILED ─┘
//!   any of these that is not being built ──DeleteVersion──> UPDATING ──VersionDeleted──> UPDATED
//!                                        ──Delete──> DELETING ──> gone
//! ```
//!
//! hearth makes one build per version (spec 16, item 27), so a version, its build and the image move together.

use serde::{Deserialize, Serialize};

/// The states of the API, spelled as on the wire by `api::ImageState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Version 1.0 is being built.
    Creating,
    /// Version 1.0 succeeded.
    Created,
    /// Version 1.0 failed.
    CreateFailed,
    /// A later version is being built.
    Updating,
    /// A later version succeeded.
    Updated,
    /// A later version failed; an earlier one may still be active.
    UpdateFailed,
    /// A version is being deleted; the API shows it as UPDATING too.
    Pruning,
    /// Going away; the name stays taken.
    Deleting,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The API asks for a new version.
    Update,
    /// The newest version is built.
    BuildSucceeded,
    /// The newest version is not built.
    BuildFailed,
    /// The API asks for the end of one version.
    DeleteVersion,
    /// The version is gone.
    VersionDeleted,
    /// The API asks for the end of the image.
    Delete,
}

/// Why an input does not apply: it is busy with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image is busy")]
pub struct Busy;

impl State {
    /// Applies one input. The only way an image changes its state.
    pub fn step(self, input: Input) -> Result<State, Busy> {
        match (self, input) {
            (State::Creating, Input::BuildSucceeded) => Ok(State::Created),
            (State::Creating, Input::BuildFailed) => Ok(State::CreateFailed),
            (State::Updating, Input::BuildSucceeded) | (State::Pruning, Input::VersionDeleted) => Ok(State::Updated),
            (State::Updating, Input::BuildFailed) => Ok(State::UpdateFailed),
            (State::Deleting, Input::Delete) => Ok(State::Deleting),
            (State::Creating | State::Updating | State::Pruning | State::Deleting, _) => Err(Busy),
            (_, Input::BuildSucceeded | Input::BuildFailed | Input::VersionDeleted) => Err(Busy),
            (_, Input::Update) => Ok(State::Updating),
            (_, Input::DeleteVersion) => Ok(State::Pruning),
            (_, Input::Delete) => Ok(State::Deleting),
        }
    }

    /// Is a build owed?
    pub fn building(self) -> bool {
        matches!(self, State::Creating | State::Updating)
    }

    /// May its versions change? Not while it is being built, pruned or deleted.
    pub fn idle(self) -> bool {
        self.step(Input::Update).is_ok()
    }
}

/// How far a version and its build are; spelled by `api::ImageVersionState` and `api::BuildState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Progress {
    /// Waiting for its turn.
    Pending,
    /// Being made.
    InProgress,
    /// Made.
    Successful,
    /// Not made.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_exactly_this() {
        use Input::*;
        use State::*;
        let inputs = [Update, BuildSucceeded, BuildFailed, DeleteVersion, VersionDeleted, Delete];
        let busy = Err(Busy);
        let expect = |state: State| match state {
            Creating => [busy, Ok(Created), Ok(CreateFailed), busy, busy, busy],
            Updating => [busy, Ok(Updated), Ok(UpdateFailed), busy, busy, busy],
            Pruning => [busy, busy, busy, busy, Ok(Updated), busy],
            Created | CreateFailed | Updated | UpdateFailed => {
                [Ok(Updating), busy, busy, Ok(Pruning), busy, Ok(Deleting)]
            }
            Deleting => [busy, busy, busy, busy, busy, Ok(Deleting)],
        };
        for state in [Creating, Created, CreateFailed, Updating, Updated, UpdateFailed, Pruning, Deleting] {
            let got = inputs.map(|input| state.step(input));
            assert_eq!(got, expect(state), "{state:?}");
        }
    }
}
