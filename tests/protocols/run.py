"""Protocols at the endpoint of a running server, case by case: `run.py [--engine E] [--only WORD]... [--self-check]`.

Prints a JSON line for each case as it ends: suite, name, verdict (`ok`, `known`, `skipped`, `FAIL`),
detail, seconds. A self-check runs the cases against servers that are wrong on purpose: there a case is `ok` when it finds that out. Settings come from the
environment: what `hearth env` exports, and HEARTH_SERVER_PID.
"""

import argparse
import importlib
import json
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True  # this directory is the repository's

import wrong
from known import KNOWN
from world import Skipped, World

SUITES = ("h2", "smuggling", "h1", "clients", "grpc", "sse", "websocket", "browser", "scale")
#: How many cases are looked at together: most of their time is waiting.
AT_ONCE = 4
lock = threading.Lock()


def look(case, run):
    """Verdict and detail."""
    try:
        return "ok", run(case) or ""
    except Skipped as why:
        return "skipped", str(why)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        where = " ".join(f"{frame.name}:{frame.lineno}" for frame in frames[-3:])
        return "FAIL", f"{type(error).__name__}: {error} ({where})"


def judge(case, run, turned):
    start = time.monotonic()
    verdict, detail = look(case, run)
    known = KNOWN.get(f"{case.suite} {case.name}")
    if known and not turned:
        # What is known and no longer so is a failure as well: the entry must go.
        verdict, detail = ("known", f"{known}: {detail}") if verdict == "FAIL" else ("FAIL", "it holds now: take it out of known.py")
    if turned:
        verdict = {"ok": "FAIL", "FAIL": "ok"}.get(verdict, verdict)
        detail = "it was content with a server that is wrong" if verdict == "FAIL" else ""
    told = {"suite": case.suite, "name": case.name, "verdict": verdict, "detail": detail[:600]}
    with lock:
        print(json.dumps({**told, "seconds": round(time.monotonic() - start, 1)}), flush=True)


def chosen(options):
    cases = [case for suite in SUITES for case in importlib.import_module(f"suite_{suite}").CASES]
    wanted = lambda case: not options.only or any(word.lower() in f"{case.suite} {case.name}".lower() for word in options.only)
    return [case for case in cases if wanted(case)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=["fake", "qemu"], default="fake")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--self-check", action="store_true")
    options = parser.parse_args()
    cases = chosen(options)
    world = World(options.engine, options)
    if options.self_check:
        cases = [case for case in cases if case.against]
        run = lambda case: case.check(world, wrong.place(case.against, world))
    else:
        run = lambda case: case.check(world, world.hearth)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case in cases:
            if not case.alone:
                pool.submit(judge, case, run, options.self_check)
    for case in cases:
        if case.alone:
            judge(case, run, options.self_check)
    world.leave()


main()
