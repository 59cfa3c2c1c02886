//! A client of the API, without retries of its own: who calls knows what a lost answer means.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use api::{
    Input, Sensitive,
    request::encode,
    sigv4::{Signer, Unsigned},
};
use serde_json::Value;

/// Longest wait for an answer; no operation blocks that long.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that runs, and the key to it.
pub struct Client {
    authority: String,
    region: String,
    key_id: String,
    secret: Sensitive<String>,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum Failure {
    /// The server went away before it had answered; what was asked for may be done or not.
    Broken,
    /// The service said no.
    Refused(u16, String),
}

/// A request of any service.
struct Call<'a> {
    service: &'a str,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
}

impl Client {
    /// The client of the server with that process id, once it is ready; `None` before.
    pub fn of(data_dir: &Path, pid: u32) -> Option<Client> {
        let read = |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(data_dir.join(name)).ok()?).ok() };
        let (ready, key) = (read("run/ready.json")?, read("credentials.json")?);
        (ready["pid"].as_u64() == Some(pid.into())).then_some(())?;
        Some(Client {
            authority: ready["api_url"].as_str()?.strip_prefix("http://")?.to_owned(),
            region: ready["region"].as_str()?.to_owned(),
            key_id: key["access_key_id"].as_str()?.to_owned(),
            secret: key["secret_access_key"].as_str()?.to_owned().into(),
        })
    }

    /// One operation of `lambda-microvms`; what goes in and out is JSON as in the service's model.
    pub fn call<I: Input>(&self, input: Value) -> Result<Result<Value, Failure>> {
        let shown = || format!("{} with {input}", I::OPERATION);
        let typed: I = serde_json::from_value(input.clone()).with_context(shown)?;
        let encoded = encode(&typed).with_context(shown)?;
        let method = I::OPERATION.route().method;
        let sent = self.send(&Call {
            service: "lambda",
            method,
            path: &encoded.path,
            query: &encoded.query,
            body: &encoded.body,
        });
        Ok(sent.and_then(|body| serde_json::from_slice(&body).map_err(|_| Failure::Broken)))
    }

    /// `PUT` of a bucket or an object.
    pub fn put(&self, path: &str, body: &[u8]) -> Result<(), Failure> {
        self.send(&Call { service: "s3", method: "PUT", path, query: "", body }).map(drop)
    }

    fn send(&self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        let answer = self.exchange(call).map_err(|_| Failure::Broken)?;
        let (status, body) = parse(&answer).ok_or(Failure::Broken)?;
        match status {
            200..=299 => Ok(body.to_owned()),
            _ => Err(Failure::Refused(status, String::from_utf8_lossy(body).into_owned())),
        }
    }

    fn exchange(&self, call: &Call<'_>) -> std::io::Result<Vec<u8>> {
        let Call { service, method, path, query, body } = *call;
        let unsigned = Unsigned { method, host: &self.authority, path, query, body };
        let signer = Signer {
            access_key_id: &self.key_id,
            secret: &self.secret,
            session_token: None,
            region: &self.region,
            service,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.authority);
        for (name, value) in signer.sign(&unsigned, now.try_into().unwrap_or_default()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut stream = TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Status and body of a whole answer; `None` for one that broke off.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let whole = length.is_none_or(|length| length.trim().parse() == Ok(body.len()));
    whole.then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_that_broke_off_is_none() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((200, &b"{}"[..])));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "{cut}");
        }
    }
}
