//! hearth's own routes for custom host names, signed for `lambda`. `hearth names` speaks them.
//!
//! ```text
//! PUT    /hearth/v1/names/<host>  {"microvm", "port"?, "certificate"?, "key"?}    hearth:PutName
//! GET    /hearth/v1/names                                                         hearth:ListNames
//! DELETE /hearth/v1/names/<host>                                                  hearth:DeleteName
//! ```
//!
//! The actions are asked for on `arn:aws:lambda:<region>:<account>:name/<host>`, with `*` in place of the host for the list;
//! `PutName` on the microVM's image too.

use std::num::NonZeroU16;

use api::{ApiError, ErrorKind, MicrovmId, Sensitive, sigv4::percent};
use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{
    Caller, Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
    endpoints::parse,
};
use crate::{
    failure::internal,
    names::{Given, PutError},
    store::NameRecord,
};

/// Where the routes lie.
pub(super) const PATH: &str = "/hearth/v1/names";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    microvm: MicrovmId,
    port: Option<NonZeroU16>,
    certificate: Option<String>,
    key: Option<Sensitive<String>>,
}

/// What a name is to lead to.
#[derive(Debug)]
pub struct Target {
    /// Which microVM.
    pub microvm: MicrovmId,
    /// The port in place of 8080.
    pub port: u16,
    /// Its certificate; `None`: hearth's own CA issues one.
    pub given: Option<Given>,
}

/// Answers one request.
pub(super) async fn call(
    edge: &Edge,
    tasks: &TaskTracker,
    head: &Head,
    caller: Caller,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    let unknown = || ApiError::unknown_operation("No operation on host names has this method and path");
    let rest = head.path.strip_prefix(PATH).ok_or_else(unknown)?;
    let host = match rest.strip_prefix('/') {
        Some(host) if !host.is_empty() && !host.contains('/') => Some(percent::decode(host).unwrap_or_default()),
        None if rest.is_empty() => None,
        _ => return Err(unknown().into()),
    };
    let (method, endpoints) = (head.method.clone(), edge.endpoints.clone());
    let resource = |host: &str| {
        let (region, account) = (&edge.region, &caller.account);
        format!("arn:{}:lambda:{region}:{account}:name/{host}", region.partition())
    };
    let resource = resource(&host.as_deref().unwrap_or("*").to_ascii_lowercase());
    let work = async move {
        let answer: Value = match (&method[..], host) {
            ("GET", None) => {
                caller.authorize("hearth:ListNames", resource)?;
                let names = endpoints.names(&caller);
                json!({ "names": names.iter().map(|name| shown(name)).collect::<Vec<_>>() })
            }
            ("PUT", Some(host)) => {
                caller.authorize("hearth:PutName", resource)?;
                let name = endpoints.put_name(&caller, &host, target(&body)?).await?;
                shown(&name)
            }
            ("DELETE", Some(host)) => {
                caller.authorize("hearth:DeleteName", resource)?;
                endpoints.delete_name(&caller, &host).await?;
                json!({})
            }
            _ => return Err(ApiError::unknown_operation("No operation on host names has this method and path")),
        };
        serde_json::to_vec(&answer).map_err(internal)
    };
    // In a task of its own: a change of the store must reach the copy in memory even if the client goes away.
    match tasks.spawn(work).await {
        Ok(outcome) => Ok(answer::json(200, outcome?)),
        Err(error) => Err(internal(error).into()),
    }
}

fn target(body: &[u8]) -> Result<Target, ApiError> {
    let Put { microvm, port, certificate, key } = parse(body)?;
    let given = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Given { certificate, key }),
        (None, None) => None,
        _ => return Err(ApiError::validation("certificate and key go together; give both or none")),
    };
    Ok(Target { microvm, port: port.map_or(8080, NonZeroU16::get), given })
}

fn shown(name: &NameRecord) -> Value {
    let certificate = if name.certificate.is_some() { "own" } else { "hearth" };
    json!({ "host": name.host, "microvmId": name.microvm, "port": name.port, "certificate": certificate })
}

/// What the caller may know of it.
pub(crate) fn outside(error: PutError) -> ApiError {
    let kind = match error {
        PutError::NoHost(_) | PutError::Own(_) | PutError::Certificate(_) => ErrorKind::Validation,
        PutError::Taken(_) => ErrorKind::Conflict,
        PutError::Full => ErrorKind::ServiceQuotaExceeded,
        PutError::Store(error) => return internal(error),
        PutError::File(error) => return internal(error),
    };
    ApiError::new(kind, error.to_string())
}
