//! Where an error of ours becomes an answer: the inside half into the log, the outside half to the caller.

use api::ApiError;

/// Logs what went wrong here and tells the caller that something did.
pub fn internal(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "an operation failed on our side");
    ApiError::internal()
}
