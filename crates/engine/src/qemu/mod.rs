//! Debian's QEMU as an engine: machine type `microvm`, KVM where it is real, else TCG.
//!
//! QEMU runs from a root file system of hearth's own, in a jail with namespaces and a uid of its own ([`process`]); memory
//! is one file per image that every clone maps copy-on-write, and a suspend writes the pages that differ ([`pages`]).

mod acceleration;
mod channel;
mod clock;
mod image;
mod machine;
mod pages;
mod process;
mod qcow2;
mod qmp;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use tokio::sync::OnceCell;

pub use acceleration::{Acceleration, Choice};

use crate::{
    BootSpec, Capabilities, Engine, EngineError, Machine, MachineRecord, RestoreSpec, SEALED,
    sums::{Known, Sum, Sums},
    underway::{self, blocking},
};
use image::Sheet;
use machine::QemuMachine;
use process::{Kernel, Launch, Memory};

/// Where QEMU lies in the root file system.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// What the engine needs to know about this host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// hearth's own root file system with QEMU 8.2 or newer in it (`readonly=on,rom=off`).
    pub root: PathBuf,
    /// Where the answer about KVM is kept.
    pub cache_dir: PathBuf,
    /// The operator's wish.
    pub acceleration: Acceleration,
}

/// See the module.
pub struct QemuEngine {
    settings: Settings,
    choice: OnceCell<Choice>,
    known: Arc<Known>,
}

impl QemuEngine {
    /// Checks the root file system and prepares the places that jails mount over.
    pub fn new(settings: Settings) -> Result<Self, EngineError> {
        let root = &settings.root;
        if !root.join(QEMU.trim_start_matches('/')).is_file() {
            let message = format!("no QEMU in {}; run `hearth doctor --fix`", root.display());
            return Err(EngineError::Host(message));
        }
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        for dir in process::MOUNT_POINTS {
            fs::create_dir_all(inside(dir)).map_err(|e| EngineError::io("prepare", root, e))?;
        }
        Ok(QemuEngine { settings, choice: OnceCell::new(), known: Arc::default() })
    }

    /// The engine's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Finds out which acceleration is real, once; [`Engine::boot`] does it by itself otherwise.
    pub async fn choose(&self, kernel: &std::path::Path, initrd: &std::path::Path) -> &Choice {
        let wish = self.settings.acceleration;
        self.choice.get_or_init(|| acceleration::choose(self, wish, kernel, initrd)).await
    }

    /// Boots with the given acceleration; what [`Engine::boot`] does after it has chosen.
    async fn boot_with(&self, spec: &BootSpec, acceleration: &str) -> Result<QemuMachine, EngineError> {
        let sheet = Sheet::new(spec.hardware, acceleration, &self.settings.root);
        let (settings, owned, line) = (self.settings.clone(), spec.clone(), kernel_line(acceleration));
        let for_spawn = sheet.clone();
        let spawned = blocking(&spec.machine_dir, move || {
            prepare_boot(&owned)?;
            for_spawn.write(&owned.machine_dir).map_err(|e| EngineError::io("prepare", &owned.machine_dir, e))?;
            Launch {
                root: &settings.root,
                image_dir: &owned.image_dir,
                machine_dir: &owned.machine_dir,
                sheet: &for_spawn,
                memory: Memory::Shared,
                kernel: Some(Kernel { kernel: &owned.kernel, initrd: &owned.initrd, line: &line }),
            }
            .spawn()
        })
        .await;
        let attached = match spawned {
            Ok(started) => {
                let known = self.known.clone();
                QemuMachine::attach_new(started, &spec.machine_dir, &spec.image_dir, sheet, true, known).await
            }
            Err(e) => Err(e),
        };
        attached.map_err(|error| {
            // A monitor that cannot get a page of its memory file dies without a word.
            let full = crate::disk_is_full(&spec.image_dir);
            process::sweep(&spec.machine_dir);
            for name in [image::MEMORY, image::DISK] {
                let _ = fs::remove_file(spec.image_dir.join(name));
            }
            if full { EngineError::DiskFull(spec.image_dir.clone()) } else { error }
        })
    }

    async fn start_clone(&self, spec: &RestoreSpec, sheet: Sheet) -> Result<QemuMachine, EngineError> {
        let (root, owned, for_spawn) = (sheet.root(&self.settings.root)?, spec.clone(), sheet.clone());
        let known = self.known.clone();
        let (started, pages) = blocking(&spec.machine_dir, move || {
            let pages = intact(&owned, &known)?;
            prepare_clone(&owned)?;
            Launch {
                root: &root,
                image_dir: &owned.image_dir,
                machine_dir: &owned.machine_dir,
                sheet: &for_spawn,
                memory: Memory::Private,
                kernel: None,
            }
            .spawn()
            .map(|started| (started, pages))
        })
        .await?;
        let known = self.known.clone();
        let machine = QemuMachine::attach_new(started, &spec.machine_dir, &spec.image_dir, sheet, false, known).await?;
        crash::point("machine: monitor answers");
        let loaded = match pages {
            None => machine.load("/image/sealed/device-state", None).await,
            Some(pages) => machine.load("/vm/device-state", Some(pages)).await,
        };
        if let Err(e) = loaded {
            machine.kill().await?;
            return Err(e);
        }
        Ok(machine)
    }
}

fn prepare_boot(spec: &BootSpec) -> Result<(), EngineError> {
    let at = |e| EngineError::io("prepare", &spec.image_dir, e);
    fs::create_dir_all(&spec.machine_dir).map_err(|e| EngineError::io("create", &spec.machine_dir, e))?;
    process::sweep(&spec.machine_dir);
    fs::set_permissions(&spec.image_dir, fs::Permissions::from_mode(0o755)).map_err(at)?;
    let rootfs = spec.image_dir.join(image::ROOTFS);
    fs::set_permissions(&rootfs, fs::Permissions::from_mode(0o644)).map_err(at)?;
    let bytes = fs::metadata(&rootfs).map_err(|e| EngineError::io("read", &rootfs, e))?.len();
    let memory = fs::File::create(spec.image_dir.join(image::MEMORY)).map_err(at)?;
    memory.set_len(u64::from(spec.hardware.memory_mib) << 20).map_err(at)?;
    let disk = spec.image_dir.join(image::DISK);
    let _ = fs::remove_file(&disk);
    qcow2::create_overlay(&disk, bytes, "/image/rootfs.ext4", "raw").map_err(at)
}

/// Are the files that a machine is restored from what they were? The saved pages are compared while they are loaded: where
/// they are, and what they must be.
fn intact(spec: &RestoreSpec, known: &Known) -> Result<Option<(PathBuf, Sum)>, EngineError> {
    let sealed = spec.image_dir.join(SEALED);
    let sums = Sums::read(&sealed)?;
    let check = |sums: &Sums, name: &str, dir: &Path| {
        let path = dir.join(name);
        known.check(&path, sums.of(name, &path)?)
    };
    for name in image::FILES {
        check(&sums, name, &spec.image_dir)?;
    }
    let Some(saved) = &spec.saved_dir else {
        check(&sums, process::STATE, &sealed)?;
        return Ok(None);
    };
    let sums = Sums::read(saved)?;
    check(&sums, process::STATE, saved)?;
    check(&sums, process::DISK, &spec.machine_dir)?;
    let pages = saved.join(machine::PAGES);
    let sum = sums.of(machine::PAGES, &pages)?;
    Ok(Some((pages, sum)))
}

fn prepare_clone(spec: &RestoreSpec) -> Result<(), EngineError> {
    let at = |e| EngineError::io("prepare", &spec.machine_dir, e);
    fs::create_dir_all(&spec.machine_dir).map_err(at)?;
    let disk = spec.machine_dir.join(process::DISK);
    match &spec.saved_dir {
        None => {
            let rootfs = spec.image_dir.join(image::ROOTFS);
            let bytes = fs::metadata(&rootfs).map_err(|e| EngineError::io("read", &rootfs, e))?.len();
            let _ = fs::remove_file(&disk);
            qcow2::create_overlay(&disk, bytes, "/image/disk.qcow2", "qcow2").map_err(at)
        }
        Some(saved) => {
            if !disk.is_file() {
                return Err(at(io::Error::from(io::ErrorKind::NotFound)));
            }
            let path = saved.join(process::STATE);
            let mut state = fs::read(&path).map_err(|e| EngineError::io("read", &path, e))?;
            if let Err(error) = clock::advance(&mut state, crate::age(saved)) {
                tracing::warn!(path = %path.display(), %error, "the guest's monotonic clock stood still while it slept");
            }
            fs::write(spec.machine_dir.join(process::STATE), state).map_err(at)
        }
    }
}

/// Kernel parameters: see ENGINE.md section 2 for the three that make a boot under TCG certain.
fn kernel_line(acceleration: &str) -> String {
    static TSC_KHZ: OnceLock<u64> = OnceLock::new();
    // A sleep is no stall: after it the clocks have gone on and nothing has run (see `clock`).
    let common = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t audit=0 random.trust_cpu=on rcupdate.rcu_expedited=1 \
                  nowatchdog rcupdate.rcu_cpu_stall_suppress=1";
    if acceleration == "kvm" {
        return common.to_owned();
    }
    let khz = *TSC_KHZ.get_or_init(acceleration::tsc_khz);
    format!("{common} no_timer_check tsc=reliable tsc_early_khz={khz} lpj={} mitigations=off", khz * 2)
}

#[async_trait]
impl Engine for QemuEngine {
    fn capabilities(&self) -> Capabilities {
        let (acceleration, note) = match self.choice.get() {
            Some(choice) => (choice.name.clone(), choice.note.clone()),
            None => ("auto".into(), "not needed yet".into()),
        };
        Capabilities { engine: "qemu".into(), acceleration, incremental_save: true, note }
    }

    async fn boot(&self, spec: BootSpec) -> Result<Box<dyn Machine>, EngineError> {
        let choice = self.choose(&spec.kernel, &spec.initrd).await;
        Ok(Box::new(self.boot_with(&spec, &choice.name).await?))
    }

    async fn restore(&self, spec: RestoreSpec) -> Result<Box<dyn Machine>, EngineError> {
        let sheet = Sheet::read(&spec.image_dir)?;
        match self.start_clone(&spec, sheet).await {
            Ok(machine) => Ok(Box::new(machine)),
            Err(e) => {
                process::sweep(&spec.machine_dir);
                if spec.saved_dir.is_none() {
                    let _ = fs::remove_file(spec.machine_dir.join(process::DISK));
                }
                Err(e)
            }
        }
    }

    async fn adopt(&self, record: &MachineRecord) -> Result<Option<Box<dyn Machine>>, EngineError> {
        let at = |e| EngineError::io("find the machine of", &record.machine_dir, e);
        let same_boot = process::boot_id().map_err(at)? == record.boot_id;
        let held = if same_boot { process::Process::hold(record.pid).map_err(at)? } else { None };
        let Some(found) = held.filter(|process| process.start_ticks == record.start_ticks) else {
            process::sweep(&record.machine_dir);
            return Ok(None);
        };
        let sheet = if record.fresh { Sheet::of_boot(&record.machine_dir)? } else { Sheet::read(&record.image_dir)? };
        let machine = QemuMachine::attach_found(found, record, sheet, self.known.clone()).await?;
        Ok(Some(Box::new(machine)))
    }

    async fn reclaim(&self, machine_dir: &std::path::Path) -> Result<(), EngineError> {
        let at = |e| EngineError::io("end the machine of", machine_dir, e);
        // A process that is about to be started is there afterwards, and work on one that is ended here ends soon.
        underway::ended(machine_dir).await;
        for pid in process::of_machine(machine_dir).map_err(at)? {
            if let Some(process) = process::Process::hold(pid).map_err(at)? {
                process.kill().await.map_err(at)?;
            }
        }
        process::sweep(machine_dir);
        Ok(())
    }
}
