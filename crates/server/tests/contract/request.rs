//! Requests, made from the members that an operation has.

use std::fmt;

use api::{Operation, schema::Location, sigv4::percent};
use serde_json::{Map, Value};

#[derive(Debug, Clone)]
pub struct Request {
    pub service: &'static str,
    pub method: String,
    /// Encoded.
    pub path: String,
    /// Encoded, without `?`.
    pub query: String,
    pub body: Vec<u8>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(2000).collect();
        write!(f, "{} {}?{} {shown}", self.method, self.path, self.query)
    }
}

impl Request {
    /// Puts each member where the operation's table says that it travels. What is no member goes into the body.
    pub fn of(operation: Operation, members: &Value) -> Self {
        let route = operation.route();
        let mut path = route.path.to_owned();
        let (mut query, mut body) = (Vec::new(), Map::new());
        let mut has_body = route.members.iter().any(|member| member.location == Location::Body);
        for (name, value) in members.as_object().unwrap() {
            let member = route.members.iter().find(|member| member.name == name);
            match member.map(|member| member.location) {
                Some(Location::Path) => path = path.replace(&format!("{{{name}}}"), &percent::encode(&plain(value))),
                Some(Location::Query) => {
                    let one = std::slice::from_ref(value);
                    let values = value.as_array().map_or(one, Vec::as_slice);
                    query.extend(values.iter().map(|value| format!("{name}={}", percent::encode(&plain(value)))));
                }
                Some(Location::Body) | None => {
                    has_body = true;
                    body.insert(name.clone(), value.clone());
                }
            }
        }
        let body = if has_body { Value::Object(body).to_string().into_bytes() } else { Vec::new() };
        let (method, query) = (route.method.to_owned(), query.join("&"));
        Request { service: "lambda", method, path, query, body }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
