//! Our enumerations have the model's names, no more and no fewer.

use std::collections::BTreeSet;

use api::{
    Architecture, BuildState, Capability, Chipset, ComputeResourceType, ConnectorReasonCode, ConnectorState,
    ConnectorType, ElasticIpType, HookState, ImageState, ImageVersionState, ImageVersionStatus, LastUpdateStatus,
    ManagedImageVersionStatus, MicrovmState, NetworkProtocol, Operation,
};
use serde_json::Value;

use crate::model::{Differences, Model, models, strings};

/// The model's name of each.
const ENUMERATIONS: &[(&str, &[&str])] = &[
    ("Architecture", Architecture::NAMES),
    ("BuildState", BuildState::NAMES),
    ("Capability", Capability::NAMES),
    ("Chipset", Chipset::NAMES),
    ("ComputeResourceType", ComputeResourceType::NAMES),
    ("ElasticIpType", ElasticIpType::NAMES),
    ("HookState", HookState::NAMES),
    ("ManagedMicrovmImageVersionStatus", ManagedImageVersionStatus::NAMES),
    ("MicrovmImageState", ImageState::NAMES),
    ("MicrovmImageVersionState", ImageVersionState::NAMES),
    ("MicrovmImageVersionStatus", ImageVersionStatus::NAMES),
    ("MicrovmState", MicrovmState::NAMES),
    ("NetworkConnectorLastUpdateStatus", LastUpdateStatus::NAMES),
    ("NetworkConnectorLastUpdateStatusReasonCode", ConnectorReasonCode::NAMES),
    ("NetworkConnectorState", ConnectorState::NAMES),
    ("NetworkConnectorStateReasonCode", ConnectorReasonCode::NAMES),
    ("NetworkConnectorType", ConnectorType::NAMES),
    ("NetworkProtocol", NetworkProtocol::NAMES),
];

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn enumerations_have_the_model_s_names() {
    let models = models();
    let mut differences = Differences::but(&[]);
    let mut seen = BTreeSet::new();
    for operation in Operation::ALL {
        let model = &models[operation.service().as_str()];
        for side in ["input", "output"] {
            let Some(name) = model.operation(*operation)[side]["shape"].as_str() else { continue };
            let mut names = BTreeSet::new();
            reachable(model, name, &mut names);
            for name in names {
                let theirs = &model.shape(&Value::from(name.clone()))["enum"];
                if theirs.is_null() || !seen.insert(name.clone()) {
                    continue;
                }
                match ENUMERATIONS.iter().find(|(theirs, _)| *theirs == name) {
                    Some((_, ours)) => {
                        differences.same(&name, "names", ours.iter().copied().collect(), strings(theirs));
                    }
                    None => differences.report(&name, "the model has this enumeration, tests/model/enums.rs does not"),
                }
            }
        }
    }
    for (name, _) in ENUMERATIONS.iter().filter(|(name, _)| !seen.contains(*name)) {
        differences.report(name, "no operation of ours uses an enumeration of this name");
    }
    differences.none();
}

/// The names of all shapes that a shape is made of.
fn reachable(model: &Model, name: &str, names: &mut BTreeSet<String>) {
    if !names.insert(name.to_owned()) {
        return;
    }
    let shape = model.shape(&Value::from(name));
    let members = shape["members"].as_object().into_iter().flat_map(|members| members.values());
    let parts = ["member", "key", "value"].iter().filter_map(|part| shape.get(part));
    for part in members.chain(parts) {
        reachable(model, part["shape"].as_str().unwrap(), names);
    }
}
