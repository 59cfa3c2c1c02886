//! Finding the server: the files it writes for its clients into its data directory.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use api::Sensitive;
use http::Uri;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest wait for a listener on this host to accept.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// `<data-dir>/run/ready.json`, written when the server is ready and removed when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The server's process.
    pub pid: u32,
    /// The endpoint of every AWS service, as clients are told it.
    pub api_url: String,
    /// Its parts.
    pub api: Api,
    /// Where the endpoints of microVMs are served.
    pub ingress: SocketAddr,
    /// Where they are served without TLS, if they are.
    pub plain_http: Option<SocketAddr>,
    /// The server's only region.
    pub region: String,
    /// The account of its key.
    pub account: String,
    /// The host's CAs and hearth's own.
    pub ca_bundle: PathBuf,
}

/// Parts of the API's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `https`?
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port, explicit or the scheme's.
    pub port: u16,
}

impl Api {
    /// The `Host` header: the port is left out when it is the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{}", self.port),
        }
    }

    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Api { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

impl Ready {
    /// What the file says; `None` when there is none.
    pub fn read(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join("run/ready.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        Self::parse(&text).map(Some).with_context(|| format!("{} is damaged; restart the server", path.display()))
    }

    /// What the file says, if the server that wrote it still runs and answers: the file stays behind when it is killed.
    pub async fn live(data_dir: &Path) -> Result<Option<Self>> {
        let Some(ready) = Self::read(data_dir)? else { return Ok(None) };
        if !Path::new(&format!("/proc/{}", ready.pid)).exists() {
            return Ok(None);
        }
        let probe = TcpStream::connect((ready.api.host.as_str(), ready.api.port));
        let answers = matches!(tokio::time::timeout(PROBE_LIMIT, probe).await, Ok(Ok(_)));
        Ok(answers.then_some(ready))
    }

    /// Does a server hold the data directory, ready or not? Looks for the holder of `run/lock` in `/proc/locks` (proc(5)):
    /// trying to take the lock would get in the way of a server that starts at this very moment.
    pub fn is_starting(data_dir: &Path) -> bool {
        let Ok(lock) = fs::metadata(data_dir.join("run/lock")) else { return false };
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        is_locked(&locks, lock.ino())
    }

    fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)?;
        let member = |name: &'static str| json[name].as_str().with_context(|| format!("{name} is missing"));
        let api_url = member("api_url")?.to_owned();
        Ok(Ready {
            pid: json["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("pid is missing")?,
            api: Api::parse(&api_url).with_context(|| format!("api_url {api_url:?} is no http or https URL"))?,
            api_url,
            ingress: member("ingress")?.parse().context("ingress is no address with a port")?,
            plain_http: json["plain_http"].as_str().map(str::parse).transpose().context("plain_http is no address")?,
            region: member("region")?.to_owned(),
            account: member("account")?.to_owned(),
            ca_bundle: member("ca_bundle")?.into(),
        })
    }
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`, the last number of the triple being the inode.
fn is_locked(locks: &str, inode: u64) -> bool {
    let holds = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let kind = words.next();
        let file = words.nth(3).and_then(|file| file.rsplit(':').next()?.parse().ok());
        kind == Some("FLOCK") && file == Some(inode)
    };
    locks.lines().any(holds)
}

/// `<data-dir>/credentials.json`, which only the server's user may read.
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub access_key_id: String,
    /// The key itself.
    pub secret: Sensitive<String>,
}

impl Key {
    /// Reads it.
    ///
    /// # Errors
    /// The file is missing, not readable by this user, or damaged. The message never holds its content.
    pub fn read(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("credentials.json");
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("{shown} may be read by the server's user only; run this command as that user")
            }
            Err(error) => return Err(error).with_context(|| format!("read {shown}")),
        };
        let json: Option<Value> = serde_json::from_str(&text).ok();
        let member = |name: &str| json.as_ref().and_then(|json| Some(json[name].as_str()?.to_owned()));
        match (member("access_key_id"), member("secret_access_key")) {
            (Some(access_key_id), Some(secret)) => Ok(Key { access_key_id, secret: Sensitive::new(secret) }),
            _ => bail!("{shown} is damaged; remove it and restart the server, which writes it anew"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"pid":7,"api_url":"http://127.0.0.1:9555","ingress":"127.0.0.1:8443","region":"us-east-1",
        "account":"000000000000","ca_bundle":"/d/ca/bundle.pem"}"#;

    #[test]
    fn urls() {
        let authority = |url: &str| Api::parse(url).map(|api| (api.tls, api.authority()));
        assert_eq!(authority("http://127.0.0.1:9555"), Some((false, "127.0.0.1:9555".to_owned())));
        assert_eq!(authority("https://hearth.example/"), Some((true, "hearth.example".to_owned())));
        assert_eq!(authority("http://[::1]:80"), Some((false, "[::1]".to_owned())));
        assert_eq!(authority("ftp://a"), None);
        assert_eq!(authority("nonsense"), None);
    }

    #[test]
    fn who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Ready::is_starting(dir.path()));
        fs::create_dir(dir.path().join("run")).unwrap();
        let lock = fs::File::create(dir.path().join("run/lock")).unwrap();
        assert!(!Ready::is_starting(dir.path()));
        lock.lock().unwrap();
        assert!(Ready::is_starting(dir.path()));
        let line = "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF\n2: POSIX  ADVISORY  WRITE 1 fe:00:9 0 EOF";
        assert!(is_locked(line, 5678));
        assert!(!is_locked(line, 9));
    }

    #[tokio::test]
    async fn a_file_left_behind_is_no_server() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ready::read(dir.path()).unwrap(), None);
        fs::create_dir(dir.path().join("run")).unwrap();
        // No process has this id: it is above the kernel's limit.
        fs::write(dir.path().join("run/ready.json"), TEXT.replace("\"pid\":7", "\"pid\":4294967295")).unwrap();
        assert_eq!(Ready::read(dir.path()).unwrap().unwrap().pid, u32::MAX);
        assert_eq!(Ready::live(dir.path()).await.unwrap(), None);
        fs::write(dir.path().join("run/ready.json"), "{}").unwrap();
        assert!(format!("{:#}", Ready::read(dir.path()).unwrap_err()).contains("is missing"));
    }

    #[test]
    fn a_damaged_key_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("credentials.json"), r#"{"access_key_id":"AKIA","secret_access_key":hunter2}"#)
            .unwrap();
        assert!(!format!("{:#}", Key::read(dir.path()).unwrap_err()).contains("hunter2"));
        fs::write(dir.path().join("credentials.json"), r#"{"access_key_id":"AKIA","secret_access_key":"hunter2"}"#)
            .unwrap();
        let key = Key::read(dir.path()).unwrap();
        assert_eq!(key.access_key_id, "AKIA");
        assert!(!format!("{key:?}").contains("hunter2"));
    }
}
