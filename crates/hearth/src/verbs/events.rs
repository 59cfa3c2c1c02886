//! `hearth events`

use std::{collections::HashMap, io::Write, process::ExitCode};

use anyhow::{Context, Result};
use api::{ImageArn, MicrovmId};
use clap::Args;
use serde_json::Value;

use crate::{
    cli::Server,
    client::{
        Client,
        events::{Subject, number},
    },
    output::{one_line, size, span},
};

/// Events of all microVMs and images that are shown when no number is asked for.
const COUNT: u32 = 100;

/// The oldest first. Of one microVM or image everything is shown, and what it has used; of all, the last 100.
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    server: Server,
    /// Id of a microVM (microvm-..., a beginning will do), or name or ARN of an image [default: all]
    #[arg(value_name = "MICROVM|IMAGE")]
    what: Option<String>,
    /// Go on as things happen, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// Print the events as the server tells them, one a line
    #[arg(long)]
    json: bool,
}

impl Events {
    /// Shows them.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let subject = subject(&client, self.what.as_deref()).await?;
        let count = self.lines.or((subject == Subject::All).then_some(COUNT));
        // To go on from somewhere, one event is needed even if none is to be shown.
        let mut events = client.events(&subject, count.map(|count| count.max(1))).await?;
        let last = events.last().map(number).transpose()?.unwrap_or_default();
        if self.lines == Some(0) {
            events.clear();
        }
        let mut printer = Printer { json: self.json, names: subject == Subject::All, before: HashMap::new() };
        printer.head()?;
        events.iter().try_for_each(|event| printer.print(event))?;
        if self.follow {
            let mut more = client.follow_events(&subject, last).await?;
            while let Some(event) = more.next().await? {
                printer.print(&event)?;
            }
        } else if subject != Subject::All && !self.json {
            println!("\n{}", summary(&subject, &client.usage(&subject).await?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn subject(client: &Client, text: Option<&str>) -> Result<Subject> {
    Ok(match text {
        None => Subject::All,
        Some(text) if text.starts_with(MicrovmId::PREFIX) => Subject::Microvm(client.microvm(text).await?),
        Some(text) => Subject::Image(client.image(text)?),
    })
}

struct Printer {
    json: bool,
    /// Is it said of what each event is?
    names: bool,
    /// When something last happened to what has not ended.
    before: HashMap<String, i64>,
}

impl Printer {
    fn head(&self) -> Result<()> {
        if self.json {
            return Ok(());
        }
        self.line(&self.columns(["TIME", "MICROVM/IMAGE", "EVENT", "STATE", "AFTER", "DETAIL"]))
    }

    fn print(&mut self, event: &Value) -> Result<()> {
        let line = if self.json { event.to_string() } else { self.row(event)? };
        self.line(&line)
    }

    fn line(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).context("write")
    }

    /// `AFTER` is the time since the event before of the same thing: how long the state before lasted.
    fn row(&mut self, event: &Value) -> Result<String> {
        let word = |name: &str| one_line(event[name].as_str().unwrap_or_default());
        let at = event["at"].as_i64().context("the server sent an event without time")?;
        let time = jiff::Timestamp::from_millisecond(at).context("time of an event")?;
        let (resource, state) = (word("resource"), word("state"));
        let before = match state.as_str() {
            "TERMINATED" | "DELETED" => self.before.remove(&resource),
            _ => self.before.insert(resource.clone(), at),
        };
        let after = before.map(|before| span(at.saturating_sub(before).max(0).unsigned_abs())).unwrap_or_default();
        let name = resource.parse::<ImageArn>().map_or(resource, |arn| arn.name().to_string());
        let time = time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        Ok(self.columns([&time, &name, &word("what"), &state, &after, &detail(event)]))
    }

    fn columns(&self, [time, name, what, state, after, detail]: [&str; 6]) -> String {
        let name = if self.names { format!("{name:<44}  ") } else { String::new() };
        format!("{time:<24}  {name}{what:<15}  {state:<13}  {after:>6}  {detail}").trim_end().to_owned()
    }
}

/// Version of an image, bytes of a snapshot, reason.
fn detail(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().map(one_line);
    let bytes = |name: &str| event[name].as_u64();
    let version = word("version").filter(|_| event["kind"] == "image");
    let memory = bytes("memoryBytes").map(|bytes| format!("{} of memory", size(bytes)));
    let disk = bytes("diskBytes").map(|bytes| format!("{} of disk", size(bytes)));
    [version, memory, disk, word("reason")].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What was used, in one line.
fn summary(subject: &Subject, usage: &Value) -> String {
    let number = |name: &str| usage[name].as_u64().unwrap_or_default();
    let bytes = |name: &str| size(number(name));
    let kept = format!("{}-hours of storage", size(number("snapshotByteSeconds") / 3600));
    if matches!(subject, Subject::Image(_)) {
        let (builds, failed) = (number("builds"), number("failedBuilds"));
        let building = span(number("buildingMs"));
        let there = bytes("snapshotBytes");
        return format!("builds: {builds}, failed: {failed}, building {building}; snapshots: {there} there, {kept}");
    }
    let states = ["pending", "running", "suspending", "suspended", "terminating"];
    let times = states.map(|state| format!("{state} {}", span(number(&format!("{state}Ms"))))).join(", ");
    let gib = number("runningMibMs") / 1024 / 1000;
    let (suspends, resumes) = (number("suspends"), number("resumes"));
    let (written, read) = (bytes("snapshotWrittenBytes"), bytes("snapshotReadBytes"));
    format!(
        "{times}; {gib} GiB-seconds of memory; suspends: {suspends}, resumes: {resumes}; snapshots: {written} written, \
         {read} read, {kept}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "microvm-00000000-0000-0000-0000-000000000000";
    const IMAGE: &str = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello";

    #[test]
    fn rows_are_aligned_and_say_how_long_the_state_before_lasted() {
        let event = |at: i64, resource: &str, what: &str, state: &str, more: Value| {
            let mut event = json!({"n": 1, "at": 1_790_000_000_123_i64 + at, "resource": resource, "what": what,
                "state": state, "version": "1.0"});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let saved = json!({"kind": "microvm", "memoryBytes": 3 << 20, "diskBytes": 512});
        let failed = json!({"kind": "image", "reason": "CODE: a\u{1b}[31m\nb"});
        let events = [
            event(0, ID, "Accepted", "PENDING", json!({"kind": "microvm"})),
            event(5, IMAGE, "BuildFailed", "CREATE_FAILED", failed),
            event(312, ID, "Started", "RUNNING", saved),
            event(75_312, ID, "Ended", "TERMINATED", json!({"kind": "microvm"})),
        ];
        let mut printer = Printer { json: false, names: false, before: HashMap::new() };
        let rows: Vec<String> = events.iter().map(|event| printer.row(event).unwrap()).collect();
        assert_eq!(
            rows,
            [
                "2026-09-21T14:13:20.123Z  Accepted         PENDING",
                "2026-09-21T14:13:20.128Z  BuildFailed      CREATE_FAILED          1.0, CODE: a [31m b",
                "2026-09-21T14:13:20.435Z  Started          RUNNING         312ms  3.0 MiB of memory, 512 B of disk",
                "2026-09-21T14:14:35.435Z  Ended            TERMINATED      1m15s",
            ]
        );
        assert!(!printer.before.contains_key(ID), "what has ended is forgotten");
        printer.names = true;
        let row = printer.row(&events[1]).unwrap();
        assert!(row.contains(&format!("  {:<44}  BuildFailed", "hello")), "{row}");
    }

    #[test]
    fn usage_in_one_line() {
        let usage = json!({"pendingMs": 300, "runningMs": 61_000, "suspendedMs": 3_600_000, "runningMibMs": 61_000 * 2048,
            "suspends": 2, "resumes": 1, "snapshotWrittenBytes": 2048, "snapshotByteSeconds": 7_200_u64 << 30});
        let microvm = Subject::Microvm(ID.parse().unwrap());
        assert_eq!(
            summary(&microvm, &usage),
            "pending 300ms, running 1m01s, suspending 0ms, suspended 1h00m, terminating 0ms; 122 GiB-seconds of memory; \
             suspends: 2, resumes: 1; snapshots: 2.0 KiB written, 0 B read, 2.0 GiB-hours of storage"
        );
        let usage = json!({"builds": 2, "failedBuilds": 1, "buildingMs": 4_000, "snapshotBytes": 3_u64 << 30});
        assert_eq!(
            summary(&Subject::Image(IMAGE.parse().unwrap()), &usage),
            "builds: 2, failed: 1, building 4.0s; snapshots: 3.0 GiB there, 0 B-hours of storage"
        );
    }
}
