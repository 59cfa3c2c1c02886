//! `aws logs` shows build and application output where users look for it.

use std::fs;

use super::{run, server, with_image};

const HELPERS: &str = include_str!("logs.py");

fn script(text: &str) -> String {
    format!("import sys\n{HELPERS}\n{text}")
}

#[test]
fn build_and_application_output_with_boto3() {
    let mut server = with_image();
    let id = run(&server, &[]);
    let first = r#"
[group] = logs.describe_log_groups(logGroupNamePrefix="/aws/lambda-microvms/")["logGroups"]
assert group["logGroupName"] == GROUP and group["arn"] == group["logGroupArn"] + ":*", group
assert group["storedBytes"] > 0 and group["logGroupClass"] == "STANDARD" and group["metricFilterCount"] == 0
until(lambda: len(logs.describe_log_streams(logGroupName=GROUP)["logStreams"]), [2])
streams = logs.describe_log_streams(logGroupIdentifier=group["logGroupArn"], orderBy="LastEventTime", descending=True)
app, build = [stream["logStreamName"] for stream in streams["logStreams"]]
assert build.startswith("build/1.0/") and app.endswith("[1.0]" + sys.argv[1]), (build, app)

everything, pages, end = forward(GROUP, build, limit=3)
assert len(everything) > 6 and pages >= 3, (len(everything), pages)
assert "[hearth] version 1.0 is ready" in messages(everything)
assert backward(GROUP, build, limit=3) == (everything, pages), "the same pages, the other way"
assert forward(GROUP, build)[0] == everything and backward(GROUP, build)[0] == everything
middle = everything[len(everything) // 2]["timestamp"]
early = forward(GROUP, build, limit=2, endTime=middle)[0]
late = forward(GROUP, build, limit=2, startTime=middle)[0]
assert early + late == everything and all(e["timestamp"] < middle for e in early), "the start is in, the end is not"
until(lambda: "hook run: 200" in messages(forward(GROUP, app)[0]), [True])

merged, pages = filtered(logGroupName=GROUP)
assert pages > 3 and [e["timestamp"] for e in merged] == sorted(e["timestamp"] for e in merged)
assert {e["logStreamName"] for e in merged} == {app, build}
assert len({e["eventId"] for e in merged}) == len(merged)
newest = logs.filter_log_events(logGroupName=GROUP, startTime=1704067200000, startFromHead=False)["events"]
assert newest == merged[::-1]
only = filtered(logGroupName=GROUP, logStreamNamePrefix="build/")[0]
assert messages(only) == messages(everything)
assert filtered(logGroupName=GROUP, logStreamNames=[app])[0] == [e for e in merged if e["logStreamName"] == app]
first = logs.filter_log_events(logGroupName=GROUP, limit=4)
print(json.dumps({"app": app, "build": build, "all": len(merged), "end": end["nextForwardToken"],
    "filter": first["nextToken"], "seen": [e["eventId"] for e in first["events"]]}))
"#;
    let state = server.python(&script(first), &[&id]).ok();

    server.kill().unwrap();
    server.serve().unwrap();
    let second = r#"
was = json.loads(sys.argv[1])
page = logs.get_log_events(logGroupName=GROUP, logStreamName=was["build"], nextToken=was["end"])
assert page["events"] == [] and page["nextForwardToken"] == was["end"], "tokens survive a restart"
found, token = list(was["seen"]), was["filter"]
while token:
    page = logs.filter_log_events(logGroupName=GROUP, nextToken=token, limit=4)
    found += [event["eventId"] for event in page["events"]]
    token = page.get("nextToken")
assert len(found) == len(set(found)) >= was["all"], "on where it was, nothing twice"
"#;
    server.python(&script(second), &[state.trim()]).ok();
}

#[test]
fn patterns_and_what_is_refused() {
    let server = with_image();
    let text = r#"
def found(pattern):
    return messages(filtered(logGroupName=GROUP, filterPattern=pattern)[0])

everything = found("")
assert found("hearth") == [m for m in everything if "hearth" in m] and 1 < len(found("hearth")) < len(everything)
assert found("hearth -fetching ready") == [m for m in everything if "hearth" in m and "fetching" not in m and "ready" in m]
assert found('"[hearth] version 1.0 is ready"') == ["[hearth] version 1.0 is ready"]
assert found("?fetching ?booting") == [m for m in everything if "fetching" in m or "booting" in m] != []
assert found("Hearth") == [] and found('{ $.level = "error" }') == []

build = logs.describe_log_streams(logGroupName=GROUP)["logStreams"][0]["logStreamName"]
token = logs.get_log_events(logGroupName=GROUP, logStreamName=build, limit=1)["nextBackwardToken"]
names = logs.describe_log_groups(limit=1)
forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
for call, arguments, code, words in [
    (logs.get_log_events, {"logStreamName": build, "nextToken": forged}, "InvalidParameterException", "The specified nextToken is invalid."),
    (logs.filter_log_events, {"nextToken": token}, "InvalidParameterException", "The specified nextToken is invalid."),
    (logs.describe_log_streams, {"nextToken": "x"}, "InvalidParameterException", "The specified nextToken is invalid."),
    (logs.get_log_events, {"logStreamName": "none"}, "ResourceNotFoundException", "The specified log stream does not exist."),
    (logs.filter_log_events, {"logGroupName": "none"}, "ResourceNotFoundException", "The specified log group does not exist."),
    (logs.filter_log_events, {"filterPattern": "[a, b]"}, "InvalidParameterException", "not supported"),
    (logs.filter_log_events, {"filterPattern": "%a%"}, "InvalidParameterException", "not supported"),
    (logs.filter_log_events, {"logStreamNames": ["a"], "logStreamNamePrefix": "a"}, "InvalidParameterException", "exclusive"),
    (logs.describe_log_streams, {"limit": 51}, "InvalidParameterException", "less than or equal to 50"),
    (logs.put_log_events, {"logStreamName": "a", "logEvents": [{"timestamp": 1, "message": "x"}]}, "UnknownOperationException", "PutLogEvents"),
]:
    said = refused(call, **{"logGroupName": GROUP, **arguments})
    assert said[:2] == (400, code) and words in said[2], (call, arguments, said)
"#;
    server.python(&script(text), &[]).ok();
}

#[test]
fn groups_and_streams_of_ones_own_are_followed() {
    let server = server();
    let text = r#"
s3.create_bucket(Bucket="own")
s3.put_object(Bucket="own", Key="a.zip", Body=artifact({"Dockerfile": "FROM scratch"}))
own = {"cloudWatch": {"logGroup": "/my/builds"}}
image = create("own", "s3://own/a.zip", hooks=HOOKS, logging=own)["imageArn"]
until(lambda: image_state(image), ["CREATED"])
assert "[hearth] version 1.0 is ready" in messages(filtered(logGroupName="/my/builds")[0])
assert logs.describe_log_groups(logGroupNamePrefix="/aws/")["logGroups"] == []

mine = {"cloudWatch": {"logGroup": "/my/apps", "logStream": "the one"}}
tail = Tail("/my/apps", 0)
vm = mv.run_microvm(imageIdentifier=image, logging=mine, idlePolicy=IDLE)["microvmId"]
until(lambda: [s["logStreamName"] for g in logs.describe_log_groups(logGroupNamePattern="apps")["logGroups"]
    for s in logs.describe_log_streams(logGroupName=g["logGroupName"])["logStreams"]], [["the one"]])
seen = []
until(lambda: seen.extend(tail.more()) or "hook run: 200" in seen, [True])
end = logs.get_log_events(logGroupName="/my/apps", logStreamName="the one")["nextForwardToken"]
until(lambda: state(vm), ["RUNNING"])
mv.suspend_microvm(microvmIdentifier=vm)
until(lambda: seen.extend(tail.more()) or "hook suspend: 200" in seen, [True])
assert len(seen) == len(messages(forward("/my/apps", "the one")[0])), "nothing twice, nothing missed"
page = logs.get_log_events(logGroupName="/my/apps", logStreamName="the one", nextToken=end)
assert messages(page["events"]) == ["hook suspend: 200"], "new events appear behind the token"
assert [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]] == ["/my/apps", "/my/builds"]
quiet = mv.run_microvm(imageIdentifier=image, logging={"disabled": {}})["microvmId"]
until(lambda: state(quiet), ["RUNNING"])
assert not any(quiet in e["logStreamName"] for e in filtered(logGroupName="/my/builds")[0])
"#;
    server.python(&script(text), &[]).ok();
}

#[test]
fn with_the_aws_cli() {
    let server = with_image();
    let group = "/aws/lambda-microvms/hello";
    let groups = server.aws(&["logs", "describe-log-groups", "--log-group-name-prefix", group]).json();
    assert_eq!(groups["logGroups"][0]["logGroupName"], group);
    let streams = server.aws(&["logs", "describe-log-streams", "--log-group-name", group]).json();
    let stream = streams["logStreams"][0]["logStreamName"].as_str().unwrap();
    let get = ["logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream, "--limit", "1"];
    let last = server.aws(&get).json();
    assert_eq!(last["events"][0]["message"], "[hearth] version 1.0 is ready");
    let filter = ["logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", "fetching"];
    let found = server.aws(&filter).json();
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    let none = server.aws(&["logs", "describe-log-streams", "--log-group-name", "none"]);
    assert!(none.stderr.contains("The specified log group does not exist."), "{}", none.stderr);
}

/// What a hearth of one account left directly below `s3/` and `logs/`.
#[test]
fn objects_and_logs_of_an_older_hearth_are_found_again() {
    let mut server = with_image();
    let log = server.hearth(&["logs", "hello"]).ok();
    assert_eq!(server.stop().unwrap(), Some(0));
    for name in ["s3", "logs"] {
        let dir = server.data_dir.join(name);
        let account = dir.join("000000000000");
        for entry in fs::read_dir(&account).unwrap().flatten() {
            fs::rename(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        fs::remove_dir(account).unwrap();
        fs::remove_file(dir.join(".by-account")).unwrap();
    }
    for _ in 0..2 {
        server.serve().unwrap();
        assert_eq!(server.hearth(&["logs", "hello"]).ok(), log);
        let objects = server.python("print([b['Name'] for b in s3.list_buckets()['Buckets']], len(s3.list_objects_v2(Bucket='hearth-artifacts-000000000000')['Contents']))", &[]);
        assert_eq!(objects.ok().trim(), "['hearth-artifacts-000000000000'] 1");
        server.kill().unwrap();
    }
}
