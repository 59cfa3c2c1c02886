"""Hooks that never answer."""


def late(title):
    return f"{title} lifecycle hook timed out after PT{HOOK_SECONDS}S. Please check your hook endpoint and application logs"


def run_hangs():
    vm = Vm(wait=False, payload={"run": ["hang"]})
    said = vm.lost()
    assert said.startswith(late("Run")), said


def suspend_hangs():
    vm = Vm(payload={"suspend": ["hang", 200]})
    vm.ok()
    vm.suspend()
    vm.explain(late("Suspend"))
    assert vm.state() == "RUNNING"
    assert vm.ok()["count"] == 2
    vm.suspend()
    vm.become("SUSPENDED")
    assert not vm.reason(), vm.reason()
    assert vm.ok()["count"] == 3
    vm.terminate()


def resume_hangs():
    vm = Vm(payload={"resume": ["hang", "hang", 200]})
    vm.ok()
    vm.suspend()
    vm.become("SUSPENDED")
    status, _ = vm.ask()
    assert status == 502, status
    assert vm.explain(late("Resume")) and vm.state() == "SUSPENDED" and vm.pid() is None
    vm.resume()
    # The second failure says the same; it is over when its process is.
    eventually(lambda: vm.pid() is None, False)
    eventually(lambda: vm.pid() is None, True)
    vm.explain(late("Resume"))
    eventually(lambda: vm.ask()[0], 200)
    assert vm.ok()["count"] == 3 and vm.state() == "RUNNING"
    assert not vm.reason(), vm.reason()
    vm.terminate()


def terminate_hangs():
    vm = Vm(payload={"terminate": ["hang"]})
    vm.ok()
    start = time.monotonic()
    vm.terminate()
    took = time.monotonic() - start
    assert HOOK_SECONDS <= took < 60, took
    return f"after {took:.1f} s"


def terminate_does_not_wait_for_other_hooks():
    vms = [Vm(wait=False, payload={"run": ["hang"]}), Vm(payload={"suspend": ["hang"]}), Vm(payload={"resume": ["hang"]})]
    vms[2].suspend()
    vms[2].become("SUSPENDED")
    vms[1].suspend()
    vms[2].resume()
    for vm in vms:
        vm.terminate()


play([run_hangs, suspend_hangs, resume_hangs, terminate_hangs, terminate_does_not_wait_for_other_hooks])
