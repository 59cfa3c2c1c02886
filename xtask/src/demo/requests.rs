//! Step 4: tokens and requests, with curl.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Scene, launch, scene::Vm};
use crate::process;

/// What the endpoint answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The proxy's own word on an error.
    pub fn proxy_error(&self) -> &str {
        let found = self.headers.iter().find(|(name, _)| name == "x-aws-proxy-error");
        found.map_or("", |(_, value)| value)
    }

    /// How many requests the application had served, if it says so.
    pub fn served(&self) -> Option<u64> {
        self.json()["requests_served"].as_u64()
    }

    fn shown(&self) -> String {
        format!("{} {} {}", self.status, self.body.trim(), self.proxy_error()).trim_end().to_owned()
    }
}

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let vm = scene.vm()?;
    let token = token(scene, &vm, 8080)?;
    let mut served = Vec::new();
    let mut last = Value::Null;
    for _ in 0..5 {
        let answer = get(scene, &vm, &token, "/")?;
        served.push(answer.served().unwrap_or_default());
        last = answer.json();
    }
    scene.report.expect("five requests are counted", served == [1, 2, 3, 4, 5], format!("{served:?}"));
    let shape = last["pid"] == 1 && last["uptime_seconds"].is_number();
    scene.report.expect("the application is pid 1 of its container", shape, last.to_string());
    refusals(scene, &vm, &token)
}

/// The 403s of spec 6.6, and a port that nobody listens on.
fn refusals(scene: &mut Scene, vm: &Vm, token: &str) -> Result<()> {
    let other = launch::run(scene)?;
    let foreign = self::token(scene, &other, 8080)?;
    let closed = self::token(scene, vm, 1234)?;
    let garbled: String = token.chars().rev().collect();
    let cases = [
        ("no token", vec![], "Request missing authentication"),
        ("a garbled token", vec![("X-aws-proxy-auth", garbled.as_str())], "Request missing authentication"),
        ("another microVM's token", vec![("X-aws-proxy-auth", foreign.as_str())], "Token authentication failed"),
        (
            "a port out of scope",
            vec![("X-aws-proxy-auth", token), ("X-aws-proxy-port", "9000")],
            "Access to port denied",
        ),
    ];
    for (name, headers, text) in cases {
        let answer = curl(scene, vm, "/", &headers, &[])?;
        let as_specified = answer.status == 403 && answer.body.trim() == text;
        scene.report.expect(format!("{name} is refused"), as_specified, answer.shown());
    }
    let headers = [("X-aws-proxy-auth", closed.as_str()), ("X-aws-proxy-port", "1234")];
    let answer = curl(scene, vm, "/", &headers, &[])?;
    let as_specified = answer.status == 502 && answer.proxy_error() == "APP_CONNECT_FAILED";
    scene.report.expect("a port that nobody listens on is a 502", as_specified, answer.shown());
    launch::terminate(scene, &other)
}

/// `aws lambda-microvms create-microvm-auth-token` for one port.
pub fn token(scene: &Scene, vm: &Vm, port: u16) -> Result<String> {
    let ports = json!([{ "port": port }]).to_string();
    let arguments = [
        "create-microvm-auth-token",
        "--microvm-identifier",
        &vm.id,
        "--expiration-in-minutes",
        "30",
        "--allowed-ports",
        &ports,
    ];
    let answer = scene.microvms(&arguments)?;
    answer["authToken"]["X-aws-proxy-auth"].as_str().map(str::to_owned).context("there is no token in the answer")
}

/// A GET with that token.
pub fn get(scene: &Scene, vm: &Vm, token: &str, path: &str) -> Result<Answer> {
    curl(scene, vm, path, &[("X-aws-proxy-auth", token)], &[])
}

/// curl as a user has it: it resolves `*.localhost` itself and trusts hearth's CA by `CURL_CA_BUNDLE`. Headers go through
/// its standard input: command lines are everybody's to read.
pub fn curl(scene: &Scene, vm: &Vm, path: &str, headers: &[(&str, &str)], more: &[&str]) -> Result<Answer> {
    let url = format!("https://{}{path}", vm.endpoint);
    let mut command = scene.user_command(Path::new("curl"));
    command.args(["--silent", "--show-error", "--include", "--max-time", "90", "--header", "@-"]).args(more).arg(&url);
    let input: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let output = process::capture(&mut command, input.as_bytes(), Duration::from_secs(100))?;
    parse(&output.success(&format!("curl {url}"))?).with_context(|| format!("curl {url} printed no HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (mut head, mut body) = text.split_once("\r\n\r\n")?;
    // 100 Continue and the like come before the answer itself.
    while head.split(' ').nth(1)?.starts_with('1') {
        (head, body) = body.split_once("\r\n\r\n")?;
    }
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_curl() {
        let answer = parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/2 502 \r\nX-AWS-proxy-error: GONE\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.proxy_error(), answer.body.as_str()), (502, "GONE", ""));
        let answer = parse("HTTP/1.1 200 OK\r\n\r\n{\"requests_served\": 3}\n").unwrap();
        assert_eq!(answer.served(), Some(3));
        assert!(parse("").is_none());
    }
}
