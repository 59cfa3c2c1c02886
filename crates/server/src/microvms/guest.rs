//! The server's hold on one guest: the agent's channel, and a task that follows what happens in there.

use std::time::Duration;

use engine::{
    EngineError, Machine,
    agent::{Agent, AgentError},
};
use lifecycle::microvms::Input;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use wire::{Event, Happening, Identity};

/// A restored agent answers at once; this is for a host that is very busy.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Patience with the first connection; doubled with each further one.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// See the module. Dropping it leaves the guest as it is.
pub struct Guest {
    /// The way in.
    pub agent: Agent,
    seen: watch::Receiver<Seen>,
    follower: JoinHandle<()>,
}

/// What the follower has seen.
#[derive(Debug)]
struct Seen {
    last: u64,
    starved: bool,
    exited: Option<Exit>,
}

/// The end of the application's main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128 + n for a death by signal n.
    pub code: i32,
    /// The guest had no memory left.
    pub out_of_memory: bool,
}

impl From<Exit> for Input {
    fn from(exit: Exit) -> Self {
        if exit.out_of_memory { Input::OutOfMemory(exit.code) } else { Input::Exited(exit.code) }
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        self.last = event.sequence;
        match event.what {
            Happening::OutOfMemory { main: true, .. } => self.starved = true,
            Happening::Exited { code } => self.exited = Some(Exit { code, out_of_memory: self.starved }),
            _ => {}
        }
    }
}

/// The guest could not be reached or did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl Guest {
    /// Connects to the agent of a running machine. A guest that was frozen in the middle of a frame may swallow the first
    /// words it hears; a new connection makes it listen again.
    pub async fn connect(machine: &dyn Machine, within: Duration) -> Result<Agent, GuestError> {
        let deadline = Instant::now() + within;
        let mut patience = FIRST_WORD;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match Agent::open(machine.connect().await?, patience.min(left)).await {
                Err(AgentError::Timeout { .. }) if left > patience => {
                    tracing::debug!(?patience, "the agent did not answer, connecting again");
                    patience *= 2;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Follows the events after `after`; each line of output goes to `sink` with its number, as it comes.
    pub async fn follow(
        agent: Agent,
        after: u64,
        sink: impl Fn(u64, &str) + Send + 'static,
    ) -> Result<Self, GuestError> {
        let mut events = agent.events(after).await?;
        let (seen, state) = watch::channel(Seen { last: after, starved: false, exited: None });
        let follower = tokio::spawn(async move {
            while let Ok(Some(event)) = events.next().await {
                match &event.what {
                    Happening::Line { text, .. } => sink(event.sequence, text),
                    Happening::Dropped { events } => {
                        sink(event.sequence, &format!("[hearth] {events} lines of output were lost"));
                    }
                    Happening::OutOfMemory { name, .. } => {
                        sink(event.sequence, &format!("[hearth] out of memory: the guest's kernel killed {name}"));
                    }
                    Happening::Exited { .. } => {}
                }
                seen.send_modify(|seen| seen.note(&event));
            }
        });
        Ok(Guest { agent, seen: state, follower })
    }

    /// Waits for the end of the application's main process.
    pub async fn exited(&self) -> Exit {
        let mut seen = self.seen.clone();
        let exit = seen.wait_for(|seen| seen.exited.is_some()).await.ok().and_then(|seen| seen.exited);
        match exit {
            Some(exit) => exit,
            // The follower has ended: the channel is gone, and who watches the channel will say so.
            None => std::future::pending().await,
        }
    }

    /// Lets go of the guest so that it can be frozen: nothing of the channel is in flight afterwards. Returns the number of
    /// the last event that was seen.
    pub async fn release(self) -> u64 {
        self.agent.close().await;
        let _ = self.follower.await;
        self.seen.borrow().last
    }
}

/// The identity of a clone: hostname and machine id come from the microVM's id, so that they stay across suspends.
pub fn identity(id: &str, uuid: uuid::Uuid) -> Result<Identity, EngineError> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|e| EngineError::Host(format!("the host has no randomness: {e}")))?;
    let unix_time_ns = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default();
    Ok(Identity { unix_time_ns, entropy, hostname: id.to_owned(), machine_id: uuid.simple().to_string() })
}
