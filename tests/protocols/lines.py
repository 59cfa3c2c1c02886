"""HTTP/1.1 by hand: what is sent is bytes, what comes is read strictly."""

import socket

from world import PATIENCE

#: How long a client waits for what should not come, in seconds.
SHORT = 1.0


class Closed(Exception):
    """The connection ended; `said` is what of an answer had come."""


class Answer:
    def __init__(self, status, headers, interim):
        self.status, self.headers, self.interim, self.body, self.trailers = status, headers, interim, b"", {}

    def __repr__(self):
        return f"<{self.status} {self.body[:80]!r}>"


class Client:
    """One connection."""

    def __init__(self, place, **more):
        self.place, self.socket = place, place.open(**more)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        self.socket.close()

    def abort(self):
        """Ends the connection with a reset, as a client that dies."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def head(self, method, path, *lines, port="web", version="HTTP/1.1", host=None):
        pairs = [("host", host or self.place.host), *self.place.lines(port)]
        own = [line if isinstance(line, bytes) else line.encode() for line in lines]
        first = f"{method} {path} {version}".encode("latin-1")
        return b"\r\n".join([first, *(f"{name}: {value}".encode() for name, value in pairs), *own, b"", b""])

    def send(self, *pieces):
        try:
            self.socket.sendall(b"".join(pieces))
        except OSError:
            pass

    def fill(self):
        try:
            piece = self.socket.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError:
            piece = b""
        if not piece:
            raise Closed(self.buffer[:200])
        self.buffer += piece

    def until(self, end):
        while end not in self.buffer:
            self.fill()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def exactly(self, size):
        pieces, left = [], size
        while left > len(self.buffer):
            pieces.append(self.buffer)
            left -= len(self.buffer)
            self.buffer = b""
            self.fill()
        pieces.append(self.buffer[:left])
        self.buffer = self.buffer[left:]
        return b"".join(pieces)

    def status(self):
        """An answer's head, after the interim ones; its body is still to come."""
        interim = []
        while True:
            first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            version, code = first.split(" ")[:2]
            assert version in ("HTTP/1.1", "HTTP/1.0"), first
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                name = name.lower()
                headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
            if not (code[0] == "1" and code != "101"):
                return Answer(int(code), headers, interim)
            interim.append(int(code))

    def read(self, method="GET"):
        """A whole answer."""
        answer = self.status()
        if method == "HEAD" or answer.status in (204, 304, 101):
            return answer
        if "transfer-encoding" in answer.headers:
            assert "content-length" not in answer.headers, "two framings in one answer"
            while size := int(self.until(b"\r\n").split(b";")[0], 16):
                answer.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            while line := self.until(b"\r\n").decode():
                name, _, value = line.partition(":")
                answer.trailers[name.lower()] = value.strip()
        elif "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))
        else:
            try:
                while True:
                    self.fill()
            except Closed:
                answer.body, self.buffer = self.buffer, b""
        return answer

    def ask(self, method, path, *lines, body=b"", **more):
        self.send(self.head(method, path, *lines, **more), body)
        return self.read(method)

    def ended(self, patience=PATIENCE):
        """Nothing more comes, and the connection ends."""
        self.socket.settimeout(patience)
        try:
            self.fill()
        except Closed:
            return True
        except TimeoutError:
            return False
        raise AssertionError(f"more came: {self.buffer[:200]!r}")
