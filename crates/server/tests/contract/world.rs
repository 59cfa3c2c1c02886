//! Things that requests are about, made through the API as a user would make them. A row names them: `$image` in any text of
//! it stands for the ARN of an image that is made for this row alone.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use api::Operation::{self, *};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client},
    request::Request,
    serving::Serving,
};

pub const BASE: &str = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/build";
pub const CONNECTOR: &str = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:";
/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub client: Client,
    names: BTreeMap<String, String>,
}

/// A server with an artifact in its bucket.
pub async fn serving() -> Arc<Serving> {
    serving_with("").await
}

/// The same, with more settings.
pub async fn serving_with(settings: &str) -> Arc<Serving> {
    let serving = Serving::start(settings).await;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("Dockerfile", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"FROM scratch\n").unwrap();
    let artifact = zip.finish().unwrap().into_inner();
    let mut client = serving.client();
    for (path, body) in [("/bucket", Vec::new()), ("/bucket/key.zip", artifact)] {
        let (method, path) = ("PUT".to_owned(), path.to_owned());
        let put = client.send(&Request { service: "s3", method, path, query: String::new(), body }).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }
    serving
}

impl World {
    /// Nothing is made yet.
    pub fn new(serving: &Arc<Serving>) -> Self {
        World { client: serving.client(), names: BTreeMap::new() }
    }

    /// Sends it and asks for success.
    pub async fn done(&mut self, operation: Operation, members: Value) -> Value {
        let answer = self.call(operation, &members).await;
        assert_eq!(answer.status, operation.route().status, "{operation} {members}: {}", answer.text());
        answer.json().unwrap_or_default()
    }

    pub async fn call(&mut self, operation: Operation, members: &Value) -> Answer {
        self.client.send(&Request::of(operation, members)).await
    }

    /// `value` with every `$name` made and put in.
    pub async fn fill(&mut self, value: &Value) -> Value {
        let (mut text, mut from) = (value.to_string(), 0);
        while let Some(found) = text[from..].find('$') {
            let at = from + found;
            let rest = &text[at + 1..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches('_').to_owned();
            let made = if name.is_empty() { "$".to_owned() } else { self.made(&name).await };
            text.replace_range(at..=at + name.len(), &made);
            from = at + made.len();
        }
        serde_json::from_str(&text).unwrap()
    }

    /// What that name stands for in this world.
    pub async fn made(&mut self, name: &str) -> String {
        if let Some(made) = self.names.get(name) {
            return made.clone();
        }
        let made = Box::pin(self.make(name)).await;
        self.names.insert(name.to_owned(), made.clone());
        made
    }

    async fn make(&mut self, name: &str) -> String {
        match name {
            "base" => BASE.to_owned(),
            "role" => ROLE.to_owned(),
            "http_ingress" => format!("{CONNECTOR}HTTP_INGRESS"),
            "shell_ingress" => format!("{CONNECTOR}SHELL_INGRESS"),
            "all_ingress" => format!("{CONNECTOR}ALL_INGRESS"),
            "internet_egress" => format!("{CONNECTOR}INTERNET_EGRESS"),
            "fresh" => format!("n{}", uuid::Uuid::new_v4().simple()),
            "absent_image" => "arn:aws:lambda:us-east-1:111122223333:microvm-image:absent".to_owned(),
            "strange_image" => "arn:aws:lambda:us-east-1:444455556666:microvm-image:demo".to_owned(),
            "absent_microvm" => "microvm-11111111-2222-3333-4444-555555555555".to_owned(),
            "absent_build" => "11111111-2222-3333-4444-555555555555".to_owned(),
            "absent_connector" => {
                "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555"
                    .to_owned()
            }
            "connector" | "updated" => self.connector(name == "updated").await,
            "connector_name" | "connector_id" | "updated_name" | "updated_id" => {
                let (of, member) = name.split_once('_').unwrap();
                let identifier = json!({"Identifier": self.made(of).await});
                let connector = self.done(GetNetworkConnector, identifier).await;
                connector[if member == "id" { "Id" } else { "Name" }].as_str().unwrap().to_owned()
            }
            "image" => self.image(json!({}), "CREATED").await,
            "name" => self.made("image").await.rsplit(':').next().unwrap().to_owned(),
            "build" => {
                let image = self.made("image").await;
                let builds = json!({"imageIdentifier": image, "imageVersion": "1.0"});
                self.done(ListMicrovmImageBuilds, builds).await["items"][0]["buildId"].as_str().unwrap().to_owned()
            }
            "hooked" => {
                let hooks = json!({"port": 9000, "microvmImageHooks": {"ready": "ENABLED"}, "microvmHooks": {"run": "ENABLED"}});
                self.image(json!({"hooks": hooks}), "CREATED").await
            }
            "creating" => self.image(never("READY"), "CREATING").await,
            "failed" => self.image(json!({"codeArtifact": {"uri": "s3://bucket/absent.zip"}}), "CREATE_FAILED").await,
            "updating" => {
                let image = self.image(json!({}), "CREATED").await;
                self.update(&image, never("READY")).await;
                image
            }
            "inactive" => {
                let image = self.image(json!({}), "CREATED").await;
                let status = json!({"imageIdentifier": image, "imageVersion": "1.0", "status": "INACTIVE"});
                self.done(UpdateMicrovmImageVersion, status).await;
                image
            }
            "two" => {
                let image = self.image(json!({}), "CREATED").await;
                self.update(&image, json!({})).await;
                self.until(GetMicrovmImage, json!({"imageIdentifier": image}), "state", "UPDATED").await;
                image
            }
            "tagged" => self.image(json!({"tags": {"a": "1", "b": "2"}}), "CREATED").await,
            "deleted" => {
                let image = self.image(json!({}), "CREATED").await;
                self.done(DeleteMicrovmImage, json!({"imageIdentifier": image})).await;
                self.gone(GetMicrovmImage, json!({"imageIdentifier": image})).await;
                image
            }
            "pending" => {
                let image = self.image(never("RUN"), "CREATED").await;
                self.run(json!({"imageIdentifier": image})).await
            }
            "running" => {
                let image = self.made("image").await;
                self.running(json!({"imageIdentifier": image})).await
            }
            "shell" => {
                let image = self.made("image").await;
                let ingress = [self.made("http_ingress").await, self.made("shell_ingress").await];
                self.running(json!({"imageIdentifier": image, "ingressNetworkConnectors": ingress})).await
            }
            "suspended" => {
                let image = self.made("image").await;
                let id = self.running(json!({"imageIdentifier": image})).await;
                self.done(SuspendMicrovm, json!({"microvmIdentifier": id})).await;
                self.state(&id, "SUSPENDED").await;
                id
            }
            "terminated" => {
                let image = self.made("image").await;
                let id = self.running(json!({"imageIdentifier": image})).await;
                self.done(TerminateMicrovm, json!({"microvmIdentifier": id})).await;
                self.state(&id, "TERMINATED").await;
                id
            }
            // Its farewell hook never answers.
            "terminating" => {
                let mut more = never("TERMINATE");
                more["hooks"]["microvmHooks"] = json!({"terminate": "ENABLED", "terminateTimeoutInSeconds": 60});
                let image = self.image(more, "CREATED").await;
                let id = self.running(json!({"imageIdentifier": image})).await;
                self.done(TerminateMicrovm, json!({"microvmIdentifier": id})).await;
                id
            }
            other => panic!("world.rs does not know ${other}"),
        }
    }

    async fn image(&mut self, more: Value, state: &str) -> String {
        let mut members = least(&format!("i{}", uuid::Uuid::new_v4().simple()));
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let image = self.done(CreateMicrovmImage, members).await["imageArn"].as_str().unwrap().to_owned();
        self.until(GetMicrovmImage, json!({"imageIdentifier": image}), "state", state).await;
        image
    }

    /// A network connector, with a second version if it was updated.
    async fn connector(&mut self, updated: bool) -> String {
        let members = connector(&format!("c{}", uuid::Uuid::new_v4().simple()));
        let arn = self.done(CreateNetworkConnector, members).await["Arn"].as_str().unwrap().to_owned();
        self.until(GetNetworkConnector, json!({"Identifier": arn}), "State", "ACTIVE").await;
        if updated {
            let configuration = json!({"VpcEgressConfiguration": {"SubnetIds": ["subnet-0b"]}});
            let update = json!({"Identifier": arn, "Configuration": configuration});
            self.done(UpdateNetworkConnector, update).await;
            self.until(GetNetworkConnector, json!({"Identifier": arn}), "LastUpdateStatus", "Successful").await;
        }
        arn
    }

    async fn update(&mut self, image: &str, more: Value) {
        let mut members = least("");
        members.as_object_mut().unwrap().remove("name");
        members["imageIdentifier"] = image.into();
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.done(UpdateMicrovmImage, members).await;
    }

    async fn run(&mut self, members: Value) -> String {
        self.done(RunMicrovm, members).await["microvmId"].as_str().unwrap().to_owned()
    }

    async fn running(&mut self, members: Value) -> String {
        let id = self.run(members).await;
        self.state(&id, "RUNNING").await;
        id
    }

    async fn state(&mut self, id: &str, state: &str) {
        self.until(GetMicrovm, json!({"microvmIdentifier": id}), "state", state).await;
    }

    /// The API has no event: a client asks again.
    pub async fn until(&mut self, operation: Operation, members: Value, member: &str, wanted: &str) {
        let start = Instant::now();
        loop {
            let answer = self.done(operation, members.clone()).await;
            if answer[member] == wanted {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{members} does not become {wanted}: {answer}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn gone(&mut self, operation: Operation, members: Value) {
        let start = Instant::now();
        while self.call(operation, &members).await.status != 404 {
            assert!(start.elapsed() < PATIENCE, "{members} does not go away");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The least request for an image of that name.
pub fn least(name: &str) -> Value {
    json!({"name": name, "baseImageArn": BASE, "buildRoleArn": ROLE, "codeArtifact": {"uri": "s3://bucket/key.zip"}})
}

/// The least request for a network connector of that name.
pub fn connector(name: &str) -> Value {
    let vpc = json!({
        "SubnetIds": ["subnet-0a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"],
    });
    json!({"Name": name, "Configuration": {"VpcEgressConfiguration": vpc}, "OperatorRole": ROLE, "ClientToken": name})
}

/// An image with a hook that is never answered.
fn never(hook: &str) -> Value {
    let mut hooks = json!({"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 3600}});
    if hook == "RUN" {
        hooks["microvmHooks"] = json!({"run": "ENABLED", "runTimeoutInSeconds": 60});
    }
    json!({"hooks": hooks, "environmentVariables": {format!("HEARTH_FAKE_{hook}_STATUS"): "never"}})
}
