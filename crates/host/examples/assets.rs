//! Makes every asset in a directory and prints what each took.
//!
//! `cargo run -p host --example assets -- [--fix] DIR [AGENT]`, as root; with AGENT also the initramfs, with `--fix` what the
//! host lacks is installed first.

use std::{path::PathBuf, time::Instant};

use host::{Assets, HostError, Settings, doctor};

fn say(line: &str) {
    println!("    {line}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    let fix = args.next_if(|arg| arg == "--fix").is_some();
    let Some(dir) = args.next().map(PathBuf::from) else {
        eprintln!("usage: assets [--fix] DIR [AGENT]");
        return std::process::ExitCode::from(2);
    };
    if fix && let Err(error) = doctor::fix(&dir, &say).await {
        eprintln!("error: {error}");
        return std::process::ExitCode::FAILURE;
    }
    for check in doctor::check(&dir) {
        println!("{} {}: {} {}", if check.ok { "ok " } else { "BAD" }, check.name, check.detail, check.hint);
    }
    match make(Assets::new(dir, Settings::default()), args.next().map(PathBuf::from)).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn make(assets: Assets, agent: Option<PathBuf>) -> Result<(), HostError> {
    let start = Instant::now();
    let kernel = assets.kernel(&say).await?;
    println!("kernel {} {} ({:.1?})", kernel.release, kernel.vmlinux.display(), start.elapsed());
    for module in &kernel.modules {
        println!("  module {}", module.display());
    }
    if let Some(agent) = agent {
        let bytes = std::fs::read(&agent)
            .map_err(|source| HostError::Io { what: format!("reading {}", agent.display()), source })?;
        let start = Instant::now();
        println!("initramfs {} ({:.1?})", assets.initramfs(&kernel, &bytes, &say).await?.display(), start.elapsed());
    }
    let start = Instant::now();
    println!("vmm root {} ({:.1?})", assets.vmm_root(&say).await?.display(), start.elapsed());
    let start = Instant::now();
    println!("base root {} ({:.1?})", assets.base_root(&say).await?.display(), start.elapsed());
    let start = Instant::now();
    println!("builder root {} ({:.1?})", assets.builder_root(&say).await?.display(), start.elapsed());
    Ok(())
}
