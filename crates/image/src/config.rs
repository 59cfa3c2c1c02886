//! From the built image's configuration to what the guest is told to run.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::BuildError;

/// PATH of a container whose image sets none, as Docker has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `buildah inspect --type image`, the part that counts.
#[derive(Debug, Deserialize)]
struct Inspected {
    #[serde(rename = "Docker")]
    docker: Docker,
}

#[derive(Debug, Deserialize)]
struct Docker {
    #[serde(default)]
    config: ImageConfig,
}

/// The image's configuration: null and absent are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// What the image says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Configured {
    pub container: wire::Container,
    /// EXPOSE, TCP only, ascending.
    pub tcp_ports: Vec<u16>,
    /// Directories that must exist: WORKDIR and every VOLUME.
    pub directories: Vec<String>,
}

/// Reads `buildah inspect`'s answer. `env` (of the request) goes over the image's ENV.
pub(crate) fn container(
    inspected: &str,
    env: &[(String, String)],
    all_capabilities: bool,
) -> Result<Configured, BuildError> {
    let image: Inspected = serde_json::from_str(inspected)
        .map_err(|error| BuildError::platform(format!("cannot read the built image's configuration: {error}")))?;
    let config = image.docker.config;
    let mut argv = config.entrypoint.unwrap_or_default();
    argv.extend(config.cmd.unwrap_or_default());
    if argv.first().is_none_or(String::is_empty) {
        return Err(BuildError::container(
            "the image has neither CMD nor ENTRYPOINT, so there is nothing to start; end the Dockerfile with a CMD",
        ));
    }
    let workdir = match config.working_dir.unwrap_or_default() {
        dir if dir.starts_with('/') => dir,
        dir => format!("/{dir}"),
    };
    let container = wire::Container {
        argv,
        env: merge(&config.env.unwrap_or_default(), env),
        workdir,
        user: config.user.unwrap_or_default(),
        all_capabilities,
        hostname: String::new(),
    };
    let volumes = config.volumes.unwrap_or_default().into_keys();
    let directories = [container.workdir.clone()].into_iter().chain(volumes).collect();
    let tcp_ports = tcp_ports(config.exposed_ports.unwrap_or_default().keys());
    Ok(Configured { container, tcp_ports, directories })
}

/// Unique names, in the order of their first appearance; later values win.
fn merge(image: &[String], request: &[(String, String)]) -> Vec<(String, String)> {
    let image = image.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    let request = request.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut env: Vec<(String, String)> = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    for (name, value) in image.chain(request).filter(|(name, _)| !name.is_empty()) {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
    env
}

/// `8080/tcp` and `8080` count, `53/udp` does not; ascending, without repeats.
fn tcp_ports<'a>(exposed: impl Iterator<Item = &'a String>) -> Vec<u16> {
    let port = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if protocol.eq_ignore_ascii_case("tcp") { port.parse().ok().filter(|port| *port > 0) } else { None }
    };
    let mut ports: Vec<u16> = exposed.filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(config: serde_json::Value) -> String {
        serde_json::json!({ "Type": "x", "Docker": { "config": config, "history": [] } }).to_string()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn everything_of_the_image_arrives() {
        let text = inspected(serde_json::json!({
            "User": "app:web", "Env": ["PATH=/bin", "A=1=2", "EMPTY=", "B=image"], "Entrypoint": ["/tini", "--"],
            "Cmd": ["python3", "a b.py"], "WorkingDir": "/srv", "ExposedPorts": {"9000/tcp": {}, "53/udp": {}, "8080": {}},
            "Volumes": {"/data": {}},
        }));
        let Configured { container, tcp_ports: ports, directories } =
            container(&text, &pairs(&[("B", "request"), ("C", "new")]), true).expect("is fine");
        assert_eq!(container.argv, ["/tini", "--", "python3", "a b.py"]);
        let env = pairs(&[("PATH", "/bin"), ("A", "1=2"), ("EMPTY", ""), ("B", "request"), ("C", "new")]);
        assert_eq!(container.env, env);
        assert_eq!((container.workdir.as_str(), container.user.as_str()), ("/srv", "app:web"));
        assert!(container.all_capabilities);
        assert_eq!(ports, [8080, 9000]);
        assert_eq!(directories, ["/srv", "/data"]);
    }

    #[test]
    fn defaults_fill_what_the_image_leaves_out() {
        let text = inspected(serde_json::json!({ "Env": null, "Entrypoint": [], "Cmd": ["sh"], "WorkingDir": "" }));
        let Configured { container, tcp_ports: ports, .. } = container(&text, &[], false).expect("is fine");
        assert_eq!(container.env, pairs(&[("PATH", DEFAULT_PATH)]));
        assert_eq!(container.workdir, "/");
        assert!(container.user.is_empty() && ports.is_empty());
    }

    #[test]
    fn nothing_to_start_is_the_dockerfile_s_fault() {
        for config in [serde_json::json!({}), serde_json::json!({ "Cmd": [], "Entrypoint": null })] {
            let error = container(&inspected(config), &[], false).expect_err("must fail");
            assert_eq!(error.code, crate::FailureCode::ContainerBuildFailed);
            assert!(error.message.contains("CMD"), "{error}");
        }
    }
}
