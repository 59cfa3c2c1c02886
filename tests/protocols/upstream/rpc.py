"""A gRPC server of bytes: what it gets, it gives back, in all four forms."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "hearth.test.Echo"
#: What became of calls, by their mark.
ends = {}
ended = threading.Condition()


def note(mark, text):
    with ended:
        ends[mark] = text
        ended.notify_all()


def mark_of(context):
    return dict(context.invocation_metadata()).get("mark", "")


def unary(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("initial", "yes"), ("seen", ",".join(sorted(sent)))))
    context.set_trailing_metadata((("trailing", "yes"), ("blob-bin", b"\0\1\xff")))
    if "status" in sent:
        context.set_details(sent["details"])
        context.set_code(getattr(grpc.StatusCode, sent["status"]))
        return b""
    if "compress" in sent:
        context.set_compression(grpc.Compression.Gzip)
    return request


def many_in(requests, context):
    sizes = [len(each) for each in requests]
    return b"%d %d" % (len(sizes), sum(sizes))


def many_out(request, context):
    count, size = map(int, request.split())
    for n in range(count):
        yield b"%d:" % n + b"y" * size


def both(requests, context):
    for each in requests:
        if each == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "told to")
        yield each


def hold(request, context):
    """Waits until the call is over, and notes how."""
    mark, over = mark_of(context), threading.Event()
    context.add_callback(over.set)
    yield b"begun"
    over.wait(60)
    note(mark, "cancelled" if not context.is_active() else "active")


def end_of(request, context):
    """Waits for how another call ended."""
    with ended:
        ended.wait_for(lambda: request.decode() in ends, 30)
        return ends.get(request.decode(), "unknown").encode()


def slow(request, context):
    time.sleep(float(request))
    return b"done"


def serve(host, port):
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ManyIn": grpc.stream_unary_rpc_method_handler(many_in),
        "ManyOut": grpc.unary_stream_rpc_method_handler(many_out),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Hold": grpc.unary_stream_rpc_method_handler(hold),
        "EndOf": grpc.unary_unary_rpc_method_handler(end_of),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    }
    options = [
        ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.http2.max_ping_strikes", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"{host}:{port}")
    server.start()
    globals()["running"] = server  # it stops when nobody holds it
