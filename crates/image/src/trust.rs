//! How RUN steps come by the host's trust and package settings without any of it staying in the image.
//!
//! Variables are put into each RUN step's OCI configuration by a wrapper around the OCI runtime, below everything that the
//! image or the Dockerfile sets: buildah never knows of them, so they are in no image configuration, history or cache key.
//! Files lie under `/dev/hearth` in the container, and `/dev` is a fresh tmpfs in every RUN step, so that not even a mount
//! point is left behind.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    error::BuildError,
    settings::{BuildahSettings, HostEnv},
};

/// Where the files are in a RUN step.
pub(crate) const RUN_DIR: &str = "/dev/hearth";

/// Variables that tell common programs which CA bundle to trust.
const CA_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
];

/// Writes the sandbox's configuration into `conf`, and what RUN steps see of it into `conf/run`.
pub(crate) fn write(conf: &Path, settings: &BuildahSettings) -> Result<(), BuildError> {
    let run = conf.join("run");
    fs::create_dir_all(&run).map_err(|error| BuildError::io("create", &run, &error))?;
    if let Some(bundle) = &settings.ca_bundle {
        let pem = fs::read(bundle).map_err(|error| BuildError::io("read the CA bundle", bundle, &error))?;
        put(&run, "ca.pem", &pem, 0o644)?;
        put(&run, "apt.conf", format!("Acquire::https::CAInfo \"{RUN_DIR}/ca.pem\";\n").as_bytes(), 0o644)?;
    }
    put(conf, "runtime", include_bytes!("scripts/runtime.sh"), 0o755)?;
    put(conf, "runtime.sed", runtime_sed(&run_env(settings)).as_bytes(), 0o644)?;
    put(conf, "storage.conf", STORAGE_CONF.as_bytes(), 0o644)?;
    put(
        conf,
        "registries.conf",
        b"unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n",
        0o644,
    )?;
    put(conf, "containers.conf", b"", 0o644)?;
    for name in ["resolv.conf", "hosts"] {
        // A host without them resolves nothing, and neither does the build.
        let content = fs::read(Path::new("/etc").join(name)).unwrap_or_default();
        put(conf, name, &content, 0o644)?;
    }
    Ok(())
}

const STORAGE_CONF: &str = "[storage]
driver = \"overlay\"
graphroot = \"/build/storage\"
runroot = \"/run/containers/storage\"
";

/// The variables of RUN steps: trust first, then the operator's, which may override it.
fn run_env(settings: &BuildahSettings) -> Vec<(String, String)> {
    let mut env = Vec::new();
    if settings.ca_bundle.is_some() {
        env.extend(CA_VARIABLES.map(|name| (name.to_owned(), format!("{RUN_DIR}/ca.pem"))));
        env.push(("APT_CONFIG".to_owned(), format!("{RUN_DIR}/apt.conf")));
    }
    env.extend(settings.host_env.0.iter().cloned());
    env
}

/// A sed script that puts `env` before the process's own variables in an OCI `config.json`. In that file `"env":[` cannot
/// occur inside a string (its quotes would be escaped), and the process's list is the first one.
fn runtime_sed(env: &[(String, String)]) -> String {
    let mut list = String::new();
    for (name, value) in env {
        list.push_str(&serde_json::Value::from(format!("{name}={value}")).to_string());
        list.push(',');
    }
    let mut replacement = String::new();
    for letter in list.chars() {
        if matches!(letter, '\\' | '|' | '&') {
            replacement.push('\\');
        }
        replacement.push(letter);
    }
    format!("s|\"env\":\\[|&{replacement}|\n")
}

fn put(directory: &Path, name: &str, content: &[u8], mode: u32) -> Result<(), BuildError> {
    let path = directory.join(name);
    fs::write(&path, content)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
        .map_err(|error| BuildError::io("write", &path, &error))
}

/// Credentials in addresses (`//user:password@host`) of the host's settings, to be kept out of the build log.
pub(crate) fn secrets(env: &HostEnv) -> Vec<String> {
    let credentials = |value: &str| {
        let authority = value.split_once("//")?.1.split('/').next()?;
        Some(authority.rsplit_once('@')?.0.to_owned())
    };
    let addresses = env.0.iter().flat_map(|(_, value)| value.split([' ', ',']));
    addresses.filter_map(credentials).filter(|secret| !secret.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process};

    use super::*;

    #[test]
    fn the_sed_script_puts_any_value_before_the_image_s_own() {
        let values = [("A", r#"a"b|c&d\e"#), ("B", "x\ny"), ("PATH", "/host")];
        let env: Vec<_> = values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config =
            r#"{"process":{"args":["echo \"env\":[1]"],"env":["PATH=/image"]},"hooks":{"prestart":[{"env":[]}]}}"#;
        let mut sed = process::Command::new("sed")
            .args(["-e", &runtime_sed(&env)])
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .expect("sed runs");
        sed.stdin.take().expect("piped").write_all(config.as_bytes()).expect("writes");
        let output = sed.wait_with_output().expect("ends");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON still");
        let expected = serde_json::json!([r#"A=a"b|c&d\e"#, "B=x\ny", "PATH=/host", "PATH=/image"]);
        assert_eq!(json["process"]["env"], expected);
        assert_eq!(json["process"]["args"][0], r#"echo "env":[1]"#);
        assert_eq!(json["hooks"]["prestart"][0]["env"], serde_json::json!([]));
    }

    #[test]
    fn credentials_are_found_in_addresses() {
        let env = HostEnv(vec![
            ("PIP_EXTRA_INDEX_URL".into(), "https://u:p@a/simple https://b/simple".into()),
            ("HTTP_PROXY".into(), "http://proxy:3128".into()),
        ]);
        assert_eq!(secrets(&env), ["u:p"]);
    }
}
