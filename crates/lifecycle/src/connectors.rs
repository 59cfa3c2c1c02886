//! All that can happen to a network connector (spec 9.2).
//!
//! ```text
//!   PENDING ──Provisioned──> ACTIVE ──Update──> ACTIVE, InProgress ──Provisioned──> ACTIVE, Successful
//!      │                       │                       └────ProvisioningFailed────> ACTIVE, Failed
//!      └─ProvisioningFailed─> FAILED
//!   ACTIVE, FAILED ──Delete──> DELETING ──DeletionFailed──> DELETE_FAILED
//!                                 └──> gone
//! ```
//!
//! Its versions are immutable. The newest one is made by the creation or by an update and settles with it; `INACTIVE`, which
//! AWS has, is a state that nothing here leads to.

use serde::{Deserialize, Serialize};

/// The states of the API, spelled as on the wire by `api::ConnectorState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Being made.
    Pending,
    /// Can be used.
    Active,
    /// Taken back for want of use.
    Inactive,
    /// Could not be made.
    Failed,
    /// Going away; the name stays taken.
    Deleting,
    /// Could not be deleted.
    DeleteFailed,
}

/// How far the last update is, spelled by `api::LastUpdateStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Update {
    /// Being done.
    InProgress,
    /// Done.
    Successful,
    /// Not done; the version before is in effect.
    Failed,
}

/// A connector, as far as what may happen to it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connector {
    /// Its state.
    pub state: State,
    /// Its last update, if there was one.
    pub update: Option<Update>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The newest version can be used.
    Provisioned,
    /// The newest version cannot be made.
    ProvisioningFailed,
    /// The API asks for a new version.
    Update,
    /// The API asks for the end.
    Delete,
    /// It cannot be ended.
    DeletionFailed,
}

/// What a connector's state calls for, now and after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Make the newest version.
    Provision,
    /// Remove it.
    Remove,
}

/// Why an input does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not in its state.
    #[error("the network connector is in another state")]
    State,
    /// An update is under way.
    #[error("the network connector is being updated")]
    Updating,
}

impl Connector {
    /// What `CreateNetworkConnector` makes.
    pub const CREATED: Connector = Connector { state: State::Pending, update: None };

    /// Applies one input. The only way a connector changes its state.
    pub fn step(self, input: Input) -> Result<Connector, Refusal> {
        let to = |state| Ok(Connector { state, ..self });
        let updated = |update| Ok(Connector { update: Some(update), ..self });
        match (self.state, self.update, input) {
            (State::Pending, _, Input::Provisioned) => to(State::Active),
            (State::Pending, _, Input::ProvisioningFailed) => to(State::Failed),
            (State::Active, Some(Update::InProgress), Input::Provisioned) => updated(Update::Successful),
            (State::Active, Some(Update::InProgress), Input::ProvisioningFailed) => updated(Update::Failed),
            (State::Active, Some(Update::InProgress), Input::Update) => Err(Refusal::Updating),
            (State::Active, _, Input::Update) => updated(Update::InProgress),
            (State::Active | State::Failed | State::Deleting, _, Input::Delete) => to(State::Deleting),
            (State::Deleting, _, Input::DeletionFailed) => to(State::DeleteFailed),
            _ => Err(Refusal::State),
        }
    }

    /// What is owed.
    pub fn owes(self) -> Option<Work> {
        match (self.state, self.update) {
            (State::Pending, _) | (State::Active, Some(Update::InProgress)) => Some(Work::Provision),
            (State::Deleting, _) => Some(Work::Remove),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] =
        [State::Pending, State::Active, State::Inactive, State::Failed, State::Deleting, State::DeleteFailed];
    const UPDATES: [Option<Update>; 4] =
        [None, Some(Update::InProgress), Some(Update::Successful), Some(Update::Failed)];

    #[test]
    fn the_table_is_exactly_this() {
        use Input::*;
        let inputs = [Provisioned, ProvisioningFailed, Update, Delete, DeletionFailed];
        let no = Err(Refusal::State);
        for state in STATES {
            for update in UPDATES {
                let to = |state| Ok(Connector { state, update });
                let updated = |update| Ok(Connector { state, update: Some(update) });
                let expected = match (state, update) {
                    (State::Pending, _) => [to(State::Active), to(State::Failed), no, no, no],
                    (State::Active, Some(super::Update::InProgress)) => [
                        updated(super::Update::Successful),
                        updated(super::Update::Failed),
                        Err(Refusal::Updating),
                        to(State::Deleting),
                        no,
                    ],
                    (State::Active, _) => [no, no, updated(super::Update::InProgress), to(State::Deleting), no],
                    (State::Failed, _) => [no, no, no, to(State::Deleting), no],
                    (State::Deleting, _) => [no, no, no, to(State::Deleting), to(State::DeleteFailed)],
                    (State::Inactive | State::DeleteFailed, _) => [no; 5],
                };
                let connector = Connector { state, update };
                assert_eq!(inputs.map(|input| connector.step(input)), expected, "{connector:?}");
            }
        }
    }

    /// Nothing waits for ever: what is owed is work whose outcome the table takes, and then less is owed.
    #[test]
    fn what_is_owed_can_be_done() {
        for connector in STATES.into_iter().flat_map(|state| UPDATES.map(|update| Connector { state, update })) {
            let outcomes: &[Input] = match connector.owes() {
                Some(Work::Provision) => &[Input::Provisioned, Input::ProvisioningFailed],
                Some(Work::Remove) => &[Input::DeletionFailed],
                None => continue,
            };
            for outcome in outcomes {
                let after = connector.step(*outcome).unwrap();
                assert!(
                    after.owes().is_none() || after.update == Some(Update::InProgress),
                    "{connector:?} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn an_update_never_leaves_active() {
        let updating = Connector { state: State::Active, update: None }.step(Input::Update).unwrap();
        assert_eq!(updating.state, State::Active);
        for outcome in [Input::Provisioned, Input::ProvisioningFailed] {
            assert_eq!(updating.step(outcome).unwrap().state, State::Active);
        }
    }
}
