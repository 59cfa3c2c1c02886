"""Servers that are wrong on purpose, for the self-check: a case that finds nothing wrong with its one cannot fail."""

import socket
import threading

import frames
from world import Place

places = {}
lock = threading.Lock()


def place(kind, world):
    """One server for each kind, without TLS."""
    with lock:
        if kind not in places:
            listener = socket.create_server(("127.0.0.1", 0), backlog=256)
            control = ("127.0.0.1", world.host_ports["control"])
            places[kind] = Place(listener.getsockname(), None, "vm.test", control)
            threading.Thread(target=accept, args=(listener, KINDS[kind], world), daemon=True).start()
        return places[kind]


def accept(listener, serve, world):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=guarded, args=(serve, stream, world), daemon=True).start()


def guarded(serve, stream, world):
    with stream:
        try:
            serve(stream, world)
        except (OSError, EOFError):
            pass


def hangs_up(stream, world):
    """Reads a little and ends the connection, whatever it was."""
    stream.recv(1)


def yes(stream, world):
    """HTTP/2 that takes everything for good and answers everything with 200."""
    reader = stream.makefile("rb")
    reader.read(len(frames.PREFACE))
    stream.sendall(frames.settings())
    while True:
        kind, flags, number, payload = frames.read(reader)
        if kind == frames.PING and not flags & frames.ACK:
            stream.sendall(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            stream.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.HEADERS:
            stream.sendall(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, b"\x88"))


def pipe(stream, world):
    """A proxy that looks at nothing: every byte goes to the HTTP/1.1 server behind it, and back."""
    with socket.create_connection(("127.0.0.1", world.host_ports["web"])) as other:
        threading.Thread(target=copy, args=(other, stream), daemon=True).start()
        copy(stream, other)


def copy(source, sink):
    try:
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def teapot(stream, world):
    """HTTP/1.1 that answers everything with the same, and reads no body."""
    reader = stream.makefile("rb")
    while reader.readline().strip():
        pass
    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nteapot")


KINDS = {"hangs up": hangs_up, "yes": yes, "pipe": pipe, "teapot": teapot}
