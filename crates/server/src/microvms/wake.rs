//! The ingress's view: which host leads where, and a connection into the guest, waking it when its policy says so.

use std::time::Duration;

use api::MicrovmId;
use async_trait::async_trait;
use engine::agent::{Agent, AgentError};
use ingress::{Admission, Backend, ConnectError, DEFAULT_PORT, Route, SessionError, Stream};
use lifecycle::microvms::{Input, State};

use super::{Endpoint, Microvms, cell::Cell, read};

#[async_trait]
impl Backend for Microvms {
    fn route(&self, host: &str) -> Option<Route> {
        let endpoint = host.split_once('.').filter(|(_, domain)| self.domains.iter().any(|own| own == domain));
        match endpoint {
            Some((label, _)) => match *read(&self.endpoints).get(label)? {
                Endpoint::Past(id) => Some(self.past_route(id, DEFAULT_PORT)),
                Endpoint::Live(id) => self.live_route(id, DEFAULT_PORT),
            },
            None => {
                let name = self.shared.names.find(host)?;
                self.live_route(name.microvm, name.port).or_else(|| Some(self.past_route(name.microvm, name.port)))
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

    async fn withdrawn(&self, microvm: &str, admission: Admission) {
        let changes = microvm.parse().ok().and_then(|id| self.cell(id)).map(|cell| cell.changes());
        if let Some(mut changes) = changes
            && changes.wait_for(|record| !record.admits(admission)).await.is_ok()
        {
            return;
        }
        // It is over, and so is every stream into it.
        std::future::pending().await
    }
}

impl Microvms {
    /// To a microVM that is over: it opens nothing, whoever asks.
    fn past_route(&self, id: MicrovmId, default_port: u16) -> Route {
        Route {
            microvm: id.to_string(),
            application: true,
            shell: true,
            open: false,
            terminated: true,
            share: self.nothing.clone(),
            revocation: 0,
            public: None,
            default_port,
        }
    }

    fn live_route(&self, id: MicrovmId, default_port: u16) -> Option<Route> {
        let cell = self.cell(id)?;
        let record = cell.record();
        let over = matches!(record.life.state, State::Terminating | State::Terminated);
        Some(Route {
            microvm: id.to_string(),
            application: record.ingress.application,
            shell: record.ingress.shell,
            open: cell.is_open(),
            terminated: over,
            share: cell.share().clone(),
            revocation: record.revocation,
            public: record.public_port.filter(|_| self.shared.config.file.endpoint.public),
            default_port,
        })
    }

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
