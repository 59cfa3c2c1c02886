//! `hearth open`

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use clap::Args;

use crate::cli::Server;

/// What opens addresses on a desktop.
const OPENER: &str = "xdg-open";

/// Prints a link that works once, within 60 seconds, and opens it in the desktop's browser if there is one. The browser then
/// has a cookie for that port of the microVM, until it expires, its tokens are revoked or another link is opened. Needs
/// endpoint.browser = true in the server's hearth.toml.
#[derive(Debug, Args)]
pub struct Open {
    #[command(flatten)]
    server: Server,
    /// Id of the microVM, or its unique beginning
    microvm: String,
    /// Port of the application
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Life of the cookie, 1 to 60 minutes (or what endpoint.token_minutes of the server says)
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Only print the link
    #[arg(long)]
    print: bool,
}

impl Open {
    /// Makes the link.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        let url = client.browser_link(id, self.port, self.minutes).await?;
        println!("{}", url.expose());
        let desktop = ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
        // Without a desktop it would be a text browser, which nobody sees, that uses the link up.
        if !self.print && desktop {
            open(url.expose());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Leaves the opener to itself: some stay as long as the browser does.
fn open(url: &str) {
    let mut command = Command::new(OPENER);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("note: {OPENER} cannot be started ({error}); open the link yourself");
        }
        _ => {}
    }
}
