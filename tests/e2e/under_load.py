import collections
import threading

arn = mv.list_microvm_images()["items"][0]["imageArn"]
VERSIONS = 6
over = threading.Event()
count = collections.Counter()
#: What a launch may be told while versions come and go: there is none, or none that is active.
NO_VERSION = (404, "ResourceNotFoundException")
#: What an update or a deletion may be told: something else is under way, or microVMs use it.
BUSY = {"ConflictException", "ValidationException"}


def code(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def live():
    """A user: launches, uses, sometimes suspends, ends."""
    turn = 0
    while not over.is_set():
        turn += 1
        try:
            vm = mv.run_microvm(imageIdentifier=arn, idlePolicy=IDLE)
        except ClientError as error:
            assert code(error) == NO_VERSION, error
            count["none to launch"] += 1
            time.sleep(0.005)
            continue
        name = vm["microvmId"]
        try:
            until(lambda: state(name), ["RUNNING"])
            headers = {"X-aws-proxy-auth": token(name)}
            for served in (1, 2, 3):
                status, _, body = get(vm, headers)
                assert status == 200 and json.loads(body)["requests_served"] == served, (status, body)
                if served == 1 and turn % 3 == 0:
                    mv.suspend_microvm(microvmIdentifier=name)
            now = mv.get_microvm(microvmIdentifier=name)
            assert now["imageVersion"] == vm["imageVersion"] and now["state"] == "RUNNING", now
            count[vm["imageVersion"]] += 1
        finally:
            mv.terminate_microvm(microvmIdentifier=name)
            until(lambda: state(name), ["TERMINATED"])
        count["lives"] += 1


def attempt(call, **arguments):
    """Asked again for as long as others are in the way."""
    while True:
        try:
            return call(imageIdentifier=arn, **arguments)
        except ClientError as error:
            assert error.response["Error"]["Code"] in BUSY, error
            count["busy"] += 1
            time.sleep(0.01)


failures = []


def guarded():
    try:
        live()
    except BaseException as error:
        failures.append(error)
        over.set()


users = [threading.Thread(target=guarded) for _ in range(6)]
for user in users:
    user.start()
image = mv.get_microvm_image_version(imageIdentifier=arn, imageVersion="1.0")
for number in range(2, VERSIONS + 1):
    attempt(
        mv.update_microvm_image,
        codeArtifact=image["codeArtifact"],
        baseImageArn=image["baseImageArn"],
        buildRoleArn=image["buildRoleArn"],
    )
    until(lambda: image_state(arn), ["UPDATED"])
    attempt(mv.update_microvm_image_version, imageVersion=f"{number - 1}.0", status="INACTIVE")
    # It goes once the last microVM of it is over; those of the new one go on meanwhile.
    attempt(mv.delete_microvm_image_version, imageVersion=f"{number - 1}.0")
    until(lambda: image_state(arn), ["UPDATED"])
    count["versions"] += 1
    assert not failures, failures
    print(number, dict(count), flush=True)
left = [item["imageVersion"] for item in mv.list_microvm_image_versions(imageIdentifier=arn)["items"]]
assert left == [f"{VERSIONS}.0"], left
while count["lives"] < 30 and not failures:
    time.sleep(0.05)
# The image is refused its end while somebody uses it; nobody new does once no version is active.
attempt(mv.update_microvm_image_version, imageVersion=f"{VERSIONS}.0", status="INACTIVE")
attempt(mv.delete_microvm_image)
deadline = time.monotonic() + 30
while any(item["imageArn"] == arn for item in mv.list_microvm_images()["items"]):
    assert time.monotonic() < deadline, "the image is still there"
    time.sleep(0.01)
over.set()
for user in users:
    user.join()
assert not failures, failures
print(dict(count))
