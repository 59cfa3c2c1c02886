//! Places in the workspace.

use std::path::{Path, PathBuf};

/// Its root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo and we build.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => root().join("target"),
    }
}

/// Kernels, root file systems and layers for demo and bench; the second run finds them here.
pub fn hearth_cache() -> PathBuf {
    match std::env::var_os("HEARTH_CACHE_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => target().join("hearth-cache"),
    }
}
