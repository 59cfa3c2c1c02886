"""The walkthrough's application: counts its requests and answers the platform's hooks.

    GET  /        {"requests_served": n, "uptime_seconds": s, "pid": 1}
    GET  /about   start time, hooks seen so far, id of this microVM
    PUT  /file    keeps the body on this microVM's own disk
    GET  /file    gives it back, 404 before the first PUT

Port 8080 serves the application, port 9000 the hooks: a token for the one opens not the other.
"""

import datetime
import json
import os
import pathlib
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import humanize

HOOKS = "/aws/lambda-microvms/runtime/v1/"
NOTE = pathlib.Path("/app/note")
MAX_BODY_BYTES = 1 << 20

started_at = time.time()
started = time.monotonic()
lock = threading.Lock()
requests_served = 0
microvm_id = None
hooks_seen = {}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # HTTPServer's own asks DNS for the name of this host, which nobody needs.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet

    def answer(self, status, body, content_type="application/json"):
        body = body if isinstance(body, bytes) else (json.dumps(body) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        """The request's body, or None when it is too long (the answer is given)."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self.answer(413, {"error": f"more than {MAX_BODY_BYTES} bytes"})
            return None
        return self.rfile.read(length)

    def log_message(self, *_):
        """Quiet: a line per request would be the largest part of the work."""


class Application(Handler):
    def do_GET(self):
        if self.path == "/":
            self.answer(200, count())
        elif self.path == "/about":
            self.answer(200, about())
        elif self.path == "/file" and NOTE.exists():
            self.answer(200, NOTE.read_bytes(), "application/octet-stream")
        else:
            self.answer(404, {"error": f"nothing at {self.path}"})

    def do_PUT(self):
        if self.path != "/file":
            self.answer(404, {"error": f"nothing at {self.path}"})
        elif (body := self.body()) is not None:
            NOTE.write_bytes(body)
            self.answer(200, {"bytes": len(body)})


class Hooks(Handler):
    def do_POST(self):
        body = self.body()
        if body is None:
            return
        name = self.path[len(HOOKS) :] if self.path.startswith(HOOKS) else None
        if name not in ("ready", "validate", "run", "suspend", "resume", "terminate"):
            self.answer(404, {"error": f"no hook at {self.path}"})
            return
        with lock:
            hooks_seen[name] = hooks_seen.get(name, 0) + 1
            if name == "run" and body:
                global microvm_id
                microvm_id = json.loads(body).get("microvmId")
        print(f"hook {name}: {requests_served} requests served so far", flush=True)
        self.answer(200, {})


def count():
    global requests_served
    with lock:
        requests_served += 1
        served = requests_served
    uptime = time.monotonic() - started
    return {"requests_served": served, "uptime_seconds": round(uptime, 3), "pid": os.getpid()}


def about():
    up = humanize.naturaldelta(datetime.timedelta(seconds=time.monotonic() - started))
    with lock:
        return {
            "started_at": started_at,
            "up": up,
            "microvm_id": microvm_id,
            "hooks": dict(hooks_seen),
            "python": sys.version.split()[0],
        }


def main():
    # Pid 1 ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    hooks = Server(("0.0.0.0", 9000), Hooks)
    threading.Thread(target=hooks.serve_forever, name="hooks", daemon=True).start()
    print("hello: serving on 8080, hooks on 9000", flush=True)
    Server(("0.0.0.0", 8080), Application).serve_forever()


if __name__ == "__main__":
    main()
