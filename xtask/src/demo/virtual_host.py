"""Reads one object by path style and by virtual-host style, and compares both with a file."""

import os
import socket
import sys
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

bucket, key, path = sys.argv[1:]
port = urlsplit(os.environ["AWS_ENDPOINT_URL"]).port
resolve = socket.getaddrinfo


def localhost(host, *rest, **more):
    local = isinstance(host, str) and host.endswith(".localhost")
    return resolve("127.0.0.1" if local else host, *rest, **more)


socket.getaddrinfo = localhost
expected = open(path, "rb").read()
for style in ("path", "virtual"):
    seen = []
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{port}",
        config=Config(s3={"addressing_style": style}),
    )
    s3.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.url))
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    host = urlsplit(seen[-1]).hostname
    assert (host == f"{bucket}.localhost") == (style == "virtual"), (style, seen)
    assert body == expected, f"{style}: other bytes than were stored"
print(f"{len(expected)} bytes the same by both")
