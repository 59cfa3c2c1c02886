"""An HTTP/1.1 server that does as the path says and remembers what arrived, byte by byte; and a second port to ask it.

It parses as little as it can: what it makes of ambiguous bytes must not hide them. A request names itself by `mark=NAME` in
its path; the second port tells what came on all connections whose bytes hold that mark, and lets waiting answers go on.
"""

import asyncio
import base64
import hashlib
import json
import urllib.parse

#: Bytes kept of one connection; all are counted.
KEEP = 1 << 18
PIECE = 1 << 16
#: Longest wait of whoever asks the second port, in seconds.
PATIENCE = 30
#: Each connection serves one request: what else comes on it must not be there.
CLOSE = "connection: close"

#: `browser-page` is the mark of all it does.
PAGE = """<!doctype html><title>page</title><script>
const report = text => fetch("/report?mark=browser-page&" + text + "&");
const events = new EventSource("/events?mark=browser-page&n=5");
events.onmessage = event => { report("event=" + event.data.split(" ")[1]); if (event.lastEventId == "4") events.close(); };
const [port, ...token] = location.hash.slice(1).split(".");
const socket = new WebSocket("wss://" + location.host + "/",
  ["lambda-microvms", "lambda-microvms.authentication." + token.join("."), "lambda-microvms.port." + port]);
socket.onopen = () => socket.send("from a page");
socket.onmessage = message => {
  report("protocol=" + socket.protocol + "&echo=" + encodeURIComponent(message.data));
  socket.close(1000);
};
socket.onclose = event => report("closed=" + event.code);
</script>"""

connections = []
#: What was said to waiting answers: (mark, word).
said = set()
changed = asyncio.Condition()


async def tell():
    async with changed:
        changed.notify_all()


class Connection:
    """One connection, and what came on it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.raw, self.count, self.written, self.ended, self.buffer = bytearray(), 0, 0, "", bytearray()

    async def fill(self):
        """More bytes; false at the end."""
        try:
            piece = await self.reader.read(PIECE)
        except ConnectionError as error:
            piece, self.ended = b"", type(error).__name__
        self.raw += piece[: max(0, KEEP - len(self.raw))]
        self.count += len(piece)
        self.buffer += piece
        if not piece:
            self.ended = self.ended or "eof"
        await tell()
        return bool(piece)

    async def until(self, end):
        while end not in self.buffer:
            if not await self.fill():
                raise EOFError
        found, _, rest = bytes(self.buffer).partition(end)
        self.buffer = bytearray(rest)
        return found

    async def exactly(self, size):
        while len(self.buffer) < size:
            if not await self.fill():
                raise EOFError
        found, self.buffer = bytes(self.buffer[:size]), self.buffer[size:]
        return found

    async def to_the_end(self):
        while await self.fill():
            self.buffer.clear()

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()
        self.written += len(data)
        await tell()

    async def answer(self, body, status="200 OK", *lines):
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", CLOSE, *lines, "", ""]
        await self.write("\r\n".join(head).encode() + (b"" if self.method == "HEAD" else body))

    async def serve(self):
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        self.method, self.path = first.split(" ")[:2]
        self.lines = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        verb = url.path.strip("/").split("/")[0].replace("-", "_")
        await globals().get(f"do_{verb}", do_record)(self)
        # What comes after a request's own bytes is what a smuggled request would be.
        await self.to_the_end()

    def header(self, name):
        return [value for each, value in self.lines if each == name]

    async def body(self):
        """Size, digest and trailers, by whichever framing is said last."""
        digest, size, trailers = hashlib.sha256(), 0, []
        if any("chunked" in value.lower() for value in self.header("transfer-encoding")):
            while length := int((await self.until(b"\r\n")).split(b";")[0], 16):
                digest.update(await self.exactly(length))
                size += length
                await self.exactly(2)
            while line := await self.until(b"\r\n"):
                trailers.append(line.decode("latin-1"))
        else:
            left = int((self.header("content-length") or ["0"])[-1])
            while left > 0:
                if not self.buffer and not await self.fill():
                    raise EOFError
                piece, self.buffer = self.buffer[:left], self.buffer[left:]
                digest.update(piece)
                size += len(piece)
                left -= len(piece)
        return {"size": size, "sha256": digest.hexdigest(), "trailers": trailers}

    async def heard(self, word):
        async with changed:
            await changed.wait_for(lambda: (self.query.get("mark"), word) in said or self.ended)


async def do_record(c):
    """The request as it came, told in the answer."""
    told = {"method": c.method, "path": c.path, "headers": c.lines, **await c.body()}
    await c.answer(json.dumps(told).encode(), "200 OK", "content-type: application/json")


async def do_ok(c):
    await c.answer(b"fine")


async def do_early(c):
    """Answers and does not look at the body for a while."""
    await c.answer(b"early")
    await asyncio.sleep(PATIENCE)


async def do_early_close(c):
    await c.answer(b"early", "413 Payload Too Large")
    c.writer.close()


async def do_(c):
    """A page that opens an EventSource and a WebSocket, and reports. Port and token of the WebSocket are in its fragment."""
    await c.answer(PAGE.encode(), "200 OK", "content-type: text/html")


async def do_deny(c):
    await c.answer(b"no", "417 Expectation Failed")


async def do_continue(c):
    await c.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await do_record(c)


async def do_hints(c):
    await c.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
    await c.answer(b"hinted")


async def do_bytes(c):
    """`n` bytes, as fast as they are taken."""
    left = int(c.query["n"])
    await c.write(f"HTTP/1.1 200 OK\r\n{CLOSE}\r\ncontent-length: {left}\r\n\r\n".encode())
    while left > 0 and not c.ended:
        size = min(left, PIECE)
        await c.write(b"x" * size)
        left -= size


async def do_chunks(c):
    """`n` chunks and a trailer."""
    await c.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
    for n in range(int(c.query["n"])):
        await c.write(b"6\r\n%06d\r\n" % n)
    await c.write(b"0\r\nx-sum: 42\r\n\r\n")


async def do_sink(c):
    """Reads nothing of the body before it hears `read`."""
    await c.heard("read")
    await do_record(c)


async def do_hang(c):
    """Never answers."""
    await c.to_the_end()


async def do_drip(c):
    """The beginning of an answer, and no end."""
    await c.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await c.to_the_end()


async def do_cut(c):
    await c.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
    c.writer.close()


async def do_cut_chunked(c):
    await c.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    c.writer.close()


async def do_until_close(c):
    """A body whose end is the connection's (HTTP/1.0)."""
    await c.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    c.writer.close()


async def do_say(c):
    """The bytes of the query, whatever they are."""
    await c.write(base64.urlsafe_b64decode(c.query.get("raw", "")))
    if "close" in c.query:
        c.writer.close()


async def do_events(c):
    """Server-sent events: the next one only once somebody says that the one before arrived."""
    await c.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
    for n in range(int(c.query["n"])):
        event = f"id: {n}\ndata: event {n}\n\n".encode()
        await c.write(b"%x\r\n%s\r\n" % (len(event), event))
        await c.heard(f"got {n}")
    await c.write(b"0\r\n\r\n")


async def serve(reader, writer):
    connection = Connection(reader, writer)
    connections.append(connection)
    del connections[:-400]
    try:
        await connection.serve()
    except (EOFError, ConnectionError, ValueError, IndexError) as error:
        connection.ended = connection.ended or repr(error)
    finally:
        connection.ended = connection.ended or "closed"
        writer.close()
        await tell()


def seen(mark):
    return [
        {"raw": base64.b64encode(c.raw).decode(), "count": c.count, "written": c.written, "ended": c.ended}
        for c in connections
        if mark.encode() in c.raw
    ]


def until(mark, what):
    found = seen(mark)
    return bool(found) and (what == "came" or all(each["ended"] for each in found))


async def control(reader, writer):
    """`/seen?mark=`, `/wait?mark=&for=came|ended`, `/say?mark=&word=`: all answer with what was seen."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        url = urllib.parse.urlsplit(head.split(" ")[1])
        query = dict(urllib.parse.parse_qsl(url.query))
        mark = query.get("mark", "?")
        if url.path == "/say":
            said.add((mark, query["word"]))
            await tell()
        if url.path == "/wait":
            async with changed:
                wait = changed.wait_for(lambda: until(mark, query["for"]))
                try:
                    await asyncio.wait_for(wait, PATIENCE)
                except asyncio.TimeoutError:
                    pass
        body = json.dumps(seen(mark)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
