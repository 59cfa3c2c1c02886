"""Lines 17 to 30, which need an application in a real guest."""

import json
import time

from world import HOOKS, Answer, NotYet, ask, until, websocket


def b17_refusals_of_tokens_and_dead_ports(w):
    vm, other = w.run(), w.run()
    token = w.token(vm, 8080, 1234)
    for headers, status, text in [
        ({}, 403, "Request missing authentication"),
        ({"X-aws-proxy-auth": token[::-1]}, 403, "Request missing authentication"),
        ({"X-aws-proxy-auth": w.token(other)}, 403, "Token authentication failed"),
        ({"X-aws-proxy-auth": token, "X-aws-proxy-port": "9000"}, 403, "Access to port denied"),
        ({"X-aws-proxy-auth": token, "X-aws-proxy-port": "1234"}, 502, ""),
    ]:
        answer = Answer(vm, headers)
        said = answer.text().strip()
        assert (answer.status, said) == (status, text), (headers.keys(), answer.status, said)
    assert answer.headers["x-aws-proxy-error"] == "APP_CONNECT_FAILED", answer.headers
    w.terminate(vm)
    w.terminate(other)


def b18_default_port_and_header_before_subprotocol(w):
    vm = w.run()
    token = w.token(vm, 8080, 8081)
    assert ask(vm, token).json()["port"] == 8080
    assert ask(vm, token, X_aws_proxy_port=8081).json()["port"] == 8081
    marks = ["lambda-microvms", f"lambda-microvms.authentication.{token}"]
    for protocols, headers, port in [
        (marks, {}, 8080),
        ([*marks, "lambda-microvms.port.8081"], {}, 8081),
        ([*marks, "lambda-microvms.port.8081"], {"X_aws_proxy_port": 8080}, 8080),
    ]:
        answer = websocket(vm, protocols, **headers)
        assert answer.status == 101, (protocols[2:], headers, answer.status)
        assert answer.frame()["port"] == port, (protocols[2:], headers)
        answer.close()
    w.terminate(vm)


def b19_platform_headers_never_reach_the_application(w):
    vm = w.run()
    token = w.token(vm)
    got = ask(vm, token, X_aws_proxy_port=8080, X_aws_proxy_unheard_of=1, Traceparent="00-1-2-03").json()["headers"]
    names = {name.lower(): value for name, value in got}
    assert names["host"] == vm["endpoint"], names
    assert names["traceparent"] == "00-1-2-03" and "x-amzn-requestid" in names, names
    strange = [name for name in names if name.startswith(("x-aws-proxy-", "x-forwarded-", "forwarded", "via"))]
    assert not strange, strange
    answer = websocket(vm, ["lambda-microvms", f"lambda-microvms.authentication.{token}", "lambda-microvms.port.8080"])
    assert answer.status == 101 and answer.frame()["protocols"] is None
    answer.close()
    w.terminate(vm)


def b20_websocket_needs_the_marker_and_negotiates_others(w):
    vm = w.run()
    authentication = f"lambda-microvms.authentication.{w.token(vm)}"
    answer = websocket(vm, [authentication])
    assert answer.status == 403, answer.status
    answer.close()
    for extra, chosen in ([], "lambda-microvms"), (["chat"], "chat"):
        answer = websocket(vm, ["lambda-microvms", authentication, *extra])
        assert (answer.status, answer.headers.get("sec-websocket-protocol")) == (101, chosen), answer.headers
        assert answer.frame()["protocols"] == (", ".join(extra) or None)
        answer.close()
    w.terminate(vm)


def b21_idle_60_s_suspends_without_traffic_only(w):
    """The application of both works on by itself, a control plane asks for their states all the time."""
    idle = {"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 600, "autoResumeEnabled": False}
    quiet, busy = w.run(idlePolicy=idle), w.run(idlePolicy=idle)
    token, kept = w.token(quiet), w.token(busy)
    ask(quiet, token, "/begin").json()
    start = time.monotonic()
    asked = 0.0
    while w.state(quiet) == "RUNNING":
        idle_for = time.monotonic() - start
        assert idle_for < 100, "still RUNNING"
        if time.monotonic() - asked > 20:
            ask(busy, kept).json()
            asked = time.monotonic()
        time.sleep(0.25)
    took = time.monotonic() - start
    assert 59 <= took <= 72, f"suspended after {took:.1f} s"
    until(lambda: w.state(quiet), "SUSPENDED")
    assert w.state(busy) == "RUNNING"
    w.terminate(quiet)
    w.terminate(busy)
    return f"after {took:.1f} s"


def b22_auto_resume_holds_the_first_request(w):
    idle = {"maxIdleDurationSeconds": 300, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
    waking, sleeping = w.run(idlePolicy=idle), w.run(idlePolicy={**idle, "autoResumeEnabled": False})
    for vm in (waking, sleeping):
        w.suspend(vm)
    ask(waking, w.token(waking)).json()
    assert w.state(waking) == "RUNNING"
    answer = ask(sleeping, w.token(sleeping))
    assert (answer.status, answer.text()) == (502, ""), answer.status
    assert w.state(sleeping) == "SUSPENDED"
    w.terminate(waking)
    w.terminate(sleeping)


def b23_what_survives_a_suspend(w):
    vm = w.run(w.capable)
    token = w.token(vm)
    ask(vm, token, "/begin").json()
    before = ask(vm, token, "/self").json()
    w.suspend(vm)
    time.sleep(5)
    w.mv.resume_microvm(microvmIdentifier=vm["microvmId"])
    until(lambda: w.state(vm), "RUNNING")
    after, kept = ask(vm, token, "/self").json(), ask(vm, token, "/survived").json()
    w.terminate(vm)
    assert kept == {"process": True, "file": True, "loopback": True, "outbound": False}, kept
    assert after["started"] == before["started"], "it is another process"
    assert abs(time.time() - after["wall"]) < 60, "the wall clock is not set"
    wall, monotonic = (after[clock] - before[clock] for clock in ("wall", "monotonic"))
    assert wall > 5, f"the wall clock advanced by {wall:.1f} s over 5 s asleep"
    assert abs(monotonic - wall) < 1, f"the monotonic clock advanced by {monotonic:.1f} of {wall:.1f} s"


def b24_run_hook_not_200_terminates_with_its_status(w):
    vm = w.mv.run_microvm(imageIdentifier=w.app, runHookPayload=json.dumps({"run": 418}))
    ended(w, vm)
    words = "Run lifecycle hook returned HTTP status 418. Please check your hook endpoint and application logs"
    assert w.get(vm)["stateReason"].startswith(words), w.get(vm)


def ended(w, vm):
    end = time.monotonic() + 120
    while w.state(vm) != "TERMINATED":
        assert time.monotonic() < end, w.get(vm)
        time.sleep(0.1)


def b25_main_process_exit_terminates_with_its_code(w):
    vm = w.run()
    ask(vm, w.token(vm), "/exit").json()
    ended(w, vm)
    assert w.get(vm)["stateReason"] == "Container Stopped with Exit Code: 7", w.get(vm)


def b26_lifetime_counts_suspended_time(w):
    vm = w.mv.run_microvm(imageIdentifier=w.app, maximumDurationInSeconds=20)
    until(lambda: w.state(vm), "RUNNING")
    w.suspend(vm)
    ended(w, vm)
    got = w.get(vm)
    lived = (got["terminatedAt"] - got["startedAt"]).total_seconds()
    assert got["stateReason"] == "MicroVM exceeded maximum lifetime.", got
    assert 20 <= lived < 30, lived
    return f"{lived:.1f} s of 20"


def b27_ready_503_is_retried_500_and_404_fail_at_once(w):
    def build(ready):
        return w.create(f"ready-{ready[:3]}", hooks=HOOKS, environmentVariables={"READY": ready})["imageArn"]

    retried, server, client = (build(ready) for ready in ("503,503,200", "500", "404"))
    w.built(retried)
    for arn, words in (server, "server error (HTTP 5xx)"), (client, "client error (HTTP 4xx)"):
        end = time.monotonic() + 120
        while w.image_state(arn) == "CREATING":
            assert time.monotonic() < end, arn
            time.sleep(0.1)
        assert w.image_state(arn) == "CREATE_FAILED", w.image_state(arn)
        said = w.reason(arn)
        assert said == f"Ready hook check failed: the application returned a {words} response", said


def b28_clones_share_user_space_randomness_only(w):
    vms = [w.run(), w.run()]
    first, second = (ask(vm, w.token(vm), "/self").json() for vm in vms)
    for vm in vms:
        w.terminate(vm)
    assert first["random"] == second["random"], "the generator that was seeded before the snapshot differs"
    assert first["urandom"] != second["urandom"], "the kernel's randomness is the same"


def b29_metadata_service_names_the_role(w):
    vm = w.run(executionRoleArn="arn:aws:iam::000000000000:role/run")
    found = ask(vm, w.token(vm), "/role").json()
    w.terminate(vm)
    if "unreachable" in found:
        raise NotYet(f"no metadata service in the guest ({found['unreachable']}), issue 6")
    assert found == {"status": 200, "text": "execution_role"}, found


def b30_stream_outlives_its_token(w):
    vm = w.run()
    token = w.token(vm, minutes=1)
    stream = ask(vm, token, "/stream")
    assert stream.status == 200, stream.status
    end = time.monotonic() + 66
    while time.monotonic() < end:
        stream.file.readline()
        line = stream.file.readline().strip()
        stream.file.readline()
    assert abs(time.time() - float(line)) < 30, line
    refusal = ask(vm, token)
    assert refusal.status == 403, "the token still opens the endpoint"
    refusal.close()
    stream.close()
    w.terminate(vm)
