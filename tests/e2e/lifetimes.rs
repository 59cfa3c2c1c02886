//! Lives longer than AWS's, with clients as they are.

use e2e::Server;

use super::{build, state};

fn with(settings: &str) -> Server {
    let server = Server::start_with(settings).unwrap_or_else(|error| panic!("{error:#}"));
    build(&server, "hello", &[]).ok();
    server
}

const IMAGE: &str = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello";

#[test]
fn unchanged_clients_may_ask_for_more_when_the_server_allows_it() {
    let server = with("[limits]\nmicrovm_seconds = 604800\n");
    let script = r#"
import sys
image = sys.argv[1]
vm = mv.run_microvm(imageIdentifier=image, maximumDurationInSeconds=100000, idlePolicy={
    "maxIdleDurationSeconds": 90000, "suspendedDurationSeconds": 90000, "autoResumeEnabled": True})
assert mv.get_microvm(microvmIdentifier=vm["microvmId"])["maximumDurationInSeconds"] == 100000
assert mv.run_microvm(imageIdentifier=image)["maximumDurationInSeconds"] == 604800
try:
    mv.run_microvm(imageIdentifier=image, maximumDurationInSeconds=604801)
except ClientError as error:
    assert error.response["Error"]["Message"].endswith("Member must have value less than or equal to 604800"), error
else:
    raise AssertionError("accepted")
"#;
    server.python(script, &[IMAGE]).ok();
    let launch =
        ["lambda-microvms", "run-microvm", "--image-identifier", IMAGE, "--maximum-duration-in-seconds", "604800"];
    assert_eq!(server.aws(&launch).json()["maximumDurationInSeconds"], 604_800);
    server.hearth(&["run", "hello", "--maximum-duration", "86400", "--idle", "80000"]).ok();
}

#[test]
fn a_microvm_without_end_is_a_number_to_clients_and_survives_the_server() {
    let mut server = with("[limits]\nmicrovm_seconds = \"none\"\n");
    let launch = ["lambda-microvms", "run-microvm", "--image-identifier", IMAGE];
    let vm = server.aws(&launch).json();
    assert_eq!(vm["maximumDurationInSeconds"], i32::MAX);
    let id = vm["microvmId"].as_str().unwrap().to_owned();
    server.python("import sys\nuntil(lambda: state(sys.argv[1]), ['RUNNING'])", &[&id]).ok();
    server.hearth(&["suspend", &id]).ok();
    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(state(&server, &id), "SUSPENDED");
    let script = r#"
import datetime, sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
end = vm["startedAt"] + datetime.timedelta(seconds=vm["maximumDurationInSeconds"])
assert end.year > 2090, end
mv.resume_microvm(microvmIdentifier=sys.argv[1])
until(lambda: state(sys.argv[1]), ["RUNNING"])
short = mv.run_microvm(imageIdentifier=vm["imageArn"], maximumDurationInSeconds=1)["microvmId"]
until(lambda: state(short), ["TERMINATED"])
assert state(sys.argv[1]) == "RUNNING"
"#;
    server.python(script, &[&id]).ok();
}
