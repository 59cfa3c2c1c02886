//! CloudWatch Logs' questions, answered from the files. Everything here blocks.
//!
//! A page costs what it holds, whatever the size of its streams; memory holds one page and a block of each stream that is
//! open. Tokens are positions, authenticated, so they survive a restart and do not age.

mod filter;
#[cfg(test)]
mod fixture;
mod get;
mod groups;
mod streams;

use std::sync::Arc;

use api::{
    AccountId, ApiError, Region,
    logs::{self, GroupRef, LogsOperation},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{LogFile, Logs};
use crate::tokens::List;

/// Most text on a page of events, bytes, as the service counts it.
const PAGE_BYTES: usize = 1024 * 1024;
/// What the service adds to the text of each event, bytes.
const EVENT_BYTES: usize = 26;
/// Most events on a page.
const PAGE_EVENTS: usize = 10_000;
/// Most groups or streams on a page.
const PAGE_NAMES: usize = 50;

/// One caller's view of the log groups.
pub struct Query {
    /// All groups.
    pub logs: Arc<Logs>,
    /// The region of the ARNs.
    pub region: Region,
    /// Whose groups.
    pub account: AccountId,
}

impl Query {
    /// A group that exists, and its streams in order of their names.
    fn group<'a>(&self, group: &'a GroupRef) -> Result<(&'a str, Vec<String>), ApiError> {
        let name = group.name(&self.region, &self.account)?;
        let streams = self.logs.streams(&self.account, name).map_err(failed)?;
        Ok((name, streams.ok_or_else(logs::group_not_found)?))
    }

    /// A list of the caller's; its tokens are good for the same operation and `filter` only.
    fn list<F: Serialize>(&self, operation: LogsOperation, filter: F) -> List<'_, F> {
        List { account: &self.account, operation: operation.as_str(), filter }
    }

    /// A token that continues the list at that position.
    fn seal(&self, list: &List<'_, impl Serialize>, position: &impl Serialize) -> Result<String, ApiError> {
        self.logs.cursors.seal(list, position).map_err(|_| logs::unavailable())
    }

    /// Reads a token of [`Query::seal`].
    fn resume<P: DeserializeOwned>(
        &self,
        list: &List<'_, impl Serialize>,
        token: Option<&str>,
    ) -> Result<Option<P>, ApiError> {
        self.logs.cursors.open(list, token).map_err(|_| logs::invalid_token())
    }

    fn open(&self, group: &str, stream: &str) -> Result<LogFile, ApiError> {
        let file = self.logs.open(&self.account, group, stream).map_err(failed)?;
        file.ok_or_else(logs::stream_not_found)
    }
}

/// Text as an event shows it: the service knows no empty one.
fn shown(text: String) -> String {
    if text.is_empty() { " ".into() } else { text }
}

/// Logs what went wrong here.
fn failed(error: std::io::Error) -> ApiError {
    tracing::error!(%error, "a log cannot be read");
    logs::unavailable()
}

/// How many to show.
fn limit(asked: Option<u32>, most: usize) -> usize {
    asked.and_then(|limit| usize::try_from(limit).ok()).map_or(most, |limit| limit.min(most))
}
