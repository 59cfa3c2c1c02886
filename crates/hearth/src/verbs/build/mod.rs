//! `hearth build`

mod archive;

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use api::{
    CodeArtifact, CreateMicrovmImageInput, GetMicrovmImageInput, GetMicrovmImageVersionInput, HookState, Hooks,
    ImageConfiguration, ImageVersionState, ListManagedMicrovmImagesInput, ListMicrovmImageBuildsInput, MicrovmHooks,
    MicrovmImageHooks, Resources, Sensitive, UpdateMicrovmImageInput,
};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::StatusCode;
use sha2::{Digest, Sha256};

use super::logs::{follow_build, group};
use crate::{
    cli::Server,
    client::{Client, Refusal, Signed, log::Source},
    output::printable,
};

/// Zips the directory, uploads it to the server's store, creates the image, or a new version of it when there is one, and shows
/// the build's log until it ends.
#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    server: Server,
    /// A directory with a Dockerfile at its root, or a zip of one
    source: PathBuf,
    /// Name of the image
    #[arg(long)]
    name: api::ImageName,
    /// Memory in MiB: 512, 1024, 2048, 4096 or 8192 [default: 2048]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// An environment variable of the application; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Hooks that the application answers
    #[arg(long, value_delimiter = ',', value_name = "HOOK,...", requires = "hooks_port")]
    hooks: Vec<Hook>,
    /// Port that it answers them on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    hooks_port: Option<u16>,
}

/// The hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Hook {
    /// Once the application can be snapshotted.
    Ready,
    /// On a copy of the snapshot.
    Validate,
    /// At the start of a microVM.
    Run,
    /// After each wake.
    Resume,
    /// Before each sleep.
    Suspend,
    /// Before the end.
    Terminate,
}

impl Build {
    /// Exits with 1 when the build fails.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let zip = archive::read(&self.source)?;
        let bucket = format!("hearth-artifacts-{}", client.account());
        // Named by its content: an earlier version's build that begins again still finds its own.
        let key = format!("{}/{}.zip", self.name, hex(&Sha256::digest(&zip)[..16]));
        upload(&client, &bucket, &key, zip).await?;
        let start = Instant::now();
        let build = self.begin(&client, &bucket, &key).await?;
        let source = Source { group: group(self.name.as_str()), prefix: format!("build/{}/", build.image_version) };
        let mut show = |line: &crate::client::log::Line| {
            writeln!(std::io::stdout(), "{}", printable(&line.message)).context("write")
        };
        let state = follow_build(&client, &build, &source, &mut show).await?;
        self.conclude(&client, build, state, start.elapsed()).await
    }

    /// Creates the image, or updates the one that there is.
    async fn begin(&self, client: &Client, bucket: &str, key: &str) -> Result<GetMicrovmImageVersionInput> {
        let configuration = self.configuration(client, bucket, key).await?;
        let client_token = Some(uuid::Uuid::new_v4().to_string());
        let image_identifier = client.image(self.name.as_str())?;
        let there = client.call(&GetMicrovmImageInput { image_identifier: image_identifier.clone() }).await;
        let absent = there.as_ref().err().and_then(|error| error.downcast_ref::<Refusal>());
        let image_version = if absent.is_some_and(|refusal| refusal.status == StatusCode::NOT_FOUND) {
            let name = self.name.clone();
            let input =
                CreateMicrovmImageInput { name, configuration, base_image_version: None, tags: None, client_token };
            client.call(&input).await?.image_version
        } else {
            there?;
            let image_identifier = image_identifier.clone();
            let input =
                UpdateMicrovmImageInput { image_identifier, configuration, base_image_version: None, client_token };
            client.call(&input).await?.image_version
        };
        Ok(GetMicrovmImageVersionInput { image_identifier, image_version })
    }

    async fn configuration(&self, client: &Client, bucket: &str, key: &str) -> Result<ImageConfiguration> {
        let managed = client.call(&ListManagedMicrovmImagesInput::default()).await?;
        let base = managed.items.into_iter().next().context("the server has no managed image")?;
        let environment = self.environment.iter().cloned().map(|(name, value)| (name, Sensitive::new(value))).collect();
        Ok(ImageConfiguration {
            description: None,
            base_image_arn: base.image_arn,
            build_role_arn: format!("arn:aws:iam::{}:role/hearth-build", client.account()).parse()?,
            code_artifact: CodeArtifact::Uri(format!("s3://{bucket}/{key}").parse()?),
            logging: None,
            egress_network_connectors: None,
            cpu_configurations: None,
            resources: self.memory.map(|mib| vec![Resources { minimum_memory_in_mib: mib }]),
            additional_os_capabilities: None,
            hooks: hooks(&self.hooks, self.hooks_port),
            environment_variables: (!self.environment.is_empty()).then_some(environment),
        })
    }

    async fn conclude(
        &self,
        client: &Client,
        build: GetMicrovmImageVersionInput,
        state: ImageVersionState,
        elapsed: Duration,
    ) -> Result<ExitCode> {
        let (name, version, seconds) = (&self.name, build.image_version, elapsed.as_secs_f64());
        if state == ImageVersionState::Successful {
            println!("{name} {version} is ready after {seconds:.1} s; start one with `hearth run {name}`");
            return Ok(ExitCode::SUCCESS);
        }
        let input = ListMicrovmImageBuildsInput {
            image_identifier: build.image_identifier,
            image_version: version,
            max_results: None,
            next_token: None,
            architecture: None,
            chipset: None,
            chipset_generation: None,
        };
        let builds = client.call(&input).await?;
        let reason = builds.items.into_iter().find_map(|build| build.state_reason);
        bail!("{name} {version} is {state} after {seconds:.1} s: {}", reason.as_deref().unwrap_or("no reason given"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn upload(client: &Client, bucket: &str, key: &str, zip: Vec<u8>) -> Result<()> {
    let put = |path: String, body: Bytes| async move {
        let signed = Signed { service: "s3", method: "PUT", path: &path, query: "" };
        client.send(signed, body).await?.success().await
    };
    if let Err(error) = put(format!("/{bucket}"), Bytes::new()).await {
        // There since the last build.
        let there = error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::CONFLICT);
        if !there {
            return Err(error.context(format!("create the bucket {bucket}")));
        }
    }
    put(format!("/{bucket}/{key}"), zip.into()).await.with_context(|| format!("upload s3://{bucket}/{key}"))?;
    Ok(())
}

/// Nothing when no hook is named.
fn hooks(named: &[Hook], port: Option<u16>) -> Option<Hooks> {
    if named.is_empty() {
        return None;
    }
    let state = |hook| Some(if named.contains(&hook) { HookState::Enabled } else { HookState::Disabled });
    Some(Hooks {
        port,
        microvm_hooks: Some(MicrovmHooks {
            run: state(Hook::Run),
            resume: state(Hook::Resume),
            suspend: state(Hook::Suspend),
            terminate: state(Hook::Terminate),
            ..MicrovmHooks::default()
        }),
        microvm_image_hooks: Some(MicrovmImageHooks {
            ready: state(Hook::Ready),
            validate: state(Hook::Validate),
            ..MicrovmImageHooks::default()
        }),
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no equals sign; write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_as_named() {
        assert_eq!(hooks(&[], Some(9000)), None);
        let hooks = hooks(&[Hook::Ready, Hook::Suspend], Some(9000)).unwrap();
        assert!(hooks.ready() && hooks.suspend());
        assert!(!hooks.validate() && !hooks.run() && !hooks.resume() && !hooks.terminate());
        assert_eq!(hooks.port, Some(9000));
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(variable("A").is_err());
    }
}
