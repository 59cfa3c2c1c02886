"""The application that Appendix B's lines look at from outside; standard library only.

Ports 8080 and 8081 serve the application, port 9000 the hooks. READY holds the statuses of the calls of /ready, the last
one for all that follow. A payload {"run": status} decides how /run is answered.

    GET /           {"port": n, "path": ..., "headers": [[name, value], ...]}
    GET /self       start, clocks, random numbers
    GET /begin      starts a child process that is always at work, writes a file, opens a loopback connection, and one that
                    leads out of the guest where it may give the loopback interface an address for it (CAP_NET_ADMIN)
    GET /survived   whether the four are still there
    GET /role       what the metadata service says
    GET /exit       the main process ends with code 7
    GET /stream     a line a second, for ever
    upgrade         WebSocket: answers {"port": n, "protocols": what it was offered}, then an echo
"""

import base64
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
HOOKS = "/aws/lambda-microvms/runtime/v1/"
NOTE = pathlib.Path("/app/note")
ready = [int(status) for status in os.environ.get("READY", "200").split(",")]
begun = {}
# Seeded before the snapshot, like the generator of most languages.
random.seed()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # HTTPServer's own asks DNS for the name of this host.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address = self.socket.getsockname()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Hooks(Handler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix(HOOKS)
        print(f"hook {name}", flush=True)
        status = 200
        if name == "ready":
            status = ready.pop(0) if len(ready) > 1 else ready[0]
        if name == "run" and body:
            status = json.loads(json.loads(body).get("runHookPayload") or "{}").get("run", 200)
        self.answer(status, {})


class Application(Handler):
    def do_GET(self):
        if "websocket" in self.headers.get("Upgrade", "").lower():
            return self.websocket()
        page = {"/self": myself, "/begin": begin, "/survived": survived, "/role": role}.get(self.path)
        if page:
            self.answer(200, page())
        elif self.path == "/stream":
            self.stream()
        else:
            self.answer(200, {"port": self.server.server_port, "path": self.path, "headers": self.headers.items()})
            if self.path == "/exit":
                os.kill(os.getpid(), signal.SIGTERM)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            line = f"{time.time():.3f}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
            time.sleep(1)

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        offered = self.headers.get("Sec-WebSocket-Protocol")
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        if offered:
            self.send_header("Sec-WebSocket-Protocol", offered.split(",")[0].strip())
        self.end_headers()
        text = json.dumps({"port": self.server.server_port, "protocols": offered}).encode()
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.wfile.flush()
        self.rfile.read(1)  # until the client goes
        self.close_connection = True


def myself():
    return {
        "started": started,
        "wall": time.time(),
        "monotonic": time.monotonic(),
        "random": random.getrandbits(64),
        "urandom": os.urandom(8).hex(),
    }


def leads_out():
    """A connection from one address to another that is not loopback's, though nothing of it leaves the guest."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, address in ((SIOCSIFADDR, "10.9.9.9"), (SIOCSIFNETMASK, "255.255.255.0")):
            ifreq = struct.pack("16sH2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(address))
            try:
                fcntl.ioctl(any_socket, request, ifreq)
            except PermissionError:
                return None
    listener = socket.create_server(("10.9.9.10", 0))
    near = socket.create_connection(listener.getsockname(), source_address=("10.9.9.9", 0))
    return near, listener.accept()[0]


def begin():
    child = subprocess.Popen(["sh", "-c", "while sleep 0.2; do date > /app/busy; done"])
    NOTE.write_text("kept")
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    begun.update(child=child, near=near, far=far, out=leads_out())
    return {"child": child.pid}


def is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def survived():
    begun["near"].sendall(b"ping")
    begun["far"].settimeout(5)
    return {
        "process": begun["child"].poll() is None,
        "file": NOTE.read_text() == "kept",
        "loopback": begun["far"].recv(4) == b"ping",
        "outbound": begun["out"] and is_open(begun["out"][0]),
    }


def role():
    """The role's name as the metadata service lists it, or why there is none."""
    connection = http.client.HTTPConnection("169.254.169.254", timeout=5)
    try:
        connection.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        token = connection.getresponse().read().decode()
        path = "/latest/meta-data/iam/security-credentials/"
        connection.request("GET", path, headers={"X-aws-ec2-metadata-token": token})
        answer = connection.getresponse()
        return {"status": answer.status, "text": answer.read().decode()}
    except OSError as error:
        return {"unreachable": str(error)}


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    for port, handler in ((9000, Hooks), (8081, Application)):
        server = Server(("0.0.0.0", port), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Server(("0.0.0.0", 8080), Application).serve_forever()


started = time.time()
if __name__ == "__main__":
    sys.exit(main())
