//! `hearth serve`

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use server::{Config, EngineKind, Overrides};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::Server;

/// The agent for guests; empty when this binary was built without it.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-agent"));

/// Settings that have no flag are in `<data-dir>/hearth.toml`. What happens is logged to standard error; `RUST_LOG` chooses.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    server: Server,
    /// Where every AWS service is served; port 0 picks one [default: 127.0.0.1:9555]
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<SocketAddr>,
    /// Where the endpoints of microVMs are served; port 0 picks one [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT")]
    ingress: Option<SocketAddr>,
    /// What makes machines: auto, qemu or fake [default: auto]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// Where kernels, root file systems and layers are kept [default: DATA_DIR/cache]
    #[arg(long, env = "HEARTH_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

impl Serve {
    /// Until SIGINT or SIGTERM.
    pub async fn run(self) -> Result<ExitCode> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        // Builders and machines look from other roots: a relative path would mean nothing there.
        let cache_dir = self.cache_dir.map(std::path::absolute).transpose().context("find the cache directory")?;
        let overrides =
            Overrides { api: self.api, ingress: self.ingress, engine: self.engine, cache_dir, agent: AGENT };
        let config = Config::load(&self.server.data_dir, overrides)?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => tracing::info!("SIGINT, stopping"),
                _ = terminate.recv() => tracing::info!("SIGTERM, stopping"),
            }
        };
        server::serve(config, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    }
}
