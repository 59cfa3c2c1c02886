"""WebSockets by hand (RFC 6455): frames as bytes, right ones and wrong ones."""

import base64
import hashlib
import os

from lines import Client, Closed

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None):
    """`length`: how many bytes its length takes (1, 2, 8), else as few as are needed."""
    size = len(payload)
    width = length or (1 if size < 126 else 2 if size < 1 << 16 else 8)
    mark = {1: size, 2: 126, 8: 127}[width]
    head = bytes([fin << 7 | reserved << 4 | opcode, masked << 7 | mark]) + (size.to_bytes(width, "big") if width > 1 else b"")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class Socket:
    """A WebSocket at a place."""

    def __init__(self, place, *lines, path="/", protocols=(), token=True):
        self.client = Client(place)
        key = base64.b64encode(os.urandom(16))
        own = ["upgrade: websocket", "connection: Upgrade", "sec-websocket-version: 13", b"sec-websocket-key: " + key, *lines]
        if protocols:
            own.append("sec-websocket-protocol: " + ", ".join(protocols))
        if token:
            head = self.client.head("GET", path, *own, port="sockets")
        else:
            head = b"\r\n".join([f"GET {path} HTTP/1.1".encode(), f"host: {place.host}".encode(),
                                 *(line if isinstance(line, bytes) else line.encode() for line in own), b"", b""])
        self.client.send(head)
        self.answer = self.client.read()
        if self.answer.status == 101:
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            assert self.answer.headers["sec-websocket-accept"] == accept, self.answer.headers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.leave()

    def send(self, *pieces):
        self.client.send(*pieces)

    def frame(self):
        """Final, opcode, payload."""
        first, second = self.client.exactly(2)
        assert not second & 0x80, "a server masked"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self.client.exactly(2 if size == 126 else 8), "big")
        return bool(first & 0x80), first & 0x7F, self.client.exactly(size)

    def outcome(self, most=None):
        """What comes up to the end, or the first `most`: messages, pongs and the close code, long ones by size and digest."""
        found, parts, kind = [], [], None
        short = lambda data: data if len(data) < 200 else (len(data), hashlib.sha256(data).hexdigest())
        try:
            while most is None or len(found) < most:
                final, opcode, payload = self.frame()
                if opcode == CLOSE:
                    found.append(("close", int.from_bytes(payload[:2], "big") if payload else None))
                elif opcode in (PING, PONG):
                    found.append((opcode, payload))
                else:
                    kind = opcode or kind
                    parts.append(payload)
                    if final:
                        found.append((kind, short(b"".join(parts))))
                        parts = []
        except Closed:
            return [*found, *(["unfinished"] if parts else []), "end"]
        return found
