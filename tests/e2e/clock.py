import struct
import sys

HOUR = 3600
s3.create_bucket(Bucket="app")
s3.put_object(Bucket="app", Key="app.zip", Body=artifact({"Dockerfile": "FROM scratch\n"}))
arn = create("app", "s3://app/app.zip")["imageArn"]
until(lambda: image_state(arn), ["CREATED"])


def step(seconds):
    """The wall clock of the server and of this process, from its true time."""
    with open(sys.argv[1], "r+b") as file:
        file.write(struct.pack("=q", seconds))


def run(**more):
    vm = mv.run_microvm(imageIdentifier=arn, **more)
    until(lambda: state(vm["microvmId"]), ["RUNNING"])
    return vm


def policy(idle, suspended):
    return {"maxIdleDurationSeconds": idle, "suspendedDurationSeconds": suspended, "autoResumeEnabled": True}


def served(vm):
    status, _, body = get(vm, {"X-aws-proxy-auth": token(vm["microvmId"])})
    assert status == 200, (status, body)
    return json.loads(body)["requests_served"]


def by_page():
    """Every microVM as pages of one show it."""
    ids, more = [], {}
    while True:
        page = mv.list_microvms(maxResults=1, **more)
        ids += [item["microvmId"] for item in page["items"]]
        if not page.get("nextToken"):
            return ids
        more = {"nextToken": page["nextToken"]}


# An hour forward: what is due by the wall clock happens, what is not goes on, and nobody forgets anything.
short = run(maximumDurationInSeconds=1800)
long = run(maximumDurationInSeconds=28800)
idle = run(idlePolicy=policy(1800, 28800))
sleeper = run(idlePolicy=policy(28800, 28800))
drowsy = run(idlePolicy=policy(28800, 1800))
all_ids = [vm["microvmId"] for vm in (short, long, idle, sleeper, drowsy)]
assert [served(long), served(sleeper), served(idle)] == [1, 1, 1]
for vm in (sleeper, drowsy):
    mv.suspend_microvm(microvmIdentifier=vm["microvmId"])
    until(lambda: state(vm["microvmId"]), ["SUSPENDED"])
step(HOUR)
until(lambda: state(short["microvmId"]), ["TERMINATED"], 90)
until(lambda: state(idle["microvmId"]), ["SUSPENDED"], 90)
until(lambda: state(drowsy["microvmId"]), ["TERMINATED"], 90)
reason = mv.get_microvm(microvmIdentifier=short["microvmId"])["stateReason"]
assert reason == "MicroVM exceeded maximum lifetime.", reason
assert [served(long), served(sleeper), served(idle)] == [2, 2, 2]

# Two hours back: nothing ends early, nothing hangs, and a lifetime is still the wall clock's.
step(-HOUR)
late = run(maximumDurationInSeconds=1800)
all_ids.append(late["microvmId"])
assert [served(long), served(sleeper), served(idle), served(late)] == [3, 3, 3, 1]
mv.suspend_microvm(microvmIdentifier=long["microvmId"])
until(lambda: state(long["microvmId"]), ["SUSPENDED"])
mv.resume_microvm(microvmIdentifier=long["microvmId"])
until(lambda: state(long["microvmId"]), ["RUNNING"])
assert sorted(by_page()) == sorted(all_ids), "a list lacks a microVM or shows one twice"
listed = [item["startedAt"] for item in mv.list_microvms()["items"]]
assert listed == sorted(listed, reverse=True), listed

# Forward again.
step(0)
until(lambda: state(late["microvmId"]), ["TERMINATED"], 90)
assert [served(long), served(sleeper)] == [4, 4]

logs = boto3.client("logs")
for group in logs.describe_log_groups()["logGroups"]:
    name = group["logGroupName"]
    for stream in logs.describe_log_streams(logGroupName=name)["logStreams"]:
        events = logs.get_log_events(logGroupName=name, logStreamName=stream["logStreamName"], startFromHead=True)
        times = [event["timestamp"] for event in events["events"]]
        assert times == sorted(times), (stream["logStreamName"], times)
print("all as it must be")
