//! From what people type to what the API takes: image names to ARNs, beginnings of ids to ids.

use anyhow::{Result, bail};
use api::{ImageArn, ImageSummary, ListMicrovmImagesInput, ListMicrovmsInput, MicrovmId, MicrovmState, MicrovmSummary};

use super::Client;

impl Client {
    /// The ARN of an image that is given by its ARN or by its name; whether it exists is not looked at.
    pub fn image(&self, text: &str) -> Result<ImageArn> {
        if text.starts_with("arn:") {
            return Ok(text.parse()?);
        }
        Ok(ImageArn::new(self.region().clone(), self.account().clone(), text.parse()?))
    }

    /// The microVM whose id, with or without `microvm-`, begins so. Those that live come before those that ended.
    ///
    /// # Errors
    /// None or several fit.
    pub async fn microvm(&self, text: &str) -> Result<MicrovmId> {
        match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => pick(text, &self.microvms(None).await?),
        }
    }

    /// Every microVM, of one image or of all, ended ones included.
    pub async fn microvms(&self, image: Option<ImageArn>) -> Result<Vec<MicrovmSummary>> {
        let mut input = ListMicrovmsInput { image_identifier: image, ..ListMicrovmsInput::default() };
        let mut all = Vec::new();
        loop {
            let page = self.call(&input).await?;
            all.extend(page.items);
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return Ok(all);
            }
        }
    }

    /// Every image.
    pub async fn images(&self) -> Result<Vec<ImageSummary>> {
        let mut input = ListMicrovmImagesInput::default();
        let mut all = Vec::new();
        loop {
            let page = self.call(&input).await?;
            all.extend(page.items);
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return Ok(all);
            }
        }
    }
}

fn pick(text: &str, all: &[MicrovmSummary]) -> Result<MicrovmId> {
    let wanted = text.strip_prefix(MicrovmId::PREFIX).unwrap_or(text);
    let fits = |microvm: &&MicrovmSummary| microvm.microvm_id.uuid().to_string().starts_with(wanted);
    let fitting: Vec<&MicrovmSummary> = all.iter().filter(fits).collect();
    let living = fitting.iter().filter(|microvm| microvm.state != MicrovmState::Terminated).count();
    let chosen: Vec<_> =
        fitting.iter().filter(|microvm| living == 0 || microvm.state != MicrovmState::Terminated).collect();
    match chosen.as_slice() {
        [only] if !wanted.is_empty() => Ok(only.microvm_id),
        [] => bail!("no microVM's id begins with {text:?}; `hearth ls` lists them"),
        several => bail!("the ids of {} microVMs begin with {text:?}; type more of it", several.len()),
    }
}

#[cfg(test)]
mod tests {
    use api::{ImageVersion, Timestamp};

    use super::*;

    fn summary(uuid: u128, state: MicrovmState) -> MicrovmSummary {
        MicrovmSummary {
            microvm_id: MicrovmId::new(uuid::Uuid::from_u128(uuid)),
            state,
            image_arn: "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello".parse().unwrap(),
            image_version: ImageVersion::FIRST,
            started_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        let all = [
            summary(0x1111 << 112, MicrovmState::Running),
            summary(0x1122 << 112, MicrovmState::Terminated),
            summary(0x2222 << 112, MicrovmState::Terminated),
        ];
        let id = |text: &str| pick(text, &all).map(|id| id.uuid().as_u128() >> 112);
        assert_eq!(id("1111").unwrap(), 0x1111);
        assert_eq!(id("microvm-1111").unwrap(), 0x1111);
        assert_eq!(id("11").unwrap(), 0x1111, "one that lives wins");
        assert_eq!(id("22").unwrap(), 0x2222);
        assert!(id("3").unwrap_err().to_string().contains("no microVM"));
        assert!(id("").unwrap_err().to_string().contains("type more"));
        let twins = [summary(1 << 112, MicrovmState::Running), summary(2 << 112, MicrovmState::Running)];
        assert!(pick("000", &twins).unwrap_err().to_string().contains("2 microVMs"));
    }
}
