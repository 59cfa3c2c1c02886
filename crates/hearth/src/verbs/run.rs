//! `hearth run`

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use api::{IdlePolicy, ImageVersion, ManagedConnector, Microvm, MicrovmState, RunMicrovmInput, Sensitive};
use clap::Args;

use crate::{
    cli::Server,
    client::{Client, POLL, wait_for},
};

/// Waits until it is RUNNING, and prints its id and endpoint.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    server: Server,
    /// Name or ARN of the image
    image: String,
    /// Version of the image [default: the latest active one]
    #[arg(long, value_name = "VERSION")]
    image_version: Option<ImageVersion>,
    /// Suspend it after so many seconds without traffic, 60 to 28800 (or what limits.microvm_seconds of the server says) [default: never]
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u32>,
    /// Terminate it after so many seconds suspended
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "idle")]
    suspended: u32,
    /// Do not let a request wake it
    #[arg(long, requires = "idle")]
    no_auto_resume: bool,
    /// Terminate it after so many seconds in all, 1 to 28800 (or what limits.microvm_seconds of the server says) [default: the most]
    #[arg(long, value_name = "SECONDS")]
    maximum_duration: Option<u32>,
    /// Body of the /run hook, or @FILE with it
    #[arg(long, value_name = "TEXT|@FILE")]
    payload: Option<String>,
    /// Let a shell, programs and files in beside application traffic: connectors HTTP_INGRESS and SHELL_INGRESS
    #[arg(long)]
    shell: bool,
    /// Do not wait until it is RUNNING
    #[arg(long)]
    no_wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
    /// Print the microVM as the API shows it
    #[arg(long)]
    json: bool,
}

impl Run {
    /// Starts it.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let input = self.input(&client)?;
        let mut microvm = client.call(&input).await?;
        if !self.no_wait {
            let limit = Duration::from_secs(self.wait);
            microvm = wait_for(&client, microvm.microvm_id, &[MicrovmState::Running], POLL, limit).await?;
        }
        print!("{}", if self.json { json(&microvm)? } else { text(&microvm) });
        Ok(ExitCode::SUCCESS)
    }

    fn input(&self, client: &Client) -> Result<RunMicrovmInput> {
        Ok(RunMicrovmInput {
            image_identifier: client.image(&self.image)?,
            image_version: self.image_version,
            execution_role_arn: None,
            ingress_network_connectors: self.shell.then(|| {
                [ManagedConnector::HttpIngress, ManagedConnector::ShellIngress]
                    .map(|one| one.arn(client.region()))
                    .into()
            }),
            egress_network_connectors: None,
            idle_policy: self.idle.map(|seconds| IdlePolicy {
                max_idle_duration_seconds: seconds,
                suspended_duration_seconds: self.suspended,
                auto_resume_enabled: !self.no_auto_resume,
            }),
            logging: None,
            run_hook_payload: self.payload.as_deref().map(payload).transpose()?,
            maximum_duration_in_seconds: self.maximum_duration,
            client_token: Some(uuid::Uuid::new_v4().to_string()),
        })
    }
}

fn payload(text: &str) -> Result<Sensitive<String>> {
    let Some(path) = text.strip_prefix('@') else { return Ok(Sensitive::new(text.to_owned())) };
    let text = std::fs::read_to_string(path).with_context(|| format!("read the payload from {path}"))?;
    Ok(Sensitive::new(text))
}

fn json(microvm: &Microvm) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(microvm).context("write JSON")?))
}

fn text(microvm: &Microvm) -> String {
    let id = microvm.microvm_id;
    let Microvm { state, endpoint, .. } = microvm;
    format!("{id}\nstate     {state}\nendpoint  {endpoint}\ntry       hearth curl {id} /\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_as_text_or_from_a_file() {
        assert_eq!(payload("{}").unwrap().expose(), "{}");
        assert!(payload("@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }
}
