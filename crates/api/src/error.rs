//! The error catalogue (spec 3.4): what the service says when it does not do what was asked.

mod connectors;

use std::fmt;

use serde_json::{Map, Value};

use crate::{
    Architecture,
    arns::{ImageArn, ManagedImageArn},
    ids::{BuildId, ImageName, ImageVersion, MicrovmId},
    operations::Family,
    schema::bounds,
    text::enumeration,
};

enumeration! {
    /// The modelled errors, and the three that the front of every AWS service adds.
    ErrorKind {
        /// Bad input, and most state conflicts. 400.
        Validation = "ValidationException",
        /// Tags and connectors. 400.
        InvalidParameterValue = "InvalidParameterValueException",
        /// Logs: bad input. 400.
        InvalidParameter = "InvalidParameterException",
        /// A quota is used up. 402.
        ServiceQuotaExceeded = "ServiceQuotaExceededException",
        /// Not allowed. 403.
        AccessDenied = "AccessDeniedException",
        /// No such thing. 404.
        ResourceNotFound = "ResourceNotFoundException",
        /// The thing is busy, or a client token was used before. 409.
        Conflict = "ConflictException",
        /// Tags and connectors. 409.
        ResourceConflict = "ResourceConflictException",
        /// Too fast. 429.
        Throttling = "ThrottlingException",
        /// An account has all the connectors it may have, or a connector all its versions. 400.
        NetworkConnectorLimitExceeded = "NetworkConnectorLimitExceededException",
        /// Tags and connectors. 429.
        TooManyRequests = "TooManyRequestsException",
        /// Our fault. 500.
        InternalServer = "InternalServerException",
        /// No room on this host. 500.
        InsufficientCapacity = "InsufficientCapacityException",
        /// Tags and connectors. 500.
        Service = "ServiceException",
        /// Logs: our fault. 500.
        ServiceUnavailable = "ServiceUnavailableException",
        /// The request could not be read. 400.
        Serialization = "SerializationException",
        /// No such operation. 404.
        UnknownOperation = "UnknownOperationException",
        /// The body is too large. 413.
        RequestTooLarge = "RequestEntityTooLargeException",
    }
}

impl ErrorKind {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            ErrorKind::Validation
            | ErrorKind::InvalidParameterValue
            | ErrorKind::InvalidParameter
            | ErrorKind::NetworkConnectorLimitExceeded
            | ErrorKind::Serialization => 400,
            ErrorKind::ServiceQuotaExceeded => 402,
            ErrorKind::AccessDenied => 403,
            ErrorKind::ResourceNotFound | ErrorKind::UnknownOperation => 404,
            ErrorKind::Conflict | ErrorKind::ResourceConflict => 409,
            ErrorKind::RequestTooLarge => 413,
            ErrorKind::Throttling | ErrorKind::TooManyRequests => 429,
            ErrorKind::InternalServer | ErrorKind::InsufficientCapacity | ErrorKind::Service => 500,
            ErrorKind::ServiceUnavailable => 500,
        }
    }

    /// Members of the body beside the message; all `null` in practice.
    const fn details(self) -> &'static [&'static str] {
        match self {
            ErrorKind::ServiceQuotaExceeded => &["resourceId", "resourceType", "serviceCode", "quotaCode"],
            ErrorKind::ResourceNotFound | ErrorKind::Conflict => &["resourceId", "resourceType"],
            ErrorKind::Throttling => &["serviceCode", "quotaCode"],
            _ => &[],
        }
    }

    /// The older Lambda errors carry whose fault it was.
    const fn type_member(self) -> Option<&'static str> {
        match self {
            ErrorKind::InvalidParameterValue
            | ErrorKind::ResourceConflict
            | ErrorKind::NetworkConnectorLimitExceeded
            | ErrorKind::TooManyRequests => Some("User"),
            ErrorKind::Service => Some("Service"),
            _ => None,
        }
    }
}

/// Whose members an error has: the two services share names of errors and differ in their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As `lambda-microvms` has them.
    Microvms,
    /// As `lambda-core` has them: some spell the message with a capital (spec 2.5), and throttling says why and when.
    Core,
    /// A union that cannot be read, of either: the message with a capital (spec 2.5).
    Union,
}

/// An error of the service. It says only what the caller may know: causes on our side are logged, not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    kind: ErrorKind,
    message: Option<String>,
    form: Form,
    retry_after_seconds: Option<u32>,
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message.as_deref().unwrap_or("no message"))
    }
}

impl ApiError {
    /// An error with those words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError { kind, message: Some(message.into()), form: Form::Microvms, retry_after_seconds: None }
    }

    /// An error with a `null` message.
    pub fn silent(kind: ErrorKind) -> Self {
        ApiError { kind, message: None, form: Form::Microvms, retry_after_seconds: None }
    }

    /// Adds a `Retry-After`, in seconds; shown where the model has that header.
    pub fn retry_after(self, seconds: u32) -> Self {
        ApiError { retry_after_seconds: Some(seconds), ..self }
    }

    /// What went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// In words.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The value of `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        self.kind.as_str()
    }

    /// The value of `Retry-After`, seconds.
    pub const fn retry_after_seconds(&self) -> Option<u32> {
        match (self.kind, self.form) {
            (ErrorKind::InternalServer | ErrorKind::Throttling, _) | (ErrorKind::TooManyRequests, Form::Core) => {
                self.retry_after_seconds
            }
            _ => None,
        }
    }

    /// The JSON body, with its `null` members.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        let of_core = |kind| self.form == Form::Core && self.kind == kind;
        let absent = of_core(ErrorKind::ResourceNotFound);
        if let Some(text) = if absent { Some("User") } else { self.kind.type_member() } {
            body.insert("Type".to_owned(), text.into());
        }
        let capital = self.form == Form::Union || absent || of_core(ErrorKind::Service);
        body.insert(if capital { "Message" } else { "message" }.to_owned(), self.message.clone().into());
        if of_core(ErrorKind::TooManyRequests) {
            body.insert("Reason".to_owned(), "CallerRateLimitExceeded".into());
        }
        for name in if absent { &[] } else { self.kind.details() } {
            body.insert((*name).to_owned(), Value::Null);
        }
        Value::Object(body)
    }
}

/// The wordings of the service, one constructor each.
impl ApiError {
    /// Bad input in words of one's own.
    pub fn validation(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Validation, message)
    }

    /// The busy thing in words of one's own.
    pub fn conflict(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Conflict, message)
    }

    /// The body or a parameter could not be read: `{"message":null}` (spec 2.5).
    pub fn unparseable() -> Self {
        ApiError::silent(ErrorKind::Serialization)
    }

    /// A union member that must be `{}` was something else (spec 2.5).
    pub fn expected_null() -> Self {
        let error = ApiError::new(ErrorKind::Serialization, "Expected null");
        ApiError { form: Form::Union, ..error }
    }

    /// No operation has this method and path.
    pub fn unknown_operation(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::UnknownOperation, message)
    }

    /// Something failed on our side; the cause belongs into the log.
    pub fn internal() -> Self {
        ApiError::new(ErrorKind::InternalServer, "An internal error occurred. Please retry your request.")
            .retry_after(1)
    }

    /// The host has no room; `message` says what is short.
    pub fn insufficient_capacity(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::InsufficientCapacity, message)
    }

    /// Too fast, as the operation's family says it.
    pub fn throttled(family: Family, retry_after_seconds: u32) -> Self {
        let kind = match family {
            Family::Microvms => ErrorKind::Throttling,
            Family::Lambda => ErrorKind::TooManyRequests,
        };
        ApiError::new(kind, "Rate exceeded").retry_after(retry_after_seconds)
    }

    /// The memory quota of the account is used up.
    pub fn memory_quota() -> Self {
        let message = "The base maximum allocated memory limit has been reached for this account.";
        ApiError::new(ErrorKind::ServiceQuotaExceeded, message)
    }

    /// Another quota is used up: the account, or an image of it, has as many as it may. The service's exact words are not
    /// known; of builds they are said to be about these (spec 3.2).
    pub fn quota_reached(limit: u32, of: &str) -> Self {
        let message = format!("The account has reached its maximum number of {of}: {limit}");
        ApiError::new(ErrorKind::ServiceQuotaExceeded, message)
    }

    /// An architecture that this host cannot run. The service runs them all; the words are ours.
    pub fn unsupported_architecture(architecture: Architecture, supported: &[Architecture]) -> Self {
        let supported = supported.iter().map(|each| each.as_str()).collect::<Vec<_>>().join(", ");
        ApiError::validation(format!(
            "The architecture {architecture} is not supported by this server. Supported architectures are: [{supported}]."
        ))
    }

    /// No such microVM. Takes text, for ill-formed ids are not found either.
    pub fn microvm_not_found(id: impl fmt::Display) -> Self {
        ApiError::new(ErrorKind::ResourceNotFound, format!("MicroVM not found: {id}"))
    }

    /// No such image.
    pub fn image_not_found(image: impl fmt::Display) -> Self {
        ApiError::new(ErrorKind::ResourceNotFound, format!("MicroVMImage not found for MicroVMImageID: {image}"))
    }

    /// No such version of the image.
    pub fn version_not_found(image: impl fmt::Display, version: impl fmt::Display) -> Self {
        let message = format!("MicroVMImage not found for MicroVMImage: {image}, Version: {version}");
        ApiError::new(ErrorKind::ResourceNotFound, message)
    }

    /// No such build of the version.
    pub fn build_not_found(image: &ImageArn, version: ImageVersion, build: BuildId) -> Self {
        Self::build_text_not_found(image, version, build)
    }

    /// As [`ApiError::build_not_found`], for texts that cannot be ids.
    pub(crate) fn build_text_not_found(
        image: impl fmt::Display,
        version: impl fmt::Display,
        build: impl fmt::Display,
    ) -> Self {
        let message = format!("Build not found for MicroVMImage: {image}, Version: {version}, BuildId: {build}");
        ApiError::new(ErrorKind::ResourceNotFound, message)
    }

    /// Nothing of the image can be launched: no such image or version, not built, not active.
    pub fn no_active_version(image: impl fmt::Display, version: Option<&dyn fmt::Display>) -> Self {
        let suffix = version.map(|version| format!(" and version {version}")).unwrap_or_default();
        let message = format!("No active version found for MicroVM image {image}{suffix}");
        ApiError::new(ErrorKind::ResourceNotFound, message)
    }

    /// No such version of the managed image.
    pub fn no_managed_version(image: impl fmt::Display, version: impl fmt::Display) -> Self {
        let message = format!("No managed MicroVM Image with arn {image} and version {version} is available");
        ApiError::validation(message)
    }

    /// No such managed image. The service's words are not known; modelled on [`ApiError::no_managed_version`].
    pub fn no_managed_image(image: impl fmt::Display) -> Self {
        ApiError::validation(format!("No managed MicroVM Image with arn {image} is available"))
    }

    /// The name is taken.
    pub fn image_name_taken(name: &ImageName) -> Self {
        ApiError::validation(format!("A MicroVM image with the name '{name}' already exists in this account"))
    }

    /// The image is being built or changed.
    pub fn image_busy(state: crate::ImageState) -> Self {
        ApiError::conflict(format!("MicroVM Image is already in state: {state}"))
    }

    /// The image cannot be deleted while microVMs of it live.
    pub fn image_in_use() -> Self {
        ApiError::validation("Cannot delete microvm image with running microvms.")
    }

    /// The image cannot be deleted while it is being built.
    pub fn image_not_deletable(image: &ImageArn) -> Self {
        ApiError::validation(format!("Cannot delete MicroVM image in its current state: {image}"))
    }

    /// The version cannot be deleted while microVMs of it live. The service's words are not known; modelled on
    /// [`ApiError::image_in_use`].
    pub fn version_in_use() -> Self {
        ApiError::validation("Cannot delete microvm image version with running microvms.")
    }

    /// An image keeps one version at least (spec 3.2). The service's words are not known.
    pub fn last_version(image: &ImageArn) -> Self {
        ApiError::validation(format!(
            "Cannot delete the last version of MicroVM image {image}; delete the image instead."
        ))
    }

    /// Only what was built can be launched. The service's words are not known.
    pub fn version_not_activatable(version: ImageVersion, state: crate::ImageVersionState) -> Self {
        ApiError::validation(format!("MicroVM image version {version} cannot be ACTIVE in its current state: {state}"))
    }

    /// Something that can have tags, but that this service does not have.
    pub fn resource_not_found(arn: impl fmt::Display) -> Self {
        ApiError::new(ErrorKind::ResourceNotFound, format!("The resource does not exist: {arn}"))
    }

    /// More tags than a resource may have; `kind` as the operation's family has it.
    pub fn too_many_tags(kind: ErrorKind) -> Self {
        ApiError::new(kind, format!("A resource can have {} tags at most", bounds::TAGS))
    }

    /// A shell token for a microVM that takes no shells.
    pub fn no_shell_ingress() -> Self {
        let message = "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.";
        ApiError::validation(message)
    }

    /// The microVM is at its end.
    pub fn microvm_terminated(id: MicrovmId) -> Self {
        ApiError::validation(format!("The MicroVM {id} has been terminated and its state cannot be changed."))
    }

    /// The microVM cannot do that in its state. The service's words are not known.
    pub fn microvm_in_state(id: MicrovmId, state: crate::MicrovmState) -> Self {
        ApiError::conflict(format!("The MicroVM {id} is in state: {state}"))
    }

    /// A payload for an image that does not take one.
    pub fn payload_without_run_hook() -> Self {
        let message = "The run hook must be enabled in the MicroVM image to pass the run hook payload.";
        ApiError::validation(message)
    }

    /// A size that the base image does not have.
    pub fn unsupported_memory(mib: impl fmt::Display, base: &ManagedImageArn) -> Self {
        let sizes = bounds::MEMORY_SIZES_MIB.map(|size| size.to_string()).join(", ");
        ApiError::validation(format!(
            "The requested memory size of {mib} MiB is not supported by base MicroVM image {base}. \
             Supported memory sizes in MiB are: [{sizes}]."
        ))
    }

    /// The client token came before with other parameters.
    pub fn client_token_reused() -> Self {
        ApiError::conflict("The client token was used before with different parameters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_their_null_members() {
        let id: MicrovmId = "microvm-11111111-2222-3333-4444-555555555555".parse().unwrap();
        let error = ApiError::microvm_not_found(id);
        assert_eq!((error.status(), error.error_type()), (404, "ResourceNotFoundException"));
        assert_eq!(
            error.body(),
            serde_json::json!({"message": format!("MicroVM not found: {id}"), "resourceId": null, "resourceType": null})
        );
        assert_eq!(
            ApiError::memory_quota().body().as_object().unwrap().keys().collect::<Vec<_>>(),
            ["message", "quotaCode", "resourceId", "resourceType", "serviceCode"]
        );
        assert_eq!(ApiError::memory_quota().status(), 402);
        assert_eq!(ApiError::unparseable().body().to_string(), r#"{"message":null}"#);
        assert_eq!(ApiError::expected_null().body().to_string(), r#"{"Message":"Expected null"}"#);
        assert_eq!(ApiError::throttled(Family::Microvms, 3).retry_after_seconds(), Some(3));
        let tags = ApiError::throttled(Family::Lambda, 3);
        assert_eq!((tags.error_type(), tags.retry_after_seconds()), ("TooManyRequestsException", None));
        assert_eq!(tags.body(), serde_json::json!({"Type": "User", "message": "Rate exceeded"}));
    }

    #[test]
    fn launch_errors_name_the_version_only_when_one_was_asked_for() {
        let image = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";
        let text = |error: ApiError| error.message().unwrap().to_owned();
        assert_eq!(
            text(ApiError::no_active_version(image, None)),
            format!("No active version found for MicroVM image {image}")
        );
        assert_eq!(
            text(ApiError::no_active_version(image, Some(&ImageVersion::new(3)))),
            format!("No active version found for MicroVM image {image} and version 3.0")
        );
    }
}
