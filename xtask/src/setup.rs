//! What the tasks themselves need from Debian. What hearth needs is `hearth doctor`'s business.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{process, sys};

/// What is looked for, and the packages that bring it.
const NEEDS: [(&str, &[&str], &[&str]); 2] = [
    ("curl with TLS", &["curl", "--version"], &["curl", "ca-certificates"]),
    ("Python with venv", &["python3", "-c", "import ensurepip, venv"], &["python3", "python3-venv"]),
];

/// Installs what is missing. Changes nothing when nothing is.
pub fn run() -> Result<()> {
    let missing: Vec<_> = NEEDS.iter().filter(|(_, probe, _)| !works(probe)).collect();
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
