//! `hearth bench`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use api::{
    GetMicrovmInput, IdlePolicy, ImageArn, Microvm, MicrovmId, MicrovmState, ResumeMicrovmInput, RunMicrovmInput,
    SuspendMicrovmInput, TerminateMicrovmInput,
};
use clap::Args;
use http::StatusCode;

use crate::{
    cli::Server,
    client::{Call, Client, Endpoint, wait_for},
    output::Table,
};

/// Pause between two looks at a state: the resolution of what is measured by looking.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for one state or answer.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause before a request that the proxy refused with 502 is sent again.
const RETRY: Duration = Duration::from_millis(5);
/// Requests that one warm figure is the median of.
const WARM: usize = 5;

/// Each repetition starts a microVM of its own and terminates it: run, first request, warm requests, suspend, resume,
/// suspend, wake by a request. Every request has a connection with a TLS handshake of its own, as curl's. Prints medians.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    server: Server,
    /// Name or ARN of the image
    image: String,
    /// How many microVMs, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// What is requested; must answer 200
    #[arg(long, default_value = "/")]
    path: String,
    /// Port of the application
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Print every figure in milliseconds
    #[arg(long)]
    json: bool,
}

/// What is measured, in this order.
const NAMES: [&str; 8] = [
    "run_api",
    "run_to_running",
    "run_to_first_byte",
    "first_request",
    "warm_request",
    "suspend",
    "resume_to_first_byte",
    "wake_on_request",
];

/// One figure for each of [`NAMES`].
type Round = [Duration; NAMES.len()];

impl Bench {
    /// Measures.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let image = client.image(&self.image)?;
        let mut rounds = Vec::new();
        for number in 1..=self.repeat {
            rounds.push(self.round(&client, &image).await.with_context(|| format!("repetition {number}"))?);
            if !self.json {
                eprintln!("{number} of {}", self.repeat);
            }
        }
        print!("{}", if self.json { json(&rounds) } else { table(&rounds) });
        Ok(ExitCode::SUCCESS)
    }

    /// One microVM's life. It is terminated whatever happens.
    async fn round(&self, client: &Client, image: &ImageArn) -> Result<Round> {
        let input = RunMicrovmInput {
            image_identifier: image.clone(),
            image_version: None,
            execution_role_arn: None,
            ingress_network_connectors: None,
            egress_network_connectors: None,
            idle_policy: Some(IdlePolicy {
                max_idle_duration_seconds: 300,
                suspended_duration_seconds: 300,
                auto_resume_enabled: true,
            }),
            logging: None,
            run_hook_payload: None,
            maximum_duration_in_seconds: None,
            client_token: Some(uuid::Uuid::new_v4().to_string()),
        };
        let start = Instant::now();
        let microvm = client.call(&input).await?;
        let run_api = start.elapsed();
        let id = microvm.microvm_id;
        let measured = self.life(client, &microvm, start, run_api).await;
        let ended = client.call(&TerminateMicrovmInput { microvm_identifier: id }).await;
        let round = measured?;
        ended?;
        wait_for(client, id, &[MicrovmState::Terminated], POLL, LIMIT).await?;
        Ok(round)
    }

    async fn life(&self, client: &Client, microvm: &Microvm, start: Instant, run_api: Duration) -> Result<Round> {
        let id = microvm.microvm_id;
        wait_for(client, id, &[MicrovmState::Running], POLL, LIMIT).await?;
        let run_to_running = start.elapsed();
        let endpoint = Endpoint::open(client, microvm, self.port, 10).await?;
        let before = start.elapsed();
        let first_request = self.request(client, id, &endpoint).await?;
        let run_to_first_byte = before + first_request;
        let mut warm = Vec::new();
        for _ in 0..WARM {
            warm.push(self.request(client, id, &endpoint).await?);
        }
        let asleep = suspend(client, id).await?;
        let start = Instant::now();
        client.call(&ResumeMicrovmInput { microvm_identifier: id }).await?;
        let before = start.elapsed();
        let resume_to_first_byte = before + self.request(client, id, &endpoint).await?;
        wait_for(client, id, &[MicrovmState::Running], POLL, LIMIT).await?;
        let asleep_again = suspend(client, id).await?;
        let wake_on_request = self.request(client, id, &endpoint).await?;
        Ok([
            run_api,
            run_to_running,
            run_to_first_byte,
            first_request,
            median(&warm),
            (asleep + asleep_again) / 2,
            resume_to_first_byte,
            wake_on_request,
        ])
    }

    /// To the first byte of an answer. The proxy's 502 is no answer: the time goes on, and it is asked again.
    async fn request(&self, client: &Client, id: MicrovmId, endpoint: &Endpoint) -> Result<Duration> {
        let call = Call::get(&self.path);
        let start = Instant::now();
        loop {
            let before = start.elapsed();
            let (status, elapsed, _) = endpoint.timed(&call).await?;
            match status {
                StatusCode::OK => return Ok(before + elapsed),
                StatusCode::BAD_GATEWAY if start.elapsed() < LIMIT => {
                    must_live(client, id).await?;
                    tokio::time::sleep(RETRY).await;
                }
                other => bail!("{} answered {other}; name a path that answers 200 with --path", self.path),
            }
        }
    }
}

/// Nobody will answer for a microVM that has ended.
async fn must_live(client: &Client, id: MicrovmId) -> Result<()> {
    let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
    if microvm.state == MicrovmState::Terminated {
        bail!("{id} ended: {}", microvm.state_reason.as_deref().unwrap_or("no reason given").trim_end_matches('.'));
    }
    Ok(())
}

/// From the call to SUSPENDED.
async fn suspend(client: &Client, id: MicrovmId) -> Result<Duration> {
    let start = Instant::now();
    client.call(&SuspendMicrovmInput { microvm_identifier: id }).await?;
    wait_for(client, id, &[MicrovmState::Suspended], POLL, LIMIT).await?;
    Ok(start.elapsed())
}

/// The middle one, or the mean of the two in the middle; zero of none.
fn median(all: &[Duration]) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    match sorted.len() {
        0 => Duration::ZERO,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2,
    }
}

fn column(rounds: &[Round], number: usize) -> Vec<Duration> {
    rounds.iter().map(|round| round[number]).collect()
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// `{"medians_ms": {name: figure}, "all_ms": {name: [figure]}}`
fn json(rounds: &[Round]) -> String {
    let (mut medians, mut all) = (serde_json::Map::new(), serde_json::Map::new());
    for (number, name) in NAMES.into_iter().enumerate() {
        let figures = column(rounds, number);
        medians.insert(name.to_owned(), millis(median(&figures)).into());
        all.insert(name.to_owned(), figures.into_iter().map(millis).collect());
    }
    format!("{}\n", serde_json::json!({"medians_ms": medians, "all_ms": all}))
}

fn table(rounds: &[Round]) -> String {
    let mut table = Table::new(&["MILLISECONDS", "MEDIAN", "LEAST", "MOST"]);
    for (number, name) in NAMES.into_iter().enumerate() {
        let figures = column(rounds, number);
        let least = figures.iter().min().copied().unwrap_or_default();
        let most = figures.iter().max().copied().unwrap_or_default();
        table.row([name.to_owned(), show(median(&figures)), show(least), show(most)]);
    }
    table.to_string()
}

fn show(duration: Duration) -> String {
    format!("{:.1}", millis(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let ms = |figures: &[u64]| figures.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(median(&ms(&[3, 1, 2])), Duration::from_millis(2));
        assert_eq!(median(&ms(&[4, 1, 3, 2])), Duration::from_micros(2500));
        assert_eq!(median(&[]), Duration::ZERO);
    }

    #[test]
    fn both_outputs_hold_every_figure() {
        let rounds = [[Duration::from_micros(1234); 8], [Duration::from_micros(3234); 8]];
        let parsed: serde_json::Value = serde_json::from_str(&json(&rounds)).unwrap();
        for name in NAMES {
            assert_eq!(parsed["medians_ms"][name], 2.2);
            assert_eq!(parsed["all_ms"][name], serde_json::json!([1.2, 3.2]));
        }
        let text = table(&rounds);
        assert!(text.contains("warm_request          2.2     1.2    3.2"), "{text}");
    }
}
