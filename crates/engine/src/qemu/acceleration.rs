//! Which acceleration is real here: `/dev/kvm` may open and still be useless (ENGINE.md section 1).
//!
//! The only proof is the configured guest kernel reaching the agent's first word under KVM in bounded time. It is asked
//! once per host boot, kernel and QEMU; the answer is kept beside the other caches.

use std::{fs, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::{QemuEngine, process};
use crate::{BootSpec, EngineError, Hardware, Machine, agent::Agent};

/// A kernel that needs longer to its first word under KVM is not running on hardware.
const BOUND: Duration = Duration::from_secs(4);

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// KVM where it is proven to work, else TCG.
    #[default]
    Auto,
    /// KVM, without asking.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// The outcome and its reason, for one line of log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// `kvm` or `tcg`.
    pub name: String,
    /// Why.
    pub note: String,
}

impl Choice {
    fn tcg(note: &str) -> Self {
        Choice { name: "tcg".into(), note: note.into() }
    }
}

#[derive(Serialize, Deserialize)]
struct Cached {
    key: String,
    choice: Choice,
}

/// Decides for this engine; boots a small throw-away machine when nobody has asked before.
pub async fn choose(engine: &QemuEngine, wish: Acceleration, kernel: &Path, initrd: &Path) -> Choice {
    match wish {
        Acceleration::Tcg => return Choice::tcg("software emulation, as configured"),
        Acceleration::Kvm => return Choice { name: "kvm".into(), note: "KVM, as configured".into() },
        Acceleration::Auto => {}
    }
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Choice::tcg("software emulation: /dev/kvm cannot be opened");
    }
    let cache = engine.settings().cache_dir.join("acceleration.json");
    let key = format!("{} {} {}", process::boot_id().unwrap_or_default(), kernel.display(), initrd.display());
    if let Some(cached) = fs::read(&cache).ok().and_then(|text| serde_json::from_slice::<Cached>(&text).ok())
        && cached.key == key
    {
        return cached.choice;
    }
    let choice = match probe(engine, kernel, initrd).await {
        Ok(()) => Choice { name: "kvm".into(), note: "KVM: the guest kernel was booted under it".into() },
        Err(e) => {
            tracing::debug!(error = %e, "the probe under KVM failed");
            Choice::tcg("software emulation: /dev/kvm is there, but the guest kernel does not come up under it")
        }
    };
    if let Ok(text) = serde_json::to_vec(&Cached { key, choice: choice.clone() }) {
        let _ = fs::write(&cache, text);
    }
    choice
}

async fn probe(engine: &QemuEngine, kernel: &Path, initrd: &Path) -> Result<(), EngineError> {
    let dir = engine.settings().cache_dir.join(format!("probe-{}", std::process::id()));
    let result = boot_under_kvm(engine, &dir, kernel, initrd).await;
    let _ = fs::remove_dir_all(&dir);
    result
}

async fn boot_under_kvm(engine: &QemuEngine, dir: &Path, kernel: &Path, initrd: &Path) -> Result<(), EngineError> {
    let image_dir = dir.join("image");
    let make = || {
        fs::create_dir_all(&image_dir)?;
        fs::File::create(image_dir.join(super::image::ROOTFS))?.set_len(1 << 20)
    };
    make().map_err(|e| EngineError::io("prepare", dir, e))?;
    let spec = BootSpec {
        image_dir,
        machine_dir: dir.join("machine"),
        hardware: Hardware { memory_mib: 256, vcpus: 1 },
        kernel: kernel.to_owned(),
        initrd: initrd.to_owned(),
    };
    let machine = engine.boot_with(&spec, "kvm").await?;
    let hello = async {
        let channel = machine.connect().await?;
        Agent::open(channel, BOUND).await.map_err(|e| EngineError::Gone(e.to_string()))
    };
    let outcome = tokio::time::timeout(BOUND, hello).await;
    machine.kill().await?;
    match outcome {
        Ok(result) => result.map(drop),
        Err(_) => Err(EngineError::Timeout { what: "the boot under KVM", seconds: BOUND.as_secs() }),
    }
}

/// The frequency of the time-stamp counter in kHz, measured over 100 ms: under TCG a guest that believes another one drifts,
/// and one that must find out by itself often hangs (ENGINE.md section 2).
pub fn tsc_khz() -> u64 {
    use std::time::Instant;
    let (start, first) = (Instant::now(), crate::sys::time_stamp_counter());
    std::thread::sleep(Duration::from_millis(100));
    let (elapsed, last) = (start.elapsed(), crate::sys::time_stamp_counter());
    ((last - first) as f64 / elapsed.as_secs_f64() / 1e3).round() as u64
}
