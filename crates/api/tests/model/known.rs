//! Where we differ on purpose, each with its reason. An entry that is no longer needed fails too.

/// Of requests: `<operation>.<member path>`.
pub const INPUTS: &[&str] = &[
    // Below 0 there is no size; the sizes that there are come with `Input::check`, in the service's own words (spec 3.2).
    "CreateMicrovmImage.resources[].minimumMemoryInMiB",
    "UpdateMicrovmImage.resources[].minimumMemoryInMiB",
];

/// Of answers: `<operation>.<member path>`.
pub const OUTPUTS: &[&str] = &[
    // Live answers have it, always null; the model does not (spec 2.5).
    "RunMicrovm.terminationReasonCode",
    "GetMicrovm.terminationReasonCode",
];

/// Operations of the models that are not ours: `<service>.<operation>`.
pub const OPERATIONS: &[&str] = &[];
