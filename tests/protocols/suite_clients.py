"""Clients as people use them: curl, nghttp, h2load."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile

from world import Case, Skipped, mark

CASES = []


def case(program, name):
    def add(check):
        def run(world, place):
            if not shutil.which(program):
                raise Skipped(f"{program} is not installed")
            return check(place)

        CASES.append(Case("clients", f"{program} {name}", run))
        return check

    return add


def run(*command, input=b"", timeout=120):
    done = subprocess.run(command, input=input, capture_output=True, timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-400:]!r}"
    return done.stdout


def url(place, path):
    return f"https://{place.host}{path}{'&' if '?' in path else '?'}mark={mark()}"


def curl(place, *arguments, path="/record", **more):
    name, _, port = place.host.partition(":")
    lines = [word for pair in place.lines() for word in ("-H", ": ".join(pair))]
    return run("curl", "-sS", "--fail-with-body", "--resolve", f"{name}:{port}:127.0.0.1", *lines, *arguments, url(place, path), **more)


for version in "--http1.1", "--http2":
    kind = version.strip("-")

    @case("curl", f"{kind}: a page, and the version that was agreed")
    def _(place, version=version):
        said = curl(place, version, "-w", "%{http_version} %{http_code}", "-o", "/dev/null").decode()
        assert said == ("2 200" if version == "--http2" else "1.1 200"), said

    @case("curl", f"{kind}: a form")
    def _(place, version=version):
        found = json.loads(curl(place, version, "-d", "a=b", "-d", "c=d"))
        assert (found["method"], found["size"]) == ("POST", 7), found
        assert ["content-type", "application/x-www-form-urlencoded"] in found["headers"]

    @case("curl", f"{kind}: 20 MB up, with a length and without")
    def _(place, version=version):
        data = os.urandom(20 << 20)
        digest = hashlib.sha256(data).hexdigest()
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            assert json.loads(curl(place, version, "-T", file.name))["sha256"] == digest
        assert json.loads(curl(place, version, "-T", "-", input=data))["sha256"] == digest

    @case("curl", f"{kind}: 20 MB down")
    def _(place, version=version):
        assert curl(place, version, path=f"/bytes?n={20 << 20}") == b"x" * (20 << 20)

    @case("curl", f"{kind}: HEAD, and a body with GET")
    def _(place, version=version):
        assert b" 200" in curl(place, version, "-I").split(b"\r\n")[0]
        assert json.loads(curl(place, version, "-X", "GET", "--data-binary", "hello"))["size"] == 5
        chunked = ["-H", "transfer-encoding: chunked"] if version == "--http1.1" else ["-H", "content-length:"]
        assert json.loads(curl(place, version, "-X", "GET", *chunked, "--data-binary", "hello"))["size"] == 5

    @case("curl", f"{kind}: an early refusal of an upload is shown")
    def _(place, version=version):
        for _ in range(3):
            said = subprocess.run(
                ["curl", "-sS", version, "--resolve", f"{place.host.replace(':', ':', 1)}:127.0.0.1", "-w", " %{http_code}", "-T", "-",
                 *(word for pair in place.lines() for word in ("-H", ": ".join(pair))), url(place, "/early-close")],
                input=bytes(8 << 20), capture_output=True, timeout=60)
            assert said.stdout == b"early 413", (said.stdout, said.stderr)

    @case("curl", f"{kind}: an unauthorized request")
    def _(place, version=version):
        name, _, port = place.host.partition(":")
        said = run("curl", "-sS", version, "--resolve", f"{name}:{port}:127.0.0.1", "-w", " %{http_code}", url(place, "/record"))
        assert said == b"Request missing authentication 403", said

    @case("curl", f"{kind}: fifty transfers at once over one connection or more")
    def _(place, version=version):
        name, _, port = place.host.partition(":")
        lines = [word for pair in place.lines() for word in ("-H", ": ".join(pair))]
        urls = [word for _ in range(50) for word in ("-o", "/dev/null", url(place, "/bytes?n=10000"))]
        said = run("curl", "-sS", "-Z", version, "--resolve", f"{name}:{port}:127.0.0.1", "-w", "%{http_code} ", *lines, *urls)
        assert said.split() == [b"200"] * 50, said


def there(place, path):
    """By address: the programs resolve no name of ours. The names go into the request."""
    address = f"{place.address[0]}:{place.address[1]}"
    lines = [word for pair in [(":authority", place.host), *place.lines()] for word in ("-H", ": ".join(pair))]
    return [f"https://{address}{path}?mark={mark()}"], lines


@case("nghttp", "a page, and a large upload")
def _(place):
    uri, lines = there(place, "/record")
    assert json.loads(run("nghttp", *lines, *uri))["method"] == "GET"
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(20 << 20))
        file.flush()
        assert json.loads(run("nghttp", *lines, "-d", file.name, *uri))["size"] == 20 << 20


@case("nghttp", "a hundred streams, small windows, padding, continuations")
def _(place):
    uri, lines = there(place, "/bytes")
    uri = [uri[0].replace("?", "?n=50000&")]
    said = run("nghttp", *lines, "-n", "-s", "-m", "100", "-w", "10", "-b", "100", "--continuation", *uri)
    assert said.count(b" 200 ") == 100, said[-500:]


for option, name in [("--h1", "HTTP/1.1"), ("", "HTTP/2")]:

    @case("h2load", f"20,000 requests over 32 connections of {name}, all answered")
    def _(place, option=option):
        uri, lines = there(place, "/ok")
        said = run("h2load", *([option] if option else ["-m", "8"]), "-n", "20000", "-c", "32", *lines, *uri).decode()
        assert "20000 succeeded, 0 failed, 0 errored" in said and "20000 2xx" in said, said
        return re.search(r"([\d.]+) req/s", said)[0]
