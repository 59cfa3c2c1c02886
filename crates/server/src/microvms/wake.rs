//! The ingress's view: which host leads where, and a connection into the guest, waking it when its policy says so.

use std::time::Duration;

use async_trait::async_trait;
use engine::agent::{Agent, AgentError};
use ingress::{Backend, ConnectError, Route, SessionError, Stream};
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
        match self.enter(microvm, |agent| async move { agent.dial(port).await }).await? {
            Ok(stream) => Ok(Box::new(stream)),
            Err(AgentError::Refused { .. }) => Err(ConnectError::Refused),
            Err(_) => Err(ConnectError::Unavailable),
        }
    }

    async fn session(&self, microvm: &str, session: wire::Session) -> Result<Box<dyn Stream>, SessionError> {
        let session = &session;
        match self.enter(microvm, |agent| async move { agent.session(session.clone()).await }).await? {
            Ok(stream) => Ok(Box::new(stream)),
            Err(AgentError::Unsupported { .. }) => Err(SessionError::TooOld),
            Err(AgentError::Guest { message, .. }) => Err(SessionError::Failed(message)),
            Err(error) => Err(SessionError::Failed(error.to_string())),
        }
    }

    fn activity(&self, microvm: &str) {
        if let Some(cell) = microvm.parse().ok().and_then(|id| self.cell(id)) {
            cell.touch();
        }
    }
}

impl Microvms {
    /// Asks the guest for something, within the server's bound for waking.
    async fn enter<T, F>(&self, microvm: &str, ask: impl Fn(Agent) -> F) -> Result<Result<T, AgentError>, ConnectError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let id = microvm.parse().map_err(|_| ConnectError::Gone)?;
        let cell = self.cell(id).ok_or(ConnectError::Gone)?;
        let bound = Duration::from_secs(self.shared.config.file.endpoint.wake_seconds);
        tokio::time::timeout(bound, self.wake_and_ask(&cell, ask)).await.unwrap_or(Err(ConnectError::Timeout))
    }

    /// The inner error is the guest's own answer.
    async fn wake_and_ask<T, F>(
        &self,
        cell: &Cell,
        ask: impl Fn(Agent) -> F,
    ) -> Result<Result<T, AgentError>, ConnectError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let mut changes = cell.changes();
        let mut gate = cell.gate();
        let mut asked = false;
        loop {
            let record = changes.borrow_and_update().clone();
            let agent = gate.borrow_and_update().clone();
            match (record.life.state, agent) {
                (State::Running, Some(agent)) => match ask(agent).await {
                    Ok(stream) => return Ok(Ok(stream)),
                    Err(
                        answer @ (AgentError::Refused { .. }
                        | AgentError::Unsupported { .. }
                        | AgentError::Unsure { .. }
                        | AgentError::Guest { .. }),
                    ) => return Ok(Err(answer)),
                    // Suspended or ended under our hands: the record will say so.
                    Err(error) => tracing::debug!(microvm = %record.id, %error, "a way into the guest failed"),
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
