"""A WebSocket client of a microVM's endpoint, with nothing but the standard library; and hearth's own command line."""

import base64
import json
import os
import socket
import ssl
import struct
import subprocess

HEARTH = os.environ["HEARTH_BIN"]
#: Kinds of messages (docs/guide/shell.md).
DATA, END, RESIZE, SIGNAL, STDOUT, STDERR, TAKEN, EXITED, FAILED = 0, 1, 2, 3, 16, 17, 18, 19, 20
TEXT, BINARY, CLOSE = 1, 2, 8


def hearth(*arguments, input=b"", check=True, timeout=120):
    """Runs hearth; HEARTH_DATA_DIR names the server."""
    done = subprocess.run([HEARTH, *arguments], input=input, capture_output=True, timeout=timeout)
    assert not check or done.returncode == 0, f"hearth {arguments}: {done.returncode} {done.stderr[-500:]!r}"
    return done


class Refused(Exception):
    """The upgrade was answered with something else: status, headers, body."""


class Session:
    """One WebSocket, by subprotocols or by header."""

    def __init__(self, vm, token=None, path="/shell", protocols=None, header=None):
        if protocols is None and header is None:
            protocols = ["lambda-microvms", f"lambda-microvms.authentication.{token}"]
        name, _, port = vm["endpoint"].partition(":")
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        raw = socket.create_connection(("127.0.0.1", int(port or 443)), timeout=60)
        self.socket = context.wrap_socket(raw, server_hostname=name)
        self.file = self.socket.makefile("rb")
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {vm['endpoint']}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        lines += [f"Sec-WebSocket-Protocol: {', '.join(protocols)}"] if protocols else []
        lines += [f"X-aws-proxy-auth: {header}"] if header else []
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        if status != 101:
            body = self.file.read(int(self.headers.get("content-length", 0))).decode()
            self.leave()
            raise Refused(status, self.headers, body)

    def send(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            length = bytes([0x80 | 127]) + struct.pack(">Q", size)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def type(self, text):
        self.send(BINARY, text.encode())

    def resize(self, cols, rows):
        self.send(TEXT, json.dumps({"type": "resize", "cols": cols, "rows": rows}).encode())

    def message(self):
        """Opcode and payload of the next message that is no ping."""
        while True:
            first, second = self.file.read(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
            payload = self.file.read(size)
            assert first & 0x80 and not second & 0x80, "ours are whole and not masked"
            if first & 0xF not in (9, 10):
                return first & 0xF, payload

    def until(self, wanted):
        """What is shown up to that text."""
        shown = b""
        while wanted.encode() not in shown:
            opcode, payload = self.message()
            assert opcode == BINARY, (opcode, payload, shown)
            shown += payload
        return shown.decode(errors="replace")

    def closed(self):
        """Code and reason of the close frame; what came before is passed over."""
        while True:
            opcode, payload = self.message()
            if opcode == CLOSE:
                self.leave()
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def leave(self):
        self.file.close()
        self.socket.close()
