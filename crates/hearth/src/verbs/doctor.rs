//! `hearth doctor`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use host::doctor::{self, Check};

use crate::{
    cli::Server,
    output::{one_line, printable},
};

/// Exits with 1 when something is lacking.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    server: Server,
    /// Install the Debian packages that are missing (as root)
    #[arg(long)]
    fix: bool,
}

impl Doctor {
    /// Looks, mends when asked to, and looks again.
    pub async fn run(self) -> Result<ExitCode> {
        if self.fix {
            doctor::fix(&self.server.data_dir, &|line| eprintln!("{}", printable(line))).await?;
        }
        let checks = doctor::check(&self.server.data_dir);
        print!("{}", report(&checks));
        Ok(if checks.iter().all(|check| check.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn report(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = if check.ok { "ok  " } else { "LACK" };
        text.push_str(&format!("{mark}  {:width$}  {}\n", check.name, one_line(&check.detail)));
        if !check.hint.is_empty() {
            text.push_str(&format!("      {:width$}  -> {}\n", "", one_line(&check.hint)));
        }
    }
    let lacking = checks.iter().filter(|check| !check.ok).count();
    text.push_str(&match lacking {
        0 => "this host has all that hearth needs\n".to_owned(),
        1 => "1 thing is lacking\n".to_owned(),
        more => format!("{more} things are lacking\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_below_what_they_mend() {
        let check =
            |name: &str, ok, hint: &str| Check { name: name.into(), ok, detail: "found".into(), hint: hint.into() };
        let expected = "\
ok    tar         found
LACK  mmdebstrap  found
                  -> install it
1 thing is lacking
";
        assert_eq!(report(&[check("tar", true, ""), check("mmdebstrap", false, "install it")]), expected);
        assert!(report(&[check("tar", true, "")]).ends_with("all that hearth needs\n"));
    }
}
