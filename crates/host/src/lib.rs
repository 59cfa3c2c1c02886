//! Everything hearth needs from the machine it runs on: made once, cached, and checked by the [`doctor`].
//!
//! The host itself gives only Debian's own tools (see [`doctor::COMMANDS`]). QEMU and buildah are not installed on it: they
//! live in root file systems that mmdebstrap makes in the cache directory, pinned to a suite, so that a host's own packages
//! never conflict with them and the VM's jail has a root that holds nothing else.
//!
//! ```text
//! <cache>/kernel-bookworm-<hash>/          vmlinux, release, modules/*.ko, modules/order
//! <cache>/initramfs-<hash>.cpio            one per agent and kernel
//! <cache>/vmm-root-trixie-<hash>/          QEMU
//! <cache>/builder-root-trixie-<hash>/      buildah
//! <cache>/base-root-trixie-<hash>.tar      the offline stand-in for public.ecr.aws/lambda/microvms:al2023-minimal
//! ```
//!
//! The hash is that of the recipe: what defines an asset names it, and a changed recipe makes a new one beside the old,
//! which machines may still use. Every asset appears whole or not at all, and two processes never make the same one twice.

mod bzimage;
mod claim;
mod command;
mod cpio;
pub mod doctor;
mod error;
mod kernel;
mod modules;
mod recipe;
mod settings;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use claim::{Claim, Claimed, blocking, claim};
pub use error::HostError;
pub use kernel::Kernel;
use recipe::Recipe;
pub use settings::Settings;

/// Gets one line for people per step of a long work.
pub type Progress = dyn Fn(&str) + Send + Sync;

/// The cache of assets. Cheap to clone; every method may be called at any time, by any number of tasks and processes: the
/// first makes the asset (needs root and the network), the others wait for it, and later calls only look.
#[derive(Debug, Clone)]
pub struct Assets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    settings: Settings,
}

impl Assets {
    /// The cache in `dir`, which is created when it is first needed.
    pub fn new(dir: PathBuf, settings: Settings) -> Self {
        Assets { inner: Arc::new(Inner { dir, settings }) }
    }

    /// The guest kernel.
    pub async fn kernel(&self, progress: &Progress) -> Result<Kernel, HostError> {
        let recipe = recipe::kernel();
        let dir = match claim(self.dir(), &recipe.asset_name(&kernel::salt()), progress).await? {
            Claimed::Ready(dir) => dir,
            Claimed::Work(claim) => match self.make_kernel(&recipe, &claim, progress).await {
                Ok(made) => claim.finish(&made).await?,
                Err(error) => return Err(claim.abandon(error).await),
            },
        };
        kernel::load(&dir)
    }

    async fn make_kernel(&self, recipe: &Recipe, claim: &Claim, progress: &Progress) -> Result<PathBuf, HostError> {
        let tree = recipe.cook(claim, &self.inner.settings.archive()?, progress).await?;
        progress("guest kernel: unpacking vmlinux and its modules");
        let out = claim.workshop().join("kernel");
        let made = out.clone();
        work(move || kernel::distil(&tree, &made)).await?;
        Ok(out)
    }

    /// The initramfs of this kernel with this agent; the file is named by its content.
    pub async fn initramfs(&self, kernel: &Kernel, agent: &[u8], progress: &Progress) -> Result<PathBuf, HostError> {
        let (kernel, agent) = (kernel.clone(), agent.to_vec());
        let (bytes, hash) = work(move || {
            let bytes = kernel::initramfs(&kernel, &agent)?;
            let hash = recipe::short_hash(&bytes);
            Ok((bytes, hash))
        })
        .await?;
        let claim = match claim(self.dir(), &format!("initramfs-{hash}.cpio"), progress).await? {
            Claimed::Ready(path) => return Ok(path),
            Claimed::Work(claim) => claim,
        };
        progress(&format!("initramfs: writing {} KiB", bytes.len() / 1024));
        let made = claim.workshop().join("initramfs");
        match tokio::fs::write(&made, bytes).await {
            Ok(()) => claim.finish(&made).await,
            Err(error) => Err(claim.abandon(HostError::io("writing", &made, error)).await),
        }
    }

    /// A root file system with Debian trixie's QEMU (`/usr/bin/qemu-system-x86_64`; its version is in `/etc/qemu-version`).
    /// The packages are unpacked, not configured; `/proc`, `/sys`, `/dev`, `/run` and `/tmp` are there to mount on.
    pub async fn vmm_root(&self, progress: &Progress) -> Result<PathBuf, HostError> {
        self.cooked(&recipe::vmm_root(), progress).await
    }

    /// A root file system with buildah 1.39 or newer (its version is in `/etc/buildah-version`), made for `--isolation
    /// chroot`, with Debian's CA certificates; `/etc/resolv.conf` and `/etc/hostname` are empty files to bind over.
    pub async fn builder_root(&self, progress: &Progress) -> Result<PathBuf, HostError> {
        self.cooked(&recipe::builder_root(), progress).await
    }

    /// A tar archive of a root file system that stands in, offline, for `public.ecr.aws/lambda/microvms:al2023-minimal`: Debian
    /// trixie with Python and pip, and nothing of this host.
    pub async fn base_root(&self, progress: &Progress) -> Result<PathBuf, HostError> {
        self.cooked(&recipe::base_root(self.inner.settings.base_packages()?), progress).await
    }

    async fn cooked(&self, recipe: &Recipe, progress: &Progress) -> Result<PathBuf, HostError> {
        let archive = self.inner.settings.archive()?;
        match claim(self.dir(), &recipe.asset_name(""), progress).await? {
            Claimed::Ready(path) => Ok(path),
            Claimed::Work(claim) => match recipe.cook(&claim, &archive, progress).await {
                Ok(made) => claim.finish(&made).await,
                Err(error) => Err(claim.abandon(error).await),
            },
        }
    }

    fn dir(&self) -> &Path {
        &self.inner.dir
    }
}

/// Runs long file work on the blocking pool.
async fn work<T: Send + 'static>(job: impl FnOnce() -> Result<T, HostError> + Send + 'static) -> Result<T, HostError> {
    match blocking(move || Ok(job())).await {
        Ok(outcome) => outcome,
        Err(source) => Err(HostError::Io { what: "working on a background thread".to_owned(), source }),
    }
}
