//! The server's configuration: defaults, then `<data-dir>/hearth.toml`, then what the command line says. Parsed and checked
//! whole before any port is bound.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use api::{AccountId, Region};
use engine::qemu::Acceleration;
use serde::Deserialize;

mod compat;
mod endpoint;
mod lifetimes;
mod quotas;
mod traffic;

pub use compat::{Compat, Cpu, Profile};
pub use endpoint::Endpoint;
pub use lifetimes::{Lifetime, Lifetimes};
pub use quotas::{Limits, Quotas};
pub use traffic::Traffic;

/// Which engine makes machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The best that is real on this host; today that is `qemu`.
    #[default]
    Auto,
    /// QEMU, with KVM where it is proven to work.
    Qemu,
    /// In memory, deterministic, no machines: for tests and users' CI.
    Fake,
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(EngineKind::Auto),
            "qemu" => Ok(EngineKind::Qemu),
            "fake" => Ok(EngineKind::Fake),
            other => Err(format!("{other:?} is no engine; one of auto, qemu, fake")),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Auto => "auto",
            EngineKind::Qemu => "qemu",
            EngineKind::Fake => "fake",
        })
    }
}

/// What the command line says, which wins over the file, and what only the binary knows.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--api`.
    pub api: Option<SocketAddr>,
    /// `--ingress`.
    pub ingress: Option<SocketAddr>,
    /// `--engine`.
    pub engine: Option<EngineKind>,
    /// `--cache-dir`.
    pub cache_dir: Option<PathBuf>,
    /// The guest agent that was built into this binary; empty when none was.
    pub agent: &'static [u8],
}

/// A complete, checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that must survive lives here.
    pub data_dir: PathBuf,
    /// What can be made again: kernel, root file systems, layers.
    pub cache_dir: PathBuf,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the endpoints listen.
    pub ingress: SocketAddr,
    /// Which engine.
    pub engine: EngineKind,
    /// The guest agent; empty when this binary has none.
    pub agent: &'static [u8],
    /// The file's part.
    pub file: File,
}

/// `hearth.toml`. Unknown names are refused: a setting that is silently ignored is worse than none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    api: Option<SocketAddr>,
    ingress: Option<SocketAddr>,
    engine: Option<EngineKind>,
    /// Region in every ARN.
    pub region: RegionName,
    /// Account of the first access key.
    pub account: AccountName,
    /// Names of the endpoints.
    pub endpoint: Endpoint,
    /// Serve the API over TLS with the ingress certificate.
    pub api_tls: bool,
    /// The machines.
    pub guest: Guest,
    /// Dockerfile builds.
    pub build: Build,
    /// Lifecycle hooks.
    pub hooks: Hooks,
    /// Where Debian packages come from.
    pub assets: host::Settings,
    /// What an account may have, and how fast.
    pub quotas: Quotas,
    /// How long microVMs may live.
    pub limits: Lifetimes,
    /// What endpoints carry.
    pub traffic: Traffic,
    /// What builds and applications say.
    pub logs: LogLimits,
    /// How long what is over can be read.
    pub retention: Retention,
    /// Whose habits the server has.
    pub compat: Compat,
}

/// `region`, default `us-east-1`.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct RegionName(pub Region);

/// `account`, default `000000000000`.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct AccountName(pub AccountId);

impl Default for RegionName {
    fn default() -> Self {
        RegionName("us-east-1".parse().expect("a region"))
    }
}

impl Default for AccountName {
    fn default() -> Self {
        AccountName("000000000000".parse().expect("twelve digits"))
    }
}

/// `[guest]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guest {
    /// `auto`, `kvm` or `tcg`.
    pub acceleration: Acceleration,
    /// Guest memory as a multiple of `minimumMemoryInMiB`, 1..=4; AWS shows the guest four times the baseline (spec 10.1).
    pub memory_burst: u32,
    /// An uncompressed kernel to use instead of Debian's.
    pub kernel: Option<PathBuf>,
    /// An agent binary to use instead of the built-in one.
    pub agent: Option<PathBuf>,
}

impl Default for Guest {
    fn default() -> Self {
        Guest { acceleration: Acceleration::Auto, memory_burst: 4, kernel: None, agent: None }
    }
}

/// `[build]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// Builds at a time, 1..=64.
    pub concurrent: usize,
    /// Seconds that a Dockerfile build may take, 1..=86400.
    pub timeout_seconds: u64,
    /// Seconds from start to the agent's first word, 1..=3600; a host under load and without KVM needs some.
    pub boot_seconds: u64,
    /// Environment of RUN steps only (package indexes, proxies); nothing of it stays in the image.
    pub run_environment: BTreeMap<String, String>,
    /// CA bundle that RUN steps trust; default: `SSL_CERT_FILE`, else the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Images to use instead of names that no registry can be reached for: name to `stand-in` (hearth's own base) or to another
    /// image's name.
    pub alias: BTreeMap<String, String>,
}

impl Default for Build {
    fn default() -> Self {
        Build {
            concurrent: 2,
            timeout_seconds: 1800,
            boot_seconds: 180,
            run_environment: BTreeMap::new(),
            ca_bundle: None,
            alias: BTreeMap::new(),
        }
    }
}

/// `[hooks]`: seconds for hooks that are enabled without a time-out of their own (spec 16, item 2).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// `/ready`, 1..=3600.
    pub ready_seconds: u32,
    /// `/validate`, 1..=3600.
    pub validate_seconds: u32,
    /// `/run`, `/suspend`, `/resume`, `/terminate`, 1..=60; by default 10, and 1 with `profile = "aws"`.
    pub microvm_seconds: Option<u32>,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks { ready_seconds: 300, validate_seconds: 600, microvm_seconds: None }
    }
}

/// `[logs]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Of one stream, MiB, 1..=1048576; then its oldest lines are dropped.
    pub stream_mib: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { stream_mib: 64 }
    }
}

impl LogLimits {
    /// The same in bytes.
    pub fn stream_bytes(self) -> u64 {
        self.stream_mib << 20
    }
}

/// `[retention]` (spec 16, item 23).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days that a terminated microVM and the history of a deleted image can be read, 0..=36500; 0: for ever.
    pub terminated_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { terminated_days: 30 }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A value is out of its bounds.
    #[error("{name} is {value}, must be {bound}")]
    Bound {
        /// The setting.
        name: Cow<'static, str>,
        /// What it is.
        value: String,
        /// What it may be.
        bound: &'static str,
    },
}

const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9555);
const INGRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

impl Config {
    /// Reads `<data_dir>/hearth.toml` if it is there, puts the overrides over it, and checks the whole.
    pub fn load(data_dir: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
        };
        let data_dir = absolute(data_dir)?;
        let path = data_dir.join("hearth.toml");
        let file: File = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| ConfigError::Parse { path, message: e.to_string() })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let config = Config {
            cache_dir: absolute(&overrides.cache_dir.unwrap_or_else(|| data_dir.join("cache")))?,
            data_dir,
            api: overrides.api.or(file.api).unwrap_or(API),
            ingress: overrides.ingress.or(file.ingress).unwrap_or(INGRESS),
            engine: overrides.engine.or(file.engine).unwrap_or_default(),
            agent: overrides.agent,
            file,
        };
        config.check()?;
        Ok(config)
    }

    /// Seconds for `/run`, `/suspend`, `/resume` and `/terminate` that are enabled without a time-out of their own.
    pub fn microvm_hook_seconds(&self) -> u32 {
        self.file.hooks.microvm_seconds.unwrap_or(self.file.compat.profile.hook_seconds())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let file = &self.file;
        within("guest.memory_burst", u64::from(file.guest.memory_burst), 1, 4, "1..=4")?;
        within("build.concurrent", file.build.concurrent as u64, 1, 64, "1..=64")?;
        within("build.timeout_seconds", file.build.timeout_seconds, 1, 86_400, "1..=86400")?;
        within("build.boot_seconds", file.build.boot_seconds, 1, 3600, "1..=3600")?;
        file.endpoint.check()?;
        within("hooks.ready_seconds", u64::from(file.hooks.ready_seconds), 1, 3600, "1..=3600")?;
        within("hooks.validate_seconds", u64::from(file.hooks.validate_seconds), 1, 3600, "1..=3600")?;
        within("hooks.microvm_seconds", u64::from(self.microvm_hook_seconds()), 1, 60, "1..=60")?;
        within("logs.stream_mib", file.logs.stream_mib, 1, 1 << 20, "1..=1048576")?;
        let days = u64::from(file.retention.terminated_days);
        within("retention.terminated_days", days, 0, 36_500, "0..=36500; 0 is for ever")?;
        file.quotas.check()?;
        file.limits.check()?;
        file.traffic.check()?;
        Ok(())
    }
}

fn within(
    name: impl Into<Cow<'static, str>>,
    value: u64,
    low: u64,
    high: u64,
    bound: &'static str,
) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Bound { name: name.into(), value: value.to_string(), bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("hearth.toml"), text).expect("write");
        Config::load(dir.path(), Overrides { engine: Some(EngineKind::Fake), ..Overrides::default() })
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let config = load("engine = \"qemu\"\napi = \"127.0.0.1:1\"\nregion = \"eu-west-1\"").expect("loads");
        assert_eq!((config.engine, config.api.port()), (EngineKind::Fake, 1));
        assert_eq!(config.endpoint_domains(), ["lambda-microvm.eu-west-1.localhost"]);
        assert_eq!(config.ingress, INGRESS);
    }

    #[test]
    fn mistakes_name_the_setting_and_its_bound() {
        let error = |text| load(text).expect_err("refused").to_string();
        assert!(error("[guest]\nmemory_burst = 9").contains("guest.memory_burst is 9, must be 1..=4"));
        assert!(
            error("[retention]\nterminated_days = 36501")
                .contains("retention.terminated_days is 36501, must be 0..=36500; 0 is for ever")
        );
        assert!(error("[gest]\nx = 1").contains("gest"));
        assert!(error("account = \"12\"").contains("account"));
    }
}
