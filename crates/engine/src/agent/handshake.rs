//! The first bytes of a connection: find the agent behind whatever an earlier connection left in the virtio queues.
//!
//! One preamble is enough even while the guest boots: QEMU leaves the bytes in the socket until the guest has opened its
//! port. It must not be sent twice, because the guest could not tell the second copy from multiplexer frames.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use wire::{NONCE_BYTES, PREAMBLE};

use super::AgentError;

/// Bytes of preamble and nonce together.
const GREETING_BYTES: usize = PREAMBLE.len() + NONCE_BYTES;

/// How much may come before the echo. What an earlier connection can leave behind is bounded by the socket's buffer and
/// the port's queue, far less than this; a guest that sends more is not an agent.
const MAX_STALE_BYTES: usize = 16 << 20;

/// Sends the preamble with a new nonce and reads up to the end of its echo, not a byte further.
///
/// The caller bounds the time.
pub(super) async fn synchronise<C>(channel: &mut C) -> Result<(), AgentError>
where
    C: AsyncBufRead + AsyncWrite + Unpin,
{
    let greeting = greeting();
    let io = |what| move |source| AgentError::Io { what, source };
    channel.write_all(&greeting).await.map_err(io("sending the preamble"))?;
    channel.flush().await.map_err(io("sending the preamble"))?;

    // The last bytes seen, at most one less than a whole greeting, so that an echo cut by a read boundary is found.
    let mut tail = Vec::with_capacity(2 * GREETING_BYTES);
    let mut stale = 0;
    loop {
        let chunk = channel.fill_buf().await.map_err(io("waiting for the echo"))?;
        if chunk.is_empty() {
            return Err(AgentError::Ended("it closed before the agent's first word".into()));
        }
        let kept = tail.len();
        tail.extend_from_slice(chunk);
        let found = tail.windows(GREETING_BYTES).position(|window| window == greeting);
        let read = chunk.len();
        if let Some(at) = found {
            // `tail` alone is shorter than a greeting, so the echo ends inside this chunk.
            channel.consume(at + GREETING_BYTES - kept);
            return Ok(());
        }
        channel.consume(read);
        stale += read;
        if stale > MAX_STALE_BYTES {
            return Err(AgentError::Protocol(format!("no echo of the preamble in the first {MAX_STALE_BYTES} bytes")));
        }
        tail.drain(..tail.len().saturating_sub(GREETING_BYTES - 1));
    }
}

/// [`PREAMBLE`] and a nonce that no other connection to this guest has used. The nonce need not be secret, only new: it
/// tells this connection's echo from one that an earlier connection left behind.
fn greeting() -> [u8; GREETING_BYTES] {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let count = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut greeting = [0; GREETING_BYTES];
    let (preamble, nonce) = greeting.split_at_mut(PREAMBLE.len());
    preamble.copy_from_slice(PREAMBLE);
    for half in nonce.chunks_mut(8) {
        // Every `RandomState` hashes with keys of its own, drawn from the system's randomness.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(count);
        hasher.write_u128(now);
        hasher.write_u32(std::process::id());
        half.copy_from_slice(&hasher.finish().to_le_bytes()[..half.len()]);
    }
    greeting
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, BufStream, duplex};

    use super::*;

    /// A guest that answers the preamble with `before`, the echo, then `after`, in writes of `step` bytes.
    async fn against(before: &[u8], after: &[u8], step: usize) -> (Result<(), AgentError>, Vec<u8>) {
        let (host, mut guest) = duplex(64);
        let mut host = BufStream::new(host);
        let answer = async {
            let mut greeting = [0; GREETING_BYTES];
            guest.read_exact(&mut greeting).await.expect("the greeting comes");
            let bytes = [before, &greeting, after].concat();
            for piece in bytes.chunks(step) {
                if guest.write_all(piece).await.is_err() {
                    break; // the host has given up
                }
            }
            drop(guest);
        };
        let greet = async {
            let outcome = synchronise(&mut host).await;
            let mut rest = Vec::new();
            if outcome.is_ok() {
                host.read_to_end(&mut rest).await.expect("reads");
            }
            drop(host);
            (outcome, rest)
        };
        tokio::join!(answer, greet).1
    }

    #[tokio::test]
    async fn stale_bytes_are_skipped_and_nothing_past_the_echo_is_eaten() {
        // Half a preamble, another connection's whole echo, and a preamble that breaks off: none of them is ours.
        let mut stale = PREAMBLE[..7].to_vec();
        stale.extend_from_slice(PREAMBLE);
        stale.extend_from_slice(&[9; NONCE_BYTES]);
        stale.extend_from_slice(&[0; 100]);
        stale.extend_from_slice(&PREAMBLE[..15]);
        for step in [1, 3, 31, 32, 33, 1000] {
            let (outcome, rest) = against(&stale, b"the first frame", step).await;
            outcome.expect("found");
            assert_eq!(rest, b"the first frame", "in steps of {step}");
        }
    }

    #[tokio::test]
    async fn a_guest_that_only_babbles_is_given_up() {
        let babble = vec![0x55; MAX_STALE_BYTES + (64 << 10)];
        let (outcome, _) = against(&babble, b"", 4096).await;
        assert!(matches!(outcome, Err(AgentError::Protocol(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_guest_that_hangs_up_is_told_apart() {
        let (host, guest) = duplex(64);
        drop(guest);
        let outcome = synchronise(&mut BufStream::new(host)).await;
        assert!(matches!(outcome, Err(AgentError::Ended(_) | AgentError::Io { .. })), "{outcome:?}");
    }

    #[test]
    fn no_two_connections_greet_alike() {
        assert_ne!(greeting(), greeting());
    }
}
