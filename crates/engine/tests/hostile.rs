//! Hostile guests: random bytes that look like the right ones, at every depth of the wire protocol. Whatever they send, the
//! host's half does not panic, does not hang and does not grow. `cargo xtask fuzz` runs many; `HEARTH_FUZZ_SEED` repeats a run.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::agent::Agent;
use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use wire::{AgentHello, Application, Event, Fault, Happening, Response};

/// Inputs when nobody says how many.
const FEW: u64 = 300;
/// Nothing takes longer, unless it hangs: the guest has closed the channel by then.
const SOON: Duration = Duration::from_secs(20);
/// How long a guest goes on.
const MOMENT: Duration = Duration::from_millis(30);

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let size = rng.usize(..=most);
    (0..size).map(|_| rng.u8(..)).collect()
}

/// A message of the protocol, or nearly one.
fn message(rng: &mut Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(&bytes(rng, 300)).into_owned();
    let encoded = match rng.u8(..7) {
        0 | 1 => {
            let generation = if rng.bool() { 1 } else { rng.u16(..) };
            let hello = AgentHello { generation, version: text, application: Application::Running };
            wire::encode(&Response::Hello(hello))
        }
        2 => wire::encode(&Response::Done),
        3 => wire::encode(&Response::Dialed),
        4 => wire::encode(&Response::Failed(Fault::Failed(text))),
        5 => {
            let sequence = if rng.bool() { 1 } else { rng.u64(..) };
            wire::encode(&Event { sequence, unix_time_ms: rng.u64(..), what: Happening::Exited { code: rng.i32(..) } })
        }
        _ => Ok(bytes(rng, 600)),
    };
    let mut encoded = encoded.expect("it is short");
    if rng.u8(..3) == 0 && !encoded.is_empty() {
        let at = rng.usize(..encoded.len());
        encoded[at] = rng.u8(..);
    }
    encoded
}

/// A frame of the multiplexer, with fields that are near the right ones.
fn multiplexer_frame(rng: &mut Rng) -> Vec<u8> {
    let kind = rng.u8(..5);
    let payload = if kind == 0 { message(rng) } else { Vec::new() };
    let length = match rng.u8(..4) {
        0 => rng.u32(..),
        1 => rng.u32(..70_000),
        _ => u32::try_from(payload.len()).expect("it is short"),
    };
    let mut frame = vec![if rng.u8(..10) == 0 { rng.u8(..) } else { 0 }, kind];
    frame.extend(if rng.bool() { 0 } else { rng.u16(..16) }.to_be_bytes());
    frame.extend(rng.u32(..8).to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Plays one guest on its channel, then closes it.
async fn play(mut rng: Rng, mut channel: DuplexStream) -> std::io::Result<()> {
    let mut greeting = [0; wire::PREAMBLE.len() + wire::NONCE_BYTES];
    channel.read_exact(&mut greeting).await?;
    match rng.u8(..10) {
        0 => return channel.write_all(&bytes(&mut rng, 5000)).await,
        1 => channel.write_all(&bytes(&mut rng, 5000)).await?,
        _ => {}
    }
    channel.write_all(&greeting).await?;
    if rng.bool() {
        return frames(&mut rng, &mut channel).await;
    }
    let mut connection = yamux::Connection::new(channel.compat(), yamux::Config::default(), yamux::Mode::Server);
    while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let mut rng = rng.fork();
        tokio::spawn(async move {
            let mut stream = stream.compat();
            let _ = stream.read(&mut [0; 512]).await;
            for _ in 0..rng.usize(1..4) {
                if stream.write_all(&message(&mut rng)).await.is_err() {
                    return;
                }
            }
            if rng.bool() {
                let _ = stream.shutdown().await;
            }
        });
    }
    Ok(())
}

async fn frames(rng: &mut Rng, channel: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    for _ in 0..rng.usize(1..40) {
        let frame = multiplexer_frame(rng);
        channel.write_all(&frame).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Everything that the host asks of an agent, at once.
async fn host(channel: DuplexStream) -> bool {
    let Ok(agent) = Agent::open(Box::new(channel), SOON).await else { return false };
    let dial = async {
        if let Ok(mut stream) = agent.dial(80).await {
            let _ = stream.write_all(b"hello").await;
            let mut rest = Vec::new();
            let _ = stream.take(1 << 20).read_to_end(&mut rest).await;
        }
    };
    let events = async {
        if let Ok(mut events) = agent.events(0).await {
            while let Ok(Some(_)) = events.next().await {}
        }
    };
    let quiesce = async { drop(agent.quiesce().await) };
    tokio::join!(dial, events, quiesce);
    agent.close().await;
    true
}

#[tokio::test]
async fn fuzz_wire() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("HEARTH_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let inputs = number("HEARTH_FUZZ_REQUESTS").unwrap_or(FEW);
    eprintln!("fuzz: HEARTH_FUZZ_SEED={seed}");
    let (panics, before) = (Arc::<Mutex<Vec<String>>>::default(), std::panic::take_hook());
    let seen = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        seen.lock().expect("not poisoned").push(panic.to_string());
        before(panic);
    }));
    let mut opened = 0;
    for n in 0..inputs {
        let (ours, theirs) = duplex(64 << 10);
        let guest = timeout(MOMENT, play(Rng::with_seed(seed.wrapping_add(n)), theirs));
        let (done, _) = tokio::join!(timeout(SOON, host(ours)), guest);
        opened += u64::from(done.unwrap_or_else(|_| panic!("seed {seed}, input {n}: the host hangs")));
    }
    let panics = panics.lock().expect("not poisoned").clone();
    assert!(panics.is_empty(), "seed {seed}: {panics:?}");
    eprintln!("fuzz: {inputs} guests, {opened} of them answered hello");
    assert!(inputs < FEW || (1..inputs).contains(&opened), "{opened} of {inputs}: one side is missing");
}
