"""Appendix B of the specification, line by line: `run.py [api]`.

Each line is a function named by it; a JSON line is printed for each as it ends: line, name, verdict (`ok`, `not yet`,
`FAIL`), detail, seconds. `api` leaves out those that need a guest of a real engine. Settings come from the environment.
"""

import json
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True  # this directory is the repository's

import api_lines
import guest_lines
from world import NotYet, World

#: How many lines are looked at together: most of their time is waiting.
AT_ONCE = 4
lock = threading.Lock()


def checks(module):
    return [check for name, check in vars(module).items() if name[0] == "b" and name[1:3].isdigit()]


def judge(check, world):
    start = time.monotonic()
    try:
        verdict, detail = "ok", check(world) or ""
    except NotYet as why:
        verdict, detail = "not yet", str(why)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        verdict, detail = "FAIL", f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
    number, name = check.__name__[1:].split("_", 1)
    told = {"line": int(number), "name": name.replace("_", " "), "verdict": verdict, "detail": detail}
    with lock:
        print(json.dumps({**told, "seconds": round(time.monotonic() - start, 1)}), flush=True)


def main():
    guests = sys.argv[1:] != ["api"]
    world = World(guests)
    lines = checks(api_lines) + (checks(guest_lines) if guests else [])
    # The two that wait for more than a minute begin first, beside all others.
    long = [check for check in lines if check.__name__[:3] in ("b21", "b30")]
    with ThreadPoolExecutor(len(long) or 1) as slow, ThreadPoolExecutor(AT_ONCE) as pool:
        for check in long:
            slow.submit(judge, check, world)
        for check in lines:
            if check not in long:
                pool.submit(judge, check, world)


main()
