"""WebSockets as the Autobahn suite goes through them. Behind the endpoint is a server of the `websockets` package: what comes
of a case through hearth must be what comes of it straight at such a server, and what RFC 6455 says."""

import asyncio
import hashlib
import os
import ssl
import zlib

import websockets.asyncio.client
from websockets.exceptions import InvalidStatus, NegotiationError

import frames
from sockets import BINARY, CLOSE, PING, PONG, TEXT, Socket, close, frame
from world import Case, straight

CASES = []
MARKER = "lambda-microvms"


def same(name, *pieces, closes=1000, echoes=(), chop=0, then=None):
    """Sends the pieces, waits for as many messages as `echoes`, and sends `then` or a goodbye. `closes`: the code that must
    come."""

    def once(place):
        with Socket(place) as socket:
            assert socket.answer.status == 101, socket.answer
            sent = b"".join(pieces)
            for at in range(0, len(sent), chop or len(sent) or 1):
                socket.send(sent[at:at + (chop or len(sent))])
            before = socket.outcome(len(echoes))
            socket.send(then or (close() if closes == 1000 else b""))
            return before + (socket.outcome() if before[-1:] != ["end"] else [])

    def check(world, place):
        plain, through = once(straight(world.host_ports, "sockets")), once(place)
        assert plain == through, f"straight {plain}, through hearth {through}"
        assert through[-2] == ("close", closes), through
        assert through[:-2] == list(echoes), through

    CASES.append(Case("websocket", name, check, "hangs up"))


def echoed(kind, data):
    return (kind, data if len(data) < 200 else (len(data), hashlib.sha256(data).hexdigest()))


# Framing.

for size in [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20, 16 << 20]:
    for kind, data in [(TEXT, b"*" * size), (BINARY, os.urandom(min(size, 1 << 20)) * (size >> 20 or 1))]:
        name = "text" if kind == TEXT else "binary"
        same(f"{name} of {size} bytes", frame(kind, data), echoes=[echoed(kind, data)])
same("a message byte by byte", frame(TEXT, b"hello, world"), chop=1, echoes=[(TEXT, b"hello, world")])
same("65,536 bytes in pieces of 997", frame(BINARY, b"\xfe" * 65536), chop=997, echoes=[echoed(BINARY, b"\xfe" * 65536)])
same("a thousand messages at once", frame(TEXT, b"x") * 1000, echoes=[(TEXT, b"x")] * 1000)
same("a length in more bytes than needed", frame(TEXT, b"hello", length=2) + frame(TEXT, b"hello", length=8), echoes=[(TEXT, b"hello")] * 2)
same("a length beyond 63 bits", b"\x82\xff" + b"\xff" * 8 + b"mask", closes=1009)
same("a message above the server's bound", b"\x82\xff" + (1 << 30).to_bytes(8, "big") + b"mask", closes=1009)

# Pings.

for name, payload in [("empty", b""), ("of text", b"hello"), ("of bytes", bytes(range(255, 245, -1))), ("of 125 bytes", b"\xfe" * 125)]:
    same(f"a ping {name}", frame(PING, payload), echoes=[(PONG, payload)])
    same(f"a pong {name} that nobody asked for", frame(PONG, payload))
same("a ping of 126 bytes", frame(PING, b"\xfe" * 126), closes=1002)
same("ten pings", *(frame(PING, b"payload-%d" % n) for n in range(10)), echoes=[(PONG, b"payload-%d" % n) for n in range(10)])
same("a ping byte by byte", frame(PING, b"p" * 125), chop=1, echoes=[(PONG, b"p" * 125)])

# Reserved bits and opcodes.

for bits in range(1, 8):
    same(f"reserved bits {bits}", frame(TEXT, b"hello", reserved=bits), closes=1002)
    same(f"reserved bits {bits} in a ping after a message", frame(TEXT, b"a"), then=frame(PING, b"b", reserved=bits), closes=1002, echoes=[(TEXT, b"a")])
for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]:
    same(f"opcode {opcode}", frame(opcode, b"x"), closes=1002)
    same(f"opcode {opcode} after a message", frame(TEXT, b"a"), then=frame(opcode), closes=1002, echoes=[(TEXT, b"a")])

# Fragments.

same("a ping in two", frame(PING, b"a", fin=False) + frame(0, b"b"), closes=1002)
same("a pong in two", frame(PONG, b"a", fin=False) + frame(0, b"b"), closes=1002)
same("text in two", frame(TEXT, b"a", fin=False), frame(0, b"b"), echoes=[(TEXT, b"ab")])
same("text in three, empty at both ends", frame(TEXT, fin=False), frame(0, b"x", fin=False), frame(0), echoes=[(TEXT, b"x")])
same("text in empty pieces", frame(TEXT, fin=False), frame(0, fin=False), frame(0), echoes=[(TEXT, b"")])
same("text in two with a ping between", frame(TEXT, b"a", fin=False), frame(PING, b"p"), frame(0, b"b"), echoes=[(PONG, b"p"), (TEXT, b"ab")])
same("text in five with pings between, byte by byte", *[frame(TEXT, b"1", fin=False), frame(0, b"2", fin=False), frame(PING, b"p1"), frame(0, b"3", fin=False), frame(0, b"4", fin=False), frame(PING, b"p2"), frame(0, b"5")], chop=1, echoes=[(PONG, b"p1"), (PONG, b"p2"), (TEXT, b"12345")])
same("a continuation of nothing", frame(0, b"a"), closes=1002)
same("an unfinished continuation of nothing", frame(0, b"a", fin=False) + frame(TEXT, b"b"), closes=1002)
same("a continuation after a whole message", frame(TEXT, b"a"), then=frame(0, b"b"), closes=1002, echoes=[(TEXT, b"a")])
same("a message in the midst of another", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), closes=1002)
same("1 MB in 4,096 pieces", frame(BINARY, b"x" * 256, fin=False), *[frame(0, b"x" * 256, fin=False)] * 4094, frame(0, b"x" * 256), echoes=[echoed(BINARY, b"x" * (1 << 20))])
same("frames without a mask", frame(TEXT, b"hello", masked=False), closes=1002)

# UTF-8.

GOOD = ["\u03ba\u1f79\u03c3\u03bc\u03b5", "\u0000", "\u007f\u0080\u07ff\u0800", "\ud7ff\ue000\uffff", "\U00010000\U0010ffff", "\ufdd0\ufffe\U0001fffe", "\U0001f600" * 40]
for at, text in enumerate(GOOD):
    data = text.encode()
    same(f"UTF-8 that is right, {at + 1}", frame(TEXT, data), echoes=[echoed(TEXT, data)])
    same(f"UTF-8 that is right, {at + 1}, in pieces of a byte", frame(TEXT, data[:1], fin=len(data) == 1), *(frame(0, data[n:n + 1], fin=n + 1 == len(data)) for n in range(1, len(data))), echoes=[echoed(TEXT, data)])
BAD = {
    "a surrogate": b"\xed\xa0\x80", "two surrogates": b"\xed\xa0\x80\xed\xb0\x80", "a continuation byte": b"\x80", "an overlong slash": b"\xc0\xaf",
    "an overlong slash of three": b"\xe0\x80\xaf", "an overlong slash of four": b"\xf0\x80\x80\xaf", "an overlong zero": b"\xc0\x80", "beyond the last": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80", "FE": b"\xfe", "FF": b"\xff", "two of three": b"\xe2\x82", "three of four": b"\xf0\x9f\x98", "a break in its midst": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80edited",
}
for name, data in BAD.items():
    same(f"UTF-8 that is wrong: {name}", frame(TEXT, data), closes=1007)
    same(f"UTF-8 that is wrong: {name}, in the last of three", frame(TEXT, b"ok", fin=False), frame(0, data, fin=False), frame(0), closes=1007)
    same(f"bytes that are no UTF-8: {name}", frame(BINARY, data), echoes=[(BINARY, data)])

# Goodbyes.

for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]:
    same(f"close code {code}", close(code, b"bye") if code != 1000 else b"", closes=code)
for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535]:
    same(f"close code {code} that is none", close(code), closes=1002)
same("a close without a code", close(None), closes=None)
same("a close of one byte", frame(CLOSE, b"\x03"), closes=1002)
same("a close whose reason takes all", close(1001, b"*" * 123), closes=1001)
same("a close that is too long", frame(CLOSE, b"\x03\xe8" + b"*" * 124), closes=1002)
same("a close whose reason is no UTF-8", close(1001, b"\xce\xba\xe1\xff"), closes=1007)
same("a message after the close", close(1001) + frame(TEXT, b"late"), closes=1001)
same("a ping after the close", close(1001) + frame(PING, b"late"), closes=1001)
same("a close in the midst of a message", frame(TEXT, b"a", fin=False) + close(1001), closes=1002)


# What hearth has its hand in: subprotocols (spec 6.5), other ways to ask, ends.


def case(name):
    def add(check):
        CASES.append(Case("websocket", name, lambda world, place: check(world, place), ""))
        return check

    return add


def offers(place, *more):
    return [MARKER, f"{MARKER}.authentication.{place.token}", f"{MARKER}.port.{place.ports['sockets']}", *more]


for offered, chosen in [((), MARKER), (("chat",), "chat"), (("other", "superchat"), "superchat")]:

    @case(f"subprotocols: the platform's{' and ' + ' and '.join(offered) if offered else ''}")
    def _(world, place, offered=offered, chosen=chosen):
        with Socket(place, protocols=offers(place, *offered), token=False) as socket:
            assert socket.answer.headers["sec-websocket-protocol"] == chosen, socket.answer.headers
            socket.send(frame(TEXT, b"hello"))
            assert socket.frame() == (True, TEXT, b"hello")
        with Socket(place, protocols=offers(place, *offered), token=False, path="/about") as about:
            lines = about.answer.body.decode().splitlines()
            seen = [line for line in lines if line.startswith("sec-websocket-protocol")]
            assert seen == ([f"sec-websocket-protocol: {', '.join(offered)}"] if offered else []), seen
            assert f"host: {place.host}" in lines and not [line for line in lines if "x-aws-proxy" in line], lines


@case("subprotocols: with a token in a header none is added")
def _(world, place):
    with Socket(place) as socket:
        assert socket.answer.status == 101 and "sec-websocket-protocol" not in socket.answer.headers
    with Socket(place, protocols=["chat"]) as socket:
        assert socket.answer.headers["sec-websocket-protocol"] == "chat"


for name, change, status in [
    ("without the marker", lambda all: all[1:], 403),
    ("without a token", lambda all: [all[0], all[2]], 403),
    ("with a token that is wrong", lambda all: [all[0], all[1][:-3] + "xyz", all[2]], 403),
    ("with a port that is none", lambda all: [*all[:2], f"{MARKER}.port.70000"], 400),
    ("with two ports", lambda all: [*all, f"{MARKER}.port.9"], 400),
    ("with a port where nothing listens", lambda all: [*all[:2], f"{MARKER}.port.9"], 502),
]:

    @case(f"subprotocols: {name} refused")
    def _(world, place, change=change, status=status):
        with Socket(place, protocols=change(offers(place)), token=False) as socket:
            assert socket.answer.status == status, socket.answer


@case("over HTTP/2 by extended CONNECT (RFC 8441)")
def _(world, place):
    with frames.Client(place) as c:
        c.probe()
        lines = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", place.host), (":path", "/"),
                 ("sec-websocket-version", "13"), *place.lines("sockets"), ("sec-websocket-protocol", "chat")]
        c.send(c.headers(1, frames.END_HEADERS, lines))
        c.until(lambda: 1 in c.answers)
        assert c.answers[1][":status"] == "200" and c.answers[1]["sec-websocket-protocol"] == "chat", c.answers[1]
        for size in (5, 300, 70000):
            c.send(frames.frame(frames.WINDOW_UPDATE, 0, 0, (100000).to_bytes(4, "big")), frames.frame(frames.WINDOW_UPDATE, 0, 1, (100000).to_bytes(4, "big")))
            sent, before = frame(BINARY, b"y" * size), len(c.bodies.get(1, b""))
            for at in range(0, len(sent), 16384):
                c.send(c.data(1, sent[at:at + 16384]))
            c.until(lambda: len(c.bodies.get(1, b"")) - before >= size + 2)
            assert c.bodies[1].endswith(b"y" * size)
        # Others share the connection.
        assert c.ask(3) == 200
        c.send(c.data(1, close()))
        c.until(lambda: 1 in c.ended)
        assert b"\x88\x02\x03\xe8" in c.bodies[1][-10:]


def library(name):
    """A case of the `websockets` client."""

    def add(check):
        def run(world, place):
            tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            host, port = place.address

            def connect(path="/", lines=None, **more):
                return websockets.asyncio.client.connect(
                    f"wss://{place.host}{path}", host=host, port=port, ssl=tls, proxy=None, max_size=None, ping_interval=None,
                    server_hostname=place.host.partition(":")[0], additional_headers=place.lines("sockets") if lines is None else lines, **more)

            return asyncio.run(asyncio.wait_for(check(connect, place), 60))

        CASES.append(Case("websocket", f"websockets {name}", run))
        return check

    return add


@library("with permessage-deflate")
async def _(connect, place):
    async with connect(compression="deflate") as socket:
        extensions = [extension.name for extension in socket.protocol.extensions]
        assert extensions == ["permessage-deflate"], extensions
        for size in [0, 10, 1000, 1_000_000]:
            message = "compress me " * (size // 12)
            await socket.send(message)
            assert await socket.recv() == message


@library("by subprotocols, as a browser")
async def _(connect, place):
    async with connect(lines=[], subprotocols=offers(place, "chat")) as socket:
        assert socket.subprotocol == "chat"
        await socket.send("hello")
        assert await socket.recv() == "hello"


@library("pings and measures")
async def _(connect, place):
    async with connect() as socket:
        for _ in range(20):
            await (await socket.ping())


@library("a hundred at once")
async def _(connect, place):
    async def one(n):
        async with connect() as socket:
            for turn in range(20):
                await socket.send(f"{n} {turn}")
                assert await socket.recv() == f"{n} {turn}"

    await asyncio.gather(*map(one, range(100)))


@library("a message of 16 MB, and a stream of 64 KB ones")
async def _(connect, place):
    async with connect(compression=None) as socket:
        large = os.urandom(16 << 20)
        await socket.send(large)
        assert await socket.recv() == large

        async def send():
            for n in range(500):
                await socket.send(bytes([n % 256]) * 65536)

        sending = asyncio.create_task(send())
        for n in range(500):
            assert (await socket.recv())[:1] == bytes([n % 256])
        await sending


@library("is told why it is refused")
async def _(connect, place):
    try:
        async with connect(lines=[]):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
