"""Suspends and wakes microVMs at random while requests run, and holds the application to what it has answered.

    run.py IMAGE MICROVMS CYCLES SEED

Of each microVM one client asks all the time, one request after the other. A cycle is a suspend and a wake, of one of these
kinds: `calm`, where no request is begun until it sleeps, then woken by the API or by a request; and `storm`, where requests go
on and the next one wakes it. A request that is in flight when its microVM is frozen may be cut off, and only then.

Prints progress to standard error, and one JSON object in the end: figures, and what was not as it must be.
"""

import collections
import http.client
import json
import os
import random
import socket
import ssl
import sys
import threading
import time

import boto3

# *.localhost is this host (RFC 6761); few resolvers know.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: resolve(
    "127.0.0.1" if isinstance(host, str) and host.endswith(".localhost") else host, *rest, **more
)
mv = boto3.client("lambda-microvms")
TLS = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
POLICY = {"maxIdleDurationSeconds": 28800, "suspendedDurationSeconds": 28800, "autoResumeEnabled": True}
# Longest wait for anything; hearth's own bounds are shorter.
LIMIT = 180
# Cycles at a time: hosts are small, and emulation is slow.
AT_ONCE = 3
TOKEN_MINUTES = 60
# Of all clients together: less than what two emulating cores can do, so that latencies are not those of a queue.
REQUESTS_PER_SECOND = 30

lock = threading.Lock()
violations = []
times = collections.defaultdict(list)
counts = collections.Counter()


def violated(text):
    with lock:
        violations.append(text)
    print(f"VIOLATION {text}", file=sys.stderr, flush=True)


def timed(name, start):
    with lock:
        times[name].append((time.monotonic() - start) * 1000)


class Vm(threading.Thread):
    """A microVM and its client."""

    def __init__(self, image, seed, rate):
        super().__init__(daemon=True)
        self.random, self.rate = random.Random(seed), rate
        made = mv.run_microvm(imageIdentifier=image, idlePolicy=POLICY)
        self.id, self.host = made["microvmId"], made["endpoint"]
        self.token, self.token_until, self.connection = None, 0, None
        self.sent = self.answered = self.cut = self.cut_in = self.highest = self.cycles = self.cycles_begun = 0
        self.born = None
        # Between the call of a suspend and the first answer after it.
        self.freezing = self.wakes = False
        self.stop = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.idle = threading.Event()
        self.news = threading.Condition()
        self.resumes = 0

    def state(self):
        return mv.get_microvm(microvmIdentifier=self.id)["state"]

    def become(self, wanted):
        end = time.monotonic() + LIMIT
        while (found := self.state()) != wanted:
            if found == "TERMINATED" or time.monotonic() > end:
                raise RuntimeError(f"{self.id}: {mv.get_microvm(microvmIdentifier=self.id)} instead of {wanted}")
            time.sleep(0.005)

    def exchange(self, path):
        """Status and body of one request, on a connection that is kept."""
        if time.monotonic() > self.token_until:
            made = mv.create_microvm_auth_token(
                microvmIdentifier=self.id, expirationInMinutes=TOKEN_MINUTES, allowedPorts=[{"port": 8080}]
            )
            self.token = made["authToken"]["X-aws-proxy-auth"]
            self.token_until = time.monotonic() + TOKEN_MINUTES * 30
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.host, context=TLS, timeout=LIMIT)
        try:
            self.connection.request("GET", path, headers={"X-aws-proxy-auth": self.token})
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            return 0, repr(error).encode()

    def run(self):
        while not self.stop.is_set():
            if not self.open.is_set():
                self.idle.set()
                self.open.wait(0.2)
                continue
            self.idle.clear()
            self.ask()
            time.sleep(self.random.expovariate(self.rate))
        self.idle.set()

    def ask(self):
        hold = self.random.choice((0, 0, 0, 20, 100))
        before = self.freezing
        self.sent += 1
        start = time.monotonic()
        status, body = self.exchange(f"/?hold={hold}")
        if self.wakes:
            self.wakes = False
            timed("wake by a request", start)
        elif not before and not self.freezing and not hold:
            timed("request", start)
        if status != 200:
            # In flight when it was frozen; what came before or after has no excuse, and it is one request a cycle.
            if status == 502 and self.freezing and self.cut_in != self.cycles_begun:
                self.cut += 1
                self.cut_in = self.cycles_begun
            else:
                violated(f"{self.id}: {status} {body!r} to request {self.sent}, {self.cycles} cycles")
            return
        self.answered += 1
        self.judge(json.loads(body))

    def judge(self, found):
        count = found["count"]
        if count <= self.highest:
            violated(f"{self.id}: counts {count} after {self.highest} was answered")
        if found["kept"] != count:
            violated(f"{self.id}: its disk counts {found['kept']}, its memory {count}")
        if count > self.sent:
            violated(f"{self.id}: counts {count} of {self.sent} requests")
        self.born = self.born or found["born"]
        if (found["born"], found["pid"]) != (self.born, 1):
            violated(f"{self.id}: another process answers: {found}, born {self.born}")
        self.highest = max(self.highest, count)
        with self.news:
            self.resumes = found["resumes"]
            self.news.notify_all()

    def cycle(self, kind):
        """One suspend and one wake."""
        self.cycles_begun += 1
        self.freezing = True
        calm = kind != "storm"
        if calm:
            self.open.clear()
        start = time.monotonic()
        mv.suspend_microvm(microvmIdentifier=self.id)
        if calm:
            self.become("SUSPENDED")
            timed("suspend", start)
            self.idle.clear()
            if not self.idle.wait(LIMIT):
                raise RuntimeError(f"{self.id}: a request has no end")
        if kind == "calm, API":
            start = time.monotonic()
            mv.resume_microvm(microvmIdentifier=self.id)
            self.become("RUNNING")
            timed("wake by the API", start)
        self.wakes = kind == "calm, request"
        self.open.set()
        self.cycles += 1
        with self.news:
            if not self.news.wait_for(lambda: self.resumes >= self.cycles, LIMIT):
                raise RuntimeError(f"{self.id}: {self.resumes} resumes after {self.cycles} cycles")
        self.freezing = False

    def finish(self):
        """The application's last word."""
        self.stop.set()
        self.join(LIMIT)
        status, body = self.exchange("/audit")
        if status != 200:
            return violated(f"{self.id}: {status} {body!r} to the audit")
        found = json.loads(body)
        if not found["count"] == found["kept"] >= max(self.answered, self.highest):
            violated(f"{self.id}: {found} after {self.answered} answers up to {self.highest}")
        if not self.answered <= found["count"] <= self.answered + self.cut:
            violated(f"{self.id}: counts {found['count']}, {self.answered} answered and {self.cut} cut off")
        if not found["suspends"] == found["resumes"] == self.cycles:
            violated(f"{self.id}: {found} after {self.cycles} cycles")


class Cycles:
    """Hands out cycles: of one microVM one at a time, the number of them in all as asked."""

    def __init__(self, vms, wanted, seed):
        self.free, self.left, self.wanted, self.random = list(vms), wanted, wanted, random.Random(seed)
        self.start = time.monotonic()

    def work(self):
        while True:
            with lock:
                if self.left == 0 or violations and len(violations) > 20:
                    return
                self.left -= 1
                vm = self.free.pop(self.random.randrange(len(self.free)))
                kind = self.random.choice(("storm", "storm", "calm, API", "calm, request"))
                done = self.wanted - self.left
                counts[kind] += 1
            if done % 25 == 0:
                print(f"  cycle {done} of {self.wanted}, {time.monotonic() - self.start:.0f} s", file=sys.stderr, flush=True)
            try:
                vm.cycle(kind)
            except Exception as error:
                return violated(f"{kind}: {error}")
            with lock:
                self.free.append(vm)


def main():
    image, microvms, cycles, seed = sys.argv[1], *map(int, sys.argv[2:5])
    vms = [Vm(image, seed + at, REQUESTS_PER_SECOND / microvms) for at in range(microvms)]
    for vm in vms:
        vm.become("RUNNING")
        vm.start()
    print(f"  {microvms} microVMs run", file=sys.stderr, flush=True)
    work = Cycles(vms, cycles, seed)
    workers = [threading.Thread(target=work.work) for _ in range(min(AT_ONCE, microvms))]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - start
    for vm in vms:
        vm.finish()
    told = {
        "cycles": sum(vm.cycles for vm in vms),
        "kinds": counts,
        "requests": sum(vm.sent for vm in vms),
        "answered": sum(vm.answered for vm in vms),
        "cut": sum(vm.cut for vm in vms),
        "seconds": seconds,
        "times_ms": times,
        "violations": violations,
    }
    print(json.dumps(told))


main()
