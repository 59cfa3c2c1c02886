//! The operations and their routes, for the server and for clients.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ApiError,
    schema::{Member, bounds::Bounds, connectors, inputs},
    shapes as s,
    sigv4::percent,
    text::enumeration,
};

enumeration! {
    /// A service, by the name that botocore and the AWS CLI have for it.
    Service {
        /// API version 2025-09-09.
        LambdaMicrovms = "lambda-microvms",
        /// API version 2026-04-30; its network connectors, not its runtimes.
        LambdaCore = "lambda-core",
    }
}

enumeration! {
    /// An operation of one of the two services.
    Operation {
        /// See [`s::CreateMicrovmImageInput`].
        CreateMicrovmImage = "CreateMicrovmImage",
        /// See [`s::GetMicrovmImageInput`].
        GetMicrovmImage = "GetMicrovmImage",
        /// See [`s::ListMicrovmImagesInput`].
        ListMicrovmImages = "ListMicrovmImages",
        /// See [`s::DeleteMicrovmImageInput`].
        DeleteMicrovmImage = "DeleteMicrovmImage",
        /// See [`s::UpdateMicrovmImageInput`].
        UpdateMicrovmImage = "UpdateMicrovmImage",
        /// See [`s::GetMicrovmImageVersionInput`].
        GetMicrovmImageVersion = "GetMicrovmImageVersion",
        /// See [`s::ListMicrovmImageVersionsInput`].
        ListMicrovmImageVersions = "ListMicrovmImageVersions",
        /// See [`s::UpdateMicrovmImageVersionInput`].
        UpdateMicrovmImageVersion = "UpdateMicrovmImageVersion",
        /// See [`s::DeleteMicrovmImageVersionInput`].
        DeleteMicrovmImageVersion = "DeleteMicrovmImageVersion",
        /// See [`s::GetMicrovmImageBuildInput`].
        GetMicrovmImageBuild = "GetMicrovmImageBuild",
        /// See [`s::ListMicrovmImageBuildsInput`].
        ListMicrovmImageBuilds = "ListMicrovmImageBuilds",
        /// See [`s::ListManagedMicrovmImagesInput`].
        ListManagedMicrovmImages = "ListManagedMicrovmImages",
        /// See [`s::ListManagedMicrovmImageVersionsInput`].
        ListManagedMicrovmImageVersions = "ListManagedMicrovmImageVersions",
        /// See [`s::RunMicrovmInput`].
        RunMicrovm = "RunMicrovm",
        /// See [`s::GetMicrovmInput`].
        GetMicrovm = "GetMicrovm",
        /// See [`s::ListMicrovmsInput`].
        ListMicrovms = "ListMicrovms",
        /// See [`s::SuspendMicrovmInput`].
        SuspendMicrovm = "SuspendMicrovm",
        /// See [`s::ResumeMicrovmInput`].
        ResumeMicrovm = "ResumeMicrovm",
        /// See [`s::TerminateMicrovmInput`].
        TerminateMicrovm = "TerminateMicrovm",
        /// See [`s::CreateMicrovmAuthTokenInput`].
        CreateMicrovmAuthToken = "CreateMicrovmAuthToken",
        /// See [`s::CreateMicrovmShellAuthTokenInput`].
        CreateMicrovmShellAuthToken = "CreateMicrovmShellAuthToken",
        /// See [`s::TagResourceInput`].
        TagResource = "TagResource",
        /// See [`s::UntagResourceInput`].
        UntagResource = "UntagResource",
        /// See [`s::ListTagsInput`].
        ListTags = "ListTags",
        /// See [`s::CreateNetworkConnectorInput`].
        CreateNetworkConnector = "CreateNetworkConnector",
        /// See [`s::GetNetworkConnectorInput`].
        GetNetworkConnector = "GetNetworkConnector",
        /// See [`s::ListNetworkConnectorsInput`].
        ListNetworkConnectors = "ListNetworkConnectors",
        /// See [`s::ListNetworkConnectorVersionsInput`].
        ListNetworkConnectorVersions = "ListNetworkConnectorVersions",
        /// See [`s::UpdateNetworkConnectorInput`].
        UpdateNetworkConnector = "UpdateNetworkConnector",
        /// See [`s::DeleteNetworkConnectorInput`].
        DeleteNetworkConnector = "DeleteNetworkConnector",
    }
}

/// Labels of a path: member and decoded value.
pub type Labels = Vec<(&'static str, String)>;

/// How an operation travels.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub method: &'static str,
    /// With `{member}` labels, each one segment.
    pub path: &'static str,
    /// Status of success; 204 has no body.
    pub status: u16,
    /// Members of the request.
    pub members: &'static [Member],
}

/// Operations whose errors have the same names (spec 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Images and microVMs.
    Microvms,
    /// What Lambda had before them: tags and connectors.
    Lambda,
}

impl Operation {
    /// Whose errors it has: those of paths of the API version 2025-09-09 are new, all others are Lambda's older ones.
    pub fn family(self) -> Family {
        if self.route().path.starts_with("/2025-09-09/") { Family::Microvms } else { Family::Lambda }
    }

    /// Whose operation it is.
    pub const fn service(self) -> Service {
        use Operation::*;
        match self {
            CreateNetworkConnector
            | GetNetworkConnector
            | ListNetworkConnectors
            | ListNetworkConnectorVersions
            | UpdateNetworkConnector
            | DeleteNetworkConnector => Service::LambdaCore,
            _ => Service::LambdaMicrovms,
        }
    }

    /// How it travels.
    pub const fn route(self) -> Route {
        use Operation::*;
        const fn route(method: &'static str, path: &'static str, status: u16, members: &'static [Member]) -> Route {
            Route { method, path, status, members }
        }
        match self {
            CreateMicrovmImage => route("POST", "/2025-09-09/microvm-images", 201, inputs::CREATE_MICROVM_IMAGE),
            ListMicrovmImages => route("GET", "/2025-09-09/microvm-images", 200, inputs::LIST_MICROVM_IMAGES),
            GetMicrovmImage => route("GET", "/2025-09-09/microvm-images/{imageIdentifier}", 200, inputs::IMAGE_ONLY),
            DeleteMicrovmImage => {
                route("DELETE", "/2025-09-09/microvm-images/{imageIdentifier}", 200, inputs::IMAGE_ONLY)
            }
            UpdateMicrovmImage => {
                route("PUT", "/2025-09-09/microvm-images/{imageIdentifier}", 200, inputs::UPDATE_MICROVM_IMAGE)
            }
            ListMicrovmImageVersions => route(
                "GET",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions",
                200,
                inputs::LIST_MICROVM_IMAGE_VERSIONS,
            ),
            GetMicrovmImageVersion => route(
                "GET",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
                200,
                inputs::IMAGE_VERSION_ONLY,
            ),
            UpdateMicrovmImageVersion => route(
                "PATCH",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
                200,
                inputs::UPDATE_MICROVM_IMAGE_VERSION,
            ),
            DeleteMicrovmImageVersion => route(
                "DELETE",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
                200,
                inputs::IMAGE_VERSION_ONLY,
            ),
            ListMicrovmImageBuilds => route(
                "GET",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds",
                200,
                inputs::LIST_MICROVM_IMAGE_BUILDS,
            ),
            GetMicrovmImageBuild => route(
                "GET",
                "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}",
                200,
                inputs::GET_MICROVM_IMAGE_BUILD,
            ),
            ListManagedMicrovmImages => route("GET", "/2025-09-09/managed-microvm-images", 200, inputs::PAGE_ONLY),
            ListManagedMicrovmImageVersions => route(
                "GET",
                "/2025-09-09/managed-microvm-images/{imageIdentifier}/versions",
                200,
                inputs::LIST_MANAGED_MICROVM_IMAGE_VERSIONS,
            ),
            RunMicrovm => route("POST", "/2025-09-09/microvms", 200, inputs::RUN_MICROVM),
            ListMicrovms => route("GET", "/2025-09-09/microvms", 200, inputs::LIST_MICROVMS),
            GetMicrovm => route("GET", "/2025-09-09/microvms/{microvmIdentifier}", 200, inputs::MICROVM_ONLY),
            TerminateMicrovm => route("DELETE", "/2025-09-09/microvms/{microvmIdentifier}", 200, inputs::MICROVM_ONLY),
            SuspendMicrovm => {
                route("POST", "/2025-09-09/microvms/{microvmIdentifier}/suspend", 200, inputs::MICROVM_ONLY)
            }
            ResumeMicrovm => {
                route("POST", "/2025-09-09/microvms/{microvmIdentifier}/resume", 200, inputs::MICROVM_ONLY)
            }
            CreateMicrovmAuthToken => route(
                "POST",
                "/2025-09-09/microvms/{microvmIdentifier}/auth-token",
                200,
                inputs::CREATE_MICROVM_AUTH_TOKEN,
            ),
            CreateMicrovmShellAuthToken => route(
                "POST",
                "/2025-09-09/microvms/{microvmIdentifier}/shell-auth-token",
                200,
                inputs::CREATE_MICROVM_SHELL_AUTH_TOKEN,
            ),
            TagResource => route("POST", "/2017-03-31/tags/{Resource}", 204, inputs::TAG_RESOURCE),
            UntagResource => route("DELETE", "/2017-03-31/tags/{Resource}", 204, inputs::UNTAG_RESOURCE),
            ListTags => route("GET", "/2017-03-31/tags/{Resource}", 200, inputs::LIST_TAGS),
            CreateNetworkConnector => route("POST", "/2026-04-04/network-connectors", 202, connectors::CREATE),
            ListNetworkConnectors => route("GET", "/2026-04-04/network-connectors", 200, connectors::LIST),
            GetNetworkConnector => {
                route("GET", "/2026-04-04/network-connectors/{Identifier}", 200, connectors::CONNECTOR_ONLY)
            }
            ListNetworkConnectorVersions => {
                route("GET", "/2026-04-04/network-connectors/{Identifier}/versions", 200, connectors::LIST_VERSIONS)
            }
            UpdateNetworkConnector => {
                route("PUT", "/2026-04-04/network-connectors/{Identifier}", 202, connectors::UPDATE)
            }
            DeleteNetworkConnector => {
                route("DELETE", "/2026-04-04/network-connectors/{Identifier}", 202, connectors::CONNECTOR_ONLY)
            }
        }
    }

    /// Finds the operation of a request, and the labels of its path, each percent-decoded once.
    ///
    /// # Errors
    /// `UnknownOperationException` when no route fits, `{"message":null}` when a label is no UTF-8.
    pub fn find(method: &str, raw_path: &str) -> Result<(Operation, Labels), ApiError> {
        for operation in Operation::ALL {
            let route = operation.route();
            if route.method != method {
                continue;
            }
            if let Some(labels) = labels(route.path, raw_path) {
                let decode = |(name, raw)| Some((name, percent::decode(raw)?));
                let labels = labels.into_iter().map(decode).collect::<Option<Labels>>();
                return Ok((*operation, labels.ok_or_else(ApiError::unparseable)?));
            }
        }
        let shown: String = raw_path.chars().take(256).collect();
        Err(ApiError::unknown_operation(format!("No operation of this service has the route {method} {shown}")))
    }
}

/// The raw labels, when the path fits the template.
fn labels<'a>(template: &'static str, raw_path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut labels = Vec::new();
    let mut segments = raw_path.split('/');
    for expected in template.split('/') {
        let segment = segments.next()?;
        match expected.strip_prefix('{').and_then(|label| label.strip_suffix('}')) {
            Some(name) if !segment.is_empty() => labels.push((name, segment)),
            None if expected == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(labels)
}

/// The request of one operation.
pub trait Input: Serialize + DeserializeOwned + Send {
    /// Which operation.
    const OPERATION: Operation;

    /// Its answer.
    type Output: Serialize + DeserializeOwned + Send;

    /// The rules between members and those of meaning, that need no state (spec 3.2, 3.3).
    ///
    /// # Errors
    /// What the service answers.
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// The rules that depend on how long the server lets microVMs and tokens live. Clients do not know, and leave them to it.
    ///
    /// # Errors
    /// What the service answers.
    fn check_bounds(&self, _bounds: Bounds) -> Result<(), ApiError> {
        Ok(())
    }
}

macro_rules! plain_inputs {
    ($($input:ident -> $output:ident: $operation:ident,)+) => {
        $(impl Input for s::$input {
            const OPERATION: Operation = Operation::$operation;
            type Output = s::$output;
        })+
    };
}

plain_inputs! {
    GetMicrovmImageInput -> GetMicrovmImageOutput: GetMicrovmImage,
    ListMicrovmImagesInput -> ListMicrovmImagesOutput: ListMicrovmImages,
    DeleteMicrovmImageInput -> DeleteMicrovmImageOutput: DeleteMicrovmImage,
    GetMicrovmImageVersionInput -> GetMicrovmImageVersionOutput: GetMicrovmImageVersion,
    ListMicrovmImageVersionsInput -> ListMicrovmImageVersionsOutput: ListMicrovmImageVersions,
    UpdateMicrovmImageVersionInput -> UpdateMicrovmImageVersionOutput: UpdateMicrovmImageVersion,
    DeleteMicrovmImageVersionInput -> DeleteMicrovmImageVersionOutput: DeleteMicrovmImageVersion,
    GetMicrovmImageBuildInput -> GetMicrovmImageBuildOutput: GetMicrovmImageBuild,
    ListMicrovmImageBuildsInput -> ListMicrovmImageBuildsOutput: ListMicrovmImageBuilds,
    ListManagedMicrovmImagesInput -> ListManagedMicrovmImagesOutput: ListManagedMicrovmImages,
    ListManagedMicrovmImageVersionsInput -> ListManagedMicrovmImageVersionsOutput: ListManagedMicrovmImageVersions,
    GetMicrovmInput -> GetMicrovmOutput: GetMicrovm,
    ListMicrovmsInput -> ListMicrovmsOutput: ListMicrovms,
    SuspendMicrovmInput -> SuspendMicrovmOutput: SuspendMicrovm,
    ResumeMicrovmInput -> ResumeMicrovmOutput: ResumeMicrovm,
    TerminateMicrovmInput -> TerminateMicrovmOutput: TerminateMicrovm,
    ListTagsInput -> ListTagsOutput: ListTags,
    GetNetworkConnectorInput -> GetNetworkConnectorOutput: GetNetworkConnector,
    ListNetworkConnectorsInput -> ListNetworkConnectorsOutput: ListNetworkConnectors,
    ListNetworkConnectorVersionsInput -> ListNetworkConnectorVersionsOutput: ListNetworkConnectorVersions,
    UpdateNetworkConnectorInput -> UpdateNetworkConnectorOutput: UpdateNetworkConnector,
    DeleteNetworkConnectorInput -> DeleteNetworkConnectorOutput: DeleteNetworkConnector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_match_raw_and_encoded_and_are_decoded_once() {
        let arn = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";
        for path in [arn.to_owned(), arn.replace(':', "%3A"), arn.replace(':', "%3a")] {
            let (operation, labels) =
                Operation::find("GET", &format!("/2025-09-09/microvm-images/{path}/versions/1.0")).unwrap();
            assert_eq!(operation, Operation::GetMicrovmImageVersion);
            assert_eq!(labels, [("imageIdentifier", arn.to_owned()), ("imageVersion", "1.0".to_owned())]);
        }
        let (_, labels) = Operation::find("GET", "/2025-09-09/microvm-images/a%2Fb%252F").unwrap();
        assert_eq!(labels, [("imageIdentifier", "a/b%2F".to_owned())]);
    }

    #[test]
    fn other_paths_and_methods_are_unknown() {
        for (method, path) in [
            ("GET", "/"),
            ("PUT", "/2025-09-09/microvms"),
            ("GET", "/2017-03-31/tags"),
            ("GET", "/2025-09-09/microvms/"),
            ("GET", "/2025-09-09/microvms/a/b"),
            ("GET", "/2025-09-09/microvm-images/arn/with/slash/more"),
            ("GET", "//2025-09-09/microvms"),
        ] {
            let error = Operation::find(method, path).unwrap_err();
            assert_eq!(error.status(), 404, "{method} {path}");
        }
        assert_eq!(Operation::find("GET", "/2025-09-09/microvms/%ff").unwrap_err().status(), 400);
    }

    #[test]
    fn every_label_is_a_member_and_routes_are_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for operation in Operation::ALL {
            let route = operation.route();
            assert!(seen.insert((route.method, route.path)), "{operation}");
            let labels = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let in_path = |member: &&Member| member.location == crate::schema::Location::Path;
            let members: Vec<_> = route.members.iter().filter(in_path).map(|member| member.name).collect();
            assert_eq!(labels.collect::<Vec<_>>(), members, "{operation}");
        }
    }
}
