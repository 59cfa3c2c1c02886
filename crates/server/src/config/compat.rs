//! `[compat]`: what AWS reports and hearth would not by itself, so that suites recorded from the live service can be replayed.

use api::{Architecture, Chipset};
use serde::Deserialize;

use super::Config;

/// `[compat]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compat {
    /// `hearth` or `aws`.
    pub profile: Profile,
}

/// Whose habits the server has where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Endpoints that resolve on this machine, the architecture that builds really run on, no quotas.
    #[default]
    Hearth,
    /// Endpoints below `on.aws` without a port, two Graviton builds per version (spec 4.1), quotas, the end of a microVM
    /// whose `/suspend` hook fails, and one second for hooks without a time-out.
    Aws,
}

/// The processors of one build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Instruction set.
    pub architecture: Architecture,
    /// Family.
    pub chipset: Chipset,
    /// Generation.
    pub generation: &'static str,
}

const GRAVITON: [Cpu; 2] = [graviton("4"), graviton("3")];
/// The service's x86 generations are not known; this is hearth's one.
const INTEL: [Cpu; 1] = [Cpu { architecture: Architecture::X86_64, chipset: Chipset::Intel, generation: "1" }];

const fn graviton(generation: &'static str) -> Cpu {
    Cpu { architecture: Architecture::Arm64, chipset: Chipset::Graviton, generation }
}

/// What builds really run on.
const HOST: Architecture = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X86_64 };

impl Profile {
    /// The architectures that an image may ask for.
    pub fn architectures(self) -> &'static [Architecture] {
        match self {
            Profile::Hearth => &[HOST],
            Profile::Aws => &[Architecture::Arm64, Architecture::X86_64],
        }
    }

    /// How long a hook of a microVM may take where its image does not say, in seconds: AWS's second is hostile (spec 16, item 2).
    pub fn hook_seconds(self) -> u32 {
        match self {
            Profile::Hearth => 10,
            Profile::Aws => 1,
        }
    }

    /// Does a failed `/suspend` hook end the microVM (spec 5.1, row 5)?
    pub fn suspend_is_final(self) -> bool {
        self == Profile::Aws
    }

    /// What a version that asked for `architecture` is reported as built for, newest generation first (spec 3.2). One build
    /// is made; where two are reported they are the same one.
    pub fn cpus(self, architecture: Option<Architecture>) -> &'static [Cpu] {
        match (self, architecture) {
            (Profile::Hearth, _) if HOST == Architecture::X86_64 => &INTEL,
            (Profile::Hearth, _) => &GRAVITON[..1],
            (Profile::Aws, Some(Architecture::X86_64)) => &INTEL,
            (Profile::Aws, _) => &GRAVITON,
        }
    }
}

/// Where endpoints are unless `endpoint.domain` says otherwise: every name below it is this machine (RFC 6761).
const LOCAL: &str = "localhost";
/// Where the service's endpoints are (spec 2.2).
const SERVICE: &str = "on.aws";

impl Config {
    /// The domains below which endpoints lie, the one that answers name first. Under the profile `aws` endpoints can be
    /// reached as without it too.
    pub fn endpoint_domains(&self) -> Vec<String> {
        let chosen = self.file.endpoint.domain.as_deref();
        let mut domains = vec![self.api_name()];
        if self.file.compat.profile == Profile::Aws && chosen.is_none() {
            domains.insert(0, SERVICE);
        }
        let region = self.file.region.0.as_str();
        domains.into_iter().map(|domain| format!("lambda-microvm.{region}.{domain}")).collect()
    }

    /// An endpoint as a browser on this machine finds it: under the profile `aws` by the name that resolves here.
    pub fn browser_endpoint(&self, label: &str, ingress_port: u16) -> String {
        let domains = self.endpoint_domains();
        let domain = domains.last().map(String::as_str).unwrap_or_default();
        let port = if ingress_port == 443 { String::new() } else { format!(":{ingress_port}") };
        format!("{label}.{domain}{port}")
    }

    /// The name of this machine itself.
    pub fn api_name(&self) -> &str {
        self.file.endpoint.domain.as_deref().unwrap_or(LOCAL)
    }

    /// An endpoint as answers spell it. The ingress port is left out when it is 443, and always under the profile `aws`, as
    /// the service has none.
    pub fn endpoint(&self, label: &str, ingress_port: u16) -> String {
        let [domain, ..] = &self.endpoint_domains()[..] else { return label.to_owned() };
        match (self.file.compat.profile, ingress_port) {
            (Profile::Aws, _) | (_, 443) => format!("{label}.{domain}"),
            (Profile::Hearth, port) => format!("{label}.{domain}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::load, *};

    #[test]
    fn the_profile_decides_what_endpoints_are_called() {
        let plain = load("").expect("loads");
        assert_eq!(plain.endpoint("u", 8443), "u.lambda-microvm.us-east-1.localhost:8443");
        assert_eq!(plain.endpoint("u", 443), "u.lambda-microvm.us-east-1.localhost");
        let aws = load("region = \"eu-west-1\"\n[compat]\nprofile = \"aws\"").expect("loads");
        assert_eq!(aws.endpoint("u", 8443), "u.lambda-microvm.eu-west-1.on.aws");
        let both = ["lambda-microvm.eu-west-1.on.aws", "lambda-microvm.eu-west-1.localhost"];
        assert_eq!(aws.endpoint_domains(), both);
        assert_eq!(aws.browser_endpoint("u", 8443), "u.lambda-microvm.eu-west-1.localhost:8443");
        assert_eq!(plain.browser_endpoint("u", 8443), plain.endpoint("u", 8443));
        assert_eq!(plain.browser_endpoint("u", 443), plain.endpoint("u", 443));
        let own = load("[compat]\nprofile = \"aws\"\n[endpoint]\ndomain = \"vm.test\"").expect("loads");
        assert_eq!(own.endpoint_domains(), ["lambda-microvm.us-east-1.vm.test"]);
        assert_eq!((plain.microvm_hook_seconds(), aws.microvm_hook_seconds()), (10, 1));
        let set = load("[compat]\nprofile = \"aws\"\n[hooks]\nmicrovm_seconds = 7").expect("loads");
        assert_eq!(set.microvm_hook_seconds(), 7);
        assert!(load("[compat]\nprofile = \"azure\"").expect_err("refused").to_string().contains("azure"));
    }

    #[test]
    fn the_profile_decides_what_builds_are_for() {
        let said = |profile: Profile, asked| {
            profile.cpus(asked).iter().map(|cpu| (cpu.architecture, cpu.generation)).collect::<Vec<_>>()
        };
        let graviton = [(Architecture::Arm64, "4"), (Architecture::Arm64, "3")];
        assert_eq!(said(Profile::Aws, None), graviton);
        assert_eq!(said(Profile::Aws, Some(Architecture::Arm64)), graviton);
        assert_eq!(said(Profile::Aws, Some(Architecture::X86_64)), [(Architecture::X86_64, "1")]);
        assert_eq!(said(Profile::Hearth, None).len(), 1);
        assert_eq!(Profile::Hearth.architectures(), [said(Profile::Hearth, None)[0].0]);
    }
}
