//! `cargo xtask build`: the guest agent, then hearth with the agent inside.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{process, workspace};

/// The target the agent is built for: static, without a C compiler.
const MUSL: &str = "x86_64-unknown-linux-musl";
/// What every Linux toolchain has; the agent becomes static by a flag, and larger.
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Prints the path of the binary.
#[derive(Debug, Args)]
pub struct Build {
    /// Optimised, for installing
    #[arg(long)]
    release: bool,
}

impl Build {
    /// Builds.
    pub fn run(self) -> Result<()> {
        println!("{}", hearth(&agent()?, self.release)?.display());
        Ok(())
    }
}

/// cargo itself.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// Builds the guest agent; its path.
pub fn agent() -> Result<PathBuf> {
    let target = if has_musl() { MUSL } else { GNU };
    let mut command = cargo();
    command.args(["build", "--package", "guest", "--profile", "guest", "--target", target]);
    if target == GNU {
        eprintln!("xtask: no std for {MUSL} and none to be had; linking the agent statically with {GNU}");
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    process::run(&mut command)?;
    let path = workspace::target().join(target).join("guest/guest");
    check_static(&path)?;
    Ok(path)
}

/// The workspace's binaries, with the agent in hearth; the path of hearth. The whole workspace at once, so that tests,
/// demo and daily work share every compiled dependency; optimised, hearth alone.
pub fn hearth(agent: &Path, release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    let what: &[&str] = if release { &["--package", "hearth", "--release"] } else { &["--workspace", "--bins"] };
    command.arg("build").args(what).env("HEARTH_GUEST_AGENT", agent);
    process::run(&mut command)?;
    Ok(workspace::target().join(if release { "release" } else { "debug" }).join("hearth"))
}

/// Is std for musl there, or can rustup bring it?
fn has_musl() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", MUSL]).output();
    let libdir = output.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    if libdir.is_some_and(|dir| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())) {
        return true;
    }
    let added = Command::new("rustup").args(["target", "add", MUSL]).stdin(Stdio::null()).status();
    added.is_ok_and(|status| status.success())
}

/// A dynamic agent would be PID 1 of a machine without a loader: it must have no program interpreter (ELF `PT_INTERP`).
fn check_static(path: &Path) -> Result<()> {
    const PT_INTERP: u32 = 3;
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let word = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    // ELF64 header: e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type is the first word of each program header.
    let headers = || Some((word(32, 8)?, word(54, 2)?, word(56, 2)?));
    let Some((start, size, count)) = headers().filter(|_| bytes.starts_with(b"\x7fELF\x02\x01")) else {
        bail!("{} is no 64-bit ELF file", path.display());
    };
    let dynamic = (0..count).any(|n| word((start + n * size) as usize, 4) == Some(u64::from(PT_INTERP)));
    if dynamic {
        bail!("{} is not static; it would not run as PID 1 of a microVM", path.display());
    }
    Ok(())
}
