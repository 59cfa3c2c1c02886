"""Frames and header blocks of HTTP/2 (RFC 9113, RFC 7541), as h2spec goes through them: section, what is sent, what must
come of it. Every case begins on a connection that has just answered a request, unless it is about the beginning."""

import struct

import hpack

from frames import *
from world import Case

CASES = []
MOST = 0x7FFFFFFF


def case(section, name, against):
    def add(steps):
        def check(world, place):
            with Client(place) as client:
                assert client.ask(1) == 200, "the request before"
                return steps(client)

        CASES.append(Case("h2", f"{section} {name}", check, against))
        return steps

    return add


def fresh(section, name, against, preface=PREFACE + settings()):
    """A case that begins with the connection itself."""

    def add(steps):
        def check(world, place):
            with Client(place, preface) as client:
                return steps(client)

        CASES.append(Case("h2", f"{section} {name}", check, against))
        return steps

    return add


def ends_connection(section, name, send, *codes):
    """What `send` makes is a connection error."""

    @case(section, name, "yes")
    def steps(c):
        c.send(*send(c))
        return c.expect_goaway(*codes)


def ends_stream(section, name, send, *codes, stream=3, answer=False):
    """What `send` makes is a stream error of stream 3."""

    @case(section, name, "yes")
    def steps(c):
        c.send(*send(c))
        return c.expect_reset(stream, *codes, answer=answer)


def is_taken(section, name, send, stream=3):
    """What `send` makes is right, or to be passed over."""

    @case(section, name, "hangs up")
    def steps(c):
        c.send(*send(c))
        c.expect_fine(stream)


# 3.4 The preface.


@fresh("3.4", "the server speaks first of all its settings", "hangs up")
def _(c):
    kind, flags, stream, payload = c.step()
    assert (kind, flags & ACK, stream) == (SETTINGS, 0, 0), (kind, flags, stream)
    assert c.ask(1) == 200


@fresh("3.4", "not the preface", "yes", b"GET / HTTP/1.1\r\nhost: vm.test\r\n\r\n" + frame(PING, 0, 0, b"12345678"))
def _(c):
    return c.expect_goaway(PROTOCOL_ERROR)


@fresh("3.4", "a preface with its last byte wrong", "yes", PREFACE[:-1] + b"\r" + settings())
def _(c):
    return c.expect_goaway(PROTOCOL_ERROR)


@fresh("3.4", "settings do not come first", "yes", PREFACE + frame(PING, 0, 0, b"12345678"))
def _(c):
    return c.expect_goaway(PROTOCOL_ERROR)


@fresh("3.4", "extended CONNECT is offered (RFC 8441)", "yes")
def _(c):
    c.probe()
    assert c.settings.get(CONNECT_PROTOCOL) == 1, c.settings


# 4 Frames.

is_taken("4.1", "a frame of an unknown kind", lambda c: [frame(0x16, 0xFF, 0, b"12345678"), c.headers(3)])
is_taken("4.1", "an unknown kind on a stream", lambda c: [c.opened(3), frame(0xFE, 0, 3, b"1"), c.data(3, flags=END_STREAM)])
is_taken("4.1", "flags that are not defined", lambda c: [frame(PING, 0xFE, 0, b"12345678"), c.headers(3, WHOLE | 0x50)])
is_taken("4.1", "the reserved bit of the stream", lambda c: [frame(PING, 0, 1 << 31, b"12345678"), c.headers(3)])
is_taken("4.2", "data of 16384 bytes", lambda c: [c.opened(3), c.data(3, b"x" * 16384, END_STREAM)])
ends_stream("4.2", "data of 16385 bytes", lambda c: [c.opened(3), c.data(3, b"x" * 16385, END_STREAM)], FRAME_SIZE_ERROR)
ends_connection("4.2", "headers of 16385 bytes", lambda c: [frame(HEADERS, WHOLE, 3, c.block().ljust(16385, b"\x80"))], FRAME_SIZE_ERROR, COMPRESSION_ERROR)
ends_connection("4.2", "settings of 16386 bytes", lambda c: [frame(SETTINGS, 0, 0, b"\0\x4a\0\0\0\0" * 2731)], FRAME_SIZE_ERROR)
ends_connection("4.3", "a header block that is none", lambda c: [frame(HEADERS, WHOLE, 3, b"\xff\xff\xff\xff\xff")], COMPRESSION_ERROR)
ends_connection("4.3", "a priority inside a header block", lambda c: [c.headers(3, END_STREAM), frame(PRIORITY, 0, 3, b"\0\0\0\0\1"), frame(CONTINUATION, END_HEADERS, 3)], PROTOCOL_ERROR)
ends_connection("4.3", "another stream's headers inside a header block", lambda c: [c.headers(3, END_STREAM), c.headers(5)], PROTOCOL_ERROR)
ends_connection("4.3", "a header block that breaks off", lambda c: [frame(HEADERS, WHOLE, 3, c.block()[:-3])], COMPRESSION_ERROR)

# 5.1 States of streams.

idle = [
    ("data", lambda c: [c.data(9, flags=END_STREAM)]),
    ("a reset", lambda c: [frame(RST_STREAM, 0, 9, struct.pack(">I", CANCEL))]),
    ("a window update", lambda c: [frame(WINDOW_UPDATE, 0, 9, struct.pack(">I", 100))]),
    ("a continuation", lambda c: [frame(CONTINUATION, END_HEADERS, 9, c.block())]),
]
for name, send in idle:
    ends_connection("5.1", f"{name} on an idle stream", send, PROTOCOL_ERROR, STREAM_CLOSED)
is_taken("5.1", "a priority on an idle stream", lambda c: [frame(PRIORITY, 0, 9, b"\0\0\0\0\1"), c.headers(3)])
after = [
    ("data", lambda c: [c.data(3)]),
    ("headers", lambda c: [c.headers(3)]),
    ("a continuation", lambda c: [frame(CONTINUATION, END_HEADERS, 3, c.block())]),
]
for name, send in after:
    codes = (PROTOCOL_ERROR,) if "cont" in name else ()
    ends_stream("5.1", f"{name} on a half-closed stream", lambda c, send=send: [c.headers(3, path="/hang"), *send(c)], STREAM_CLOSED, *codes)

    @case("5.1", f"{name} on a closed stream", "yes")
    def steps(c, send=send, codes=codes):
        assert c.ask(3) == 200
        c.ended.discard(3), c.answers.pop(3, None)
        c.send(*send(c))
        return c.expect_goaway(STREAM_CLOSED, *codes) if codes else c.expect_reset(3, STREAM_CLOSED)


# RFC 9113 lets an endpoint pass over what was on its way when it was reset by the peer; it must not take it for a request.
@case("5.1", "data on a stream that the client has reset", "yes")
def _(c):
    c.send(c.opened(3), frame(RST_STREAM, 0, 3, struct.pack(">I", CANCEL)), c.data(3))
    return c.expect_reset(3, STREAM_CLOSED)


@case("5.1", "headers on a stream that the client has reset", "yes")
def _(c):
    c.send(c.opened(3), frame(RST_STREAM, 0, 3, struct.pack(">I", CANCEL)), c.headers(3))
    return c.expect_reset(3, STREAM_CLOSED)


is_taken("5.1", "a window update and a reset on a closed stream", lambda c: [frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 9)), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)), c.headers(3)])
ends_connection("5.1.1", "a stream of an even number", lambda c: [c.headers(2)], PROTOCOL_ERROR)
ends_connection("5.1.1", "a stream with a number below an earlier one", lambda c: [c.headers(7), c.headers(5)], PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1.2", "more streams than are allowed", "yes")
def _(c):
    c.probe()
    most = c.settings.get(MAX_STREAMS)
    assert most, "no bound is named"
    for n in range(most + 1):
        c.send(c.headers(3 + 2 * n, path="/hang"))
    c.expect_reset(3 + 2 * most, REFUSED_STREAM, PROTOCOL_ERROR)
    return f"{most} at a time"


for name, send in [
    ("headers", lambda c: [frame(HEADERS, WHOLE | PRIORITIZED, 3, b"\0\0\0\3\1" + c.block())]),
    ("a priority", lambda c: [frame(PRIORITY, 0, 3, b"\0\0\0\3\1"), c.headers(3)]),
]:

    @case("5.3", f"{name} whose stream depends on itself", "")
    def steps(c, send=send):
        """RFC 9113 no longer cares; RFC 7540 section 5.3.1 did."""
        c.send(*send(c))
        try:
            c.until(lambda: 3 in c.ended or 3 in c.resets)
        except Over as over:
            assert over.code == PROTOCOL_ERROR, over.code
        assert c.resets.get(3, PROTOCOL_ERROR) == PROTOCOL_ERROR, c.resets


# 5.4, 5.5 Errors, extensions.


@case("5.4.1", "a connection error is told, and ends the connection", "yes")
def _(c):
    c.send(frame(PING, 0, 0, b"short"))
    try:
        c.until(lambda: False)
    except Over as over:
        return c.odd(over.code, (FRAME_SIZE_ERROR,))


ends_connection("5.5", "an extension inside a header block", lambda c: [c.headers(3, END_STREAM), frame(0xFA, 0, 3), frame(CONTINUATION, END_HEADERS, 3)], PROTOCOL_ERROR)

# 6.1 DATA.

ends_connection("6.1", "data on stream 0", lambda c: [c.data(0)], PROTOCOL_ERROR)
ends_connection("6.1", "more padding than payload", lambda c: [c.opened(3), frame(DATA, PADDED | END_STREAM, 3, b"\x06hello")], PROTOCOL_ERROR)
ends_connection("6.1", "padding announced in an empty frame", lambda c: [c.opened(3), frame(DATA, PADDED | END_STREAM, 3)], PROTOCOL_ERROR, FRAME_SIZE_ERROR)


@case("6.1", "padding is no part of the body", "hangs up")
def _(c):
    c.send(c.opened(3), frame(DATA, PADDED, 3, b"\x05ab" + bytes(5)), frame(DATA, PADDED | END_STREAM, 3, b"\x00c"))
    c.expect_fine(3)
    assert b'"size": 3' in c.bodies[3], c.bodies[3]


# 6.2 HEADERS.

ends_connection("6.2", "headers on stream 0", lambda c: [c.headers(0)], PROTOCOL_ERROR)
ends_connection("6.2", "more padding than block", lambda c: [frame(HEADERS, WHOLE | PADDED, 3, b"\xff" + b"\x82" * 10)], PROTOCOL_ERROR)
is_taken("6.2", "padding and priority", lambda c: [frame(HEADERS, WHOLE | PADDED | PRIORITIZED, 3, b"\x04\0\0\0\0\x0f" + c.block() + bytes(4))])
ends_connection("6.2", "a priority that breaks off", lambda c: [frame(HEADERS, WHOLE | PRIORITIZED, 3, b"\0\0")], FRAME_SIZE_ERROR, PROTOCOL_ERROR, COMPRESSION_ERROR)

# 6.3, 6.4 PRIORITY, RST_STREAM.

ends_connection("6.3", "a priority on stream 0", lambda c: [frame(PRIORITY, 0, 0, b"\0\0\0\1\1")], PROTOCOL_ERROR)
ends_stream("6.3", "a priority of 4 bytes", lambda c: [c.opened(3), frame(PRIORITY, 0, 3, b"\0\0\0\1")], FRAME_SIZE_ERROR)
ends_connection("6.4", "a reset of stream 0", lambda c: [frame(RST_STREAM, 0, 0, bytes(4))], PROTOCOL_ERROR)
ends_connection("6.4", "a reset of 3 bytes", lambda c: [c.opened(3), frame(RST_STREAM, 0, 3, bytes(3))], FRAME_SIZE_ERROR)


@case("6.4", "a reset reaches the application", "yes")
def _(c):
    name = mark()
    c.send(c.headers(3, path="/hang", mark_=name))
    assert c.place.wait(name, "came"), "the request did not arrive"
    c.send(frame(RST_STREAM, 0, 3, struct.pack(">I", CANCEL)))
    assert all(each["ended"] for each in c.place.wait(name, "ended")), "the application still waits"
    c.expect_fine()


# 6.5 SETTINGS.

for section, name, bytes_, code in [
    ("6.5", "an acknowledgement with a payload", frame(SETTINGS, ACK, 0, b"\0\1\0\0\0\0"), FRAME_SIZE_ERROR),
    ("6.5", "settings on a stream", frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    ("6.5", "settings of 5 bytes", frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    ("6.5.2", "ENABLE_PUSH of 2", settings((ENABLE_PUSH, 2)), PROTOCOL_ERROR),
    ("6.5.2", "a window above 2^31-1", settings((WINDOW, 1 << 31)), FLOW_CONTROL_ERROR),
    ("6.5.2", "frames smaller than 16384", settings((MAX_FRAME, 16383)), PROTOCOL_ERROR),
    ("6.5.2", "frames larger than 2^24-1", settings((MAX_FRAME, 1 << 24)), PROTOCOL_ERROR),
    ("6.5.2", "ENABLE_CONNECT_PROTOCOL of 2", settings((CONNECT_PROTOCOL, 2)), PROTOCOL_ERROR),
]:
    ends_connection(section, name, lambda c, bytes_=bytes_: [bytes_], code)
is_taken("6.5.2", "a setting that is not defined", lambda c: [settings((0xFFAA, 1)), c.headers(3)])
is_taken("6.5.2", "a table of size 0", lambda c: [settings((TABLE_SIZE, 0)), c.headers(3)])


@case("6.5.3", "settings are acknowledged, once each", "hangs up")
def _(c):
    c.probe()
    before = c.acked
    c.send(settings((MAX_STREAMS, 10)), settings())
    c.probe()
    c.probe()
    assert c.acked - before == 2, c.acked - before


@case("6.5.3", "the last of two values counts", "yes")
def _(c):
    c.send(settings((WINDOW, 100), (WINDOW, 1)), c.headers(3, path="/early"))
    c.until(lambda: 3 in c.bodies)
    c.probe()
    assert c.bodies[3] == b"e", c.bodies[3]


# 6.6 to 6.8.

ends_connection("6.6", "a push from a client", lambda c: [frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + c.block())], PROTOCOL_ERROR)
ends_connection("6.7", "a ping on a stream", lambda c: [frame(PING, 0, 1, bytes(8))], PROTOCOL_ERROR)
ends_connection("6.7", "a ping of 6 bytes", lambda c: [frame(PING, 0, 0, bytes(6))], FRAME_SIZE_ERROR)


@case("6.7", "an acknowledgement of a ping is not answered", "hangs up")
def _(c):
    c.send(frame(PING, ACK, 0, b"unasked!"), frame(PING, 0, 0, b"mine..01"))
    while (found := c.step())[0] != PING:
        pass
    assert found[1:] == (ACK, 0, b"mine..01"), found


ends_connection("6.8", "a farewell on a stream", lambda c: [frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL_ERROR)


@case("6.8", "after a client's farewell its request is still answered", "hangs up")
def _(c):
    c.send(c.opened(3), frame(GOAWAY, 0, 0, bytes(8)), c.data(3, flags=END_STREAM))
    assert c.answer(3) == 200


# 6.9 Flow control.

ends_connection("6.9", "an update of 0 for the connection", lambda c: [frame(WINDOW_UPDATE, 0, 0, bytes(4))], PROTOCOL_ERROR)
ends_stream("6.9", "an update of 0 for a stream", lambda c: [c.opened(3), frame(WINDOW_UPDATE, 0, 3, bytes(4))], PROTOCOL_ERROR)
ends_connection("6.9", "an update of 3 bytes", lambda c: [frame(WINDOW_UPDATE, 0, 0, bytes(3))], FRAME_SIZE_ERROR)
ends_connection("6.9.1", "a connection's window above 2^31-1", lambda c: [frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", MOST))] * 2, FLOW_CONTROL_ERROR)
ends_stream("6.9.1", "a stream's window above 2^31-1", lambda c: [c.opened(3)] + [frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", MOST))] * 2, FLOW_CONTROL_ERROR)
ends_connection("6.9.2", "settings that lift a window above 2^31-1", lambda c: [c.opened(3), frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", MOST - 65535)), settings((WINDOW, 65536))], FLOW_CONTROL_ERROR)


@case("6.9.1", "no more data than the window", "yes")
def _(c):
    c.send(settings((WINDOW, 1)), c.headers(3, path="/early"))
    c.until(lambda: 3 in c.bodies)
    c.probe()
    assert c.bodies[3] == b"e" and 3 not in c.ended, c.bodies
    c.send(frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 2)))
    c.until(lambda: len(c.bodies[3]) > 1)
    c.probe()
    assert c.bodies[3] == b"ear" and 3 not in c.ended, c.bodies
    c.send(frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 9)))
    c.expect_fine(3)
    assert c.bodies[3] == b"early", c.bodies


@case("6.9.1", "no more data than the connection's window", "yes")
def _(c):
    c.send(settings((WINDOW, 1 << 20)), c.headers(3, path="/bytes?n=100000"))
    used = len(c.bodies.get(1, b""))
    c.until(lambda: len(c.bodies.get(3, b"")) == 65535 - used)
    c.probe()
    assert len(c.bodies[3]) == 65535 - used, len(c.bodies[3])
    c.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 100000)))
    c.expect_fine(3)
    assert len(c.bodies[3]) == 100000


@case("6.9.2", "a window changed while the answer waits", "yes")
def _(c):
    c.send(settings((WINDOW, 0)), c.headers(3, path="/early"))
    c.until(lambda: 3 in c.answers)
    c.probe()
    assert 3 not in c.bodies, c.bodies
    c.send(settings((WINDOW, 1)))
    c.until(lambda: 3 in c.bodies)
    c.probe()
    assert c.bodies[3] == b"e", c.bodies


@case("6.9.2", "a window may become negative", "yes")
def _(c):
    c.send(settings((WINDOW, 3)), c.headers(3, path="/early"))
    c.until(lambda: len(c.bodies.get(3, b"")) == 3)
    c.send(settings((WINDOW, 2)))
    c.probe()
    c.send(frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 2)))
    c.until(lambda: len(c.bodies[3]) > 3)
    c.probe()
    assert c.bodies[3] == b"earl", c.bodies


@case("6.9.1", "a client that sends more than it may", "yes")
def _(c):
    # Nobody reads the body: what is on its way fills up, and the window with it.
    c.send(c.opened(3, "/sink"), *[c.data(3, b"x" * 16384)] * 2000)
    return c.expect_reset(3, FLOW_CONTROL_ERROR)


# 6.10 CONTINUATION.


def split(c, flags=END_STREAM):
    block = c.block()
    return [frame(HEADERS, flags, 3, block[:40]), frame(CONTINUATION, 0, 3, block[40:80])], frame(CONTINUATION, END_HEADERS, 3, block[80:])


is_taken("6.10", "several continuations", lambda c: [b"".join(first) + last for first, last in [split(c)]])
is_taken("6.10", "an empty continuation", lambda c: [c.headers(3, END_STREAM), frame(CONTINUATION, END_HEADERS, 3)])
ends_connection("6.10", "data in the place of a continuation", lambda c: [*split(c, 0)[0], c.data(3)], PROTOCOL_ERROR)
ends_connection("6.10", "a continuation on stream 0", lambda c: [c.headers(3, END_STREAM), frame(CONTINUATION, END_HEADERS, 0)], PROTOCOL_ERROR)
ends_connection("6.10", "a continuation after whole headers", lambda c: [c.headers(3, END_HEADERS, method="POST"), frame(CONTINUATION, END_HEADERS, 3, c.block())], PROTOCOL_ERROR)
ends_connection("6.10", "a continuation after the last one", lambda c: [first := split(c), *first[0], first[1], frame(CONTINUATION, END_HEADERS, 3)][1:], PROTOCOL_ERROR)
ends_connection("6.10", "a continuation after data", lambda c: [c.opened(3), c.data(3), frame(CONTINUATION, END_HEADERS, 3, c.block())], PROTOCOL_ERROR)

# 8.1 Requests.


@case("8.1", "trailers reach the application", "hangs up")
def _(c):
    c.send(c.headers(3, END_HEADERS, c.lines("POST") + [("trailer", "x-sum")]), c.data(3), c.headers(3, WHOLE, [("x-sum", "42")]))
    c.expect_fine(3)
    assert b"x-sum: 42" in c.bodies[3], c.bodies[3]


ends_stream("8.1", "second headers that do not end the stream", lambda c: [c.opened(3), c.headers(3, END_HEADERS, [("x-sum", "1")]), c.data(3, flags=END_STREAM)], PROTOCOL_ERROR)
ends_stream("8.1", "pseudo-headers among trailers", lambda c: [c.opened(3), c.data(3), c.headers(3, WHOLE, [(":path", "/"), ("x-sum", "1")])], PROTOCOL_ERROR)


def with_lines(*more, drop=(), first=(), method="GET"):
    """A request with lines more and less."""

    def send(c):
        lines = [line for line in c.lines(method) if line[0] not in drop]
        return [c.headers(3, WHOLE, [*first, *lines, *more])]

    return send


for section, name, send in [
    ("8.2.1", "a name in upper case", with_lines(("X-Test", "1"))),
    ("8.2.1", "a name with a space", with_lines(("x test", "1"))),
    ("8.2.1", "a name with a colon", with_lines(("x:test", "1"))),
    ("8.2.1", "a name with a line feed", with_lines(("x\ntest", "1"))),
    ("8.2.1", "a name with a zero byte", with_lines(("x\0test", "1"))),
    ("8.2.1", "a name beyond ASCII", with_lines(("x\u00e9", "1"))),
    ("8.2.1", "a name with a DEL", with_lines(("x\x7f", "1"))),
    ("8.2.1", "an empty name", with_lines(("", "1"))),
    ("8.2.1", "a value with a line feed", with_lines(("x-test", "1\nhost: other"))),
    ("8.2.1", "a value with a carriage return", with_lines(("x-test", "1\rhost: other"))),
    ("8.2.1", "a value with a zero byte", with_lines(("x-test", "1\0"))),
    ("8.2.2", "connection", with_lines(("connection", "keep-alive"))),
    ("8.2.2", "keep-alive", with_lines(("keep-alive", "timeout=5"))),
    ("8.2.2", "proxy-connection", with_lines(("proxy-connection", "keep-alive"))),
    ("8.2.2", "transfer-encoding", with_lines(("transfer-encoding", "chunked"), method="POST")),
    ("8.2.2", "upgrade", with_lines(("upgrade", "websocket"))),
    ("8.2.2", "te that is not trailers", with_lines(("te", "trailers, deflate"))),
    ("8.3", "a pseudo-header that is not defined", with_lines(first=[(":test", "1")])),
    ("8.3", "a pseudo-header of answers", with_lines(first=[(":status", "200")])),
    ("8.3", "a pseudo-header after a header", with_lines(("x-test", "1"), (":path", "/"), drop=(":path",))),
    ("8.3.1", "an empty :path", with_lines(first=[(":path", "")], drop=(":path",))),
    ("8.3.1", "a :path without its slash", with_lines(first=[(":path", "record")], drop=(":path",))),
    ("8.3.1", "a :path with a space", with_lines(first=[(":path", "/a b")], drop=(":path",))),
    ("8.3.1", "a :path with a line feed", with_lines(first=[(":path", "/a HTTP/1.1\r\nx: y")], drop=(":path",))),
    ("8.3.1", "no :method", with_lines(drop=(":method",))),
    ("8.3.1", "no :scheme", with_lines(drop=(":scheme",))),
    ("8.3.1", "no :path", with_lines(drop=(":path",))),
    ("8.3.1", "two :method", with_lines(first=[(":method", "GET")])),
    ("8.3.1", "two :scheme", with_lines(first=[(":scheme", "https")])),
    ("8.3.1", "two :path", with_lines(first=[(":path", "/")])),
    ("8.3.1", "two :authority", with_lines(first=[(":authority", "vm.test")])),
    ("8.3.1", "a :method with a space", with_lines(first=[(":method", "GET /x")], drop=(":method",))),
]:
    ends_stream(section, name, send, PROTOCOL_ERROR, answer=True)

for name, length, *bodies in [
    ("content-length above the body", "5", b"x"),
    ("content-length below the body", "1", b"xyz"),
    ("content-length and no body", "5"),
    ("content-length above the body, in two frames", "5", b"x", b"y"),
    ("content-length with a sign", "+3", b"xyz"),
    ("content-length that is a list", "3, 3", b"xyz"),
    ("content-length that is no number", "3x", b"xyz"),
]:

    def send(c, length=length, bodies=bodies):
        flags = END_HEADERS | (0 if bodies else END_STREAM)
        head = c.headers(3, flags, c.lines("POST", "/sink") + [("content-length", length)])
        return [head, *(c.data(3, body, END_STREAM * (at + 1 == len(bodies))) for at, body in enumerate(bodies))]

    ends_stream("8.1.1", name, send, PROTOCOL_ERROR, answer=True)


@case("8.1.1", "two different content-lengths", "yes")
def _(c):
    lines = c.lines("POST") + [("content-length", "3"), ("content-length", "4")]
    c.send(c.headers(3, END_HEADERS, lines), c.data(3, b"xyz", END_STREAM))
    return c.expect_reset(3, PROTOCOL_ERROR, answer=True)


@case("8.3.1", "a host beside another :authority", "hangs up")
def _(c):
    """Malformed, or the authority alone counts."""
    c.send(c.headers(3, WHOLE, c.lines() + [("host", "other.test")]))
    try:
        c.until(lambda: 3 in c.ended or 3 in c.resets)
    except Over as over:
        assert over.code == PROTOCOL_ERROR, over.code
        return
    if 3 not in c.resets and c.answers[3][":status"] == "200":
        assert b"other.test" not in c.bodies[3] and c.bodies[3].count(b'"host"') == 1, c.bodies[3]


@case("8.5", "CONNECT to anywhere is refused", "yes")
def _(c):
    c.send(c.headers(3, END_HEADERS, [(":method", "CONNECT"), (":authority", c.place.host), *c.place.lines()]))
    c.until(lambda: 3 in c.answers or 3 in c.resets)
    assert 3 in c.resets or c.answers[3][":status"][0] == "4", c.answers[3]


# RFC 7541.

for section, name, end in [
    ("2.3.3", "an index of 0", b"\x80"),
    ("2.3.3", "an index beyond the tables", b"\xff\x7f"),
    ("2.3.3", "a name's index beyond the tables", b"\x7f\x7f\x01x"),
    ("4.2", "a table size at the end of the block", b"\x20"),
    ("5.1", "an integer without end", b"\x7f" + b"\xff" * 12),
    ("5.2", "a string that breaks off", b"\x00\x05ab"),
    ("5.2", "padding of Huffman code longer than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x85\xf2\xb2\x4a\x87\xff\xff"),
    ("5.2", "padding of Huffman code with zeros", b"\x00\x85\xf2\xb2\x4a\x87\xff\x83\x50\x83\x28"),
    ("5.2", "Huffman code with its end in it", b"\x00\x85\xf2\xb2\x4a\x84\xff\x88\xf2\xff\xff\xff\xff\xff\x4a\x87"),
    ("6.3", "a table larger than allowed", None),
]:
    def send(c, end=end):
        block = b"\x3f\xff\xff\xff\x0f" + c.block() if end is None else c.block() + end
        return [frame(HEADERS, WHOLE, 3, block)]

    ends_connection(f"RFC 7541 {section}", name, send, COMPRESSION_ERROR)


@case("RFC 7541 4.2", "a table made small and large again", "hangs up")
def _(c):
    c.encoder = hpack.Encoder()
    c.send(frame(HEADERS, WHOLE, 3, b"\x20\x3f\xe1\x1f" + c.block()))
    c.expect_fine(3)


# Floods: each is cut off or costs nothing, and others are served meanwhile.


def flood(name, send, stream=3):
    @case("floods", name, "")
    def steps(c):
        before = len(c.resets)
        c.send(*send(c))
        try:
            c.probe()
            ending = "taken"
        except Over as over:
            assert over.code in (None, NO_ERROR, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR, FRAME_SIZE_ERROR), over.code
            ending = f"ended with {over.code}"
        with Client(c.place) as other:
            assert other.ask(1) == 200
        return ending


flood("10,000 pings", lambda c: [frame(PING, 0, 0, bytes(8)) * 10000])
flood("10,000 settings", lambda c: [settings((MAX_STREAMS, 100)) * 10000])
flood("10,000 empty data", lambda c: [c.opened(3), c.data(3, b"") * 10000])
flood("10,000 continuations", lambda c: [c.headers(3, END_STREAM), frame(CONTINUATION, 0, 3) * 10000])
flood("4 MB of one header block", lambda c: [c.headers(3, END_STREAM), frame(CONTINUATION, 0, 3, (b"\x00\x01a\x7f\x81\x7e" + b"b" * 16255)) * 256])
flood("2,000 requests, each reset at once", lambda c: [c.headers(3 + 2 * n, path="/hang") + frame(RST_STREAM, 0, 3 + 2 * n, struct.pack(">I", CANCEL)) for n in range(2000)])
flood("5,000 priorities", lambda c: [frame(PRIORITY, 0, 3 + 2 * n, b"\0\0\0\0\1") for n in range(5000)])


@case("limits", "a header list above 64 KiB", "yes")
def _(c):
    block = c.block(c.lines() + [(f"x-{n}", "y" * 1000) for n in range(80)])
    pieces = [block[at:at + 16000] for at in range(0, len(block), 16000)]
    c.send(frame(HEADERS, END_STREAM, 3, pieces[0]), *(frame(CONTINUATION, 0, 3, piece) for piece in pieces[1:-1]), frame(CONTINUATION, END_HEADERS, 3, pieces[-1]))
    c.expect_reset(3, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, answer=True)
    return str(c.answers.get(3, {}).get(":status") or c.resets.get(3) or c.goaway)
