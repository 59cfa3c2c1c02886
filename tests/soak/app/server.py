"""An application that counts, in memory and on its disk; standard library only.

    GET /?hold=MS   counts, and answers after MS milliseconds: {"count", "kept", "born", "pid", "suspends", "resumes"}
    GET /audit      the same without counting, "kept" read again from the disk: are its lines 1, 2, 3, ... to the last?

`count` is memory's, `kept` the disk's: a line of a file for each request. Port 9000 answers the hooks and counts them.
"""

import json
import os
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOOKS = "/aws/lambda-microvms/runtime/v1/"
KEPT = "/app/kept"
lock = threading.Lock()
born = None
count = 0
hooks = {"suspend": 0, "resume": 0}
kept = os.open(KEPT, os.O_RDWR | os.O_CREAT | os.O_APPEND)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # HTTPServer's own asks DNS for the name of this host.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Hooks(Handler):
    def do_POST(self):
        global born
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix(HOOKS)
        with lock:
            if name == "run":
                born = os.urandom(8).hex()
            if name in hooks:
                hooks[name] += 1
        self.answer({})


class Application(Handler):
    def do_GET(self):
        global count
        if self.path == "/audit":
            with lock:
                return self.answer(state(audit()))
        with lock:
            count += 1
            os.write(kept, b"%d\n" % count)
            found = state(lines())
        time.sleep(int(self.path.partition("hold=")[2] or 0) / 1000)
        self.answer(found)


def state(on_disk):
    return {"count": count, "kept": on_disk, "born": born, "pid": os.getpid(), **{f"{n}s": hooks[n] for n in hooks}}


def lines():
    """How many lines the file has, by the number in the last one."""
    size = os.fstat(kept).st_size
    return int(os.pread(kept, 32, max(0, size - 32)).split(b"\n")[-2])


def audit():
    """How many lines there are; -1 when they are not 1, 2, 3, ..."""
    os.fsync(kept)
    os.posix_fadvise(kept, 0, 0, os.POSIX_FADV_DONTNEED)
    with open(KEPT, "rb") as file:
        found = [int(line) for line in file]
    return len(found) if found == list(range(1, len(found) + 1)) else -1


def main():
    server = Server(("0.0.0.0", 9000), Hooks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server(("0.0.0.0", 8080), Application).serve_forever()


if __name__ == "__main__":
    main()
