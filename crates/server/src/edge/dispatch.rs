//! Which service is a request for?

use std::sync::Arc;

use api::{
    ApiError,
    sigv4::{Authorization, Expected, SignatureError, SignedRequest},
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    Caller, Edge,
    answer::{self, Body, Protocol, Refusal},
    endpoints, events, gate, journal, keys, lambda, logs, names, sts,
};

/// The head of a request, as its signature covers it.
pub(super) struct Head {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case; `host` is there for HTTP/2 too.
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn of<B>(request: &Request<B>) -> Self {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut headers: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        if let (Some(authority), false) =
            (request.uri().authority(), request.headers().contains_key(http::header::HOST))
        {
            headers.push(("host".to_owned(), authority.as_str().to_owned()));
        }
        Head {
            method: request.method().as_str().to_owned(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers,
        }
    }

    pub fn signed(&self) -> SignedRequest<'_> {
        SignedRequest { method: &self.method, path: &self.path, query: &self.query, headers: &self.headers }
    }
}

/// A service behind this endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    Lambda,
    S3,
    Sts,
    Logs,
    Other(String),
}

/// Paths of Lambda's operations start with the version of its API; no bucket name does, for they have no such form.
const LAMBDA_PATHS: [&str; 8] = [
    journal::PATH,
    events::PATH,
    keys::PATH,
    endpoints::PATH,
    names::PATH,
    "/2025-09-09/",
    "/2026-04-04/",
    "/2017-03-31/",
];

/// A signature says what it is for. Without a readable one, the path tells who should refuse the request: S3 takes what
/// nobody else claims, for it has forms of its own (signature version 2, browser uploads).
fn service_of(head: &Head, presented: &Result<Authorization, SignatureError>) -> Service {
    if let Ok(authorization) = presented {
        return match authorization.scope.service.as_str() {
            "lambda" => Service::Lambda,
            "s3" => Service::S3,
            "sts" => Service::Sts,
            "logs" => Service::Logs,
            other => Service::Other(other.chars().take(64).collect()),
        };
    }
    if LAMBDA_PATHS.iter().any(|path| head.path.starts_with(path)) {
        return Service::Lambda;
    }
    let target = head.signed().header("x-amz-target").is_some_and(|target| target.starts_with("Logs_"));
    if target { Service::Logs } else { Service::S3 }
}

impl Service {
    /// How its answers are written, and what its requests must be signed for.
    fn speaks<'a>(
        &self,
        edge: &'a Edge,
        presented: &Result<Authorization, SignatureError>,
    ) -> (Protocol, Expected<'a>) {
        let global = || presented.as_ref().is_ok_and(|authorization| authorization.scope.region == sts::GLOBAL_REGION);
        let (protocol, service) = match self {
            Service::Sts => (Protocol::Query, "sts"),
            Service::Logs => (Protocol::Json, "logs"),
            _ => (Protocol::RestJson, "lambda"),
        };
        let region = if service == "sts" && global() { sts::GLOBAL_REGION } else { edge.region.as_str() };
        (protocol, Expected { region, service })
    }
}

/// Answers one request; never fails, for errors are answers.
pub(super) async fn answer(edge: Arc<Edge>, tasks: &TaskTracker, request: Request<Incoming>) -> Response<Body> {
    let id = Uuid::new_v4();
    let head = Head::of(&request);
    let presented = Authorization::parse(&head.signed());
    let service = service_of(&head, &presented);
    let (protocol, outcome) = match service {
        Service::S3 => return edge.s3.handle(request).await,
        Service::Other(name) => (protocol_of(&head), Err(unknown_service(&name))),
        known => {
            let (protocol, expected) = known.speaks(&edge, &presented);
            let admitted = gate::admit(&edge, id, &head, presented, expected, request.into_body()).await;
            let outcome = match admitted {
                Ok((caller, body)) => serve(&edge, tasks, &known, &head, caller, body).await,
                Err(refusal) => Err(refusal),
            };
            (protocol, outcome)
        }
    };
    let response = outcome.unwrap_or_else(|refusal| answer::refusal(protocol, id, &refusal));
    tracing::debug!(request_id = %id, method = head.method, path = head.path, status = response.status().as_u16(), "answered");
    answer::with_request_id(response, id)
}

/// Hands a request whose caller is known to who answers it.
async fn serve(
    edge: &Edge,
    tasks: &TaskTracker,
    service: &Service,
    head: &Head,
    caller: Caller,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    match service {
        Service::Sts => sts::call(edge, head, caller, body).await,
        Service::Logs => logs::call(edge, head, caller, body).await,
        _ if head.path == journal::PATH => journal::call(edge, head, caller).await,
        _ if head.path.starts_with(events::PATH) => events::call(edge, head, caller).await,
        _ if head.path.starts_with(endpoints::PATH) => endpoints::call(edge, tasks, head, caller, body).await,
        _ if head.path.starts_with(names::PATH) => names::call(edge, tasks, head, caller, body).await,
        _ if head.path.starts_with(keys::PATH) => keys::call(edge, tasks, head, caller, body).await,
        _ => lambda::call(edge, tasks, head, caller, body).await,
    }
}

/// How a service that we do not know would answer, so that its client can read what we say.
fn protocol_of(head: &Head) -> Protocol {
    let signed = head.signed();
    if signed.header("x-amz-target").is_some() {
        return Protocol::Json;
    }
    let form = signed.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if form { Protocol::Query } else { Protocol::RestJson }
}

fn unknown_service(name: &str) -> Refusal {
    let message = format!("This endpoint serves lambda, s3, sts and logs; the request is signed for '{name}'");
    Refusal::Api(ApiError::unknown_operation(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(path: &str, headers: &[(&str, &str)]) -> Service {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = Head::of(&request.body(()).unwrap());
        let presented = Authorization::parse(&head.signed());
        service_of(&head, &presented)
    }

    #[test]
    fn the_scope_decides_then_the_path() {
        let signed = |name: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=K/20260921/us-east-1/{name}/aws4_request, SignedHeaders=host, Signature=0"
            )
        };
        let date = ("x-amz-date", "20260921T131320Z");
        for (name, expected) in [
            ("lambda", Service::Lambda),
            ("s3", Service::S3),
            ("sts", Service::Sts),
            ("logs", Service::Logs),
            ("iam", Service::Other("iam".to_owned())),
        ] {
            assert_eq!(service("/", &[("authorization", &signed(name)), date]), expected);
        }
        let presigned = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20260921%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20260921T131320Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0";
        assert_eq!(service(presigned, &[]), Service::S3);
        assert_eq!(service("/2025-09-09/microvms", &[]), Service::Lambda);
        assert_eq!(service("/2025-09-09/microvms", &[("authorization", "AWS4-HMAC-SHA256 nonsense")]), Service::Lambda);
        assert_eq!(service("/bucket/key", &[]), Service::S3);
        assert_eq!(service("/", &[("x-amz-target", "Logs_20140328.GetLogEvents")]), Service::Logs);
    }

    #[test]
    fn http2_requests_have_a_host() {
        let request =
            Request::builder().uri("http://127.0.0.1:99/a?b").version(http::Version::HTTP_2).body(()).unwrap();
        let head = Head::of(&request);
        assert_eq!(head.signed().header("host"), Some("127.0.0.1:99"));
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/a", "b"));
    }
}
