//! The server's settings for this host: how its RUN steps reach the package index, as the host itself does.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::process;

/// Variables that say how packages are found. File names are not among them: they mean nothing inside a build.
const VARIABLES: [&str; 10] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Settings of pip's configuration files that the variables stand for.
const PIP_SETTINGS: [(&str, &str); 3] = [
    ("global.index-url", "PIP_INDEX_URL"),
    ("global.extra-index-url", "PIP_EXTRA_INDEX_URL"),
    ("global.trusted-host", "PIP_TRUSTED_HOST"),
];

/// Writes `hearth.toml`.
pub fn write(data_dir: &Path) -> Result<()> {
    let mut text =
        String::from("# How RUN steps reach the package index on this host; nothing of it stays in an image.\n");
    text.push_str("[build.run_environment]\n");
    for (name, value) in environment() {
        text.push_str(&format!("{name} = {}\n", toml_string(&value)));
    }
    let path = data_dir.join("hearth.toml");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

fn environment() -> Vec<(String, String)> {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut all: Vec<(String, String)> =
        VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), set(name)?))).collect();
    for (setting, variable) in PIP_SETTINGS {
        if all.iter().any(|(name, _)| name == variable) {
            continue;
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "config", "get", setting]);
        let said = process::capture(&mut pip, b"", Duration::from_secs(30));
        if let Some(output) = said.ok().filter(|output| output.status.success() && !output.stdout.trim().is_empty()) {
            all.push((variable.to_owned(), output.stdout.trim().to_owned()));
        }
    }
    all
}

/// A basic string of TOML 1.0; JSON's escapes are a part of its.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
