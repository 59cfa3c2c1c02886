//! What answers have named so far, so that requests can be about things that exist.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use serde_json::Value;

/// Things of one kind that are remembered.
const KEPT: usize = 48;

#[derive(Default)]
pub struct Pool(Mutex<BTreeMap<&'static str, VecDeque<String>>>);

impl Pool {
    /// Remembers what an answer names; the microVMs that are forgotten for it.
    pub fn learn(&self, answer: &Value) -> Vec<String> {
        let mut pool = self.0.lock().unwrap();
        let mut forgotten = Vec::new();
        learn(&mut pool, answer, &mut forgotten);
        forgotten
    }

    /// One of the things that a member of that name named.
    pub fn any(&self, kind: &str, rng: &mut fastrand::Rng) -> Option<String> {
        let pool = self.0.lock().unwrap();
        let kept = pool.get(kind).filter(|kept| !kept.is_empty())?;
        kept.get(rng.usize(..kept.len())).cloned()
    }
}

fn learn(pool: &mut BTreeMap<&'static str, VecDeque<String>>, value: &Value, forgotten: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let of = |name: &str| members.get(name).and_then(Value::as_str);
            if let (Some(image), Some(version), Some(build)) = (of("imageArn"), of("imageVersion"), of("buildId")) {
                keep(pool, "build", &[image, version, build].join(" "));
            }
            if let (Some(arn), Some(_)) = (of("Arn"), of("Id")) {
                keep(pool, "connector", arn);
            }
            for (name, value) in members {
                let kinds = ["imageArn", "microvmId", "nextToken", "NextMarker", "Id", "Name", "VersionArn"];
                if let (Some(kind), Some(text)) = (kinds.into_iter().find(|kind| kind == name), value.as_str()) {
                    let over = of("state").is_some_and(|state| state.starts_with("TERMINAT") || state == "DELETING");
                    if over {
                        pool.entry(kind).or_default().retain(|known| known != text);
                        keep(pool, "over", text);
                    } else {
                        forgotten.extend(keep(pool, kind, text).filter(|_| kind == "microvmId"));
                    }
                }
                learn(pool, value, forgotten);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| learn(pool, item, forgotten)),
        _ => {}
    }
}

/// Keeps a thing; the oldest that had to go for it.
fn keep(pool: &mut BTreeMap<&'static str, VecDeque<String>>, kind: &'static str, text: &str) -> Option<String> {
    let kept = pool.entry(kind).or_default();
    if !kept.iter().any(|known| known == text) {
        kept.push_back(text.to_owned());
    }
    if kept.len() > KEPT { kept.pop_front() } else { None }
}
