//! `hearth env`

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    cli::Server,
    client::{Key, Ready},
    output::quote,
};

/// Pause between two looks for the server: another process's file appears without telling.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for a server that is starting: the first start makes root file systems out of Debian packages.
const STARTING: Duration = Duration::from_secs(1800);
/// Longest wait for somebody to start one.
const NOBODY: Duration = Duration::from_secs(10);

/// Waits until the server is ready. Use it as: eval "$(hearth env)"
#[derive(Debug, Args)]
pub struct Env {
    #[command(flatten)]
    server: Server,
    /// How long to wait for the server to be ready [default: 1800 while one is starting, else 10]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

impl Env {
    /// Prints the exports.
    pub async fn run(self) -> Result<ExitCode> {
        let data_dir = std::path::absolute(&self.server.data_dir)?;
        let ready = wait(&data_dir, self.wait.map(Duration::from_secs)).await?;
        let key = Key::read(&data_dir)?;
        print!("{}", exports(&ready, &key.access_key_id, key.secret.expose(), &data_dir.to_string_lossy()));
        Ok(ExitCode::SUCCESS)
    }
}

async fn wait(data_dir: &Path, limit: Option<Duration>) -> Result<Ready> {
    let start = Instant::now();
    let mut alone_since = start;
    loop {
        if let Some(ready) = Ready::live(data_dir).await? {
            return Ok(ready);
        }
        if Ready::is_starting(data_dir) {
            alone_since = Instant::now();
        }
        let over = match limit {
            Some(limit) => start.elapsed() >= limit,
            None => start.elapsed() >= STARTING || alone_since.elapsed() >= NOBODY,
        };
        if over {
            let (shown, seconds) = (data_dir.display(), start.elapsed().as_secs());
            bail!(
                "no server with the data directory {shown} is ready after {seconds} s; start one with `hearth serve \
                 --data-dir {shown}`"
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a POSIX shell evaluates. The CA bundle goes to every client's variable: it holds the host's CAs too.
fn exports(ready: &Ready, access_key_id: &str, secret: &str, data_dir: &str) -> String {
    let bundle = ready.ca_bundle.to_string_lossy();
    let variables = [
        ("AWS_ENDPOINT_URL", ready.api_url.as_str()),
        ("AWS_ACCESS_KEY_ID", access_key_id),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_DEFAULT_REGION", &ready.region),
        ("AWS_REGION", &ready.region),
        ("AWS_CA_BUNDLE", &bundle),
        ("SSL_CERT_FILE", &bundle),
        ("CURL_CA_BUNDLE", &bundle),
        ("HEARTH_INGRESS", &ready.ingress.to_string()),
        ("HEARTH_DATA_DIR", data_dir),
    ];
    let export = |(name, value): (&str, &str)| format!("export {name}={}\n", quote(value));
    let mut text: String = variables.into_iter().map(export).collect();
    match ready.plain_http {
        Some(address) => text.push_str(&export(("HEARTH_PLAIN_HTTP", &address.to_string()))),
        None => text.push_str("unset HEARTH_PLAIN_HTTP\n"),
    }
    // A token or profile of another account would win over the keys or go along with them.
    text.push_str("unset AWS_SESSION_TOKEN AWS_PROFILE\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_gets_every_variable() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("it's here");
        std::fs::create_dir_all(dir.join("run")).unwrap();
        let json = serde_json::json!({"pid": 1, "api_url": "http://127.0.0.1:9555", "ingress": "127.0.0.1:8443",
            "region": "eu-west-1", "account": "000000000000", "ca_bundle": dir.join("ca/bundle.pem")});
        std::fs::write(dir.join("run/ready.json"), json.to_string()).unwrap();
        let ready = Ready::read(&dir).unwrap().unwrap();
        let text = exports(&ready, "AKIA", "s3cr/et+'", &dir.to_string_lossy());
        let script = format!(
            "{text}printf '%s|' \"$AWS_ENDPOINT_URL\" \"$AWS_SECRET_ACCESS_KEY\" \"$AWS_REGION\" \"$SSL_CERT_FILE\""
        );
        let shell = std::process::Command::new("sh").args(["-euc", &script]).output().unwrap();
        assert!(text.contains("unset HEARTH_PLAIN_HTTP\n"));
        let plain = Ready { plain_http: Some("127.0.0.1:8080".parse().unwrap()), ..ready };
        assert!(exports(&plain, "AKIA", "s", "/d").contains("export HEARTH_PLAIN_HTTP=127.0.0.1:8080\n"));
        let expected = format!("http://127.0.0.1:9555|s3cr/et+'|eu-west-1|{}/ca/bundle.pem|", dir.display());
        assert_eq!(String::from_utf8_lossy(&shell.stdout), expected);
    }

    #[tokio::test]
    async fn waiting_is_bounded_and_says_what_to_do() {
        let nowhere = tempfile::tempdir().unwrap();
        let error = wait(nowhere.path(), Some(Duration::ZERO)).await.unwrap_err().to_string();
        assert!(error.contains("hearth serve --data-dir"), "{error}");
    }
}
