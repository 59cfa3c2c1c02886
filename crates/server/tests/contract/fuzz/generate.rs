//! Requests from the member tables: right ones, spoilt ones, and things that are no requests at all.

use api::{
    Operation,
    schema::{Member, Shape, Text},
    sigv4::percent,
};
use serde_json::{Map, Value, json};

use super::pool::Pool;
use crate::{
    request::Request,
    world::{BASE, CONNECTOR, ROLE},
};

/// Texts that have broken programs before.
const ODD: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{1}",
    "\n",
    "a b",
    "é",
    "🜂",
    "\u{202e}",
    "\u{feff}",
    "%",
    "%00",
    "%2F",
    "%ff",
    "..",
    "../../etc/passwd",
    "null",
    "true",
    "-1",
    "1e999",
    "'",
    "\"",
    "\\",
    "<x>",
    "{}",
    "$(x)",
    "${x}",
    "arn:",
    "arn:aws:lambda",
    "::::::",
    "/",
    "arn:aws:lambda:us-east-1:111122223333:microvm-image/demo",
    "arn:aws:lambda:us-east-1:111122223333:microvm-image:",
    "arn:aws:lambda:us-east-1:444455556666:microvm-image:n1",
    "arn:aws:lambda:eu-west-1:111122223333:microvm-image:n1",
    "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    "microvm-",
    "microvm-x",
    "1.0",
    "99999999999999999999.0",
    "18446744073709551616",
    "4294967296.0",
    "1.00",
    "-1.0",
    "11111111-2222-3333-4444-555555555555",
    "s3://",
    "s3://b/k",
    "s3://bucket/../../x",
    "s3://bucket/absent.zip",
    "AAAA",
    "nc-11111111-2222-3333-4444-555555555555",
    "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555:4294967296",
    "arn:aws:lambda:us-east-1:444455556666:network-connector:nc-11111111-2222-3333-4444-555555555555",
    "====",
];

/// Longest path and query together, in bytes: our client's library sends none of 64 KiB.
const LONGEST_TARGET: usize = 65_000;

pub struct Generator {
    rng: fastrand::Rng,
}

impl Generator {
    pub fn new(rng: fastrand::Rng) -> Self {
        Generator { rng }
    }

    /// The next request.
    pub fn request(&mut self, pool: &Pool) -> Request {
        loop {
            let request = self.any(pool);
            if request.path.len() + request.query.len() <= LONGEST_TARGET {
                return request;
            }
        }
    }

    fn any(&mut self, pool: &Pool) -> Request {
        let operation = self.operation();
        let mut members = self.members(operation.route().members, pool);
        self.together(operation, &mut members, pool);
        let kind = self.rng.u8(..100);
        if (50..80).contains(&kind) {
            for _ in 0..self.rng.usize(1..=3) {
                self.spoil(&mut members, 0);
            }
        }
        let mut request = Request::of(operation, &members);
        match kind {
            80..88 => request.body = self.body(&request.body),
            88..94 => self.path(&mut request),
            94.. => self.query(&mut request),
            _ => {}
        }
        request
    }

    /// What ends things comes less often, what makes them more often, so that there is something to work on.
    fn operation(&mut self) -> Operation {
        use Operation::*;
        match Operation::ALL[self.rng.usize(..Operation::ALL.len())] {
            TerminateMicrovm | DeleteMicrovmImage | DeleteMicrovmImageVersion if self.chance(70) => RunMicrovm,
            DeleteNetworkConnector if self.chance(50) => CreateNetworkConnector,
            other => other,
        }
    }

    /// Members that mean something together only.
    fn together(&mut self, operation: Operation, members: &mut Value, pool: &Pool) {
        match operation {
            Operation::ListManagedMicrovmImageVersions if self.chance(70) => members["imageIdentifier"] = BASE.into(),
            Operation::GetMicrovmImageBuild if self.chance(70) => {
                let build = pool.any("build", &mut self.rng).unwrap_or_default();
                for (name, text) in ["imageIdentifier", "imageVersion", "buildId"].into_iter().zip(build.split(' ')) {
                    if !text.is_empty() {
                        members[name] = text.into();
                    }
                }
            }
            Operation::RunMicrovm if self.chance(70) => {
                // The latest version; no payload, which most images do not take.
                for name in ["imageVersion", "runHookPayload"] {
                    members.as_object_mut().expect("a request is an object").remove(name);
                }
            }
            // What it requires beyond the model.
            Operation::CreateNetworkConnector if self.chance(80) => {
                let made = crate::world::connector(&format!("c{}", self.rng.u8(..30)));
                for (name, value) in made.as_object().expect("a request is an object") {
                    members[name] = value.clone();
                }
                members["ClientToken"] = format!("token{}", self.rng.u16(..)).into();
            }
            _ => {}
        }
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.usize(..of.len())]
    }

    fn members(&mut self, members: &[Member], pool: &Pool) -> Value {
        let mut object = Map::new();
        for member in members {
            if member.required || self.chance(25) {
                object.insert(member.name.to_owned(), self.value(member.name, member.shape, pool));
            }
        }
        // A hook asks for these two.
        if object.contains_key("microvmHooks") && self.chance(90) {
            object.insert("port".to_owned(), json!(9000));
            object.insert("microvmImageHooks".to_owned(), json!({"ready": "ENABLED", "readyTimeoutInSeconds": 2}));
        }
        object.into()
    }

    fn value(&mut self, name: &str, shape: &Shape, pool: &Pool) -> Value {
        match shape {
            Shape::Text(text) => self.text(name, text, pool).into(),
            Shape::Integer { min, max } => self.integer(name, *min, *max).into(),
            Shape::Long { min, max } => self.rng.i64(*min..=*max).into(),
            Shape::Boolean => self.rng.bool().into(),
            Shape::Enum(names) => self.one(names).into(),
            Shape::Structure(members) => self.members(members, pool),
            Shape::Union(members) => {
                let member = &members[self.rng.usize(..members.len())];
                json!({member.name: self.value(member.name, member.shape, pool)})
            }
            Shape::List { min, max, item } => {
                let most = (*max).min(*min + 3);
                let count = self.rng.usize(*min..=most);
                (0..count).map(|_| self.value(name, item, pool)).collect::<Vec<_>>().into()
            }
            Shape::Map { .. } if name == "environmentVariables" => self.environment(),
            Shape::Map { .. } => {
                let count = self.rng.usize(..4);
                (0..count).map(|_| (format!("k{}", self.rng.u8(..60)), "v".into())).collect::<Map<_, _>>().into()
            }
        }
    }

    /// Some of it makes the fake guest fail.
    fn environment(&mut self) -> Value {
        let (name, values): (_, &[&str]) = match self.rng.u8(..10) {
            0 => ("HEARTH_FAKE_READY_STATUS", &["500", "503,200", "close"]),
            1 => ("HEARTH_FAKE_RUN_STATUS", &["500", "close"]),
            2 => ("HEARTH_FAKE_SUSPEND_STATUS", &["500", "close,200"]),
            3 => ("HEARTH_FAKE_RESUME_STATUS", &["500", "close,200"]),
            4 => ("HEARTH_FAKE_EXIT_AFTER_MS", &["50", "500"]),
            5 => ("HEARTH_FAKE_CRASH_AFTER_MS", &["200"]),
            6 => ("HEARTH_FAKE_HOOK_DELAY_MS", &["50", "500"]),
            _ => ("KEY", &["value", ""]),
        };
        json!({name: self.one(values)})
    }

    fn text(&mut self, name: &str, text: &Text, pool: &Pool) -> String {
        if self.chance(6) {
            return self.one(ODD).to_owned();
        }
        let known = match name {
            "imageIdentifier" | "Resource" | "microvmIdentifier" if self.chance(10) => pool.any("over", &mut self.rng),
            "Resource" if self.chance(20) => pool.any("connector", &mut self.rng),
            "imageIdentifier" | "Resource" => pool.any("imageArn", &mut self.rng),
            "microvmIdentifier" => pool.any("microvmId", &mut self.rng),
            "nextToken" => pool.any("nextToken", &mut self.rng),
            "Marker" => pool.any("NextMarker", &mut self.rng),
            "Identifier" => {
                let kind = self.one(&["connector", "connector", "Id", "Name", "VersionArn"]);
                pool.any(kind, &mut self.rng)
            }
            "egressNetworkConnectors" if self.chance(10) => pool.any("connector", &mut self.rng),
            _ => None,
        };
        if let Some(known) = known {
            return known;
        }
        match name {
            "name" => format!("n{}", self.rng.u8(..30)),
            "imageIdentifier" | "Resource" => {
                format!("arn:aws:lambda:us-east-1:111122223333:microvm-image:n{}", self.rng.u8(..40))
            }
            "microvmIdentifier" => "microvm-11111111-2222-3333-4444-555555555555".to_owned(),
            "buildId" => "11111111-2222-3333-4444-555555555555".to_owned(),
            "imageVersion" => format!("{}.0", self.rng.u8(1..5)),
            "baseImageArn" => BASE.to_owned(),
            "baseImageVersion" => "1".to_owned(),
            "buildRoleArn" | "executionRoleArn" | "OperatorRole" => ROLE.to_owned(),
            "uri" => self
                .one(&["s3://bucket/key.zip", "s3://bucket/key.zip", "s3://bucket/key.zip", "s3://bucket/no.zip"])
                .to_owned(),
            "egressNetworkConnectors" => format!("{CONNECTOR}INTERNET_EGRESS"),
            "ingressNetworkConnectors" => format!("{CONNECTOR}{}", self.one(&["HTTP_INGRESS", "SHELL_INGRESS"])),
            "Identifier" | "Name" => format!("c{}", self.rng.u8(..30)),
            "SubnetIds" => format!("subnet-{}", self.rng.u8(..)),
            "SecurityGroupIds" => format!("sg-{}", self.rng.u8(..)),
            "ClientToken" => format!("token{}", self.rng.u16(..300)),
            "clientToken" => format!("token{}", self.rng.u16(..300)),
            "tagKeys" => format!("k{}", self.rng.u8(..60)),
            _ => "a".repeat(self.rng.usize(text.min..=text.max.min(text.min + 40))),
        }
    }

    fn integer(&mut self, name: &str, min: i32, max: i32) -> i32 {
        match name {
            "minimumMemoryInMiB" => [512, 1024, 2048, 4096, 8192, 1, 0][self.rng.usize(..7)],
            "expirationInMinutes" => self.rng.i32(1..=61),
            // Some of them end, or fall asleep, while the run goes on.
            "maximumDurationInSeconds" => [1, 2, 5, 28_800][self.rng.usize(..4)],
            name if name.ends_with("TimeoutInSeconds") => self.rng.i32(1..=2),
            _ => [min, max, self.rng.i32(min..=max), min.saturating_add(1)][self.rng.usize(..4)],
        }
    }

    /// One change somewhere in it.
    fn spoil(&mut self, value: &mut Value, depth: usize) {
        let deeper = depth < 6 && self.chance(75);
        match value {
            Value::Object(members) if deeper && !members.is_empty() => {
                let name = members.keys().nth(self.rng.usize(..members.len())).cloned().unwrap_or_default();
                match self.rng.u8(..10) {
                    0 => drop(members.remove(&name)),
                    1 => drop(members.insert(name, Value::Null)),
                    2 => drop(members.insert(self.one(ODD).to_owned(), json!({"a": [null]}))),
                    3 => {
                        let moved = members.remove(&name).unwrap_or_default();
                        members.insert(name.to_uppercase(), moved);
                    }
                    _ => self.spoil(&mut members[&name], depth + 1),
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let index = self.rng.usize(..items.len());
                match self.rng.u8(..6) {
                    0 => items.push(Value::Null),
                    1 => *items = vec![items[index].clone(); self.rng.usize(..120)],
                    _ => self.spoil(&mut items[index], depth + 1),
                }
            }
            // The whole request stays an object: bodies of other kinds have a way of their own.
            _ if depth > 0 => *value = self.junk(),
            _ => {}
        }
    }

    fn junk(&mut self) -> Value {
        match self.rng.u8(..14) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(self.rng.i64(..)),
            3 => json!(
                [0, -1, 1, 65_535, 65_536, 2_147_483_647, 2_147_483_648_i64, -2_147_483_648_i64][self.rng.usize(..8)]
            ),
            4 => json!(1.5e300),
            5 => json!([]),
            6 => json!({}),
            7 => json!({"a": {"b": [{"c": null}]}}),
            8 => json!("a".repeat([1, 64, 65, 128, 129, 256, 257, 2048, 4097, 10_001][self.rng.usize(..10)])),
            9 => json!("é".repeat(self.rng.usize(..5000))),
            10 => (0..self.rng.usize(..150)).map(|n| (format!("k{n}"), "v".into())).collect::<Map<_, _>>().into(),
            11 => (0..self.rng.usize(1..60)).fold(json!(1), |inner, _| json!([inner])),
            _ => json!(self.one(ODD)),
        }
    }

    /// A body that is not what its operation reads.
    fn body(&mut self, body: &[u8]) -> Vec<u8> {
        match self.rng.u8(..9) {
            0 => Vec::new(),
            1 => body[..self.rng.usize(..=body.len())].to_vec(),
            2 => (0..self.rng.usize(..200)).map(|_| self.rng.u8(..)).collect(),
            3 => b"[".repeat(self.rng.usize(1..200_000)),
            4 => "{\"a\":".repeat(self.rng.usize(1..50_000)).into_bytes(),
            5 => [body, b" {}"].concat(),
            6 => self
                .one(&["null", "1", "\"x\"", "[]", "{", "{\"a\":1,\"a\":2}", "\u{feff}{}", "{\"\\ud800\":1}"])
                .into(),
            7 if self.chance(10) => vec![b' '; 6 * 1024 * 1024 + self.rng.usize(..2)],
            7 => format!("{{\"description\":\"{}\"}}", "x".repeat(self.rng.usize(..300_000))).into_bytes(),
            _ => {
                let mut body = body.to_vec();
                if !body.is_empty() {
                    let at = self.rng.usize(..body.len());
                    body[at] = self.rng.u8(..);
                }
                body
            }
        }
    }

    /// Another path or method.
    fn path(&mut self, request: &mut Request) {
        match self.rng.u8(..8) {
            0 => {
                request.method =
                    self.one(&["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]).to_owned()
            }
            1 => request.path.push('/'),
            2 => request.path = request.path.replacen('/', "//", 2),
            3 => {
                request.path = request
                    .path
                    .replace("2025-09-09", self.one(&["2026-04-04", "2017-03-31", "2025-09-08", "%32025-09-09"]))
            }
            4 => request.path.push_str(self.one(&["%", "%zz", "%ff", "%00", "%2F", "%252F", "/..", "/.", ";a", "+"])),
            5 => {
                let odd = percent::encode(self.one(ODD));
                let mut parts: Vec<_> = request.path.split('/').map(str::to_owned).collect();
                let at = self.rng.usize(1..parts.len());
                parts[at] = odd;
                request.path = parts.join("/");
            }
            6 => request.path = percent::decode(&request.path).filter(|path| is_sendable(path)).unwrap_or_default(),
            _ => request.path.push_str(&"a".repeat(self.rng.usize(1..5000))),
        }
        if !request.path.starts_with('/') {
            request.path.insert(0, '/');
        }
    }

    /// Another query.
    fn query(&mut self, request: &mut Request) {
        let name = self.one(&[
            "maxResults",
            "nextToken",
            "nameFilter",
            "imageIdentifier",
            "imageVersion",
            "tagKeys",
            "architecture",
            "State",
            "Marker",
            "MaxItems",
            "x",
            "",
        ]);
        let value = percent::encode(self.one(ODD));
        let more = match self.rng.u8(..8) {
            0 => format!("{name}={value}"),
            1 => format!("{name}={value}&{name}={value}"),
            2 => name.to_owned(),
            3 => format!("&&=&{name}"),
            4 => format!("{name}=%"),
            5 => format!("{name}=%ff"),
            6 => format!("{name}={}", self.rng.i64(..)),
            _ => vec![format!("{name}={value}"); self.rng.usize(1..200)].join("&"),
        };
        if !request.query.is_empty() {
            request.query.push('&');
        }
        request.query.push_str(&more);
    }
}

/// Can it stand in the first line of a request?
fn is_sendable(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte))
}
