s3.create_bucket(Bucket="bad")
good = artifact({"Dockerfile": "FROM scratch\n"})
s3.put_object(Bucket="bad", Key="good.zip", Body=good)
s3.put_object(Bucket="bad", Key="no-dockerfile.zip", Body=artifact({"app/Dockerfile": "FROM scratch\n"}))
s3.put_object(Bucket="bad", Key="no-zip.zip", Body=b"this is no zip")
s3.put_object(Bucket="bad", Key="cut.zip", Body=good[: len(good) // 2])
s3.put_object(Bucket="bad", Key="empty.zip", Body=b"")


def fake(**variables):
    return {"environmentVariables": {f"HEARTH_FAKE_{name}": value for name, value in variables.items()}, "hooks": HOOKS}


cases = [
    ("no-dockerfile", "s3://bad/no-dockerfile.zip", {}, "ARCHIVE_DOCKERFILE_NOT_FOUND"),
    ("no-zip", "s3://bad/no-zip.zip", {}, "ARCHIVE_INVALID"),
    ("cut", "s3://bad/cut.zip", {}, "ARCHIVE_INVALID"),
    ("empty", "s3://bad/empty.zip", {}, "ARCHIVE_INVALID"),
    ("no-key", "s3://bad/no-such-key.zip", {}, "S3_NO_SUCH_KEY"),
    ("no-bucket", "s3://no-such-bucket-anywhere/a.zip", {}, "S3_NO_SUCH_BUCKET"),
    ("ready-500", "s3://bad/good.zip", fake(READY_STATUS="500"), "server error (HTTP 5xx)"),
    ("ready-404", "s3://bad/good.zip", fake(READY_STATUS="404"), "client error (HTTP 4xx)"),
    ("ready-503", "s3://bad/good.zip", fake(READY_STATUS="503"), "Ready hook invocation timed out after PT2S"),
    ("ready-never", "s3://bad/good.zip", fake(READY_STATUS="never"), "Ready hook invocation timed out after PT2S"),
    ("exits", "s3://bad/good.zip", fake(EXIT_AFTER_MS="0", EXIT_CODE="3"), "3"),
]
wrong = []
arns = {}
start = time.monotonic()
for name, uri, more, _ in cases:
    arns[name] = create(name, uri, **more)["imageArn"]
    until(lambda: image_state(arns[name]), ["CREATE_FAILED", "CREATED"])
assert time.monotonic() - start < 30, "bad input is told in bounded time"
for name, _, _, reason in cases:
    arn = arns[name]
    image = mv.get_microvm_image(imageIdentifier=arn)
    version = mv.get_microvm_image_version(imageIdentifier=arn, imageVersion="1.0")
    builds = mv.list_microvm_image_builds(imageIdentifier=arn, imageVersion="1.0")["items"]
    said = builds[0].get("stateReason") or ""
    facts = (image["state"], image.get("latestFailedImageVersion"), version["state"], builds[0]["buildState"])
    if facts != ("CREATE_FAILED", "1.0", "FAILED", "FAILED") or reason not in said:
        wrong.append(f"{name}: {facts} {said!r}, wanted {reason!r}")
assert not wrong, "\n".join(wrong)

# What is refused before anything is made.
for uri in ("registry.example/image:1", "arn:aws:s3:::bucket", "s3://bucket"):
    status, kind, text = refused(create, name="never", uri=uri)
    assert (status, kind) == (400, "ValidationException"), (status, kind, text)
    assert text == "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>", text
status, kind, text = refused(create, name="never", uri="s3://bad/good.zip", resources=[{"minimumMemoryInMiB": 600}])
assert status == 400 and "[512, 1024, 2048, 4096, 8192]" in text, text
hooks = {"port": 9000, "microvmHooks": {"run": "ENABLED"}}
status, _, text = refused(create, name="never", uri="s3://bad/good.zip", hooks=hooks)
assert status == 400 and "The ready (/ready) MicroVM image hook must be enabled" in text, text

# The next build works.
arn = create("fine", "s3://bad/good.zip", hooks=HOOKS)["imageArn"]
until(lambda: image_state(arn), ["CREATED"])
print("all refused")
