//! Access keys, policies, sessions and accounts, as boto3, the AWS CLI and `hearth keys` see them.

use std::fs;

use e2e::{Said, Server};
use serde_json::{Value, json};

use super::{build, run, server, with_image};

/// A new key as JSON.
fn create(server: &Server, user: &str, account: Option<&str>, policy: Option<&Value>) -> Value {
    let file = server.data_dir.join(format!("{user}.policy"));
    let mut arguments = vec!["keys", "create", "--user", user, "--json"];
    if let Some(account) = account {
        arguments.extend(["--account", account]);
    }
    if let Some(policy) = policy {
        fs::write(&file, policy.to_string()).unwrap();
        arguments.extend(["--policy", file.to_str().unwrap()]);
    }
    server.hearth(&arguments).json()
}

/// A script with the clients of those keys.
fn python(server: &Server, keys: &Value, script: &str, arguments: &[&str]) -> Said {
    let script = format!("{}\n{script}", include_str!("keys.py"));
    server.python(&script, &[&[keys.to_string().as_str()], arguments].concat())
}

fn id(key: &Value) -> &str {
    key["accessKeyId"].as_str().unwrap()
}

#[test]
fn a_restricted_key_may_do_what_its_policy_says() {
    let server = with_image();
    build(&server, "other", &[]).ok();
    let vm = run(&server, &["--idle", "300"]);
    let image = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello";
    let connectors = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:*";
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Run", "Effect": "Allow", "Action": ["lambda:*Microvm", "lambda:CreateMicrovmAuthToken"], "Resource": image},
        {"Sid": "Connect", "Effect": "Allow", "Action": "lambda:PassNetworkConnector", "Resource": connectors},
        {"Sid": "Roles", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::000000000000:role/app-*"},
        {"Sid": "Keep", "Effect": "Deny", "Action": "lambda:TerminateMicrovm", "Resource": "*"}]});
    let no_connector = json!({"Statement": {"Effect": "Allow", "Action": "lambda:RunMicrovm", "Resource": "*"}});
    let keys = json!({"ci": create(&server, "ci", None, Some(&policy)),
        "alone": create(&server, "alone", None, Some(&no_connector))});
    let script = r#"
ci, alone, vm = of(KEYS["ci"]), of(KEYS["alone"]), sys.argv[2]
absent = "microvm-00000000-0000-4000-8000-000000000000"
assert of(KEYS["ci"], "sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ci"
assert ci.get_microvm(microvmIdentifier=vm)["microvmId"] == vm
own = ci.run_microvm(imageIdentifier=IMAGE, executionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/app-1")["microvmId"]
ci.suspend_microvm(microvmIdentifier=vm)
ci.resume_microvm(microvmIdentifier=vm)

message = denied(ci.terminate_microvm, "lambda:TerminateMicrovm", IMAGE, microvmIdentifier=vm)
assert message.startswith(f"User: arn:aws:iam::{ACCOUNT}:user/ci is not"), message
assert message.endswith("with an explicit deny in an identity-based policy"), message
message = denied(ci.list_microvms, "lambda:ListMicrovms", "*")
assert message.endswith("because no identity-based policy allows the lambda:ListMicrovms action"), message
denied(ci.get_microvm_image, "lambda:GetMicrovmImage", IMAGE, imageIdentifier=IMAGE)
denied(ci.run_microvm, "lambda:RunMicrovm", ARN + "other", imageIdentifier=ARN + "other")
denied(ci.run_microvm, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", imageIdentifier=IMAGE,
       executionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/admin")
# What is not there looks like what is forbidden.
denied(ci.run_microvm, "lambda:RunMicrovm", ARN + "absent", imageIdentifier=ARN + "absent")
denied(ci.get_microvm, "lambda:GetMicrovm", ARN + "*", microvmIdentifier=absent)
assert refused(mv.get_microvm, microvmIdentifier=absent)[0] == 404
# Nobody asked for it, and still it must be allowed.
denied(alone.run_microvm, "lambda:PassNetworkConnector",
       "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS", imageIdentifier=IMAGE)
mv.terminate_microvm(microvmIdentifier=own)
"#;
    python(&server, &keys, script, &[&vm]).ok();

    let read = server.data_dir.join("read.policy");
    fs::write(&read, r#"{"Statement":{"Effect":"Allow","Action":"lambda:List*","Resource":"*"}}"#).unwrap();
    server.hearth(&["keys", "policy", id(&keys["ci"]), read.to_str().unwrap()]).ok();
    let script = r#"
assert of(KEYS["ci"]).list_microvms()["items"]
denied(of(KEYS["ci"]).get_microvm, "lambda:GetMicrovm", IMAGE, microvmIdentifier=sys.argv[2])
"#;
    python(&server, &keys, script, &[&vm]).ok();
}

#[test]
fn every_operation_asks_for_permission() {
    let server = with_image();
    let vm = run(&server, &[]);
    let nobody = json!({"nobody": create(&server, "nobody", None, None)});
    let script = r#"
from botocore import xform_name
vm = sys.argv[2]
values = {
    "imageIdentifier": IMAGE, "imageVersion": "1.0", "microvmIdentifier": vm, "status": "INACTIVE", "name": "new",
    "buildId": "00000000-0000-4000-8000-000000000000", "codeArtifact": {"uri": "s3://artifacts/x.zip"},
    "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    "buildRoleArn": f"arn:aws:iam::{ACCOUNT}:role/build", "expirationInMinutes": 5, "allowedPorts": [{"port": 80}],
    "Name": "new", "Identifier": "new", "Configuration": {"VpcEgressConfiguration": {
        "SubnetIds": ["subnet-0"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}},
    "OperatorRole": f"arn:aws:iam::{ACCOUNT}:role/operator",
    "Resource": IMAGE, "Tags": {"a": "b"}, "TagKeys": ["a"], "resource": IMAGE, "tags": {"a": "b"}, "tagKeys": ["a"],
}
asked = 0
clients = [of(KEYS["nobody"], service) for service in ("lambda-microvms", "lambda-core")]
for nobody, operation in [(client, name) for client in clients for name in client.meta.service_model.operation_names]:
    if "Runtime" in operation:
        continue
    shape = nobody.meta.service_model.operation_model(operation).input_shape
    required = {name: values[name] for name in (shape.required_members if shape else [])}
    if operation == "CreateNetworkConnector":
        required["OperatorRole"] = values["OperatorRole"]
    if "ManagedMicrovmImageVersions" in operation:
        required["imageIdentifier"] = values["baseImageArn"]
    status, code, message = refused(getattr(nobody, xform_name(operation)), **required)
    if status == 404 and code == "UnknownOperationException":
        continue
    assert (status, code) == (403, "AccessDeniedException"), (operation, status, code, message)
    assert "because no identity-based policy allows the lambda:" in message, (operation, message)
    asked += 1
assert asked >= 30, asked
assert mv.get_microvm(microvmIdentifier=vm)["state"] == "RUNNING"
"#;
    python(&server, &nobody, script, &[&vm]).ok();
}

#[test]
fn keys_are_disabled_rotated_and_deleted() {
    let server = server();
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
    let first = json!({"ci": create(&server, "ci", None, Some(&policy))});
    let may = |keys: &Value| {
        let script = r#"
try:
    of(KEYS["ci"]).list_microvms()
    print("yes")
except ClientError as error:
    print(error.response["Error"]["Code"], error.response["Error"]["Message"])
"#;
        python(&server, keys, script, &[]).ok().trim().to_owned()
    };
    let refused = "UnrecognizedClientException The security token included in the request is invalid.";
    assert_eq!(may(&first), "yes");
    server.hearth(&["keys", "disable", id(&first["ci"])]).ok();
    assert_eq!(may(&first), refused);
    server.hearth(&["keys", "enable", id(&first["ci"])]).ok();
    assert_eq!(may(&first), "yes");
    let second = json!({"ci": server.hearth(&["keys", "rotate", id(&first["ci"]), "--json"]).json()});
    assert_eq!((may(&first).as_str(), may(&second).as_str()), (refused, "yes"));
    server.hearth(&["keys", "delete", id(&first["ci"]), id(&second["ci"])]).ok();
    assert_eq!(may(&second), refused);

    let listed = server.hearth(&["keys", "list"]).ok();
    assert!(listed.contains("root") && listed.contains("everything") && !listed.contains("ci"), "{listed}");
    let root = server.variable("AWS_ACCESS_KEY_ID").to_owned();
    for verb in ["disable", "delete"] {
        let said = server.hearth(&["keys", verb, &root]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("last usable root key") && said.stderr.contains("hearth keys rotate"), "{said:?}");
    }
}

#[test]
fn root_s_key_is_rotated_under_the_command_line() {
    let mut server = server();
    let root = server.variable("AWS_ACCESS_KEY_ID").to_owned();
    server.aws(&["lambda-microvms", "list-microvms"]).ok();
    let exports = server.hearth(&["keys", "rotate", &root]).ok();
    assert!(exports.contains("export AWS_ACCESS_KEY_ID=AKIA"), "{exports}");
    let said = server.aws(&["lambda-microvms", "list-microvms"]);
    assert!(said.stderr.contains("UnrecognizedClientException"), "the old key: {}", said.stderr);
    server.hearth(&["ls"]).ok();
    assert_eq!(server.stop().unwrap(), Some(0));
    server.serve().unwrap();
    assert!(exports.contains(server.variable("AWS_ACCESS_KEY_ID")), "hearth env has the new one, after a restart too");
    server.aws(&["lambda-microvms", "list-microvms"]).ok();
    server.aws(&["s3", "mb", "s3://bucket"]).ok();
}

#[test]
fn sessions_and_presigned_requests() {
    let server = with_image();
    let vm = run(&server, &[]);
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "lambda:Get*", "Resource": "*"}});
    let keys = json!({"ci": create(&server, "ci", None, Some(&policy))});
    let script = r#"
vm = sys.argv[2]
own, token = session(KEYS["ci"])
client = of(own, token=token)
assert client.get_microvm(microvmIdentifier=vm)["microvmId"] == vm
assert of(own, "sts", token).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ci"
denied(client.list_microvms, "lambda:ListMicrovms", "*")
invalid = (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
for wrong in [of(own), of(own, token="garbage"), of(own, token=session(KEYS["ci"])[1]), of(KEYS["ci"], token=token)]:
    assert refused(wrong.get_microvm, microvmIdentifier=vm) == invalid
assert refused(of(own, "sts", token).get_session_token)[1] == "AccessDenied"
assert refused(boto3.client("sts").get_session_token, DurationSeconds=129601)[1] == "ValidationError"


def fetch(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-amzn-errortype"]


for maker in [of(KEYS["ci"]), client]:
    url = maker.generate_presigned_url("get_microvm", Params={"microvmIdentifier": vm}, ExpiresIn=60)
    status, answer = fetch(url)
    assert status == 200 and answer["microvmId"] == vm, (status, answer)
    assert fetch(url + "0") == (403, "InvalidSignatureException")
    assert fetch(url.replace("Expires=60", "Expires=604801")) == (403, "IncompleteSignatureException")
print(json.dumps([own, token]))
"#;
    let session: Value = python(&server, &keys, script, &[&vm]).json();
    server.hearth(&["keys", "disable", id(&keys["ci"])]).ok();
    let script = r#"
own, token = KEYS
assert refused(of(own, token=token).get_microvm, microvmIdentifier=sys.argv[2])[1] == "UnrecognizedClientException"
"#;
    python(&server, &session, script, &[&vm]).ok();
}

#[test]
fn accounts_see_nothing_of_each_other() {
    let server = with_image();
    let vm = run(&server, &["--idle", "300"]);
    let keys = json!({"other": create(&server, "root", Some("222222222222"), None)});
    let script = r#"
other, vm = of(KEYS["other"]), sys.argv[2]
assert of(KEYS["other"], "sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{OTHER}:root"
assert other.list_microvm_images()["items"] == [] and other.list_microvms()["items"] == []
assert other.list_microvms(imageIdentifier=IMAGE)["items"] == []
assert refused(other.get_microvm, microvmIdentifier=vm)[:2] == (404, "ResourceNotFoundException")
for call, action in [(other.get_microvm_image, "GetMicrovmImage"), (other.delete_microvm_image, "DeleteMicrovmImage"),
                     (other.run_microvm, "RunMicrovm")]:
    there = denied(call, f"lambda:{action}", IMAGE, imageIdentifier=IMAGE)
    absent = denied(call, f"lambda:{action}", ARN + "absent", imageIdentifier=ARN + "absent")
    assert there.replace("hello", "absent") == absent, "it is not told whether there is one"
for call in [other.terminate_microvm, other.suspend_microvm]:
    assert refused(call, microvmIdentifier=vm)[0] == 404
assert refused(other.create_microvm_auth_token, microvmIdentifier=vm, expirationInMinutes=5,
               allowedPorts=[{"port": 8080}])[0] == 404

# Names are free in each account.
own = other.create_microvm_image(
    name="hello", codeArtifact={"uri": "s3://nothing/there.zip"},
    baseImageArn="arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    buildRoleArn=f"arn:aws:iam::{OTHER}:role/build")["imageArn"]
assert own == f"arn:aws:lambda:us-east-1:{OTHER}:microvm-image:hello", own
until(lambda: other.get_microvm_image(imageIdentifier=own)["state"], ["CREATE_FAILED"])
denied(mv.get_microvm_image, "lambda:GetMicrovmImage", own, imageIdentifier=own)
assert mv.get_microvm_image(imageIdentifier=IMAGE)["state"] == "CREATED"
assert [item["imageArn"] for item in mv.list_microvm_images()["items"]] == [IMAGE]
# Of another region is not there.
elsewhere = IMAGE.replace("us-east-1", "eu-west-1")
assert refused(mv.get_microvm_image, imageIdentifier=elsewhere)[0] == 404
assert refused(mv.run_microvm, imageIdentifier=elsewhere)[0] == 404
"#;
    python(&server, &keys, script, &[&vm]).ok();
    let log = server.hearth(&["logs", "hello", "--all"]).ok();
    assert!(
        log.contains("/ready") && !log.contains("nothing"),
        "the log of the other account's image is not in it: {log}"
    );
    let said = server.hearth(&["keys", "create", "--user", "ci", "--account", "12"]);
    assert!(said.code == Some(1) && said.stderr.contains("12 digits"), "{}", said.stderr);
}

#[test]
fn policies_hold_for_objects_too() {
    let server = server();
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::own/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::own"},
        {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::own/tmp/*"},
        {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::own/secret/*"}]});
    let keys = json!({"ci": create(&server, "ci", None, Some(&policy))});
    let script = r#"
s3.create_bucket(Bucket="own")
s3.create_bucket(Bucket="other")
for bucket, key in [("own", "secret/a"), ("own", "a"), ("own", "tmp/a"), ("other", "a")]:
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
ci = of(KEYS["ci"], "s3")
arn = "arn:aws:s3:::"
ci.put_object(Bucket="own", Key="b", Body=b"y")
assert ci.get_object(Bucket="own", Key="a")["Body"].read() == b"x"
assert ci.list_objects_v2(Bucket="own")["KeyCount"] == 4
ci.copy_object(Bucket="own", Key="c", CopySource={"Bucket": "own", "Key": "a"})
ci.delete_object(Bucket="own", Key="tmp/a")
for call, action, resource, arguments in [
    (ci.get_object, "GetObject", "own/secret/a", {"Bucket": "own", "Key": "secret/a"}),
    (ci.get_object, "GetObject", "other/a", {"Bucket": "other", "Key": "a"}),
    (ci.put_object, "PutObject", "other/b", {"Bucket": "other", "Key": "b", "Body": b""}),
    (ci.copy_object, "GetObject", "other/a", {"Bucket": "own", "Key": "d", "CopySource": {"Bucket": "other", "Key": "a"}}),
    (ci.create_multipart_upload, "PutObject", "other/b", {"Bucket": "other", "Key": "b"}),
    (ci.delete_object, "DeleteObject", "own/a", {"Bucket": "own", "Key": "a"}),
    (ci.delete_objects, "DeleteObject", "own/a", {"Bucket": "own", "Delete": {"Objects": [{"Key": "a"}]}}),
    (ci.list_objects_v2, "ListBucket", "other", {"Bucket": "other"}),
    (ci.create_bucket, "CreateBucket", "new", {"Bucket": "new"}),
    (ci.list_buckets, "ListAllMyBuckets", "*", {}),
]:
    status, code, message = refused(call, **arguments)
    wanted = f"is not authorized to perform: s3:{action} on resource: {arn}{resource} "
    assert (status, code) == (403, "AccessDenied") and wanted in message, (status, code, message)
assert s3.get_object(Bucket="own", Key="a")["Body"].read() == b"x"
assert sorted(each["Name"] for each in s3.list_buckets()["Buckets"]) == ["other", "own"]
"#;
    python(&server, &keys, script, &[]).ok();
}
