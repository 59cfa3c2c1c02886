//! `hearth shell`

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use api::GetMicrovmInput;
use clap::Args;
use tokio::{
    io::AsyncWriteExt,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::Server,
    client::{Endpoint, Heard, Session},
    output::one_line,
    terminal,
};

/// What the server says when the shell has ended, and not the connection (spec 8).
const SHELL_EXITED: &str = "shell exited";

/// As root in the application's container. Needs a microVM that was run with the connector SHELL_INGRESS or ALL_INGRESS
/// (`hearth run --shell`). A suspended microVM wakes, if its idle policy lets it.
#[derive(Debug, Args)]
pub struct Shell {
    #[command(flatten)]
    server: Server,
    /// Id of the microVM, or its unique beginning
    microvm: String,
}

impl Shell {
    /// Shows it until it exits.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        let endpoint = Endpoint::open_shell(&client, &microvm).await?;
        let mut session = Session::open(&endpoint, "/shell").await?;
        let reason = {
            let _raw = terminal::Raw::enter()?;
            show(&mut session).await?
        };
        if reason != SHELL_EXITED {
            let reason = if reason.is_empty() { "the connection ended" } else { &reason };
            bail!("the shell of {id} is gone: {}", one_line(reason));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Moves keystrokes and output until the session is closed; the reason.
async fn show(session: &mut Session) -> Result<String> {
    let mut keys = terminal::keystrokes();
    let mut resized = signal(SignalKind::window_change()).context("follow the terminal's size")?;
    let mut out = tokio::io::stdout();
    resize(session).await?;
    loop {
        tokio::select! {
            heard = session.hear() => match heard? {
                Heard::Bytes(bytes) => {
                    out.write_all(&bytes).await.context("write")?;
                    out.flush().await.context("write")?;
                }
                Heard::Text => {} // session_init
                Heard::Closed(reason) => return Ok(reason),
            },
            Some(typed) = keys.recv() => session.send(typed).await?,
            Some(()) = resized.recv() => resize(session).await?,
        }
    }
}

async fn resize(session: &mut Session) -> Result<()> {
    match terminal::size() {
        Some((cols, rows)) => session.send_text(format!(r#"{{"type":"resize","cols":{cols},"rows":{rows}}}"#)).await,
        None => Ok(()),
    }
}
