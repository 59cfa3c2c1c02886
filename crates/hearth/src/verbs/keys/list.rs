//! `hearth keys list`

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    cli::Server,
    client::AccessKey,
    output::{Table, age},
};

/// Root of the configured account sees all keys, a user those of its account.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    server: Server,
    /// Print the keys as JSON, with their policies
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self) -> Result<()> {
        let keys = self.server.client().await?.keys().await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&keys).context("write JSON")?);
        } else {
            print!("{}", table(&keys, jiff::Timestamp::now().as_millisecond()));
        }
        Ok(())
    }
}

fn table(keys: &[AccessKey], now: i64) -> String {
    let mut table = Table::new(&["KEY", "ACCOUNT", "USER", "STATUS", "POLICY", "AGE"]);
    for key in keys {
        let policy = match &key.policy {
            Some(_) => "yes",
            None if key.user == "root" => "everything",
            None => "none",
        };
        table.row([
            key.access_key_id.clone(),
            key.account.clone(),
            key.user.clone(),
            key.status.clone(),
            policy.to_owned(),
            age(key.created_at.as_millis(), now),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let key = |user: &str, policy: serde_json::Value| -> AccessKey {
            serde_json::from_value(serde_json::json!({"accessKeyId": "AKIA", "account": "000000000000", "user": user,
                "arn": "a", "status": "Active", "createdAt": 0.0, "policy": policy}))
            .unwrap()
        };
        let keys = [key("root", ().into()), key("ci", serde_json::json!({})), key("new", ().into())];
        let expected = "\
KEY   ACCOUNT       USER  STATUS  POLICY      AGE
AKIA  000000000000  root  Active  everything  5s
AKIA  000000000000  ci    Active  yes         5s
AKIA  000000000000  new   Active  none        5s
";
        assert_eq!(table(&keys, 5000), expected);
    }
}
