"""What the cases share: a microVM behind a running hearth, the servers in it, and the places a case can be run against."""

import atexit
import base64
import dataclasses
import io
import itertools
import json
import os
import pathlib
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
import zipfile

import boto3
from botocore.config import Config

HERE = pathlib.Path(__file__).parent
ROLE = "arn:aws:iam::000000000000:role/build"
NAMES = ("web", "control", "sockets", "calls")
#: Ports of the servers in a guest.
IN_GUEST = dict(zip(NAMES, range(9000, 9004)))
#: Nothing listens there, neither in a guest nor behind the fake engine.
DEAF = 9
#: Longest wait of a client for anything, in seconds.
PATIENCE = 30
TOKEN_MINUTES = 60
count = itertools.count()


@dataclasses.dataclass
class Case:
    """`against`: the kind of bad server that this case must find wanting in a self-check."""

    suite: str
    name: str
    check: object
    against: str = ""
    #: Nothing else runs meanwhile.
    alone: bool = False


class Skipped(Exception):
    """Why a case is not run here."""


def mark():
    """A name that no other request has."""
    return f"m{next(count)}-{secrets.token_hex(4)}"


def free_ports(wanted):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(wanted)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def start_servers():
    """The servers on the host; their ports."""
    ports = free_ports(len(NAMES))
    command = [sys.executable, str(HERE / "upstream/servers.py"), *map(str, ports)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    atexit.register(process.wait)
    atexit.register(process.kill)
    assert process.stdout.readline() == b"ready\n", "the servers on the host did not start"
    return dict(zip(NAMES, ports))


class Place:
    """Somewhere to connect to. `lines` are the headers that lead to a port there."""

    def __init__(self, address, tls, host, control):
        self.address, self.tls, self.host, self.control_address = address, tls, host, control

    def open(self, alpn=None, server_name=None):
        raw = socket.create_connection(self.address, timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return raw
        if alpn:
            self.tls.set_alpn_protocols([alpn])
        wrapped = self.tls.wrap_socket(raw, server_hostname=server_name or self.host.partition(":")[0])
        assert not alpn or wrapped.selected_alpn_protocol() == alpn, wrapped.selected_alpn_protocol()
        return wrapped

    def lines(self, port="web"):
        return []

    def ask_control(self, path):
        with socket.create_connection(self.control_address, timeout=PATIENCE + 10) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nhost: {self.host}\r\n\r\n".encode())
            return stream.makefile("rb").read()

    def control(self, verb, name, /, **more):
        """What the server saw of a mark."""
        answer = self.ask_control(f"/{verb}?{urllib.parse.urlencode({'mark': name, **more})}")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        found = json.loads(body)
        return [{**each, "raw": base64.b64decode(each["raw"])} for each in found]

    def seen(self, name):
        return self.control("seen", name)

    def wait(self, name, what):
        """Until it came, or all of it ended; what the server saw."""
        return self.control("wait", name, **{"for": what})

    def say(self, name, word):
        return self.control("say", name, word=word)


def straight(ports, port):
    """The server itself, without hearth."""
    return Place(("127.0.0.1", ports[port]), None, "vm.test", ("127.0.0.1", ports["control"]))


class Hearth(Place):
    """The endpoint of a microVM."""

    def __init__(self, vm, token, ports):
        name, _, port = vm["endpoint"].partition(":")
        tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        super().__init__(("127.0.0.1", int(port or 443)), tls, vm["endpoint"], None)
        self.vm, self.token, self.ports = vm, token, ports

    def lines(self, port="web"):
        return [("x-aws-proxy-auth", self.token), ("x-aws-proxy-port", str(self.ports[port]))]

    def open(self, alpn=None, server_name=None):
        # A context of its own: ALPN belongs to it, and cases run at the same time.
        self_tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        return Place(self.address, self_tls, self.host, None).open(alpn, server_name)

    def ask_control(self, path):
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.lines("control"))
        with self.open() as stream:
            stream.settimeout(PATIENCE + 10)
            head = f"GET {path} HTTP/1.1\r\nhost: {self.host}\r\n{lines}connection: close\r\n\r\n"
            stream.sendall(head.encode())
            return stream.makefile("rb").read()


class World:
    """A server, as `hearth env` points to it, and images of our servers in it."""

    def __init__(self, engine, options):
        self.engine, self.options, self.name = engine, options, f"protocols-{os.getpid()}"
        quick = Config(retries={"max_attempts": 1})
        self.mv, self.s3 = boto3.client("lambda-microvms", config=quick), boto3.client("s3")
        self.host_ports = start_servers()
        self.ports = self.host_ports if engine == "fake" else IN_GUEST
        self.image = self.build()
        self.vm = self.run()
        self.hearth = self.place(self.vm)
        self.await_servers()

    def place(self, vm):
        return Hearth(vm, self.token(vm), self.ports)

    def build(self):
        if self.engine == "fake":
            files = {"Dockerfile": "FROM public.ecr.aws/lambda/microvms:al2023-minimal\nCMD [\"app\"]\n"}
            script = {"HEARTH_FAKE_HOST_PORTS": ",".join(map(str, self.host_ports.values())), "HEARTH_FAKE_CLOSED_PORTS": str(DEAF)}
        else:
            files = {path.name: path.read_text() for path in (HERE / "upstream").iterdir() if path.is_file()}
            script = {}
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            for name, text in sorted(files.items()):
                archive.writestr(name, text)
        self.s3.create_bucket(Bucket=self.name)
        self.s3.put_object(Bucket=self.name, Key="app.zip", Body=zipped.getvalue())
        base = self.mv.list_managed_microvm_images()["items"][0]["imageArn"]
        made = self.mv.create_microvm_image(
            name=self.name, codeArtifact={"uri": f"s3://{self.name}/app.zip"}, baseImageArn=base,
            buildRoleArn=ROLE, environmentVariables=script, resources=[{"minimumMemoryInMiB": 512}])
        state = lambda: self.mv.get_microvm_image(imageIdentifier=made["imageArn"])["state"]
        until(lambda: state() != "CREATING", 300, "the image's build")
        assert state() == "CREATED", self.mv.list_microvm_image_builds(
            imageIdentifier=made["imageArn"], imageVersion="1.0")["items"]
        return made["imageArn"]

    def run(self, **more):
        vm = self.mv.run_microvm(imageIdentifier=self.image, **more)
        until(lambda: self.state(vm) == "RUNNING", 120, "the microVM's start")
        return vm

    def state(self, vm):
        return self.mv.get_microvm(microvmIdentifier=vm["microvmId"])["state"]

    def token(self, vm, ports=({"allPorts": {}},), minutes=TOKEN_MINUTES):
        made = self.mv.create_microvm_auth_token(
            microvmIdentifier=vm["microvmId"], expirationInMinutes=minutes, allowedPorts=list(ports))
        return made["authToken"]["X-aws-proxy-auth"]

    def await_servers(self):
        until(lambda: b" 502 " not in self.hearth.ask_control("/seen?mark=none")[:20], 120, "the servers behind hearth")

    def memory(self):
        """Bytes that the server holds in memory now."""
        status = pathlib.Path(f"/proc/{os.environ['HEARTH_SERVER_PID']}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) << 10

    def leave(self):
        self.mv.terminate_microvm(microvmIdentifier=self.vm["microvmId"])


def until(look, seconds, what):
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
