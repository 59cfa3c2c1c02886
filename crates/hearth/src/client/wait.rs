//! Waiting for a state. The API has no way to be told, so it is asked again and again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::{GetMicrovmInput, Microvm, MicrovmId, MicrovmState};

use super::Client;

/// Pause between two looks, for people: shorter than what they notice.
pub const POLL: Duration = Duration::from_millis(50);

/// Looks every `poll` until the microVM is in one of the `wanted` states.
///
/// # Errors
/// It ended although that was not wanted, with its reason; or `limit` went by.
pub async fn wait_for(
    client: &Client,
    id: MicrovmId,
    wanted: &[MicrovmState],
    poll: Duration,
    limit: Duration,
) -> Result<Microvm> {
    let start = Instant::now();
    loop {
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        if wanted.contains(&microvm.state) {
            return Ok(microvm);
        }
        if microvm.state == MicrovmState::Terminated {
            let reason = microvm.state_reason.unwrap_or_else(|| "no reason given".to_owned());
            bail!("{id} ended: {}", reason.trim_end_matches('.'));
        }
        if start.elapsed() >= limit {
            bail!("{id} is still {} after {} s; `hearth logs {id}` may tell why", microvm.state, limit.as_secs());
        }
        tokio::time::sleep(poll).await;
    }
}
