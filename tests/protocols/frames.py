"""HTTP/2 by hand: frames as bytes, right ones and wrong ones, and a client that waits for what becomes of them."""

import os
import struct

import hpack

from world import mark

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, WINDOW, MAX_FRAME, MAX_LIST, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8
WHOLE = END_HEADERS | END_STREAM


def frame(kind, flags, stream, payload=b"", length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def read(file):
    """Kind, flags, stream, payload."""
    head = file.read(9)
    if len(head) < 9:
        raise EOFError
    payload = file.read(int.from_bytes(head[:3], "big"))
    return head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, payload


class Over(Exception):
    """The connection ended; `code` is that of its GOAWAY, if there was one."""

    def __init__(self, code):
        super().__init__(f"the connection ended with {code}")
        self.code = code


class Client:
    """A connection whose frames the case makes. Streams 1, 3, 5, ... are its own to number."""

    def __init__(self, place, preface=PREFACE + settings()):
        self.place, self.socket = place, place.open("h2")
        self.file = self.socket.makefile("rb")
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.goaway, self.resets, self.answers, self.bodies, self.ended = None, {}, {}, {}, set()
        self.settings, self.acked, self.others, self.trailers = {}, 0, [], {}
        if preface:
            self.send(preface)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, *pieces):
        """What cannot be sent any more is told by what is read."""
        try:
            self.socket.sendall(b"".join(pieces))
        except OSError:
            pass

    # What to send.

    def lines(self, method="GET", path="/record", port="web", mark_=None):
        return [
            (":method", method), (":scheme", "https"), (":authority", self.place.host),
            (":path", f"{path}{'&' if '?' in path else '?'}mark={mark_ or mark()}"), *self.place.lines(port),
        ]

    def block(self, lines=None, **more):
        """A header block. Names and values go out as they are."""
        return self.encoder.encode(self.lines(**more) if lines is None else lines, huffman=False)

    def headers(self, stream, flags=WHOLE, lines=None, **more):
        return frame(HEADERS, flags, stream, self.block(lines, **more))

    def opened(self, stream, path="/record"):
        """A request whose body is still to come."""
        return self.headers(stream, END_HEADERS, method="POST", path=path)

    def data(self, stream, payload=b"x", flags=0):
        return frame(DATA, flags, stream, payload)

    # What comes.

    def step(self):
        """Reads one frame and keeps what it says."""
        try:
            kind, flags, stream, payload = read(self.file)
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Over(self.goaway) from None
        if kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            pairs = [struct.unpack(">HI", payload[at:at + 6]) for at in range(0, len(payload), 6)]
            self.settings.update(pairs)
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == SETTINGS:
            self.acked += 1
        elif kind == HEADERS:
            assert flags & END_HEADERS and not flags & PADDED, "a header block that we do not read"
            lines = self.decoder.decode(payload[5:] if flags & PRIORITIZED else payload)
            (self.trailers if stream in self.answers else self.answers)[stream] = dict(lines)
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(stream)
        return kind, flags, stream, payload

    def until(self, ready):
        """Reads until there is what is looked for."""
        while not ready():
            self.step()

    def probe(self):
        """A ping and its answer: what was sent before has been read."""
        payload = os.urandom(8)
        self.send(frame(PING, 0, 0, payload))
        while self.step() != (PING, ACK, 0, payload):
            pass

    def answer(self, stream):
        """Status of a stream's whole answer."""
        self.until(lambda: stream in self.ended or stream in self.resets)
        assert stream not in self.resets, f"stream {stream} was reset with {self.resets[stream]}"
        return int(self.answers[stream][":status"])

    def ask(self, stream, **more):
        self.send(self.headers(stream, **more))
        return self.answer(stream)

    # What must come.

    def expect_fine(self, stream=None):
        """That stream's answer is 200, if one is named, and the connection takes another request."""
        if stream is not None:
            status = self.answer(stream)
            assert status == 200, f"status {status}"
        self.probe()
        assert self.goaway is None, f"GOAWAY {self.goaway}"

    def expect_goaway(self, *codes):
        """The connection ends. As in h2spec, another error code than the RFC's is told and lets the case pass."""
        try:
            self.probe()
            # Whoever goes on is told so by one more round: a GOAWAY may follow the answer to a ping.
            self.probe()
        except Over:
            pass
        else:
            assert self.goaway is not None, f"it was taken; resets {self.resets}, answers {self.answers}"
        return self.odd(self.goaway, codes)

    def odd(self, code, codes):
        """What is odd about an error code."""
        assert code != NO_ERROR, "it ended without an error"
        return "" if code in (None, *codes) else f"error code {code}, the RFC says {codes[0]}"

    def expect_reset(self, stream, *codes, answer=False):
        """The stream ends with one of these codes; ending the connection so is allowed as well (RFC 9113 section 5.4).
        `answer`: a 400 or 431 of the proxy before that is, too (section 8.1.1)."""
        self.socket.settimeout(5)
        refused = lambda: answer and self.answers.get(stream, {}).get(":status") in ("400", "431")
        try:
            self.until(lambda: stream in self.resets or self.goaway is not None or refused() or stream in self.ended)
        except Over:
            pass
        except TimeoutError:
            raise AssertionError(f"nothing became of stream {stream}") from None
        if refused() or (stream not in self.resets and self.goaway is None and stream not in self.answers):
            return ""
        assert stream in self.resets or self.goaway is not None, f"it was answered: {self.answers.get(stream)}"
        return self.odd(self.resets.get(stream, self.goaway), codes)
