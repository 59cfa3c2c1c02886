"""HTTP/1.1 as applications and clients use it: bodies both ways, trailers, interim answers, ends of all kinds, limits."""

import base64
import hashlib
import json
import os
import select
import socket
import time

from lines import SHORT, Client, Closed
from world import Case, Skipped, mark, until

CASES = []
MEGABYTE = 1 << 20
#: What may be on its way between a writer and a reader that does not read: buffers of sockets and of HTTP/2 windows.
UNDERWAY = 24 * MEGABYTE
#: By how much the server may grow for one transfer that stands still, in bytes.
GROWTH = 16 * MEGABYTE


def case(name, against="", alone=False):
    def add(check):
        CASES.append(Case("h1", name, check, against, alone))
        return check

    return add


def query(name, **more):
    return "&".join([f"mark={name}", *(f"{key}={value}" for key, value in more.items())])


@case("a kept connection serves request after request", "teapot")
def _(world, place):
    with Client(place) as c:
        for n in range(100):
            answer = c.ask("POST", f"/record?{query(mark())}", "content-length: 3", body=b"%03d" % n)
            assert json.loads(answer.body)["sha256"] == hashlib.sha256(b"%03d" % n).hexdigest()


@case("requests sent at once are answered in order", "teapot")
def _(world, place):
    with Client(place) as c:
        c.send(*(c.head("GET", f"/record?{query(mark())}&n={n}") for n in range(50)))
        for n in range(50):
            assert json.loads(c.read().body)["path"].endswith(f"n={n}")


@case("a slow answer does not let the next one pass", "teapot")
def _(world, place):
    name = mark()
    with Client(place) as c:
        c.send(c.head("POST", f"/sink?{query(name)}", "content-length: 0"), c.head("GET", f"/record?{query(mark())}&second"))
        place.wait(name, "came")
        place.say(name, "read")
        assert "/sink" in json.loads(c.read().body)["path"] and json.loads(c.read().body)["path"].endswith("second")


@case("connection: close is heard", "hangs up")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("GET", f"/record?{query(mark())}", "connection: close")
        assert answer.status == 200 and answer.headers.get("connection") == "close" and c.ended()


@case("HTTP/1.0 gets an answer that it understands", "teapot")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("GET", f"/chunks?{query(mark(), n=3)}", version="HTTP/1.0")
        assert answer.status == 200 and "transfer-encoding" not in answer.headers
        assert answer.body == b"000000000001000002", answer
        assert c.ended()


@case("HEAD has a length and no body", "teapot")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("HEAD", f"/bytes?{query(mark(), n=0)}")
        answer = c.ask("HEAD", f"/record?{query(mark())}")
        assert answer.status == 200 and int(answer.headers["content-length"]) > 100
        assert c.ask("GET", f"/record?{query(mark())}").status == 200


for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "GET", "QUERY", "TRACE"]:
    for framing in "length", "chunks":

        @case(f"{method} with a body by {framing}", "teapot")
        def _(world, place, method=method, framing=framing):
            lines, body = ("content-length: 5", b"hello") if framing == "length" else ("transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")
            with Client(place) as c:
                found = json.loads(c.ask(method, f"/record?{query(mark())}", lines, body=body).body)
                assert (found["method"], found["size"]) == (method, 5), found


@case("OPTIONS of the server itself", "teapot")
def _(world, place):
    name = mark()
    with Client(place) as c:
        answer = c.ask("OPTIONS", "*", f"x-mark: mark={name}")
        assert answer.status == 200, answer
        found = place.seen(name)[0]["raw"].split(b" ")[1]
        assert found in (b"*", b"/"), found
        return f"the application sees {found.decode()}"


@case("paths go through as they are", "teapot")
def _(world, place):
    with Client(place) as c:
        for path in ["/record/../a/./b//c", "/record/%2e%2e/%2F%00", "/record/a;b=c,d", "/record?a=b&a=%20+c?d", "/record/~!$'()*@:", "/record?"]:
            full = path + ("&" if "?" in path else "?") + query(mark())
            assert json.loads(c.ask("GET", full).body)["path"] == full


@case("fields go through, the platform's own do not", "teapot")
def _(world, place):
    with Client(place) as c:
        sent = ["x-many: a", "x-many: b", "x-Long: " + "y" * 8000, "x-utf8: \u00e9", "traceparent: 00-1", "x-forwarded-for: 1.2.3.4",
                "x-aws-proxy-new: 1", "connection: x-hop", "x-hop: 1", "keep-alive: 5", "accept-encoding: gzip", "te: trailers"]
        found = json.loads(c.ask("GET", f"/record?{query(mark())}", *sent).body)["headers"]
        names = [name for name, _ in found]
        assert [value for name, value in found if name == "x-many"] == ["a", "b"]
        assert ["x-long", "y" * 8000] in found and ["accept-encoding", "gzip"] in found and ["x-forwarded-for", "1.2.3.4"] in found
        assert ["x-utf8", "\u00e9".encode().decode("latin-1")] in found, found
        assert not [name for name in names if name.startswith("x-aws-proxy-") or name in ("x-hop", "keep-alive")], names
        assert ["host", place.host] in found and names.count("x-amzn-requestid") == 1


# Bodies.


@case("chunks and trailers reach the client", "teapot")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("GET", f"/chunks?{query(mark(), n=1000)}", "te: trailers")
        assert answer.body == b"".join(b"%06d" % n for n in range(1000)) and answer.trailers == {"x-sum": "42"}, answer.trailers


@case("chunks and trailers reach the application", "teapot")
def _(world, place):
    with Client(place) as c:
        body = b"".join(b"4\r\n%04d\r\n" % n for n in range(500)) + b"0\r\nx-sum: 42\r\n\r\n"
        found = json.loads(c.ask("POST", f"/record?{query(mark())}", "transfer-encoding: chunked", "trailer: x-sum", body=body).body)
        assert found["size"] == 2000 and found["trailers"] == ["x-sum: 42"], found


@case("an answer that ends with its connection", "teapot")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("GET", f"/until-close?{query(mark())}")
        assert answer.body == b"all of it", answer


@case("100 MB down, whole", "teapot", alone=True)
def _(world, place):
    with Client(place) as c:
        start, size = time.monotonic(), 100 * MEGABYTE
        c.send(c.head("GET", f"/bytes?{query(mark(), n=size)}"))
        assert c.status().headers["content-length"] == str(size)
        left = size - len(c.buffer)
        view = bytearray(1 << 18)
        while left:
            got = c.socket.recv_into(view)
            assert got and view[:got] == b"x" * got
            left -= got
        return f"{size / MEGABYTE / (time.monotonic() - start):.0f} MB/s"


@case("100 MB up, whole", "teapot", alone=True)
def _(world, place):
    block = os.urandom(MEGABYTE)
    with Client(place) as c:
        start = time.monotonic()
        c.send(c.head("POST", f"/record?{query(mark())}", f"content-length: {100 * MEGABYTE}"))
        digest = hashlib.sha256()
        for _ in range(100):
            c.socket.sendall(block)
            digest.update(block)
        found = json.loads(c.read().body)
        assert (found["size"], found["sha256"]) == (100 * MEGABYTE, digest.hexdigest()), found
        return f"{100 / (time.monotonic() - start):.0f} MB/s"


@case("who does not read holds the application back, not memory", alone=True)
def _(world, place):
    before, size, names = world.memory(), 1 << 30, [mark() for _ in range(10)]
    clients = [Client(place) for _ in names]
    try:
        for client, name in zip(clients, names):
            client.send(client.head("GET", f"/bytes?{query(name, n=size)}"))
            client.status()
        written = lambda: [place.seen(name)[0]["written"] for name in names]
        settle(written)
        most, grown = max(written()), world.memory() - before
        assert most < UNDERWAY, f"{most >> 20} MB are underway"
        assert grown < GROWTH * len(names), f"the server grew by {grown >> 20} MB"
        # One that reads on is served meanwhile.
        with Client(place) as other:
            assert other.ask("GET", f"/record?{query(mark())}").status == 200
        client = clients[0]
        left = 64 * MEGABYTE
        while left > 0:
            left -= len(client.socket.recv(1 << 18))
        assert written()[0] > 64 * MEGABYTE
        return f"{most >> 20} MB underway for each of {len(names)}, {grown >> 20} MB of memory for all"
    finally:
        for client in clients:
            client.leave()


@case("an application that does not read holds the client back, not memory", alone=True)
def _(world, place):
    before, name = world.memory(), mark()
    with Client(place) as c:
        c.send(c.head("POST", f"/sink?{query(name)}", f"content-length: {1 << 30}"))
        place.wait(name, "came")
        c.socket.settimeout(SHORT)
        sent, block = 0, b"x" * (1 << 18)
        try:
            while sent < 1 << 30:
                c.socket.sendall(block)
                sent += len(block)
        except TimeoutError:
            pass
        grown = world.memory() - before
        assert sent < UNDERWAY and grown < GROWTH, f"{sent >> 20} MB sent, {grown >> 20} MB of memory"
        return f"{sent >> 20} MB underway, {grown >> 20} MB of memory"


def settle(look):
    """Until it is twice the same, half a second apart."""
    last = None
    while (now := look()) != last:
        last = now
        time.sleep(0.5)


# Interim answers and early ones.


@case("expect: 100-continue, and the application goes on", "teapot")
def _(world, place):
    name = mark()
    with Client(place) as c:
        c.send(c.head("POST", f"/continue?{query(name)}", "content-length: 5", "expect: 100-continue"))
        interim = c.until(b"\r\n\r\n")
        assert interim.startswith(b"HTTP/1.1 100"), interim
        c.send(b"hello")
        answer = c.read()
        assert answer.status == 200 and json.loads(answer.body)["size"] == 5 and not answer.interim, (answer, answer.interim)


@case("expect: 100-continue, and the application refuses", "teapot")
def _(world, place):
    with Client(place) as c:
        c.send(c.head("POST", f"/deny?{query(mark())}", "content-length: 1000000", "expect: 100-continue"))
        answer = c.read()
        assert answer.status == 417 and answer.body == b"no", answer
        return f"after {answer.interim}" if answer.interim else "at once"


@case("expect: 100-continue, and the token is wrong", "hangs up")
def _(world, place):
    with Client(place) as c:
        head = c.head("POST", f"/record?{query(mark())}", "content-length: 1000000", "expect: 100-continue")
        c.send(head.replace(b"x-aws-proxy-auth: ", b"x-aws-proxy-auth: x"))
        answer = c.read()
        assert answer.status == 403 and not answer.interim, (answer, answer.interim)


@case("early hints do not take the answer's place", "teapot")
def _(world, place):
    with Client(place) as c:
        answer = c.ask("GET", f"/hints?{query(mark())}")
        assert answer.status == 200 and answer.body == b"hinted" and set(answer.interim) <= {103}, answer
        return f"interim {answer.interim}"


@case("an answer before the body is read", "teapot")
def _(world, place):
    name = mark()
    with Client(place) as c:
        c.send(c.head("POST", f"/early?{query(name)}", f"content-length: {50 * MEGABYTE}"), b"x" * 1000)
        answer = c.read()
        assert (answer.status, answer.body) == (200, b"early"), answer


@case("an answer and an end before the body is read", "teapot")
def _(world, place):
    for _ in range(10):
        with Client(place) as c:
            c.send(c.head("POST", f"/early-close?{query(mark())}", f"content-length: {50 * MEGABYTE}"))
            c.socket.settimeout(10)
            sent = 0
            try:
                while sent < 50 * MEGABYTE and not select.select([c.socket], [], [], 0)[0]:
                    sent += c.socket.send(b"x" * 65536)
            except OSError:
                pass
            answer = c.read()
            assert (answer.status, answer.body) == (413, b"early"), answer


@case("no answer of another request, whatever the application sends behind its own", "pipe")
def _(world, place):
    two = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo"
    with Client(place) as c:
        c.send(c.head("GET", say(two)), c.head("GET", f"/record?{query(mark())}"))
        assert c.read().body == b"one"
        second = c.read()
        assert b'"method"' in second.body, second


def say(raw, **more):
    return f"/say?{query(mark(), raw=base64.urlsafe_b64encode(raw).decode(), **more)}"


for name, raw, allowed in [
    ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", [502]),
    ("nothing", b"", [502]),
    ("half a head", b"HTTP/1.1 200 OK\r\ncontent-le", [502]),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", [502]),
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", [502]),
    ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: 3x\r\n\r\nabc", [502]),
    ("a zero byte in a field", b"HTTP/1.1 200 OK\r\nx-a: b\0c\r\ncontent-length: 0\r\n\r\n", [502]),
    ("a field without a colon", b"HTTP/1.1 200 OK\r\nx-a\r\ncontent-length: 0\r\n\r\n", [502]),
    ("a head of 100 KB", b"HTTP/1.1 200 OK\r\nx-a: " + b"y" * 100_000 + b"\r\ncontent-length: 0\r\n\r\n", [502]),
    ("a bare switch of protocols", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", [502]),
    ("no reason", b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", [200]),
    ("a status that is not defined", b"HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\nok", [799]),
    ("a body with 204", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", [204]),
    ("a length with 304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", [304]),
    ("coding and length", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", [200, 502]),
    ("a forged error of the proxy", b"HTTP/1.1 200 OK\r\nx-aws-proxy-error: UNAUTHORIZED\r\ncontent-length: 2\r\n\r\nok", [200]),
]:
    if len(raw) > 40_000:
        # Longer than a path may be: the case has one of its own below.
        continue

    @case(f"an application that answers with {name}", "hangs up")
    def _(world, place, raw=raw, allowed=allowed):
        with Client(place) as c:
            answer = c.ask("GET", say(raw, close=1))
            assert answer.status in allowed and "x-aws-proxy-error" not in answer.headers, (answer, answer.headers)
            assert answer.status == 502 or answer.body in (b"ok", b""), answer
            assert c.ask("GET", f"/record?{query(mark())}").status == 200, "the request after"


for verb, name in [("cut", "a body by length"), ("cut-chunked", "a body by chunks")]:

    @case(f"{name} that breaks off is not taken for whole", "teapot")
    def _(world, place, verb=verb):
        with Client(place) as c:
            c.send(c.head("GET", f"/{verb}?{query(mark())}"))
            try:
                whole = c.read()
            except Closed:
                return
            raise AssertionError(f"it is whole: {whole}")


# Ends.


for name, leave in [("says goodbye", Client.leave), ("is gone", Client.abort)]:

    @case(f"the application hears that a client {name} while it waits for the answer", "")
    def _(world, place, leave=leave):
        named = mark()
        c = Client(place)
        c.send(c.head("GET", f"/hang?{query(named)}"))
        place.wait(named, "came")
        leave(c)
        assert all(each["ended"] for each in place.wait(named, "ended")), "it still waits"

    @case(f"the application hears that a client {name} in the midst of the answer", "")
    def _(world, place, leave=leave):
        named = mark()
        c = Client(place)
        c.send(c.head("GET", f"/drip?{query(named)}"))
        c.status()
        assert c.until(b"first\r\n")
        leave(c)
        assert all(each["ended"] for each in place.wait(named, "ended")), "it still waits"

    @case(f"the application hears that a client {name} in the midst of its body", "")
    def _(world, place, leave=leave):
        named = mark()
        c = Client(place)
        c.send(c.head("POST", f"/record?{query(named)}", "content-length: 1000"), b"x" * 500)
        place.wait(named, "came")
        leave(c)
        assert all(each["ended"] for each in place.wait(named, "ended")), "it still waits"


# Limits.


def limit(name, statuses, *lines, path="/record", against="pipe", **more):
    @case(f"limit: {name}", against)
    def _(world, place):
        with Client(place) as c:
            c.socket.settimeout(10)
            c.send(c.head("GET", f"{path}?{query(mark())}", *lines, **more))
            answer = c.read()
            assert answer.status in statuses, answer
            return f"answered {answer.status}"


limit("a field of 100 KB", [431], "x-a: " + "y" * 100_000)
limit("many fields of 80 KB together", [431], *(f"x-{n}: " + "y" * 1000 for n in range(80)))
limit("a path of 100 KB", [414, 431], path="/record/" + "y" * 100_000)
limit("a field of 30 KB is taken", [200], "x-a: " + "y" * 30_000, against="hangs up")
limit("80 fields are taken", [200], *(f"x-{n}: y" for n in range(80)), against="hangs up")
limit("2,000 fields", [431], *(f"x-{n}: y" for n in range(2000)))


@case("limit: a head that never ends is given up", "hangs up")
def _(world, place):
    """Within 30 s; a byte from time to time does not help."""
    start = time.monotonic()
    with Client(place) as c:
        c.send(b"GET / HTTP/1.1\r\nhost: x\r\n")
        c.socket.settimeout(1)
        while time.monotonic() - start < 45:
            try:
                c.fill()
            except TimeoutError:
                c.send(b"x-a: b\r\n")
            except Closed:
                break
        seconds = time.monotonic() - start
        assert 25 < seconds < 40, f"{seconds:.0f} s"
        return f"after {seconds:.0f} s, {'with ' + c.buffer.split(b' ')[1].decode() if c.buffer else 'without a word'}"


@case("limit: a handshake that never ends is given up", "hangs up")
def _(world, place):
    start = time.monotonic()
    with socket.create_connection(place.address, timeout=40) as stream:
        stream.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
        assert stream.recv(100) == b""
    seconds = time.monotonic() - start
    assert 8 < seconds < 15, f"{seconds:.0f} s"


@case("limit: plain HTTP is not answered with secrets or silence", "")
def _(world, place):
    with socket.create_connection(place.address, timeout=5) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        said = b""
        try:
            while piece := stream.recv(1000):
                said += piece
        except ConnectionError:
            pass
        assert len(said) < 100 and not said.startswith(b"HTTP/1.1 2"), said


@case("another server name in the handshake than in Host is refused", "")
def _(world, place):
    with Client(place, server_name="localhost") as c:
        answer = c.ask("GET", f"/record?{query(mark())}")
        assert answer.status == 403, answer
