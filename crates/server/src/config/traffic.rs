//! `[traffic]`: what the listener takes, and what each microVM's endpoint may carry (spec 6.9).

use ingress::Allowance;
use serde::Deserialize;

use super::{Config, ConfigError, within};

/// Requests of one microVM at a time where nothing else is said: what its channel carries, less what hearth itself needs.
const AT_ONCE: u32 = 1000;
/// The service's bounds by GiB of a microVM's baseline. Its sizes differ by nothing else.
const AT_ONCE_PER_GIB: u32 = 16;
const PER_SECOND_PER_GIB: u32 = 20;
const MEGABYTES_PER_GIB: u32 = 2;

/// `[traffic]`. What is absent is as the service has it for the microVM's size where there are quotas, and unbounded else.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Clients' connections at a time, 64..=1000000. When there are more, the one that has been idle for longest goes.
    pub connections: u32,
    /// Requests, streams and sessions of one microVM at a time, 1..=1000; absent, without quotas: 1000.
    pub at_once: Option<u32>,
    /// Requests of one microVM in a second, 1..=1000000.
    pub per_second: Option<u32>,
    /// 10^6 bytes of one microVM in a second, in and out together, 1..=1000000.
    pub megabytes_per_second: Option<u32>,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { connections: 16_384, at_once: None, per_second: None, megabytes_per_second: None }
    }
}

impl Traffic {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("traffic.connections", self.connections.into(), 64, 1_000_000, "64..=1000000")?;
        let optional = [
            ("traffic.at_once", self.at_once, AT_ONCE, "1..=1000"),
            ("traffic.per_second", self.per_second, 1_000_000, "1..=1000000"),
            ("traffic.megabytes_per_second", self.megabytes_per_second, 1_000_000, "1..=1000000"),
        ];
        for (name, value, most, bound) in optional {
            within(name, value.unwrap_or(1).into(), 1, most.into(), bound)?;
        }
        Ok(())
    }
}

impl Config {
    /// What the endpoint of a microVM with that baseline may carry.
    pub fn allowance(&self, memory_mib: u32) -> Allowance {
        let traffic = &self.file.traffic;
        let quota = |per_gib: u32| self.quotas().map(|_| (per_gib * memory_mib / 1024).max(1));
        let bytes = traffic.megabytes_per_second.or(quota(MEGABYTES_PER_GIB));
        Allowance {
            at_once: traffic.at_once.or(quota(AT_ONCE_PER_GIB)).unwrap_or(AT_ONCE).min(AT_ONCE) as usize,
            per_second: traffic.per_second.or(quota(PER_SECOND_PER_GIB)),
            bytes_per_second: bytes.map(|megabytes| u64::from(megabytes) * 1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    fn allowance(text: &str, memory_mib: u32) -> (usize, Option<u32>, Option<u64>) {
        let allowance = load(text).expect("loads").allowance(memory_mib);
        (allowance.at_once, allowance.per_second, allowance.bytes_per_second)
    }

    #[test]
    fn the_service_s_where_there_are_quotas() {
        assert_eq!(allowance("", 2048), (1000, None, None));
        let aws = "[compat]\nprofile = \"aws\"";
        for (memory_mib, at_once, per_second, megabytes) in
            [(512, 8, 10, 1), (1024, 16, 20, 2), (2048, 32, 40, 4), (4096, 64, 80, 8), (8192, 128, 160, 16)]
        {
            let expected = (at_once, Some(per_second), Some(megabytes * 1_000_000));
            assert_eq!(allowance(aws, memory_mib), expected, "{memory_mib}");
        }
        let set = "[traffic]\nat_once = 5\nper_second = 6\nmegabytes_per_second = 7";
        assert_eq!(allowance(set, 512), (5, Some(6), Some(7_000_000)));
        assert_eq!(allowance(&format!("{set}\n{aws}"), 512), (5, Some(6), Some(7_000_000)));
    }

    #[test]
    fn mistakes_name_the_setting_and_its_bound() {
        let error = |text: &str| load(&format!("[traffic]\n{text}")).expect_err("refused").to_string();
        assert!(error("connections = 63").contains("traffic.connections is 63, must be 64..=1000000"));
        assert!(error("at_once = 1001").contains("traffic.at_once is 1001, must be 1..=1000"));
        assert!(error("per_second = 0").contains("traffic.per_second is 0, must be 1..=1000000"));
        assert!(error("megabytes_per_second = 0").contains("traffic.megabytes_per_second is 0"));
        assert!(error("requests = 1").contains("requests"));
    }
}
