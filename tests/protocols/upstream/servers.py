"""What stands behind the endpoint: `servers.py HTTP CONTROL SOCKETS RPC`, a port of 127.0.0.1 each.

The same servers run in a guest and on the host: the clients' cases are run straight against the latter too.
"""

import asyncio
import http
import sys

import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed

import http1
import rpc

#: The longest message of a WebSocket, in bytes.
MESSAGE = 20 << 20
PROTOCOLS = ["chat", "superchat"]


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass  # how it ended is the client's affair


def choose(connection, offered):
    return next((name for name in offered if name in PROTOCOLS), None)


def about(connection, request):
    """What the application sees of a handshake, for who asks for just that."""
    if request.path.startswith("/about"):
        lines = [f"{name.lower()}: {value}" for name, value in request.headers.raw_items()]
        return connection.respond(http.HTTPStatus.OK, "\n".join(lines))
    return None


async def main():
    web, control, sockets, calls = map(int, sys.argv[1:5])
    host = "127.0.0.1"
    await asyncio.start_server(http1.serve, host, web, limit=http1.PIECE, backlog=4096)
    await asyncio.start_server(http1.control, host, control)
    serving = await websockets.asyncio.server.serve(
        echo, host, sockets, max_size=MESSAGE, ping_interval=None, subprotocols=PROTOCOLS, select_subprotocol=choose,
        process_request=about, backlog=1024, close_timeout=5)
    rpc.serve(host, calls)
    print("ready", flush=True)
    await serving.wait_closed()


asyncio.run(main())
