//! One microVM in memory: its record, when traffic was last seen, and the way to its agent while it serves.
//!
//! Everybody reads; changes go through [`Cell::apply`] and [`Cell::amend`], one at a time, durable before they show.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use engine::agent::Agent;
use ingress::Share;
use lifecycle::{
    Millis,
    microvms::{Input, Refusal, Step},
    usage::Snapshot,
};
use tokio::sync::{Mutex, watch};

use crate::{
    shared::now,
    store::{MicrovmRecord, Store, StoreError, Transition},
};

/// See the module.
#[derive(Debug)]
pub struct Cell {
    record: watch::Sender<Arc<MicrovmRecord>>,
    agent: watch::Sender<Option<Agent>>,
    activity: AtomicI64,
    share: Arc<Share>,
    writer: Mutex<()>,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Cell {
    /// A cell for a record that is in the store.
    pub fn new(record: MicrovmRecord, share: Share) -> Self {
        let activity = AtomicI64::new(record.life.since);
        let (record, agent) = (watch::Sender::new(Arc::new(record)), watch::Sender::new(None));
        Cell { record, agent, activity, share: Arc::new(share), writer: Mutex::new(()) }
    }

    /// The record now.
    pub fn record(&self) -> Arc<MicrovmRecord> {
        self.record.borrow().clone()
    }

    /// Follows the record.
    pub fn changes(&self) -> watch::Receiver<Arc<MicrovmRecord>> {
        self.record.subscribe()
    }

    /// Applies one input of the rules, and `also` to what the rules do not see, in one commit.
    pub async fn apply(
        &self,
        store: &Store,
        input: Input,
        also: impl FnOnce(&mut MicrovmRecord) + Send,
    ) -> Result<Arc<MicrovmRecord>, ApplyError> {
        let _writer = self.writer.lock().await;
        let before = self.record();
        let at = now();
        let Step::Changed(life) = before.life.step(&input, at)? else { return Ok(before) };
        let mut next = MicrovmRecord { life, ..(*before).clone() };
        also(&mut next);
        let transition = Transition { input: &input, at, snapshot: moved(&before, &next, &input) };
        store.advance_microvm(&next, before.life.generation, Some(transition)).await?;
        tracing::info!(microvm = %next.id, from = %before.state(), to = %next.state(), ?input, "microVM changed");
        Ok(self.publish(next))
    }

    /// Writes bookkeeping that is no transition.
    pub async fn amend(
        &self,
        store: &Store,
        change: impl FnOnce(&mut MicrovmRecord) + Send,
    ) -> Result<Arc<MicrovmRecord>, StoreError> {
        let _writer = self.writer.lock().await;
        let mut next = (*self.record()).clone();
        change(&mut next);
        store.advance_microvm(&next, next.life.generation, None).await?;
        Ok(self.publish(next))
    }

    fn publish(&self, next: MicrovmRecord) -> Arc<MicrovmRecord> {
        let next = Arc::new(next);
        self.record.send_replace(next.clone());
        next
    }

    /// Has everybody who follows the record look at it again, though it is as it was: another time of day has come.
    pub fn look_again(&self) {
        self.record.send_modify(|_| {});
    }

    /// Traffic was seen: the idle clock restarts.
    pub fn touch(&self) {
        self.activity.fetch_max(now(), Ordering::Relaxed);
    }

    /// Traffic was seen at that time, by an earlier server.
    pub fn touched(&self, at: Millis) {
        self.activity.fetch_max(at, Ordering::Relaxed);
    }

    /// When traffic was last seen.
    pub fn last_activity(&self) -> Millis {
        self.activity.load(Ordering::Relaxed)
    }

    /// Lets traffic in through that agent.
    pub fn open_gate(&self, agent: Agent) {
        self.agent.send_replace(Some(agent));
    }

    /// Lets no new traffic in.
    pub fn close_gate(&self) {
        self.agent.send_replace(None);
    }

    /// What its endpoint may carry.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Does traffic get in?
    pub fn is_open(&self) -> bool {
        self.agent.borrow().is_some()
    }

    /// The way in, while the gate is open.
    pub fn gate(&self) -> watch::Receiver<Option<Agent>> {
        self.agent.subscribe()
    }
}

/// The snapshot that a transition was restored from, or wrote.
fn moved(before: &MicrovmRecord, next: &MicrovmRecord, input: &Input) -> Option<Snapshot> {
    let woke = matches!(input, Input::Started | Input::Resumed);
    let slept = next.saved_dir.is_some() && next.saved_dir != before.saved_dir;
    next.snapshot.filter(|_| woke || slept)
}
