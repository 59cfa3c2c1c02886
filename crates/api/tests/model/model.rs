//! A service model, and what a comparison with it collects.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    process::Command,
};

use api::Operation;
use serde_json::Value;

const READ: &str = "import botocore.session as s, json, sys; \
    print(json.dumps({n: s.get_session().get_service_model(n)._service_description for n in sys.argv[1:]}))";

/// The model of one service.
pub struct Model(Value);

/// The models of every service that an operation of ours belongs to.
pub fn models() -> BTreeMap<String, Model> {
    let python = std::env::var("HEARTH_BOTOCORE_PYTHON").expect("HEARTH_BOTOCORE_PYTHON names a Python with botocore");
    let services: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.service().as_str()).collect();
    let output = Command::new(python).args(["-c", READ]).args(services).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let models: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    models.into_iter().map(|(name, model)| (name, Model(model))).collect()
}

impl Model {
    /// The shape of that name; takes the reference that other shapes hold.
    pub fn shape(&self, name: &Value) -> &Value {
        &self.0["shapes"][name.as_str().unwrap()]
    }

    /// One operation.
    pub fn operation(&self, operation: Operation) -> &Value {
        &self.0["operations"][operation.as_str()]
    }

    /// The names of all operations.
    pub fn operations(&self) -> BTreeSet<&str> {
        self.0["operations"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// The shape of an operation's `input` or `output`; a structure without members when it has none.
    pub fn side(&self, operation: Operation, side: &str) -> Value {
        let name = &self.operation(operation)[side]["shape"];
        if name.is_null() { serde_json::json!({"type": "structure", "members": {}}) } else { self.shape(name).clone() }
    }
}

/// The strings of an array.
pub fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().map(|each| each.as_str().unwrap()).collect()
}

/// What differs, but for what is known to.
pub struct Differences {
    known: &'static [&'static str],
    used: BTreeSet<&'static str>,
    found: Vec<String>,
}

impl Differences {
    pub fn but(known: &'static [&'static str]) -> Self {
        Differences { known, used: BTreeSet::new(), found: Vec::new() }
    }

    /// They should be the same.
    pub fn same<T: PartialEq + Debug>(&mut self, at: &str, what: &str, ours: T, theirs: T) {
        if ours != theirs {
            self.report(at, &format!("{what}: ours {ours:?}, theirs {theirs:?}"));
        }
    }

    /// They differ.
    pub fn report(&mut self, at: &str, difference: &str) {
        match self.known.iter().find(|known| **known == at) {
            Some(known) => {
                self.used.insert(known);
            }
            None => self.found.push(format!("{at}: {difference}")),
        }
    }

    /// Fails when there are any, or when a known one is not there.
    pub fn none(self) {
        let stale = self.known.iter().filter(|known| !self.used.contains(*known));
        let stale = stale.map(|known| format!("{known}: is in tests/model/known.rs and does not differ any more"));
        let all: Vec<_> = self.found.into_iter().chain(stale).collect();
        assert!(all.is_empty(), "{} differences:\n{}", all.len(), all.join("\n"));
    }
}
