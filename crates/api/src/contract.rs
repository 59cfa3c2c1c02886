//! What an operation may answer, as the service's model declares it (`tests/model` holds this to the model).

use serde_json::Value;

use crate::{ErrorKind, Input, Operation, Service, shapes as s};

/// Declared by every operation of `lambda-core`.
macro_rules! core_with {
    ($($more:ident),*) => {
        &[ErrorKind::InvalidParameterValue, ErrorKind::Service, ErrorKind::TooManyRequests, $(ErrorKind::$more),*]
    };
}

const CORE_COLLECTION: &[ErrorKind] = core_with![];
const CORE_READ: &[ErrorKind] = core_with![ResourceNotFound];
const CORE_DELETE: &[ErrorKind] = core_with![ResourceNotFound, ResourceConflict];
const CORE_UPDATE: &[ErrorKind] = core_with![ResourceNotFound, ResourceConflict, NetworkConnectorLimitExceeded];
const CORE_CREATE: &[ErrorKind] = core_with![ResourceConflict, NetworkConnectorLimitExceeded];

/// Declared by every operation of `lambda-microvms`.
macro_rules! with_common {
    ($($more:ident),*) => {
        &[
            ErrorKind::AccessDenied, ErrorKind::InternalServer, ErrorKind::Throttling, ErrorKind::Validation,
            $(ErrorKind::$more),*
        ]
    };
}

const COLLECTION: &[ErrorKind] = with_common![];
const READ: &[ErrorKind] = with_common![ResourceNotFound];
const CHANGE: &[ErrorKind] = with_common![ResourceNotFound, Conflict];
const BUILD: &[ErrorKind] = with_common![ResourceNotFound, Conflict, ServiceQuotaExceeded];
const LAUNCH: &[ErrorKind] = with_common![ResourceNotFound, Conflict, ServiceQuotaExceeded, InsufficientCapacity];
const TAG_READ: &[ErrorKind] = with_common![ResourceNotFound, InvalidParameterValue, TooManyRequests, Service];
const TAG_CHANGE: &[ErrorKind] =
    with_common![ResourceNotFound, InvalidParameterValue, TooManyRequests, Service, ResourceConflict];

impl Operation {
    /// The errors that it declares. Beside them stand those of the front: [`ErrorKind::of_front`], and signatures.
    pub const fn errors(self) -> &'static [ErrorKind] {
        use Operation::*;
        match self {
            ListMicrovmImages | ListManagedMicrovmImages => COLLECTION,
            GetMicrovmImage
            | GetMicrovmImageVersion
            | GetMicrovmImageBuild
            | ListMicrovmImageVersions
            | ListMicrovmImageBuilds
            | ListManagedMicrovmImageVersions
            | GetMicrovm
            | ListMicrovms => READ,
            DeleteMicrovmImage
            | DeleteMicrovmImageVersion
            | UpdateMicrovmImageVersion
            | SuspendMicrovm
            | ResumeMicrovm
            | TerminateMicrovm
            | CreateMicrovmAuthToken
            | CreateMicrovmShellAuthToken => CHANGE,
            CreateMicrovmImage | UpdateMicrovmImage => BUILD,
            RunMicrovm => LAUNCH,
            ListTags => TAG_READ,
            TagResource | UntagResource => TAG_CHANGE,
            CreateNetworkConnector => CORE_CREATE,
            UpdateNetworkConnector => CORE_UPDATE,
            DeleteNetworkConnector => CORE_DELETE,
            GetNetworkConnector | ListNetworkConnectorVersions => CORE_READ,
            ListNetworkConnectors => CORE_COLLECTION,
        }
    }

    /// May it answer that? What it declares, what the front of every service adds, and what `lambda-core` answers without
    /// having declared it (spec 9.2).
    pub fn may_answer(self, kind: ErrorKind) -> bool {
        let undeclared = [ErrorKind::Validation, ErrorKind::AccessDenied];
        self.errors().contains(&kind)
            || kind.of_front()
            || (self.service() == Service::LambdaCore && undeclared.contains(&kind))
    }

    /// An answer's body as this crate understands it: read into the operation's output and written again. What the output
    /// does not know is lost on the way.
    ///
    /// # Errors
    /// When it is no answer of this operation, in serde's words.
    pub fn reread(self, answer: &Value) -> Result<Value, String> {
        let (_, reread) = OUTPUTS.iter().find(|(operation, _)| *operation == self).ok_or("not in contract.rs")?;
        reread(answer)
    }
}

impl ErrorKind {
    /// Does the front of every AWS service add it, whatever the operation declares?
    pub const fn of_front(self) -> bool {
        matches!(self, ErrorKind::Serialization | ErrorKind::UnknownOperation | ErrorKind::RequestTooLarge)
    }
}

fn reread<I: Input>(answer: &Value) -> Result<Value, String> {
    let output = serde_json::from_value::<I::Output>(answer.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(output).map_err(|error| error.to_string())
}

type Reread = fn(&Value) -> Result<Value, String>;

macro_rules! outputs {
    ($($input:ident,)+) => { &[$((<s::$input as Input>::OPERATION, reread::<s::$input>),)+] };
}

/// Every operation by its input; a test asks for what is missing.
const OUTPUTS: &[(Operation, Reread)] = outputs![
    CreateMicrovmImageInput,
    GetMicrovmImageInput,
    ListMicrovmImagesInput,
    DeleteMicrovmImageInput,
    UpdateMicrovmImageInput,
    GetMicrovmImageVersionInput,
    ListMicrovmImageVersionsInput,
    UpdateMicrovmImageVersionInput,
    DeleteMicrovmImageVersionInput,
    GetMicrovmImageBuildInput,
    ListMicrovmImageBuildsInput,
    ListManagedMicrovmImagesInput,
    ListManagedMicrovmImageVersionsInput,
    RunMicrovmInput,
    GetMicrovmInput,
    ListMicrovmsInput,
    SuspendMicrovmInput,
    ResumeMicrovmInput,
    TerminateMicrovmInput,
    CreateMicrovmAuthTokenInput,
    CreateMicrovmShellAuthTokenInput,
    TagResourceInput,
    UntagResourceInput,
    ListTagsInput,
    CreateNetworkConnectorInput,
    GetNetworkConnectorInput,
    ListNetworkConnectorsInput,
    ListNetworkConnectorVersionsInput,
    UpdateNetworkConnectorInput,
    DeleteNetworkConnectorInput,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_output() {
        for operation in Operation::ALL {
            let count = OUTPUTS.iter().filter(|(each, _)| each == operation).count();
            assert_eq!(count, 1, "{operation} must be in OUTPUTS once");
        }
    }
}
