//! What texts must mean, with the service's words when they do not (spec 2.2, 3.2).

use serde_json::{Map, Value};

use crate::{
    ApiError, ErrorKind, S3Uri,
    arns::{ConnectorArn, ImageArn, ManagedImageArn, TaggableArn, starts_like_an_arn},
    connectors::{ConnectorIdentifier, ConnectorName},
    ids::{BaseImageVersion, BuildId, ImageVersion, MicrovmId},
};

type Request = Map<String, Value>;

/// Another member of the request, for messages.
fn member<'a>(request: &'a Request, name: &str) -> &'a str {
    request.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// An image in the path of an image operation.
pub(super) fn image(_: &Request, text: &str) -> Result<(), ApiError> {
    if text.parse::<ImageArn>().is_ok() {
        return Ok(());
    }
    if text.parse::<ManagedImageArn>().is_ok() {
        return Err(ApiError::image_not_found(text));
    }
    if starts_like_an_arn(text) && text.contains(":microvm-image/") {
        // What AWS answers too (spec 2.2); the words are ours.
        let message = format!("Access to {text} is denied: an image ARN has a colon, not a slash, before the name");
        return Err(ApiError::new(ErrorKind::AccessDenied, message));
    }
    let message =
        format!("Invalid ARN format: {text}. Expected arn:aws:lambda:<region>:<account>:microvm-image:<name>");
    Err(ApiError::validation(message))
}

/// An image that is to be launched or filtered by.
pub(super) fn image_to_run(request: &Request, text: &str) -> Result<(), ApiError> {
    if !starts_like_an_arn(text) {
        return Err(ApiError::validation("Malformed ARN - doesn't start with 'arn:'"));
    }
    if text.parse::<ManagedImageArn>().is_ok() {
        let version = member(request, "imageVersion");
        let version: Option<&dyn std::fmt::Display> = if version.is_empty() { None } else { Some(&version) };
        return Err(ApiError::no_active_version(text, version));
    }
    image(request, text)
}

/// A version that is to be launched.
pub(super) fn version_to_run(request: &Request, text: &str) -> Result<(), ApiError> {
    let unknown = |_| ApiError::no_active_version(member(request, "imageIdentifier"), Some(&text));
    text.parse::<ImageVersion>().map(drop).map_err(unknown)
}

/// A version in the path.
pub(super) fn version(request: &Request, text: &str) -> Result<(), ApiError> {
    let unknown = |_| ApiError::version_not_found(member(request, "imageIdentifier"), text);
    text.parse::<ImageVersion>().map(drop).map_err(unknown)
}

/// A build in the path.
pub(super) fn build(request: &Request, text: &str) -> Result<(), ApiError> {
    let unknown = |_| {
        let (image, version) = (member(request, "imageIdentifier"), member(request, "imageVersion"));
        ApiError::build_text_not_found(image, version, text)
    };
    text.parse::<BuildId>().map(drop).map_err(unknown)
}

/// A microVM in the path. AWS's gateway breaks on ill-formed ids; we find nothing by that name.
pub(super) fn microvm(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<MicrovmId>().map(drop).map_err(|_| ApiError::microvm_not_found(text))
}

/// The managed image of a new version.
pub(super) fn base_image(request: &Request, text: &str) -> Result<(), ApiError> {
    if text.parse::<ManagedImageArn>().is_ok() {
        return Ok(());
    }
    image(request, text)?;
    Err(ApiError::no_managed_image(text))
}

/// A managed image in the path.
pub(super) fn managed_image(request: &Request, text: &str) -> Result<(), ApiError> {
    if text.parse::<ManagedImageArn>().is_ok() {
        return Ok(());
    }
    image(request, text)?;
    Err(ApiError::image_not_found(text))
}

/// The version of the managed image: a bare integer.
pub(super) fn base_version(request: &Request, text: &str) -> Result<(), ApiError> {
    let unknown = |_| ApiError::no_managed_version(member(request, "baseImageArn"), text);
    text.parse::<BaseImageVersion>().map(drop).map_err(unknown)
}

/// The zip.
pub(super) fn s3_uri(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<S3Uri>().map(drop).map_err(|error| ApiError::validation(error.to_string()))
}

/// A network connector.
pub(super) fn connector(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<ConnectorArn>().map(drop).map_err(|error| ApiError::validation(error.to_string()))
}

/// The name of a new network connector. The pattern lets ARNs pass; what the service says to one is not known.
pub(super) fn connector_name(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<ConnectorName>().map(drop).map_err(|error| ApiError::invalid_parameter(error.to_string()))
}

/// A network connector in the path. What cannot name one names none.
pub(super) fn connector_identifier(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<ConnectorIdentifier>().map(drop).map_err(|_| ApiError::connector_not_found(text))
}

/// What has tags.
pub(super) fn taggable(_: &Request, text: &str) -> Result<(), ApiError> {
    text.parse::<TaggableArn>().map(drop).map_err(|_| ApiError::resource_not_found(text))
}
