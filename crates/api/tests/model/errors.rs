//! Our errors: each operation declares what the model's does, with its status, its body members and its headers.

use std::collections::BTreeSet;

use api::{ApiError, ErrorKind, Operation, Service};
use serde_json::Value;

use crate::model::{Differences, models};

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn operations_declare_the_model_s_errors() {
    let models = models();
    let mut differences = Differences::but(&[]);
    for operation in Operation::ALL {
        let model = &models[operation.service().as_str()];
        let ours: BTreeSet<_> = operation.errors().iter().map(|kind| kind.as_str()).collect();
        let declared = model.operation(*operation)["errors"].as_array().unwrap();
        let theirs = declared.iter().map(|error| error["shape"].as_str().unwrap()).collect();
        differences.same(operation.as_str(), "errors", ours, theirs);
        for error in declared {
            let at = format!("{operation}.{}", error["shape"].as_str().unwrap());
            match error["shape"].as_str().unwrap().parse() {
                Ok(kind) => compare(&mut differences, &at, *operation, kind, model.shape(&error["shape"])),
                Err(_) => differences.report(&at, "there is no ErrorKind of this name"),
            }
        }
    }
    differences.none();
}

fn compare(differences: &mut Differences, at: &str, operation: Operation, kind: ErrorKind, theirs: &Value) {
    let status = theirs["error"]["httpStatusCode"].as_u64();
    differences.same(at, "status", Some(u64::from(kind.status())), status);
    let error = ApiError::new(kind, "words").retry_after(1);
    let error = if operation.service() == Service::LambdaCore { error.of_core() } else { error };
    let body = error.body();
    let ours: BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let (mut members, mut headers) = (BTreeSet::new(), BTreeSet::new());
    for (name, member) in theirs["members"].as_object().unwrap() {
        let wire = member["locationName"].as_str().unwrap_or(name);
        let place = if member["location"] == "header" { &mut headers } else { &mut members };
        place.insert(wire);
    }
    differences.same(at, "members of the body", ours, members);
    let ours = error.retry_after_seconds().map(|_| "Retry-After").into_iter().collect();
    differences.same(at, "headers", ours, headers);
}
