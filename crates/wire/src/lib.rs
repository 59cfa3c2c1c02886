//! What the host and the guest agent say to each other, and nothing about how the bytes travel.
//!
//! The agent is frozen into every image snapshot, so an agent lives as long as the image it is in. The rules that keep old
//! agents useful: enum variants and struct fields are only ever appended, every connection opens with [`Hello`], and the
//! host speaks the lower of the two generations.
//!
//! # A connection
//!
//! ```text
//! host                                        guest
//!  PREAMBLE ++ nonce(16)                 ->            sent raw; the guest discards bytes until it finds it
//!                                        <-   PREAMBLE ++ the same nonce
//!  ---------------- from here on: yamux, the host is the client and opens every stream ----------------
//!  stream 1: Request::Hello              ->
//!                                        <-   Response::Hello
//!  stream n: Request                     ->
//!                                        <-   Response, then for Dial raw bytes, for Events a run of Event frames,
//!                                             for Session messages of both sides ([`session`])
//! ```
//!
//! The preamble makes a connection whole whatever an earlier one left half-sent in the virtio queues: a server that was
//! killed, or a snapshot taken in mid-word.

mod codec;
mod messages;
pub mod session;

pub use codec::{FrameError, LENGTH_BYTES, MAX_FRAME_BYTES, decode_body, decode_length, encode};
pub use messages::*;

/// The generation this build speaks. Only grows; see the module's rules. 2 brought [`Request::Session`].
pub const GENERATION: u16 = 2;

/// The first generation whose agents know [`Request::Session`].
pub const SESSION_GENERATION: u16 = 2;

/// The first bytes of every connection, in both directions, followed by a [`NONCE_BYTES`]-byte nonce of the host's choice.
pub const PREAMBLE: &[u8; 16] = b"\x00hearth-agent/1\n";

/// Length of the nonce that follows [`PREAMBLE`].
pub const NONCE_BYTES: usize = 16;

/// Name of the virtio-serial port, as the guest finds it in `/sys/class/virtio-ports/*/name`.
pub const PORT_NAME: &str = "hearth.agent.0";
