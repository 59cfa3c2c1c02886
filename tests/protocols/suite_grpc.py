"""gRPC by its own implementation for Python: all forms of calls, what ends them, and what surrounds them."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from world import Case, mark, until

CASES = []
SERVICE = "/hearth.test.Echo/"
LARGE = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class Stub:
    """A channel, and what every call needs beside its own metadata."""

    def __init__(self, place, lines=None, options=()):
        name = place.host.partition(":")[0]
        self.lines = [*(place.lines("calls") if lines is None else lines), ("x-aws-proxy-force-h2", "true")]
        names = [("grpc.ssl_target_name_override", name), ("grpc.default_authority", place.host)]
        with open(__import__("os").environ["SSL_CERT_FILE"], "rb") as roots:
            credentials = grpc.ssl_channel_credentials(roots.read())
        address = f"{place.address[0]}:{place.address[1]}"
        self.channel = grpc.secure_channel(address, credentials, [*names, *LARGE, *options])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, form, method, argument, *metadata, timeout=30, **more):
        made = getattr(self.channel, form)(SERVICE + method)
        return made(argument, metadata=[*self.lines, *metadata], timeout=timeout, **more)

    def unary(self, message=b"hello", *metadata, **more):
        return self.call("unary_unary", "Unary", message, *metadata, **more)


def case(name):
    def add(check):
        def run(world, place):
            with Stub(place) as stub:
                return check(stub, place)

        CASES.append(Case("grpc", name, run))
        return check

    return add


def failed(call):
    try:
        found = call()
        found = list(found) if hasattr(found, "__next__") else found
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"it succeeded: {found!r}")


@case("unary")
def _(stub, place):
    for message in [b"", b"x", b"hello" * 1000]:
        assert stub.unary(message) == message


@case("client streaming")
def _(stub, place):
    assert stub.call("stream_unary", "ManyIn", (b"x" * n for n in range(1000))) == b"1000 499500"
    assert stub.call("stream_unary", "ManyIn", iter([])) == b"0 0"


@case("server streaming")
def _(stub, place):
    found = list(stub.call("unary_stream", "ManyOut", b"1000 100"))
    assert len(found) == 1000 and found[999] == b"999:" + b"y" * 100
    assert list(stub.call("unary_stream", "ManyOut", b"0 0")) == []


@case("both streaming, message by message")
def _(stub, place):
    sent = queue.Queue()
    answers = stub.call("stream_stream", "Both", iter(sent.get, None))
    for n in range(200):
        sent.put(b"%d" % n)
        assert next(answers) == b"%d" % n, "it did not come before the next was sent"
    sent.put(None)
    assert list(answers) == []


@case("both streaming ends with an error in its midst")
def _(stub, place):
    answers = stub.call("stream_stream", "Both", iter([b"a", b"fail", b"b"]))
    assert next(answers) == b"a"
    error = failed(lambda: answers)
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "told to")


@case("every status, with its details and trailers")
def _(stub, place):
    for status in grpc.StatusCode:
        if status == grpc.StatusCode.OK:
            continue
        details = "why: \u00e4\u00f6\u4e16 100% \n"
        error = failed(lambda: stub.unary(b"", ("status", status.name), ("details", "why")))
        assert (error.code(), error.details()) == (status, "why"), (status, error)
        assert ("trailing", "yes") in error.trailing_metadata(), error.trailing_metadata()


@case("metadata both ways, binary too, and none of the platform's")
def _(stub, place):
    answer, call = stub.channel.unary_unary(SERVICE + "Unary").with_call(
        b"", metadata=[*stub.lines, ("own", "value"), ("own-bin", b"\0\xff\1"), ("x-aws-proxy-new", "1")], timeout=30)
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert initial["initial"] == "yes" and (trailing["trailing"], trailing["blob-bin"]) == ("yes", b"\0\1\xff"), (initial, trailing)
    seen = initial["seen"].split(",")
    assert "own" in seen and "own-bin" in seen and not [name for name in seen if name.startswith("x-aws-proxy")], seen


@case("a method that is not there")
def _(stub, place):
    assert failed(lambda: stub.call("unary_unary", "Nothing", b"")).code() == grpc.StatusCode.UNIMPLEMENTED


@case("a deadline")
def _(stub, place):
    start = time.monotonic()
    error = failed(lambda: stub.call("unary_unary", "Slow", b"20", timeout=1))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - start < 5


def end_of(stub, name):
    return stub.call("unary_unary", "EndOf", name.encode(), timeout=40)


@case("a deadline reaches the server")
def _(stub, place):
    name = mark()
    assert failed(lambda: stub.call("unary_stream", "Hold", b"", ("mark", name), timeout=1)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert end_of(stub, name) == b"cancelled"


@case("a cancellation reaches the server")
def _(stub, place):
    name = mark()
    answers = stub.call("unary_stream", "Hold", b"", ("mark", name))
    assert next(answers) == b"begun"
    answers.cancel()
    assert end_of(stub, name) == b"cancelled"


@case("a channel that is closed reaches the server")
def _(stub, place):
    name = mark()
    with Stub(place) as other:
        assert next(other.call("unary_stream", "Hold", b"", ("mark", name))) == b"begun"
    assert end_of(stub, name) == b"cancelled"


@case("messages in gzip, both ways")
def _(stub, place):
    message = b"compressible " * 10_000
    assert stub.unary(message, ("compress", "yes"), compression=grpc.Compression.Gzip) == message


@case("messages of 16 MB, both ways")
def _(stub, place):
    message = bytes(range(256)) * (1 << 16)
    assert stub.unary(message, timeout=60) == message
    assert sum(map(len, stub.call("unary_stream", "ManyOut", b"4 4000000", timeout=60))) > 16_000_000


@case("a hundred calls at once over one connection")
def _(stub, place):
    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(lambda n: stub.unary(b"%d" % n * 100, timeout=60), range(100)))
    assert found == [b"%d" % n * 100 for n in range(100)]


@case("fifty long streams at once")
def _(stub, place):
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda n: len(list(stub.call("unary_stream", "ManyOut", b"500 10", timeout=60))), range(50)))
    assert found == [500] * 50


@case("a connection that pings is kept")
def _(stub, place):
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
    with Stub(place, options=options) as other:
        answers = other.call("unary_stream", "Hold", b"", ("mark", mark()), timeout=8)
        assert next(answers) == b"begun"
        # Of the client's own making, not of a connection that pings have ended.
        assert failed(lambda: answers).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert other.unary() == b"hello"


@case("without a token it is PERMISSION_DENIED")
def _(stub, place):
    with Stub(place, lines=[]) as other:
        assert failed(other.unary).code() == grpc.StatusCode.PERMISSION_DENIED


@case("where nothing listens it is UNAVAILABLE")
def _(stub, place):
    with Stub(place, lines=[("x-aws-proxy-auth", place.token), ("x-aws-proxy-port", "9")]) as other:
        error = failed(other.unary)
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
