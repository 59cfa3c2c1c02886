"""Server-sent events: each one arrives before the next is sent. The server waits for the word of the client between them."""

import json
import subprocess
import time

import frames
from lines import Client
from world import Case, mark

CASES = []
EVENTS = 20


def case(name, against="hangs up"):
    def add(check):
        CASES.append(Case("sse", name, check, against))
        return check

    return add


@case("event by event over HTTP/1.1")
def _(world, place):
    name = mark()
    with Client(place) as c:
        c.send(c.head("GET", f"/events?mark={name}&n={EVENTS}", "accept: text/event-stream"))
        answer = c.status()
        assert answer.headers["content-type"] == "text/event-stream" and "content-length" not in answer.headers
        for n in range(EVENTS):
            c.until(f"data: event {n}\n\n".encode())
            place.say(name, f"got {n}")
        assert c.until(b"0\r\n\r\n") is not None


@case("event by event over HTTP/2")
def _(world, place):
    name = mark()
    with frames.Client(place) as c:
        c.send(c.headers(1, path=f"/events?n={EVENTS}", mark_=name))
        for n in range(EVENTS):
            c.until(lambda: f"data: event {n}\n\n".encode() in c.bodies.get(1, b""))
            place.say(name, f"got {n}")
        assert c.answer(1) == 200


@case("ten streams at once over one HTTP/2 connection")
def _(world, place):
    names = [mark() for _ in range(10)]
    with frames.Client(place) as c:
        for at, name in enumerate(names):
            c.send(c.headers(1 + 2 * at, path="/events?n=3", mark_=name))
        for n in range(3):
            for at, name in reversed(list(enumerate(names))):
                c.until(lambda: f"data: event {n}\n\n".encode() in c.bodies.get(1 + 2 * at, b""))
                place.say(name, f"got {n}")
        for at in range(10):
            assert c.answer(1 + 2 * at) == 200


@case("curl prints an event when it comes", "")
def _(world, place):
    name = mark()
    host, _, port = place.host.partition(":")
    lines = [word for pair in place.lines() for word in ("-H", ": ".join(pair))]
    command = ["curl", "-sSN", "--resolve", f"{host}:{port}:127.0.0.1", *lines, f"https://{place.host}/events?mark={name}&n=3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for n in range(3):
            while process.stdout.readline() != f"data: event {n}\n".encode():
                assert process.poll() is None
            place.say(name, f"got {n}")
        assert process.wait(10) == 0


@case("a silent stream stays open", "hangs up")
def _(world, place):
    name = mark()
    with Client(place) as c:
        c.send(c.head("GET", f"/events?mark={name}&n=2"))
        c.until(b"event 0\n\n")
        time.sleep(40)
        place.say(name, "got 0")
        c.until(b"event 1\n\n")
