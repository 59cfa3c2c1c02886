//! Start-up and shutdown: everything is parsed, opened and recovered before the ready file says so.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use api::{AccountId, schema::bounds::Bounds};
use engine::{
    Engine, EngineError,
    fake::FakeEngine,
    qemu::{QemuEngine, Settings},
};
use host::{Assets, HostError};
use image::{Alias, Buildah, BuildahSettings, Builder, FakeBuilder, HostEnv};
use ingress::{Certificates, Extras, Ingress, LocalCa, TlsSettings, TokenKeys};
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    by_account,
    config::{Config, EngineKind},
    connectors::Connectors,
    edge::{self, Edge, s3::S3Store},
    images::Images,
    keys::AccessKeys,
    logs::{self, Logs},
    microvms::Microvms,
    names::Names,
    operations::ControlPlane,
    retention::Retention,
    shared::{Boot, Shared},
    store::{Store, StoreError},
    tokens::Cursors,
};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file or directory.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// The step.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another server has the data directory.
    #[error("{} is in use by another hearth; stop it, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// A port.
    #[error("cannot listen on {address} for the {what}: {source}; choose another with {setting}")]
    Listen {
        /// What for.
        what: &'static str,
        /// The flag or setting that says where.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The API has no business beyond this machine without TLS.
    #[error("the API would listen on {0} in clear text; set api_tls = true in hearth.toml, or listen on 127.0.0.1")]
    ClearText(SocketAddr),
    /// The binary has no agent.
    #[error("this hearth was built without the guest agent; build it with `cargo xtask build`, or set guest.agent")]
    NoAgent,
    /// What the host must give.
    #[error("{0}; `hearth doctor` says what this host lacks")]
    Host(#[from] HostError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates, tokens, objects.
    #[error("{0}")]
    Part(String),
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Io { what, path, source }
}

fn part(error: impl std::fmt::Display) -> ServeError {
    ServeError::Part(error.to_string())
}

/// `run/ready.json`: where this server can be reached.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    pid: u32,
    api_url: String,
    ingress: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_http: Option<SocketAddr>,
    region: &'a api::Region,
    account: &'a AccountId,
    ca_bundle: PathBuf,
}

/// Serves until `shutdown` resolves. Machines that run are left running: the next server finds them again.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
    let data_dir = config.data_dir.clone();
    let run_dir = data_dir.join("run");
    for dir in [&data_dir, &run_dir, &config.cache_dir] {
        fs::create_dir_all(dir).map_err(at("cannot create", dir))?;
    }
    let _lock = lock(&run_dir).await?;
    crash::point("start: locked");
    let account = config.file.account.0.clone();
    for name in ["s3", "logs"] {
        let dir = data_dir.join(name);
        by_account::settle(&dir, &account).map_err(at("cannot sort by account", &dir))?;
    }
    crash::point("start: files sorted by account");
    // What others on this host have no business in: records with secrets, objects, output, memory. The CA must stay readable.
    for name in ["s3", "logs", "images", "microvms", "builds", "names"] {
        private_dir(&data_dir.join(name))?;
    }
    let connections = places(config.file.traffic.connections);
    let ready_file = run_dir.join("ready.json");
    let _ = fs::remove_file(&ready_file);
    if !config.api.ip().is_loopback() && !config.file.api_tls {
        return Err(ServeError::ClearText(config.api));
    }
    let api_listener = listen("api", "--api", config.api).await?;
    let ingress_listener = listen("ingress", "--ingress", config.ingress).await?;
    let plain_listener = match config.file.endpoint.plain_http {
        Some(address) => Some(listen("endpoints without TLS", "endpoint.plain_http", address).await?),
        None => None,
    };
    let plain_http = plain_listener.as_ref().map(TcpListener::local_addr).transpose();
    let plain_http = plain_http.map_err(at("cannot read the address of", &data_dir))?;
    let api_address = api_listener.local_addr().map_err(at("cannot read the address of", &data_dir))?;
    let ingress_address = ingress_listener.local_addr().map_err(at("cannot read the address of", &data_dir))?;

    let ca_dir = data_dir.join("ca");
    let ca = Arc::new(LocalCa::load_or_create(&ca_dir).map_err(part)?);
    let bundle = ca_dir.join("bundle.pem");
    ca.bundle(BuildahSettings::host_ca_bundle().as_deref(), &bundle).map_err(part)?;
    crash::point("start: authority there");
    let certificates = Arc::new(Certificates::new(ca.clone()));
    let tls = tls(&config, &ca, certificates.clone())?;
    let tokens = Arc::new(TokenKeys::load_or_create(&data_dir.join("token-keys.json")).map_err(part)?);
    crash::point("start: token keys there");
    let store_path = data_dir.join("hearth.db");
    private_file(&store_path)?;
    let store = Store::open(&store_path).await?;
    crash::point("start: store open");
    let names = Names::load(
        data_dir.join("names"),
        store.clone(),
        certificates,
        config.endpoint_domains(),
        config.api_name().to_owned(),
    )
    .await?;
    crash::point("start: host names there");
    let partition = config.file.region.0.partition();
    let keys = AccessKeys::load(store.clone(), &data_dir, account.clone(), partition).await.map_err(part)?;
    crash::point("start: access keys there");
    let s3 = S3Store::new(&data_dir.join("s3"), keys.clone(), &S3Store::BASE_DOMAINS, config.file.region.0.partition())
        .map_err(part)?;
    let logs_dir = logs::dir_of(&data_dir);
    let cursor_key = store.cursor_key().await?;
    let logs = Logs::new(logs_dir.clone(), cursor_key.clone(), config.file.logs.stream_bytes())
        .map_err(at("cannot open", &logs_dir))?;
    let tools = Tools::prepare(&config).await?;
    let capabilities = tools.engine.capabilities();
    tracing::info!(
        engine = capabilities.engine,
        acceleration = capabilities.acceleration,
        note = capabilities.note,
        "engine"
    );

    let region = config.file.region.0.clone();
    let scheme = if config.file.api_tls { "https" } else { "http" };
    let api_tls = config.file.api_tls.then(|| tokio_rustls::TlsAcceptor::from(tls.clone()));
    let cursors = Arc::new(Cursors::new(cursor_key));
    let bounds = Bounds {
        life: config.file.limits.microvm_seconds.longest(),
        token_minutes: config.file.endpoint.token_minutes,
    };
    let throttle = config.quotas().map(edge::Throttle::new);
    let shared = Arc::new(Shared {
        cursors,
        names,
        tickets: config.file.endpoint.browser.then(Arc::default),
        builds: Semaphore::new(config.file.build.concurrent),
        config,
        ingress_port: ingress_address.port(),
        store: store.clone(),
        engine: tools.engine,
        builder: tools.builder,
        s3: s3.clone(),
        logs: logs.clone(),
        boot: tools.boot,
    });
    let microvms = Microvms::load(shared.clone()).await?;
    crash::point("start: microvms taken up");
    let images = Images::load(shared.clone()).await?;
    crash::point("start: images taken up");
    let connectors = Connectors::load(store.clone(), region.clone(), shared.cursors.clone()).await?;
    let retention = Retention::start(store.clone(), shared.config.file.retention.terminated_days);
    let operations = Arc::new(ControlPlane {
        images: images.clone(),
        microvms: microvms.clone(),
        connectors: connectors.clone(),
        tokens: tokens.clone(),
    });
    let stop = CancellationToken::new();
    let edge = Arc::new(Edge {
        keys: keys.clone(),
        access: keys,
        operations,
        endpoints: microvms.clone(),
        s3,
        region: region.clone(),
        logs,
        store: store.clone(),
        stop: stop.clone(),
        bounds,
        throttle,
    });
    let extras =
        Extras { forwarded_headers: shared.config.file.endpoint.forwarded_headers, tickets: shared.tickets.clone() };
    let limits = ingress::Limits { connections, ..ingress::Limits::default() };
    let proxy = Ingress::new(tls, tokens, microvms.clone()).with_limits(limits);
    let proxy = proxy.with_extras(extras).with_plain(plain_listener);
    let ingress = tokio::spawn(proxy.serve(ingress_listener, stop.clone().cancelled_owned()));
    let api = tokio::spawn(edge::serve(api_listener, api_tls, edge, stop.clone()));
    let ready = Ready {
        pid: std::process::id(),
        api_url: format!("{scheme}://{api_address}"),
        ingress: ingress_address,
        plain_http,
        region: &region,
        account: &account,
        ca_bundle: bundle,
    };
    write_whole(&ready_file, &serde_json::to_vec(&ready).map_err(part)?).map_err(at("cannot write", &ready_file))?;
    crash::point("start: ready");
    tracing::info!(api = ready.api_url, ingress = %ingress_address, ca = %ca.path().display(), "ready");

    shutdown.await;
    tracing::info!("stopping; machines go on");
    let _ = fs::remove_file(&ready_file);
    stop.cancel();
    let (_, _, ()) = tokio::join!(ingress, api, images.stop());
    connectors.stop().await;
    microvms.stop().await;
    retention.stop().await;
    store.close().await;
    Ok(())
}

fn tls(config: &Config, ca: &Arc<LocalCa>, named: Arc<Certificates>) -> Result<Arc<rustls::ServerConfig>, ServeError> {
    let endpoint = &config.file.endpoint;
    let settings = match (&endpoint.certificate, &endpoint.key) {
        (Some(certificate), Some(key)) => TlsSettings::Files { certificate: certificate.clone(), key: key.clone() },
        _ => {
            let mut names: Vec<_> = config.endpoint_domains().iter().map(|domain| format!("*.{domain}")).collect();
            names.extend([config.api_name().to_owned(), "127.0.0.1".into()]);
            TlsSettings::Local { ca: ca.clone(), names }
        }
    };
    settings.server_config_with(Some(named)).map_err(part)
}

async fn listen(what: &'static str, setting: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { what, setting, address, source })
}

fn private_dir(path: &Path) -> Result<(), ServeError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(at("cannot create", path))
}

/// Files that SQLite puts beside its own get the same mode.
fn private_file(path: &Path) -> Result<(), ServeError> {
    let open = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600))).map_err(at("cannot create", path))
}

/// How many clients' connections there can be, and room for them. Every connection takes a descriptor and every microVM a
/// handful; the usual soft limit of 1024 is for programs that use `select`.
fn places(wanted: u32) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = u32::try_from(files - files / 4).unwrap_or(u32::MAX);
    if most < wanted {
        tracing::warn!(wanted, most, "traffic.connections is more than the limit of open files allows");
    }
    wanted.min(most) as usize
}

/// How long the lock of a server that was just killed may live on: a process that it was forking then holds it until its
/// exec.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// One server a data directory: the lock lives as long as the process, however it ends.
async fn lock(run_dir: &Path) -> Result<fs::File, ServeError> {
    let path = run_dir.join("lock");
    let file = fs::File::create(&path).map_err(at("cannot create", &path))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(LOCK_AGAIN).await,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ServeError::InUse(run_dir.parent().unwrap_or(run_dir).to_owned()));
            }
            Err(e) => return Err(at("cannot lock", &path)(e.into())),
        }
    }
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, content)?;
    crash::point("ready file: written beside");
    fs::rename(partial, path)
}

/// The engine and the builder, with what they need.
struct Tools {
    engine: Arc<dyn Engine>,
    builder: Arc<dyn Builder>,
    boot: Option<Boot>,
}

impl Tools {
    async fn prepare(config: &Config) -> Result<Self, ServeError> {
        match config.engine {
            EngineKind::Fake => {
                Ok(Tools { engine: Arc::new(FakeEngine::new()), builder: Arc::new(FakeBuilder), boot: None })
            }
            EngineKind::Auto | EngineKind::Qemu => Self::real(config).await,
        }
    }

    async fn real(config: &Config) -> Result<Self, ServeError> {
        let agent = match &config.file.guest.agent {
            Some(path) => fs::read(path).map_err(at("cannot read", path))?,
            None if config.agent.is_empty() => return Err(ServeError::NoAgent),
            None => config.agent.to_vec(),
        };
        let progress = |line: &str| tracing::info!("{line}");
        let assets = Assets::new(config.cache_dir.clone(), config.file.assets.clone());
        let kernel = assets.kernel(&progress).await?;
        let initrd = assets.initramfs(&kernel, &agent, &progress).await?;
        let root = assets.vmm_root(&progress).await?;
        let builder_root = assets.builder_root(&progress).await?;
        let base_tar = assets.base_root(&progress).await?;
        let boot = Boot { kernel: config.file.guest.kernel.clone().unwrap_or(kernel.vmlinux), initrd };
        let acceleration = config.file.guest.acceleration;
        let engine = QemuEngine::new(Settings { root, cache_dir: config.cache_dir.clone(), acceleration })?;
        engine.choose(&boot.kernel, &boot.initrd).await;
        let builder = Buildah::new(build_settings(config, builder_root, base_tar));
        Ok(Tools { engine: Arc::new(engine), builder: Arc::new(builder), boot: Some(boot) })
    }
}

fn build_settings(config: &Config, builder_root: PathBuf, base_tar: PathBuf) -> BuildahSettings {
    let build = &config.file.build;
    let mut settings = BuildahSettings::new(builder_root, base_tar, config.cache_dir.join("layers"));
    settings.base_title = "Debian 13 (trixie)".into();
    settings.ca_bundle = build.ca_bundle.clone().or_else(BuildahSettings::host_ca_bundle);
    settings.build_timeout = std::time::Duration::from_secs(build.timeout_seconds);
    let mut variables = HostEnv::package_settings(std::env::vars());
    variables.0.extend(build.run_environment.clone());
    settings.host_env = variables;
    for (name, alias) in &build.alias {
        let alias = if alias == "stand-in" { Alias::StandIn } else { Alias::Image(alias.clone()) };
        settings.base_alias.insert(name.clone(), alias);
    }
    settings
}
