//! Who may reach a microVM, beyond what AWS has: hearth's own routes.

use std::{num::NonZeroU16, sync::Arc};

use api::{ApiError, ErrorKind, MicrovmId, Sensitive};
use async_trait::async_trait;
use ingress::{Admission, Claims, Kind, OPEN_PATH, PortRange, TICKET_PARAMETER};
use lifecycle::microvms::State;

use super::Microvms;
use crate::{
    edge::{Caller, Endpoints, Link, Target, names},
    failure::internal,
    shared::now,
    store::{MicrovmRecord, NameRecord},
};

impl MicrovmRecord {
    /// Is a request let in like that?
    pub(super) fn admits(&self, admission: Admission) -> bool {
        match admission {
            Admission::Token { revocation } => revocation >= self.revocation,
            Admission::Public { port } => self.public_port == Some(port),
        }
    }
}

#[async_trait]
impl Endpoints for Microvms {
    async fn revoke_tokens(&self, caller: &Caller, id: MicrovmId) -> Result<(), ApiError> {
        self.record(caller, "hearth:RevokeMicrovmTokens", id).await?;
        // The tokens of one that is over open nothing as it is.
        self.amend(id, |record| record.revocation += 1).await.map(drop)
    }

    async fn browser_link(&self, caller: &Caller, id: MicrovmId, link: Link) -> Result<Sensitive<String>, ApiError> {
        // It stands for such a token, and for no more.
        let record = self.taking_traffic(caller, "lambda:CreateMicrovmAuthToken", id).await?;
        let config = &self.shared.config;
        let off = "links for browsers are off; set browser = true below [endpoint] in hearth.toml";
        let tickets = self.shared.tickets.as_ref().ok_or_else(|| ApiError::validation(off))?;
        let most = config.file.endpoint.token_minutes;
        if !(1..=most).contains(&link.minutes) {
            return Err(ApiError::validation(format!("minutes is {}, must be 1..={most}", link.minutes)));
        }
        let claims = Claims {
            microvm: id.to_string(),
            kind: Kind::Auth,
            ports: vec![PortRange::single(link.port.get())],
            expires_at: u64::try_from(now() / 1000).unwrap_or_default() + u64::from(link.minutes) * 60,
            revocation: record.revocation,
        };
        let ticket = tickets.issue(claims);
        let ticket = ticket.map_err(|error| ApiError::new(ErrorKind::Throttling, error.to_string()))?;
        let endpoint = config.browser_endpoint(record.endpoint_label(), self.shared.ingress_port);
        Ok(Sensitive::new(format!("https://{endpoint}{OPEN_PATH}?{TICKET_PARAMETER}={ticket}")))
    }

    async fn public_port(&self, caller: &Caller, id: MicrovmId) -> Result<Option<u16>, ApiError> {
        Ok(self.record(caller, "hearth:GetMicrovmPublicPort", id).await?.public_port)
    }

    async fn open_port(&self, caller: &Caller, id: MicrovmId, port: NonZeroU16) -> Result<(), ApiError> {
        self.taking_traffic(caller, "hearth:PutMicrovmPublicPort", id).await?;
        if !self.shared.config.file.endpoint.public {
            let off = "public microVMs are off; set public = true below [endpoint] in hearth.toml";
            return Err(ApiError::validation(off));
        }
        let changed = self.amend(id, |record| record.public_port = Some(port.get())).await?;
        changed.map(drop).ok_or_else(|| ApiError::microvm_terminated(id))
    }

    async fn close_port(&self, caller: &Caller, id: MicrovmId) -> Result<(), ApiError> {
        self.record(caller, "hearth:DeleteMicrovmPublicPort", id).await?;
        self.amend(id, |record| record.public_port = None).await.map(drop)
    }

    async fn put_name(&self, caller: &Caller, host: &str, target: Target) -> Result<Arc<NameRecord>, ApiError> {
        let id = target.microvm;
        if self.record(caller, "hearth:PutName", id).await?.life.state == State::Terminated {
            return Err(ApiError::microvm_terminated(id));
        }
        let put = self.shared.names.put(&caller.account, host, id, target.port, target.given);
        put.await.map_err(names::outside)
    }

    fn names(&self, caller: &Caller) -> Vec<Arc<NameRecord>> {
        self.shared.names.of(&caller.account)
    }

    async fn delete_name(&self, caller: &Caller, host: &str) -> Result<(), ApiError> {
        if self.shared.names.delete(&caller.account, host).await.map_err(internal)? {
            return Ok(());
        }
        let host: String = host.chars().take(64).collect();
        Err(ApiError::new(ErrorKind::ResourceNotFound, format!("Host name {host} not found")))
    }
}

impl Microvms {
    /// The record of a microVM that is not over and takes application traffic.
    async fn taking_traffic(
        &self,
        caller: &Caller,
        action: &str,
        id: MicrovmId,
    ) -> Result<Arc<MicrovmRecord>, ApiError> {
        let record = self.record(caller, action, id).await?;
        if record.life.state == State::Terminated {
            return Err(ApiError::microvm_terminated(id));
        }
        if !record.ingress.application {
            let words = format!("{id} takes no application traffic; launch one with HTTP_INGRESS");
            return Err(ApiError::validation(words));
        }
        Ok(record)
    }

    /// Changes the record of a microVM that is not over, durably; `None`: it is over.
    async fn amend(
        &self,
        id: MicrovmId,
        change: impl FnOnce(&mut MicrovmRecord) + Send,
    ) -> Result<Option<Arc<MicrovmRecord>>, ApiError> {
        let Some(cell) = self.cell(id) else { return Ok(None) };
        cell.amend(&self.shared.store, change).await.map(Some).map_err(internal)
    }
}
