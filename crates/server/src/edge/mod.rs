//! One HTTP endpoint for every AWS service that hearth speaks.
//!
//! ```text
//! listen.rs   accept, TLS, HTTP/1.1 and 2, graceful end
//!   dispatch.rs   which service? by the scope of the signature, else by the path
//!     lambda.rs     route -> decode -> Operations          REST-JSON
//!     sts.rs        GetCallerIdentity, GetSessionToken     query, XML
//!     journal.rs    hearth's own: log lines                JSON
//!     events.rs     hearth's own: what happened            JSON
//!     keys.rs       hearth's own: access keys              JSON
//!     endpoints.rs  hearth's own: who may reach a microVM  JSON
//!     names.rs      hearth's own: custom host names        JSON
//!     logs.rs       CloudWatch Logs' reading side          JSON 1.1
//!     s3/           s3s over a directory, same keys        XML
//!   throttle.rs   who is too fast?                         for lambda
//!   gate.rs       bounded body, SigV4 -> Caller            for all but S3, which verifies by itself
//!   identity.rs   whose a key is and what it may do        asked by every operation
//!   answer.rs     answers and errors become HTTP here and nowhere else
//! ```

mod answer;
mod dispatch;
mod endpoints;
mod events;
mod gate;
pub mod identity;
mod journal;
mod keys;
mod lambda;
mod listen;
mod logs;
pub(crate) mod names;
pub mod s3;
mod sts;
mod throttle;

use std::sync::Arc;

use api::{AccountId, ApiError, Region, Sensitive, schema::bounds::Bounds, sigv4::SignatureError};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use endpoints::{Endpoints, Link};
pub use identity::{Identity, User};
pub use listen::serve;
pub use names::Target;
pub use throttle::Throttle;

/// Everything the endpoint needs.
pub struct Edge {
    /// Who may call.
    pub keys: Arc<dyn Keys>,
    /// The keys themselves, for `/hearth/v1/keys` and `GetSessionToken`.
    pub access: Arc<crate::keys::AccessKeys>,
    /// Does the work of `lambda-microvms`.
    pub operations: Arc<dyn Operations>,
    /// Does the work of `/hearth/v1/microvms` and `/hearth/v1/names`.
    pub endpoints: Arc<dyn Endpoints>,
    /// The embedded object store.
    pub s3: s3::S3Store,
    /// The only region that signatures for other services than S3 may be scoped to.
    pub region: Region,
    /// What `logs` and `/hearth/v1/logs` read.
    pub logs: Arc<crate::logs::Logs>,
    /// What `/hearth/v1/events` reads.
    pub store: crate::Store,
    /// Ends answers that go on for ever when the server ends.
    pub stop: CancellationToken,
    /// What requests are held to.
    pub bounds: Bounds,
    /// How fast each account may go; `None`: as fast as it likes.
    pub throttle: Option<Throttle>,
}

/// Looks up access keys.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The long-term key of that id; `None` when there is none or it may not be used.
    async fn secret(&self, access_key_id: &str) -> Option<Credential>;

    /// The temporary key of that id, which its session token holds; `now` is seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`SignatureError::UnknownKey`] when the token is not that key's or its issuer may not be used any more,
    /// [`SignatureError::Expired`] after its time.
    async fn temporary(&self, access_key_id: &str, token: &str, now: i64) -> Result<Credential, SignatureError>;
}

/// What a key is good for.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The secret access key.
    pub secret: Sensitive<String>,
    /// The account it belongs to.
    pub account: AccountId,
    /// Whose it is, and what it may do: at this moment, not when the key was made.
    pub identity: Arc<Identity>,
    /// Does it go along with a session token?
    pub temporary: bool,
}

/// Who calls; its signature has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: AccountId,
    /// The key used.
    pub access_key_id: String,
    /// Whose it is, and what it may do.
    pub identity: Arc<Identity>,
    /// Is the key one of a session?
    pub temporary: bool,
    /// The id of this request, as the answer shows it in `x-amzn-RequestId`.
    pub request_id: Uuid,
}

impl Caller {
    /// May the caller do that to that resource (spec 3.1)? See [`Identity::authorize`].
    pub fn authorize(&self, action: &str, resource: impl std::fmt::Display) -> Result<(), ApiError> {
        self.identity.authorize(action, &resource.to_string())
    }
}

macro_rules! operations {
    ($($(#[$meta:meta])* $method:ident($input:ident) -> $output:ident;)+) => {
        /// The operations of `lambda-microvms`, and of `lambda-core` on network connectors. Inputs have passed every rule that
        /// needs no state; what an error's cause is on our side belongs into the log, not into the [`ApiError`].
        #[async_trait]
        pub trait Operations: Send + Sync {
            $($(#[$meta])*
            async fn $method(&self, caller: &Caller, input: api::$input) -> Result<api::$output, ApiError>;)+
        }
    };
}

operations! {
    /// 201; the image is being built when this returns.
    create_microvm_image(CreateMicrovmImageInput) -> CreateMicrovmImageOutput;
    /// One image.
    get_microvm_image(GetMicrovmImageInput) -> GetMicrovmImageOutput;
    /// A page of images.
    list_microvm_images(ListMicrovmImagesInput) -> ListMicrovmImagesOutput;
    /// A new version; it is being built when this returns.
    update_microvm_image(UpdateMicrovmImageInput) -> UpdateMicrovmImageOutput;
    /// The image goes away later.
    delete_microvm_image(DeleteMicrovmImageInput) -> DeleteMicrovmImageOutput;
    /// One version.
    get_microvm_image_version(GetMicrovmImageVersionInput) -> GetMicrovmImageVersionOutput;
    /// A page of versions.
    list_microvm_image_versions(ListMicrovmImageVersionsInput) -> ListMicrovmImageVersionsOutput;
    /// May it be launched?
    update_microvm_image_version(UpdateMicrovmImageVersionInput) -> UpdateMicrovmImageVersionOutput;
    /// The version goes away later.
    delete_microvm_image_version(DeleteMicrovmImageVersionInput) -> DeleteMicrovmImageVersionOutput;
    /// One build.
    get_microvm_image_build(GetMicrovmImageBuildInput) -> GetMicrovmImageBuildOutput;
    /// A page of builds.
    list_microvm_image_builds(ListMicrovmImageBuildsInput) -> ListMicrovmImageBuildsOutput;
    /// The managed images.
    list_managed_microvm_images(ListManagedMicrovmImagesInput) -> ListManagedMicrovmImagesOutput;
    /// Versions of a managed image, newest first.
    list_managed_microvm_image_versions(ListManagedMicrovmImageVersionsInput) -> ListManagedMicrovmImageVersionsOutput;
    /// The microVM is being started when this returns.
    run_microvm(RunMicrovmInput) -> RunMicrovmOutput;
    /// One microVM.
    get_microvm(GetMicrovmInput) -> GetMicrovmOutput;
    /// A page of microVMs.
    list_microvms(ListMicrovmsInput) -> ListMicrovmsOutput;
    /// Idempotent.
    suspend_microvm(SuspendMicrovmInput) -> SuspendMicrovmOutput;
    /// Idempotent.
    resume_microvm(ResumeMicrovmInput) -> ResumeMicrovmOutput;
    /// Idempotent.
    terminate_microvm(TerminateMicrovmInput) -> TerminateMicrovmOutput;
    /// A token for the endpoint.
    create_microvm_auth_token(CreateMicrovmAuthTokenInput) -> CreateMicrovmAuthTokenOutput;
    /// A token for the shell.
    create_microvm_shell_auth_token(CreateMicrovmShellAuthTokenInput) -> CreateMicrovmShellAuthTokenOutput;
    /// Adds tags.
    tag_resource(TagResourceInput) -> TagResourceOutput;
    /// Takes tags away.
    untag_resource(UntagResourceInput) -> UntagResourceOutput;
    /// All tags.
    list_tags(ListTagsInput) -> ListTagsOutput;
    /// 202; the connector is PENDING when this returns.
    create_network_connector(CreateNetworkConnectorInput) -> CreateNetworkConnectorOutput;
    /// One connector, or one version of it.
    get_network_connector(GetNetworkConnectorInput) -> GetNetworkConnectorOutput;
    /// A page of connectors.
    list_network_connectors(ListNetworkConnectorsInput) -> ListNetworkConnectorsOutput;
    /// A page of a connector's versions.
    list_network_connector_versions(ListNetworkConnectorVersionsInput) -> ListNetworkConnectorVersionsOutput;
    /// 202; the connector stays ACTIVE, with a new version if anything changes.
    update_network_connector(UpdateNetworkConnectorInput) -> UpdateNetworkConnectorOutput;
    /// 202; the connector goes away later.
    delete_network_connector(DeleteNetworkConnectorInput) -> DeleteNetworkConnectorOutput;
}
