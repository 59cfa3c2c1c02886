//! Who may reach a microVM, beyond what AWS has: hearth's own routes.

use std::sync::Arc;

use api::{ApiError, MicrovmId};
use async_trait::async_trait;
use ingress::Admission;

use super::Microvms;
use crate::{
    edge::{Caller, Endpoints},
    failure::internal,
    store::MicrovmRecord,
};

impl MicrovmRecord {
    /// Is a request let in like that?
    pub(super) fn admits(&self, admission: Admission) -> bool {
        match admission {
            Admission::Token { revocation } => revocation >= self.revocation,
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
}

impl Microvms {
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
