//! `hearth shell`

use std::{io::IsTerminal, process::ExitCode};

use anyhow::{Context, Result, bail};
use api::GetMicrovmInput;
use clap::Args;
use tokio::{
    io::AsyncWriteExt,
    signal::unix::{SignalKind, signal},
};

use super::exec::leave;
use crate::{
    cli::Server,
    client::{Ear, Endpoint, Heard, Mouth, Session},
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
        if !std::io::stdin().is_terminal() {
            // A shell reads on behind the end of a pipe: no byte that could be sent for it always means the end.
            bail!("standard input is no terminal; for commands from elsewhere: hearth exec -i {} -- sh", self.microvm);
        }
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        let endpoint = Endpoint::open_shell(&client, &microvm).await?;
        let mut session = Session::open(&endpoint, "/shell").await?;
        let ended = {
            let _raw = terminal::Raw::enter()?;
            show(&mut session).await?
        };
        let reason = match ended {
            Ended::Closed(reason) => reason,
            Ended::Interrupted(signal) => leave(signal),
        };
        if reason != SHELL_EXITED {
            let reason = if reason.is_empty() { "the connection ended" } else { &reason };
            bail!("the shell of {id} is gone: {}", one_line(reason));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How a shell's show ended.
enum Ended {
    /// The session was closed, with a reason.
    Closed(String),
    /// By a signal for us, or because the terminal is gone, which is as good as SIGHUP.
    Interrupted(u8),
}

/// Moves keystrokes and output until the session is closed, or we are to go.
async fn show(session: &mut Session) -> Result<Ended> {
    let (hangup, terminate) = (SignalKind::hangup(), SignalKind::terminate());
    let number = |kind: SignalKind| u8::try_from(kind.as_raw_value()).unwrap_or_default();
    let mut hung_up = signal(hangup).context("catch signals")?;
    let mut terminated = signal(terminate).context("catch signals")?;
    let (mouth, ear) = session.split();
    tokio::select! {
        _ = hung_up.recv() => Ok(Ended::Interrupted(number(hangup))),
        _ = terminated.recv() => Ok(Ended::Interrupted(number(terminate))),
        reason = display(ear) => reason.map(Ended::Closed),
        typed = send_keys(mouth) => typed.map(|()| Ended::Interrupted(number(hangup))),
    }
}

/// Shows what comes; the reason of the close.
async fn display(mut ear: Ear<'_>) -> Result<String> {
    let mut out = tokio::io::stdout();
    loop {
        match ear.hear().await? {
            Heard::Bytes(bytes) => {
                out.write_all(&bytes).await.context("write")?;
                out.flush().await.context("write")?;
            }
            Heard::Text => {} // session_init
            Heard::Closed(reason) => return Ok(reason),
        }
    }
}

/// Sends keystrokes and sizes until the terminal is gone.
async fn send_keys(mut mouth: Mouth<'_>) -> Result<()> {
    let mut keys = terminal::keystrokes();
    let mut resized = signal(SignalKind::window_change()).context("follow the terminal's size")?;
    resize(&mut mouth).await?;
    loop {
        tokio::select! {
            Some(()) = resized.recv() => resize(&mut mouth).await?,
            typed = keys.recv() => match typed {
                Some(typed) => mouth.send(typed).await?,
                None => return Ok(()),
            },
        }
    }
}

async fn resize(mouth: &mut Mouth<'_>) -> Result<()> {
    match terminal::size() {
        Some((cols, rows)) => mouth.send_text(format!(r#"{{"type":"resize","cols":{cols},"rows":{rows}}}"#)).await,
        None => Ok(()),
    }
}
