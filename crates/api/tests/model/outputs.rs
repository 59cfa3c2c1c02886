//! Our types of answers: what the model allows is read and written again without loss, what it requires is asked for.

use api::Operation;
use serde_json::Value;

use crate::{
    known,
    model::{Differences, Model, models, strings},
    samples::documents,
};

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn answers_of_the_model_are_read_and_written_again() {
    let models = models();
    let mut differences = Differences::but(known::OUTPUTS);
    for operation in Operation::ALL {
        let model = &models[operation.service().as_str()];
        let (at, shape) = (operation.as_str(), model.side(*operation, "output"));
        for document in documents(model, at, &shape) {
            match operation.reread(&document) {
                Ok(written) => compare(&mut differences, at, &document, &written),
                Err(error) => differences.report(at, &format!("{document} is not read: {error}")),
            }
        }
    }
    differences.none();
}

/// What was sent and what came back.
fn compare(differences: &mut Differences, at: &str, sent: &Value, back: &Value) {
    match (sent, back) {
        (Value::Object(sent), Value::Object(back)) => {
            for (name, value) in sent {
                let at = format!("{at}.{name}");
                match back.get(name) {
                    Some(back) => compare(differences, &at, value, back),
                    None => differences.report(&at, "the model has it; our type drops it, or names it otherwise"),
                }
            }
            for name in back.keys().filter(|name| !sent.contains_key(*name)) {
                differences.report(&format!("{at}.{name}"), "we have this member and the model does not");
            }
        }
        (Value::Array(sent), Value::Array(back)) if sent.len() == back.len() => {
            for (sent, back) in sent.iter().zip(back) {
                compare(differences, &format!("{at}[]"), sent, back);
            }
        }
        _ => differences.same(at, "value", back, sent),
    }
}

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn what_is_optional_may_lack_and_what_is_required_may_not() {
    let models = models();
    let mut differences = Differences::but(&[]);
    for operation in Operation::ALL {
        let model = &models[operation.service().as_str()];
        let (at, shape) = (operation.as_str(), model.side(*operation, "output"));
        for document in documents(model, at, &shape) {
            let mut lacking = Vec::new();
            without(model, at, &shape, &document, &mut lacking);
            for (at, required, document) in lacking {
                match (required, operation.reread(&document)) {
                    (true, Ok(_)) => {
                        differences.report(&at, "the model requires it; our type reads an answer without it")
                    }
                    (false, Err(error)) => {
                        differences.report(&at, &format!("the model does not require it; our type does: {error}"));
                    }
                    _ => {}
                }
            }
        }
    }
    differences.none();
}

/// The document without each of its members in turn, and with each of them `null`; is the member required?
fn without(model: &Model, at: &str, shape: &Value, document: &Value, found: &mut Vec<(String, bool, Value)>) {
    match (shape["type"].as_str().unwrap(), document) {
        ("structure", Value::Object(members)) => {
            let union = shape["union"].as_bool().unwrap_or_default();
            for (name, member) in shape["members"].as_object().unwrap() {
                let wire = member["locationName"].as_str().unwrap_or(name);
                let Some(value) = members.get(wire) else { continue };
                let at = format!("{at}.{wire}");
                // Of a union there is nothing left without its member.
                let required = union || strings(&shape["required"]).contains(name.as_str());
                let (mut absent, mut null) = (document.clone(), document.clone());
                absent.as_object_mut().unwrap().remove(wire);
                null[wire] = Value::Null;
                found.extend([absent, null].map(|document| (at.clone(), required, document)));
                let mut inner = Vec::new();
                without(model, &at, model.shape(&member["shape"]), value, &mut inner);
                found.extend(inner.into_iter().map(|(at, required, value)| {
                    let mut document = document.clone();
                    document[wire] = value;
                    (at, required, document)
                }));
            }
        }
        ("list", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let mut inner = Vec::new();
                without(model, &format!("{at}[]"), model.shape(&shape["member"]["shape"]), item, &mut inner);
                found.extend(inner.into_iter().map(|(at, required, value)| {
                    let mut document = document.clone();
                    document[index] = value;
                    (at, required, document)
                }));
            }
        }
        _ => {}
    }
}
