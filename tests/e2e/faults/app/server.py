"""An application that can be told to misbehave; standard library only, root with all capabilities.

Port 8080 serves, port 9000 answers the hooks: each with the next of its answers, of which the last one stays. An answer is
a status or `hang`. A payload {"run": [...], "terminate": [...]} sets them before `/run` is answered.

    GET /               {"count": n, "pid": 1, "born": random}: n grows by one with every request
    GET /hold/S         the same after S seconds
    GET /hook/NAME/A,B  the answers of a hook
    GET /dirty/MIB      so much memory that no other microVM has
    GET /fill/MIB       so much new data on the disk, flushed
    GET /exit/CODE      the main process ends
    GET /crash          the main process reads where it must not
    GET /panic          the kernel panics
    GET /starve         from now on nothing but a busy loop of the highest priority runs
"""

import ctypes
import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOOKS = "/aws/lambda-microvms/runtime/v1/"
born = os.urandom(8).hex()
answers = {}
lock = threading.Lock()
count = 0
kept = []


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # HTTPServer's own asks DNS for the name of this host.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
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
        if name == "run":
            answers.update(json.loads(json.loads(body).get("runHookPayload") or "{}"))
        with lock:
            left = answers.get(name, [200])
            answer = left.pop(0) if len(left) > 1 else left[0]
        print(f"hook {name}: {answer}", flush=True)
        if answer == "hang":
            threading.Event().wait()
        self.answer(answer, {})


class Application(Handler):
    def do_GET(self):
        global count
        verb, *words = self.path.strip("/").split("/")
        with lock:
            count += 1
            found = {"count": count, "pid": os.getpid(), "born": born}
        if verb == "hold":
            time.sleep(float(words[0]))
        elif verb == "hook":
            answers[words[0]] = [answer if answer == "hang" else int(answer) for answer in words[1].split(",")]
        elif verb == "dirty":
            kept.append(os.urandom(int(words[0]) << 20))
        elif verb == "fill":
            fill(int(words[0]))
        elif verb == "exit":
            os._exit(int(words[0]))
        elif verb == "crash":
            ctypes.string_at(0)
        elif verb == "panic":
            panic()
        self.answer(200, found)
        if verb == "starve":
            starve()


def fill(mib):
    with open("/filled", "ab") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def fresh_proc():
    """The container's own view of /proc may be masked; with all capabilities another one can be had."""
    os.makedirs("/fresh", exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"proc", b"/fresh", b"proc", 0, None) != 0 and not os.path.exists("/fresh/sys"):
        raise OSError(ctypes.get_errno(), "mount /proc anew")
    return "/fresh"


def panic():
    with open(f"{fresh_proc()}/sysrq-trigger", "w") as trigger:
        trigger.write("c")


def starve():
    with open(f"{fresh_proc()}/sys/kernel/sched_rt_runtime_us", "w") as limit:
        limit.write("-1")
    for _ in range(os.cpu_count()):
        if os.fork() == 0:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
            while True:
                pass


def main():
    hooks = Server(("0.0.0.0", 9000), Hooks)
    threading.Thread(target=hooks.serve_forever, daemon=True).start()
    Server(("0.0.0.0", 8080), Application).serve_forever()


if __name__ == "__main__":
    sys.exit(main())
