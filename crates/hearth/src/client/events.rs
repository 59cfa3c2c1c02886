//! Reading the history of microVMs and images from hearth's own endpoint for it.

use anyhow::{Context, Result};
use api::{ImageArn, MicrovmId, sigv4::percent};
use bytes::Bytes;
use serde_json::Value;

use super::{Client, Signed, ndjson::Ndjson};

/// Path of the endpoint. Its requests are signed for `lambda`.
const PATH: &str = "/hearth/v1/events";
/// Most events of one answer.
const PAGE: u32 = 1000;

/// Whose history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Of one microVM.
    Microvm(MicrovmId),
    /// Of one image.
    Image(ImageArn),
    /// Of all.
    All,
}

impl Subject {
    fn query(&self) -> String {
        match self {
            Subject::Microvm(id) => format!("microvm={id}&"),
            Subject::Image(arn) => format!("image={}&", percent::encode(&arn.to_string())),
            Subject::All => String::new(),
        }
    }
}

/// The number of an event: its place in the account's history.
pub fn number(event: &Value) -> Result<u64> {
    event["n"].as_u64().context("the server sent an event without number")
}

impl Client {
    /// The last `count` events (`None`: all), the newest last.
    pub async fn events(&self, subject: &Subject, count: Option<u32>) -> Result<Vec<Value>> {
        let (mut pages, mut found, mut before) = (Vec::new(), 0, String::new());
        loop {
            let wanted = count.map_or(PAGE, |count| (count - found).min(PAGE));
            if wanted == 0 {
                break;
            }
            let page = self.page(subject, &format!("limit={wanted}{before}")).await?;
            let full = page.len() == wanted as usize;
            found += page.len() as u32;
            let Some(first) = page.first() else { break };
            before = format!("&before={}", number(first)?);
            pages.push(page);
            if !full {
                break;
            }
        }
        Ok(pages.into_iter().rev().flatten().collect())
    }

    async fn page(&self, subject: &Subject, query: &str) -> Result<Vec<Value>> {
        let mut lines = self.lines(PATH, &format!("{}{query}", subject.query())).await?;
        let mut page = Vec::new();
        while let Some(event) = lines.next().await? {
            page.push(event);
        }
        Ok(page)
    }

    /// Events behind that number, as they happen.
    pub async fn follow_events(&self, subject: &Subject, after: u64) -> Result<Ndjson> {
        self.lines(PATH, &format!("{}after={after}&limit={PAGE}&follow=true", subject.query())).await
    }

    /// What one microVM or image has used, as the server folds it from its events.
    pub async fn usage(&self, subject: &Subject) -> Result<Value> {
        let (path, query) = (format!("{PATH}/usage"), subject.query());
        let query = query.trim_end_matches('&');
        let signed = Signed { service: "lambda", method: "GET", path: &path, query };
        let answer = self.send(signed, Bytes::new()).await?.success().await?;
        let mut json: Value = serde_json::from_slice(&answer).context("the usage is no JSON")?;
        Ok(json["usage"].take())
    }
}
