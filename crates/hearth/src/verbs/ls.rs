//! `hearth ls`

use std::process::ExitCode;

use anyhow::{Context, Result};
use api::{ImageSummary, ImageVersion, MicrovmState, MicrovmSummary};
use clap::Args;

use crate::{
    cli::Server,
    output::{Table, age},
};

/// Terminated microVMs are left out unless asked for.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(flatten)]
    server: Server,
    /// Only microVMs of this image, by name or ARN
    image: Option<String>,
    /// List images instead
    #[arg(long, conflicts_with_all = ["image", "all"])]
    images: bool,
    /// List terminated microVMs too
    #[arg(long, short)]
    all: bool,
    /// Print the items as the API shows them
    #[arg(long)]
    json: bool,
}

impl Ls {
    /// Lists.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let now = jiff::Timestamp::now().as_millisecond();
        if self.images {
            let images = client.images().await?;
            print!("{}", if self.json { json(&images)? } else { image_table(&images, now) });
            return Ok(ExitCode::SUCCESS);
        }
        let image = self.image.as_deref().map(|image| client.image(image)).transpose()?;
        let mut microvms = client.microvms(image).await?;
        microvms.retain(|microvm| self.all || microvm.state != MicrovmState::Terminated);
        print!("{}", if self.json { json(&microvms)? } else { microvm_table(&microvms, now) });
        Ok(ExitCode::SUCCESS)
    }
}

fn json<T: serde::Serialize>(items: &[T]) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(items).context("write JSON")?))
}

fn microvm_table(microvms: &[MicrovmSummary], now: i64) -> String {
    let mut table = Table::new(&["MICROVM", "STATE", "IMAGE", "VERSION", "AGE"]);
    for microvm in microvms {
        table.row([
            microvm.microvm_id.to_string(),
            microvm.state.to_string(),
            microvm.image_arn.name().to_string(),
            microvm.image_version.to_string(),
            age(microvm.started_at.as_millis(), now),
        ]);
    }
    table.to_string()
}

fn image_table(images: &[ImageSummary], now: i64) -> String {
    let mut table = Table::new(&["IMAGE", "STATE", "ACTIVE", "FAILED", "AGE"]);
    let version = |version: Option<ImageVersion>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    for image in images {
        table.row([
            image.name.to_string(),
            image.state.to_string(),
            version(image.latest_active_image_version),
            version(image.latest_failed_image_version),
            age(image.created_at.as_millis(), now),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use api::{ImageState, MicrovmId, Timestamp};

    use super::*;

    #[test]
    fn tables() {
        let arn: api::ImageArn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello".parse().unwrap();
        let microvm = MicrovmSummary {
            microvm_id: MicrovmId::new(uuid::Uuid::nil()),
            state: MicrovmState::Running,
            image_arn: arn.clone(),
            image_version: ImageVersion::FIRST,
            started_at: Timestamp::from_millis(0),
        };
        let expected = "\
MICROVM                                       STATE    IMAGE  VERSION  AGE
microvm-00000000-0000-0000-0000-000000000000  RUNNING  hello  1.0      5s
";
        assert_eq!(microvm_table(std::slice::from_ref(&microvm), 5000), expected);
        assert!(json(&[microvm]).unwrap().contains("\"microvmId\": \"microvm-0"));
        let image = ImageSummary {
            name: arn.name().clone(),
            image_arn: arn,
            state: ImageState::Created,
            latest_active_image_version: Some(ImageVersion::FIRST),
            latest_failed_image_version: None,
            created_at: Timestamp::from_millis(0),
        };
        assert_eq!(
            image_table(&[image], 0),
            "IMAGE  STATE    ACTIVE  FAILED  AGE\nhello  CREATED  1.0     -       0s\n"
        );
    }
}
