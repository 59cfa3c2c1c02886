"""A browser: Chromium comes in by a one-time link, and its page opens an EventSource and a WebSocket. Skipped where there is no
`chromium`; Debian's package of that name brings it."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from world import PATIENCE, Case, Skipped, until

#: By which the page names its requests (`upstream/http1.py`).
PAGE = "browser-page"
EVENTS = 5
CASES = []


def link(place):
    """A new one-time link to the microVM's port."""
    body = json.dumps({"port": place.ports["web"], "minutes": 5}).encode()
    url = f"{os.environ['AWS_ENDPOINT_URL']}/hearth/v1/microvms/{place.vm['microvmId']}/browser-link"
    request = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    session = boto3.Session()
    SigV4Auth(session.get_credentials(), "lambda", session.region_name).add_auth(request)
    signed = urllib.request.Request(url, body, dict(request.headers), method="POST")
    with urllib.request.urlopen(signed, timeout=PATIENCE) as answer:
        return json.load(answer)["url"]


def key_of(place):
    """The digest by which Chromium is told to trust the endpoint's key, and no other."""
    with place.open() as stream:
        certificate = ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True)).encode()
    run = lambda *command, given: subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout
    public = run("openssl", "x509", "-pubkey", "-noout", given=certificate)
    return base64.b64encode(hashlib.sha256(run("openssl", "pkey", "-pubin", "-outform", "der", given=public)).digest()).decode()


def reports(place):
    """What the page told: the query of each of its reports."""
    raw = b"".join(each["raw"] for each in place.seen(PAGE))
    return [line.split(b"?", 1)[1].split(b" ")[0].decode() for line in raw.split(b"\r\n") if line.startswith(b"GET /report?")]


def check(world, place):
    chromium = shutil.which("chromium")
    if not chromium:
        raise Skipped("there is no chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--no-proxy-server", f"--user-data-dir={profile}", f"--ignore-certificate-errors-spki-list={key_of(place)}",
                   "--remote-debugging-port=0", f"{link(place)}#{place.ports['sockets']}.{place.token}"]
        log = pathlib.Path(profile, "log").open("wb")
        browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            told = lambda what: any(f"&{what}" in report for report in reports(place))
            for n in range(EVENTS):
                until(lambda: told(f"event={n}&"), 2 * PATIENCE, f"event {n} in the page")
                assert not told(f"event={n + 1}&"), "it came before it was sent"
                place.say(PAGE, f"got {n}")
            until(lambda: told("closed="), PATIENCE, "the WebSocket's end in the page")
            assert told("protocol=lambda-microvms&echo=from%20a%20page&"), reports(place)
            assert told("closed=1000&"), reports(place)
        finally:
            browser.kill()
            browser.wait()
    cookie = b"__Host-hearth"
    assert all(cookie not in each["raw"] for each in place.seen(PAGE)), "the application saw the cookie"
    return f"{EVENTS} events, one by one, and a WebSocket"


CASES.append(Case("browser", "Chromium opens a link, an EventSource and a WebSocket", check, alone=True))
