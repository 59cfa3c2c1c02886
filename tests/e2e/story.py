# 1: a bucket and the artifact
s3.create_bucket(Bucket="story")
s3.put_object(Bucket="story", Key="artifact.zip", Body=artifact({"Dockerfile": "FROM scratch\n"}))

# 2: the image
image = create("hello", "s3://story/artifact.zip", hooks=HOOKS)
assert image["state"] == "CREATING" and image["imageVersion"] == "1.0", image
arn = image["imageArn"]
until(lambda: image_state(arn), ["CREATED"])
assert mv.get_microvm_image(imageIdentifier=arn)["latestActiveImageVersion"] == "1.0"
assert refused(create, name="hello", uri="s3://story/artifact.zip")[0] == 400


# 3: a microVM
def run():
    vm = mv.run_microvm(imageIdentifier=arn, idlePolicy=IDLE)
    assert vm["state"] == "PENDING", vm
    until(lambda: state(vm["microvmId"]), ["RUNNING"])
    return vm


def served(vm, key):
    status, _, body = get(vm, {"X-aws-proxy-auth": key})
    assert status == 200, (status, body)
    return json.loads(body)["requests_served"]


vm = run()
me = vm["microvmId"]
assert "/" not in vm["endpoint"] and ".lambda-microvm." in vm["endpoint"], vm

# 4: requests, and refusals as spec 6.6 has them
key = token(me)
assert [served(vm, key) for _ in range(5)] == [1, 2, 3, 4, 5]
other = run()
for headers, text in [
    ({}, b"Request missing authentication"),
    ({"X-aws-proxy-auth": key[::-1]}, b"Request missing authentication"),
    ({"X-aws-proxy-auth": token(other["microvmId"])}, b"Token authentication failed"),
    ({"X-aws-proxy-auth": key, "X-aws-proxy-port": "9000"}, b"Access to port denied"),
]:
    status, _, body = get(vm, headers)
    assert (status, body.strip()) == (403, text), (status, body)
assert get(vm, {"X-aws-proxy-auth": key, "X-aws-proxy-port": "x"})[0] == 400

# 5: asleep and awake
mv.suspend_microvm(microvmIdentifier=me)
until(lambda: state(me), ["SUSPENDED"])
mv.suspend_microvm(microvmIdentifier=me)
key = token(me)
assert state(me) == "SUSPENDED", "a token wakes nobody"
mv.resume_microvm(microvmIdentifier=me)
until(lambda: state(me), ["RUNNING"])
assert served(vm, key) == 6
mv.suspend_microvm(microvmIdentifier=me)
until(lambda: state(me), ["SUSPENDED"])
assert served(vm, key) == 7, "a request wakes it"
assert state(me) == "RUNNING"

# 6: siblings count for themselves
third = run()
assert served(other, token(other["microvmId"])) == 1
assert served(third, token(third["microvmId"])) == 1
assert served(vm, key) == 8
listed = {item["microvmId"] for item in mv.list_microvms(imageIdentifier=arn)["items"]}
assert listed == {each["microvmId"] for each in (vm, other, third)}, listed

# 7: the end
assert refused(mv.delete_microvm_image, imageIdentifier=arn)[0] == 400, "microVMs live"
for each in (vm, other, third):
    mv.terminate_microvm(microvmIdentifier=each["microvmId"])
    until(lambda: state(each["microvmId"]), ["TERMINATED"])
    mv.terminate_microvm(microvmIdentifier=each["microvmId"])
assert mv.get_microvm(microvmIdentifier=me)["stateReason"] == "Success."
status, headers, body = get(vm, {"X-aws-proxy-auth": key})
assert (status, headers["x-aws-proxy-error"], body) == (502, "MICROVM_CONNECT_FAILED", b""), (status, headers, body)
status, kind, text = refused(mv.suspend_microvm, microvmIdentifier=me)
assert (status, kind) == (400, "ValidationException") and "has been terminated" in text, (status, kind, text)
unknown = "microvm-00000000-0000-4000-8000-000000000000"
status, kind, text = refused(mv.get_microvm, microvmIdentifier=unknown)
assert (status, kind, text) == (404, "ResourceNotFoundException", f"MicroVM not found: {unknown}"), (status, kind, text)
mv.delete_microvm_image(imageIdentifier=arn)
end = time.monotonic() + 10
while time.monotonic() < end:
    try:
        image_state(arn)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        break
    time.sleep(0.01)
else:
    raise AssertionError("the image is still there")
print("told")
