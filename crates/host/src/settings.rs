//! What an operator may change about the assets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::HostError;

/// The archive that is used when nothing else is set.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Debian's archive keys, from the package `debian-archive-keyring`.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from and what the stand-in base image holds. The default suits a Debian host with Internet access or
/// with a proxy in its apt configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The Debian archive, `http://host/debian`; default: deb.debian.org. No credentials: they would show in the process list.
    pub apt_mirror: Option<String>,
    /// The archive of security updates; default: `apt_mirror` with `-security` appended, as on most mirrors.
    pub apt_security_mirror: Option<String>,
    /// Keys that sign the archive; default: those of the package `debian-archive-keyring`.
    pub apt_keyring: Option<PathBuf>,
    /// Debian packages of the offline stand-in for `public.ecr.aws/lambda/microvms:al2023-minimal`, beside the essential ones.
    pub base_packages: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let packages = ["ca-certificates", "curl", "gzip", "python3", "python3-pip", "python3-venv", "tar"];
        Settings {
            apt_mirror: None,
            apt_security_mirror: None,
            apt_keyring: None,
            base_packages: packages.map(str::to_owned).to_vec(),
        }
    }
}

/// Settings that were checked: every part is fit to stand in an apt source line.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub mirror: String,
    pub security: String,
    pub keyring: String,
}

impl Settings {
    /// Checks the parts that name the archive.
    pub(crate) fn archive(&self) -> Result<Archive, HostError> {
        let mirror = url("apt_mirror", self.apt_mirror.as_deref().unwrap_or(MIRROR))?;
        let security = match &self.apt_security_mirror {
            Some(security) => url("apt_security_mirror", security)?,
            None => format!("{mirror}-security"),
        };
        let keyring = self.apt_keyring.clone().unwrap_or_else(|| KEYRING.into());
        let keyring = keyring
            .to_str()
            .filter(|path| path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || "[]\"".contains(c)))
            .ok_or_else(|| HostError::Setting {
                name: "apt_keyring",
                reason: format!("{} is not an absolute path without spaces", keyring.display()),
            })?;
        Ok(Archive { mirror, security, keyring: keyring.to_owned() })
    }

    /// Checks the package names of the base (Debian policy 5.6.1), sorted.
    pub(crate) fn base_packages(&self) -> Result<Vec<String>, HostError> {
        let bad = |name: &&String| {
            let mut chars = name.chars();
            !chars.next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                || !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
        };
        if let Some(name) = self.base_packages.iter().find(bad) {
            return Err(HostError::Setting {
                name: "base_packages",
                reason: format!("{name:?} is not a Debian package name (a-z, 0-9, + - .)"),
            });
        }
        let mut packages = self.base_packages.clone();
        packages.sort();
        packages.dedup();
        Ok(packages)
    }
}

fn url(name: &'static str, text: &str) -> Result<String, HostError> {
    let refuse = |reason: String| Err(HostError::Setting { name, reason });
    if text.contains('@') {
        return refuse("it holds credentials; put them in /etc/apt/auth.conf.d or use a proxy".to_owned());
    }
    let known = ["http://", "https://", "file:/"].iter().any(|scheme| text.starts_with(scheme));
    if !known || text.contains(|c: char| c.is_whitespace() || c.is_control() || "[]\"".contains(c)) {
        return refuse(format!("{text:?} is not an http, https or file URL"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_security_archive_follows_the_mirror() {
        let archive = Settings::default().archive().unwrap();
        assert_eq!(archive.mirror, "http://deb.debian.org/debian");
        assert_eq!(archive.security, "http://deb.debian.org/debian-security");
        let near = Settings { apt_mirror: Some("https://near/debian/".into()), ..Settings::default() };
        assert_eq!(near.archive().unwrap().security, "https://near/debian-security");
    }

    #[test]
    fn what_would_break_out_of_a_source_line_is_refused() {
        for mirror in ["http://a b", "ftp://a", "", "http://a\ndeb http://evil", "http://a] x"] {
            let settings = Settings { apt_mirror: Some(mirror.into()), ..Settings::default() };
            assert!(settings.archive().is_err(), "{mirror:?}");
        }
        let settings = Settings { apt_mirror: Some("http://me:secret@host/debian".into()), ..Settings::default() };
        assert!(!settings.archive().unwrap_err().to_string().contains("secret"));
        for name in ["", "-o", "A", "a,b", "a b", "a/../b"] {
            let settings = Settings { base_packages: vec![name.into()], ..Settings::default() };
            assert!(settings.base_packages().is_err(), "{name:?}");
        }
        assert_eq!(Settings::default().base_packages().unwrap().len(), 7);
    }
}
