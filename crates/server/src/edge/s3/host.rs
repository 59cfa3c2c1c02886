//! Which bucket does the host name say?

use std::net::IpAddr;

use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
};

/// Virtual-host style below some domains, path style everywhere else.
pub(super) struct Hosts {
    /// Longest first, lower case: `s3.localhost` is not the bucket `s3` of `localhost`.
    domains: Vec<String>,
}

impl Hosts {
    pub(super) fn new(domains: &[&str]) -> Self {
        let mut domains: Vec<_> = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Hosts { domains }
    }

    fn bucket(&self, host: &str) -> Option<String> {
        let name = without_port(host).to_ascii_lowercase();
        if name.parse::<IpAddr>().is_ok() || self.domains.contains(&name) {
            return None;
        }
        let below = |domain: &String| name.strip_suffix(domain.as_str())?.strip_suffix('.').map(str::to_owned);
        self.domains.iter().find_map(below).filter(|bucket| !bucket.is_empty())
    }
}

/// `[::1]:80` and `::1` are addresses too.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => name,
        _ => host,
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let plain = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => plain.with_bucket(bucket),
            None => plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_below_the_longest_domain() {
        let hosts = Hosts::new(&["localhost", "s3.localhost", "s3.example.org"]);
        for (host, bucket) in [
            ("localhost:4566", None),
            ("s3.localhost:4566", None),
            ("S3.LOCALHOST", None),
            ("demo.localhost:4566", Some("demo")),
            ("demo.s3.localhost", Some("demo")),
            ("a.b.s3.localhost:1", Some("a.b")),
            ("demo.S3.example.org", Some("demo")),
            ("127.0.0.1:4566", None),
            ("[::1]:4566", None),
            ("::1", None),
            ("hearth.lan:4566", None),
            ("notlocalhost", None),
            (".localhost", None),
        ] {
            assert_eq!(hosts.bucket(host).as_deref(), bucket, "{host}");
        }
    }
}
