//! The real builder: one build from artifact to root disk.
//!
//! The work is blocking (namespaces, pipes, file trees) and must stay on one thread, because the sandbox dies with the
//! thread that started it. So a build is one blocking task; the future hands its log lines on, and turns the build off when
//! it is dropped.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    BuildLog, BuildRequest, Builder, Built,
    archive::Artifact,
    base::{Replaced, Resolver, Unreachable},
    cache::{self, InUse},
    config, disk,
    error::{BuildError, FailureCode},
    failure,
    sandbox::{Command, FIRST_ID, How, Sandbox, Switch, ulimits},
    settings::BuildahSettings,
    trust,
};

/// Lines that may wait for a slow log before the build is held up.
const LOG_QUEUE: usize = 1024;
/// Bound on buildah's description of an image.
const MAX_INSPECT_BYTES: u64 = 8 << 20;
/// How often a build starts again because another base image turned out to be out of reach.
const MAX_RETRIES: usize = 8;

/// Builds Dockerfiles with buildah, in a sandbox on this host. Needs root. One per cache directory is enough; builds may
/// run at the same time, and other processes may share the directory.
#[derive(Clone)]
pub struct Buildah {
    shared: Arc<Shared>,
}

struct Shared {
    settings: BuildahSettings,
    unreachable: Unreachable,
    /// Something may be left behind in the storage: always so at the start, and after a build that failed.
    dirty: AtomicBool,
}

impl Buildah {
    /// Looks at nothing yet; what is missing shows at the first build.
    pub fn new(settings: BuildahSettings) -> Self {
        let shared = Shared { settings, unreachable: Unreachable::default(), dirty: AtomicBool::new(true) };
        Buildah { shared: Arc::new(shared) }
    }
}

/// Turns the build off when its future goes away.
struct OffOnDrop(Arc<Switch>);

impl Drop for OffOnDrop {
    fn drop(&mut self) {
        self.0.turn_off();
    }
}

#[async_trait]
impl Builder for Buildah {
    async fn build(&self, request: &BuildRequest, log: &dyn BuildLog) -> Result<Built, BuildError> {
        let (lines, mut arriving) = mpsc::channel::<String>(LOG_QUEUE);
        let switch = Arc::new(Switch::default());
        let off = OffOnDrop(Arc::clone(&switch));
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        let task = tokio::task::spawn_blocking(move || {
            // A receiver that is gone means that the build is being turned off.
            let mut line = |text: &str| drop(lines.blocking_send(text.to_owned()));
            let result = shared.build(&request, &switch, &mut line);
            result.and_then(|built| remove(&request.work_dir).map(|()| built)).inspect_err(|_| {
                if let Err(error) = remove(&request.work_dir) {
                    tracing::warn!(%error, "a build left files behind");
                }
            })
        });
        while let Some(line) = arriving.recv().await {
            log.line(&line);
        }
        let result = task.await.map_err(|error| BuildError::platform(format!("the build task broke: {error}")))?;
        drop(off);
        result
    }
}

impl Shared {
    fn build(&self, request: &BuildRequest, switch: &Switch, line: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
        let settings = &self.settings;
        let deadline = Instant::now() + settings.build_timeout;
        remove(&request.work_dir)?;
        fs::create_dir_all(&request.work_dir).map_err(|error| BuildError::io("create", &request.work_dir, &error))?;
        // Paths are bound into the sandbox, where relative ones mean something else.
        let work =
            fs::canonicalize(&request.work_dir).map_err(|error| BuildError::io("use", &request.work_dir, &error))?;
        let artifact = Artifact::open(&request.artifact, &settings.limits)?;
        require_tools(&settings.builder_root)?;
        cache::prepare(&settings.cache_dir)?;
        let sandbox = Sandbox::new(settings, &work, switch, deadline)?;
        let mut told = false;
        let in_use = InUse::begin(&settings.cache_dir, &mut || sandbox.give_way(&mut told, line))?;
        if self.dirty.swap(false, Ordering::Relaxed) {
            self.sweep(&in_use, &sandbox, false);
        }
        let reserve = cache::Reserve::keep(&settings.cache_dir);
        let result = self.steps(request, artifact, &sandbox, switch, line);
        let full = result.as_ref().is_err_and(|error| error.code == FailureCode::DiskStorageFull);
        if result.is_err() {
            self.dirty.store(true, Ordering::Relaxed);
        }
        if full {
            reserve.spend();
        }
        if full || cache::layer_bytes(&settings.cache_dir) > settings.cache_bytes {
            self.sweep(&in_use, &sandbox, true);
        }
        result
    }

    fn steps(
        &self,
        request: &BuildRequest,
        artifact: Artifact,
        sandbox: &Sandbox<'_>,
        switch: &Switch,
        line: &mut dyn FnMut(&str),
    ) -> Result<Built, BuildError> {
        let context = sandbox.path("context");
        let unpacked = artifact.unpack(&context, FIRST_ID, &self.settings.limits, &|| switch.is_off())?;
        crash::point("dockerfile: artifact unpacked");
        line(&format!("artifact: {} files, {} bytes unpacked", unpacked.files, unpacked.bytes));
        let dockerfile = beginning(&context.join("Dockerfile"))?;
        let image = self.containerfile(&dockerfile, sandbox, line)?;
        crash::point("dockerfile: container image built");
        let inspected = self.inspect(&image, sandbox)?;
        let configured = config::container(&inspected, &request.env, request.additional_capabilities_all)?;
        let began = Instant::now();
        let code_bytes =
            disk::write(request, &self.settings.cache_dir, sandbox, &image, &configured.directories, line)?;
        let (mib, seconds) = (code_bytes.div_ceil(1 << 20), began.elapsed().as_secs_f64());
        line(&format!("root disk: {mib} MiB of files on {} MiB, written in {seconds:.1} s", request.disk_mib));
        Ok(Built { container: configured.container, exposed_ports: configured.tcp_ports, code_bytes })
    }

    /// Builds the Dockerfile; returns the image's id.
    fn containerfile(
        &self,
        dockerfile: &str,
        sandbox: &Sandbox<'_>,
        line: &mut dyn FnMut(&str),
    ) -> Result<String, BuildError> {
        let settings = &self.settings;
        let resolver = Resolver { settings, sandbox, unreachable: &self.unreachable, dockerfile };
        let mut replaced = resolver.before(line)?;
        for _ in 0..MAX_RETRIES {
            let command = Command { argv: self.build_command(&replaced), ..Command::default() };
            let ended = sandbox.run(&command, line)?;
            if ended.how == How::Success {
                let id = sandbox.result("image", 256)?;
                return Ok(id.trim().trim_start_matches("sha256:").to_owned());
            }
            if !resolver.after(&ended.tail, &mut replaced, line)? {
                return Err(failure::of_build(&ended.tail, &settings.cache_dir));
            }
        }
        Err(BuildError::container(format!("more than {MAX_RETRIES} base images are out of reach")))
    }

    fn build_command(&self, replaced: &Replaced) -> Vec<String> {
        let fixed = "/usr/bin/buildah build --layers --format docker --isolation oci --runtime /build/conf/runtime \
            --network host --force-rm --retry 0 --identity-label=false --file /build/context/Dockerfile \
            --iidfile /build/out/image";
        let mut argv: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
        for limit in ulimits() {
            argv.extend(["--ulimit".to_owned(), limit]);
        }
        if self.settings.ca_bundle.is_some() {
            argv.extend(["--volume".to_owned(), format!("/build/conf/run:{}:ro", trust::RUN_DIR)]);
        }
        for (name, by) in replaced {
            argv.extend(["--build-context".to_owned(), format!("{name}=container-image://{by}")]);
        }
        argv.push("/build/context".to_owned());
        argv
    }

    fn inspect(&self, image: &str, sandbox: &Sandbox<'_>) -> Result<String, BuildError> {
        let argv = ["/bin/sh", "-c", "exec buildah inspect --type image \"$1\" >/build/out/config", "sh", image];
        let command = Command { argv: argv.map(str::to_owned).into(), ..Command::default() };
        let ended = sandbox.run(&command, &mut |_| {})?;
        match ended.how {
            How::Success => sandbox.result("config", MAX_INSPECT_BYTES),
            _ => {
                Err(failure::of_platform("read the built image's configuration", &ended.tail, &self.settings.cache_dir))
            }
        }
    }

    /// Removes what dead builds left and, on request, the layers that no named image needs. Does nothing while another
    /// build runs; then the next one has it to do.
    fn sweep(&self, in_use: &InUse, sandbox: &Sandbox<'_>, layers: bool) {
        if !in_use.alone() {
            self.dirty.store(true, Ordering::Relaxed);
            return;
        }
        let bytes = cache::layer_bytes(&self.settings.cache_dir);
        let what = if layers { "all" } else { "" };
        let argv = ["/bin/sh", "-c", include_str!("scripts/sweep.sh"), "sh", what].map(str::to_owned).into();
        match sandbox.run(&Command { argv, ..Command::default() }, &mut |_| {}) {
            Ok(_) if layers => tracing::info!(bytes, "dropped the layer cache: over its bound, or the disk was full"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot clean the build storage"),
        }
        in_use.share();
    }
}

/// The first 4 MiB of the Dockerfile, to look for names in; buildah reads it all.
fn beginning(path: &Path) -> Result<String, BuildError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4 << 20).read_to_end(&mut bytes))
        .map_err(|error| BuildError::io("read", path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The builder root has what the sandbox runs.
fn require_tools(builder_root: &Path) -> Result<(), BuildError> {
    const TOOLS: [(&str, &str); 4] = [
        ("usr/bin/buildah", "buildah"),
        ("usr/bin/crun", "crun"),
        ("usr/lib/podman/netavark", "netavark"),
        ("usr/sbin/mke2fs", "e2fsprogs"),
    ];
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(file, _)| !builder_root.join(file).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (root, missing) = (builder_root.display(), missing.join(", "));
    Err(BuildError::platform(format!("the builder root {root} lacks {missing}; remove it and it is made anew")))
}

/// Removes a directory tree; none is fine.
fn remove(path: &Path) -> Result<(), BuildError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BuildError::io("remove", path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("usr/bin")).expect("creates");
        fs::write(dir.path().join("usr/bin/buildah"), "").expect("writes");
        let error = require_tools(dir.path()).expect_err("must fail");
        assert_eq!(error.code, FailureCode::InternalPlatformError);
        assert!(error.message.contains("lacks crun, netavark, e2fsprogs;"), "{error}");
    }
}
