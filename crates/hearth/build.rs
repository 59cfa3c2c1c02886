//! Embeds the guest agent: `cargo xtask build` names it in `HEARTH_GUEST_AGENT`. Without it hearth still builds, for
//! everything but real machines.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=HEARTH_GUEST_AGENT");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let agent = match env::var("HEARTH_GUEST_AGENT") {
        Ok(path) => {
            println!("cargo::rerun-if-changed={path}");
            fs::read(&path).unwrap_or_else(|error| panic!("HEARTH_GUEST_AGENT={path}: {error}"))
        }
        Err(_) => Vec::new(),
    };
    fs::write(Path::new(&out).join("guest-agent"), agent).expect("OUT_DIR can be written to");
}
