//! What the tasks themselves need from Debian. What hearth needs is `hearth doctor`'s business.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{process, sys};

/// What all of them need.
const NEEDS: [Need; 2] = [
    ("curl with TLS", &["curl", "--version"], &["curl", "ca-certificates"]),
    ("Python with venv", &["python3", "-c", "import ensurepip, venv"], &["python3", "python3-venv"]),
];

/// What `cargo xtask protocols` needs besides.
const CLIENTS: [Need; 2] = [
    ("nghttp and h2load", &["h2load", "--version"], &["nghttp2-client"]),
    ("Chromium", &["chromium", "--version"], &["chromium"]),
];

/// What `cargo xtask bench --only proxy` needs. Where there is systemd Debian starts nginx as a service, on port 80.
const PROXIES: [Need; 3] = [
    ("nginx", &["nginx", "-v"], &["nginx-light"]),
    ("h2load", &["h2load", "--version"], &["nghttp2-client"]),
    ("openssl", &["openssl", "version"], &["openssl"]),
];

/// Its name, a command that works where it is there, and the packages that bring it.
type Need = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Installs what is missing. Changes nothing when nothing is.
pub fn run() -> Result<()> {
    install(&NEEDS)
}

/// The same for the clients of `cargo xtask protocols`.
pub fn protocols() -> Result<()> {
    install(&CLIENTS)
}

/// The same for the proxy that endpoints are measured beside.
pub fn proxies() -> Result<()> {
    install(&PROXIES)
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|(_, probe, _)| !works(probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|(_, _, packages)| packages.iter().copied()).collect();
    if !sys::is_root() || !Path::new("/usr/bin/apt-get").exists() {
        let names: Vec<_> = missing.iter().map(|(name, _, _)| *name).collect();
        bail!("lacking {}; install {}", names.join(" and "), packages.join(" "));
    }
    let apt = |arguments: &[&str]| {
        process::run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(arguments))
    };
    if let Err(error) = apt(&["update"]) {
        eprintln!("xtask: {error:#}; going on with the package lists at hand");
    }
    apt(&[&["install", "--no-install-recommends", "--no-remove", "-y"], packages.as_slice()].concat())
}

fn works(probe: &[&str]) -> bool {
    let Some((program, arguments)) = probe.split_first() else { return false };
    let probe = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}
