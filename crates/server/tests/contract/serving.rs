//! A whole server of the fake engine, as `hearth serve` makes it, in this process.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use api::Sensitive;
use serde_json::Value;
use server::{Config, EngineKind, Overrides, ServeError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Key};

/// Builds at a time: more than the images that a test leaves building for ever.
const SETTINGS: &str = "account = \"111122223333\"\n[build]\nconcurrent = 64\n";
/// Longest time for a start.
const START: Duration = Duration::from_secs(60);

pub struct Serving {
    pub address: SocketAddr,
    pub key: Key,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    _dir: tempfile::TempDir,
}

impl Serving {
    /// With more settings after [`SETTINGS`].
    pub async fn start(more: &str) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hearth.toml"), format!("{SETTINGS}{more}")).unwrap();
        let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let overrides = Overrides { api: any, ingress: any, engine: Some(EngineKind::Fake), ..Overrides::default() };
        let config = Config::load(dir.path(), overrides).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::serve(config, stop.clone().cancelled_owned()));
        let ready = ready(&dir.path().join("run/ready.json"), &task).await;
        let address = ready["api_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        let credentials = std::fs::read(dir.path().join("credentials.json")).unwrap();
        let credentials: Value = serde_json::from_slice(&credentials).unwrap();
        let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
        let key = Key { id: text("access_key_id"), secret: Sensitive::new(text("secret_access_key")) };
        Arc::new(Serving { address, key, stop, task, _dir: dir })
    }

    pub fn client(&self) -> Client {
        Client::new(self.address, self.key.clone())
    }

    /// Stops in order, as SIGTERM does.
    pub async fn stop(self: Arc<Self>) {
        let Ok(serving) = Arc::try_unwrap(self) else { panic!("somebody still uses the server") };
        serving.stop.cancel();
        serving.task.await.unwrap().unwrap();
    }
}

/// There is no event for it: a file appears, as for every client.
async fn ready<T>(file: &Path, task: &JoinHandle<T>) -> Value {
    let found = async {
        loop {
            assert!(!task.is_finished(), "the server has ended");
            match std::fs::read(file) {
                Ok(text) => return serde_json::from_slice(&text).unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    tokio::time::timeout(START, found).await.expect("the server becomes ready")
}
