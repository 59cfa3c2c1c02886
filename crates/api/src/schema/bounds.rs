//! Every number of the contract, once (service model, spec 3.2, 3.3, 10.1).

/// Sizes that the base image offers, MiB.
pub const MEMORY_SIZES_MIB: [u32; 5] = [512, 1024, 2048, 4096, 8192];
/// Size of a version that asks for none, MiB.
pub const MEMORY_DEFAULT_MIB: u32 = 2048;
/// Longest life, seconds; also the default. A server may allow more: [`Longest`].
pub const MAXIMUM_DURATION_SECONDS: u32 = 28_800;
/// Shortest idle time before a suspend, seconds.
pub const IDLE_MIN_SECONDS: u32 = 60;
/// Longest `runHookPayload`, characters. Some documents say 16 KiB and are wrong.
pub const RUN_HOOK_PAYLOAD_CHARS: usize = 4096;
/// Longest life of a token, minutes. A server may allow more: [`Bounds`].
pub const TOKEN_MINUTES: u32 = 60;
/// Most environment variables.
pub const ENVIRONMENT_VARIABLES: usize = 100;
/// Longest key of an environment variable, characters.
pub const ENVIRONMENT_KEY_CHARS: usize = 256;
/// Longest value of an environment variable, characters.
pub const ENVIRONMENT_VALUE_CHARS: usize = 4096;
/// Longest time-out of `/ready` and `/validate`, seconds.
pub const IMAGE_HOOK_TIMEOUT_SECONDS: u32 = 3600;
/// Longest time-out of `/run`, `/resume`, `/suspend` and `/terminate`, seconds.
pub const MICROVM_HOOK_TIMEOUT_SECONDS: u32 = 60;
/// Largest port.
pub const PORT_MAX: u32 = 65_535;
/// Most items on a page.
pub const PAGE_MAX: u32 = 50;
/// Longest client token, characters.
pub const CLIENT_TOKEN_CHARS: usize = 128;
/// Longest image or microVM identifier, characters.
pub const IDENTIFIER_CHARS: usize = 256;
/// Most connectors of one direction at launch.
pub const CONNECTORS_AT_LAUNCH: usize = 10;
/// Most egress connectors of an image version.
pub const CONNECTORS_OF_IMAGE: usize = 1;
/// Longest connector ARN, characters.
pub const CONNECTOR_CHARS: usize = 2048;
/// Longest `NonBlankString` and `Version` of the model, characters.
pub const NON_BLANK_CHARS: usize = 2048;
/// Longest log group or stream name, characters.
pub const LOG_NAME_CHARS: usize = 512;
/// Most tags of one resource.
pub const TAGS: usize = 50;
/// Longest tag key, characters.
pub const TAG_KEY_CHARS: usize = 128;
/// Longest tag value, characters.
pub const TAG_VALUE_CHARS: usize = 256;
/// Most network connectors of an account in a region. AWS has a bound and does not publish it; this one is that of images.
pub const CONNECTORS: usize = 100;
/// Most versions of a network connector, until older ones are deleted. AWS has a bound and does not publish it; this one is
/// that of images.
pub const CONNECTOR_VERSIONS: usize = 50;
/// Most connectors on a page, whatever `MaxItems` says.
pub const CONNECTORS_PAGE: u32 = 50;
/// Largest `MaxItems`.
pub const CONNECTORS_MAX_ITEMS: u32 = 100;
/// Longest client token of a connector, characters.
pub const CONNECTOR_CLIENT_TOKEN_CHARS: usize = 64;
/// Most subnets of a connector.
pub const CONNECTOR_SUBNETS: usize = 16;
/// Most security groups of a connector.
pub const CONNECTOR_SECURITY_GROUPS: usize = 16;
/// Longest id of a subnet or security group, characters.
pub const CONNECTOR_EC2_ID_CHARS: usize = 1024;
/// Most characters of a client's value that a validation message repeats.
pub const SHOWN_VALUE_CHARS: usize = 256;

/// The largest number of seconds of what is bounded by the longest life of a microVM: `maximumDurationInSeconds`, and
/// `maxIdleDurationSeconds`, whose bound is the guide's (the model has none). By default the service's; a server may be set to
/// allow more, at most `i32::MAX`, for that is all that the model's integers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Longest(u32);

impl Longest {
    /// No bound but that of the integer.
    pub const ANY: Longest = Longest(i32::MAX as u32);

    /// That many seconds.
    pub const fn seconds(seconds: u32) -> Self {
        if seconds > Longest::ANY.0 { Longest::ANY } else { Longest(seconds) }
    }

    /// In seconds, at most `i32::MAX`.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Longest {
    fn default() -> Self {
        Longest(MAXIMUM_DURATION_SECONDS)
    }
}

/// What a server may be set to allow beyond the service; by default the service's own bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long microVMs may live.
    pub life: Longest,
    /// How long tokens may live, minutes.
    pub token_minutes: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { life: Longest::default(), token_minutes: TOKEN_MINUTES }
    }
}
