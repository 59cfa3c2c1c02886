//! `[quotas]`: what an account may have, and how fast it may ask (spec 10.2, 3.1). One switch for all of it, off unless the
//! profile is `aws`: a private machine has its own limits, the host's.

use std::collections::BTreeMap;

use api::{Operation, Region};
use lifecycle::throttle::Rate;
use serde::Deserialize;

use super::{Config, ConfigError, Profile, within};

/// `[quotas]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Are there quotas and rates? Absent: under the profile `aws` only.
    pub enabled: Option<bool>,
    /// GiB of memory that an account's microVMs may have together, 1..=1048576; absent: as the service has it in the region.
    pub memory_gib: Option<u32>,
    /// What a microVM counts for, as a multiple of its `minimumMemoryInMiB`, 1..=4. The service counts the baseline by its
    /// own words; one account's data fits four times as much (spec 16, item 32).
    pub memory_factor: u32,
    /// MicroVMs that are not over, 1..=1000000; absent: any number. The service has no such quota.
    pub microvms: Option<u32>,
    /// Images, 1..=1000000.
    pub images: u32,
    /// Versions of one image, 1..=1000000.
    pub versions: u32,
    /// Images that are being built, 1..=1000000; absent: as the service has it in the region.
    pub builds: Option<u32>,
    /// Calls per second of every operation without a rate of its own, 1..=100000. The service publishes none.
    pub other_rate: u32,
    /// Calls per second, by operation, 1..=100000.
    pub rates: BTreeMap<Operation, u32>,
    /// Calls at once, by operation, 1..=100000; absent: as many as per second.
    pub bursts: BTreeMap<Operation, u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            enabled: None,
            memory_gib: None,
            memory_factor: 1,
            microvms: None,
            images: 100,
            versions: 50,
            builds: None,
            other_rate: 10,
            rates: BTreeMap::new(),
            bursts: BTreeMap::new(),
        }
    }
}

/// What one account may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// MiB of its microVMs together.
    pub memory_mib: u64,
    /// What a microVM counts for, as a multiple of its baseline.
    pub memory_factor: u32,
    /// MicroVMs that are not over.
    pub microvms: Option<u32>,
    /// Images.
    pub images: u32,
    /// Versions of one image.
    pub versions: u32,
    /// Images that are being built.
    pub builds: u32,
}

/// Calls per second that the service publishes (spec 3.1).
const PUBLISHED: [(Operation, u32); 7] = [
    (Operation::RunMicrovm, 5),
    (Operation::ResumeMicrovm, 5),
    (Operation::SuspendMicrovm, 2),
    (Operation::TerminateMicrovm, 10),
    (Operation::GetMicrovm, 100),
    (Operation::CreateMicrovmAuthToken, 50),
    (Operation::CreateMicrovmShellAuthToken, 5),
];

/// Where the service grants more memory (spec 10.2).
const LARGE: [&str; 4] = ["us-east-1", "us-east-2", "us-west-2", "ap-northeast-1"];

const COUNT: u64 = 1_000_000;
const COUNT_BOUND: &str = "1..=1000000";

impl Quotas {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("quotas.memory_gib", self.memory_gib.unwrap_or(1).into(), 1, 1 << 20, "1..=1048576")?;
        within("quotas.memory_factor", self.memory_factor.into(), 1, 4, "1..=4")?;
        for (name, value) in [
            ("quotas.microvms", self.microvms.unwrap_or(1)),
            ("quotas.images", self.images),
            ("quotas.versions", self.versions),
            ("quotas.builds", self.builds.unwrap_or(1)),
        ] {
            within(name, value.into(), 1, COUNT, COUNT_BOUND)?;
        }
        within("quotas.other_rate", self.other_rate.into(), 1, 100_000, "1..=100000")?;
        for (table, rates) in [("rates", &self.rates), ("bursts", &self.bursts)] {
            for (operation, value) in rates {
                within(format!("quotas.{table}.{operation}"), (*value).into(), 1, 100_000, "1..=100000")?;
            }
        }
        Ok(())
    }

    /// How fast an account may call `operation`.
    pub fn rate(&self, operation: Operation) -> Rate {
        let published = PUBLISHED.iter().find(|(each, _)| *each == operation).map(|(_, rate)| *rate);
        let per_second = self.rates.get(&operation).copied().or(published).unwrap_or(self.other_rate);
        Rate { per_second, burst: self.bursts.get(&operation).copied().unwrap_or(per_second) }
    }

    fn limits(&self, region: &Region) -> Limits {
        let large = LARGE.contains(&region.as_str());
        let memory_gib = self.memory_gib.unwrap_or(if large { 1024 } else { 400 });
        Limits {
            memory_mib: u64::from(memory_gib) * 1024,
            memory_factor: self.memory_factor,
            microvms: self.microvms,
            images: self.images,
            versions: self.versions,
            builds: self.builds.unwrap_or(if large { 10 } else { 5 }),
        }
    }
}

impl Config {
    /// The quotas, if there are any.
    pub fn quotas(&self) -> Option<&Quotas> {
        let quotas = &self.file.quotas;
        quotas.enabled.unwrap_or(self.file.compat.profile == Profile::Aws).then_some(quotas)
    }

    /// What one account may have, if that is limited.
    pub fn limits(&self) -> Option<Limits> {
        self.quotas().map(|quotas| quotas.limits(&self.file.region.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::load, *};

    #[test]
    fn one_switch_and_the_profile_sets_it() {
        let on = |text| load(text).expect("loads").quotas().is_some();
        assert!(!on(""));
        assert!(!on("[quotas]\nimages = 3"));
        assert!(on("[quotas]\nenabled = true"));
        assert!(on("[compat]\nprofile = \"aws\""));
        assert!(!on("[compat]\nprofile = \"aws\"\n[quotas]\nenabled = false"));
    }

    #[test]
    fn defaults_are_the_service_s_and_all_can_be_set() {
        let limits = |text| load(text).expect("loads").limits().expect("on");
        let large = limits("[quotas]\nenabled = true");
        assert_eq!((large.memory_mib, large.images, large.versions, large.builds), (1024 * 1024, 100, 50, 10));
        let small = limits("region = \"eu-west-1\"\n[quotas]\nenabled = true");
        assert_eq!((small.memory_mib, small.builds, small.microvms), (400 * 1024, 5, None));
        let set = limits("[quotas]\nenabled = true\nmemory_gib = 4\nmicrovms = 7\nbuilds = 1\nmemory_factor = 4");
        assert_eq!((set.memory_mib, set.microvms, set.builds, set.memory_factor), (4096, Some(7), 1, 4));

        let text = "[quotas.rates]\nRunMicrovm = 3\nListTags = 4\n[quotas.bursts]\nRunMicrovm = 20";
        let quotas = load(text).expect("loads").file.quotas;
        let rate = |operation| (quotas.rate(operation).per_second, quotas.rate(operation).burst);
        assert_eq!(rate(Operation::RunMicrovm), (3, 20));
        assert_eq!(rate(Operation::ListTags), (4, 4));
        assert_eq!(rate(Operation::GetMicrovm), (100, 100));
        assert_eq!(rate(Operation::ListMicrovms), (10, 10));
    }

    #[test]
    fn mistakes_name_the_setting_and_its_bound() {
        let error = |text| load(text).expect_err("refused").to_string();
        assert!(error("[quotas]\nmemory_gib = 0").contains("quotas.memory_gib is 0, must be 1..=1048576"));
        assert!(error("[quotas]\nbuilds = 0").contains("quotas.builds is 0, must be 1..=1000000"));
        assert!(error("[quotas.rates]\nRunMicrovm = 0").contains("quotas.rates.RunMicrovm is 0, must be 1..=100000"));
        assert!(error("[quotas.bursts]\nRunMicrovm = 0").contains("quotas.bursts.RunMicrovm is 0"));
        let unknown = error("[quotas.rates]\nRunMicroVM = 1");
        assert!(unknown.contains("RunMicroVM") && unknown.contains("ListTags"), "{unknown}");
        assert!(error("[quotas]\nrate = 1").contains("rate"));
    }
}
