//! The ingress's view: which host leads where, and a connection into the guest, waking it when its policy says so.

use std::time::Duration;

use async_trait::async_trait;
use engine::agent::AgentError;
use ingress::{Backend, ConnectError, Route, Stream};
use lifecycle::microvms::{Input, State};

use super::{Endpoint, Microvms, cell::Cell, read};

#[async_trait]
impl Backend for Microvms {
    fn route(&self, host: &str) -> Option<Route> {
        let (label, domain) = host.split_once('.')?;
        if !self.domains.iter().any(|own| own == domain) {
            return None;
        }
        let endpoint = *read(&self.endpoints).get(label)?;
        match endpoint {
            Endpoint::Past(id) => {
                Some(Route { microvm: id.to_string(), application: true, shell: true, terminated: true })
            }
            Endpoint::Live(id) => {
                let record = self.cell(id)?.record();
                let over = matches!(record.life.state, State::Terminating | State::Terminated);
                Some(Route {
                    microvm: id.to_string(),
                    application: record.ingress.application,
                    shell: record.ingress.shell,
                    terminated: over,
                })
            }
        }
    }

    async fn connect(&self, microvm: &str, port: u16) -> Result<Box<dyn Stream>, ConnectError> {
        let id = microvm.parse().map_err(|_| ConnectError::Gone)?;
        let cell = self.cell(id).ok_or(ConnectError::Gone)?;
        let bound = Duration::from_secs(self.shared.config.file.endpoint.wake_seconds);
        tokio::time::timeout(bound, self.enter(&cell, port)).await.unwrap_or(Err(ConnectError::Timeout))
    }

    fn activity(&self, microvm: &str) {
        if let Some(cell) = microvm.parse().ok().and_then(|id| self.cell(id)) {
            cell.touch();
        }
    }
}

impl Microvms {
    async fn enter(&self, cell: &Cell, port: u16) -> Result<Box<dyn Stream>, ConnectError> {
        let mut changes = cell.changes();
        let mut gate = cell.gate();
        let mut asked = false;
        loop {
            let record = changes.borrow_and_update().clone();
            let agent = gate.borrow_and_update().clone();
            match (record.life.state, agent) {
                (State::Running, Some(agent)) => match agent.dial(port).await {
                    Ok(stream) => return Ok(Box::new(stream)),
                    Err(AgentError::Refused { .. }) => return Err(ConnectError::Refused),
                    // Suspended or ended under our hands: the record will say so.
                    Err(error) => tracing::debug!(microvm = %record.id, %error, "a dial into the guest failed"),
                },
                (State::Suspended, _) if !record.life.waking => {
                    if asked || !record.life.policy.auto_resume {
                        return Err(ConnectError::Unavailable);
                    }
                    asked = true;
                    if cell.apply(&self.shared.store, Input::Resume, |_| {}).await.is_err() {
                        return Err(ConnectError::Unavailable);
                    }
                    continue;
                }
                (State::Terminating | State::Terminated, _) => return Err(ConnectError::Gone),
                _ => {}
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| ConnectError::Gone)?,
                changed = gate.changed() => changed.map_err(|_| ConnectError::Gone)?,
            }
        }
    }
}
