//! `hearth curl`

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use api::GetMicrovmInput;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Version, response::Parts};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::{
    cli::Server,
    client::{Call, Endpoint},
    output::printable,
};

/// Mints a token, goes straight to the ingress whatever DNS says, and verifies TLS against hearth's CA. The answer is
/// written as it arrives. A suspended microVM wakes, if its idle policy lets it.
#[derive(Debug, Args)]
pub struct Curl {
    #[command(flatten)]
    server: Server,
    /// Id of the microVM, or its unique beginning
    microvm: String,
    /// Path and query
    #[arg(default_value = "/")]
    path: String,
    /// Method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<Method>,
    /// Body, or @FILE with it
    #[arg(short, long, value_name = "TEXT|@FILE")]
    data: Option<String>,
    /// A header, such as 'Accept: text/html'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Port of the application
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Print the answer's head too
    #[arg(short, long)]
    include: bool,
    /// Exit with 1 and print no body when the status is 400 or more
    #[arg(short, long)]
    fail: bool,
}

impl Curl {
    /// Sends it.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        let endpoint = Endpoint::open(&client, &microvm, self.port, 1).await?;
        let (response, _connection) = endpoint.send(&self.call()?).await?;
        let (head, mut body) = response.into_parts();
        if self.fail && head.status.as_u16() >= 400 {
            bail!("{id} answered {}{}", head.status, cause(&head));
        }
        let mut out = tokio::io::stdout();
        if self.include {
            out.write_all(head_text(&head).as_bytes()).await.context("write")?;
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer broke off")?;
            if let Some(data) = frame.data_ref() {
                out.write_all(data).await.context("write")?;
                out.flush().await.context("write")?;
            }
        }
        if head.headers.contains_key("x-aws-proxy-error") {
            eprintln!("note: {}{}", head.status, cause(&head));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn call(&self) -> Result<Call> {
        let body = match &self.data {
            None => Vec::new(),
            Some(text) => match text.strip_prefix('@') {
                Some(path) => std::fs::read(path).with_context(|| format!("read the body from {path}"))?,
                None => text.clone().into_bytes(),
            },
        };
        let method = self.request.clone().unwrap_or(if self.data.is_some() { Method::POST } else { Method::GET });
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        Ok(Call { method, target: format!("{slash}{}", self.path), headers: self.headers.clone(), body: body.into() })
    }
}

/// What the proxy says about its own answers (spec 6.6).
fn cause(head: &Parts) -> String {
    let code = head.headers.get("x-aws-proxy-error").and_then(|value| value.to_str().ok());
    match code {
        Some("APP_CONNECT_FAILED") => " from the proxy: nothing listens on that port of the microVM".to_owned(),
        Some("MICROVM_CONNECT_FAILED") => " from the proxy: the microVM is gone".to_owned(),
        Some(code) => format!(" from the proxy: {}", printable(code)),
        None => String::new(),
    }
}

fn head_text(head: &Parts) -> String {
    let version = if head.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut text = format!("{version} {}\n", head.status);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", printable(&String::from_utf8_lossy(value.as_bytes()))));
    }
    text.push('\n');
    text
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("no colon; write it as 'Name: value'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let value = value.trim().parse().map_err(|_| "the value holds characters that headers cannot".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn call(line: &str) -> Call {
        let Command::Curl(curl) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("{line}") };
        curl.call().unwrap()
    }

    #[test]
    fn as_curl_does() {
        let plain = call("hearth curl m");
        assert_eq!((plain.method, plain.target.as_str()), (Method::GET, "/"));
        let put = call("hearth curl m file?x=1 -X PUT -d abc -H A:b -H c:d");
        assert_eq!((put.method, put.target.as_str(), &put.body[..]), (Method::PUT, "/file?x=1", &b"abc"[..]));
        assert_eq!(put.headers.len(), 2);
        assert_eq!(call("hearth curl m /x -d abc").method, Method::POST);
    }

    #[test]
    fn bad_headers_and_ports_are_usage_errors() {
        assert!(header("no colon").is_err());
        assert!(header("a b: c").is_err());
        assert!(header("a: b\u{7}").is_err());
        for line in ["hearth curl m --port 0", "hearth curl m --port 65536", "hearth curl m -H x"] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
