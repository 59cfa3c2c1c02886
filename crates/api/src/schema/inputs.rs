//! The members of every request. The order of members is the order of violations in a message (spec 3.1).

use super::{Location, Member, Shape, Text, bounds::*, forms, patterns};
use crate::{Architecture, Capability, Chipset, HookState, ImageVersionStatus};

const NON_BLANK: Text = Text::of(1, NON_BLANK_CHARS).pattern(patterns::NON_BLANK);

const ANY_TEXT: Shape = Shape::Text(Text::ANY);
const NON_BLANK_TEXT: Shape = Shape::Text(NON_BLANK);
const BOOLEAN: Shape = Shape::Boolean;
const EMPTY: Shape = Shape::Structure(&[]);
const POSITIVE: Shape = Shape::Integer { min: 1, max: i32::MAX };
const PORT: Shape = Shape::Integer { min: 1, max: PORT_MAX as i32 };
const PAGE: Shape = Shape::Integer { min: 1, max: PAGE_MAX as i32 };
const MEMORY: Shape = Shape::Integer { min: 0, max: i32::MAX };
const DURATION: Shape = Shape::Integer { min: 1, max: MAXIMUM_DURATION_SECONDS as i32 };
const IDLE: Shape = Shape::Integer { min: IDLE_MIN_SECONDS as i32, max: i32::MAX };
const SUSPENDED: Shape = Shape::Integer { min: 0, max: i32::MAX };
const IMAGE_HOOK_TIMEOUT: Shape = Shape::Integer { min: 1, max: IMAGE_HOOK_TIMEOUT_SECONDS as i32 };
const MICROVM_HOOK_TIMEOUT: Shape = Shape::Integer { min: 1, max: MICROVM_HOOK_TIMEOUT_SECONDS as i32 };

const HOOK: Shape = Shape::Enum(HookState::NAMES);
const ARCHITECTURE: Shape = Shape::Enum(Architecture::NAMES);
const CHIPSET: Shape = Shape::Enum(Chipset::NAMES);
const VERSION_STATUS: Shape = Shape::Enum(ImageVersionStatus::NAMES);
const CAPABILITY: Shape = Shape::Enum(Capability::NAMES);

const CLIENT_TOKEN: Shape = Shape::Text(Text::of(1, CLIENT_TOKEN_CHARS));
const ROLE: Shape = Shape::Text(Text::of(20, 2048).pattern(patterns::ROLE));
const IMAGE_NAME: Shape = Shape::Text(Text::of(1, 64).pattern(patterns::IMAGE_NAME));
const PAYLOAD: Shape = Shape::Text(Text::of(0, RUN_HOOK_PAYLOAD_CHARS).sensitive());

const IMAGE: Shape = Shape::Text(Text::of(1, IDENTIFIER_CHARS).form(forms::image));
const IMAGE_TO_RUN: Shape = Shape::Text(Text::of(1, IDENTIFIER_CHARS).form(forms::image_to_run));
const MANAGED_IMAGE: Shape = Shape::Text(Text::of(1, IDENTIFIER_CHARS).form(forms::managed_image));
const BASE_IMAGE: Shape = Shape::Text(NON_BLANK.form(forms::base_image));
const MICROVM: Shape = Shape::Text(Text::of(1, IDENTIFIER_CHARS).form(forms::microvm));
const VERSION: Shape = Shape::Text(NON_BLANK.form(forms::version));
const VERSION_TO_RUN: Shape = Shape::Text(NON_BLANK.form(forms::version_to_run));
const BASE_VERSION: Shape = Shape::Text(NON_BLANK.form(forms::base_version));
const BUILD: Shape = Shape::Text(NON_BLANK.form(forms::build));
const S3_URI: Shape = Shape::Text(NON_BLANK.form(forms::s3_uri));
const TAGGABLE: Shape = Shape::Text(Text::of(1, 10_000).pattern(patterns::TAGGABLE).form(forms::taggable));
const CONNECTOR: Shape = Shape::Text(Text::of(1, CONNECTOR_CHARS).form(forms::connector));

const CONNECTORS_LAUNCH: Shape = Shape::List { min: 0, max: CONNECTORS_AT_LAUNCH, item: &CONNECTOR };
const CONNECTORS_IMAGE: Shape = Shape::List { min: 0, max: CONNECTORS_OF_IMAGE, item: &CONNECTOR };

const CODE_ARTIFACT: Shape = Shape::Union(&[Member::body("uri", &S3_URI)]);

const LOGGING: Shape = Shape::Union(&[Member::body("disabled", &EMPTY), Member::body("cloudWatch", &CLOUD_WATCH)]);
const CLOUD_WATCH: Shape = Shape::Structure(&[
    Member::body("logGroup", &Shape::Text(Text::of(1, LOG_NAME_CHARS).pattern(patterns::LOG_GROUP))),
    Member::body("logStream", &Shape::Text(Text::of(1, LOG_NAME_CHARS).pattern(patterns::LOG_STREAM))),
]);

const CPUS: Shape = Shape::List {
    min: 0,
    max: usize::MAX,
    item: &Shape::Structure(&[Member::body("architecture", &ARCHITECTURE).required()]),
};
const RESOURCES: Shape =
    Shape::List { min: 0, max: 1, item: &Shape::Structure(&[Member::body("minimumMemoryInMiB", &MEMORY).required()]) };
const CAPABILITIES: Shape = Shape::List { min: 0, max: usize::MAX, item: &CAPABILITY };

const HOOKS: Shape = Shape::Structure(&[
    Member::body("port", &PORT),
    Member::body("microvmHooks", &MICROVM_HOOKS),
    Member::body("microvmImageHooks", &IMAGE_HOOKS),
]);
const IMAGE_HOOKS: Shape = Shape::Structure(&[
    Member::body("ready", &HOOK),
    Member::body("readyTimeoutInSeconds", &IMAGE_HOOK_TIMEOUT),
    Member::body("validate", &HOOK),
    Member::body("validateTimeoutInSeconds", &IMAGE_HOOK_TIMEOUT),
]);
const MICROVM_HOOKS: Shape = Shape::Structure(&[
    Member::body("run", &HOOK),
    Member::body("runTimeoutInSeconds", &MICROVM_HOOK_TIMEOUT),
    Member::body("resume", &HOOK),
    Member::body("resumeTimeoutInSeconds", &MICROVM_HOOK_TIMEOUT),
    Member::body("suspend", &HOOK),
    Member::body("suspendTimeoutInSeconds", &MICROVM_HOOK_TIMEOUT),
    Member::body("terminate", &HOOK),
    Member::body("terminateTimeoutInSeconds", &MICROVM_HOOK_TIMEOUT),
]);

const ENVIRONMENT: Shape = Shape::Map {
    max: ENVIRONMENT_VARIABLES,
    key: Text::of(1, ENVIRONMENT_KEY_CHARS).pattern(patterns::NON_BLANK),
    value: Text::of(0, ENVIRONMENT_VALUE_CHARS).sensitive(),
};
const TAG_KEY: Text = Text::of(1, TAG_KEY_CHARS).pattern(patterns::TAG);
const TAG_KEYS: Shape = Shape::List { min: 0, max: usize::MAX, item: &Shape::Text(TAG_KEY) };
pub(super) const TAGS: Shape =
    Shape::Map { max: usize::MAX, key: TAG_KEY, value: Text::of(0, TAG_VALUE_CHARS).pattern(patterns::TAG) };

const IDLE_POLICY: Shape = Shape::Structure(&[
    Member::body("maxIdleDurationSeconds", &IDLE).required(),
    Member::body("suspendedDurationSeconds", &SUSPENDED).required(),
    Member::body("autoResumeEnabled", &BOOLEAN).required(),
]);

const PORTS: Shape = Shape::List {
    min: 1,
    max: usize::MAX,
    item: &Shape::Union(&[
        Member::body("port", &PORT),
        Member::body("range", &PORT_RANGE),
        Member::body("allPorts", &EMPTY),
    ]),
};
const PORT_RANGE: Shape =
    Shape::Structure(&[Member::body("startPort", &PORT).required(), Member::body("endPort", &PORT).required()]);

const MAX_RESULTS: Member = Member::query("maxResults", &PAGE);
const NEXT_TOKEN: Member = Member::query("nextToken", &ANY_TEXT);
const IMAGE_IN_PATH: Member = Member::path("imageIdentifier", &IMAGE);
const MANAGED_IMAGE_IN_PATH: Member = Member::path("imageIdentifier", &MANAGED_IMAGE);
const VERSION_IN_PATH: Member = Member::path("imageVersion", &VERSION);
const TAGGABLE_IN_PATH: Member = Member::path("Resource", &TAGGABLE);
const MICROVM_IN_PATH: Member = Member::path("microvmIdentifier", &MICROVM);

const BASE_IMAGE_ARN: Member = Member::body("baseImageArn", &BASE_IMAGE).required();
const CODE: Member = Member::body("codeArtifact", &CODE_ARTIFACT).required();
const BUILD_ROLE: Member = Member::body("buildRoleArn", &ROLE).required();
const BASE_IMAGE_VERSION: Member = Member::body("baseImageVersion", &BASE_VERSION);
const DESCRIPTION: Member = Member::body("description", &ANY_TEXT);
const LOGS: Member = Member::body("logging", &LOGGING);
const EGRESS_OF_IMAGE: Member = Member::body("egressNetworkConnectors", &CONNECTORS_IMAGE);
const CPU_CONFIGURATIONS: Member = Member::body("cpuConfigurations", &CPUS);
const RESOURCE_LIST: Member = Member::body("resources", &RESOURCES);
const OS_CAPABILITIES: Member = Member::body("additionalOsCapabilities", &CAPABILITIES);
const HOOK_SWITCHES: Member = Member::body("hooks", &HOOKS);
const VARIABLES: Member = Member::body("environmentVariables", &ENVIRONMENT);
const CLIENT: Member = Member::body("clientToken", &CLIENT_TOKEN);

pub(crate) const CREATE_MICROVM_IMAGE: &[Member] = &[
    Member::body("name", &IMAGE_NAME).required(),
    BASE_IMAGE_ARN,
    CODE,
    BUILD_ROLE,
    BASE_IMAGE_VERSION,
    DESCRIPTION,
    LOGS,
    EGRESS_OF_IMAGE,
    CPU_CONFIGURATIONS,
    RESOURCE_LIST,
    OS_CAPABILITIES,
    HOOK_SWITCHES,
    VARIABLES,
    Member::body("tags", &TAGS),
    CLIENT,
];

/// As create, without what an image has only once.
pub(crate) const UPDATE_MICROVM_IMAGE: &[Member] = &[
    IMAGE_IN_PATH,
    BASE_IMAGE_ARN,
    CODE,
    BUILD_ROLE,
    BASE_IMAGE_VERSION,
    DESCRIPTION,
    LOGS,
    EGRESS_OF_IMAGE,
    CPU_CONFIGURATIONS,
    RESOURCE_LIST,
    OS_CAPABILITIES,
    HOOK_SWITCHES,
    VARIABLES,
    CLIENT,
];

pub(crate) const IMAGE_ONLY: &[Member] = &[IMAGE_IN_PATH];

pub(crate) const LIST_MICROVM_IMAGES: &[Member] =
    &[MAX_RESULTS, NEXT_TOKEN, Member::query("nameFilter", &NON_BLANK_TEXT)];

pub(crate) const IMAGE_VERSION_ONLY: &[Member] = &[IMAGE_IN_PATH, VERSION_IN_PATH];

pub(crate) const UPDATE_MICROVM_IMAGE_VERSION: &[Member] =
    &[IMAGE_IN_PATH, VERSION_IN_PATH, Member::body("status", &VERSION_STATUS).required()];

pub(crate) const LIST_MICROVM_IMAGE_VERSIONS: &[Member] = &[IMAGE_IN_PATH, MAX_RESULTS, NEXT_TOKEN];

pub(crate) const GET_MICROVM_IMAGE_BUILD: &[Member] =
    &[IMAGE_IN_PATH, VERSION_IN_PATH, Member::path("buildId", &BUILD)];

pub(crate) const LIST_MICROVM_IMAGE_BUILDS: &[Member] = &[
    IMAGE_IN_PATH,
    VERSION_IN_PATH,
    MAX_RESULTS,
    NEXT_TOKEN,
    Member::query("architecture", &ARCHITECTURE),
    Member::query("chipset", &CHIPSET),
    Member::query("chipsetGeneration", &NON_BLANK_TEXT),
];

pub(crate) const PAGE_ONLY: &[Member] = &[MAX_RESULTS, NEXT_TOKEN];

pub(crate) const LIST_MANAGED_MICROVM_IMAGE_VERSIONS: &[Member] = &[MANAGED_IMAGE_IN_PATH, MAX_RESULTS, NEXT_TOKEN];

pub(crate) const RUN_MICROVM: &[Member] = &[
    Member::body("imageIdentifier", &IMAGE_TO_RUN).required(),
    Member::body("imageVersion", &VERSION_TO_RUN),
    Member::body("executionRoleArn", &ROLE),
    Member::body("ingressNetworkConnectors", &CONNECTORS_LAUNCH),
    Member::body("egressNetworkConnectors", &CONNECTORS_LAUNCH),
    Member::body("idlePolicy", &IDLE_POLICY),
    LOGS,
    Member::body("runHookPayload", &PAYLOAD),
    Member::body("maximumDurationInSeconds", &DURATION).life(),
    CLIENT,
];

pub(crate) const MICROVM_ONLY: &[Member] = &[MICROVM_IN_PATH];

pub(crate) const LIST_MICROVMS: &[Member] = &[
    Member { name: "imageIdentifier", required: false, location: Location::Query, shape: &IMAGE_TO_RUN, life: false },
    Member::query("imageVersion", &ANY_TEXT),
    MAX_RESULTS,
    NEXT_TOKEN,
];

pub(crate) const CREATE_MICROVM_AUTH_TOKEN: &[Member] = &[
    MICROVM_IN_PATH,
    Member::body("expirationInMinutes", &POSITIVE).required(),
    Member::body("allowedPorts", &PORTS).required(),
];

pub(crate) const CREATE_MICROVM_SHELL_AUTH_TOKEN: &[Member] =
    &[MICROVM_IN_PATH, Member::body("expirationInMinutes", &POSITIVE).required()];

pub(crate) const TAG_RESOURCE: &[Member] = &[TAGGABLE_IN_PATH, Member::body("Tags", &TAGS).required()];

pub(crate) const UNTAG_RESOURCE: &[Member] = &[TAGGABLE_IN_PATH, Member::query("tagKeys", &TAG_KEYS).required()];

pub(crate) const LIST_TAGS: &[Member] = &[TAGGABLE_IN_PATH];
