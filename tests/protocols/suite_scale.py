"""Many at once: idle connections, streams that stand open, over many microVMs; and memory that does not grow by requests."""

import asyncio
import os
import resource
import ssl
import time

import hpack

import frames
from world import Case, mark

CASES = []
IDLE = 10_000
STREAMS = 1_000
MICROVMS = 50
REQUESTS = 20_000
AT_ONCE = 64
#: Connections begun together, and those given back where the server has a bound below what is wanted.
BATCH, ROOM = 250, 1500
#: Of the server for one idle connection: TLS's own buffers, hyper's, a task. In bytes.
PER_IDLE = 64 << 10
#: What the server may keep after that many more requests, in bytes; allocators round.
KEPT = 24 << 20


async def connect(place, tls):
    return await asyncio.open_connection(*place.address, ssl=tls, server_hostname=place.host.partition(":")[0], limit=4096)


def head(place, path):
    lines = "".join(f"{name}: {value}\r\n" for name, value in place.lines())
    return f"GET {path}{'&' if '?' in path else '?'}mark={mark()} HTTP/1.1\r\nhost: {place.host}\r\n{lines}\r\n".encode()


async def ask(stream, place, path="/ok"):
    """One request and its whole answer on a kept connection."""
    reader, writer = stream
    writer.write(head(place, path))
    found = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert b" 200 " in found[:20], found
    assert await reader.readexactly(4) == b"fine"


class Idle(asyncio.Protocol):
    """An HTTP/2 connection with one request at a time, answered pings, and nothing else."""

    def __init__(self, place):
        self.place, self.buffer, self.stream, self.encoder = place, b"", -1, hpack.Encoder()
        self.waiting, self.lost = None, False

    def connection_made(self, transport):
        self.transport = transport
        transport.write(frames.PREFACE + frames.settings())

    def connection_lost(self, _):
        self.lost = True
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("the connection ended"))

    def data_received(self, data):
        self.buffer += data
        while len(self.buffer) >= 9 and len(self.buffer) >= (size := 9 + int.from_bytes(self.buffer[:3], "big")):
            kind, flags, payload, self.buffer = self.buffer[3], self.buffer[4], self.buffer[9:size], self.buffer[size:]
            if kind in (frames.SETTINGS, frames.PING) and not flags & frames.ACK:
                self.transport.write(frames.frame(kind, frames.ACK, 0, payload if kind == frames.PING else b""))
            elif kind in (frames.RST_STREAM, frames.GOAWAY):
                self.connection_lost(None)
            elif kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM and not self.waiting.done():
                self.waiting.set_result(payload)

    async def ask(self):
        self.stream += 2
        self.waiting = asyncio.get_running_loop().create_future()
        lines = [(":method", "GET"), (":scheme", "https"), (":authority", self.place.host), (":path", "/ok"), *self.place.lines()]
        self.transport.write(frames.frame(frames.HEADERS, frames.WHOLE, self.stream, self.encoder.encode(lines, huffman=False)))
        assert await asyncio.wait_for(self.waiting, 60) == b"fine"


async def idlers(wanted, places, tls, memory):
    """That many idle connections, each with one request behind it, or as many as the server takes less some room; what the
    server held with all of them, for each; and its bound, if it was met."""
    before = memory()
    loop, found = asyncio.get_running_loop(), []

    async def one(n):
        place = places[n % len(places)]
        making = loop.create_connection(lambda: Idle(place), *place.address, ssl=tls, server_hostname=place.host.partition(":")[0])
        _, idle = await asyncio.wait_for(making, 15)
        await idle.ask()
        return idle

    while len(found) < wanted:
        outcomes = await asyncio.gather(*(one(n) for n in range(min(BATCH, wanted - len(found)))), return_exceptions=True)
        found += [each for each in outcomes if isinstance(each, Idle)]
        failed = [each for each in outcomes if not isinstance(each, Idle)]
        if failed:
            assert all(isinstance(each, TimeoutError) for each in failed), failed[0]
            share = (memory() - before) / len(found)
            for each in found[-ROOM:]:
                each.transport.abort()
            return found[:-ROOM], share, f"the listener takes no more than {len(found)} connections; "
    return found, (memory() - before) / len(found), ""


async def many(count, at_once, make):
    gate = asyncio.Semaphore(at_once)

    async def one(n):
        async with gate:
            return await make(n)

    return await asyncio.gather(*(one(n) for n in range(count)))


def room(wanted):
    """File descriptors for that many connections; how many are possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, hard - 500)


async def load(places, tls, requests):
    """Requests over some kept connections; seconds."""
    start = time.monotonic()

    async def one(n):
        place = places[n % len(places)]
        stream = await connect(place, tls)
        for _ in range(requests // AT_ONCE):
            await ask(stream, place)
        stream[1].transport.abort()

    await many(AT_ONCE, AT_ONCE, one)
    return time.monotonic() - start


async def scale(world, place):
    tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    tls.set_alpn_protocols(["http/1.1"])
    wanted, streams = room(IDLE), STREAMS
    if world.engine == "fake":
        made = await asyncio.gather(*(asyncio.to_thread(world.run) for _ in range(MICROVMS)))
        places = [world.place(vm) for vm in made]
    else:
        made, places, wanted, streams = [], [place], 500, 100
    told = []
    await load(places, tls, 1000)
    h2 = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    h2.set_alpn_protocols(["h2"])
    start = time.monotonic()
    idle, each, bound = await idlers(wanted, places, h2, world.memory)
    with_idle = world.memory()
    told.append(f"{bound}{len(idle)} idle connections in {time.monotonic() - start:.0f} s, {each / 1024:.1f} KiB each")
    assert each < PER_IDLE, told

    async def streamer(n):
        at = places[n % len(places)]
        reader, writer = await connect(at, tls)
        writer.write(head(at, "/drip"))
        await asyncio.wait_for(reader.readuntil(b"first\r\n"), 60)
        return reader, writer

    streaming = await many(streams, AT_ONCE, streamer)
    with_all = world.memory()
    told.append(f"{streams} open streams, {(with_all - with_idle) / streams / 1024:.1f} KiB each")
    await load(places, tls, 2000)
    first = world.memory()
    seconds = await load(places, tls, REQUESTS)
    kept = world.memory() - first
    told.append(f"{REQUESTS} requests meanwhile, {REQUESTS / seconds:.0f}/s, {kept / REQUESTS:.0f} bytes kept of each")
    assert kept < KEPT, told
    for reader, writer in streaming:
        assert not reader.at_eof(), "a stream was cut off"
    # Those that were idle all the time are still good.
    assert not [each for each in idle if each.lost], "idle connections were cut off"
    await many(200, AT_ONCE, lambda n: idle[n * (len(idle) // 200)].ask())
    for each in idle:
        each.transport.abort()
    for reader, writer in streaming:
        writer.transport.abort()
    for vm in made:
        await asyncio.to_thread(world.mv.terminate_microvm, microvmIdentifier=vm["microvmId"])
    return "; ".join(told)


CASES.append(Case("scale", "ten thousand idle connections and a thousand streams", lambda world, place: asyncio.run(scale(world, place)), alone=True))
