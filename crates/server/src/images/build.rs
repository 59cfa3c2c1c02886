//! The life of a build (spec 4.1): fetch, Dockerfile, boot, `/ready`, snapshot, `/validate`, publish. Each step writes to
//! the build's log as it happens; a build that fails, or whose server is killed, leaves nothing behind but its log.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{ImageArn, ImageVersionStatus, SnapshotBuild, Timestamp};
use engine::{BootSpec, EngineError, Hardware, Machine, RestoreSpec, SEALED};
use image::{BuildLog, BuildRequest, Built, FailureCode};
use lifecycle::images::{Input, Progress};
use uuid::Uuid;

use super::{
    Images,
    failure::{Failure, build_hook_reason},
};
use crate::{
    edge::s3::S3Lookup,
    hooks::{self, Hook, Target},
    logs::{Stream, group_of},
    microvms::guest::{Guest, GuestError, identity},
    shared::{Boot, now, remove_dir},
    store::{ImageEvent, ImageRecord, StoreError, VersionRecord},
};

/// Without a `/ready` hook, how long an application has to open one of its EXPOSEd ports before it is frozen anyway.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two looks whether a port is open: there is no event for it.
const LOOK: Duration = Duration::from_millis(50);
/// Without a `/ready` hook and without ports, an application that still runs after this is taken to have started.
const ALIVE: Duration = Duration::from_secs(1);

/// The log of one build.
#[derive(Clone)]
struct Log(Option<Arc<Stream>>);

impl BuildLog for Log {
    fn line(&self, text: &str) {
        if let Some(stream) = &self.0
            && let Err(error) = stream.append(now(), text)
        {
            tracing::error!(%error, "a line of a build log cannot be written");
        }
    }
}

/// What a build knows all the way.
struct Job<'a> {
    images: &'a Images,
    image: &'a ImageRecord,
    version: &'a VersionRecord,
    log: Log,
    image_dir: PathBuf,
    work_dir: PathBuf,
}

impl Images {
    /// Builds the newest version of an image and publishes the outcome.
    pub(super) async fn build(self: Arc<Self>, arn: ImageArn) {
        let turn = tokio::select! {
            turn = self.shared.builds.acquire() => turn,
            () = self.stop.cancelled() => return,
        };
        let Ok(_turn) = turn else { return };
        if let Err(error) = self.build_newest(&arn).await {
            tracing::error!(image = %arn, %error, "a build's state could not be stored; the next start begins it again");
        }
    }

    async fn build_newest(&self, arn: &ImageArn) -> Result<(), StoreError> {
        let Some((image, version)) = self.begin(arn).await? else { return Ok(()) };
        let name = format!("build/{}/{}", version.version, version.build.id);
        let group = group_of(arn.name(), version.configuration.logging.as_ref());
        let stream = group.and_then(|group| self.shared.logs.stream(arn.account(), &group, &name).ok());
        let job = Job {
            images: self,
            image: &image,
            version: &version,
            log: Log(stream),
            image_dir: self.shared.image_dir(image.id).join(version.version.to_string()),
            work_dir: self.shared.build_dir(version.build.id),
        };
        let outcome = job.run().await;
        crash::point("build: steps done");
        let outcome = job.clean_up(outcome).await;
        crash::point("build: cleaned up");
        if outcome.as_ref().is_err_and(|failure| failure.stopped) {
            return Ok(());
        }
        self.publish(arn, outcome).await
    }

    /// The newest version, from now on in progress.
    async fn begin(&self, arn: &ImageArn) -> Result<Option<(ImageRecord, VersionRecord)>, StoreError> {
        let _writer = self.writer.lock().await;
        let store = &self.shared.store;
        let Some(image) = store.image(arn).await? else { return Ok(None) };
        let Some(mut version) = store.version(image.id, image.newest).await? else { return Ok(None) };
        version.build.progress = Progress::InProgress;
        version.updated_at = Timestamp::from_millis(now());
        store.update_image(&image, &version, ImageEvent::BuildBegan).await?;
        Ok(Some((image, version)))
    }

    async fn publish(&self, arn: &ImageArn, outcome: Result<Sealed, Failure>) -> Result<(), StoreError> {
        let _writer = self.writer.lock().await;
        let store = &self.shared.store;
        let Some(mut image) = store.image(arn).await? else { return Ok(()) };
        let Some(mut version) = store.version(image.id, image.newest).await? else { return Ok(()) };
        let (input, event) = match outcome {
            Ok(sealed) => {
                version.build.progress = Progress::Successful;
                version.build.snapshot = Some(sealed.snapshot);
                version.status = ImageVersionStatus::Active;
                version.events = sealed.events;
                image.latest_active = Some(version.version);
                (Input::BuildSucceeded, ImageEvent::BuildSucceeded)
            }
            Err(failure) => {
                version.build.progress = Progress::Failed;
                version.build.reason = Some(failure.reason);
                version.build.snapshot = failure.snapshot;
                image.latest_failed = Some(version.version);
                (Input::BuildFailed, ImageEvent::BuildFailed)
            }
        };
        let Ok(state) = image.state.step(input) else { return Ok(()) };
        image.state = state;
        version.updated_at = Timestamp::from_millis(now());
        image.updated_at = version.updated_at;
        store.update_image(&image, &version, event).await?;
        tracing::info!(image = %arn, version = %version.version, state = %image.state(), "build ended");
        Ok(())
    }
}

/// What a successful build made.
struct Sealed {
    snapshot: SnapshotBuild,
    events: u64,
}

impl Job<'_> {
    async fn run(&self) -> Result<Sealed, Failure> {
        self.clear().await?;
        crash::point("build: cleared");
        tokio::fs::create_dir_all(&self.image_dir).await.map_err(|e| EngineError::io("create", &self.image_dir, e))?;
        tokio::fs::create_dir_all(&self.work_dir).await.map_err(|e| EngineError::io("create", &self.work_dir, e))?;
        crash::point("build: directories made");
        let artifact = self.fetch().await?;
        crash::point("build: artifact fetched");
        let built = self.dockerfile(artifact).await?;
        crash::point("build: root disk written");
        let mut sealed = self.snapshot(&built).await.map_err(|mut failure| {
            failure.snapshot =
                Some(SnapshotBuild { code_install_size_in_bytes: Some(built.code_bytes), ..SnapshotBuild::default() });
            failure.or_disk_full(&self.image_dir)
        })?;
        sealed.snapshot.code_install_size_in_bytes = Some(built.code_bytes);
        self.validate(sealed.events).await.map_err(|failure| failure.or_disk_full(&self.image_dir))?;
        self.log.line(&format!("[hearth] version {} is ready", self.version.version));
        Ok(sealed)
    }

    /// Ends what an interrupted build has left, so that this one starts from nothing.
    async fn clear(&self) -> Result<(), Failure> {
        for name in [BUILDER, VALIDATOR] {
            self.images.shared.engine.reclaim(&self.machine_dir(name)).await?;
        }
        crash::point("clear: machines ended");
        for dir in [&self.work_dir, &self.image_dir] {
            remove_dir(dir.clone()).await.map_err(|e| EngineError::io("clear", dir, e))?;
        }
        Ok(())
    }

    async fn clean_up(&self, outcome: Result<Sealed, Failure>) -> Result<Sealed, Failure> {
        if let Err(failure) = &outcome {
            self.log.line(&format!("[hearth] build failed: {}", failure.reason));
            // A builder that was dropped is at work in there until the process ends; it goes when the build begins again.
            if !failure.stopped
                && let Err(failure) = self.clear().await
            {
                tracing::error!(reason = failure.reason, "what is left of a failed build cannot be removed");
            }
        } else if let Err(error) = remove_dir(self.work_dir.clone()).await {
            tracing::error!(%error, "the working directory of a build cannot be removed");
        }
        outcome
    }

    /// Work that may be dropped half-way when the server ends.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            outcome = work => outcome,
            () = self.images.stop.cancelled() => {
                Err(Failure { stopped: true, ..Failure::new("the server was stopped; its next start begins again") })
            }
        }
    }

    /// A machine's directory is named after its build, for names on the host must be unique.
    fn machine_dir(&self, role: &str) -> PathBuf {
        self.work_dir.join(format!("{role}-{}", self.version.build.id))
    }

    async fn fetch(&self) -> Result<PathBuf, Failure> {
        let uri = self.version.configuration.code_artifact.s3();
        self.log.line(&format!("[hearth] fetching {uri}"));
        let artifact = self.work_dir.join("artifact.zip");
        let account = &self.image.account;
        match self.images.shared.s3.fetch(account, uri.bucket(), uri.key(), &artifact).await {
            Ok(bytes) => {
                self.log.line(&format!("[hearth] {bytes} bytes"));
                Ok(artifact)
            }
            Err(S3Lookup::Io { path, source, .. }) => {
                Err(EngineError::io("fetch the artifact into", &path, source).into())
            }
            Err(absent) => {
                let code = match absent {
                    S3Lookup::NoSuchBucket(_) => FailureCode::S3NoSuchBucket,
                    _ => FailureCode::S3NoSuchKey,
                };
                Err(Failure::coded(code, absent))
            }
        }
    }

    async fn dockerfile(&self, artifact: PathBuf) -> Result<Built, Failure> {
        let configuration = &self.version.configuration;
        let variables = configuration.environment_variables.iter().flatten();
        let mut env: Vec<(String, String)> =
            variables.map(|(name, value)| (name.clone(), value.expose().clone())).collect();
        let arn = &self.image.arn;
        env.extend([
            ("AWS_LAMBDA_MICROVM_IMAGE_NAME".into(), arn.name().to_string()),
            ("AWS_LAMBDA_MICROVM_IMAGE_ARN".into(), arn.to_string()),
            ("AWS_LAMBDA_MICROVM_IMAGE_VERSION".into(), self.version.version.to_string()),
            ("AWS_REGION".into(), arn.region().to_string()),
        ]);
        let request = BuildRequest {
            artifact,
            work_dir: self.work_dir.join("dockerfile"),
            image_dir: self.image_dir.clone(),
            disk_mib: disk_mib(configuration.memory_mib()),
            env,
            additional_capabilities_all: configuration
                .additional_os_capabilities
                .as_ref()
                .is_some_and(|l| !l.is_empty()),
        };
        let build = self.images.shared.builder.build(&request, &self.log);
        self.unless_stopped(async { Ok(build.await) }).await?.map_err(|error| {
            self.log.line(&format!("[hearth] {}", error.message));
            let sentence = match error.code {
                FailureCode::ContainerBuildFailed => "The container image build failed.",
                _ => error.message.as_str(),
            };
            Failure::coded(error.code, sentence)
        })
    }

    async fn snapshot(&self, built: &Built) -> Result<Sealed, Failure> {
        let shared = &self.images.shared;
        let none = || Boot { kernel: PathBuf::new(), initrd: PathBuf::new() };
        let Boot { kernel, initrd } = shared.boot.clone().unwrap_or_else(none);
        let hardware = hardware(self.version.configuration.memory_mib(), shared.config.file.guest.memory_burst);
        self.log.line(&format!(
            "[hearth] booting: {} MiB, {} disk MiB",
            hardware.memory_mib,
            disk_mib(self.version.configuration.memory_mib())
        ));
        let started = std::time::Instant::now();
        let machine_dir = self.machine_dir(BUILDER);
        let spec = BootSpec { image_dir: self.image_dir.clone(), machine_dir, hardware, kernel, initrd };
        let machine = shared.engine.boot(spec).await?;
        crash::point("build: machine boots");
        let sealed = self.unless_stopped(self.freeze(machine.as_ref(), built)).await;
        machine.kill().await?;
        crash::point("build: machine ended");
        let sealed = sealed?;
        self.log
            .line(&format!("[hearth] snapshot taken {:.1} s after the boot began", started.elapsed().as_secs_f64()));
        Ok(sealed)
    }

    async fn freeze(&self, machine: &dyn Machine, built: &Built) -> Result<Sealed, Failure> {
        let boot_bound = Duration::from_secs(self.images.shared.config.file.build.boot_seconds);
        let agent = tokio::select! {
            agent = Guest::connect(machine, boot_bound) => agent?,
            _ = machine.wait() => {
                return Err(Failure::coded(FailureCode::InternalPlatformError, "the guest ended while it was booting"));
            }
        };
        let uuid = Uuid::new_v4();
        agent.renew(identity("localhost", uuid)?).await?;
        let log = self.log.clone();
        let guest = Guest::follow(agent, 0, move |_, line| log.line(line)).await?;
        self.log.line(&format!("[hearth] starting {:?}", built.container.argv));
        let container = wire::Container { hostname: "localhost".into(), ..built.container.clone() };
        guest.agent.start(container).await?;
        crash::point("build: container started");
        tokio::select! {
            ready = self.ready(&guest, built) => ready?,
            exit = guest.exited() => return Err(Failure::exited(exit)),
            _ = machine.wait() => return Err(Failure::coded(FailureCode::InternalPlatformError, "the guest ended")),
        }
        guest.agent.quiesce().await?;
        let events = guest.release().await;
        crash::point("build: guest released");
        machine.pause().await?;
        crash::point("build: machine paused");
        let saved = machine.save(&self.image_dir.join(SEALED)).await?;
        crash::point("build: sealed");
        let snapshot = SnapshotBuild {
            memory_snapshot_size_in_bytes: Some(saved.memory_bytes),
            disk_snapshot_size_in_bytes: Some(saved.disk_bytes),
            code_install_size_in_bytes: None,
        };
        Ok(Sealed { snapshot, events })
    }

    /// Waits until the application may be frozen.
    async fn ready(&self, guest: &Guest, built: &Built) -> Result<(), Failure> {
        let hooks = self.version.configuration.hooks.unwrap_or_default();
        let (true, Some(port)) = (hooks.ready(), hooks.port) else { return self.settled(guest, built).await };
        let asked = hooks.microvm_image_hooks.and_then(|hooks| hooks.ready_timeout_in_seconds);
        let seconds = asked.unwrap_or(self.images.shared.config.file.hooks.ready_seconds);
        self.log.line(&format!("[hearth] waiting for /ready on port {port}, at most {seconds} s"));
        hooks::poll(Target { agent: &guest.agent, port }, Hook::Ready, Duration::from_secs(seconds.into()))
            .await
            .map_err(|error| Failure::new(build_hook_reason(Hook::Ready, &error)))
    }

    /// No `/ready` hook: frozen as soon as an EXPOSEd port is open, or after a while.
    async fn settled(&self, guest: &Guest, built: &Built) -> Result<(), Failure> {
        if built.exposed_ports.is_empty() {
            tokio::time::sleep(ALIVE).await;
            return Ok(());
        }
        let open = async {
            loop {
                for &port in &built.exposed_ports {
                    if guest.agent.dial(port).await.is_ok() {
                        return;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(SETTLE, open).await.is_err() {
            self.log.line("[hearth] no /ready hook, and no EXPOSEd port was opened; taking the snapshot as it is");
        }
        Ok(())
    }

    /// `/validate` on a copy that is thrown away.
    async fn validate(&self, events: u64) -> Result<(), Failure> {
        let hooks = self.version.configuration.hooks.unwrap_or_default();
        let (true, Some(port)) = (hooks.validate(), hooks.port) else { return Ok(()) };
        let asked = hooks.microvm_image_hooks.and_then(|hooks| hooks.validate_timeout_in_seconds);
        let seconds = asked.unwrap_or(self.images.shared.config.file.hooks.validate_seconds);
        self.log.line(&format!("[hearth] /validate on a copy, at most {seconds} s"));
        let machine_dir = self.machine_dir(VALIDATOR);
        let spec = RestoreSpec { image_dir: self.image_dir.clone(), machine_dir, saved_dir: None };
        let machine = self.images.shared.engine.restore(spec).await?;
        crash::point("validate: copy restored");
        let within = Duration::from_secs(seconds.into());
        let outcome = self.unless_stopped(self.validate_copy(machine.as_ref(), events, port, within)).await;
        machine.kill().await?;
        crash::point("validate: copy ended");
        outcome
    }

    async fn validate_copy(
        &self,
        machine: &dyn Machine,
        events: u64,
        port: u16,
        within: Duration,
    ) -> Result<(), Failure> {
        machine.resume().await.map_err(GuestError::from)?;
        let agent = Guest::connect(machine, crate::microvms::guest::ANSWER_WITHIN).await?;
        agent.renew(identity("localhost", Uuid::new_v4())?).await?;
        let log = self.log.clone();
        let guest = Guest::follow(agent, events, move |_, line| log.line(line)).await?;
        let validated = tokio::select! {
            outcome = hooks::poll(Target { agent: &guest.agent, port }, Hook::Validate, within) => {
                outcome.map_err(|error| Failure::new(build_hook_reason(Hook::Validate, &error)))
            }
            exit = guest.exited() => Err(Failure::exited(exit)),
            _ = machine.wait() => Err(Failure::coded(FailureCode::InternalPlatformError, "the guest ended")),
        };
        guest.release().await;
        validated
    }
}

/// Role of the machine that is booted and frozen.
const BUILDER: &str = "builder";
/// Role of the copy that `/validate` is called on.
const VALIDATOR: &str = "validator";

/// What a machine of that size is made of (spec 10.1).
fn hardware(memory_mib: u32, burst: u32) -> Hardware {
    let peak = (memory_mib / 512).clamp(1, 16) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Hardware { memory_mib: memory_mib * burst, vcpus: peak.min(cores) as u8 }
}

/// The root disk of that size (spec 10.1): 8, 16 or 32 GB.
fn disk_mib(memory_mib: u32) -> u64 {
    u64::from(memory_mib.max(2048)) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_service() {
        assert_eq!([512, 1024, 2048, 4096, 8192].map(disk_mib), [8192, 8192, 8192, 16384, 32768]);
        assert_eq!(hardware(2048, 4).memory_mib, 8192);
        assert!(hardware(8192, 1).vcpus >= 1);
    }
}
