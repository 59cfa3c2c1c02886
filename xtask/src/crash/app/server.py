"""What the fake engine's guests do, for real: counts its requests, and answers hooks as HEARTH_FAKE_<HOOK>_STATUS says."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOOKS = "/aws/lambda-microvms/runtime/v1/"
calls = {}
served = 0


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        global served
        served += 1
        self.answer(200, {"requests_served": served, "pid": os.getpid()})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hook = self.path.removeprefix(HOOKS)
        call = calls[hook] = calls.get(hook, 0) + 1
        statuses = os.environ.get(f"HEARTH_FAKE_{hook.upper()}_STATUS", "200").split(",")
        self.answer(int(statuses[min(call, len(statuses)) - 1]), {})


ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
