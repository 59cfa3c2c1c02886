import io
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.exceptions import ClientError

# *.localhost is this host (RFC 6761); few resolvers know. *.on.aws is so under the profile `aws` only.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: resolve(
    "127.0.0.1" if isinstance(host, str) and host.endswith((".localhost", ".on.aws")) else host, *rest, **more
)

s3 = boto3.client("s3")
mv = boto3.client("lambda-microvms")
IDLE = {"maxIdleDurationSeconds": 300, "suspendedDurationSeconds": 60, "autoResumeEnabled": True}
HOOKS = {
    "port": 9000,
    "microvmHooks": {"run": "ENABLED", "resume": "ENABLED", "suspend": "ENABLED"},
    "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 2},
}


def artifact(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
    return out.getvalue()


def create(name, uri, **more):
    base = mv.list_managed_microvm_images()["items"][0]["imageArn"]
    return mv.create_microvm_image(
        name=name,
        codeArtifact={"uri": uri},
        baseImageArn=base,
        buildRoleArn="arn:aws:iam::000000000000:role/build",
        **more,
    )


def until(look, wanted, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found in wanted:
            return found
        time.sleep(0.01)
    raise AssertionError(f"still {found} after {seconds} s, wanted {wanted}")


def image_state(arn):
    return mv.get_microvm_image(imageIdentifier=arn)["state"]


def state(vm):
    return mv.get_microvm(microvmIdentifier=vm)["state"]


def token(vm, *ports, minutes=5):
    made = mv.create_microvm_auth_token(
        microvmIdentifier=vm, expirationInMinutes=minutes, allowedPorts=list(ports) or [{"port": 8080}]
    )
    return made["authToken"]["X-aws-proxy-auth"]


def get(vm, headers, path="/", method="GET", body=None, timeout=30):
    """Status, headers and body of one request to a microVM's endpoint."""
    request = urllib.request.Request(f"https://{vm['endpoint']}{path}", headers=headers, method=method, data=body)
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def refused(call, **arguments):
    """Status, error type and message of a call that must be refused."""
    try:
        call(**arguments)
    except ClientError as error:
        meta = error.response["ResponseMetadata"]
        return meta["HTTPStatusCode"], error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError(f"was not refused: {arguments}")
