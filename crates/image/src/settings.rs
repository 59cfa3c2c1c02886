//! What the operator decides about builds.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use crate::archive::Limits;

/// Settings of [`crate::Buildah`]. Start from [`BuildahSettings::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct BuildahSettings {
    /// A Debian root file system with buildah 1.39 or newer, crun, netavark, ca-certificates and e2fsprogs. Never written to.
    pub builder_root: PathBuf,
    /// The stand-in base image: an uncompressed tar of a root file system.
    pub base_tar: PathBuf,
    /// What `base_tar` is, for the build log: `Debian 13 (trixie)`.
    pub base_title: String,
    /// Kept between builds and owned by the builder alone: images, layers, `RUN --mount=type=cache`.
    pub cache_dir: PathBuf,
    /// What to build on when the registry of this image cannot be reached.
    pub base_alias: BTreeMap<String, Alias>,
    /// PEM bundle that registries and RUN steps trust, usually [`BuildahSettings::host_ca_bundle`].
    pub ca_bundle: Option<PathBuf>,
    /// Proxy and package index settings for RUN steps; proxies serve registries too.
    pub host_env: HostEnv,
    /// Where builds reach the network from.
    pub network: Network,
    /// Bound on one whole build, 1 s or more.
    pub build_timeout: Duration,
    /// Bound on asking a registry whether it is there, before the alias is taken.
    pub registry_timeout: Duration,
    /// For how long a registry that could not be reached is not asked again.
    pub registry_retry_after: Duration,
    /// When the layers in `cache_dir` exceed this many bytes, all that no named image needs are dropped.
    pub cache_bytes: u64,
    /// Bounds on artifacts.
    pub limits: Limits,
}

impl BuildahSettings {
    /// Settings that fit a developer's machine: 30 minutes per build, 4 s per registry (asked again after 5 minutes),
    /// 20 GiB of layers, and the stand-in for AWS's public MicroVM base images.
    pub fn new(builder_root: PathBuf, base_tar: PathBuf, cache_dir: PathBuf) -> Self {
        let aws = ["public.ecr.aws/lambda/microvms:al2023-minimal", "public.ecr.aws/lambda/microvms:al2023"];
        BuildahSettings {
            builder_root,
            base_tar,
            base_title: "Debian".to_owned(),
            cache_dir,
            base_alias: aws.into_iter().map(|name| (name.to_owned(), Alias::StandIn)).collect(),
            ca_bundle: None,
            host_env: HostEnv::default(),
            network: Network::Host,
            build_timeout: Duration::from_secs(1800),
            registry_timeout: Duration::from_secs(4),
            registry_retry_after: Duration::from_secs(300),
            cache_bytes: 20 << 30,
            limits: Limits::default(),
        }
    }

    /// The host's CA bundle: `SSL_CERT_FILE` when it names a file, else the system store.
    pub fn host_ca_bundle() -> Option<PathBuf> {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let stores = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        named.into_iter().chain(stores.into_iter().map(PathBuf::from)).find(|path| path.is_file())
    }
}

/// What stands in for an image whose registry cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alias {
    /// [`BuildahSettings::base_tar`].
    StandIn,
    /// Another image, such as one in a mirror.
    Image(String),
}

/// Where a build's processes reach the network from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's own network.
    Host,
    /// A network namespace, by its file (`/run/netns/NAME`).
    Namespace(PathBuf),
}

/// Environment variables that RUN steps get on top of what the image sets, and that never end up in the image. Values may
/// hold credentials, so `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HostEnv(pub Vec<(String, String)>);

impl HostEnv {
    /// The settings of package indexes and proxies among `vars`, usually `std::env::vars()`: addresses, trust and time-outs,
    /// nothing that names a file of the host.
    pub fn package_settings(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        const NAMES: [&str; 17] = [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "FTP_PROXY",
            "PIP_INDEX_URL",
            "PIP_EXTRA_INDEX_URL",
            "PIP_TRUSTED_HOST",
            "PIP_DEFAULT_TIMEOUT",
            "PIP_RETRIES",
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "NPM_CONFIG_REGISTRY",
            "YARN_REGISTRY",
            "GOPROXY",
            "GOSUMDB",
            "GONOSUMDB",
        ];
        let known = |name: &str| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
        HostEnv(vars.into_iter().filter(|(name, value)| known(name) && !value.is_empty()).collect())
    }

    /// The proxies among them, which buildah itself needs as well.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(|(name, _)| name.to_ascii_uppercase().ends_with("_PROXY"))
    }
}

impl fmt::Debug for HostEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, format_args!("[redacted]")))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_package_settings_are_taken_and_their_values_do_not_print() {
        let vars = [
            ("PIP_INDEX_URL", "https://user:secret@pypi.corp/simple"),
            ("https_proxy", "http://proxy:3128"),
            ("PIP_CERT", "/etc/x.pem"),
            ("PIP_FIND_LINKS", "/opt/wheels"),
            ("AWS_SECRET_ACCESS_KEY", "k"),
            ("NPM_CONFIG_REGISTRY", ""),
        ];
        let env = HostEnv::package_settings(vars.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let names: Vec<&str> = env.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PIP_INDEX_URL", "https_proxy"]);
        assert_eq!(env.proxies().count(), 1);
        assert!(!format!("{env:?}").contains("secret"));
    }
}
