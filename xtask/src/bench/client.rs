//! A client as cheap as can be: one kept-alive connection, blocking, signatures by `api`. What it measures is the server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use api::{
    Sensitive,
    sigv4::{Signer, Unsigned},
};
use serde_json::Value;

/// Where a server listens and the key to it, as `hearth env` says.
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    region: String,
    key_id: String,
    secret: Sensitive<String>,
}

/// A connection.
pub struct Client {
    target: Target,
    stream: BufReader<TcpStream>,
}

impl Target {
    /// From the variables that `hearth env` exports.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Target> {
        let wanted = |name: &str| variable(name).with_context(|| format!("hearth env exports no {name}"));
        let url = wanted("AWS_ENDPOINT_URL")?;
        let host = url.strip_prefix("http://").with_context(|| format!("{url} is not plain HTTP"))?;
        Ok(Target {
            host: host.trim_end_matches('/').to_owned(),
            region: wanted("AWS_REGION")?,
            key_id: wanted("AWS_ACCESS_KEY_ID")?,
            secret: wanted("AWS_SECRET_ACCESS_KEY")?.into(),
        })
    }

    /// Connects.
    pub fn connect(&self) -> Result<Client> {
        let stream = TcpStream::connect(&self.host).with_context(|| format!("connect to {}", self.host))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).context("set a time-out")?;
        Ok(Client { target: self.clone(), stream: BufReader::new(stream) })
    }
}

impl Client {
    /// One signed request; the body of its answer, which must be a success. `path` and `query` are percent-encoded.
    pub fn call(&mut self, method: &str, path: &str, query: &str, body: &str) -> Result<Value> {
        let Target { host, region, key_id, secret } = &self.target;
        let signer = Signer { access_key_id: key_id, secret, session_token: None, region, service: "lambda" };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
        let unsigned = Unsigned { method, host, path, query, body: body.as_bytes() };
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = format!("{method} {path}{separator}{query} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in signer.sign(&unsigned, now as i64) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        self.stream.get_mut().write_all(request.as_bytes()).context("send a request")?;
        let (status, body) = self.answer().with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        }
        if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body).context("the answer is no JSON") }
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("read the answer")?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).context("this is no HTTP answer")?;
        let mut length = 0;
        loop {
            line.clear();
            if self.stream.read_line(&mut line).context("read the answer's head")? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("read the answer's length")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("read the answer's body")?;
        Ok((status, body))
    }
}
