//! The messages. Append only: see the crate's rules.

use serde::{Deserialize, Serialize};

/// What the host asks of the agent; one stream carries one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection.
    Hello(Hello),
    /// Start the application container. Once per boot; a repeat is [`Fault::AlreadyStarted`].
    Start(Container),
    /// Connect to `127.0.0.1:port` in the guest. After [`Response::Dialed`] the stream is the connection's raw bytes.
    Dial {
        /// 1..=65535.
        port: u16,
    },
    /// Make this guest its own after a restore, before hooks and traffic: clock, randomness, identity; and close its TCP
    /// connections to the outside (spec 5.7).
    Renew(Identity),
    /// Follow what happens in the guest. After [`Response::Done`] the stream is a run of [`Event`] frames, from `after` on.
    Events {
        /// Sequence number of the last event the host has stored; 0 for all the agent still holds.
        after: u64,
    },
    /// Stop the application and flush file systems: a snapshot follows. [`Request::Renew`] lets the application go on, as does
    /// any later request but [`Request::Hello`]. After [`Response::Done`] the agent ends the conversation: yamux's farewell is the last it says, and it listens for the next
    /// preamble. A guest that spoke when the host had hung up would be frozen with words that nobody takes.
    Quiesce,
    /// Send SIGTERM to the application, SIGKILL after `grace_ms`, then power off. The reply precedes the power-off.
    Shutdown {
        /// Milliseconds between the two signals.
        grace_ms: u32,
    },
    /// Run a program, or move files, in the application's container. After [`Response::Done`] the stream is a run of
    /// messages both ways, see [`crate::session`]. Generation 2. The program gets SIGHUP when the host ends the stream.
    Session(Session),
}

/// The agent's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Answer to [`Request::Hello`].
    Hello(AgentHello),
    /// It is done.
    Done,
    /// The connection stands; raw bytes follow.
    Dialed,
    /// It could not be done.
    Failed(Fault),
}

/// The host introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The generation the host speaks.
    pub generation: u16,
}

/// The agent introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHello {
    /// The generation the agent speaks.
    pub generation: u16,
    /// Its version, for people.
    pub version: String,
    /// Where the application stands.
    pub application: Application,
}

/// Where the application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Application {
    /// [`Request::Start`] has not come yet.
    NotStarted,
    /// It runs.
    Running,
    /// Its main process ended; 128 + n for a death by signal n.
    Exited(i32),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Nothing listens on the dialed port.
    Refused,
    /// The application container was started before.
    AlreadyStarted,
    /// The request is one this agent's generation does not know.
    Unsupported,
    /// A step failed in the guest: what, and the system's words.
    Failed(String),
}

/// The application as a container: the OCI image configuration's fields, resolved by the host as far as it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// ENTRYPOINT and CMD joined: the whole argument vector. Never empty.
    pub argv: Vec<String>,
    /// The whole environment as `(name, value)`; names are unique.
    pub env: Vec<(String, String)>,
    /// WORKDIR, absolute. Created when missing.
    pub workdir: String,
    /// USER as written in the image: `""`, `name`, `uid`, `name:group`, `uid:gid`. Resolved in the guest against its
    /// `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// `additionalOsCapabilities: ["ALL"]` (spec 14): all capabilities instead of the default set `00000000a80425fb`.
    pub all_capabilities: bool,
    /// The hostname inside the container.
    pub hostname: String,
}

/// What to do in the application's container, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What to do.
    pub job: Job,
    /// As in [`Container::user`]; `None` for the application's own user. Files are moved as root, whoever is named here.
    pub user: Option<String>,
    /// Where; `None` for the image's WORKDIR. Not created.
    pub workdir: Option<String>,
    /// Put on top of the image's environment.
    pub env: Vec<(String, String)>,
    /// A terminal of this size; `None` for pipes. 0 by 0 is what a terminal has that was told nothing.
    pub terminal: Option<TerminalSize>,
    /// End the program after so many milliseconds, SIGTERM first; 0: never.
    pub timeout_ms: u32,
}

/// The kinds of [`Session`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// `bash` if the image has it, else `sh`.
    Shell,
    /// A program and its arguments. Never empty; found in the PATH of the session's environment.
    Exec(Vec<String>),
    /// Say on standard output, in the form of the `files` crate, what is at this absolute path.
    Get(String),
    /// Make of standard input, in the same form, what is to be at this absolute path; under that name in it where it is a
    /// directory.
    Put {
        /// Where to.
        path: String,
        /// The source's own name, if it has one.
        name: Option<String>,
    },
}

/// Characters of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What makes one clone different from its siblings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Wall clock to set, nanoseconds since the Unix epoch.
    pub unix_time_ns: u64,
    /// Fresh entropy to mix into the kernel's random number generator and to credit; then it is reseeded at once.
    pub entropy: [u8; 32],
    /// Hostname of the guest and of its container.
    pub hostname: String,
    /// 32 lower-case hex digits for `/etc/machine-id`; empty leaves it.
    pub machine_id: String,
}

/// Something that happened in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one from 1, for the life of the agent (snapshots included).
    pub sequence: u64,
    /// Guest wall clock, milliseconds since the Unix epoch.
    pub unix_time_ms: u64,
    /// What happened.
    pub what: Happening,
}

/// The kinds of [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// One line (without its end) that the application wrote, cut at [`MAX_LINE_BYTES`]; lossy UTF-8.
    Line {
        /// Which stream it came from.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// The application's main process ended; 128 + n for a death by signal n. Nothing of the application follows.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// The agent dropped this many events because nobody followed and its buffer was full.
    Dropped {
        /// How many.
        events: u64,
    },
    /// The guest ran out of memory and its kernel killed a process of the application.
    OutOfMemory {
        /// The process, in its own words; from the kernel's log.
        name: String,
        /// Was it the application's main process? Its end follows.
        main: bool,
    },
}

/// The application's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A longer line is split into pieces of this many bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
