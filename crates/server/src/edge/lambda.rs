//! The `lambda` service: REST-JSON to typed operations and back.

use std::sync::Arc;

use api::{ApiError, Operation, Service, operations::Labels, request, schema::bounds::Bounds};
use bytes::Bytes;
use http::Response;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{
    Caller, Edge, Operations,
    answer::{self, Body, Refusal},
    dispatch::Head,
};

/// Answers one request of the service.
pub(super) async fn call(
    edge: &Edge,
    tasks: &TaskTracker,
    head: &Head,
    caller: Caller,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    let id = caller.request_id;
    let (operation, labels) = Operation::find(&head.method, &head.path)?;
    let named = |error: ApiError| match operation.service() {
        Service::LambdaCore => error.of_core(),
        Service::LambdaMicrovms => error,
    };
    if let Some(throttle) = &edge.throttle {
        throttle.admit(&caller.account, operation).map_err(named)?;
    }
    let (operations, bounds, query) = (Arc::clone(&edge.operations), edge.bounds, head.query.clone());
    let call = Call { operations, bounds, caller, labels, query, body };
    let span = tracing::info_span!("operation", %operation, request_id = %id);
    // In a task of its own: it ends even if the client goes away, and a panic ends only it.
    let ended = tasks.spawn(call.perform(operation).instrument(span)).await;
    match ended {
        Ok(outcome) => Ok(answer::json(operation.route().status, outcome.map_err(named)?)),
        Err(error) => {
            tracing::error!(%operation, request_id = %id, %error, "the operation panicked; its request is answered with 500");
            Err(named(ApiError::internal()).into())
        }
    }
}

struct Call {
    operations: Arc<dyn Operations>,
    bounds: Bounds,
    caller: Caller,
    labels: Labels,
    query: String,
    body: Bytes,
}

impl Call {
    /// One arm per operation: decode, do, encode.
    async fn perform(self, operation: Operation) -> Result<Vec<u8>, ApiError> {
        let Call { operations, bounds, caller, labels, query, body } = self;
        macro_rules! perform {
            ($($variant:ident => $method:ident,)+) => {
                match operation {
                    $(Operation::$variant => {
                        let input = request::decode(bounds, labels, &query, &body)?;
                        encode(&caller, operations.$method(&caller, input).await?)
                    })+
                }
            };
        }
        perform! {
            CreateMicrovmImage => create_microvm_image,
            GetMicrovmImage => get_microvm_image,
            ListMicrovmImages => list_microvm_images,
            DeleteMicrovmImage => delete_microvm_image,
            UpdateMicrovmImage => update_microvm_image,
            GetMicrovmImageVersion => get_microvm_image_version,
            UpdateMicrovmImageVersion => update_microvm_image_version,
            DeleteMicrovmImageVersion => delete_microvm_image_version,
            ListMicrovmImageVersions => list_microvm_image_versions,
            GetMicrovmImageBuild => get_microvm_image_build,
            ListMicrovmImageBuilds => list_microvm_image_builds,
            ListManagedMicrovmImages => list_managed_microvm_images,
            ListManagedMicrovmImageVersions => list_managed_microvm_image_versions,
            RunMicrovm => run_microvm,
            GetMicrovm => get_microvm,
            ListMicrovms => list_microvms,
            SuspendMicrovm => suspend_microvm,
            ResumeMicrovm => resume_microvm,
            TerminateMicrovm => terminate_microvm,
            CreateMicrovmAuthToken => create_microvm_auth_token,
            CreateMicrovmShellAuthToken => create_microvm_shell_auth_token,
            TagResource => tag_resource,
            UntagResource => untag_resource,
            ListTags => list_tags,
            CreateNetworkConnector => create_network_connector,
            GetNetworkConnector => get_network_connector,
            ListNetworkConnectors => list_network_connectors,
            ListNetworkConnectorVersions => list_network_connector_versions,
            UpdateNetworkConnector => update_network_connector,
            DeleteNetworkConnector => delete_network_connector,
        }
    }
}

fn encode<T: serde::Serialize>(caller: &Caller, output: T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(&output).map_err(|error| {
        tracing::error!(request_id = %caller.request_id, %error, "an answer has no JSON form");
        ApiError::internal()
    })
}
