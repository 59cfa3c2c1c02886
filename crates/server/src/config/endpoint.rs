//! `[endpoint]`: names of the endpoints, and what they do beyond AWS's.

use std::{net::SocketAddr, path::PathBuf};

use api::schema::bounds::TOKEN_MINUTES;
use serde::Deserialize;

use super::{ConfigError, within};

/// Longest life of a token that can be set, minutes: a year.
const TOKEN_MINUTES_MOST: u32 = 365 * 24 * 60;

/// `[endpoint]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Endpoint hosts are `<uuid>.lambda-microvm.<region>.<domain>`; absent: what the profile says.
    pub domain: Option<String>,
    /// PEM chain of a certificate for `*.lambda-microvm.<region>.<domain>`; absent: hearth's own CA issues one.
    pub certificate: Option<PathBuf>,
    /// PEM key that belongs to it.
    pub key: Option<PathBuf>,
    /// Seconds that a request waits for a microVM that is being started or woken, 1..=900.
    pub wake_seconds: u64,
    /// Longest life of a token, minutes, 60..=525600; AWS has 60.
    pub token_minutes: u32,
    /// A loopback address where endpoints are served without TLS too, routed by `Host`.
    pub plain_http: Option<SocketAddr>,
    /// Add `X-Forwarded-For`, `-Proto` and `-Host` to what applications get.
    pub forwarded_headers: bool,
    /// One-time links for browsers, and cookies that stand for tokens.
    pub browser: bool,
    /// May a port of a microVM be opened to everybody?
    pub public: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint {
            domain: None,
            certificate: None,
            key: None,
            wake_seconds: 60,
            token_minutes: TOKEN_MINUTES,
            plain_http: None,
            forwarded_headers: false,
            browser: false,
            public: false,
        }
    }
}

impl Endpoint {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("endpoint.wake_seconds", self.wake_seconds, 1, 900, "1..=900")?;
        let (least, most) = (TOKEN_MINUTES.into(), TOKEN_MINUTES_MOST.into());
        within("endpoint.token_minutes", self.token_minutes.into(), least, most, "60..=525600")?;
        if let Some(address) = self.plain_http.filter(|address| !address.ip().is_loopback()) {
            let bound = "a loopback address such as 127.0.0.1:8080: tokens would travel in clear text";
            return Err(ConfigError::Bound { name: "endpoint.plain_http".into(), value: address.to_string(), bound });
        }
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if let Some(domain) = &self.domain
            && (domain.is_empty() || !domain.chars().all(label))
        {
            let bound = "a lower-case DNS name";
            return Err(ConfigError::Bound { name: "endpoint.domain".into(), value: format!("{domain:?}"), bound });
        }
        if self.certificate.is_some() != self.key.is_some() {
            let bound = "set together with endpoint.certificate";
            return Err(ConfigError::Bound { name: "endpoint.key".into(), value: "set alone".into(), bound });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn all_beyond_aws_is_off_by_default() {
        let endpoint = load("").expect("loads").file.endpoint;
        assert_eq!((endpoint.token_minutes, endpoint.plain_http), (60, None));
        assert!(!endpoint.forwarded_headers && !endpoint.browser && !endpoint.public);
    }

    #[test]
    fn mistakes_name_the_setting_and_its_bound() {
        let error = |text: &str| load(&format!("[endpoint]\n{text}")).expect_err("refused").to_string();
        for minutes in [59, 525_601] {
            let words = format!("endpoint.token_minutes is {minutes}, must be 60..=525600");
            assert!(error(&format!("token_minutes = {minutes}")).contains(&words));
        }
        for address in ["0.0.0.0:8080", "192.168.1.1:80", "[::]:80"] {
            let words = format!("endpoint.plain_http is {address}, must be a loopback address such as 127.0.0.1:8080");
            assert!(error(&format!("plain_http = \"{address}\"")).contains(&words));
        }
        assert!(error("plain_http = \"8080\"").contains("plain_http"));
        assert!(load("[endpoint]\nplain_http = \"[::1]:0\"").is_ok());
        assert!(error("certificate = \"/x\"").contains("endpoint.key"));
        assert!(error("domain = \"A b\"").contains("endpoint.domain is \"A b\", must be a lower-case DNS name"));
        assert!(error("wake_seconds = 0").contains("endpoint.wake_seconds is 0, must be 1..=900"));
    }
}
