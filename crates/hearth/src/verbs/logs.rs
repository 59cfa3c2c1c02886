//! `hearth logs`

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use api::{
    GetMicrovmImageVersionInput, GetMicrovmInput, ImageVersion, ImageVersionState, ListMicrovmImageVersionsInput,
    Microvm, MicrovmId,
};
use clap::Args;

use crate::{
    cli::Server,
    client::{
        Client, POLL,
        log::{Line, Source, Tail},
    },
    output::printable,
};

/// Of an image, the build of its newest version; of a microVM, what its application wrote.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    server: Server,
    /// Name or ARN of an image, or id of a microVM (microvm-..., a beginning will do)
    #[arg(value_name = "IMAGE|MICROVM")]
    what: String,
    /// Go on as lines come: until the build ends, or until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Version of the image [default: the newest]
    #[arg(long, value_name = "VERSION")]
    image_version: Option<ImageVersion>,
    /// Of an image, everything: all builds and all microVMs
    #[arg(long, conflicts_with = "image_version")]
    all: bool,
    /// Put the time (UTC) before each line
    #[arg(short, long)]
    time: bool,
}

impl Logs {
    /// Shows it.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let mut printer = Printer { time: self.time, terminal: std::io::stdout().is_terminal() };
        if self.what.starts_with(MicrovmId::PREFIX) {
            let id = client.microvm(&self.what).await?;
            let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
            return self.show(&client, &of_microvm(&microvm)?, &mut printer).await;
        }
        let image = client.image(&self.what)?;
        let group = group(image.name().as_str());
        if self.all {
            return self.show(&client, &Source { group, prefix: String::new() }, &mut printer).await;
        }
        let version = match self.image_version {
            Some(version) => version,
            None => newest(&client, &image).await?,
        };
        let build = GetMicrovmImageVersionInput { image_identifier: image, image_version: version };
        let source = Source { group, prefix: format!("build/{version}/") };
        if self.follow {
            follow_build(&client, &build, &source, &mut |line| printer.print(line)).await?;
            return Ok(ExitCode::SUCCESS);
        }
        client.call(&build).await?;
        self.show(&client, &source, &mut printer).await
    }

    async fn show(&self, client: &Client, source: &Source, printer: &mut Printer) -> Result<ExitCode> {
        let mut tail = Tail::default();
        let mut lines = tail.open(client, source, self.follow).await?;
        while let Some(line) = lines.next().await? {
            printer.print(&line)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Gives every line of a build to `show` as it comes, until the build has ended and its last line is out. Returns how it ended.
pub async fn follow_build(
    client: &Client,
    build: &GetMicrovmImageVersionInput,
    source: &Source,
    show: &mut (dyn FnMut(&Line) -> Result<()> + Send),
) -> Result<ImageVersionState> {
    let mut tail = Tail::default();
    let ended = {
        let mut lines = tail.open(client, source, true).await?;
        let ended = build_end(client, build);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                state = &mut ended => break state?,
                line = lines.next() => match line? {
                    Some(line) => show(&line)?,
                    None => break ended.await?,
                },
            }
        }
    };
    let mut rest = tail.open(client, source, false).await?;
    while let Some(line) = rest.next().await? {
        show(&line)?;
    }
    Ok(ended)
}

/// Waits until a build has ended: minutes, so no bound of this side's own.
async fn build_end(client: &Client, build: &GetMicrovmImageVersionInput) -> Result<ImageVersionState> {
    loop {
        let state = client.call(build).await?.state;
        if !matches!(state, ImageVersionState::Pending | ImageVersionState::InProgress) {
            return Ok(state);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The log group of an image (spec 4.7).
pub fn group(image: &str) -> String {
    format!("/aws/lambda-microvms/{image}")
}

/// The stream of a microVM: `YYYY/MM/DD[<version>]<id>`, the day (UTC) it was started on.
fn of_microvm(microvm: &Microvm) -> Result<Source> {
    let started = jiff::Timestamp::from_millisecond(microvm.started_at.as_millis()).context("startedAt")?;
    let day = started.strftime("%Y/%m/%d");
    let prefix = format!("{day}[{}]{}", microvm.image_version, microvm.microvm_id);
    Ok(Source { group: group(microvm.image_arn.name().as_str()), prefix })
}

async fn newest(client: &Client, image: &api::ImageArn) -> Result<ImageVersion> {
    let mut input =
        ListMicrovmImageVersionsInput { image_identifier: image.clone(), max_results: None, next_token: None };
    let mut newest = None;
    loop {
        let page = client.call(&input).await?;
        newest = newest.max(page.items.iter().map(|version| version.image_version).max());
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return newest.with_context(|| format!("image {} has no version", image.name()));
        }
    }
}

struct Printer {
    time: bool,
    terminal: bool,
}

impl Printer {
    fn print(&mut self, line: &Line) -> Result<()> {
        let text = self.format(line)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).context("write")
    }

    fn format(&self, line: &Line) -> Result<String> {
        let message = if self.terminal { printable(&line.message) } else { line.message.clone() };
        if !self.time {
            return Ok(message);
        }
        let time = jiff::Timestamp::from_millisecond(line.time).context("time of a log line")?;
        Ok(format!("{} {message}", time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_protected_and_files_are_not_changed() {
        let line = Line { number: 1, time: 1_790_000_000_123, stream: String::new(), message: "a\u{1b}[2J".into() };
        let format = |time, terminal| Printer { time, terminal }.format(&line).unwrap();
        assert_eq!(format(false, true), "a\u{fffd}[2J");
        assert_eq!(format(false, false), "a\u{1b}[2J");
        assert_eq!(format(true, true), "2026-09-21T14:13:20.123Z a\u{fffd}[2J");
    }

    #[test]
    fn the_stream_of_a_microvm() {
        let json = serde_json::json!({"microvmId": "microvm-00000000-0000-0000-0000-000000000000", "state": "RUNNING",
            "endpoint": "e", "imageArn": "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello",
            "imageVersion": "2.0", "maximumDurationInSeconds": 1, "startedAt": 1790000000.123});
        let source = of_microvm(&serde_json::from_value(json).unwrap()).unwrap();
        assert_eq!(source.group, "/aws/lambda-microvms/hello");
        assert_eq!(source.prefix, "2026/09/21[2.0]microvm-00000000-0000-0000-0000-000000000000");
    }
}
