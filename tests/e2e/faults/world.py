"""What all faults share; prelude.py goes before it. The server's data directory is the first argument."""

import pathlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

DATA = pathlib.Path(sys.argv[1])
LOG = pathlib.Path(sys.argv[2])
# Of the application's hooks; long enough for a loaded machine, short enough to wait for.
HOOK_SECONDS = 8
WAKING = {"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600, "autoResumeEnabled": True}
# `stateReason` of an end that was asked for.
ASKED = "Success."


def images(app):
    """The two images, built: `hooked` has its hooks called, `plain` none but `/ready`."""
    s3.create_bucket(Bucket="app")
    files = {path.name: path.read_text() for path in pathlib.Path(app).iterdir() if path.is_file()}
    s3.put_object(Bucket="app", Key="app.zip", Body=artifact(files))
    ready = {"port": 9000, "microvmImageHooks": {"ready": "ENABLED"}}
    names = ("run", "suspend", "resume", "terminate")
    hooks = {}
    for name in names:
        hooks.update({name: "ENABLED", f"{name}TimeoutInSeconds": HOOK_SECONDS})
    for name, hooks in ("hooked", {**ready, "microvmHooks": hooks}), ("plain", ready):
        memory = [{"minimumMemoryInMiB": 512}]
        create(name, "s3://app/app.zip", hooks=hooks, additionalOsCapabilities=["ALL"], resources=memory)
    for name in "hooked", "plain":
        found = until(lambda: image_state(arn(name)), ["CREATED", "CREATE_FAILED"], 600)
        builds = mv.list_microvm_image_builds(imageIdentifier=arn(name), imageVersion="1.0")["items"]
        assert found == "CREATED", f"{name}: {builds}"


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:microvm-image:{name}"


def eventually(look, *wanted):
    return until(look, wanted, 90)


class Vm:
    """A microVM."""

    def __init__(self, name="hooked", wait=True, payload=None, **more):
        more.setdefault("idlePolicy", WAKING)
        if payload:
            more["runHookPayload"] = json.dumps(payload)
        self.record = mv.run_microvm(imageIdentifier=arn(name), **more)
        self.id = self.record["microvmId"]
        # One that may end at once cannot have a token for certain, and needs none.
        self.token = token(self.id, minutes=60) if wait else None
        if wait:
            self.become("RUNNING")

    def get(self):
        return mv.get_microvm(microvmIdentifier=self.id)

    def state(self):
        return self.get()["state"]

    def reason(self):
        return self.get().get("stateReason") or ""

    def become(self, wanted, seconds=90):
        """Waits for a state; its reason."""
        end = time.monotonic() + seconds
        while (found := self.get())["state"] != wanted:
            at = f"{found['state']} ({found.get('stateReason')}) instead of {wanted}"
            assert time.monotonic() < end, f"after {seconds} s {at}"
            assert found["state"] != "TERMINATED", at
            time.sleep(0.05)
        return found.get("stateReason") or ""

    def explain(self, words, seconds=90):
        """Waits for a reason with these words."""
        end = time.monotonic() + seconds
        while words not in (said := self.reason()):
            assert time.monotonic() < end, f"{said!r} after {seconds} s, wanted {words!r}"
            time.sleep(0.05)
        return said

    def suspend(self):
        mv.suspend_microvm(microvmIdentifier=self.id)

    def resume(self):
        mv.resume_microvm(microvmIdentifier=self.id)

    def terminate(self):
        mv.terminate_microvm(microvmIdentifier=self.id)
        assert self.become("TERMINATED") == ASKED
        assert not self.directory().exists(), "its directory is left"

    def lost(self, seconds=90):
        """It ends by itself, and says why."""
        said = self.become("TERMINATED", seconds)
        assert said and said != ASKED, f"ended with {said!r}"
        assert self.pid() is None, "its process is left"
        assert not self.directory().exists(), "its directory is left"
        status, body = self.ask(timeout=30) if self.token else (502, "")
        assert status == 502, f"the endpoint of what has ended: {status} {body}"
        return said

    def ask(self, path="/", timeout=90):
        """Status and answer of a request."""
        status, _, body = get(self.record, {"X-aws-proxy-auth": self.token}, path, timeout=timeout)
        return status, json.loads(body) if status == 200 else body

    def ok(self, path="/", timeout=90):
        status, answer = self.ask(path, timeout)
        assert status == 200, f"{path}: {status} {answer} while {self.state()}: {self.reason()}"
        return answer

    def background(self, path, timeout=90):
        """A request whose answer is looked at later."""
        return Background(lambda: self.ask(path, timeout))

    def directory(self):
        return DATA / "microvms" / self.id

    def saved(self):
        """The directory of its checkpoint."""
        (found,) = self.directory().glob("saved-*")
        return found

    def pid(self):
        """Of its machine; none while it sleeps."""
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"\0-name\0{self.id}\0" in (entry / "cmdline").read_bytes().decode(errors="replace"):
                        return int(entry.name)
                except OSError:
                    pass  # it has just ended
        return None

    def kill(self, number):
        pid = self.pid()
        assert pid, "there is no process"
        os.kill(pid, number)


class Background(threading.Thread):
    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.outcome, self.start_at = work, None, time.monotonic()
        self.start()

    def run(self):
        try:
            self.outcome = self.work()
        except Exception as error:
            self.outcome = error
        self.took = time.monotonic() - self.start_at

    def result(self, seconds=90):
        self.join(seconds)
        assert not self.is_alive(), f"still waiting after {seconds} s"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def play(cases, at_once=8):
    """All cases, several at a time; one line each. Fails with all that failed."""

    def one(case):
        start = time.monotonic()
        try:
            said = case()
            return None, f"ok   {case.__name__}  {time.monotonic() - start:.1f} s  {said or ''}"
        except Exception as error:
            line = next((f"{f.name}:{f.lineno}" for f in reversed(frames(error)) if f.name == case.__name__), "")
            return True, f"FAIL {case.__name__} {line}  {time.monotonic() - start:.1f} s  {type(error).__name__} {error}"

    with ThreadPoolExecutor(at_once) as pool:
        told = list(pool.map(one, cases))
    print("\n".join(line for _, line in told))
    failed = [line for wrong, line in told if wrong]
    assert not failed, "\n".join(failed)


def frames(error):
    import traceback

    return traceback.extract_tb(error.__traceback__)
