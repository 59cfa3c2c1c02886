//! From an HTTP request to the typed request of an operation, and back for clients.

use serde_json::{Map, Value};

use crate::{
    ApiError, Input, Operation,
    operations::Labels,
    schema::{Location, Member, Shape, bounds::Bounds, check},
    sigv4::percent,
};

/// Reads and validates a request.
///
/// `labels` come from [`Operation::find`], `raw_query` is the part after `?` as sent, `bounds` are the server's.
///
/// # Errors
/// What the service answers: see [`check::check`], [`Input::check`] and [`Input::check_bounds`].
pub fn decode<I: Input>(bounds: Bounds, labels: Labels, raw_query: &str, body: &[u8]) -> Result<I, ApiError> {
    let members = I::OPERATION.route().members;
    let mut request = read_body(members, body)?;
    // What travels elsewhere cannot be smuggled in by the body.
    request.retain(|name, _| members.iter().any(|member| member.name == name && member.location == Location::Body));
    read_query(members, raw_query, &mut request)?;
    request.extend(labels.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
    check::check(members, &mut request, bounds.life)?;
    let input: I = serde_json::from_value(Value::Object(request)).map_err(|_| ApiError::unparseable())?;
    input.check()?;
    input.check_bounds(bounds)?;
    Ok(input)
}

fn read_body(members: &[Member], body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let has_body = members.iter().any(|member| member.location == Location::Body);
    if !has_body || body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ApiError::unparseable()),
    }
}

fn read_query(members: &[Member], raw_query: &str, request: &mut Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in percent::query_pairs(raw_query).ok_or_else(ApiError::unparseable)? {
        let here = |member: &&Member| member.name == name && member.location == Location::Query;
        let Some(member) = members.iter().find(here) else { continue };
        match member.shape {
            Shape::Integer { .. } => {
                let number = value.parse::<i64>().map_err(|_| ApiError::unparseable())?;
                request.insert(name, number.into());
            }
            Shape::List { .. } => {
                let items = request.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                items.as_array_mut().expect("only this arm makes it").push(Value::String(value));
            }
            _ => {
                request.insert(name, Value::String(value));
            }
        }
    }
    Ok(())
}

/// A request that is ready to be signed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The operation, whose route tells the method.
    pub operation: Operation,
    /// The path, percent-encoded.
    pub path: String,
    /// The query, percent-encoded, without `?`.
    pub query: String,
    /// The JSON body; empty when the operation has none.
    pub body: Vec<u8>,
}

/// Writes a request, for clients.
///
/// # Errors
/// Only if the input has no JSON form, which none of this crate lacks.
pub fn encode<I: Input>(input: &I) -> Result<Encoded, serde_json::Error> {
    let route = I::OPERATION.route();
    let mut members = match serde_json::to_value(input)? {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    members.retain(|_, value| !value.is_null());
    let mut path = route.path.to_owned();
    let mut query = Vec::new();
    for member in route.members.iter().filter(|member| member.location != Location::Body) {
        let Some(value) = members.remove(member.name) else { continue };
        let text = |value: &Value| percent::encode(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        match (member.location, &value) {
            (Location::Path, value) => path = path.replace(&format!("{{{}}}", member.name), &text(value)),
            (_, Value::Array(items)) => {
                query.extend(items.iter().map(|item| format!("{}={}", member.name, text(item))));
            }
            (_, value) => query.push(format!("{}={}", member.name, text(value))),
        }
    }
    let has_body = route.members.iter().any(|member| member.location == Location::Body);
    let body = if has_body { serde_json::to_vec(&members)? } else { Vec::new() };
    Ok(Encoded { operation: I::OPERATION, path, query: query.join("&"), body })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        BaseImageVersion, CreateMicrovmAuthTokenInput, CreateMicrovmImageInput, GetMicrovmImageVersionInput,
        ListMicrovmsInput, PortSpecification, RunMicrovmInput, schema::bounds::Longest,
    };

    const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";
    const BASE: &str = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1";
    const CONNECTOR: &str = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:";

    fn read<I: Input>(body: &Value) -> Result<I, ApiError> {
        decode(Bounds::default(), Vec::new(), "", body.to_string().as_bytes())
    }

    fn words<I: Input>(body: &Value) -> String {
        read::<I>(body).err().unwrap_or_else(|| panic!("accepted: {body}")).message().unwrap_or("null").to_owned()
    }

    /// The least request with one member changed.
    fn create(name: &str, value: Value) -> Value {
        let mut body = json!({
            "name": "demo", "codeArtifact": {"uri": "s3://bucket/key"}, "baseImageArn": BASE,
            "buildRoleArn": "arn:aws:iam::111122223333:role/build",
        });
        body[name] = value;
        body
    }

    fn run(name: &str, value: Value) -> Value {
        let mut body = json!({"imageIdentifier": IMAGE});
        body[name] = value;
        body
    }

    #[test]
    fn unknown_members_and_nulls_are_ignored() {
        let body = json!({"imageIdentifier": IMAGE, "idlePolicy": null, "surprise": {"a": 1}, "logging": {"disabled": {}, "cloudWatch": null, "x": 1}});
        let input: RunMicrovmInput = read(&body).unwrap();
        assert_eq!(input.idle_policy, None);
        assert_eq!(input.logging, Some(crate::Logging::Disabled(crate::Unit {})));
    }

    #[test]
    fn bounds_hold_just_inside_and_break_just_outside() {
        for (right, wrong, at) in [
            (
                run("runHookPayload", "é".repeat(4096).into()),
                run("runHookPayload", "é".repeat(4097).into()),
                "runHookPayload",
            ),
            (run("maximumDurationInSeconds", 28_800.into()), run("maximumDurationInSeconds", 28_801.into()), "28801"),
            (
                run("maximumDurationInSeconds", 1.into()),
                run("maximumDurationInSeconds", 0.into()),
                "greater than or equal to 1",
            ),
            (run("clientToken", "t".repeat(128).into()), run("clientToken", "t".repeat(129).into()), "clientToken"),
            (run("clientToken", "t".into()), run("clientToken", "".into()), "greater than or equal to 1"),
            (
                run("ingressNetworkConnectors", vec![format!("{CONNECTOR}HTTP_INGRESS"); 10].into()),
                run("ingressNetworkConnectors", vec![format!("{CONNECTOR}HTTP_INGRESS"); 11].into()),
                "'a list of 11'",
            ),
            (
                run(
                    "idlePolicy",
                    json!({"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 0, "autoResumeEnabled": false}),
                ),
                run("idlePolicy", json!({"maxIdleDurationSeconds": 59, "suspendedDurationSeconds": -1})),
                "3 validation errors detected",
            ),
            (
                run(
                    "idlePolicy",
                    json!({"maxIdleDurationSeconds": 28_800, "suspendedDurationSeconds": 0, "autoResumeEnabled": true}),
                ),
                run(
                    "idlePolicy",
                    json!({"maxIdleDurationSeconds": 28_801, "suspendedDurationSeconds": 0, "autoResumeEnabled": true}),
                ),
                "less than or equal to 28800",
            ),
        ] {
            read::<RunMicrovmInput>(&right).unwrap();
            let message = words::<RunMicrovmInput>(&wrong);
            assert!(message.contains(at), "{message}");
        }
        for (right, wrong, at) in [
            (create("name", "n".repeat(64).into()), create("name", "n".repeat(65).into()), "'name'"),
            (
                create("tags", json!({"k": ""})),
                create("tags", json!({"k": "v".repeat(257), "": "v"})),
                "2 validation errors",
            ),
            (create("hooks", json!({"port": 65535})), create("hooks", json!({"port": 65536})), "hooks.port"),
            (
                create("logging", json!({"cloudWatch": {"logGroup": "/a-b.c#_"}})),
                create("logging", json!({"cloudWatch": {"logGroup": "a b"}})),
                "logging.cloudWatch.logGroup",
            ),
            (
                create("cpuConfigurations", json!([{"architecture": "X86_64"}])),
                create("cpuConfigurations", json!([{"architecture": "x86"}])),
                "cpuConfigurations.1.member.architecture",
            ),
            (
                create("resources", json!([{"minimumMemoryInMiB": 512}])),
                create("resources", json!([{}])),
                "resources.1.member.minimumMemoryInMiB",
            ),
        ] {
            read::<CreateMicrovmImageInput>(&right).unwrap();
            let message = words::<CreateMicrovmImageInput>(&wrong);
            assert!(message.contains(at), "{message}");
        }
    }

    #[test]
    fn a_server_may_allow_longer_lives() {
        let idle = |seconds: u32| json!({"maxIdleDurationSeconds": seconds, "suspendedDurationSeconds": 0, "autoResumeEnabled": true});
        let within = |life, body: &Value| {
            let bounds = Bounds { life, ..Bounds::default() };
            decode::<RunMicrovmInput>(bounds, Vec::new(), "", body.to_string().as_bytes())
        };
        for longest in [86_400, 28_800] {
            for (name, at, right, wrong) in [
                ("maximumDurationInSeconds", "maximumDurationInSeconds", json!(longest), json!(longest + 1)),
                ("idlePolicy", "idlePolicy.maxIdleDurationSeconds", idle(longest), idle(longest + 1)),
            ] {
                within(Longest::seconds(longest), &run(name, right)).unwrap();
                let error = within(Longest::seconds(longest), &run(name, wrong)).unwrap_err();
                let expected = format!(
                    "1 validation error detected: Value '{}' at '{at}' failed to satisfy constraint: Member must have \
                     value less than or equal to {longest}",
                    longest + 1
                );
                assert_eq!(error.message(), Some(expected.as_str()));
            }
        }
        let all = run("maximumDurationInSeconds", i32::MAX.into());
        assert_eq!(within(Longest::ANY, &all).unwrap().maximum_duration_in_seconds, Some(i32::MAX as u32));
        within(Longest::seconds(u32::MAX), &run("idlePolicy", idle(i32::MAX as u32))).unwrap();
        let more = run("maximumDurationInSeconds", (i64::from(i32::MAX) + 1).into());
        assert_eq!(within(Longest::ANY, &more).unwrap_err(), ApiError::unparseable());
    }

    #[test]
    fn secrets_are_not_repeated() {
        let secret = "hunter2".repeat(1000);
        for message in [
            words::<RunMicrovmInput>(&run("runHookPayload", secret.clone().into())),
            words::<CreateMicrovmImageInput>(&create("environmentVariables", json!({"KEY": secret}))),
        ] {
            assert!(message.contains("[redacted]") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn messages_are_bounded_however_large_the_request() {
        let message = words::<RunMicrovmInput>(&run("imageVersion", " ".repeat(1_000_000).into()));
        assert!(message.len() < 1000, "{}", message.len());
        let many = json!({"expirationInMinutes": 0, "allowedPorts": vec![json!({"port": 0}); 50_000]});
        let message = words::<CreateMicrovmAuthTokenInput>(&many);
        assert!(message.starts_with("50002 validation errors detected"), "{}", &message[..60]);
        assert!(message.len() < 10_000, "{}", message.len());
    }

    #[test]
    fn kinds_that_do_not_fit_are_not_read_at_all() {
        for body in [
            json!([]),
            json!("text"),
            run("imageIdentifier", 1.into()),
            run("maximumDurationInSeconds", "60".into()),
            run("maximumDurationInSeconds", 1.5.into()),
            run("maximumDurationInSeconds", (1_u64 << 40).into()),
            run("idlePolicy", json!([])),
            run("ingressNetworkConnectors", "x".into()),
        ] {
            assert_eq!(read::<RunMicrovmInput>(&body).unwrap_err(), ApiError::unparseable(), "{body}");
        }
        assert_eq!(
            decode::<RunMicrovmInput>(Bounds::default(), Vec::new(), "", b"{\"a\":").unwrap_err(),
            ApiError::unparseable()
        );
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert_eq!(
            decode::<RunMicrovmInput>(Bounds::default(), Vec::new(), "", deep.as_bytes()).unwrap_err(),
            ApiError::unparseable()
        );
    }

    #[test]
    fn unions_have_exactly_one_member() {
        for (logging, given) in
            [(json!({}), "'[]'"), (json!({"disabled": {}, "cloudWatch": {}}), "'[cloudWatch, disabled]'")]
        {
            let message = words::<RunMicrovmInput>(&run("logging", logging));
            assert!(message.contains(given) && message.contains("exactly one of [disabled, cloudWatch]"), "{message}");
        }
        for flag in [json!(true), json!("x"), json!([])] {
            let error = read::<RunMicrovmInput>(&run("logging", json!({"disabled": flag}))).unwrap_err();
            assert_eq!(error, ApiError::expected_null());
        }
    }

    #[test]
    fn meaning_is_checked_after_all_bounds() {
        let message = words::<RunMicrovmInput>(&json!({"imageIdentifier": "demo", "maximumDurationInSeconds": 0}));
        assert!(message.starts_with("1 validation error detected: Value '0'"), "{message}");
        for (body, expected) in [
            (run("imageIdentifier", "demo".into()), "Malformed ARN - doesn't start with 'arn:'".to_owned()),
            (run("imageIdentifier", BASE.into()), format!("No active version found for MicroVM image {BASE}")),
            (
                run("imageVersion", "1".into()),
                format!("No active version found for MicroVM image {IMAGE} and version 1"),
            ),
            (run("ingressNetworkConnectors", json!(["HTTP_INGRESS"])), "Malformed network connector ARN".to_owned()),
            (
                run("egressNetworkConnectors", json!([format!("{CONNECTOR}NO_EGRESS")])),
                format!("Unrecognized managed network connector ARN: {CONNECTOR}NO_EGRESS"),
            ),
        ] {
            assert_eq!(words::<RunMicrovmInput>(&body), expected);
        }
    }

    #[test]
    fn images_keep_the_service_s_rules() {
        let hooks = |image: Value, microvm: Value, port: Value| {
            create("hooks", json!({"port": port, "microvmImageHooks": image, "microvmHooks": microvm}))
        };
        let on = "ENABLED";
        read::<CreateMicrovmImageInput>(&hooks(json!({"ready": on}), json!({"run": on}), 9000.into())).unwrap();
        read::<CreateMicrovmImageInput>(&hooks(json!({"ready": "DISABLED"}), json!({}), Value::Null)).unwrap();
        for (body, start) in [
            (
                hooks(json!({"validate": on}), json!({"suspend": on}), 9000.into()),
                "The ready (/ready) MicroVM image hook must be enabled",
            ),
            (hooks(json!({"ready": on}), json!({}), Value::Null), "The hooks port must be specified"),
            (
                create("codeArtifact", json!({"uri": "s3://bucket"})),
                "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
            ),
            (create("codeArtifact", json!({"uri": "123.dkr.ecr/x:1"})), "CodeArtifact URI must be a valid S3 URI"),
            (
                create("environmentVariables", json!({"AWS_REGION": "x"})),
                "Environment variable key 'AWS_REGION' is reserved",
            ),
            (
                create("environmentVariables", json!({"AWS_LAMBDA_MICROVM_ID": "x"})),
                "Environment variable key 'AWS_LAMBDA_MICROVM_ID' is reserved",
            ),
            (create("environmentVariables", json!({"A=B": "x"})), "Environment variable key 'A=B' is invalid"),
            (create("baseImageArn", "al2023-1".into()), "Invalid ARN format"),
            (
                create("baseImageVersion", "1.0".into()),
                "No managed MicroVM Image with arn arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1 and version 1.0 is available",
            ),
            (create("egressNetworkConnectors", json!([format!("{CONNECTOR}HTTP_INGRESS")])), "Network connector"),
        ] {
            let message = words::<CreateMicrovmImageInput>(&body);
            assert!(message.starts_with(start), "{message}");
        }
        assert_eq!(
            words::<CreateMicrovmImageInput>(&create("resources", json!([{"minimumMemoryInMiB": 1000}]))),
            format!(
                "The requested memory size of 1000 MiB is not supported by base MicroVM image {BASE}. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."
            )
        );
        let negative = words::<CreateMicrovmImageInput>(&create("resources", json!([{"minimumMemoryInMiB": -1}])));
        assert!(negative.contains("Member must have value greater than or equal to 0"), "{negative}");
        let pinned: CreateMicrovmImageInput = read(&create("baseImageVersion", "1".into())).unwrap();
        assert_eq!(pinned.base_image_version, Some(BaseImageVersion(1)));
    }

    #[test]
    fn launches_and_tokens_keep_the_service_s_rules() {
        let all = json!([format!("{CONNECTOR}ALL_INGRESS"), format!("{CONNECTOR}HTTP_INGRESS")]);
        assert!(
            words::<RunMicrovmInput>(&run("ingressNetworkConnectors", all))
                .starts_with("ALL_INGRESS cannot be combined")
        );
        let within = |token_minutes, minutes: u32, ports: Value| {
            let labels = vec![("microvmIdentifier", "microvm-11111111-2222-3333-4444-555555555555".to_owned())];
            let body = json!({"expirationInMinutes": minutes, "allowedPorts": ports, "microvmIdentifier": "smuggled"});
            let bounds = Bounds { token_minutes, ..Bounds::default() };
            decode::<CreateMicrovmAuthTokenInput>(bounds, labels, "", body.to_string().as_bytes())
        };
        let token = |minutes, ports| within(Bounds::default().token_minutes, minutes, ports);
        let input =
            token(60, json!([{"port": 8080}, {"allPorts": {}}, {"range": {"startPort": 1, "endPort": 1}}])).unwrap();
        assert_eq!(input.allowed_ports[0], PortSpecification::Port(8080));
        assert_eq!(input.microvm_identifier.to_string(), "microvm-11111111-2222-3333-4444-555555555555");
        let message =
            |result: Result<CreateMicrovmAuthTokenInput, ApiError>| result.unwrap_err().message().unwrap().to_owned();
        assert_eq!(message(token(61, json!([{"port": 1}]))), "ExpirationMinutes 61 exceeded max allowed of 60.");
        within(1440, 1440, json!([{"port": 1}])).unwrap();
        let longer = within(1440, 1441, json!([{"port": 1}]));
        assert_eq!(message(longer), "ExpirationMinutes 1441 exceeded max allowed of 1440.");
        assert!(message(token(1, json!([]))).contains("allowedPorts"));
        assert!(message(token(1, json!([{"range": {"startPort": 2, "endPort": 1}}]))).contains("must not be greater"));
    }

    #[test]
    fn queries_are_typed_and_bounded() {
        let read = |query: &str| decode::<ListMicrovmsInput>(Bounds::default(), Vec::new(), query, b"ignored");
        let input = read("maxResults=50&nextToken=a%3D%3D&other=1").unwrap();
        assert_eq!((input.max_results, input.next_token.as_deref()), (Some(50), Some("a==")));
        assert!(read("maxResults=51").unwrap_err().message().unwrap().contains("less than or equal to 50"));
        assert_eq!(read("maxResults=x").unwrap_err(), ApiError::unparseable());
        assert_eq!(read("nextToken=%").unwrap_err(), ApiError::unparseable());
    }

    #[test]
    fn ill_formed_ids_are_not_found() {
        let find = |image: &str, version: &str| {
            let labels = vec![("imageIdentifier", image.to_owned()), ("imageVersion", version.to_owned())];
            decode::<GetMicrovmImageVersionInput>(Bounds::default(), labels, "", b"")
        };
        find(IMAGE, "1.0").unwrap();
        assert_eq!(find(IMAGE, "1").unwrap_err(), ApiError::version_not_found(IMAGE, "1"));
        assert_eq!(find(BASE, "1.0").unwrap_err(), ApiError::image_not_found(BASE));
        assert_eq!(find(&IMAGE.replace("image:", "image/"), "1.0").unwrap_err().status(), 403);
    }

    #[test]
    fn what_is_encoded_is_found_and_decoded_again() {
        let input = ListMicrovmsInput {
            image_identifier: Some(IMAGE.parse().unwrap()),
            next_token: Some("a=/+ &é".to_owned()),
            ..ListMicrovmsInput::default()
        };
        let encoded = encode(&input).unwrap();
        assert!(encoded.body.is_empty());
        assert_eq!(decode::<ListMicrovmsInput>(Bounds::default(), Vec::new(), &encoded.query, b"").unwrap(), input);
        let input = GetMicrovmImageVersionInput {
            image_identifier: IMAGE.parse().unwrap(),
            image_version: "3.0".parse().unwrap(),
        };
        let encoded = encode(&input).unwrap();
        let (operation, labels) = Operation::find("GET", &encoded.path).unwrap();
        assert_eq!(operation, Operation::GetMicrovmImageVersion);
        assert_eq!(decode::<GetMicrovmImageVersionInput>(Bounds::default(), labels, "", b"").unwrap(), input);
        let input: CreateMicrovmImageInput = read(&create("environmentVariables", json!({"A": "b"}))).unwrap();
        assert_eq!(
            decode::<CreateMicrovmImageInput>(Bounds::default(), Vec::new(), "", &encode(&input).unwrap().body)
                .unwrap(),
            input
        );
    }
}
