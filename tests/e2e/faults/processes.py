"""Machines that are killed, and machines that stand still."""


def killed_while_running():
    vm = Vm("plain")
    vm.ok()
    vm.kill(signal.SIGKILL)
    return vm.lost()


def killed_under_a_request():
    vm = Vm("plain")
    held = vm.background("/hold/300", timeout=300)
    eventually(lambda: held.is_alive() and vm.ok()["count"] > 1, True)
    vm.kill(signal.SIGKILL)
    status, _ = held.result(20)
    assert status == 502, status
    return vm.lost()


def killed_while_its_suspend_hook_runs():
    vm = Vm(payload={"suspend": ["hang"]})
    vm.suspend()
    eventually(vm.state, "SUSPENDING")
    vm.kill(signal.SIGKILL)
    return vm.lost()


def killed_while_its_checkpoint_is_written():
    """Wherever the blow falls: it is lost with a reason, or asleep and whole."""
    vm = Vm("plain")
    vm.ok("/dirty/64")
    vm.suspend()
    end = time.monotonic() + 60
    while not any("saved-" in path.name for path in vm.directory().iterdir()):
        assert time.monotonic() < end, "no checkpoint begins"
    if pid := vm.pid():
        os.kill(pid, signal.SIGKILL)
    if eventually(vm.state, "SUSPENDED", "TERMINATED") == "SUSPENDED":
        assert vm.ok()["count"] == 2
        vm.terminate()
        return "whole"
    return vm.lost()


def killed_while_it_is_restored():
    """As long as it has not run nothing is lost; from then on its checkpoint is worth nothing."""
    vm = Vm("plain")
    vm.ok("/dirty/64")
    vm.suspend()
    vm.become("SUSPENDED")
    waking = vm.background("/")
    end = time.monotonic() + 60
    while (pid := vm.pid()) is None:
        assert time.monotonic() < end, "no machine is started"
    os.kill(pid, signal.SIGKILL)
    status, _ = waking.result()
    if status == 200:
        return f"too late to be restored: {vm.lost()}"
    assert status == 502, status
    if eventually(vm.state, "SUSPENDED", "TERMINATED") == "TERMINATED":
        return vm.lost()
    said = vm.explain("The MicroVM could not be resumed")
    assert vm.ok()["count"] == 2
    vm.terminate()
    return said


def killed_while_its_resume_hook_runs():
    vm = Vm(payload={"resume": ["hang"]})
    vm.suspend()
    vm.become("SUSPENDED")
    waking = vm.background("/")
    eventually(lambda: "hook resume" in output(vm), True)
    vm.kill(signal.SIGKILL)
    status, _ = waking.result()
    assert status == 502, status
    return vm.lost()


def output(vm):
    """What the application printed."""
    logs = boto3.client("logs")
    group = "/aws/lambda-microvms/hooked"
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    names = [stream["logStreamName"] for stream in streams if vm.id in stream["logStreamName"]]
    lines = [logs.get_log_events(logGroupName=group, logStreamName=name)["events"] for name in names]
    return "\n".join(event["message"] for events in lines for event in events)


def killed_while_its_terminate_hook_runs():
    vm = Vm(payload={"terminate": ["hang"]})
    mv.terminate_microvm(microvmIdentifier=vm.id)
    start = time.monotonic()
    vm.kill(signal.SIGKILL)
    assert vm.become("TERMINATED") == ASKED
    return f"after {time.monotonic() - start:.1f} s"


def stopped_under_requests():
    """New requests are refused in bounded time; what was in flight is answered when it goes on."""
    vm = Vm("plain")
    held = vm.background("/hold/1")
    eventually(lambda: vm.ok()["count"] > 1, True)
    vm.kill(signal.SIGSTOP)
    start = time.monotonic()
    status, _ = vm.ask()
    took = time.monotonic() - start
    assert status == 502 and 15 < took < 60, f"{status} after {took:.1f} s"
    vm.kill(signal.SIGCONT)
    assert held.result()[0] == 200
    vm.ok()
    assert vm.state() == "RUNNING"
    vm.terminate()


def stopped_before_a_suspend_with_a_hook():
    vm = Vm()
    vm.ok()
    vm.kill(signal.SIGSTOP)
    vm.suspend()
    said = vm.explain(f"Suspend lifecycle hook timed out after PT{HOOK_SECONDS}S")
    assert vm.state() == "RUNNING"
    vm.kill(signal.SIGCONT)
    assert vm.ok()["count"] == 2
    vm.suspend()
    vm.become("SUSPENDED")
    assert vm.ok()["count"] == 3
    vm.terminate()
    return said


def stopped_before_a_suspend_without_a_hook():
    """Nobody answers, not even the monitor: it is given up once every bound has passed."""
    vm = Vm("plain")
    vm.kill(signal.SIGSTOP)
    vm.suspend()
    return vm.lost(170)


def stopped_and_going_on_during_a_suspend():
    vm = Vm("plain")
    vm.ok()
    vm.kill(signal.SIGSTOP)
    vm.suspend()
    eventually(vm.state, "SUSPENDING")
    time.sleep(3)  # the time that it stands still
    vm.kill(signal.SIGCONT)
    vm.become("SUSPENDED")
    assert vm.ok()["count"] == 2
    vm.terminate()


def stopped_before_the_end():
    vm = Vm()
    vm.kill(signal.SIGSTOP)
    start = time.monotonic()
    vm.terminate()
    return f"after {time.monotonic() - start:.1f} s"


play(
    [
        stopped_before_a_suspend_without_a_hook,
        stopped_under_requests,
        stopped_before_a_suspend_with_a_hook,
        stopped_and_going_on_during_a_suspend,
        stopped_before_the_end,
        killed_while_running,
        killed_under_a_request,
        killed_while_its_suspend_hook_runs,
        killed_while_its_checkpoint_is_written,
        killed_while_it_is_restored,
        killed_while_its_resume_hook_runs,
        killed_while_its_terminate_hook_runs,
    ]
)
