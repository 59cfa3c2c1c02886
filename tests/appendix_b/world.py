"""What the checks share: the clients of a user, images and microVMs, and one way to say that a line is not held yet."""

import base64
import functools
import io
import json
import os
import pathlib
import socket
import ssl
import threading
import time
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/build"
APP = pathlib.Path(__file__).parent / "app"
HOOKS = {
    "port": 9000,
    "microvmHooks": {"run": "ENABLED"},
    "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 120},
}
#: Longest time for a state under software emulation, with other machines beside it.
PATIENCE = 120


class NotYet(Exception):
    """hearth does not hold this line, and says so."""


def once(make):
    """A property that is made once, whichever thread asks first."""
    lock = threading.Lock()
    cached = functools.cached_property(make)

    def get(self):
        with lock:
            return cached.__get__(self)

    cached.__set_name__(None, make.__name__ + "_")
    return property(get)


class World:
    """A server, as `hearth env` points to it. `guests` is false for an engine without real ones."""

    def __init__(self, guests):
        self.guests = guests
        quick = Config(retries={"max_attempts": 1})
        self.mv, s3 = boto3.client("lambda-microvms", config=quick), boto3.client("s3")
        s3.create_bucket(Bucket="appendix-b")
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            for file in sorted(APP.iterdir()):
                if file.is_file():
                    archive.write(file, file.name)
        s3.put_object(Bucket="appendix-b", Key="app.zip", Body=zipped.getvalue())
        self.base = self.mv.list_managed_microvm_images()["items"][0]["imageArn"]
        # Line 16: an image that a filter must find behind all others.
        self.oldest = self.create("oldest", codeArtifact={"uri": "s3://appendix-b/none.zip"})["imageArn"]
        self.created = self.create("app", hooks=HOOKS)

    def create(self, name, **more):
        least = {
            "codeArtifact": {"uri": "s3://appendix-b/app.zip"},
            "baseImageArn": self.base,
            "buildRoleArn": ROLE,
            "resources": [{"minimumMemoryInMiB": 512}],
        }
        return self.mv.create_microvm_image(name=name, **{**least, **more})

    @once
    def app(self):
        """The image with /ready and /run."""
        return self.built(self.created["imageArn"])

    @once
    def capable(self):
        """An image whose application may do all that root may."""
        return self.built(self.create("capable", additionalOsCapabilities=["ALL"])["imageArn"])

    @once
    def plain(self):
        """An image without hooks."""
        return self.built(self.create("plain", description="first", environmentVariables={"A": "b"})["imageArn"])

    @once
    def updated(self):
        """What the update of the plain image to its version 2.0 answered; its build is over."""
        made = self.mv.update_microvm_image(
            imageIdentifier=self.plain,
            codeArtifact={"uri": "s3://appendix-b/app.zip"},
            baseImageArn=self.base,
            buildRoleArn=ROLE,
        )
        until(lambda: self.image_state(self.plain), "UPDATED")
        return made

    def image_state(self, arn):
        return self.mv.get_microvm_image(imageIdentifier=arn)["state"]

    def built(self, arn):
        until(lambda: self.image_state(arn), "CREATED")
        return arn

    def reason(self, arn):
        """Why the first version's build failed."""
        builds = self.mv.list_microvm_image_builds(imageIdentifier=arn, imageVersion="1.0")["items"]
        return builds[0].get("stateReason")

    def run(self, image=None, **more):
        """A microVM that runs."""
        vm = self.mv.run_microvm(imageIdentifier=image or self.app, **more)
        until(lambda: self.state(vm), "RUNNING")
        return vm

    def get(self, vm):
        return self.mv.get_microvm(microvmIdentifier=vm["microvmId"])

    def state(self, vm):
        return self.get(vm)["state"]

    def suspend(self, vm):
        self.mv.suspend_microvm(microvmIdentifier=vm["microvmId"])
        until(lambda: self.state(vm), "SUSPENDED")

    def terminate(self, vm):
        self.mv.terminate_microvm(microvmIdentifier=vm["microvmId"])
        until(lambda: self.state(vm), "TERMINATED")

    def token(self, vm, *ports, minutes=60):
        made = self.mv.create_microvm_auth_token(
            microvmIdentifier=vm["microvmId"],
            expirationInMinutes=minutes,
            allowedPorts=[{"port": port} for port in ports or [8080]],
        )
        return made["authToken"]["X-aws-proxy-auth"]


def until(look, wanted, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < end, f"still {found} after {seconds} s, wanted {wanted}"
        assert found not in ("TERMINATED", "CREATE_FAILED", "UPDATE_FAILED"), f"{found}, wanted {wanted}"
        time.sleep(0.05)


def refused(call, **arguments):
    """Status, code, message and body of a call that must be refused."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response
    raise AssertionError(f"was not refused: {arguments}")


def expect_refusal(call, status, message, **arguments):
    found, response = refused(call, **arguments)
    said = response["Error"]["Message"]
    assert found == status and message in said, f"{found} {said!r}, wanted {status} {message!r}"


class Answer:
    """Status, headers (lower case) and body of an endpoint's answer; the socket stays open for upgrades and streams."""

    def __init__(self, vm, headers=None, path="/", host=None, timeout=90):
        name, _, port = vm["endpoint"].partition(":")
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        # *.localhost is this host (RFC 6761), whatever the resolver thinks.
        raw = socket.create_connection(("127.0.0.1", int(port or 443)), timeout=timeout)
        self.socket = context.wrap_socket(raw, server_hostname=name)
        self.file = self.socket.makefile("rb")
        lines = [f"GET {path} HTTP/1.1", f"Host: {host or vm['endpoint']}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().decode().strip()):
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def close(self):
        self.file.close()
        self.socket.close()

    def text(self):
        length = int(self.headers.get("content-length", 0))
        body = self.file.read(length).decode()
        self.close()
        return body

    def json(self):
        text = self.text()
        assert self.status == 200, f"{self.status} {text!r} {self.headers.get('x-aws-proxy-error')}"
        return json.loads(text)

    def frame(self):
        """The first WebSocket frame's text; ours are short and whole."""
        head = self.file.read(2)
        assert head[0] == 0x81 and head[1] < 126, head
        return json.loads(self.file.read(head[1]))


def ask(vm, token, path="/", **headers):
    return Answer(vm, {"X-aws-proxy-auth": token, **{name.replace("_", "-"): str(v) for name, v in headers.items()}}, path)


def websocket(vm, protocols, **headers):
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **{name.replace("_", "-"): str(value) for name, value in headers.items()},
    }
    if protocols:
        handshake["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    return Answer(vm, handshake, "/socket")
