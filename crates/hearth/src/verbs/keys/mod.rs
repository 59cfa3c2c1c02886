//! `hearth keys`: one of its verbs, one file.

mod create;
mod delete;
mod disable;
mod enable;
mod list;
mod policy;
mod rotate;

use std::{io::Read, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use api::Sensitive;
use clap::{Args, Subcommand};

use crate::{client::AccessKey, output::quote};

/// Longest policy that is read, bytes; the server's bound is below.
const POLICY_MAX: u64 = 1 << 20;

/// Whoever has a key calls the API as its user. A user may do what its policy allows; root everything in its account.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key, and its user if there is none
    Create(create::Create),
    /// List the keys, without their secrets
    List(list::List),
    /// Refuse a key from now on, and the session tokens issued with it
    Disable(disable::Disable),
    /// Let a disabled key be used again
    Enable(enable::Enable),
    /// Make a new key for the user of an old one, and disable the old one
    Rotate(rotate::Rotate),
    /// Forget a key
    Delete(delete::Delete),
    /// Give the user of a key another policy
    Policy(policy::Policy),
}

impl Keys {
    /// Does it.
    pub async fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Create(verb) => verb.run().await?,
            Verb::List(verb) => verb.run().await?,
            Verb::Disable(verb) => verb.run().await?,
            Verb::Enable(verb) => verb.run().await?,
            Verb::Rotate(verb) => verb.run().await?,
            Verb::Delete(verb) => verb.run().await?,
            Verb::Policy(verb) => verb.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The text of a policy document; `-` is standard input. The server reads it.
fn document(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(POLICY_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(POLICY_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("read the policy {}", file.display()))?;
    Ok(text)
}

/// Prints a new key: as exports for a shell, or as JSON.
fn show_new(key: &AccessKey, json: bool) -> Result<()> {
    let Some(secret) = &key.secret_access_key else {
        bail!("the server did not tell the secret of {}", key.access_key_id)
    };
    if json {
        println!("{}", serde_json::to_string_pretty(key).context("write JSON")?);
    } else {
        print!("{}", exports(key, secret));
        eprintln!("the secret is shown this once; {} is {}", key.access_key_id, key.arn);
    }
    Ok(())
}

fn exports(key: &AccessKey, secret: &Sensitive<String>) -> String {
    let (id, secret) = (quote(&key.access_key_id), quote(secret.expose()));
    format!("export AWS_ACCESS_KEY_ID={id}\nexport AWS_SECRET_ACCESS_KEY={secret}\nunset AWS_SESSION_TOKEN\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_can_evaluate_a_new_key() {
        let json = serde_json::json!({"accessKeyId": "AKIA", "account": "0", "user": "u", "arn": "a", "status": "Active",
            "createdAt": 1.0, "policy": null, "secretAccessKey": "a+/b"});
        let key: AccessKey = serde_json::from_value(json).unwrap();
        let text = exports(&key, key.secret_access_key.as_ref().unwrap());
        assert_eq!(text, "export AWS_ACCESS_KEY_ID=AKIA\nexport AWS_SECRET_ACCESS_KEY=a+/b\nunset AWS_SESSION_TOKEN\n");
        assert!(!format!("{key:?}").contains("a+/b"));
    }

    #[test]
    fn policies_are_read_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(document(&path).unwrap(), "{}");
        let missing = dir.path().join("none");
        assert!(format!("{:#}", document(&missing).unwrap_err()).contains("none"));
    }
}
