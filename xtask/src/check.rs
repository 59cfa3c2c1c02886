//! `cargo xtask check`

use anyhow::Result;

use crate::{build::cargo, fuzz::Fuzz, process};

/// Formatting, lints, documentation, a short fuzz.
pub fn run() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    process::run(cargo().env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links").args([
        "doc",
        "--workspace",
        "--no-deps",
    ]))?;
    Fuzz::SHORT.run()
}
