//! Our table of requests: routes, members, requiredness, bounds.

use std::collections::BTreeSet;

use api::{
    Operation,
    schema::{Location, Member, Shape, Text},
};
use serde_json::Value;

use crate::{
    known,
    model::{Differences, Model, models, strings},
};

struct Comparison<'a> {
    model: &'a Model,
    differences: Differences,
}

impl Comparison<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, at: &str, what: &str, ours: T, theirs: T) {
        self.differences.same(at, what, ours, theirs);
    }

    fn members(&mut self, at: &str, ours: &[Member], theirs: &Value) {
        let names: BTreeSet<_> = ours.iter().map(|member| member.name).collect();
        let empty = serde_json::Map::new();
        let by_wire_name = |(name, member): (&String, &Value)| {
            (member["locationName"].as_str().unwrap_or(name).to_owned(), member.clone())
        };
        let modelled: serde_json::Map<_, _> =
            theirs["members"].as_object().unwrap_or(&empty).iter().map(by_wire_name).collect();
        // `required` has the model's names, everything else those on the wire.
        let wire = |name: &str| theirs["members"][name]["locationName"].as_str().unwrap_or(name).to_owned();
        self.same(at, "members", names, modelled.keys().map(String::as_str).collect());
        let required: BTreeSet<_> =
            ours.iter().filter(|member| member.required).map(|member| member.name.to_owned()).collect();
        self.same(at, "required", required, strings(&theirs["required"]).into_iter().map(wire).collect());
        for member in ours {
            let Some(modelled) = modelled.get(member.name) else { continue };
            let at = format!("{at}.{}", member.name);
            let location = match modelled["location"].as_str() {
                Some("uri") => Location::Path,
                Some("querystring") => Location::Query,
                _ => Location::Body,
            };
            self.same(&at, "location", member.location, location);
            self.shape(&at, member.shape, self.model.shape(&modelled["shape"]));
        }
    }

    fn shape(&mut self, at: &str, ours: &Shape, theirs: &Value) {
        let kind = theirs["type"].as_str().unwrap();
        let bound = |name: &str| theirs[name].as_i64();
        match ours {
            Shape::Text(text) => {
                self.same(at, "type", "string", kind);
                self.text(at, text, theirs);
            }
            Shape::Enum(names) => {
                self.same(at, "enum", names.iter().copied().collect(), strings(&theirs["enum"]));
            }
            Shape::Integer { min, max } => {
                self.same(at, "type", "integer", kind);
                self.same(at, "min", i64::from(*min), bound("min").unwrap_or(i64::from(i32::MIN)));
                self.same(at, "max", i64::from(*max), bound("max").unwrap_or(i64::from(i32::MAX)));
            }
            // Only CloudWatch Logs has these: see `model_logs.rs`.
            Shape::Long { .. } => self.same(at, "type", "long", kind),
            Shape::Boolean => self.same(at, "type", "boolean", kind),
            Shape::Structure(members) => {
                self.same(at, "union", false, theirs["union"].as_bool().unwrap_or(false));
                self.members(at, members, theirs);
            }
            Shape::Union(members) => {
                self.same(at, "union", true, theirs["union"].as_bool().unwrap_or(false));
                self.members(at, members, theirs);
            }
            Shape::List { min, max, item } => {
                self.same(at, "type", "list", kind);
                self.same(at, "min", *min as i64, bound("min").unwrap_or(0));
                self.same(at, "max", i64::try_from(*max).ok().filter(|max| *max < i64::MAX), bound("max"));
                self.shape(&format!("{at}[]"), item, self.model.shape(&theirs["member"]["shape"]));
            }
            Shape::Map { max, key, value } => {
                self.same(at, "type", "map", kind);
                self.same(at, "max", i64::try_from(*max).ok().filter(|max| *max < i64::MAX), bound("max"));
                self.text(&format!("{at}{{key}}"), key, self.model.shape(&theirs["key"]["shape"]));
                self.text(&format!("{at}{{value}}"), value, self.model.shape(&theirs["value"]["shape"]));
            }
        }
    }

    fn text(&mut self, at: &str, ours: &Text, theirs: &Value) {
        self.same(at, "min", ours.min as i64, theirs["min"].as_i64().unwrap_or(0));
        let max = i64::try_from(ours.max).ok().filter(|max| *max < i64::MAX);
        self.same(at, "max", max, theirs["max"].as_i64());
        self.same(at, "pattern", ours.pattern.map(|pattern| pattern.text), theirs["pattern"].as_str());
        self.same(at, "sensitive", ours.sensitive, theirs["sensitive"].as_bool().unwrap_or(false));
    }
}

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn the_table_says_what_the_model_says() {
    let mut differences = Differences::but(known::INPUTS);
    let models = models();
    for operation in Operation::ALL {
        let model = &models[operation.service().as_str()];
        let mut comparison = Comparison { model, differences };
        let (route, http) = (operation.route(), &model.operation(*operation)["http"]);
        let at = operation.as_str();
        comparison.same(at, "method", Some(route.method), http["method"].as_str());
        comparison.same(at, "path", Some(route.path), http["requestUri"].as_str());
        comparison.same(at, "status", Some(u64::from(route.status)), http["responseCode"].as_u64());
        comparison.members(at, route.members, &model.side(*operation, "input"));
        differences = comparison.differences;
    }
    differences.none();
}

#[test]
#[ignore = "needs botocore: set HEARTH_BOTOCORE_PYTHON"]
fn every_operation_of_the_models_is_ours() {
    let mut differences = Differences::but(known::OPERATIONS);
    let ours: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
    for (service, model) in &models() {
        // Runtimes are another product behind the same service.
        for missing in model.operations().difference(&ours).filter(|name| !name.contains("Runtime")) {
            differences.report(&format!("{service}.{missing}"), "the model has this operation and we do not");
        }
    }
    differences.none();
}
